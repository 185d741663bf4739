//! A master that was made and packed, with its statistics.

use super::carried::CarriedCounts;
use super::plan::Plan;
use crate::build::BuiltShard;
use crate::format::Written;
use crate::point::Digest;
use crate::source::Source;
use crate::stream::{Changed, Ledger, Tally};

/// A master, built and packed, not yet proven.
#[derive(Debug)]
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
}

/// A master that was made, with all that made it.
pub struct Made {
    /// The sources, their checksums compared.
    pub sources: Vec<Source>,
    /// The plan, corrected where it could only estimate.
    pub plan: Plan,
    /// The master.
    pub built: Built,
    /// File of the master, being read back.
    pub written: Written,
    /// The conflicts.
    pub ledger: Ledger,
}
