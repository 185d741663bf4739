//! `snapmerge run`: a whole night by a plan.
//!
//! Invariants: the plan is checked before anything is done; what went wrong is in the summary, and in
//! the exit code.

use std::path::PathBuf;

use clap::Args;

use super::{Ended, OutputArgs, print_answer, print_report};
use crate::base::error::{Error, Result};
use crate::nightly::{self, Finished, Plan, dry_run};
use crate::report::html::{self, Section};

/// Format of log lines on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object in each line, with the spans that it happened in.
    Json,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge run nightly.toml --dry-run
  snapmerge run nightly.toml
  snapmerge run nightly.toml --json --log-format json

A run that was killed or failed is resumed by the next one: what was done is checked and not done again.
A source that nothing was written to is not captured again, and a master of the same sources is not made
again. Two runs of one plan at once: the second exits with 11. `snapmerge init` prints a plan to start from.")]
pub struct RunArgs {
    /// The plan
    #[arg(value_name = "PLAN")]
    pub plan: PathBuf,
    /// Check the plan and its servers, print what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Begin a night anew, even if there is one that was interrupted
    #[arg(long)]
    pub fresh: bool,
    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Format of log lines on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Print and log only what is wrong
    #[arg(long, short)]
    pub quiet: bool,
}

/// Runs the command.
pub fn run(args: &RunArgs) -> Result<Ended> {
    log(args)?;
    let plan = Plan::read(&args.plan, &|name| std::env::var(name).ok())?;
    let output = OutputArgs {
        json: args.json,
        quiet: args.quiet,
    };
    if args.dry_run {
        return print_answer(&dry_run(&plan)?, output.json);
    }
    let finished = nightly::run(&plan, args.fresh)?;
    let page = page(&finished);
    print_report(&finished.publish(page), output)
}

/// The HTML page of a run, with the reports of its steps.
fn page(finished: &Finished<'_>) -> Result<String> {
    let steps = finished.steps();
    let report = Box::new(finished.report().clone());
    let run = Section::Run(report, finished.history().cloned());
    let merge = steps
        .merge
        .clone()
        .map(|report| Section::Merge(Box::new(report)));
    let verify = steps
        .verify
        .clone()
        .map(|report| Section::Verify(Box::new(report)));
    let sections: Vec<Section> = [Some(run), merge, verify].into_iter().flatten().collect();
    html::page(&sections)
}

/// Sends what goes on to standard error.
fn log(args: &RunArgs) -> Result<()> {
    let level = match args.quiet {
        true => tracing::Level::WARN,
        false => tracing::Level::INFO,
    };
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        // Whoever read the log may be gone; the night goes on.
        .log_internal_errors(false)
        .with_target(false);
    let set = match args.log_format {
        LogFormat::Text => tracing::subscriber::set_global_default(log.with_ansi(false).finish()),
        LogFormat::Json => tracing::subscriber::set_global_default(log.json().finish()),
    };
    set.map_err(|err| Error::failed("preparing the log", err))
}
