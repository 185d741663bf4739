//! The kind of a segment and of the storages of its dense vectors, as its `segment.json` says it.
//!
//! Invariants: a storage of dense vectors can be read exactly if it is in the one table of them; a segment
//! takes points exactly if `SegmentConfig::is_appendable` of lib/segment/src/types.rs says so: a server looks for
//! its ids in other files then, and finds none in a segment of the other kind.

use serde_json::Value;

/// A storage of dense vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenseStorage {
    /// `storage_type` in `segment.json`.
    pub name: &'static str,
    /// The first server that reads it; none if all do.
    pub since: Option<(u32, u32, u32)>,
    /// True if nothing is added to it, whatever the index is; graphs of such vectors can be left out.
    pub is_fixed: bool,
    /// Whether vectors stay on the disk; none if it has none, or if that depends on something else.
    pub on_disk: Option<bool>,
    /// The form of its files, as far as it is known here.
    pub files: Option<DenseFiles>,
    /// Of one that is read into memory when a segment is opened, the one with the same files that is not.
    pub on_disk_form: Option<&'static str>,
}

/// Form of the files of a storage of dense vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenseFiles {
    /// Chunks, which vectors are added to.
    Chunks,
    /// One file of all.
    Matrix,
}

const fn dense(name: &'static str, since: Option<(u32, u32, u32)>) -> DenseStorage {
    DenseStorage {
        name,
        since,
        is_fixed: false,
        on_disk: None,
        files: None,
        on_disk_form: None,
    }
}

/// Every storage of dense vectors that can be read. A new one is an entry here.
const DENSE_STORAGES: [DenseStorage; 7] = [
    DenseStorage {
        on_disk: Some(false),
        ..dense("Memory", None)
    },
    DenseStorage {
        is_fixed: true,
        on_disk: Some(true),
        files: Some(DenseFiles::Matrix),
        ..dense("Mmap", None)
    },
    DenseStorage {
        on_disk: Some(true),
        files: Some(DenseFiles::Chunks),
        ..dense("ChunkedMmap", None)
    },
    DenseStorage {
        on_disk: Some(false),
        files: Some(DenseFiles::Chunks),
        on_disk_form: Some("ChunkedMmap"),
        ..dense("InRamChunkedMmap", Some((1, 11, 0)))
    },
    DenseStorage {
        is_fixed: true,
        on_disk: Some(false),
        files: Some(DenseFiles::Matrix),
        on_disk_form: Some("Mmap"),
        ..dense("InRamMmap", Some((1, 17, 0)))
    },
    dense("Empty", Some((1, 18, 0))),
    // Its vectors lie in the graph, which therefore stays. 1.19.0 cannot read it.
    dense("GraphInline", Some((1, 19, 1))),
];

impl DenseStorage {
    /// The storage that `segment.json` calls `name`; none if it cannot be read.
    pub fn of(name: &str) -> Option<&'static Self> {
        DENSE_STORAGES.iter().find(|storage| storage.name == name)
    }

    /// That of a dense vector in `segment.json`.
    pub fn of_vector(vector: &Value) -> Option<&'static Self> {
        vector["storage_type"].as_str().and_then(Self::of)
    }
}

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
            || vectors("vector_data").any(|(_, vector)| {
                DenseStorage::of_vector(vector).is_some_and(|storage| storage.is_fixed)
            })
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
