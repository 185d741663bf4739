//! The runs of a plan so far, as sparklines: points, bytes, time and verdict.
//!
//! Invariants: whatever is drawn stands in words and in a table beside it; a run without a number is a
//! gap, and no zero.

use chrono::{DateTime, Utc};
use maud::{Markup, PreEscaped, html};

use super::charts;
use super::parts::{Column, table};
use super::words::{NONE, count, counted, duration, size};
use crate::base::error::Result;
use crate::nightly::{PastRun, RUNS_MAX, RunHistory, RunOutcome, RunReport};

/// A number of each run.
struct Series {
    title: &'static str,
    values: Vec<Option<f64>>,
    /// A value in words.
    words: fn(f64) -> String,
}

/// The class of a run's verdict, its sign, and the verdict.
pub fn verdict(outcome: RunOutcome, cancelled: bool) -> (&'static str, &'static str, &'static str) {
    match outcome {
        RunOutcome::Done => ("proven", "✓", "DONE"),
        RunOutcome::Differs => ("nothing", "!", "DONE, BUT SOMETHING DIFFERS"),
        RunOutcome::Failed if cancelled => ("differs", "■", "CANCELLED"),
        RunOutcome::Failed => ("differs", "✕", "FAILED"),
    }
}

/// The history that ends with the run of `report`.
pub fn section(history: &RunHistory, report: &RunReport) -> Result<Markup> {
    if history.runs.is_empty() {
        return Ok(html! {
            h2 { "History" }
            p {
                "There is no earlier run of this plan whose report could be read in the folder of its reports. From the next run on, \
                 points, sizes, times and verdicts of the last " (RUNS_MAX) " runs are shown here."
            }
        });
    }
    let mut runs = history.runs.clone();
    runs.push(PastRun::from(report));
    let mut lines = Vec::new();
    for series in all_series(&runs) {
        lines.extend(sparkline(&series)?);
    }
    let done = runs.iter().filter(|run| run.outcome == RunOutcome::Done);
    let done = done.count() as u64;
    Ok(html! {
        h2 { "History: the last " (runs.len()) " runs" }
        div.sparks { @for line in &lines { (line) } }
        p.verdicts-title {
            (count(done)) " of " (counted(runs.len() as u64, "run", "runs")) " done without any difference, "
            "the newest on the right:"
        }
        ol.verdicts aria-label="Verdicts, the oldest run first" {
            @for run in &runs {
                @let (class, sign, words) = verdict(run.outcome, run.cancelled);
                @let title = format!("{}: {words}", day(run.started));
                li class=(class) title=(title) {
                    span aria-hidden="true" { (sign) }
                    span.unseen { (title) }
                }
            }
        }
        details {
            summary { "The runs in numbers" }
            (numbers(&runs))
        }
    })
}

#[expect(clippy::cast_precision_loss, reason = "the height of a line")]
fn all_series(runs: &[PastRun]) -> [Series; 4] {
    let of = |value: fn(&PastRun) -> Option<f64>| runs.iter().map(value).collect();
    [
        Series {
            title: "Points of the master",
            values: of(|run| run.points.map(|points| points as f64)),
            words: |value| count(whole(value)),
        },
        Series {
            title: "Size of the master",
            values: of(|run| run.bytes.map(|bytes| bytes as f64)),
            words: |value| size(whole(value)),
        },
        Series {
            title: "New in the archive",
            values: of(|run| Some(run.new_bytes as f64)),
            words: |value| size(whole(value)),
        },
        Series {
            title: "Time of the run",
            values: of(|run| Some(run.seconds)),
            words: duration,
        },
    ]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it was an integer before"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

/// The line of one series, with its last value, and how that compares; none if no run has a value.
fn sparkline(series: &Series) -> Result<Option<Markup>> {
    let values = || series.values.iter().flatten().copied();
    let (least, most) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(f64::NEG_INFINITY, f64::max),
    );
    if values().next().is_none() {
        return Ok(None);
    }
    let words = |value: Option<f64>| value.map_or_else(|| NONE.to_owned(), series.words);
    let last = series.values.last().copied().flatten();
    let earlier = series.values.len().saturating_sub(1);
    let before = series.values.iter().take(earlier).rev().flatten().next();
    let change = match (before, last) {
        (Some(before), Some(last)) if last > *before => {
            format!("{} more than before", (series.words)(last - before))
        }
        (Some(before), Some(last)) if last < *before => {
            format!("{} less than before", (series.words)(before - last))
        }
        (Some(_), Some(_)) => "as before".to_owned(),
        (Some(before), None) => format!("{} before", (series.words)(*before)),
        (None, _) => "none before".to_owned(),
    };
    let range = format!(
        "lowest {}, highest {}",
        words(Some(least)),
        words(Some(most))
    );
    let told = format!("{}, {change}; {range}", words(last));
    let svg = charts::sparkline(series.title, &told, &series.values)?;
    Ok(Some(html! {
        div.spark-box {
            p.kind { (series.title) }
            p.value { (words(last)) }
            (PreEscaped(svg))
            p.kind { (change) "; " (range) }
        }
    }))
}

/// The newest first, as one looks for them.
fn numbers(runs: &[PastRun]) -> Markup {
    let or_none = |shown: Option<String>| shown.unwrap_or_else(|| NONE.into());
    let rows = runs.iter().rev().map(|run| {
        let (_, _, words) = verdict(run.outcome, run.cancelled);
        [
            day(run.started),
            words.to_owned(),
            or_none(run.points.map(count)),
            or_none(run.bytes.map(size)),
            size(run.new_bytes),
            duration(run.seconds),
        ]
    });
    let columns = [
        ("started (UTC)", Column::Time),
        ("verdict", Column::Words),
        ("points", Column::Number),
        ("master", Column::Number),
        ("new in the archive", Column::Number),
        ("took", Column::Number),
    ];
    table("The runs in numbers", &columns, rows)
}

fn day(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M").to_string()
}
