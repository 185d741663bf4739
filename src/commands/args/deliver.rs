//! The arguments of `restore`, `publish` and `rollback`.
//!
//! Keeps true: what is typed is only parsed here.

use std::path::PathBuf;

use clap::Args;

use crate::input::InputOptions;
use crate::publish::Allow;
use crate::server::{
    Address, CollectionAddress, ConnectionOptions, PeerAddress, Rate, StateOptions,
};

/// How servers are spoken to, and where what is remembered of them lies.
#[derive(Debug, Clone, Args)]
#[expect(missing_docs, reason = "flattened")]
pub struct KnownServers {
    #[command(flatten)]
    pub state: StateOptions,
    #[command(flatten)]
    pub connection: ConnectionOptions,
}

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
    /// A collection snapshot, plain or .gz; or one in an archive, as archive:NAME@DATE
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: PathBuf,
    /// The collection to make of it, as http://HOST:6333/NAME
    #[arg(long, value_name = "ADDRESS")]
    pub to: CollectionAddress,
    /// Write over a collection that is there; it keeps its own settings
    #[arg(long)]
    pub overwrite: bool,
    /// Go on with what an earlier run began
    #[arg(long)]
    pub resume: bool,
    /// Keep what differs, to look at it
    #[arg(long)]
    pub keep_failed: bool,
    /// Print what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replicas of each shard [default: as the snapshot's config says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub replication_factor: Option<u32>,
    /// Where a member of the cluster answers REST; repeat it for each. GET /cluster tells the ids
    #[arg(long, value_name = "ID=URL")]
    pub peer: Vec<PeerAddress>,
    /// Bytes a second at the most, as 500k, 20M or 1G
    #[arg(long, value_name = "RATE")]
    pub limit_rate: Option<Rate>,
    /// How long the collection may take to become green, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub wait: u64,
    /// Where a snapshot in an archive is put together [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Restore a snapshot that lacks shards or whose replica was not active
    #[arg(long)]
    pub allow_incomplete: bool,
    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Show no progress, and print only what is wrong
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub reading: InputOptions,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub known: KnownServers,
}

/// Arguments of `publish`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge publish http://prod:6333 album_master_20261122 --alias album_master --keep 3
  snapmerge publish http://prod:6333 album_master_20261122 --alias album_master --dry-run
  snapmerge publish http://prod:6333 small_master --alias album_master --max-shrink 20% --allow missing-indexes

The alias moves in one call. What it pointed to is remembered, for rollback.")]
pub struct PublishArgs {
    /// The server, as http://HOST:6333
    #[arg(value_name = "SERVER")]
    pub server: Address,
    /// The collection that the alias is to point to
    #[arg(value_name = "COLLECTION")]
    pub collection: String,
    /// The alias
    #[arg(long, value_name = "NAME")]
    pub alias: String,
    /// Keep the last N masters of this alias that snapmerge published, and remove older ones that
    /// nothing points to [default: keep all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: Option<u32>,
    /// How many fewer points than the old master the new one may have
    #[arg(long, value_name = "PERCENT%", default_value = "5%", value_parser = percent)]
    pub max_shrink: f64,
    /// Publish although: not-green, empty, missing-indexes; repeat it for more
    #[arg(long, value_name = "WHAT")]
    pub allow: Vec<Allow>,
    /// Print what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub known: KnownServers,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge rollback http://prod:6333 --alias album_master
  snapmerge rollback http://prod:6333 --alias album_master --dry-run

It goes one step back each time; what the alias pointed to until then stays.")]
pub struct RollbackArgs {
    /// The server, as http://HOST:6333
    #[arg(value_name = "SERVER")]
    pub server: Address,
    /// The alias
    #[arg(long, value_name = "NAME")]
    pub alias: String,
    /// Go back although: not-green, moved; repeat it for more
    #[arg(long, value_name = "WHAT")]
    pub allow: Vec<Allow>,
    /// Print what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub known: KnownServers,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end();
    number
        .parse()
        .ok()
        .filter(|percent: &f64| (0.0..=100.0).contains(percent))
        .ok_or_else(|| "give a percentage from 0% to 100%".to_owned())
}
