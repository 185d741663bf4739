//! A master that was made and packed, and how it was.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::base::stage::StageReport;
use crate::format::Written;
use crate::point::Digest;
use crate::source::Source;
use crate::stream::{Ledger, Tally};

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
    /// Points whose stamped field had another value before.
    pub restamped: u64,
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

/// How segments travelled.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Carried {
    /// Segments whose bytes went from a source to the master untouched.
    pub untouched_segments: u64,
    /// Their bytes.
    pub untouched_bytes: u64,
    /// Segments of shards that were settled and packed again.
    pub settled_segments: u64,
    /// Their bytes in the master.
    pub settled_bytes: u64,
    /// Which shards were settled, and why.
    pub settled: Vec<String>,
    /// Which logs became segments of their own, and their entries.
    pub tails: Vec<String>,
    /// What a server will index in the background, because it comes without a graph and is large
    /// enough for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_index: Option<ToIndex>,
    /// What `--consolidate` did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consolidated: Option<Consolidated>,
}

/// Segments that a server will index.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct ToIndex {
    /// How many.
    pub segments: u64,
    /// Their points.
    pub points: u64,
}

/// What merging a master's segments offline did.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Consolidated {
    /// Segments that the sources brought.
    pub segments_before: u64,
    /// Segments that the master has.
    pub segments_after: u64,
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |bytes| humansize::format_size(bytes, humansize::BINARY);
        write!(
            f,
            "{} segments ({}) untouched",
            self.untouched_segments,
            size(self.untouched_bytes)
        )?;
        if self.settled_segments > 0 {
            write!(
                f,
                ", {} ({}) settled in scratch and packed again",
                self.settled_segments,
                size(self.settled_bytes)
            )?;
        }
        if let Some(done) = &self.consolidated {
            write!(
                f,
                "; {} segments consolidated into {}",
                done.segments_before, done.segments_after
            )?;
        }
        if let Some(ToIndex { segments, points }) = self.to_index {
            write!(
                f,
                "\n           {segments} segments with {points} points have no graph yet and are large \
                 enough for one: a server builds it in the background"
            )?;
        }
        for tail in &self.tails {
            write!(
                f,
                "\n           entries of the log that became a segment: {tail}"
            )?;
        }
        for settled in &self.settled {
            write!(f, "\n           settled: {settled}")?;
        }
        Ok(())
    }
}
