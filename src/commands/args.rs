//! The arguments of the verbs.
//!
//! Keeps true: what is typed is only parsed here; what it means is settled by each command. Every
//! help text ends with an example, and a test runs them all through the parser.

pub mod archive;
mod capture;
mod connection;
mod deliver;
mod diff;
pub mod drill;
mod live;
mod report;
mod run;
mod verify;

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

pub use self::capture::CaptureArgs;
pub use self::connection::ConnectionArgs;
pub use self::deliver::{KnownServers, PublishArgs, RestoreArgs, RollbackArgs, StateArgs};
pub use self::diff::DiffArgs;
pub use self::live::LiveArgs;
pub use self::report::ReportArgs;
pub use self::run::{InitPlanArgs, LogFormat, RunArgs};
pub use self::verify::VerifyArgs;

use self::archive::FromArchive;
use crate::merge::Route;
use crate::stream::Policy;

/// Checksums of sources, for every command that reads them.
#[derive(Debug, Clone, Args)]
pub struct ChecksumArgs {
    /// The SHA-256 that a source must have; repeat it for more. Qdrant's own FILE.checksum beside a
    /// source is looked for without this
    #[arg(long, value_name = "FILE=HEX")]
    pub sha256: Vec<String>,
    /// Refuse sources that have no checksum
    #[arg(long)]
    pub require_checksum: bool,
}

/// How snapshots are read, for every command that does.
#[derive(Debug, Clone, Args)]
#[expect(missing_docs, reason = "flattened")]
pub struct ReadingArgs {
    #[command(flatten)]
    pub checksums: ChecksumArgs,
    #[command(flatten)]
    pub from_archive: FromArchive,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge inspect album_2017.snapshot
  snapmerge inspect album_2017.snapshot album_2018.snapshot.gz --json
  snapmerge inspect archive:album_2017@2026-11-01 --archive backups

With several snapshots it also says what would stop them from being merged, and what only differs.
Nothing is unpacked; of a plain file only headers and small files are read.")]
pub struct InspectArgs {
    /// Snapshot files, plain or .gz
    #[arg(required = true, value_name = "SNAPSHOT")]
    pub snapshots: Vec<PathBuf>,
    /// Print the same as JSON
    #[arg(long)]
    pub json: bool,
    /// Read every byte and compare the SHA-256
    #[arg(long)]
    pub check: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub reading: ReadingArgs,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = r#"Examples:
  snapmerge export album_master.snapshot > points.jsonl
  snapmerge export archive:album_2017@latest --archive backups --limit 10
  snapmerge export album_master.snapshot --ids 7,550e8400-e29b-41d4-a716-446655440000
  snapmerge export album_2017.snapshot --no-vectors --filter '{"must":[{"key":"year","match":{"value":2017}}]}' --limit 10"#)]
pub struct ExportArgs {
    /// A snapshot file, plain or .gz
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: PathBuf,
    /// Only these points, by id
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    pub ids: Option<Vec<String>>,
    /// Leave the vectors out
    #[arg(long)]
    pub no_vectors: bool,
    /// Only points that match this filter, in Qdrant's filter language
    #[arg(long, value_name = "JSON")]
    pub filter: Option<String>,
    /// At most this many points
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Where to unpack [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Read a snapshot that lacks shards or whose replica was not active; exit with 3
    #[arg(long)]
    pub allow_incomplete: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub reading: ReadingArgs,
}

/// What can be said of the route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteChoice {
    /// The best that can be taken.
    Auto,
    /// This one.
    Only(Route),
    /// Snapshots are read by a server.
    Scratch,
}

impl FromStr for RouteChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "scratch" => Ok(Self::Scratch),
            other => other.parse().map(Self::Only),
        }
    }
}

/// What can be said of the master's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LayoutChoice {
    /// As the sources.
    Same,
    /// A shard key for each source.
    BySource,
}

/// Arguments of `merge`.
#[derive(Debug, Args)]
#[command(after_help = r#"Examples:
  snapmerge merge album_2017.snapshot album_2018.snapshot album_2019.snapshot -o album_master.snapshot
  snapmerge merge a.snapshot b.snapshot -o master.snapshot --on-conflict newest:updated_at --ledger conflicts.jsonl
  snapmerge merge a.snapshot.gz b.snapshot.gz -o master.snapshot.gz --stamp source --shards 3
  snapmerge merge album_2017.snapshot -o year.snapshot --stamp year --stamp-value album_2017=2017
  snapmerge merge a.snapshot b.snapshot -o master.snapshot --route rebuild --indexing-threshold 10000
  snapmerge merge a.snapshot b.snapshot -o master.snapshot --layout by-source
  snapmerge merge a.snapshot archive:b@2026-11-01 --archive backups -o master.snapshot
  snapmerge merge a.snapshot b.snapshot -o master.snapshot --dry-run
  snapmerge merge http://prod:6333/album_2017 b.snapshot -o master.snapshot
  snapmerge merge http://prod:6333/album_2017 b.snapshot --into http://prod:6333/album_master_20261122
  snapmerge merge a.snapshot b.snapshot --into http://prod:6333/album_master_20261122 --sync
  snapmerge merge old.snapshot b.snapshot --route scratch --scratch-server http://spare:6333 -o master.snapshot"#)]
pub struct MergeArgs {
    /// What to merge: snapshot files, plain or .gz, and collections of a running Qdrant, as
    /// http://HOST:6333/COLLECTION; their order decides conflicts
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<PathBuf>,
    /// The master to write; compressed if it ends in .gz
    #[arg(short, long, value_name = "FILE", required_unless_present = "into")]
    pub output: Option<PathBuf>,
    /// Replace the output if it exists
    #[arg(long)]
    pub force: bool,
    /// Print the plan and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Do not show progress
    #[arg(long, short)]
    pub quiet: bool,
    /// Where to unpack and build [default: the folder of the output; with --into the system's
    /// folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// How the master comes to be: auto, graft (segments are carried over whole, with their graphs),
    /// rebuild (records are written into new shards and indexed anew), replay (records are written
    /// into the collection of --into) or scratch (snapshots that only a server can read are restored
    /// on --scratch-server, read there, and removed)
    #[arg(long, value_name = "ROUTE", default_value = "auto")]
    pub route: RouteChoice,
    /// How the master is laid out: same (as the sources) or by-source (a shard key for each source)
    #[arg(long, value_name = "LAYOUT", default_value = "same")]
    pub layout: LayoutChoice,
    /// Keep the sources' default_segment_number, so that a server merges carried segments
    #[arg(long, conflicts_with = "consolidate")]
    pub server_consolidates: bool,
    /// By the route graft, merge the carried segments now, until there are as few as the config
    /// wants: slower, and one graph to search instead of many
    #[arg(long)]
    pub consolidate: bool,
    /// Who wins when an id is in more than one source: last, first, newest:FIELD, fail, or remap
    /// (the first keeps the id, the others get new ones)
    #[arg(long, value_name = "POLICY", default_value = "last")]
    pub on_conflict: Policy,
    /// Write every conflict to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Write the source's name into this payload field of each point
    #[arg(long, value_name = "FIELD")]
    pub stamp: Option<String>,
    /// What --stamp writes for a source instead of its name: JSON, else text; repeat it for more
    #[arg(long, value_name = "SOURCE=VALUE", requires = "stamp")]
    pub stamp_value: Vec<String>,
    /// Only points that match this filter, in Qdrant's filter language
    #[arg(long, value_name = "JSON")]
    pub filter: Option<String>,
    /// Leave this top-level payload key out; repeat it for more
    #[arg(long, value_name = "KEY")]
    pub drop_payload: Vec<String>,
    /// Number of shards of the master [default: as the sources]
    #[arg(long, value_name = "N", help_heading = "Config of the master")]
    pub shards: Option<u32>,
    /// Edges per node of the HNSW graph
    #[arg(long, value_name = "N", help_heading = "Config of the master")]
    pub hnsw_m: Option<u64>,
    /// Neighbours considered while the HNSW graph is built
    #[arg(long, value_name = "N", help_heading = "Config of the master")]
    pub hnsw_ef_construct: Option<u64>,
    /// Whether vectors are left on disk
    #[arg(long, value_name = "true|false", help_heading = "Config of the master")]
    pub on_disk_vectors: Option<bool>,
    /// Whether payload is left on disk
    #[arg(long, value_name = "true|false", help_heading = "Config of the master")]
    pub on_disk_payload: Option<bool>,
    /// Size in KB from which a segment gets an index; 0 for never
    #[arg(long, value_name = "KB", help_heading = "Config of the master")]
    pub indexing_threshold: Option<u64>,
    /// Size in KB from which vectors are memory-mapped; 0 for never
    #[arg(long, value_name = "KB", help_heading = "Config of the master")]
    pub memmap_threshold: Option<u64>,
    /// Quantization: none, scalar, scalar:QUANTILE, product:xN or binary
    #[arg(long, value_name = "KIND", help_heading = "Config of the master")]
    pub quantization: Option<String>,
    /// Take the master's config from this file: a collection's config.json, or what PUT
    /// /collections/NAME takes
    #[arg(long, value_name = "FILE", help_heading = "Config of the master")]
    pub config: Option<PathBuf>,
    /// Give the master its name without reading it back and proving it
    #[arg(long)]
    pub no_verify: bool,
    /// Merge sources that lack shards or whose replica was not active; exit with 3
    #[arg(long)]
    pub allow_incomplete: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub reading: ReadingArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub live: LiveArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub connection: ConnectionArgs,
}
