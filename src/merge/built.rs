//! A master that was made and packed, and how it was.

use super::carried::Carried;
use super::plan::Plan;
use crate::base::stage::StageReport;
use crate::format::Written;
use crate::point::Digest;
use crate::source::Source;
use crate::stream::{Changed, Ledger, Tally};

/// A shard of the master, built.
#[derive(Debug, Clone)]
pub struct BuiltShard {
    /// Its number.
    pub number: u32,
    /// Its points.
    pub points: u64,
    /// Its segments.
    pub segments: u64,
    /// Vectors of it that lie in an index; approximate, as Qdrant's own.
    pub indexed_vectors: u64,
}

/// A master, built and packed, not yet proven.
#[derive(Debug)]
pub struct Built {
    /// Its shards.
    pub shards: Vec<BuiltShard>,
    /// The digest of everything that was to be written, if records were looked at.
    pub digest: Option<Digest>,
    /// How segments travelled, if they did.
    pub carried: Option<Carried>,
    /// What became of each source's points.
    pub tallies: Vec<Tally>,
    /// What declared changes found.
    pub changes: Changed,
    /// How long what took.
    pub stages: Vec<StageReport>,
}

/// A master that was made, with all that made it.
pub struct Made {
    /// The sources, their checksums compared.
    pub sources: Vec<Source>,
    /// The plan, corrected where it could only estimate.
    pub plan: Plan,
    /// The master.
    pub built: Built,
    /// Its file.
    pub written: Written,
    /// The conflicts.
    pub ledger: Ledger,
}
