//! A nightly run on a page: the outcome, its history, the sources, the master, the archive, the steps.
//!
//! Invariants: errors stand first, each with its next step.

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, PreEscaped, html};

use super::charts::{Bar, bars, colour};
use super::history;
use super::parts::{self, Card, Column, Place, command, open_ends, table};
use super::words::{self, NONE, count, duration, moment, prose, shell, size};
use crate::base::error::Result;
use crate::nightly::{How, RunError, RunHistory, RunMaster, RunReport, RunSource};

/// Errors on the first screen; all of them have a section of their own.
const ERRORS_FIRST: usize = 3;
/// A proven restore that is older is proven again, as the alerts of `scripts/deploy` have it.
const RESTORE_DAYS: i64 = 8;

/// The title and the section.
pub fn section(
    report: &RunReport,
    past: Option<&RunHistory>,
    place: Place,
) -> Result<(String, Markup)> {
    let name = format!("{} {}", report.plan, report.id);
    let (class, _, words) = history::verdict(report.run_outcome, report.cancelled);
    let card = Card {
        kind: "Nightly run",
        name: &name,
        class,
        verdict: words,
        facts: counts(report),
        next: next(report),
    };
    let page = html! {
        (card.show(place))
        p {
            "Started " span.whole { (moment(report.started)) } ", ended " span.whole { (moment(report.ended)) }
            @if report.resumed { "; it resumed a run that was interrupted" }
            "."
        }
        @if !report.errors.is_empty() {
            h2 { "Errors" }
            ul {
                @for err in &report.errors {
                    li {
                        strong { (prose(&err.step)) } ": " (prose(&err.doing)) ": " (prose(&err.why))
                        @if let Some(next) = &err.next { br; "Next: " (prose(next)) }
                    }
                }
            }
        }
        (open_ends(&[("Differences", &report.differs), ("Notes", &report.notes)]))
        @if let Some(past) = past { (history::section(past, report)?) }
        (sources(&report.sources))
        @if let Some(master) = &report.master { (show_master(master)) }
        (archive(report))
        (steps(report)?)
    };
    Ok((format!("{name}: {words}"), page))
}

/// The counts on the first screen.
fn counts(report: &RunReport) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(master) = &report.master {
        facts.push(("points", count(master.points)));
        facts.extend(master.bytes.map(|bytes| ("master", size(bytes))));
    }
    let of = |how: How| {
        let sources = report.sources.iter();
        sources.filter(|source| source.how == how).count() as u64
    };
    let kinds = [How::Captured, How::Unchanged, How::Last, How::Broken];
    let kinds: Vec<String> = kinds
        .into_iter()
        .filter(|how| of(*how) > 0)
        .map(|how| format!("{} {}", count(of(how)), words_of(how)))
        .collect();
    if !kinds.is_empty() {
        facts.push(("sources", kinds.join(", ")));
    }
    facts.push(("new in the archive", size(report.archive.new_bytes)));
    facts.push(("took", duration(report.seconds)));
    let or_never = |time: Option<DateTime<Utc>>| time.map_or_else(|| "never".into(), moment);
    facts.push(("last proven master", or_never(report.last_proven)));
    facts.push(("last proven restore", or_never(report.last_proven_restore)));
    facts
}

fn words_of(how: How) -> &'static str {
    match how {
        How::Captured => "captured",
        How::Unchanged => "unchanged",
        How::Last => "from the archive",
        How::Broken => "broken",
    }
}

/// The errors with their next steps, then whatever else is to be done.
fn next(report: &RunReport) -> Vec<Markup> {
    let mut next: Vec<Markup> = report.errors.iter().take(ERRORS_FIRST).map(error).collect();
    if report.errors.len() > ERRORS_FIRST {
        next.push(html! { "Read under “Errors” all " (report.errors.len()) " of them." });
    }
    if report.cancelled {
        next.push(html! { "Run the plan again: the next run resumes where this one stopped." });
    } else if !report.errors.is_empty() {
        next.push(html! {
            "Run the plan again when this is mended, or wait for the next run"
            @if report.id != "none" { ": it resumes this one" } "."
        });
    }
    for what in report.differs.iter().take(ERRORS_FIRST) {
        next.push(html! { "Look into this: " (prose(what)) });
    }
    if report.differs.len() > ERRORS_FIRST {
        next.push(html! { "Read under “Differences” all " (report.differs.len()) " of them." });
    }
    let drill = format!("snapmerge drill --archive {}", shell(&report.archive.place));
    let proven = report.last_proven_restore;
    let is_old = |at: DateTime<Utc>| report.ended - at > TimeDelta::days(RESTORE_DAYS);
    match proven {
        None if report.archive.entries > 0 => next.push(command(
            "No restore of what is in the archive has been proven yet; prove one",
            &drill,
        )),
        Some(at) if is_old(at) => next.push(command(
            &format!(
                "The last proven restore is {} old; prove one",
                days(report.ended - at)
            ),
            &drill,
        )),
        _ => {}
    }
    if next.is_empty() {
        next.push(html! { "Nothing: the run did all that its plan asks for." });
    }
    next
}

fn days(time: TimeDelta) -> String {
    format!("{} days", time.num_days())
}

/// An error as the first screen has room for it.
fn error(err: &RunError) -> Markup {
    html! {
        strong { (prose(&err.step)) } " failed: " (prose(&err.why))
        @if let Some(next) = &err.next { br; strong { "Next: " } (prose(next)) }
    }
}

fn sources(sources: &[RunSource]) -> Markup {
    let rows = sources.iter().map(|source| {
        [
            source.name.clone(),
            words_of(source.how).to_owned(),
            source.points.map_or_else(|| NONE.into(), count),
            size(source.bytes),
            source.moved_bytes.map_or_else(|| NONE.into(), size),
            size(source.new_bytes),
            source.entry.clone().unwrap_or_else(|| NONE.into()),
        ]
    });
    let columns = [
        ("source", Column::Name),
        ("how", Column::Words),
        ("points", Column::Number),
        ("snapshot", Column::Number),
        ("moved", Column::Number),
        ("new", Column::Number),
        ("entry", Column::Name),
    ];
    let notes = || {
        let all = sources.iter();
        all.filter_map(|source| Some((&source.name, source.note.as_ref()?)))
    };
    html! {
        @if !sources.is_empty() {
            h2 { "Sources of the run" }
            (table("Sources of the run", &columns, rows))
            @if notes().next().is_some() {
                ul { @for (name, note) in notes() { li { (words::name(name)) ": " (prose(note)) } } }
            }
        }
    }
}

fn show_master(master: &RunMaster) -> Markup {
    let unchanged = match master.unchanged {
        true => "no: its sources have not changed since it was made",
        false => "yes",
    };
    let name = |text: &Option<String>| text.as_ref().map(|text| words::name(text));
    let text = |text: String| Some(html! { (text) });
    let facts = [
        ("name", Some(words::name(&master.name))),
        ("made by this run", text(unchanged.to_owned())),
        ("entry", name(&master.entry)),
        ("route", text(master.route.clone())),
        ("points", text(count(master.points))),
        ("size", master.bytes.and_then(|bytes| text(size(bytes)))),
        (
            "SHA-256",
            master
                .sha256
                .as_ref()
                .map(|sha256| html! { code { (words::hash(sha256)) } }),
        ),
        ("proven", text(moment(master.proven))),
        ("collection", name(&master.collection)),
        ("alias", name(&master.alias)),
        ("alias pointed before to", name(&master.before)),
    ];
    let rows = facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    parts::facts("Master", rows)
}

fn archive(report: &RunReport) -> Markup {
    let archive = &report.archive;
    let rows = [
        ("place", words::name(&archive.place)),
        ("entries", html! { (count(archive.entries)) }),
        ("new", html! { (size(archive.new_bytes)) }),
        ("entries forgotten", html! { (count(archive.forgotten)) }),
        ("removed", html! { (size(archive.removed_bytes)) }),
    ];
    parts::facts("Archive", rows)
}

fn steps(report: &RunReport) -> Result<Markup> {
    let steps = report.steps.iter();
    let chart: Vec<Bar> = steps
        .map(|step| Bar::of_seconds(&step.step, step.seconds, usize::from(step.earlier)))
        .collect();
    let any_earlier = report.steps.iter().any(|step| step.earlier);
    let name = ("step", Column::Name);
    let took = ("took", Column::Number);
    let own = || {
        let steps = report.steps.iter();
        steps.map(|step| [step.step.clone(), duration(step.seconds)])
    };
    let by = report.steps.iter().map(|step| match step.earlier {
        true => "an earlier run",
        false => "this run",
    });
    let with_run = own()
        .zip(by)
        .map(|([step, took], by)| [step, took, by.into()]);
    Ok(html! {
        @if !report.steps.is_empty() {
            h2 { "Steps" }
            (PreEscaped(bars("Time of each step", &chart)?))
            @if any_earlier {
                ul.keys {
                    @for (at, who) in ["done by this run", "done by an earlier run, and checked by this one"].into_iter().enumerate() {
                        li { span.key style={ "background:" (colour(at)) } {} (who) }
                    }
                }
                (table("Steps", &[name, took, ("done by", Column::Words)], with_run))
            } @else {
                (table("Steps", &[name, took], own()))
            }
        }
    })
}
