//! How a snapshot is restored, and what an interrupted run left to resume.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::progress::Progress;
use crate::server::Rate;

/// How a master is restored.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether a collection that is there is written over.
    pub overwrite: bool,
    /// Whether what an earlier run began is gone on with.
    pub resume: bool,
    /// Whether what differs stays, to be looked at.
    pub keep_failed: bool,
    /// Whether a snapshot that may lack points is restored.
    pub allow_incomplete: bool,
    /// How many replicas each shard gets, if not as many as the master's config says.
    pub replication_factor: Option<u32>,
    /// How fast at the most.
    pub rate: Option<Rate>,
    /// How long green is waited for.
    pub wait: Duration,
    /// Whether nothing is done.
    pub dry_run: bool,
    /// How progress is shown.
    pub progress: Progress,
}

/// What an earlier run began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The file.
    pub file: String,
    /// Its tar's SHA-256.
    pub sha256: String,
    /// When.
    pub begun: DateTime<Utc>,
    /// The name that uploads have on the server.
    pub upload: String,
    /// Whether the collection was there before.
    pub over: bool,
}
