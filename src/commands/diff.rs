//! `snapmerge diff`: what changed from one snapshot, archive entry or live collection to another.

use clap::Args;

use super::{Ended, OutputArgs, show};
use crate::base::error::{Error, Result};
use crate::verify::DiffRequest;
use crate::worker;

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge diff monday.snapshot tuesday.snapshot
  snapmerge diff monday.snapshot.gz tuesday.snapshot.gz --jsonl > changes.jsonl
  snapmerge diff monday.snapshot tuesday.snapshot --json --ledger changes.jsonl --sync-plan plan.jsonl
  snapmerge diff archive:album@2026-11-21 archive:album@latest --archive backups
  snapmerge diff monday.snapshot http://prod:6333/album
  snapmerge diff monday.snapshot http://n1:6333/album --peer 81=http://n2:6333 --peer 99=http://n3:6333

Points are compared bit by bit. Exits with 3 if anything differs.")]
pub struct DiffArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub request: DiffRequest,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub output: OutputArgs,
}

/// Runs the command.
pub fn run(args: DiffArgs) -> Result<Ended> {
    if !args.request.jsonl {
        return show(&args.request, args.output);
    }
    if args.output.json {
        return Err(Error::usage(
            "printing the changes",
            "--json and --jsonl both want standard output",
        )
        .next("give one of them"));
    }
    let report = worker::call(&args.request, &args.output.context(), None)?;
    Ok(report.envelope.outcome.kind())
}
