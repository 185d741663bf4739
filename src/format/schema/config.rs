//! A collection's `config.json`, read once and kept whole.
//!
//! Invariants: a config that was read can be restored by a server (what a server insists on is
//! there and has the right types); keys that this version does not know survive a round trip;
//! words that it does not know (a new distance, datatype, quantization) are kept and listed by
//! [`CollectionConfig::unknown_values`] instead of being guessed at.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::config_keys::{self, Reading};
use super::enums::{Memory, ShardingMethod};
use super::vectors::{self, SparseParams, VectorParams, vector_label};
use crate::base::error::{Error, Result};

/// The config of one collection: Qdrant's own JSON, and what was read from it.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionConfig {
    raw: Map<String, Value>,
    vectors: BTreeMap<String, VectorParams>,
    sparse: BTreeMap<String, SparseParams>,
    hnsw: HnswSettings,
    shard_number: u32,
    sharding: ShardingMethod,
}

/// A value in a config that this version cannot act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnknownValue {
    /// Place that holds the value: "vector 'image' distance".
    pub about: String,
    /// The value as written.
    pub value: String,
}

/// Settings with which an HNSW graph is built and kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HnswSettings {
    /// Edges per node; 0 means no graph.
    pub m: u64,
    /// Neighbours considered while building.
    pub ef_construct: u64,
    /// Kilobytes of vectors below which a search scans them all.
    pub full_scan_threshold: u64,
    /// True if the graph is left on disk while served.
    pub on_disk: bool,
    /// Edges per node in the extra links along indexed payload; `None` stands for `m`.
    pub payload_m: Option<u64>,
    /// Threads that build one graph; 0 lets the engine choose.
    pub max_indexing_threads: u64,
    /// The merged JSON, in the shape of a full `hnsw_config`, unknown keys included.
    #[serde(skip)]
    pub raw: Map<String, Value>,
}

impl HnswSettings {
    /// `None` unless the map holds all that a full `hnsw_config` must.
    fn from_map(raw: Map<String, Value>) -> Option<Self> {
        let count = |key: &str| raw.get(key).and_then(Value::as_u64);
        Some(Self {
            m: count("m")?,
            ef_construct: count("ef_construct")?,
            full_scan_threshold: count("full_scan_threshold")?,
            on_disk: hnsw_placement(&raw) == Memory::Cold,
            payload_m: count("payload_m"),
            max_indexing_threads: count("max_indexing_threads").unwrap_or(0),
            raw,
        })
    }
}

/// Returns the placement of an HNSW graph, `memory` and `on_disk` resolved as Qdrant does.
pub(super) fn hnsw_placement(hnsw: &Map<String, Value>) -> Memory {
    match hnsw.get("memory").and_then(Value::as_str) {
        Some(word) => Memory::from_word(word),
        None => Memory::from_on_disk(
            hnsw.get("on_disk")
                .and_then(Value::as_bool)
                .unwrap_or(false),
        ),
    }
}

/// Returns true if payload is left on disk, `payload.memory` and `on_disk_payload` resolved as
/// Qdrant does.
pub(super) fn payload_on_disk(params: &Map<String, Value>) -> bool {
    let memory = params
        .get("payload")
        .and_then(|payload| payload.get("memory"))
        .and_then(Value::as_str);
    match memory {
        Some(word) => Memory::from_word(word) == Memory::Cold,
        None => params
            .get("on_disk_payload")
            .and_then(Value::as_bool)
            .unwrap_or(true),
    }
}

/// The parts of a config that a server insists on, beside `params`: the object, the keys that must
/// be in it, and all that are known.
const REQUIRED: [(&str, &[&str], &[config_keys::Field]); 3] = [
    (
        "hnsw_config",
        &["m", "ef_construct", "full_scan_threshold"],
        config_keys::HNSW,
    ),
    (
        "optimizer_config",
        &["default_segment_number", "flush_interval_sec"],
        config_keys::OPTIMIZER,
    ),
    (
        "wal_config",
        &["wal_capacity_mb", "wal_segments_ahead"],
        config_keys::WAL,
    ),
];

impl CollectionConfig {
    /// Reads the bytes of a `config.json`; `source` is named in errors.
    pub fn parse(source: &str, bytes: &[u8]) -> Result<Self> {
        let value = serde_json::from_slice(bytes)
            .map_err(|e| e.to_string())
            .and_then(|value| match value {
                Value::Object(map) => Self::from_map(map),
                other => Err(format!("wants an object, has {other}")),
            });
        value.map_err(|why| {
            Error::damaged(format!("reading config.json of {source}"), why)
                .next("check the snapshot against its checksum; if that fits, take it again")
        })
    }

    /// The config in `map`, or all that is wrong with it.
    pub(super) fn from_map(raw: Map<String, Value>) -> Result<Self, String> {
        let mut problems = Vec::new();
        let mut hnsw = None;
        for (part, needed, table) in REQUIRED {
            let Some(Value::Object(map)) = raw.get(part) else {
                problems.push(format!("{part}: missing, or no object"));
                continue;
            };
            let read = config_keys::read_table(map, table, part, Reading::Source, &mut problems);
            for key in needed {
                if !read.contains_key(*key) {
                    problems.push(format!("{part}.{key}: missing"));
                }
            }
            if part == "hnsw_config" {
                hnsw = HnswSettings::from_map(read);
            }
        }

        let none = Map::new();
        let params = match raw.get("params") {
            Some(Value::Object(params)) => params,
            _ => {
                problems.push("params: missing, or no object".to_owned());
                &none
            }
        };
        let vectors = vectors::read_dense(params.get("vectors"), &mut problems);
        let sparse = vectors::read_sparse(params.get("sparse_vectors"), &vectors, &mut problems);
        let shard_number = match params.get("shard_number") {
            None => 1,
            Some(value) => match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
                Some(n) if n > 0 && u64::from(n) <= config_keys::SHARDS_MOST => n,
                _ => {
                    problems.push(format!(
                        "params.shard_number: wants 1 to {}, has {value}",
                        config_keys::SHARDS_MOST
                    ));
                    1
                }
            },
        };
        let sharding = match params.get("sharding_method") {
            None | Some(Value::Null) => ShardingMethod::Auto,
            Some(Value::String(word)) => ShardingMethod::from_word(word),
            Some(other) => {
                problems.push(format!("params.sharding_method: wants a word, has {other}"));
                ShardingMethod::Auto
            }
        };
        for key in ["quantization_config", "strict_mode_config", "metadata"] {
            if let Some(value) = raw.get(key)
                && !value.is_object()
                && !value.is_null()
            {
                problems.push(format!("{key}: wants an object, has {value}"));
            }
        }
        for key in ["on_disk_payload", "payload"] {
            match (key, params.get(key)) {
                (_, None | Some(Value::Null))
                | ("on_disk_payload", Some(Value::Bool(_)))
                | ("payload", Some(Value::Object(_))) => {}
                (_, Some(other)) => problems.push(format!("params.{key}: cannot be {other}")),
            }
        }

        match hnsw {
            Some(hnsw) if problems.is_empty() => Ok(Self {
                raw,
                vectors,
                sparse,
                hnsw,
                shard_number,
                sharding,
            }),
            _ => Err(problems.join("; ")),
        }
    }

    /// Qdrant's own JSON, as it was read.
    pub fn raw(&self) -> &Map<String, Value> {
        &self.raw
    }

    /// The bytes of a `config.json` that holds this config.
    pub fn to_bytes(&self) -> Vec<u8> {
        Value::from(self.raw.clone()).to_string().into_bytes()
    }

    /// The dense vectors by name; the unnamed one has the name "".
    pub fn vectors(&self) -> &BTreeMap<String, VectorParams> {
        &self.vectors
    }

    /// The sparse vectors by name.
    pub fn sparse_vectors(&self) -> &BTreeMap<String, SparseParams> {
        &self.sparse
    }

    /// Shards in the collection; with custom sharding, shards that a new shard key gets.
    pub fn shard_number(&self) -> u32 {
        self.shard_number
    }

    /// Returns the method by which points are spread over shards.
    pub fn sharding_method(&self) -> &ShardingMethod {
        &self.sharding
    }

    /// Returns true if payload is left on disk while served; `payload.memory` wins over the older
    /// flag.
    pub fn on_disk_payload(&self) -> bool {
        self.params().is_none_or(payload_on_disk)
    }

    /// `params` as written.
    pub fn params(&self) -> Option<&Map<String, Value>> {
        self.object("params")
    }

    /// `hnsw_config` as written: the settings of every vector that states none of its own.
    pub fn hnsw_config(&self) -> Option<&Map<String, Value>> {
        self.object("hnsw_config")
    }

    /// `optimizer_config` as written; thresholds are in kilobytes.
    pub fn optimizer_config(&self) -> Option<&Map<String, Value>> {
        self.object("optimizer_config")
    }

    /// `wal_config` as written.
    pub fn wal_config(&self) -> Option<&Map<String, Value>> {
        self.object("wal_config")
    }

    /// `quantization_config` as written: for every vector that states none of its own.
    pub fn quantization_config(&self) -> Option<&Value> {
        self.raw.get("quantization_config").filter(|v| !v.is_null())
    }

    /// `strict_mode_config` as written.
    pub fn strict_mode_config(&self) -> Option<&Value> {
        self.raw.get("strict_mode_config").filter(|v| !v.is_null())
    }

    /// The user's own notes on the collection, as written.
    pub fn metadata(&self) -> Option<&Value> {
        self.raw.get("metadata").filter(|v| !v.is_null())
    }

    /// The collection's identity on the server it came from.
    pub fn uuid(&self) -> Option<&str> {
        self.raw.get("uuid").and_then(Value::as_str)
    }

    fn object(&self, key: &str) -> Option<&Map<String, Value>> {
        self.raw.get(key).and_then(Value::as_object)
    }

    /// Returns the graph settings of `vector`: the collection's with the vector's own over them,
    /// key by key as Qdrant does. For a name that is not described, the collection's.
    pub fn effective_hnsw(&self, vector: &str) -> HnswSettings {
        let mut merged = self.hnsw.raw.clone();
        let diff = self
            .vectors
            .get(vector)
            .and_then(|v| v.hnsw_config.as_ref());
        for (key, value) in diff.into_iter().flatten() {
            merged.insert(key.clone(), value.clone());
        }
        HnswSettings::from_map(merged).unwrap_or_else(|| self.hnsw.clone())
    }

    /// Returns the graph settings of vectors that state nothing of their own.
    pub fn global_hnsw(&self) -> &HnswSettings {
        &self.hnsw
    }

    /// The quantization of `vector`: its own, else the collection's.
    pub fn effective_quantization(&self, vector: &str) -> Option<&Value> {
        self.vectors
            .get(vector)
            .and_then(|v| v.quantization_config.as_ref())
            .or_else(|| self.quantization_config())
    }

    /// Every value that this version does not know and so cannot act on: made by a newer server.
    pub fn unknown_values(&self) -> Vec<UnknownValue> {
        let mut found = Vec::new();
        let mut check = |known: bool, about: String, value: &dyn ToString| {
            if !known {
                found.push(UnknownValue {
                    about,
                    value: value.to_string(),
                });
            }
        };
        let label = vector_label;
        for (name, v) in &self.vectors {
            let label = label(name);
            check(
                v.distance.is_known(),
                format!("{label} distance"),
                &v.distance,
            );
            check(
                v.datatype().is_known(),
                format!("{label} datatype"),
                &v.datatype(),
            );
            check(
                v.placement().is_known(),
                format!("{label} memory"),
                &v.placement(),
            );
            if let Some(comparator) = &v.multivector {
                check(
                    comparator.is_known(),
                    format!("{label} multivector comparator"),
                    comparator,
                );
            }
            if let Some(q) = &v.quantization_config {
                let known = config_keys::is_known_quantization(q);
                check(known, format!("{label} quantization_config"), q);
            }
            let graph = hnsw_placement(&self.effective_hnsw(name).raw);
            check(
                graph.is_known(),
                format!("{label} hnsw_config.memory"),
                &graph,
            );
        }
        for (name, v) in &self.sparse {
            let label = label(name);
            check(
                v.modifier().is_known(),
                format!("{label} modifier"),
                &v.modifier(),
            );
            check(
                v.datatype().is_known(),
                format!("{label} index datatype"),
                &v.datatype(),
            );
            check(
                v.placement().is_known(),
                format!("{label} index memory"),
                &v.placement(),
            );
        }
        if let Some(q) = self.quantization_config() {
            let known = config_keys::is_known_quantization(q);
            check(known, "quantization_config".to_owned(), q);
        }
        check(
            self.sharding.is_known(),
            "sharding_method".to_owned(),
            &self.sharding,
        );
        found
    }
}

#[cfg(test)]
pub(super) mod tests;
