//! The kind of a segment, as its `segment.json` says it.
//!
//! Invariants: a segment takes points exactly if `SegmentConfig::is_appendable` of lib/segment/src/types.rs
//! says so: a server looks for its ids in other files then, and finds none in a segment of the other kind.

use serde_json::Value;

/// Storages of vectors in segments that nothing is added to, whatever their index is.
const FIXED: [&str; 2] = ["Mmap", "InRamMmap"];
/// Indexes of sparse vectors in such segments.
const FIXED_SPARSE: [&str; 2] = ["ImmutableRam", "Mmap"];

/// Kind of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentKind {
    /// True if any of its dense vectors has a graph.
    pub indexed: bool,
    /// True if points may be added to it; ids and versions are then kept in another form.
    pub appendable: bool,
}

impl SegmentKind {
    /// The kind of a segment whose `segment.json` is `state`.
    pub fn of(state: &Value) -> Self {
        let vectors = |key: &str| state["config"][key].as_object().into_iter().flatten();
        let indexed = vectors("vector_data").any(|(_, vector)| vector["index"]["type"] == "hnsw");
        let fixed = indexed
            || vectors("vector_data").any(|(_, vector)| is_fixed(vector))
            || vectors("sparse_vector_data").any(|(_, vector)| {
                let kind = vector["index"]["index_type"].as_str();
                kind.is_some_and(|kind| FIXED_SPARSE.contains(&kind))
            });
        Self {
            indexed,
            appendable: !fixed,
        }
    }
}

/// Returns true if the vectors lie in a storage that nothing is added to.
pub fn is_fixed(vector: &Value) -> bool {
    let kind = vector["storage_type"].as_str();
    kind.is_some_and(|kind| FIXED.contains(&kind))
}
