//! Report of `inspect`, in one structure for people and for programs.
//!
//! The JSON of [`Inspection`] is a contract: within `snapmerge-inspect/1` fields are added, never
//! taken away, renamed or given another meaning. Fields that cannot be known are `null`, never
//! guessed; sizes are in bytes unless their name says otherwise.
//!
//! Invariants: text and JSON are made of the same values; a snapshot that cannot be read, or a part
//! of one, has its reason in its place and takes nothing away from what is told of the others.

mod gather;
mod merge;
mod request;

pub use self::request::InspectRequest;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::base::error::Error;
use crate::base::operation::Envelope;
use crate::format::rocks::InRocks;
use crate::format::schema::{Finding, PayloadSchema, ShardKeys};
use crate::format::{Form, Servers};
use crate::point::ShardKey;
use crate::source::Checksum;

/// All that `inspect` found.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Inspection {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// The snapshots, in the order given.
    pub snapshots: Vec<SnapshotReport>,
    /// Result of the check that they can be merged as they are.
    pub merge: MergeReport,
    /// Why the only snapshot cannot be looked into.
    #[serde(skip)]
    pub lone_error: Option<Error>,
}

/// Readability of a snapshot.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All of it.
    Readable,
    /// All that is there can be read, but points may be missing; `problems` says why.
    Incomplete,
    /// Not, or not without losing something; `problems` says why.
    Unreadable,
}

/// One snapshot.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotReport {
    /// The file, as it was given.
    pub file: String,
    /// Name of the snapshot as a source of a merge: the collection's, as far as the file's name tells it.
    pub name: String,
    /// Readability of the snapshot.
    pub verdict: Verdict,
    /// Why it cannot be read or may lack points; empty if it is readable.
    pub problems: Vec<Problem>,
    /// Notes worth knowing that are no problems.
    pub notes: Vec<String>,
    /// Contents of the snapshot; `null` if the file cannot be opened.
    pub contents: Option<Contents>,
}

/// A reason why something cannot be read, or may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// The shard that it is about; `null` if it is about the whole file.
    pub shard: Option<u32>,
    /// The segment that it is about; `null` if it is about more than one.
    pub segment: Option<Uuid>,
    /// Description of the problem.
    pub why: String,
    /// Advice; `null` if there is none.
    pub next: Option<String>,
    /// True if points may be missing rather than unreadable: all that is there can be read.
    pub incomplete: bool,
}

/// Contents of a snapshot.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Contents {
    /// `collection`, `shard` or `streamed_shard`.
    pub form: Form,
    /// True if the file is a .gz.
    pub compressed: bool,
    /// The file's size.
    pub file_bytes: u64,
    /// Maximum size of the unpacked files on disk, in bytes.
    pub unpacked_bytes_max: u64,
    /// Integrity of the file: `state` is `verified`, `unchecked` (there is a checksum, not compared: see
    /// `--check`) or `unverified` (there is none); `hash` is what was compared, `sha256`, `blake3` or `xxh3`.
    pub checksum: Checksum,
    /// The file's SHA-256, if all of it was read (`--check`, or a .gz with a checksum).
    pub sha256: Option<String>,
    /// Different ids in each shard's segments, added up over the shards: points before the log is
    /// replayed. `null` if not all segments can be read, or some keep their ids in RocksDB.
    pub points_count: Option<u64>,
    /// Segments in all shards.
    pub segments_count: u64,
    /// Bytes of the snapshot that segments take.
    pub segments_bytes: u64,
    /// Bytes of the snapshot that logs take, holes not counted.
    pub log_bytes: u64,
    /// Entries of all logs that the segments do not provably hold. `null` if not all logs can be
    /// read.
    pub log_not_provably_taken_in_count: Option<u64>,
    /// The collection's config as Qdrant wrote it.
    pub config: Map<String, Value>,
    /// True if `config` and `payload_schema` are derived from the segments with Qdrant's defaults, because a
    /// shard snapshot has no config of its own.
    pub config_is_derived: bool,
    /// The dense vectors by name, the unnamed one under "", with defaults and inherited settings
    /// resolved.
    pub vectors: BTreeMap<String, VectorReport>,
    /// The sparse vectors by name, defaults resolved.
    pub sparse_vectors: BTreeMap<String, SparseVectorReport>,
    /// True if payload is left on disk while it is served.
    pub payload_on_disk: bool,
    /// The payload indexes by field, as Qdrant writes them.
    pub payload_schema: PayloadSchema,
    /// Method by which points are spread over shards: `auto` or `custom`.
    pub sharding_method: String,
    /// The shard keys, each with the ids of its shards; empty without custom sharding.
    pub shard_keys: ShardKeys,
    /// The shards that are in the snapshot; a shard snapshot's only one is number 0.
    pub shards: Vec<ShardReport>,
    /// The servers that restore it as it is: `from` one version, and up to `before` another if newer ones
    /// do not read it, each as major, minor and patch.
    pub restored_by: Servers,
    /// Number of members of the tar that no known Qdrant writes.
    pub unknown_members_count: u64,
    /// Their names; the first 20.
    pub unknown_members: Vec<String>,
}

/// A dense vector of the collection.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct VectorReport {
    /// Elements in the vector.
    pub size: u64,
    /// Distance function: `Cosine`, `Euclid`, `Dot`, `Manhattan`, or a newer server's word.
    pub distance: String,
    /// Datatype of one element: `float32`, `float16`, `uint8`, …
    pub datatype: String,
    /// Comparison of the vectors of a multivector; `null` if a point has just one vector.
    pub multivector: Option<String>,
    /// Placement of the vectors while served: `cold` (on disk), `cached` or `pinned`.
    pub memory: String,
    /// Build parameters of the vector's graph.
    pub hnsw: HnswReport,
    /// Quantization as Qdrant writes it; the collection's if the vector has none of its own.
    pub quantization: Option<Value>,
}

/// Build parameters of a graph.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct HnswReport {
    /// Edges per node; 0 for no graph.
    pub m: u64,
    /// Neighbours considered while building.
    pub ef_construct: u64,
    /// Kilobytes of vectors below which a search scans them all.
    pub full_scan_threshold_kb: u64,
    /// Edges per node in the extra links along indexed payload; `null` stands for `m`.
    pub payload_m: Option<u64>,
    /// True if the graph is left on disk while it is served.
    pub on_disk: bool,
}

/// A sparse vector of the collection.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SparseVectorReport {
    /// Datatype of one weight in the index.
    pub datatype: String,
    /// Modifier of values at query time: `none` or `idf`.
    pub modifier: String,
    /// Placement of the index while served: `cold` (on disk), `cached` or `pinned`.
    pub memory: String,
    /// Number of vectors below which a search scans them all; `null` for Qdrant's default.
    pub full_scan_threshold: Option<u64>,
}

/// One shard.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct ShardReport {
    /// Number of the shard.
    pub shard: u32,
    /// The shard key that it belongs to.
    pub shard_key: Option<ShardKey>,
    /// The states of its replicas; `null` if the snapshot does not tell.
    pub replicas: Option<ReplicasReport>,
    /// Different ids in its segments; of an id in several segments the newest version counts.
    /// `null` if not all segments can be read.
    pub points_count: Option<u64>,
    /// Number of ids that lie in more than one segment; `null` if not all segments can be read.
    pub ids_in_several_segments_count: Option<u64>,
    /// Bytes of the snapshot that the shard's segments take.
    pub segments_bytes: u64,
    /// Segments in the order of their UUIDs.
    pub segments: Vec<SegmentReport>,
    /// Log of the shard; `null` if there is none, or it cannot be read (then it is among the problems).
    pub log: Option<LogReport>,
}

/// The replicas of a shard.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReplicasReport {
    /// True if the node that took the snapshot has the shard.
    pub is_local: bool,
    /// That node's id.
    pub this_peer_id: u64,
    /// The state of the replica that the snapshot was taken of.
    pub own_state: Option<String>,
    /// The states of all replicas by node.
    pub states: BTreeMap<String, String>,
}

/// A shard's log.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct LogReport {
    /// Bytes of the snapshot that the log takes, holes not counted.
    pub bytes: u64,
    /// Entries in all.
    pub entries_count: u64,
    /// Entries from the last acknowledged one on, which are applied again when the shard is loaded.
    pub tail_count: u64,
    /// Entries of the tail that the segments do not provably hold already: applying them may
    /// change points.
    pub not_provably_taken_in_count: u64,
    /// The same by the operation's name in the log.
    pub not_provably_taken_in: BTreeMap<String, u64>,
    /// Files of the log that go on with something other than zeros after their last whole entry:
    /// an append that was cut off, or damage.
    pub torn_files: Vec<String>,
    /// True if the log's `first-index` says nothing, as a server that crashed leaves it.
    pub blank_first_index: bool,
}

/// One segment.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SegmentReport {
    /// UUID of the segment, which is its name in the snapshot.
    pub uuid: Uuid,
    /// The number of the last operation that it has taken in; `null` if none or not told.
    pub version: Option<u64>,
    /// Bytes of the snapshot that the segment takes.
    pub bytes: u64,
    /// Number of files in the segment.
    pub files_count: u64,
    /// Points of the segment; `null` if they cannot be read, or lie in RocksDB.
    pub points: Option<SegmentPoints>,
    /// Data that the segment keeps in RocksDB, as servers up to 1.17 do; `null` if there is none.
    pub in_rocksdb: Option<InRocks>,
    /// Storage of the payload; `null` if not told.
    pub payload_storage: Option<Storage>,
    /// Fields that have an index in it.
    pub payload_indexes: Vec<String>,
    /// Vectors of the segment: dense ones by name, then sparse ones.
    pub vectors: Vec<SegmentVector>,
}

/// The points of a segment.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SegmentPoints {
    /// Format of the ids: `none` (there never was a point), `mutable`, `immutable` or `disk`.
    pub ids: String,
    /// Points that are there.
    pub points_count: u64,
    /// Places that a deleted or replaced point left behind.
    pub deleted_count: u64,
    /// Points without a version, left by an interrupted flush; the engine drops them and counts on
    /// the log to bring them back.
    pub unversioned_count: u64,
    /// Points that a delete beside the segment takes away; servers before 1.19 do not know of it.
    pub pending_deletes_count: u64,
}

/// Storage of a segment's data.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Storage {
    /// The kind, in Qdrant's word.
    pub kind: String,
    /// True if the data is left on disk rather than read into memory; `null` for a kind not known here.
    pub on_disk: Option<bool>,
}

/// A vector of a segment.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SegmentVector {
    /// The vector's name.
    pub name: String,
    /// True if the vector is sparse.
    pub sparse: bool,
    /// Storage of the vector; `null` if not told.
    pub storage: Option<Storage>,
    /// Places for vectors in its storage, deleted and missing ones included; only where the
    /// storage's size tells it exactly.
    pub slots_count: Option<u64>,
    /// Index of the vector: `plain` or `hnsw` for a dense one, Qdrant's word for a sparse one's.
    pub index: Option<Storage>,
    /// Edges per node of its graph.
    pub hnsw_m: Option<u64>,
    /// Neighbours considered when its graph was built.
    pub hnsw_ef_construct: Option<u64>,
    /// Quantization as Qdrant writes it.
    pub quantization: Option<Value>,
}

/// Result of the check that the snapshots can be merged into one.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct MergeReport {
    /// True if a merge would take the snapshots as they are: all are readable, and nothing blocks.
    pub possible: bool,
    /// Snapshots that cannot be read.
    pub unreadable_count: u64,
    /// Snapshots that may lack points; a merge takes them with `--allow-incomplete`.
    pub incomplete_count: u64,
    /// Findings of severity `blocks`.
    pub blocking_count: u64,
    /// Findings over all snapshots that can be opened: first those that stop the merge (`blocks`), then those
    /// where the master takes one side's value (`differs`), then those that are only worth knowing (`note`).
    pub findings: Vec<Finding>,
}
