//! `snapmerge inspect`: looks into snapshots and tells what is there.

use clap::Args;

use super::{Ended, OutputArgs, print_answer};
use crate::base::error::Result;
use crate::base::operation::Operation as _;
use crate::inspect::InspectRequest;

/// Arguments of `inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge inspect album_2017.snapshot
  snapmerge inspect album_2017.snapshot album_2018.snapshot.gz --json
  snapmerge inspect archive:album_2017@2026-11-01 --archive backups
  snapmerge inspect full.snapshot

With several snapshots it also says what would stop them from being merged, and what only differs.
Nothing is unpacked; of a plain file only headers and small files are read.")]
pub struct InspectArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub request: InspectRequest,
    /// Print the same as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: InspectArgs) -> Result<Ended> {
    let output = OutputArgs {
        json: args.json,
        quiet: true,
    };
    let inspection = args.request.run(&output.context())?;
    match &inspection.lone_error {
        // A lone file that cannot be looked into is an error like any other command's.
        Some(err) if !args.json => Err(err.clone()),
        _ => print_answer(&inspection, output.json),
    }
}
