//! A night on a page: how it ended, what became of each source, the master, the archive, the steps.
//!
//! Keeps true: what went wrong stands first, with the next step.

use humansize::{BINARY, format_size};
use maud::{Markup, html};
use serde_json::Value;

use super::parts::{list, table};
use super::{text, verdict};

/// The title and the section of a night.
pub fn night(report: &Value) -> (String, Markup) {
    let name = format!("{} {}", text(report, "/plan"), text(report, "/night"));
    let (class, words) = match text(report, "/outcome") {
        "done" => ("proven", "DONE"),
        "differs" => ("nothing", "DONE, BUT SOMETHING DIFFERS"),
        _ if report["cancelled"] == true => ("differs", "CANCELLED"),
        _ => ("differs", "FAILED"),
    };
    let size = |value: &Value| {
        value
            .as_u64()
            .map_or("-".into(), |bytes| format_size(bytes, BINARY))
    };
    let shown = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let sources: Vec<Vec<String>> = list(report, "/sources")
        .iter()
        .map(|source| {
            vec![
                shown(&source["name"]),
                shown(&source["how"]),
                shown(&source["points"]),
                size(&source["bytes"]),
                size(&source["new_bytes"]),
                shown(&source["entry"]),
                shown(&source["note"]),
            ]
        })
        .collect();
    let steps: Vec<Vec<String>> = list(report, "/steps")
        .iter()
        .map(|step| {
            let seconds = step["seconds"].as_f64().unwrap_or(0.0);
            let earlier = step["earlier"] == Value::Bool(true);
            let by = if earlier {
                "an earlier run"
            } else {
                "this run"
            };
            vec![shown(&step["step"]), format!("{seconds:.2}"), by.to_owned()]
        })
        .collect();
    let mut master: Vec<Vec<String>> = Vec::new();
    for (label, key) in [
        ("name", "name"),
        ("made of the same as the last one", "unchanged"),
        ("entry", "entry"),
        ("route", "route"),
        ("points", "points"),
        ("SHA-256", "sha256"),
        ("proven", "proven"),
        ("collection", "collection"),
        ("alias", "alias"),
        ("alias before", "before"),
    ] {
        if let Some(value) = report.pointer(&format!("/master/{key}")) {
            master.push(vec![label.to_owned(), shown(value)]);
        }
    }
    let archive: Vec<Vec<String>> = vec![vec![
        shown(&report["archive"]["place"]),
        shown(&report["archive"]["entries"]),
        size(&report["archive"]["new_bytes"]),
        shown(&report["archive"]["forgotten"]),
        size(&report["archive"]["removed_bytes"]),
    ]];
    let page = html! {
        (verdict(&name, class, words))
        @for err in list(report, "/errors") {
            p {
                strong { (text(err, "/step")) } ": " (text(err, "/doing")) ": " (text(err, "/why"))
                @if let Some(next) = err["next"].as_str() { br; "Next: " (next) }
            }
        }
        @for what in list(report, "/differs") { p { "Differs: " (shown(what)) } }
        p {
            "Begun " (text(report, "/begun")) ", ended " (text(report, "/ended"))
            @if report["went_on"] == Value::Bool(true) { "; an earlier run had begun it" }
            "."
        }
        h2 { "Sources of the night" }
        (table("Sources of the night", &["name", "how", "points", "snapshot", "new", "entry", "note"], &sources))
        @if !master.is_empty() {
            h2 { "Master" }
            (table("Master", &["what", "value"], &master))
        }
        h2 { "Archive" }
        (table("Archive", &["place", "entries", "new", "given up", "removed"], &archive))
        h2 { "Steps" }
        (table("Steps", &["step", "seconds", "done by"], &steps))
        @if !list(report, "/notes").is_empty() {
            h2 { "Notes" }
            ul { @for note in list(report, "/notes") { li { (shown(note)) } } }
        }
    };
    (format!("{name}: {words}"), page)
}
