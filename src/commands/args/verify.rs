//! The arguments of `verify`.
//!
//! Keeps true: what decides about points is what `merge` was given, under the same names.

use std::path::PathBuf;

use clap::Args;

use super::{ConnectionArgs, LayoutChoice, ReadingArgs};
use crate::point::Sample;
use crate::stream::Policy;

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = r#"Examples:
  snapmerge verify album_master.snapshot --against album_2017.snapshot album_2018.snapshot
  snapmerge verify master.snapshot.gz --against a.snapshot.gz b.snapshot.gz --ledger differences.jsonl --deep
  snapmerge verify master.snapshot --against a.snapshot b.snapshot --sample 1% --json
  snapmerge verify master.snapshot --against a.snapshot b.snapshot --queries 200 --top 10 --structure 500
  snapmerge verify http://prod:6333/album_master --against archive:album_2017@latest b.snapshot --archive backups
  snapmerge verify http://prod:6333/album_master --against http://prod:6333/album_2017 http://prod:6333/album_2018 --sample 1%
  snapmerge verify master.snapshot --against a.snapshot b.snapshot --structure 500 --cluster-url http://localhost:8001/cluster
  snapmerge verify old.snapshot --against a.snapshot b.snapshot --no-provenance --on-conflict first --stamp year

A live master is read over gRPC, by the ids of a --sample alone if there is one; its config and payload
indexes are the server's own, and where its points lie is asked of the shards. What the master was made
with is read from MASTER.provenance.json, which merge writes; flags given here go first. Of a grafted master, segments that are the sources' byte for byte are proven by that; every
other point is compared bit by bit. Exits with 3 if anything differs, or if there was nothing to look at."#)]
pub struct VerifyArgs {
    /// The master: a snapshot file, plain or .gz, archive:NAME@DATE, or a live collection as
    /// http://HOST:6333/COLLECTION
    #[arg(value_name = "MASTER")]
    pub master: PathBuf,
    /// The sources that it was made of, each a file, archive:NAME@DATE, or a live collection
    #[arg(long, required = true, num_args = 1.., value_name = "SOURCE")]
    pub against: Vec<PathBuf>,
    /// What the master was made with [default: MASTER.provenance.json]; a merge's JSON report will do
    #[arg(long, value_name = "FILE", conflicts_with = "no_provenance")]
    pub provenance: Option<PathBuf>,
    /// Go by the flags alone; without any, by merge's defaults
    #[arg(long)]
    pub no_provenance: bool,
    /// Compare the points one by one even where bytes would show that they are right
    #[arg(long)]
    pub deep: bool,
    /// Compare only this share of the points, by the hashes of their ids
    #[arg(long, value_name = "PERCENT", conflicts_with = "deep")]
    pub sample: Option<Sample>,
    /// Compare answers too: the nearest points to so many vectors of the sources, by exact search in
    /// the sources and in the master, and by the master's indexes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub queries: Option<u32>,
    /// How many nearest points --queries asks for
    #[arg(long, value_name = "K", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub top: u32,
    /// Look for clusters among so many points of each source and of the master, and say how well
    /// they are apart
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(20..=5000))]
    pub structure: Option<u32>,
    /// By how much the silhouette of the master's clusters may be lower than the sources'
    #[arg(
        long,
        value_name = "DROP",
        default_value = "0.2",
        requires = "structure"
    )]
    pub max_drop: f64,
    /// Have this service look for the clusters of --structure instead: it is sent
    /// {"data": VECTORS, "algorithm": "hdbscan"} and answers {"labels": [0, 1, -1]}
    #[arg(long, value_name = "URL", requires = "structure")]
    pub cluster_url: Option<String>,
    /// Write every difference to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Replace the ledger if it exists
    #[arg(long)]
    pub force: bool,
    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Do not show progress
    #[arg(long, short)]
    pub quiet: bool,
    /// Where to unpack [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub made: MadeArgs,
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

/// What the master was made with.
#[derive(Debug, Args)]
#[command(next_help_heading = "What the master was made with")]
pub struct MadeArgs {
    /// Who won conflicts
    #[arg(long, value_name = "POLICY")]
    pub on_conflict: Option<Policy>,
    /// The payload field that has the source's name
    #[arg(long, value_name = "FIELD")]
    pub stamp: Option<String>,
    /// What --stamp wrote for a source instead of its name: JSON, else text; repeat it for more
    #[arg(long, value_name = "SOURCE=VALUE", requires = "stamp")]
    pub stamp_value: Vec<String>,
    /// Only points that match this filter were taken, in Qdrant's filter language
    #[arg(long, value_name = "JSON")]
    pub filter: Option<String>,
    /// This top-level payload key was left out; repeat it for more
    #[arg(long, value_name = "KEY")]
    pub drop_payload: Vec<String>,
    /// How the master is laid out: same (as the sources) or by-source (a shard key for each source)
    #[arg(long, value_name = "LAYOUT")]
    pub layout: Option<LayoutChoice>,
}
