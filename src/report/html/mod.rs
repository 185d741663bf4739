//! Reports as one HTML page.
//!
//! Invariants: the page refers to nothing outside itself and runs no script; the verdict stands
//! first; every number of a chart stands in a table too; text of a report is text on the page,
//! whatever it contains.

mod charts;
mod diff;
mod history;
mod merge;
mod parts;
mod run;
mod verify;
mod words;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::parts::Place;
use crate::base::error::{Error, Result};
use crate::merge::MergeReport;
use crate::nightly::{RunHistory, RunReport};
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
    /// Of a nightly run, with the runs before it if they are known. Reports after it are of its steps.
    Run(Box<RunReport>, Option<RunHistory>),
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
            "snapmerge-run/2" => read(value, file).map(|report| Self::Run(report, None)),
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
    fn show(&self, place: Place) -> Result<(String, Markup)> {
        match self {
            Self::Merge(report) => merge::section(report, place),
            Self::Verify(report) => verify::section(report, place),
            Self::Diff(report) => diff::section(report, place),
            Self::Run(report, history) => run::section(report, history.as_ref(), place),
        }
    }
}

/// The page that shows `sections`, in their order.
pub fn page(sections: &[Section]) -> Result<String> {
    let mut shown = Vec::new();
    let mut is_step = false;
    for section in sections {
        let is_run = matches!(section, Section::Run(..));
        let place = Place {
            is_first: shown.is_empty(),
            is_step: is_step && !is_run,
        };
        shown.push(section.show(place)?);
        is_step |= is_run;
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
                main { @for (_, content) in &shown { section { (content) } } }
                footer {
                    "Made by snapmerge " (env!("CARGO_PKG_VERSION"))
                    " from the reports of its commands. This page refers to nothing outside itself."
                }
            }
        }
    };
    Ok(page.into_string())
}

#[cfg(test)]
mod tests;
