//! `snapmerge drill`: archived snapshots restored and proven, as after a disaster.

use clap::Args;

use super::{Ended, OutputArgs, print_report, warn};
use crate::base::error::Result;
use crate::drill::DrillRequest;
use crate::worker;

/// Arguments of `drill`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge drill --archive backups
  snapmerge drill --archive backups album_master@latest album_2017@2026-11-01
  snapmerge drill --archive s3://backups/qdrant --to http://dr:6333 --json

Restores as after a disaster: bytes by their SHA-256, then all shards opened by the engine, every point
read, and compared with what was written down when it was captured, merged and restored before. Without
an ENTRY it takes the newest master and, of everything else, the newest entry of what was proven longest
ago, so that run night after night it comes round to all. What is proven is written into the archive's
chain: archive ls tells the last time.")]
pub struct DrillArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub request: DrillRequest,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub output: OutputArgs,
}

/// Runs the command.
pub fn run(args: &DrillArgs) -> Result<Ended> {
    let report = worker::call(&args.request, &args.output.context(), None)?;
    let ended = print_report(&report, args.output);
    for failed in &report.failed {
        warn(&failed.error.to_string());
    }
    ended
}
