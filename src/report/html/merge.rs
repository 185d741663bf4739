//! A merge on a page: the master, what became of each source, the conflicts and the config.
//!
//! Invariants: a master is called proven only if it was, and nothing in it is other than it should be.

use maud::{Markup, html};

use super::parts::{self, Card, Column, Place, command, open_ends, provenance, table};
use super::words::{self, count, counted, duration, prose, shell, size};
use crate::base::error::Result;
use crate::merge::MergeReport;

/// Commands name so many sources, and no more.
const SOURCES_NAMED: usize = 4;

/// The title and the section.
pub fn section(report: &MergeReport, place: Place) -> Result<(String, Markup)> {
    let master = &report.master;
    let (class, words) = match (report.proof.proven, report.differences.is_empty()) {
        (true, true) => ("proven", "MERGED AND PROVEN"),
        (true, false) => ("differs", "MERGED, BUT NOT AS IT SHOULD BE"),
        (false, _) => ("nothing", "MERGED, NOT PROVEN"),
    };
    let conflicts = &report.conflicts;
    let mut facts = vec![("points", count(master.points))];
    facts.extend(master.file_bytes.map(|bytes| ("file", size(bytes))));
    facts.push(("sources", count(report.sources.len() as u64)));
    facts.push(("conflicts", count(conflicts.count)));
    facts.push(("route", report.route.to_string()));
    facts.push(("took", duration(report.seconds)));
    let card = Card {
        kind: if place.is_step {
            "Step: merge"
        } else {
            "Merge"
        },
        name: &master.file,
        class,
        verdict: words,
        facts,
        next: next(report),
    };
    let sources = report.sources.iter().map(|source| parts::SourceRow {
        name: &source.name,
        points: source.won,
        file_bytes: source.file_bytes,
        checksum: source.checksum.clone(),
    });
    let on_conflict = &report.provenance.on_conflict;
    let page = html! {
        (card.show(place))
        p {
            "Route " (report.route) ", because " (prose(&report.because)) ". Compared: "
            (prose(&report.proof.compared)) "."
        }
        (open_ends(&[
            ("Missing", &report.missing),
            ("Not as it should be", &report.differences),
            ("Notes", &report.notes),
        ]))
        (parts::sources(sources)?)
        (counts_of_sources(report))
        (conflicts_of(report))
        (config(report))
        (parts::stages(&report.stages)?)
        (provenance(&report.envelope, report.seconds, &[
            ("conflicts won by", Some(on_conflict)),
            ("SHA-256 of the master", master.sha256.as_ref()),
            ("digest of the points", master.digest.as_ref()),
        ]))
    };
    let title = match place.is_step {
        true => format!("merge: {words}"),
        false => format!("{}: {words}", master.file),
    };
    Ok((title, page))
}

fn next(report: &MergeReport) -> Vec<Markup> {
    let master = &report.master;
    let file = shell(&master.file);
    let mut next = Vec::new();
    if !report.missing.is_empty() {
        next.push(
            html! { "Read under “Missing” what the sources lacked: the master lacks it too." },
        );
    }
    match (
        report.proof.proven,
        report.differences.is_empty(),
        &master.live,
    ) {
        (true, false, _) => next.push(html! {
            "Do not use this master: read under “Not as it should be” what differs, and merge again."
        }),
        (false, _, _) => {
            let files = report.sources.iter().take(SOURCES_NAMED);
            let mut files: Vec<String> = files.map(|source| shell(&source.file)).collect();
            if report.sources.len() > SOURCES_NAMED {
                files.push("…".into());
            }
            next.push(command(
                "Compare the master with its sources before it is used",
                &format!("snapmerge verify {file} --against {}", files.join(" ")),
            ));
        }
        (true, true, None) => next.push(command(
            "Bring the master onto a server",
            &format!("snapmerge restore {file} --to http://HOST:6333/NAME"),
        )),
        (true, true, Some(_)) => next.push(command(
            "Point an alias to the collection",
            "snapmerge publish http://HOST:6333 COLLECTION --alias ALIAS",
        )),
    }
    let conflicts = &report.conflicts;
    if conflicts.count > conflicts.first.len() as u64 && conflicts.ledger.is_none() {
        next.push(html! {
            "The page shows the first " (count(conflicts.first.len() as u64)) " conflicts; "
            code { "snapmerge merge --ledger FILE" } " writes down all of them."
        });
    }
    next
}

/// Counts of points read, lost and kept, by source.
fn counts_of_sources(report: &MergeReport) -> Markup {
    let rows = report.sources.iter().map(|source| {
        [
            source.name.clone(),
            count(source.read),
            count(source.won),
            count(source.lost),
            count(source.filtered),
            count(source.remapped),
        ]
    });
    let columns = [
        ("source", Column::Name),
        ("read", Column::Number),
        ("won", Column::Number),
        ("lost", Column::Number),
        ("filtered", Column::Number),
        ("under new ids", Column::Number),
    ];
    html! {
        h2 { "Points of the sources" }
        (table("Points of the sources", &columns, rows))
    }
}

fn conflicts_of(report: &MergeReport) -> Markup {
    let conflicts = &report.conflicts;
    let rows = conflicts.first.iter().map(|one| {
        [
            one.id.to_string(),
            one.sources.join(", "),
            one.winner.clone(),
        ]
    });
    let columns = [
        ("point", Column::Name),
        ("in", Column::Words),
        ("winner", Column::Name),
    ];
    html! {
        h2 { "Conflicts" }
        @if conflicts.count == 0 {
            p { "No id is in more than one source." }
        } @else {
            p {
                (counted(conflicts.count, "id is", "ids are")) " in more than one source; the policy is "
                code { "--on-conflict " (conflicts.policy) } "."
                @if let Some(ledger) = &conflicts.ledger {
                    " All of them are in " code { (words::name(ledger)) } "."
                }
            }
            (table("Conflicts", &columns, rows))
        }
    }
}

/// Differences between the sources' configs, and the master's values.
fn config(report: &MergeReport) -> Markup {
    let findings = report.findings.iter().map(|finding| {
        let values = finding.values.iter();
        let values: Vec<String> = values
            .map(|value| format!("{} ({})", value.value, value.source))
            .collect();
        [
            finding.about.clone(),
            values.join(", "),
            finding.meaning.clone(),
        ]
    });
    let decisions = report.decisions.iter().map(|one| {
        [
            one.about.clone(),
            one.chosen.to_string(),
            one.because.clone(),
        ]
    });
    let [setting, words] = [Column::Name, Column::Words];
    html! {
        @if !report.findings.is_empty() {
            h2 { "Configs that differ" }
            (table(
                "Configs that differ",
                &[("setting", setting), ("values", words), ("meaning", words)],
                findings,
            ))
        }
        @if !report.decisions.is_empty() {
            h2 { "Chosen for the master" }
            (table(
                "Chosen for the master",
                &[("setting", setting), ("value", words), ("because", words)],
                decisions,
            ))
        }
    }
}
