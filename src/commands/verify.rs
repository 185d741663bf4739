//! `snapmerge verify`: is the master the union of its sources?

use clap::Args;

use super::{Ended, OutputArgs, show};
use crate::base::error::Result;
use crate::verify::VerifyRequest;

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = r#"Examples:
  snapmerge verify album_master.snapshot --against album_2017.snapshot album_2018.snapshot
  snapmerge verify master.snapshot.gz --against a.snapshot.gz b.snapshot.gz --ledger differences.jsonl --deep
  snapmerge verify master.snapshot --against a.snapshot b.snapshot --sample 1% --json
  snapmerge verify master.snapshot --against a.snapshot b.snapshot --queries 200 --top 10 --structure 500
  snapmerge verify http://prod:6333/album_master --against archive:album_2017@latest b.snapshot --archive backups
  snapmerge verify http://prod:6333/album_master --against http://prod:6333/album_2017 http://prod:6333/album_2018 --sample 1%
  snapmerge verify http://n1:6333/album_master --against a.snapshot --peer 81=http://n2:6333 --peer 99=http://n3:6333
  snapmerge verify master.snapshot --against a.snapshot b.snapshot --structure 500 --cluster-url http://localhost:8001/cluster
  snapmerge verify old.snapshot --against a.snapshot b.snapshot --no-provenance --on-conflict first --stamp year

A live master is read over gRPC, by the ids of a --sample alone if there is one; its config and payload
indexes are the server's own, and where its points lie is asked of the shards. What the master was made
with is read from MASTER.provenance.json, which merge writes; flags given here go first. Of a grafted master, segments that are the sources' byte for byte are proven by that; every
other point is compared bit by bit. Exits with 3 if anything differs, or if no point was in the sample."#)]
pub struct VerifyArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub request: VerifyRequest,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub output: OutputArgs,
}

/// Runs the command.
pub fn run(args: VerifyArgs) -> Result<Ended> {
    show(&args.request, args.output)
}
