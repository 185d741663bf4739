//! The verbs, one file each.
//!
//! Invariants: a command parses, calls one operation, and prints its report; it holds no logic.

pub mod archive;
pub mod capture;
pub mod diff;
pub mod drill;
pub mod export;
pub mod ingest;
pub mod init;
pub mod inspect;
pub mod job;
pub mod merge;
pub mod publish;
pub mod report;
pub mod restore;
pub mod rollback;
pub mod run;
pub mod schema;
pub mod split;
pub mod verify;

use std::io::{self, Write as _};

use clap::Args;
use serde::Serialize;

use crate::base::error::{Error, Kind, Result};
use crate::base::operation::{Context, Operation};
use crate::base::printable::{printable_json, printable_lines};
use crate::base::progress::{Progress, note as warn};
use crate::report::Render;
use crate::worker;

/// Outcome of a command that did what it could and has reported everything; `None` if there is nothing to
/// say.
pub type Ended = Option<Kind>;

/// Output options that all commands share.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Show no progress, and print a report only of what is wrong
    #[arg(long, short)]
    pub quiet: bool,
}

impl OutputArgs {
    /// Returns true if nothing is printed about what went well.
    pub fn is_silent(self) -> bool {
        self.quiet && !self.json
    }

    /// The context of an operation that talks so.
    pub fn context(self) -> Context {
        Context {
            progress: progress(self.quiet),
        }
    }
}

/// Has a worker run `request`, and prints its report.
fn show<O: Operation<Report: Render>>(request: &O, output: OutputArgs) -> Result<Ended> {
    print_report(&worker::call(request, &output.context(), None)?, output)
}

/// The same for an operation whose report is all that was asked for.
fn answer<O: Operation<Report: Render>>(request: &O, output: OutputArgs) -> Result<Ended> {
    print_answer(
        &worker::call(request, &output.context(), None)?,
        output.json,
    )
}

/// Prints a report, if it is to be, and says how the operation ended.
fn print_report(report: &(impl Render + Serialize), output: OutputArgs) -> Result<Ended> {
    match report.outcome().kind() {
        None if output.is_silent() => Ok(None),
        _ => print_answer(report, output.json),
    }
}

/// Prints a report, and says how the operation ended.
fn print_answer(report: &(impl Render + Serialize), json: bool) -> Result<Ended> {
    match json {
        true => print_json(report)?,
        false => print(&report.render())?,
    }
    Ok(report.outcome().kind())
}

/// Prints `value` as JSON.
fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|err| Error::failed("writing the report", err))?;
    write_out(&format!("{}\n", printable_json(&text)))
}

/// Prints `text`. A reader that has seen enough is no failure.
pub fn print(text: &str) -> Result<()> {
    write_out(&printable_lines(text))
}

fn write_out(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::failed("writing the report to standard output", err))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn progress(quiet: bool) -> Progress {
    match quiet {
        true => Progress::Quiet,
        false => Progress::Shown,
    }
}
