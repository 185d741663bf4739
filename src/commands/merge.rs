//! `snapmerge merge`: many snapshots into one master.

use clap::Args;

use super::{Ended, OutputArgs, answer, show};
use crate::base::error::Result;
use crate::merge::{MergeRequest, PlanRequest};

/// Arguments of `merge`.
#[derive(Debug, Args)]
#[command(after_help = r#"Examples:
  snapmerge merge album_2017.snapshot album_2018.snapshot album_2019.snapshot -o album_master.snapshot
  snapmerge merge a.snapshot b.snapshot -o master.snapshot --on-conflict newest:updated_at --ledger conflicts.jsonl
  snapmerge merge a.snapshot.gz b.snapshot.gz -o master.snapshot.gz --stamp source --shards 3
  snapmerge merge album_2017.snapshot -o year.snapshot --stamp year --stamp-value album_2017=2017
  snapmerge merge a.snapshot b.snapshot -o master.snapshot --route rebuild --indexing-threshold 10000
  snapmerge merge a.snapshot b.snapshot -o master.snapshot --layout by-source
  snapmerge merge 'full.snapshot#album_*' -o album_master.snapshot
  snapmerge merge a.snapshot b.snapshot -o master.snapshot --layout by-field:tenant
  snapmerge merge a.snapshot b.snapshot -o master.snapshot --rename-vector embedding=image --drop-vector draft
  snapmerge merge a.snapshot archive:b@2026-11-01 --archive backups -o master.snapshot
  snapmerge merge a.snapshot b.snapshot -o master.snapshot --dry-run
  snapmerge merge http://prod:6333/album_2017 b.snapshot -o master.snapshot
  snapmerge merge http://prod:6333/album_2017 b.snapshot --into http://prod:6333/album_master_20261122
  snapmerge merge a.snapshot b.snapshot --into http://prod:6333/album_master_20261122 --sync
  snapmerge merge http://n1:6333/album -o master.snapshot --peer 81=http://n2:6333
  snapmerge merge old.snapshot b.snapshot --route scratch --scratch-server http://spare:6333 -o master.snapshot"#)]
pub struct MergeArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub request: MergeRequest,
    /// Print the plan and do nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub output: OutputArgs,
}

/// Runs the command.
pub fn run(args: MergeArgs) -> Result<Ended> {
    let output = OutputArgs {
        quiet: true,
        ..args.output
    };
    match args.dry_run {
        true => answer(
            &PlanRequest {
                merge: args.request,
            },
            output,
        ),
        false => show(&args.request, args.output),
    }
}
