//! Which servers restore a snapshot as it is.
//!
//! Told by what its segments keep and how, as the sources of each version read it (lib/segment/src/types.rs
//! and lib/segment/src/segment_constructor at their tags), since no file names the version.
//!
//! Invariants: a form that some server takes for another, or for nothing, is never told as one that it
//! reads.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ids;
use super::kind::DenseStorage;
use super::layout;
use super::rocks::InRocks;
use super::snapshot::{Segment, Snapshot};

/// A server's version: major, minor, patch.
pub type Version = (u32, u32, u32);

/// The oldest server that anything here is known of.
const OLDEST: Version = (1, 7, 0);
/// The oldest one for what no server with RocksDB wrote: graphs and logs of today's form.
const WITHOUT_ROCKSDB_MIN: Version = (1, 14, 0);
/// The first one that reads no RocksDB (qdrant 5638d1799c).
const WITHOUT_ROCKSDB: Version = (1, 18, 0);
/// The first one that reads no map of shard keys.
const WITHOUT_KEY_MAP: Version = (1, 17, 0);
/// The first one that reads a list of shard keys; those with a number were in one before.
const KEY_LIST: Version = (1, 13, 1);

/// The first server that reads a datatype of dense vectors. 1.19.0 does not know the last two.
const DATATYPES: [(&str, Version); 5] = [
    ("uint8", (1, 9, 0)),
    ("float16", (1, 10, 0)),
    ("turbo4", (1, 18, 3)),
    ("turbo8", (1, 19, 1)),
    ("turbo16", (1, 19, 1)),
];
const MULTIVECTOR: Version = (1, 10, 0);
/// The first server that reads a storage of sparse vectors.
const SPARSE: [(&str, Version); 2] = [("mmap", (1, 13, 0)), ("Empty", (1, 18, 0))];
/// The first server that reads a storage of payload.
const PAYLOAD: [(&str, Version); 2] = [("mmap", (1, 13, 0)), ("in_ram_mmap", (1, 15, 0))];
/// The first server that looks for ids in a file.
const IDS: [(&str, Version); 3] = [
    (ids::FIXED_MAPPINGS[0], (1, 11, 0)),
    (ids::MUTABLE_MAPPINGS, (1, 14, 0)),
    (ids::FIXED_MAPPINGS[1], (1, 19, 0)),
];

/// The servers that restore a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Servers {
    /// The first of them.
    pub from: Version,
    /// Reason why older servers are left out.
    pub from_for: String,
    /// The first after them; none if the newest restores it.
    pub before: Option<Version>,
    /// Reason why newer servers are left out; empty if none are.
    pub before_for: String,
}

impl Servers {
    /// Returns the servers that restore `snapshot`; `has_shard_keys` is true if its collection has
    /// shard keys.
    pub fn of(snapshot: &Snapshot, has_shard_keys: bool) -> Self {
        let segments: Vec<&Segment> = (snapshot.shards.values())
            .flat_map(|shard| shard.segments.values())
            .collect();
        let is_old = segments.iter().any(|segment| has_database(segment));
        let mut servers = match is_old {
            true => Self {
                from: OLDEST,
                from_for: "snapshots of older servers were never tried".into(),
                before: None,
                before_for: String::new(),
            },
            false => Self {
                from: WITHOUT_ROCKSDB_MIN,
                from_for: "it was made by a server, or by snapmerge, that keeps nothing in RocksDB"
                    .into(),
                before: None,
                before_for: String::new(),
            },
        };
        for segment in segments {
            servers.segment(segment);
        }
        if has_shard_keys {
            servers.shard_keys(snapshot.shard_keys.as_deref());
        }
        servers
    }

    /// Returns true if the server of `version` is one of them.
    pub fn include(&self, version: Version) -> bool {
        version >= self.from && self.before.is_none_or(|before| version < before)
    }

    /// Returns the range of versions in words: `1.7 to 1.17`, `1.14 or later`.
    pub fn words(&self) -> String {
        let (major, minor, patch) = self.from;
        let from = match patch {
            0 => format!("{major}.{minor}"),
            patch => format!("{major}.{minor}.{patch}"),
        };
        match self.before {
            None => format!("{from} or later"),
            Some((major, minor, _)) if (major, minor) <= (self.from.0, self.from.1) => {
                "no version".into()
            }
            Some((major, minor, _)) => format!("{from} to {major}.{}", minor.saturating_sub(1)),
        }
    }

    fn need(&mut self, version: Version, what: impl FnOnce() -> String) {
        if version > self.from {
            (self.from, self.from_for) = (version, what());
        }
    }

    fn end(&mut self, version: Version, what: impl FnOnce() -> String) {
        if self.before.is_none_or(|before| version < before) {
            (self.before, self.before_for) = (Some(version), what());
        }
    }

    fn segment(&mut self, segment: &Segment) {
        let inside = InRocks::of(segment);
        if !inside.is_nothing() {
            self.end(WITHOUT_ROCKSDB, || {
                format!("its {} lie in RocksDB", inside.words())
            });
        }
        for (name, version) in IDS {
            if segment.files.contains_key(name) {
                self.need(version, || format!("its ids lie in {name}"));
            }
        }
        let state = segment.state_json();
        let config = &state["config"];
        self.kind(&PAYLOAD, &config["payload_storage_type"]["type"], "payload");
        for vector in values(&config["vector_data"]) {
            let dense = DenseStorage::of_vector(vector);
            if let Some((storage, since)) = dense.and_then(|one| Some((one.name, one.since?))) {
                self.need(since, || format!("its vectors are stored as {storage}"));
            }
            self.kind(&DATATYPES, &vector["datatype"], "vectors");
            if !vector["multivector_config"].is_null() {
                self.need(MULTIVECTOR, || "it has multivectors".into());
            }
        }
        for vector in values(&config["sparse_vector_data"]) {
            self.kind(&SPARSE, &vector["storage_type"], "sparse vectors");
        }
    }

    fn kind(&mut self, known: &[(&str, Version)], found: &Value, what: &str) {
        let found = known.iter().find(|(name, _)| found == name);
        if let Some((name, version)) = found {
            self.need(*version, || format!("its {what} are stored as {name}"));
        }
    }

    fn shard_keys(&mut self, mapping: Option<&[u8]>) {
        let mapping: Option<Value> = mapping.and_then(|bytes| serde_json::from_slice(bytes).ok());
        match mapping {
            Some(Value::Object(map)) if !map.is_empty() => {
                self.end(WITHOUT_KEY_MAP, || "its shard keys are a map".into());
            }
            Some(Value::Array(_)) => self.need(KEY_LIST, || "its shard keys are a list".into()),
            _ => {}
        }
    }
}

/// Returns true if a server with RocksDB wrote the segment.
fn has_database(segment: &Segment) -> bool {
    segment.files.keys().any(|name| {
        let folder = name.split_once('/').map(|(folder, _)| folder);
        matches!(folder, Some(layout::DATABASE | layout::INDEX_DATABASE)) || name == "CURRENT"
    })
}

fn values(map: &Value) -> impl Iterator<Item = &Value> {
    map.as_object().into_iter().flat_map(Map::values)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::format::{FileSize, Shard};

    fn snapshot(config: &Value, files: &[&str], keys: Option<&str>) -> Snapshot {
        let size = FileSize {
            bytes: 1,
            stored_bytes: 1,
        };
        let segment = Segment {
            state: Some(json!({ "config": config }).to_string().into_bytes()),
            files: files.iter().map(|name| ((*name).into(), size)).collect(),
            ..Segment::default()
        };
        let shard = Shard {
            segments: BTreeMap::from([(Uuid::nil(), segment)]),
            ..Shard::default()
        };
        let mut snapshot = Snapshot::of_none("test");
        snapshot.shards.insert(0, shard);
        snapshot.shard_keys = keys.map(|text| text.as_bytes().to_vec());
        snapshot
    }

    #[test]
    fn what_a_snapshot_keeps_tells_who_restores_it() {
        let config = |dense: &str, payload: &str| {
            json!({
                "vector_data": {"": {"storage_type": dense}},
                "payload_storage_type": {"type": payload},
            })
        };
        let sst = "db_backup/shared_checksum/000012_sX_1.sst";
        let indexes = "payload_index_db_backup/meta/1";
        let (fixed, mutable) = ("id_tracker.mappings", "mutable_id_tracker.mappings");
        let map = Some(r#"{"a":[0]}"#);
        let mut newest = config("Mmap", "mmap");
        newest["vector_data"][""]["datatype"] = "turbo8".into();
        let cases: [(Value, &[&str], Option<&str>, &str); 12] = [
            (newest, &[fixed], None, "1.19.1 or later"),
            (
                config("GraphInline", "mmap"),
                &[fixed],
                None,
                "1.19.1 or later",
            ),
            (config("Memory", "on_disk"), &[sst], None, "1.7 to 1.17"),
            (
                config("Mmap", "on_disk"),
                &[sst, fixed],
                None,
                "1.11 to 1.17",
            ),
            (
                config("InRamChunkedMmap", "mmap"),
                &[sst],
                None,
                "1.13 to 1.17",
            ),
            (
                config("Mmap", "mmap"),
                &[indexes, fixed],
                None,
                "1.13 or later",
            ),
            (
                config("Mmap", "mmap"),
                &[indexes, mutable],
                None,
                "1.14 or later",
            ),
            (
                config("Mmap", "in_memory"),
                &[sst, mutable],
                None,
                "1.14 to 1.17",
            ),
            (config("Memory", "on_disk"), &[sst], map, "1.7 to 1.16"),
            (
                config("Memory", "on_disk"),
                &[sst],
                Some("[]"),
                "1.13.1 to 1.17",
            ),
            (config("Mmap", "mmap"), &[fixed], None, "1.14 or later"),
            (config("InRamMmap", "mmap"), &[fixed], map, "no version"),
        ];
        for (config, files, keys, words) in cases {
            let servers = Servers::of(&snapshot(&config, files, keys), keys.is_some());
            assert_eq!(servers.words(), words, "{config} {files:?} {keys:?}");
        }
        // Without custom sharding nobody reads them.
        let old = snapshot(&config("Memory", "on_disk"), &[sst], Some("{}"));
        let servers = Servers::of(&old, false);
        assert!(servers.include((1, 7, 4)) && servers.include((1, 17, 1)));
        assert!(!servers.include((1, 18, 0)) && !servers.include((1, 6, 9)));
        assert_eq!(
            servers.before_for,
            "its ids, payload, vectors lie in RocksDB"
        );
    }
}
