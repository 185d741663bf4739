//! The arguments of `drill`.
//!
//! Keeps true: what is typed is only parsed here.

use std::path::PathBuf;

use clap::Args;

use super::KnownServers;
use crate::archive::{EntryRef, WritableArchiveOptions};
use crate::server::Address;

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
    /// What to restore: NAME, NAME@DATE or NAME@latest [default: the newest master and a source]
    #[arg(value_name = "ENTRY")]
    pub entries: Vec<EntryRef>,
    /// Restore it on this server, too: in a collection of its own, which is removed again
    #[arg(long, value_name = "SERVER")]
    pub to: Option<Address>,
    /// Where it is unpacked [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Show no progress, and print only what is wrong
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub archive: WritableArchiveOptions,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub known: KnownServers,
}
