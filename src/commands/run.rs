//! `snapmerge run`: a whole night by a plan.
//!
//! Keeps true: the plan is checked before anything is done; what went wrong is in the summary, and in
//! the exit code.

use std::ffi::OsString;

use clap::{Args as _, FromArgMatches as _};

use super::args::{LogFormat, MergeArgs, RunArgs};
use super::{Ended, merge};
use crate::base::error::{Error, Kind, Result};
use crate::nightly::{Hand, Options, Plan, Reader, look, run as night};

/// Runs the command; `hand` runs processes of their own, `code` says what each outcome exits with.
pub fn run(args: &RunArgs, hand: Hand<'_>, code: &dyn Fn(Option<Kind>) -> u8) -> Result<Ended> {
    log(args)?;
    let reader = Reader {
        variable: &|name| std::env::var(name).ok(),
        merge: &takes,
    };
    let plan = Plan::read(&args.plan, reader)?;
    if args.dry_run {
        let look = look(&plan)?;
        match args.json {
            true => super::print_json(&look)?,
            false => super::print(&look.text())?,
        }
        return Ok(look.kind);
    }
    let options = Options {
        hand,
        fresh: args.fresh,
        code,
    };
    let told = night(&plan, options)?;
    match args.json {
        true => super::print_json(&told)?,
        false => super::print(&told.text())?,
    }
    Ok(told.kind)
}

/// Whether `merge` takes these arguments.
fn takes(args: &[OsString]) -> Result<()> {
    let command = MergeArgs::augment_args(clap::Command::new("merge").no_binary_name(true));
    let failed = |err: clap::Error| {
        let text = err.to_string();
        let why = text.lines().next().unwrap_or_default();
        Error::usage("reading its flags", why.trim_start_matches("error: "))
    };
    let matches = command.try_get_matches_from(args).map_err(failed)?;
    let args = MergeArgs::from_arg_matches(&matches).map_err(failed)?;
    merge::settings(&args).map(|_| ())
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
