//! The JSON of `inspect` as a reader sees it who takes the contract literally: a field that is
//! missing, new or of another type fails the test.

#![expect(
    dead_code,
    reason = "that a field is there and has its type is what most of them are for"
)]

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// `null`, or a value; but not left out.
fn told<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(from)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inspection {
    pub format: String,
    pub version: String,
    pub command: String,
    pub outcome: String,
    pub snapshots: Vec<Snapshot>,
    pub merge: Merge,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    pub file: String,
    pub name: String,
    pub verdict: String,
    pub problems: Vec<Problem>,
    pub notes: Vec<String>,
    #[serde(deserialize_with = "told")]
    pub contents: Option<Contents>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    #[serde(deserialize_with = "told")]
    pub shard: Option<u32>,
    #[serde(deserialize_with = "told")]
    pub segment: Option<String>,
    pub why: String,
    #[serde(deserialize_with = "told")]
    pub next: Option<String>,
    pub incomplete: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    pub form: String,
    pub compressed: bool,
    pub file_bytes: u64,
    pub unpacked_bytes_max: u64,
    pub checksum: Checksum,
    #[serde(deserialize_with = "told")]
    pub sha256: Option<String>,
    #[serde(deserialize_with = "told")]
    pub points_count: Option<u64>,
    pub segments_count: u64,
    pub segments_bytes: u64,
    pub log_bytes: u64,
    #[serde(deserialize_with = "told")]
    pub log_not_provably_taken_in_count: Option<u64>,
    pub config: Map<String, Value>,
    pub config_is_derived: bool,
    pub vectors: BTreeMap<String, Vector>,
    pub sparse_vectors: BTreeMap<String, SparseVector>,
    pub payload_on_disk: bool,
    pub payload_schema: BTreeMap<String, Value>,
    pub sharding_method: String,
    pub shard_keys: Vec<ShardKey>,
    pub shards: Vec<Shard>,
    pub restored_by: Servers,
    pub unknown_members_count: u64,
    pub unknown_members: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, tag = "state", rename_all = "snake_case")]
pub enum Checksum {
    Verified {
        sha256: String,
        hash: String,
        by: Vec<String>,
    },
    Unchecked {
        by: Vec<String>,
    },
    Unverified {},
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    pub size: u64,
    pub distance: String,
    pub datatype: String,
    #[serde(deserialize_with = "told")]
    pub multivector: Option<String>,
    pub memory: String,
    pub hnsw: Hnsw,
    #[serde(deserialize_with = "told")]
    pub quantization: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hnsw {
    pub m: u64,
    pub ef_construct: u64,
    pub full_scan_threshold_kb: u64,
    #[serde(deserialize_with = "told")]
    pub payload_m: Option<u64>,
    pub on_disk: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SparseVector {
    pub datatype: String,
    pub modifier: String,
    pub memory: String,
    #[serde(deserialize_with = "told")]
    pub full_scan_threshold: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardKey {
    pub key: Value,
    pub shard_ids: Vec<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    pub shard: u32,
    #[serde(deserialize_with = "told")]
    pub shard_key: Option<Value>,
    #[serde(deserialize_with = "told")]
    pub replicas: Option<Replicas>,
    #[serde(deserialize_with = "told")]
    pub points_count: Option<u64>,
    #[serde(deserialize_with = "told")]
    pub ids_in_several_segments_count: Option<u64>,
    pub segments_bytes: u64,
    pub segments: Vec<Segment>,
    #[serde(deserialize_with = "told")]
    pub log: Option<Log>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replicas {
    pub is_local: bool,
    pub this_peer_id: u64,
    #[serde(deserialize_with = "told")]
    pub own_state: Option<String>,
    pub states: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub bytes: u64,
    pub entries_count: u64,
    pub tail_count: u64,
    pub not_provably_taken_in_count: u64,
    pub not_provably_taken_in: BTreeMap<String, u64>,
    pub torn_files: Vec<String>,
    pub blank_first_index: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    pub uuid: String,
    #[serde(deserialize_with = "told")]
    pub version: Option<u64>,
    pub bytes: u64,
    pub files_count: u64,
    #[serde(deserialize_with = "told")]
    pub points: Option<SegmentPoints>,
    #[serde(deserialize_with = "told")]
    pub in_rocksdb: Option<InRocks>,
    #[serde(deserialize_with = "told")]
    pub payload_storage: Option<Storage>,
    pub payload_indexes: Vec<String>,
    pub vectors: Vec<SegmentVector>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentPoints {
    pub ids: String,
    pub points_count: u64,
    pub deleted_count: u64,
    pub unversioned_count: u64,
    pub pending_deletes_count: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    pub kind: String,
    #[serde(deserialize_with = "told")]
    pub on_disk: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentVector {
    pub name: String,
    pub sparse: bool,
    #[serde(deserialize_with = "told")]
    pub storage: Option<Storage>,
    #[serde(deserialize_with = "told")]
    pub slots_count: Option<u64>,
    #[serde(deserialize_with = "told")]
    pub index: Option<Storage>,
    #[serde(deserialize_with = "told")]
    pub hnsw_m: Option<u64>,
    #[serde(deserialize_with = "told")]
    pub hnsw_ef_construct: Option<u64>,
    #[serde(deserialize_with = "told")]
    pub quantization: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    pub possible: bool,
    pub unreadable_count: u64,
    pub incomplete_count: u64,
    pub blocking_count: u64,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    pub severity: String,
    pub about: String,
    pub values: Vec<SourceValue>,
    pub meaning: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceValue {
    pub source: String,
    pub value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Servers {
    pub from: [u32; 3],
    pub from_for: String,
    #[serde(deserialize_with = "told")]
    pub before: Option<[u32; 3]>,
    pub before_for: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InRocks {
    pub ids: bool,
    pub payload: bool,
    pub vectors: Vec<String>,
    pub sparse_vectors: Vec<String>,
    pub payload_indexes: bool,
}
