//! A nightly run on a page: the outcome, the sources, the master, the archive, the steps.
//!
//! Invariants: errors stand first, each with its next step.

use chrono::{DateTime, Utc};
use humansize::{BINARY, format_size};
use maud::{Markup, html};

use super::parts::{open_ends, table, verdict};
use crate::nightly::{How, RunMaster, RunOutcome, RunReport};

/// The title and the section.
pub fn section(report: &RunReport) -> (String, Markup) {
    let name = format!("{} {}", report.plan, report.id);
    let (class, words) = match report.run_outcome {
        RunOutcome::Done => ("proven", "DONE"),
        RunOutcome::Differs => ("nothing", "DONE, BUT SOMETHING DIFFERS"),
        RunOutcome::Failed if report.cancelled => ("differs", "CANCELLED"),
        RunOutcome::Failed => ("differs", "FAILED"),
    };
    let sources = report.sources.iter().map(|source| {
        let how = match source.how {
            How::Captured => "captured",
            How::Unchanged => "unchanged",
            How::Last => "last used",
            How::Broken => "broken",
        };
        [
            source.name.clone(),
            how.to_owned(),
            or_dash(source.points),
            format_size(source.bytes, BINARY),
            format_size(source.new_bytes, BINARY),
            or_dash(source.entry.clone()),
            or_dash(source.note.clone()),
        ]
    });
    let steps = report.steps.iter().map(|step| {
        let by = match step.earlier {
            true => "an earlier run",
            false => "this run",
        };
        [step.step.clone(), format!("{:.2}", step.seconds), by.into()]
    });
    let archive = &report.archive;
    let archived = [
        archive.place.clone(),
        archive.entries.to_string(),
        format_size(archive.new_bytes, BINARY),
        archive.forgotten.to_string(),
        format_size(archive.removed_bytes, BINARY),
    ];
    let head = ["name", "how", "points", "snapshot", "new", "entry", "note"];
    let page = html! {
        (verdict(&name, class, words))
        @for err in &report.errors {
            p {
                strong { (err.step) } ": " (err.doing) ": " (err.why)
                @if let Some(next) = &err.next { br; "Next: " (next) }
            }
        }
        @for what in &report.differs { p { "Differs: " (what) } }
        p {
            "Started " (time(report.begun)) ", ended " (time(report.ended))
            @if report.resumed { "; an interrupted run was resumed" }
            "."
        }
        h2 { "Sources of the run" }
        (table("Sources of the run", &head, sources))
        @if let Some(master) = &report.master { (show_master(master)) }
        h2 { "Archive" }
        (table("Archive", &["place", "entries", "new", "forgotten", "removed"], [archived]))
        h2 { "Steps" }
        (table("Steps", &["step", "seconds", "done by"], steps))
        (open_ends(&[("Notes", &report.notes)]))
    };
    (format!("{name}: {words}"), page)
}

fn show_master(master: &RunMaster) -> Markup {
    let unchanged = match master.unchanged {
        true => "yes: nothing that it is made of has changed",
        false => "no",
    };
    let facts = [
        ("name", Some(master.name.clone())),
        ("the last run's", Some(unchanged.to_owned())),
        ("entry", master.entry.clone()),
        ("route", Some(master.route.clone())),
        ("points", Some(master.points.to_string())),
        (
            "bytes",
            master.bytes.map(|bytes| format_size(bytes, BINARY)),
        ),
        ("SHA-256", master.sha256.clone()),
        ("proven", Some(time(master.proven))),
        ("collection", master.collection.clone()),
        ("alias", master.alias.clone()),
        ("alias before", master.before.clone()),
    ];
    let rows = facts
        .into_iter()
        .filter_map(|(name, value)| Some([name.to_owned(), value?]));
    html! {
        h2 { "Master" }
        (table("Master", &["what", "value"], rows))
    }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

fn time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}
