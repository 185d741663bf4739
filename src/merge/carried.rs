//! Counts of the segments carried from the sources to a master.
//!
//! Invariants: whatever was not carried as it was is counted, with the reason.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Counts of carried segments.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct CarriedCounts {
    /// Segments whose bytes went from a source to the master untouched.
    pub untouched_segments: u64,
    /// Their bytes.
    pub untouched_bytes: u64,
    /// Segments whose payloads or payload indexes were written anew, and nothing else of them.
    #[serde(default)]
    pub rewritten_segments: u64,
    /// Their bytes in the master.
    #[serde(default)]
    pub rewritten_bytes: u64,
    /// Fields whose payload index is built by the server that loads the master.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rebuilt_indexes: Vec<String>,
    /// Segments of shards that were opened in scratch and packed again.
    #[serde(alias = "settled_segments")]
    pub repacked_segments: u64,
    /// Their bytes in the master.
    #[serde(alias = "settled_bytes")]
    pub repacked_bytes: u64,
    /// Which shards were packed again, and why.
    #[serde(alias = "settled")]
    pub repacked: Vec<String>,
    /// Which logs became segments of their own, and their entries.
    pub tails: Vec<String>,
    /// Segments that a server will index in the background, because they come without a graph and
    /// are large enough for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_index: Option<ToIndex>,
    /// Segments that were merged, if there was a number to come down to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consolidated: Option<Consolidated>,
}

/// Segments that a server will index.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
pub struct ToIndex {
    /// Number of segments.
    pub segments: u64,
    /// Their points.
    pub points: u64,
}

/// Result of merging a master's segments offline.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Consolidated {
    /// Segments that the sources brought.
    pub segments_before: u64,
    /// Segments that the master has.
    pub segments_after: u64,
    /// Segments of the sources that were carried.
    pub carried_segments: u64,
    /// Segments of the sources that have no points and were left out.
    pub empty_segments: u64,
    /// Segments of the sources that were merged.
    pub merged_segments: u64,
    /// Their points.
    pub merged_points: u64,
    /// Vectors of them that lie in an index now; approximate, as Qdrant's own.
    pub indexed_vectors: u64,
}

impl CarriedCounts {
    /// Adds the counts of other shards of the same master.
    pub(super) fn join(&mut self, other: Self) {
        self.untouched_segments += other.untouched_segments;
        self.untouched_bytes += other.untouched_bytes;
        self.rewritten_segments += other.rewritten_segments;
        self.rewritten_bytes += other.rewritten_bytes;
        let known = &mut self.rebuilt_indexes;
        for field in other.rebuilt_indexes {
            if !known.contains(&field) {
                known.push(field);
            }
        }
        self.repacked_segments += other.repacked_segments;
        self.repacked_bytes += other.repacked_bytes;
        self.repacked.extend(other.repacked);
        self.tails.extend(other.tails);
        match (&mut self.to_index, other.to_index) {
            (Some(to_index), Some(other)) => {
                to_index.segments += other.segments;
                to_index.points += other.points;
            }
            (to_index, other) => *to_index = to_index.or(other),
        }
        match (&mut self.consolidated, other.consolidated) {
            (Some(done), Some(other)) => done.join(other),
            (done, other) => *done = done.or(other),
        }
    }
}

impl Consolidated {
    fn join(&mut self, other: Self) {
        self.segments_before += other.segments_before;
        self.segments_after += other.segments_after;
        self.carried_segments += other.carried_segments;
        self.empty_segments += other.empty_segments;
        self.merged_segments += other.merged_segments;
        self.merged_points += other.merged_points;
        self.indexed_vectors += other.indexed_vectors;
    }
}

impl fmt::Display for CarriedCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |bytes| humansize::format_size(bytes, humansize::BINARY);
        write!(
            f,
            "{} segments ({}) untouched",
            self.untouched_segments,
            size(self.untouched_bytes)
        )?;
        if self.rewritten_segments > 0 {
            write!(
                f,
                ", {} ({}) with payloads, payload indexes or names of vectors written anew, vectors and graphs \
                 untouched",
                self.rewritten_segments,
                size(self.rewritten_bytes)
            )?;
        }
        if self.repacked_segments > 0 {
            write!(
                f,
                ", {} ({}) rewritten in scratch",
                self.repacked_segments,
                size(self.repacked_bytes)
            )?;
        }
        if let Some(done) = &self.consolidated
            && done.segments_before > done.carried_segments
        {
            write!(
                f,
                "\n           {} segments became {}: {} were carried, {} without points left out, {} with {} \
                 points merged, {} vectors indexed anew",
                done.segments_before,
                done.segments_after,
                done.carried_segments,
                done.empty_segments,
                done.merged_segments,
                done.merged_points,
                done.indexed_vectors
            )?;
        }
        if let Some(ToIndex { segments, points }) = self.to_index {
            write!(
                f,
                "\n           {segments} segments with {points} points have no graph yet and are large \
                 enough for one: a server builds it in the background"
            )?;
        }
        if !self.rebuilt_indexes.is_empty() {
            write!(
                f,
                "\n           payload indexes that a server builds when it loads the master: {}",
                self.rebuilt_indexes.join(", ")
            )?;
        }
        for tail in &self.tails {
            write!(
                f,
                "\n           entries of the log that became a segment: {tail}"
            )?;
        }
        for reason in &self.repacked {
            write!(f, "\n           rewritten: {reason}")?;
        }
        Ok(())
    }
}
