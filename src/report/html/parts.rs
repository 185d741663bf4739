//! The parts that pages of several reports have.
//!
//! Invariants: a part for which a report has nothing is not there; a number is shown as it stands in
//! the report, or rounded.

use humansize::{BINARY, format_size};
use maud::{Markup, PreEscaped, html};
use serde::Serialize;
use serde_json::Value;

use super::charts::{Bar, bars};
use crate::base::error::Result;
use crate::base::operation::Envelope;
use crate::base::stage::StageReport;
use crate::verify::SettingDifference;

/// The name of what a section is about, and its verdict.
pub fn verdict(file: &str, class: &str, words: &str) -> Markup {
    html! {
        h1 { (file) }
        p class={ "verdict " (class) } id="verdict" { (words) }
    }
}

/// A table with a head; in a box that can be scrolled by keyboard.
pub fn table<const N: usize>(
    label: &str,
    head: &[&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Markup {
    let rows: Vec<[String; N]> = rows.into_iter().collect();
    let is_number = |cell: &str| cell.starts_with(|first: char| first.is_ascii_digit());
    let column = |at: usize| {
        let cell = rows.first().and_then(|row| row.get(at));
        cell.is_some_and(|cell| is_number(cell))
    };
    html! {
        @if !rows.is_empty() {
            div.scroll tabindex="0" role="region" aria-label=(label) {
                table {
                    thead {
                        tr {
                            @for (at, name) in head.iter().enumerate() {
                                th.n[column(at)] scope="col" { (name) }
                            }
                        }
                    }
                    tbody {
                        @for row in &rows {
                            tr { @for cell in row { td.n[is_number(cell)] { (cell) } } }
                        }
                    }
                }
            }
        }
    }
}

/// Lists of what is open, for whoever reads a verdict.
pub fn open_ends(lists: &[(&str, &Vec<String>)]) -> Markup {
    html! {
        @for (title, lines) in lists {
            @if !lines.is_empty() {
                h2 { (title) }
                ul { @for line in *lines { li { (line) } } }
            }
        }
    }
}

/// A difference or a change beside its id, in words.
pub fn details(one: &impl Serialize) -> [String; 2] {
    let value = serde_json::to_value(one).unwrap_or_default();
    let what = value["difference"].as_str().or(value["change"].as_str());
    let details: Vec<String> = value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !["id", "difference", "change"].contains(&key.as_str()))
        .map(|(key, value)| match value {
            Value::String(word) => format!("{key}: {word}"),
            other => format!("{key}: {other}"),
        })
        .collect();
    [what.unwrap_or("").to_owned(), details.join(", ")]
}

/// The first differences or changes, by id.
pub fn differences(
    first: impl ExactSizeIterator<Item = (String, [String; 2])>,
    ledger: Option<&str>,
) -> Markup {
    let count = first.len();
    let rows = first.map(|(id, [what, details])| [format!("point {id}"), what, details]);
    html! {
        @if count > 0 {
            h2 { "Points that differ" }
            p {
                "The first " (count)
                @if let Some(ledger) = ledger { "; all of them are in " code { (ledger) } }
                "."
            }
            (table("Points that differ", &["point", "what", "where"], rows))
        }
    }
}

/// Settings that differ.
pub fn settings(differences: &[SettingDifference]) -> Markup {
    let rows = differences
        .iter()
        .map(|one| [one.about.clone(), one.expected.clone(), one.found.clone()]);
    html! {
        @if !differences.is_empty() {
            h2 { "Settings that differ" }
            (table("Settings that differ", &["setting", "should be", "is"], rows))
        }
    }
}

/// A source and its share of the master.
pub struct SourceRow<'a> {
    pub name: &'a str,
    pub points: u64,
    pub file_bytes: u64,
    pub checksum: String,
}

/// The sources, and their share of the master.
pub fn sources<'a>(sources: impl Iterator<Item = SourceRow<'a>>) -> Result<Markup> {
    let (mut rows, mut chart) = (Vec::new(), Vec::new());
    for (at, source) in sources.enumerate() {
        chart.push(Bar::of_count(source.name, source.points, at));
        rows.push([
            source.name.to_owned(),
            source.points.to_string(),
            format_size(source.file_bytes, BINARY),
            source.checksum,
        ]);
    }
    let head = ["source", "points in the master", "file", "checksum"];
    Ok(html! {
        h2 { "Sources and their share" }
        (PreEscaped(bars("Points of each source in the master", &chart)?))
        (table("Sources", &head, rows))
    })
}

/// The time of each stage.
pub fn stages(stages: &[StageReport]) -> Result<Markup> {
    let words = |stage: &StageReport| format!("{:.2} s", stage.seconds);
    let chart: Vec<Bar> = stages
        .iter()
        .map(|stage| Bar {
            label: stage.stage.clone(),
            value: stage.seconds,
            words: words(stage),
            series: 0,
        })
        .collect();
    let rows = stages
        .iter()
        .map(|stage| [stage.stage.clone(), words(stage)]);
    Ok(html! {
        h2 { "Time" }
        (PreEscaped(bars("Time of each stage", &chart)?))
        (table("Time", &["stage", "took"], rows))
    })
}

/// Renders the provenance: version of snapmerge, `facts`, and time taken.
pub fn provenance(envelope: &Envelope, seconds: f64, facts: &[(&str, Option<&String>)]) -> Markup {
    let facts = facts
        .iter()
        .filter_map(|(name, value)| Some((*name, value.as_ref()?.as_str())));
    let seconds = format!("{seconds:.2}");
    let rows = std::iter::once(("snapmerge", envelope.version.as_str()))
        .chain(facts)
        .chain([("seconds", seconds.as_str())]);
    html! {
        h2 { "Provenance" }
        div.scroll tabindex="0" role="region" aria-label="Provenance" {
            table { @for (name, value) in rows { tr { th scope="row" { (name) } td { code { (value) } } } } }
        }
    }
}
