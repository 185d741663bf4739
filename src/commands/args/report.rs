//! The arguments of `report`.
//!
//! Keeps true: what is shown was told by other commands.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `report`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge report verify.json -o report.html
  snapmerge report verify.json merge.json -o report.html --force

The files are what verify, merge and diff print with --json. The page is one file without any
reference to another, for light and dark screens, keyboards, screen readers and paper.")]
pub struct ReportArgs {
    /// JSON reports of verify, merge or diff; the first one's verdict stands first
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// The page to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace the page if it exists
    #[arg(long)]
    pub force: bool,
}
