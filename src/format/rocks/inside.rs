//! Parts of a segment that are kept in RocksDB, told from the snapshot's headers and the segment's
//! own config.
//!
//! Invariants: whatever a server would look for in RocksDB is named; where only the database itself
//! knows whether something is there, it counts as there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::format::Segment;
use crate::format::ids::FIXED_MAPPINGS;
use crate::format::layout;

/// Parts of a segment that are kept in RocksDB.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InRocks {
    /// True if ids with their versions are there; if the database has none, they are in files after
    /// all.
    pub ids: bool,
    /// True if payload is there.
    pub payload: bool,
    /// The names of its dense vectors that are there.
    pub vectors: Vec<String>,
    /// The names of its sparse vectors that are there.
    pub sparse_vectors: Vec<String>,
    /// True if payload indexes are there, which are built anew.
    pub payload_indexes: bool,
}

impl InRocks {
    /// Returns the parts that `segment` keeps there.
    pub fn of(segment: &Segment) -> Self {
        let (state, indexes) = (segment.state_json(), segment.payload_index_json());
        let names = segment.files.iter();
        let has_records = names
            .filter(|(name, _)| is_record_file(name))
            .any(|(_, size)| size.bytes > 0);
        let has_fixed_ids = Self::has_fixed_ids(|name| segment.files.contains_key(name));
        let inside = Self::by_config(&state, &indexes);
        Self {
            ids: has_records && !has_fixed_ids,
            payload_indexes: inside.payload_indexes
                || segment.files.contains_key(layout::PLAIN_INDEX_DATABASE),
            ..inside
        }
    }

    /// Returns the parts besides ids that a segment with this `segment.json` and this
    /// `payload_index/config.json` keeps there.
    pub(super) fn by_config(state: &Value, indexes: &Value) -> Self {
        let config = &state["config"];
        let payload = config["payload_storage_type"]["type"].as_str();
        Self {
            ids: false,
            payload: matches!(payload, Some("in_memory" | "on_disk")),
            vectors: names(&config["vector_data"], |vector| {
                vector["storage_type"] == "Memory"
            }),
            // Up to 1.12 there was one storage, and nothing said so.
            sparse_vectors: names(&config["sparse_vector_data"], |vector| {
                let storage = &vector["storage_type"];
                storage.is_null() || storage == "on_disk"
            }),
            payload_indexes: mentions(&indexes["indexed_types"], "rocks_db"),
        }
    }

    /// Returns the parts that any of some segments keeps there.
    pub fn all(some: &[Self]) -> Self {
        let mut all = Self::default();
        for one in some {
            all.ids |= one.ids;
            all.payload |= one.payload;
            all.vectors.extend_from_slice(&one.vectors);
            all.sparse_vectors.extend_from_slice(&one.sparse_vectors);
            all.payload_indexes |= one.payload_indexes;
        }
        all
    }

    /// Returns true if a segment has its ids in files that nothing is added to: then no server
    /// looks for them in RocksDB. `is_there` tells which files the segment has.
    pub fn has_fixed_ids(is_there: impl Fn(&str) -> bool) -> bool {
        FIXED_MAPPINGS.iter().any(|name| is_there(name))
    }

    /// Returns true if nothing is kept there.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Returns true if the segment's database has to be opened to read the segment.
    pub fn needs_database(&self) -> bool {
        self.ids || self.payload || !self.vectors.is_empty() || !self.sparse_vectors.is_empty()
    }

    /// Returns the parts in words.
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        let mut add = |there: bool, what: &str| {
            if there {
                words.push(what.to_owned());
            }
        };
        add(self.ids, "ids");
        add(self.payload, "payload");
        add(!self.vectors.is_empty(), "vectors");
        add(!self.sparse_vectors.is_empty(), "sparse vectors");
        add(self.payload_indexes, "payload indexes");
        words.join(", ")
    }
}

/// Returns true if the file of a segment called `name` may hold records of its RocksDB: a database
/// that nothing was ever written to has no such file, or an empty log.
fn is_record_file(name: &str) -> bool {
    let is_record = |name: &str| name.ends_with(".sst") || name.ends_with(".log");
    match name.split_once('/') {
        Some((layout::DATABASE, file)) => is_record(file),
        Some(_) => false,
        // A plain copy of a segment's folder, as servers before 0.11 packed it.
        None => is_record(name),
    }
}

/// The names in a map whose values are so.
fn names(map: &Value, is_so: impl Fn(&Value) -> bool) -> Vec<String> {
    let entries = map.as_object().into_iter().flat_map(Map::iter);
    let found = entries.filter(|(_, value)| is_so(value));
    found.map(|(name, _)| name.clone()).collect()
}

/// Returns true if `word` is anywhere in `value` as a text.
fn mentions(value: &Value, word: &str) -> bool {
    match value {
        Value::String(text) => text == word,
        Value::Array(values) => values.iter().any(|value| mentions(value, word)),
        Value::Object(map) => map.values().any(|value| mentions(value, word)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::format::FileSize;

    fn segment(state: &Value, indexes: &Value, files: &[(&str, u64)]) -> Segment {
        let size = |bytes| FileSize {
            bytes,
            stored_bytes: bytes,
        };
        Segment {
            state: Some(state.to_string().into_bytes()),
            payload_index: Some(indexes.to_string().into_bytes()),
            files: (files.iter())
                .map(|(name, bytes)| ((*name).to_owned(), size(*bytes)))
                .collect(),
            ..Segment::default()
        }
    }

    #[test]
    fn each_part_is_told_by_what_says_so() {
        let today = json!({"config": {
            "vector_data": {"": {"storage_type": "InRamChunkedMmap"}},
            "sparse_vector_data": {"words": {"storage_type": "mmap"}},
            "payload_storage_type": {"type": "mmap"},
        }});
        let old = json!({"config": {
            "vector_data": {"": {"storage_type": "Memory"}, "b": {"storage_type": "Mmap"}},
            "sparse_vector_data": {"x": {}, "y": {"storage_type": "on_disk"}, "z": {"storage_type": "mmap"}},
            "payload_storage_type": {"type": "on_disk"},
        }});
        let none = json!({});
        let rocks = json!({"indexed_types": {"a": [{"storage_type": "rocks_db"}]}});
        let files =
            json!({"indexed_types": {"a": [{"storage_type": {"mmap": {"is_on_disk": false}}}]}});
        let sst = "db_backup/shared_checksum/000012_sX_1.sst";
        let log = "db_backup/private/1/000004.log";
        type Case<'a> = (&'a Value, &'a Value, &'a [(&'a str, u64)], &'a str);
        let cases: [Case<'_>; 9] = [
            (&today, &files, &[], ""),
            // Nothing was ever written to it.
            (&today, &none, &[(log, 0), ("db_backup/meta/1", 9)], ""),
            (&today, &none, &[(log, 1)], "ids"),
            (&today, &none, &[(sst, 1)], "ids"),
            (&today, &none, &[("000012.sst", 1)], "ids"),
            (&today, &none, &[(sst, 1), ("id_tracker.mappings", 1)], ""),
            (&today, &none, &[("payload_index_db_backup/x.sst", 1)], ""),
            (&today, &rocks, &[], "payload indexes"),
            (
                &old,
                &none,
                &[(sst, 1)],
                "ids, payload, vectors, sparse vectors",
            ),
        ];
        for (state, indexes, files, words) in cases {
            let found = InRocks::of(&segment(state, indexes, files));
            assert_eq!(found.words(), words, "{files:?}");
            assert_eq!(found.is_nothing(), words.is_empty());
        }
        let found = InRocks::of(&segment(&old, &none, &[]));
        assert_eq!(found.vectors, [""]);
        assert_eq!(found.sparse_vectors, ["x", "y"]);
    }
}
