//! `snapmerge run`: a whole night by a plan.
//!
//! Keeps true: the plan is checked before anything is done; what went wrong is in the summary, and in
//! the exit code.

use super::args::{LogFormat, RunArgs};
use super::{Ended, OutputArgs, print_answer, print_report};
use crate::base::error::{Error, Result};
use crate::nightly::{self, Finished, Plan, dry_run};
use crate::report::html::{self, Section};

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
    let run = Section::Run(Box::new(finished.report().clone()));
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
