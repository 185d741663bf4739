//! A master, or one shard of it, that was made and packed, with its statistics.
//!
//! Invariants: what was made of the shards one by one adds up to what is made of all at once.

use serde::{Deserialize, Serialize};

use super::carried::CarriedCounts;
use super::plan::Plan;
use crate::build::BuiltShard;
use crate::point::Digest;
use crate::source::Source;
use crate::stream::{Changed, DecidingField, Ledger, Tally};

/// A master, or one shard of it, built and packed, not yet proven.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Built {
    /// Shards of the master.
    pub shards: Vec<BuiltShard>,
    /// The digest of everything that was to be written, if records were looked at.
    pub digest: Option<Digest>,
    /// Counts of the carried segments, if any were carried.
    pub carried: Option<CarriedCounts>,
    /// Counts of each source's points, in the order of the sources.
    pub tallies: Vec<Tally>,
    /// Counts of the points altered by declared changes.
    pub changes: Changed,
    /// Whether a record has the field that decides conflicts.
    pub deciding_field: DecidingField,
}

/// A master, or one shard of it, that was made, with all that made it.
pub struct Made {
    /// The sources, their checksums compared.
    pub sources: Vec<Source>,
    /// The plan, corrected where it could only estimate.
    pub plan: Plan,
    /// The master.
    pub built: Built,
    /// The conflicts.
    pub ledger: Ledger,
}

impl Built {
    /// Adds what was made of other shards of the same master.
    pub fn join(&mut self, other: Self) {
        self.shards.extend(other.shards);
        self.shards.sort_by_key(|shard| shard.number);
        match (&mut self.digest, other.digest) {
            (Some(digest), Some(other)) => digest.join(&other),
            (digest, other) => *digest = digest.take().or(other),
        }
        match (&mut self.carried, other.carried) {
            (Some(carried), Some(other)) => carried.join(other),
            (carried, other) => *carried = carried.take().or(other),
        }
        for (tally, other) in self.tallies.iter_mut().zip(&other.tallies) {
            tally.join(other);
        }
        self.changes.add(&other.changes);
        self.deciding_field.join(other.deciding_field);
    }
}
