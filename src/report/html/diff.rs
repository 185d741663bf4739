//! A comparison of two snapshots on a page.

use maud::{Markup, PreEscaped, html};

use super::charts::{Bar, bars};
use super::parts::{self, Card, Column, Place, command, differences, open_ends, provenance, table};
use super::words::{self, count, duration, shell};
use crate::base::error::Result;
use crate::verify::DiffReport;

/// The title and the section.
pub fn section(report: &DiffReport, place: Place) -> Result<(String, Markup)> {
    let name = format!("{} and {}", report.before.file, report.after.file);
    let (class, words) = match report.is_same() {
        true => ("proven", "THE SAME"),
        false => ("differs", "DIFFERENT"),
    };
    let points = &report.diffed;
    let kinds = [
        ("same", points.same),
        ("added", points.added),
        ("removed", points.removed),
        ("changed", points.changed),
    ];
    let chart: Vec<Bar> = kinds
        .iter()
        .enumerate()
        .map(|(series, (kind, count))| Bar::of_count(*kind, *count, series))
        .collect();
    let mut facts: Vec<(&str, String)> = Vec::new();
    facts.extend(kinds.map(|(kind, points)| (kind, count(points))));
    facts.push(("settings that differ", count(report.settings.len() as u64)));
    facts.extend(
        report
            .sample
            .map(|sample| ("A SAMPLE OF", sample.to_string())),
    );
    facts.push(("took", duration(report.seconds)));
    let card = Card {
        kind: "Comparison",
        name: &name,
        class,
        verdict: words,
        facts,
        next: next(report),
    };
    let changed = |what: &'static str| {
        move |(name, points): (&String, &u64)| {
            let whose = if name.is_empty() {
                String::new()
            } else {
                format!(" '{name}'")
            };
            [format!("changed {what}{whose}"), count(*points)]
        }
    };
    let rows = [("before", points.before), ("after", points.after)]
        .into_iter()
        .chain(kinds)
        .map(|(kind, points)| [kind.to_owned(), count(points)])
        .chain(points.changed_vectors.iter().map(changed("vector")))
        .chain(points.changed_payload.iter().map(changed("payload key")));
    let first = report
        .first
        .iter()
        .map(|change| (change.id.to_string(), parts::details(change)));
    let columns = [("points", Column::Words), ("how many", Column::Number)];
    let (before, after) = (
        points.digest_before.to_string(),
        points.digest_after.to_string(),
    );
    let page = html! {
        (card.show(place))
        h2 { "Points" }
        (PreEscaped(bars("Points", &chart)?))
        (table("Points", &columns, rows))
        (differences(first, report.ledger.as_deref()))
        (open_ends(&[
            ("Missing", &report.missing),
            ("Written to meanwhile", &report.changed),
            ("Notes", &report.notes),
        ]))
        (parts::settings(&report.settings, ["before", "after"]))
        (provenance(&report.envelope, report.seconds, &[
            ("digest before", Some(&before)),
            ("digest after", Some(&after)),
        ]))
    };
    Ok((format!("{name}: {words}"), page))
}

fn next(report: &DiffReport) -> Vec<Markup> {
    let mut next = Vec::new();
    if report.is_same() {
        next.push(match &report.sample {
            None => html! { "Nothing: both have the same points and settings." },
            Some(_) => html! {
                "Only a sample was compared: without " code { "--sample" } " every point is."
            },
        });
        return next;
    }
    if !report.missing.is_empty() {
        next.push(html! { "Read under “Missing” what could not be compared." });
    }
    if !report.changed.is_empty() {
        next.push(html! { "Compare again while nobody writes to the live collections." });
    }
    if report.diffed.changes() > report.first.len() as u64 && report.ledger.is_none() {
        next.push(html! {
            "The page shows the first " (count(report.first.len() as u64)) " changes; "
            code { "--ledger FILE" } " writes down all of them."
        });
    }
    match &report.sync_plan {
        Some(path) => next.push(html! {
            "What brings the first to the state of the second is in " code { (words::name(path)) } "."
        }),
        None if report.diffed.changes() > 0 => next.push(command(
            "Write down what brings the first to the state of the second",
            &format!(
                "snapmerge diff {} {} --sync-plan FILE",
                shell(&report.before.file),
                shell(&report.after.file)
            ),
        )),
        None => {}
    }
    if !report.settings.is_empty() {
        next.push(html! { "Read under “Settings that differ” what the config has otherwise." });
    }
    next
}
