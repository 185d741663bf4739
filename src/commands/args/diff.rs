//! The arguments of `diff`.
//!
//! Keeps true: the first side is what was, the second what is.

use std::path::PathBuf;

use clap::Args;

use super::{ConnectionArgs, ReadingArgs};
use crate::point::Sample;

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge diff monday.snapshot tuesday.snapshot
  snapmerge diff monday.snapshot.gz tuesday.snapshot.gz --jsonl > changes.jsonl
  snapmerge diff monday.snapshot tuesday.snapshot --json --ledger changes.jsonl --sync-plan plan.jsonl
  snapmerge diff archive:album@2026-11-21 archive:album@latest --archive backups
  snapmerge diff monday.snapshot http://prod:6333/album

Points are compared bit by bit. Exits with 3 if anything differs.")]
pub struct DiffArgs {
    /// What was before: a snapshot file, plain or .gz, archive:NAME@DATE, or a live collection as
    /// http://HOST:6333/COLLECTION
    #[arg(value_name = "BEFORE")]
    pub before: PathBuf,
    /// What is there afterwards
    #[arg(value_name = "AFTER")]
    pub after: PathBuf,
    /// Print the summary as JSON on standard output
    #[arg(long, conflicts_with = "jsonl")]
    pub json: bool,
    /// Print every change on standard output as a JSON line, and no summary
    #[arg(long)]
    pub jsonl: bool,
    /// Write every change to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Write what brings BEFORE to the state of AFTER to this file, as JSON lines: which points to
    /// upsert and which to delete
    #[arg(long, value_name = "FILE")]
    pub sync_plan: Option<PathBuf>,
    /// Replace these files if they exist
    #[arg(long)]
    pub force: bool,
    /// Compare only this share of the points, by the hashes of their ids
    #[arg(long, value_name = "PERCENT")]
    pub sample: Option<Sample>,
    /// Do not show progress
    #[arg(long, short)]
    pub quiet: bool,
    /// Where to unpack [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Read snapshots that lack shards or whose replica was not active
    #[arg(long)]
    pub allow_incomplete: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub reading: ReadingArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub connection: ConnectionArgs,
}
