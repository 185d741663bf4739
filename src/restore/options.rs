//! Options of a restore, and the record by which an interrupted one is resumed.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::progress::Progress;
use crate::server::Rate;

/// Options of a restore.
#[derive(Debug, Clone)]
pub struct Options {
    /// True to write over a collection that exists.
    pub overwrite: bool,
    /// True to resume a restore that an earlier run started.
    pub resume: bool,
    /// True to keep a collection that differs, to be looked at.
    pub keep_failed: bool,
    /// True to restore a snapshot that may lack points.
    pub allow_incomplete: bool,
    /// Replicas of each shard; by default as many as the master's config says.
    pub replication_factor: Option<u32>,
    /// Upper limit of the transfer rate.
    pub rate: Option<Rate>,
    /// Longest wait for the collection to become green.
    pub wait: Duration,
    /// True to change nothing.
    pub dry_run: bool,
    /// Display of progress.
    pub progress: Progress,
}

/// Record of a restore that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRecord {
    /// The file.
    pub file: String,
    /// SHA-256 of the decompressed tar.
    pub sha256: String,
    /// Time at which it started.
    // Its name on disk, where earlier versions wrote it, too.
    #[serde(rename = "begun")]
    pub started: DateTime<Utc>,
    /// The name that uploads have on the server.
    pub upload: String,
    /// True if the collection existed before.
    pub over: bool,
}
