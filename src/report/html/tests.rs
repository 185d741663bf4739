//! Tests of pages: everything is on them, as text, and nothing from outside.

use serde_json::json;

use super::*;
use crate::nightly::{PastRun, RunMaster};

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

/// The page as it is read: where it may break, and where not, is not seen.
fn shown(sections: &[Section]) -> String {
    page(sections)
        .unwrap()
        .replace("<wbr>", "")
        .replace('\u{a0}', " ")
}

#[test]
fn everything_is_on_the_page_as_text_and_nothing_from_outside() {
    let page = shown(&[Section::read(report(), "verify.json").unwrap()]);
    let first = page.find("DIFFERS").unwrap();
    for part in [
        "&lt;m&gt;.snapshot",
        "a &amp; b",
        "hnsw_config.m",
        "0.980",
        "Points per shard",
        "role=\"img\"",
        "<span>7</span>",
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

/// The run of a day of November, with this many points in its master; none, and it failed.
fn night(day: u32, points: Option<u64>) -> RunReport {
    let started = format!("2026-11-{day:02}T03:00:00.123456789Z");
    let id = format!("202611{day:02}_030000");
    let mut report = RunReport::begin("night", "backups", &id, started.parse().unwrap(), false);
    report.seconds = 754.4;
    report.archive.new_bytes = 3 << 20;
    match points {
        None => report.failed(
            "capture prod/<album>",
            &Error::failed("making a snapshot", "<b>500</b>").next("look at its disk"),
        ),
        Some(points) => {
            report.master = Some(RunMaster {
                name: "master".into(),
                unchanged: false,
                entry: Some("master@2026-11-22T03:00:00Z".into()),
                route: "graft".into(),
                points,
                bytes: Some(5 << 30),
                sha256: Some("ab".repeat(32)),
                proven: report.started,
                collection: None,
                alias: None,
                before: None,
            });
        }
    }
    report
}

fn run_page(report: &RunReport, history: Option<RunHistory>) -> String {
    shown(&[Section::Run(Box::new(report.clone()), history)])
}

#[test]
fn the_first_screen_of_a_run_says_how_it_ended_with_counts_and_what_to_do() {
    let mut report = night(22, Some(1_234_567));
    report.archive.entries = 4;
    let text = run_page(&report, None);
    let card = text.split("</header>").next().unwrap();
    for part in [
        "DONE",
        "1,234,567",
        "5 GiB",
        "12 min 34 s",
        "No restore of what is in the archive has been proven yet",
        "snapmerge drill <span class=\"whole\">--archive</span> backups",
    ] {
        assert!(card.contains(part), "the card lacks {part}: {card}");
    }
    assert!(!text.contains("History"), "{text}");
    assert!(!text.contains("123456789"), "nanoseconds: {text}");
    // An old restore is proven again; a recent one leaves nothing to do.
    report.last_proven_restore = Some(report.ended - chrono::TimeDelta::days(9));
    assert!(run_page(&report, None).contains("is 9 days old"));
    report.last_proven_restore = Some(report.ended);
    assert!(run_page(&report, None).contains("Nothing: the run did all"));

    let text = run_page(&night(22, None), None);
    let card = text.split("</header>").next().unwrap();
    for part in [
        "FAILED",
        "capture prod/&lt;album&gt;",
        "&lt;b&gt;500&lt;/b&gt;",
        "look at its disk",
        "it resumes this one",
    ] {
        assert!(card.contains(part), "the card lacks {part}: {card}");
    }
    assert!(!text.contains("<album>") && !text.contains("<b>"), "{text}");
}

#[test]
fn a_run_has_the_history_of_those_before_it() {
    let last = night(24, Some(1_990));
    let first = run_page(&last, Some(RunHistory::default()));
    assert!(first.contains("There is no earlier run"), "{first}");
    assert!(!first.contains("class=\"spark\""), "{first}");

    let before = [
        night(21, Some(2_000)),
        night(22, None),
        night(23, Some(2_000)),
    ];
    let history = RunHistory {
        runs: before.iter().map(PastRun::from).collect(),
        skipped: Vec::new(),
    };
    let text = run_page(&last, Some(history));
    for part in [
        "History: the last 4 runs",
        "aria-label=\"Points of the master: 1,990, 10 less than before; lowest 1,990, highest 2,000\"",
        "aria-label=\"Size of the master: 5 GiB, as before; lowest 5 GiB, highest 5 GiB\"",
        "aria-label=\"Time of the run: 12 min 34 s, as before;",
        "3 of 4 runs done",
        "2026-11-22 03:00: FAILED",
        "2026-11-24 03:00: DONE",
    ] {
        assert!(text.contains(part), "the page lacks {part}: {text}");
    }
    assert_eq!(text.matches("class=\"spark\"").count(), 4, "{text}");
    // The run without a master is a gap in two lines: one before it, which is a dot, and one after.
    let points = text.split("Points of the master:").nth(1).unwrap();
    let points = points.split("</svg>").next().unwrap();
    assert_eq!(points.matches("<circle").count(), 2, "{points}");
    // Each run stands in the table too, the newest first.
    let table = text.split("<details>").nth(1).unwrap();
    let place = |what: &str| table.find(what).unwrap();
    assert!(place("2026-11-24") < place("2026-11-23"), "{table}");
    assert!(place("2026-11-22") < place("2026-11-21"), "{table}");
}

#[test]
fn a_step_of_a_run_is_not_told_as_if_its_file_were_there() {
    let sections = [
        Section::Run(Box::new(night(22, Some(7))), None),
        Section::read(report(), "verify.json").unwrap(),
    ];
    let text = shown(&sections);
    let step = text.split("Step: verify").nth(1).unwrap();
    assert!(step.contains("DIFFERS"), "{step}");
    assert!(!step.contains("What to do next"), "{step}");
    assert_eq!(text.matches("id=\"verdict\"").count(), 1, "{text}");
}
