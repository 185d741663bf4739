//! A request to restore a snapshot onto a server, and the options of every restore.
//!
//! Invariants: a server that is not there is known before gigabytes are hashed.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Expected, Options, Restored, restore};
use crate::base::error::Result;
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::base::progress::{Progress, Unit};
use crate::capture::Members;
use crate::format::SnapshotFile;
use crate::input::{InputOptions, Inputs, connect, members};
use crate::server::{Address, CollectionAddress, KnownServers, MembersFrom, PeerAddress, Rate};
use crate::source::{Checksum, Opening};

/// Options of every restore.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct RestoreOptions {
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
    /// Find the members by a name of DNS that has the addresses of all, as that of a headless service:
    /// DNS or DNS:PORT; each is asked for its id, and --peer comes first
    #[arg(long, value_name = "DNS[:PORT]")]
    pub members_from: Option<MembersFrom>,
    /// Bytes a second at the most, as 500k, 20M or 1G
    #[arg(long, value_name = "RATE")]
    pub limit_rate: Option<Rate>,
    /// Seconds that a collection may take to become green
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub wait: u64,
    /// Where ids that are too many for memory are sorted [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Restore a snapshot that lacks shards or whose replica was not active
    #[arg(long)]
    pub allow_incomplete: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub reading: InputOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub known: KnownServers,
}

impl RestoreOptions {
    /// The members of the cluster at `server`, which answers.
    pub(super) fn connect(&self, server: &Address) -> Result<Members> {
        let connection = connect(server, &self.known.connection, &Context::LOUD)?;
        let members = members(&connection, &self.peer, self.members_from.as_ref())?;
        let members = Members::new(&connection, &members)?;
        connection.server_info()?;
        Ok(members)
    }

    /// The folder that scratch is made in.
    pub(super) fn parent(&self) -> PathBuf {
        self.scratch.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Options of the restore of one collection.
    pub(super) fn of_one(&self, progress: Progress) -> Options {
        Options {
            overwrite: self.overwrite,
            resume: self.resume,
            keep_failed: self.keep_failed,
            allow_incomplete: self.allow_incomplete,
            replication_factor: self.replication_factor,
            rate: self.limit_rate,
            wait: Duration::from_secs(self.wait),
            dry_run: self.dry_run,
            progress,
        }
    }
}

/// Brings a snapshot onto a server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// A collection snapshot, plain or .gz; or one in an archive, as archive:NAME@DATE.
    pub snapshot: PathBuf,
    /// The collection to make of it.
    pub to: CollectionAddress,
    /// The options.
    #[serde(flatten)]
    pub options: RestoreOptions,
}

/// A snapshot that was restored, or would be.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RestoreReport {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub restored: Restored,
    /// The file's checksum, and who gave it.
    pub checksum: Checksum,
}

impl Operation for RestoreRequest {
    const NAME: &'static str = "restore";
    type Report = RestoreReport;

    fn run(self, context: &Context) -> Result<RestoreReport> {
        // A server that is not there is known before recipes are read.
        let members = self.options.connect(&self.to.server)?;
        let (file, opening) = Inputs::find_one(&self.snapshot, &self.options.reading)?;
        (self.options).restore_by(&members, &file, &opening, &self.to, context)
    }
}

impl RestoreOptions {
    /// Restores the snapshot in `file`, to be opened by `opening`, to the collection `to`.
    pub fn restore(
        &self,
        file: &SnapshotFile,
        opening: &Opening,
        to: &CollectionAddress,
        context: &Context,
    ) -> Result<RestoreReport> {
        let members = self.connect(&to.server)?;
        self.restore_by(&members, file, opening, to, context)
    }

    fn restore_by(
        &self,
        members: &Members,
        file: &SnapshotFile,
        opening: &Opening,
        to: &CollectionAddress,
        context: &Context,
    ) -> Result<RestoreReport> {
        let state = self.known.state.folder()?;
        let stage = context
            .progress
            .stage("look into the snapshot", None, Unit::None);
        let expected = Expected::read(file, opening, &self.parent())?;
        drop(stage);
        let options = self.of_one(context.progress);
        let restored = restore(to, members, &expected, &options, &state)?;
        let outcome = Outcome::differs_if(!restored.left.is_empty());
        Ok(RestoreReport {
            envelope: Envelope::new(RestoreRequest::NAME, 1, outcome),
            checksum: expected.checksum().clone(),
            restored,
        })
    }
}
