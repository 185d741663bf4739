//! Tests of pages: everything is on them, as text, and nothing from outside.

use serde_json::json;

use super::*;

fn report() -> Value {
    json!({
        "format": "snapmerge-verify/2", "command": "verify", "outcome": "differs",
        "version": "0.1.0",
        "verdict": "differs",
        "master": {"name": "m", "file": "<m>.snapshot", "file_bytes": 10, "checksum": {"state": "unverified"}},
        "sources": [{"name": "a & b", "file": "a.snapshot", "file_bytes": 5, "checksum": {"state": "unverified"}},
            {"name": "b", "file": "b.snapshot", "file_bytes": 5,
             "checksum": {"state": "verified", "sha256": "ab12", "hash": "blake3", "by": ["b.snapshot.manifest.json"]}}],
        "made_with": {"told_by": "flags", "on_conflict": "last", "by_source": false},
        "looked_at": 3, "differences": 1,
        "first": [{"id": 7, "difference": "differs", "source": "a & b", "vectors": [""]}],
        "points": {"how": "walk", "compared": 3, "compared_bytes": 9, "expected": 3, "expected_of": [3], "found": 3,
                   "missing": 0, "extra": 0, "differing": 1, "misplaced": 0, "twice": 0, "ambiguous": 0, "near": 0, "apart_max": 0.0,
                   "digest": crate::point::Digest::default(), "stream_digest": "00"},
        "shards": [{"shard": 0, "points": 3, "segments": [2, 1]}], "doubled": 0, "bytes": 9,
        "settings": [{"about": "hnsw_config.m", "expected": "16", "found": "8"}],
        "answers": {"top": 10, "skipped": [], "kinds": [{
            "vector": "", "queries": 5, "differing": 0, "first": [], "recall_mean": 0.98, "recall_min": 0.9,
            "exact": {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0},
            "indexed": {"p50_ms": 0.1, "p95_ms": 0.2, "p99_ms": 0.3}}],
            "structure": {"by": "HDBSCAN", "vector": "", "drop_max": 0.2, "drop": 0.01, "silhouette_by_source": 0.1,
                "projection": [[0.0, 1.0, 0], [1.0, 0.0, null]],
                "sources": [{"name": "a & b", "points": 3, "clusters": 2, "noise": 0.1, "norms": [1.0, 1.0, 1.0, 1.0, 1.0], "silhouette": 0.5}],
                "master": {"name": "the master", "points": 3, "clusters": 2, "noise": 0.1, "norms": [1.0, 1.0, 1.0, 1.0, 1.0]}}},
        "missing": [], "notes": [], "stages": [], "seconds": 1.5,
    })
}

#[test]
fn everything_is_on_the_page_as_text_and_nothing_from_outside() {
    let page = page(&[Section::read(report(), "verify.json").unwrap()]).unwrap();
    let first = page.find("DIFFERS").unwrap();
    for part in [
        "&lt;m&gt;.snapshot",
        "a &amp; b",
        "hnsw_config.m",
        "0.980",
        "Points per shard",
        "role=\"img\"",
        "point 7",
        "SHA-256 ab12, by BLAKE3",
    ] {
        assert!(page.contains(part), "the page lacks {part}");
    }
    assert!(
        first < page.find("<table").unwrap(),
        "the verdict is not first"
    );
    for outside in ["<script", "<link", " src=", "url(", "@import", "<m>"] {
        assert!(!page.contains(outside), "the page has {outside}");
    }
    // The name of the SVG language is no reference.
    let references =
        page.matches("http").count() - page.matches("http://www.w3.org/2000/svg").count();
    assert_eq!(references, 0);
}

#[test]
fn what_is_no_report_is_refused() {
    for value in [
        json!({}),
        json!({"format": "snapmerge-merge-plan/2"}),
        json!({"format": "snapmerge-merge/2"}),
        json!([]),
    ] {
        let err = Section::read(value, "x.json").unwrap_err();
        assert!(err.to_string().contains("x.json"), "{err}");
    }
    assert!(page(&[]).is_err());
}
