//! `snapmerge restore`: a master onto a server.

use clap::Args;

use super::{Ended, OutputArgs, print_answer, print_report, warn};
use crate::base::error::Result;
use crate::base::operation::Operation as _;
use crate::restore::RestoreRequest;

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge restore album_master.snapshot --to http://prod:6333/album_master_20261122
  snapmerge restore album_master.snapshot.gz --to http://prod:6333/album_master_20261122 --dry-run
  snapmerge restore archive:album_2017@2026-11-01 --archive backups --to http://dr:6333/album_2017
  snapmerge restore master.snapshot --to http://n1:6333/master --peer 81=http://n2:6333 --peer 99=http://n3:6333

Looked at before a byte moves: the name, the server's version, shards and shard keys. Compared afterwards:
exact counts of each shard, config, payload indexes, vectors in an index. If anything differs it exits with 3
and the new collection is removed again.")]
pub struct RestoreArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub request: RestoreRequest,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub output: OutputArgs,
}

/// Runs the command.
pub fn run(args: RestoreArgs) -> Result<Ended> {
    let is_plan = args.request.dry_run;
    let report = args.request.run(&args.output.context())?;
    let ended = match is_plan {
        true => print_answer(&report, args.output.json),
        false => print_report(&report, args.output),
    };
    for left in &report.restored.left {
        warn(&format!("could not be removed: {left}"));
    }
    ended
}
