//! The parts that pages of several reports have.
//!
//! Invariants: a part for which a report has nothing is not there; a number is shown as it stands in
//! the report, or rounded.

use maud::{Markup, PreEscaped, html};
use serde::Serialize;
use serde_json::Value;

use super::charts::{Bar, bars};
use super::words::{self, count, duration, prose, size};
use crate::base::error::Result;
use crate::base::operation::Envelope;
use crate::base::stage::StageReport;
use crate::verify::SettingDifference;

/// Where on a page a section stands.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// It is the first one, whose verdict is the page's.
    pub is_first: bool,
    /// It is of a step of the run that the page is about: its files are gone, and the run says what is
    /// next.
    pub is_step: bool,
}

/// Head of a page: the verdict, the counts, and what to do next.
pub struct Card<'a> {
    /// Operation, in a word or two.
    pub kind: &'a str,
    /// Object of the operation.
    pub name: &'a str,
    /// The colour: `proven`, `nothing` or `differs`.
    pub class: &'a str,
    pub verdict: &'a str,
    /// Labels and values.
    pub facts: Vec<(&'a str, String)>,
    pub next: Vec<Markup>,
}

impl Card<'_> {
    /// The card as it stands at `place`.
    pub fn show(&self, place: Place) -> Markup {
        let id = place.is_first.then_some("verdict");
        html! {
            header class={ "card " (self.class) } {
                p.kind { (self.kind) }
                @if !place.is_step { h1 { (words::name(self.name)) } }
                p.verdict id=[id] { (self.verdict) }
                dl.facts {
                    @for (what, value) in &self.facts { div { dt { (what) } dd { (prose(value)) } } }
                }
                @if !self.next.is_empty() && !place.is_step {
                    div.next {
                        h2 { "What to do next" }
                        ul { @for one in &self.next { li { (one) } } }
                    }
                }
            }
        }
    }
}

/// A next step and the command that does it.
pub fn command(what: &str, command: &str) -> Markup {
    html! {
        (prose(what)) ": "
        code {
            @for (at, word) in command.split(' ').enumerate() {
                @if at > 0 { " " }
                // A browser would break an option behind its hyphens.
                @if word.starts_with('-') { span.whole { (word) } } @else { (prose(word)) }
            }
        }
    }
}

/// A column of a table: what its cells are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Words.
    Words,
    /// A name, a file, an id.
    Name,
    /// A number, a size or a duration.
    Number,
    /// A hash, with words around it.
    Hash,
    /// A date and a time.
    Time,
}

/// Returns true if a narrow screen has no room for these columns side by side: there each row is a list.
fn is_stacked(columns: &[(&str, Column)]) -> bool {
    let is_wide = |column: &Column| matches!(column, Column::Words | Column::Name | Column::Hash);
    let wide = columns.iter().filter(|(_, column)| is_wide(column)).count();
    columns.len() > 3 || wide > 2
}

/// A table with a head; in a box that can be scrolled by keyboard.
pub fn table<const N: usize>(
    label: &str,
    columns: &[(&str, Column); N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Markup {
    let rows: Vec<[String; N]> = rows.into_iter().collect();
    let is_number = |column: &Column| *column == Column::Number;
    let cell = |column: Column, text: &str| match column {
        Column::Words => prose(text),
        Column::Name => words::name(text),
        Column::Number | Column::Time => html! { (text) },
        Column::Hash => html! { code { (words::hash(text)) } },
    };
    // The roles say what a browser forgets where such a table is shown as a list.
    html! {
        @if !rows.is_empty() {
            div.scroll tabindex="0" role="region" aria-label=(label) {
                table.stacked[is_stacked(columns)] role="table" {
                    thead role="rowgroup" {
                        tr role="row" {
                            @for (name, column) in columns {
                                th.n[is_number(column)] scope="col" role="columnheader" { (name) }
                            }
                        }
                    }
                    tbody role="rowgroup" {
                        @for row in &rows {
                            tr role="row" {
                                @for ((name, column), text) in columns.iter().zip(row) {
                                    td.n[is_number(column)].time[*column == Column::Time] role="cell" data-label=(name) {
                                        span { (cell(*column, text)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A fact and its value, in rows.
pub fn facts<'a>(title: &str, rows: impl IntoIterator<Item = (&'a str, Markup)>) -> Markup {
    html! {
        h2 { (title) }
        div.scroll tabindex="0" role="region" aria-label=(title) {
            table.pairs {
                @for (name, value) in rows { tr { th scope="row" { (name) } td { (value) } } }
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
                ul { @for line in *lines { li { (prose(line)) } } }
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
    let shown = first.len() as u64;
    let rows = first.map(|(id, [what, details])| [id, what, details]);
    let columns = [
        ("point", Column::Name),
        ("what", Column::Words),
        ("where", Column::Words),
    ];
    html! {
        @if shown > 0 {
            h2 { "Points that differ" }
            p {
                "The first " (count(shown))
                @if let Some(ledger) = ledger { "; all of them are in " code { (words::name(ledger)) } }
                "."
            }
            (table("Points that differ", &columns, rows))
        }
    }
}

/// Settings that differ, under the names of what is compared.
pub fn settings(differences: &[SettingDifference], [expected, found]: [&str; 2]) -> Markup {
    let rows = differences
        .iter()
        .map(|one| [one.about.clone(), one.expected.clone(), one.found.clone()]);
    let columns = [
        ("setting", Column::Name),
        (expected, Column::Words),
        (found, Column::Words),
    ];
    html! {
        @if !differences.is_empty() {
            h2 { "Settings that differ" }
            (table("Settings that differ", &columns, rows))
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
            count(source.points),
            size(source.file_bytes),
            source.checksum,
        ]);
    }
    let columns = [
        ("source", Column::Name),
        ("points in the master", Column::Number),
        ("file", Column::Number),
        ("checksum", Column::Hash),
    ];
    Ok(html! {
        h2 { "Sources and their share" }
        (PreEscaped(bars("Points of each source in the master", &chart)?))
        (table("Sources", &columns, rows))
    })
}

/// The time of each stage.
pub fn stages(stages: &[StageReport]) -> Result<Markup> {
    let times = stages.iter();
    let chart: Vec<Bar> = times
        .map(|stage| Bar::of_seconds(&stage.stage, stage.seconds, 0))
        .collect();
    let rows = stages.iter().map(|stage| {
        let per_second = |amount| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate for people"
            )]
            stage.per_second(amount).map(|rate| rate as u64)
        };
        let (points, bytes) = (per_second(stage.points), per_second(stage.bytes));
        [
            stage.stage.clone(),
            duration(stage.seconds),
            points.map_or_else(|| words::NONE.into(), count),
            bytes.map_or_else(|| words::NONE.into(), size),
        ]
    });
    let columns = [
        ("stage", Column::Words),
        ("took", Column::Number),
        ("points per second", Column::Number),
        ("bytes per second", Column::Number),
    ];
    Ok(html! {
        @if !stages.is_empty() {
            h2 { "Time" }
            (PreEscaped(bars("Time of each stage", &chart)?))
            (table("Time", &columns, rows))
        }
    })
}

/// Renders the provenance: version of snapmerge, `about`, and time taken.
pub fn provenance(envelope: &Envelope, seconds: f64, about: &[(&str, Option<&String>)]) -> Markup {
    let about = about
        .iter()
        .filter_map(|(name, value)| Some((*name, value.as_ref()?.as_str())));
    let version = words::name(&envelope.version);
    let rows = std::iter::once(("snapmerge", version))
        .chain(about.map(|(name, value)| (name, html! { code { (words::hash(value)) } })))
        .chain([("took", html! { (duration(seconds)) })]);
    facts("Provenance", rows)
}
