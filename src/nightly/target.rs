//! Sources of a run: what is to be captured, what is known of it before its turn, and what came of it.
//!
//! Invariants: what was prepared and is not used is removed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::report::How;
use crate::base::error::Result;
use crate::capture::{Ahead, ChangeToken};

/// A collection to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The server's name in the plan.
    pub server: String,
    /// The collection.
    pub collection: String,
    /// Name in the archive and in the master.
    pub name: String,
    /// Which of the plan's sources it is one of.
    pub of: usize,
}

impl Target {
    /// Returns the key of its state: `SERVER/COLLECTION`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.server, self.collection)
    }
}

/// A source in the archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArchivedSource {
    /// Name in the archive.
    pub name: String,
    /// Id of the archive entry.
    pub entry: String,
    /// The entry's SHA-256.
    pub sha256: String,
    /// The snapshot's bytes.
    pub bytes: u64,
    /// Bytes that were new in the archive.
    pub new_bytes: u64,
    /// Bytes that came from the server, if it was captured whole or in part.
    #[serde(default)]
    pub moved_bytes: Option<u64>,
    /// Number of points, if it is certain.
    pub points: Option<u64>,
    /// Outcome of the capture.
    pub how: How,
    /// Reason for that outcome, where there is one to tell.
    pub note: Option<String>,
}

/// State of a source, observed before its turn.
pub(super) struct Prepared {
    /// Change token before it was streamed, or the reason that there is none.
    pub before: Result<ChangeToken, String>,
    /// Shards streamed ahead; none if it is to be captured by itself.
    pub ahead: Result<Option<Ahead>>,
}

/// Sources prepared before their turn, by their keys.
#[derive(Default)]
pub(super) struct AheadOfTurn {
    /// All sources of the run, in order.
    pub targets: Vec<Target>,
    /// Those that were prepared and whose turn has not come.
    pub prepared: BTreeMap<String, Result<Prepared>>,
}

impl AheadOfTurn {
    /// Removes what was not used.
    pub fn discard(&mut self) -> Result<()> {
        for prepared in std::mem::take(&mut self.prepared).into_values().flatten() {
            if let Ok(Some(ahead)) = prepared.ahead {
                ahead.discard()?;
            }
        }
        Ok(())
    }
}
