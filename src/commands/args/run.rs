//! The arguments of `run` and `init`.
//!
//! Keeps true: what a night does is said by its plan; only what is different this time is typed.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge init > nightly.toml
  snapmerge init --schema > nightly.schema.json

The plan has every key, most of them commented out with what is assumed without them. Editors that know the
schema name what is misspelt while it is typed.")]
pub struct InitPlanArgs {
    /// Print the JSON schema of plans instead
    #[arg(long)]
    pub schema: bool,
}

/// How what goes on is told.
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

A run that was killed or failed is gone on with by the next one: what was done is checked and not done again.
A source that nothing was written to is not captured again, and a master of the same sources is not made
again. Two runs of one plan at once: the second exits with 11. `snapmerge init` prints a plan to start from.")]
pub struct RunArgs {
    /// The plan
    #[arg(value_name = "PLAN")]
    pub plan: PathBuf,
    /// Check the plan and its servers, print what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Begin a night anew, even if there is one that was broken off
    #[arg(long)]
    pub fresh: bool,
    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// How what goes on is told on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Print and log only what is wrong
    #[arg(long, short)]
    pub quiet: bool,
}
