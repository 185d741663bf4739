//! A report as one HTML page, made of the JSON that the commands print.
//!
//! Keeps true: the page refers to nothing outside itself and runs no script; the verdict stands
//! first; every number of a chart stands in a table too; text of a report is text on the page,
//! whatever it contains.

mod charts;
mod night;
mod parts;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use self::parts::{answers, compared, differences, settings, shards, sources, structure};
use crate::base::error::{Error, Result};

/// The reports that can be shown.
const FORMATS: [&str; 4] = [
    "snapmerge-run/1",
    "snapmerge-verify/1",
    "snapmerge-merge/1",
    "snapmerge-diff/1",
];

/// The page that shows `reports`, in their order; `files` are their names, for errors.
pub fn page(reports: &[Value], files: &[String]) -> Result<String> {
    let mut sections = Vec::new();
    let mut title = None;
    for (at, report) in reports.iter().enumerate() {
        let file = files.get(at).map_or("", String::as_str);
        let format = report["format"].as_str().unwrap_or("nothing");
        if !FORMATS.contains(&format) {
            return Err(Error::usage(
                format!("reading {file}"),
                format!("its format is {format}, not one of {}", FORMATS.join(", ")),
            )
            .next("give what snapmerge verify, merge or diff printed with --json"));
        }
        let (head, section) = match format {
            "snapmerge-verify/1" => verify(report)?,
            "snapmerge-merge/1" => merge(report)?,
            "snapmerge-run/1" => night::night(report),
            _ => diff(report)?,
        };
        title.get_or_insert(head);
        sections.push(section);
    }
    let title = title.ok_or_else(|| Error::usage("making a report", "there is nothing to show"))?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                main { @for section in &sections { (section) } }
                footer {
                    "Made by snapmerge " (env!("CARGO_PKG_VERSION"))
                    " of the JSON reports of its commands. This page refers to nothing outside itself."
                }
            }
        }
    };
    Ok(page.into_string())
}

fn verdict(file: &str, class: &str, words: &str) -> Markup {
    html! {
        h1 { (file) }
        p class={ "verdict " (class) } id="verdict" { (words) }
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// What is open, for whoever reads a verdict.
const OPEN_ENDS: [(&str, &str); 3] = [
    ("missing", "Missing"),
    ("changed", "Written to meanwhile"),
    ("unknown", "Not looked at"),
];

fn open_ends(report: &Value) -> Markup {
    let ends = OPEN_ENDS.iter().filter_map(|(name, title)| {
        let lines: Vec<&str> = report[*name]
            .as_array()?
            .iter()
            .filter_map(Value::as_str)
            .collect();
        (!lines.is_empty()).then_some((title, lines))
    });
    html! {
        @for (title, lines) in ends {
            h2 { (title) }
            ul { @for line in lines { li { (line) } } }
        }
    }
}

fn verify(report: &Value) -> Result<(String, Markup)> {
    let file = text(report, "/master/file");
    let (class, words) = match text(report, "/verdict") {
        "proven" => ("proven", "PROVEN"),
        "differs" => ("differs", "DIFFERS"),
        _ => ("nothing", "NOT PROVEN: nothing was looked at"),
    };
    let section = html! {
        (verdict(file, class, words))
        (compared(report))
        (differences(report))
        (open_ends(report))
        (settings(report))
        (sources(report)?)
        (shards(report)?)
        (answers(report)?)
        (structure(report)?)
        (provenance(report))
    };
    Ok((format!("{file}: {words}"), section))
}

fn merge(report: &Value) -> Result<(String, Markup)> {
    let file = text(report, "/master/file");
    let (class, words) = match report.pointer("/proof/proven").and_then(Value::as_bool) {
        Some(true) => ("proven", "MERGED AND PROVEN"),
        _ => ("nothing", "MERGED, NOT PROVEN"),
    };
    let section = html! {
        (verdict(file, class, words))
        p { "Route " (text(report, "/route")) ", because " (text(report, "/because")) "." }
        p { "Compared: " (text(report, "/proof/compared")) "." }
        (sources(report)?)
        (parts::conflicts(report))
        (parts::findings(report))
        (parts::stages(report)?)
        (provenance(report))
    };
    Ok((format!("{file}: {words}"), section))
}

fn diff(report: &Value) -> Result<(String, Markup)> {
    let name = format!(
        "{} and {}",
        text(report, "/before/file"),
        text(report, "/after/file")
    );
    let changes: u64 = ["added", "removed", "changed"]
        .iter()
        .filter_map(|kind| report["points"][*kind].as_u64())
        .sum();
    let none = |name: &str| report[name].as_array().is_none_or(Vec::is_empty);
    let same = changes == 0 && none("settings") && none("missing") && none("changed");
    let (class, words) = match same {
        true => ("proven", "THE SAME"),
        false => ("differs", "DIFFERENT"),
    };
    let section = html! {
        (verdict(&name, class, words))
        (parts::changes(report)?)
        (differences(report))
        (open_ends(report))
        (settings(report))
    };
    Ok((format!("{name}: {words}"), section))
}

/// Where it all came from.
fn provenance(report: &Value) -> Markup {
    let mut rows: Vec<(&str, String)> = Vec::new();
    let mut row = |name, pointer: &str| {
        let value = text(report, pointer);
        if !value.is_empty() {
            rows.push((name, value.to_owned()));
        }
    };
    row("snapmerge", "/version");
    row("made with, by", "/made_with/told_by");
    row("conflicts won by", "/made_with/on_conflict");
    row("conflicts won by", "/provenance/on_conflict");
    row("SHA-256 of the master", "/master/sha256");
    row("digest of the points", "/master/digest");
    row("digest of the points", "/points/digest/points");
    row("digest in order", "/points/stream_digest");
    if let Some(seconds) = report["seconds"].as_f64() {
        rows.push(("seconds", format!("{seconds:.2}")));
    }
    html! {
        h2 { "Provenance" }
        div.scroll tabindex="0" role="region" aria-label="Provenance" {
            table { @for (name, value) in &rows { tr { th scope="row" { (name) } td { code { (value) } } } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Value {
        json!({
            "format": "snapmerge-verify/1",
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
                       "missing": 0, "extra": 0, "differing": 1, "misplaced": 0, "twice": 0, "ambiguous": 0},
            "shards": [{"shard": 0, "segments": [2, 1]}],
            "settings": [{"about": "hnsw_config.m", "expected": "16", "found": "8"}],
            "answers": {"top": 10, "skipped": [], "kinds": [{
                "vector": "", "queries": 5, "differing": 0, "first": [], "recall_mean": 0.98, "recall_min": 0.9,
                "exact": {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0},
                "indexed": {"p50_ms": 0.1, "p95_ms": 0.2, "p99_ms": 0.3}}],
                "structure": {"vector": "", "drop_max": 0.2, "drop": 0.01, "silhouette_by_source": 0.1,
                    "projection": [[0.0, 1.0, 0], [1.0, 0.0, null]],
                    "sources": [{"name": "a & b", "points": 3, "clusters": 2, "noise": 0.1, "norms": [1.0, 1.0, 1.0, 1.0, 1.0], "silhouette": 0.5}],
                    "master": {"name": "the master", "points": 3, "clusters": 2, "noise": 0.1, "norms": [1.0, 1.0, 1.0, 1.0, 1.0]}}},
            "seconds": 1.5,
        })
    }

    #[test]
    fn everything_is_on_the_page_as_text_and_nothing_from_outside() {
        let page = page(&[report()], &["verify.json".into()]).unwrap();
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
        for value in [json!({}), json!({"format": "snapmerge-plan/1"}), json!([])] {
            let err = page(&[value], &["x.json".into()]).unwrap_err();
            assert!(err.to_string().contains("x.json"), "{err}");
        }
        assert!(page(&[], &[]).is_err());
    }
}
