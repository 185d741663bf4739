//! What was measured, as a table in Markdown.
//!
//! Keeps true: a row stands for the same thing in every run; medians are taken value by value.

use super::Copied;
use super::goals;
use super::process::{Measured, Stage};
use super::sources::Shape;

/// One row.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was done.
    pub name: String,
    /// In seconds.
    pub seconds: f64,
    /// Processor time of all threads, in seconds.
    pub cpu_seconds: f64,
    /// Points that passed.
    pub points: u64,
    /// Dimensions of their vectors.
    pub dims: usize,
    /// Sources.
    pub sources: u64,
    /// Ids that were in two sources.
    pub conflicts: u64,
    /// Bytes of the source files.
    pub bytes: u64,
    /// Peak of RssAnon.
    pub anon_bytes: u64,
    /// Times that `cp` takes, and `cp` with `sync`; only of what stands for itself.
    pub ratios: Option<(f64, f64)>,
}

/// The rows of one stage.
pub fn rows(
    stage: &str,
    measured: &Measured,
    shape: &Shape,
    bytes: u64,
    copied: Copied,
) -> Vec<Row> {
    let row =
        |name: String, (seconds, cpu_seconds, anon_bytes): (f64, f64, u64), whole: bool| Row {
            name,
            seconds,
            cpu_seconds,
            points: shape.points,
            dims: shape.dims,
            sources: shape.sources,
            conflicts: shape.conflicts(),
            bytes,
            anon_bytes,
            ratios: whole.then_some((seconds / copied.plain, seconds / copied.synced)),
        };
    let of = |stage: &Stage| (stage.seconds, stage.cpu_seconds, stage.anon_bytes);
    if let ("open" | "scan", [only]) = (stage, measured.stages.as_slice()) {
        return vec![row(stage.to_owned(), of(only), true)];
    }
    let name = match stage {
        "merge" => goals::MERGE,
        "whole" => goals::WHOLE,
        "graft" => goals::GRAFT,
        "graft-checked" => goals::GRAFT_CHECKED,
        "graft-tail" => goals::GRAFT_TAIL,
        "graft-overlap" => goals::GRAFT_OVERLAP,
        "stamp" => goals::STAMP,
        "consolidate" => goals::CONSOLIDATE,
        "many-sources" => goals::MANY_SOURCES,
        "graft-ids" => goals::GRAFT_IDS,
        "graft-uuids" => goals::GRAFT_UUIDS,
        "archive-add" => goals::ARCHIVE_ADD,
        "archive-get" => goals::ARCHIVE_GET,
        "archive-add-warm" => goals::ARCHIVE_ADD_WARM,
        "archive-get-warm" => goals::ARCHIVE_GET_WARM,
        "archive-check" => goals::ARCHIVE_CHECK,
        "verify" => goals::VERIFY,
        "verify-deep" => goals::VERIFY_DEEP,
        other => other,
    };
    let mut rows = vec![row(
        name.to_owned(),
        (measured.seconds, measured.cpu_seconds, measured.anon_bytes),
        true,
    )];
    for stage in &measured.stages {
        let name = format!("– {}", stage.name);
        rows.push(row(name, of(stage), false));
    }
    rows
}

/// The median of each row's values over several runs.
pub fn median(samples: Vec<Vec<Row>>) -> Vec<Row> {
    let first = samples.first().cloned().unwrap_or_default();
    let of = |at: usize, value: &dyn Fn(&Row) -> f64| {
        let mut values: Vec<f64> = samples
            .iter()
            .filter_map(|rows| rows.get(at))
            .map(value)
            .collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    first
        .into_iter()
        .enumerate()
        .map(|(at, row)| Row {
            seconds: of(at, &|row| row.seconds),
            cpu_seconds: of(at, &|row| row.cpu_seconds),
            anon_bytes: of(at, &|row| row.anon_bytes as f64) as u64,
            ratios: row.ratios.map(|_| {
                (
                    of(at, &|row| row.ratios.unwrap_or_default().0),
                    of(at, &|row| row.ratios.unwrap_or_default().1),
                )
            }),
            ..row
        })
        .collect()
}

/// What stands above the table.
pub fn heading(shape: &Shape, bytes: u64, cold: bool) -> String {
    format!(
        "{} points × {} in {} sources{}, {} MB of snapshots, {} page cache",
        shape.points,
        shape.dims,
        shape.sources,
        if shape.indexed { " with HNSW" } else { "" },
        bytes / 1_000_000,
        if cold { "cold" } else { "warm" }
    )
}

/// The table.
pub fn show(rows: &[Row]) -> String {
    let mut text = String::from(
        "\n| | seconds | CPU s | points/s | MB/s | peak RssAnon, MB | × cp | × cp and sync |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        let (cp, synced) = row.ratios.map_or((String::new(), String::new()), |(a, b)| {
            (format!("{a:.2}"), format!("{b:.2}"))
        });
        text += &format!(
            "| {} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {cp} | {synced} |\n",
            row.name,
            row.seconds,
            row.cpu_seconds,
            row.points as f64 / row.seconds,
            row.bytes as f64 / 1e6 / row.seconds,
            row.anon_bytes as f64 / 1e6,
        );
    }
    text
}
