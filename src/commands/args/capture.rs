//! The arguments of `capture`.
//!
//! Keeps true: what is typed is only parsed here.

use std::path::PathBuf;

use clap::Args;

use crate::archive::{SigningOptions, TrustOptions};
use crate::server::{Address, ConnectionOptions, PeerAddress, Rate};

/// Arguments of `capture`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge capture http://prod:6333 album_2017 'album_20*' --to archive
  snapmerge capture https://prod:6333 album_2017 --to archive --ca-file ca.pem --limit-rate 20M
  snapmerge capture http://node1:6333 album --to archive --peer 7234=http://node2:6333 --peer 918=http://node3:6333
  snapmerge capture http://prod:6333 album_2017 --to archive --stream
  snapmerge capture http://prod:6333 'album_*' --archive backups

The key comes from QDRANT_API_KEY or --api-key-file. On a cluster each shard is taken once, from a replica
that is Active. The server's own snapshot is removed afterwards. Beside each file lie its .checksum and its
.manifest.json. A run that was killed is gone on with by the next one to the same folder.")]
pub struct CaptureArgs {
    /// The server, as http://HOST:6333
    #[arg(value_name = "SERVER")]
    pub server: Address,
    /// Collections; * and ? stand for any letters
    #[arg(required = true, value_name = "COLLECTION")]
    pub collections: Vec<String>,
    /// The folder to put the files into; made if it is missing. With --archive, where they lie on
    /// their way [default: PLACE.incoming beside a local archive]
    #[arg(long, value_name = "DIR", required_unless_present = "archive")]
    pub to: Option<PathBuf>,
    /// Store the snapshots in this archive instead of keeping the files: a folder, or
    /// s3://BUCKET/PREFIX
    #[arg(long, value_name = "PLACE")]
    pub archive: Option<String>,
    /// With --archive, a word to keep them by; repeat it for more
    #[arg(long, value_name = "WORD", requires = "archive")]
    pub tag: Vec<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub signing: SigningOptions,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub trust: TrustOptions,
    /// Stream shards instead of having the server make a snapshot, which needs no disk there; only
    /// while its optimizers are at rest
    #[arg(long)]
    pub stream: bool,
    /// Where a member of the cluster answers REST; repeat it for each. GET /cluster tells the ids
    #[arg(long, value_name = "ID=URL")]
    pub peer: Vec<PeerAddress>,
    /// Bytes a second at the most, as 500k, 20M or 1G
    #[arg(long, value_name = "RATE")]
    pub limit_rate: Option<Rate>,
    /// Refuse a server that gives no checksum
    #[arg(long)]
    pub require_checksum: bool,
    /// Print the manifests as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Show no progress, and print only what is wrong
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub connection: ConnectionOptions,
}
