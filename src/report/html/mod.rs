//! Reports as one HTML page.
//!
//! Invariants: the page refers to nothing outside itself and runs no script; the verdict stands
//! first; every number of a chart stands in a table too; text of a report is text on the page,
//! whatever it contains.

mod charts;
mod parts;
mod run;
mod verify;

use humansize::{BINARY, format_size};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::parts::{open_ends, provenance, table, verdict};
use crate::base::error::{Error, Result};
use crate::merge::MergeReport;
use crate::nightly::RunReport;
use crate::verify::{DiffReport, VerifyReport};

/// A report that can be on a page.
#[derive(Debug, Clone)]
pub enum Section {
    /// Of a merge.
    Merge(Box<MergeReport>),
    /// Of a verification.
    Verify(Box<VerifyReport>),
    /// Of a comparison.
    Diff(Box<DiffReport>),
    /// Of a nightly run.
    Run(Box<RunReport>),
}

impl Section {
    /// Reads a report that a command printed as JSON to `file`.
    pub fn read(value: Value, file: &str) -> Result<Self> {
        fn read<T: DeserializeOwned>(value: Value, file: &str) -> Result<Box<T>> {
            serde_json::from_value(value)
                .map_err(|err| Error::usage(format!("reading {file}"), err))
        }
        const FORMATS: [&str; 4] = [
            "snapmerge-run/2",
            "snapmerge-verify/2",
            "snapmerge-merge/2",
            "snapmerge-diff/2",
        ];
        let format = value["format"].as_str().unwrap_or("nothing").to_owned();
        match format.as_str() {
            "snapmerge-run/2" => read(value, file).map(Self::Run),
            "snapmerge-verify/2" => read(value, file).map(Self::Verify),
            "snapmerge-merge/2" => read(value, file).map(Self::Merge),
            "snapmerge-diff/2" => read(value, file).map(Self::Diff),
            _ => Err(Error::usage(
                format!("reading {file}"),
                format!("its format is {format}, not one of {}", FORMATS.join(", ")),
            )
            .next("give what this version of snapmerge printed with --json")),
        }
    }

    /// The title of the section, and its content.
    fn show(&self) -> Result<(String, Markup)> {
        match self {
            Self::Merge(report) => merge(report),
            Self::Verify(report) => verify::section(report),
            Self::Diff(report) => diff(report),
            Self::Run(report) => Ok(run::section(report)),
        }
    }
}

/// The page that shows `sections`, in their order.
pub fn page(sections: &[Section]) -> Result<String> {
    let mut shown = Vec::new();
    for section in sections {
        shown.push(section.show()?);
    }
    let Some((title, _)) = shown.first() else {
        return Err(Error::usage("making a report", "there is nothing to show"));
    };
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
                main { @for (_, section) in &shown { (section) } }
                footer {
                    "Made by snapmerge " (env!("CARGO_PKG_VERSION"))
                    " of the JSON reports of its commands. This page refers to nothing outside itself."
                }
            }
        }
    };
    Ok(page.into_string())
}

fn merge(report: &MergeReport) -> Result<(String, Markup)> {
    let master = &report.master;
    let (class, words) = match report.proof.proven {
        true => ("proven", "MERGED AND PROVEN"),
        false => ("nothing", "MERGED, NOT PROVEN"),
    };
    let sources = report.sources.iter().map(|source| parts::SourceRow {
        name: &source.name,
        points: source.won,
        file_bytes: source.file_bytes,
        checksum: source.checksum.clone(),
    });
    let conflicts = &report.conflicts;
    let conflict_rows = conflicts.first.iter().map(|one| {
        [
            format!("point {}", one.id),
            one.sources.join(", "),
            one.winner.clone(),
        ]
    });
    let findings = report.findings.iter().map(|finding| {
        let value = |value: &crate::format::schema::SourceValue| {
            format!("{} ({})", value.value, value.source)
        };
        let values: Vec<String> = finding.values.iter().map(value).collect();
        [
            finding.about.clone(),
            values.join(", "),
            finding.meaning.clone(),
        ]
    });
    let on_conflict = &report.provenance.on_conflict;
    let section = html! {
        (verdict(&master.file, class, words))
        p {
            strong { (master.points) " points" }
            @if let Some(bytes) = master.file_bytes { " in " (format_size(bytes, BINARY)) }
            ". Route " (report.route) ", because " (report.because) "."
        }
        p { "Compared: " (report.proof.compared) "." }
        (open_ends(&[("Missing", &report.missing), ("Differences", &report.differences)]))
        (parts::sources(sources)?)
        h2 { "Conflicts" }
        p { (conflicts.count) " ids are in more than one source; " (conflicts.policy) " wins." }
        (table("Conflicts", &["point", "in", "winner"], conflict_rows))
        @if !report.findings.is_empty() {
            h2 { "Configs that differ" }
            (table("Configs that differ", &["setting", "values", "meaning"], findings))
        }
        (parts::stages(&report.stages)?)
        (provenance(&report.envelope, report.seconds, &[
            ("conflicts won by", Some(on_conflict)),
            ("SHA-256 of the master", master.sha256.as_ref()),
            ("digest of the points", master.digest.as_ref()),
        ]))
    };
    Ok((format!("{}: {words}", master.file), section))
}

fn diff(report: &DiffReport) -> Result<(String, Markup)> {
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
    let bars: Vec<charts::Bar> = kinds
        .iter()
        .enumerate()
        .map(|(series, (kind, count))| charts::Bar::of_count(*kind, *count, series))
        .collect();
    let kinds = kinds.map(|(kind, count)| [kind.to_owned(), count.to_string()]);
    let changed = |what: &'static str| {
        move |(name, count): (&String, &u64)| {
            [format!("changed {what} '{name}'"), count.to_string()]
        }
    };
    let rows = kinds
        .into_iter()
        .chain(points.changed_vectors.iter().map(changed("vector")))
        .chain(points.changed_payload.iter().map(changed("payload key")));
    let first = report
        .first
        .iter()
        .map(|change| (change.id.to_string(), parts::details(change)));
    let section = html! {
        (verdict(&name, class, words))
        (PreEscaped(charts::bars("Points", &bars)?))
        (table("Points", &["points", "how many"], rows))
        (parts::differences(first, report.ledger.as_deref()))
        (open_ends(&[("Missing", &report.missing), ("Written to meanwhile", &report.changed)]))
        (parts::settings(&report.settings))
    };
    Ok((format!("{name}: {words}"), section))
}

#[cfg(test)]
mod tests;
