//! The keys of Qdrant's config JSON that this version knows, and what each may hold.
//!
//! Two readers use the tables: a user's `--config` file, where an unknown key is a typing error and
//! named with the nearest known one, and a source's own config, where unknown keys are a newer
//! server's and kept, but a known key that holds the wrong type is damage.
//!
//! Invariants: every problem of a file is found in one reading; the tables are the only place that
//! lists keys and bounds.

mod reading;

pub(super) use reading::{
    Reading, is_hnsw_m, is_known_quantization, is_unnamed_vector, read_table,
};

use super::enums::{Comparator, Datatype, Distance, Memory, Modifier, ShardingMethod};

/// Values that a key may hold.
#[derive(Debug)]
pub(super) enum Want {
    /// A whole number within bounds.
    Count(u64, u64),
    /// HNSW's number of edges: 0 for no graph, else at least 4.
    Edges,
    /// Any number within bounds.
    Share(f64, f64),
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number, or the word "auto", which stands for "not set".
    Threads,
    /// An object with these keys.
    Table(&'static [Field]),
    /// An object of named objects with these keys.
    Each(&'static [Field]),
    /// One unnamed vector's object, or an object of named ones.
    Vectors,
    /// Exactly one kind of quantization.
    Quantization,
    /// Any object.
    Object,
    /// Anything; what it holds is not used.
    Anything,
}

/// One key of an object.
#[derive(Debug)]
pub(super) struct Field {
    /// The key as Qdrant writes it.
    pub(super) name: &'static str,
    /// Another spelling that Qdrant reads; empty for none.
    pub(super) alias: &'static str,
    pub(super) want: Want,
    /// True if `null` is a statement ("not set") and not just an absent value.
    pub(super) unset: bool,
}

const fn field(name: &'static str, want: Want) -> Field {
    Field {
        name,
        alias: "",
        want,
        unset: false,
    }
}

const fn alias(name: &'static str, alias: &'static str, want: Want) -> Field {
    Field {
        alias,
        ..field(name, want)
    }
}

const fn unset(field: Field) -> Field {
    Field {
        unset: true,
        ..field
    }
}

const ANY: u64 = u64::MAX;
/// More than any graph is built with; a larger number is a typing error.
pub(super) const HNSW_M_MOST: u64 = 1_000;
/// Below this the server refuses the config.
pub(super) const EF_CONSTRUCT_LEAST: u64 = 4;
/// More than any graph is built with; a larger number is a typing error.
pub(super) const EF_CONSTRUCT_MOST: u64 = 100_000;
/// More shards than one collection is ever split into; a larger number is a typing error.
pub(super) const SHARDS_MOST: u64 = 10_000;
/// The most elements that Qdrant allows in a vector.
pub(super) const SIZE_MOST: u64 = 65_536;

const MEMORY: Want = Want::Word(Memory::KNOWN);

/// Keys of `hnsw_config`, global or of one vector.
pub(super) const HNSW: &[Field] = &[
    field("m", Want::Edges),
    field(
        "ef_construct",
        Want::Count(EF_CONSTRUCT_LEAST, EF_CONSTRUCT_MOST),
    ),
    alias(
        "full_scan_threshold",
        "full_scan_threshold_kb",
        Want::Count(10, ANY),
    ),
    field("max_indexing_threads", Want::Count(0, ANY)),
    field("on_disk", Want::Flag),
    field("memory", MEMORY),
    field("payload_m", Want::Count(0, HNSW_M_MOST)),
    field("inline_storage", Want::Flag),
];

/// Keys of `optimizer_config`.
pub(super) const OPTIMIZER: &[Field] = &[
    field("deleted_threshold", Want::Share(0.0, 1.0)),
    field("vacuum_min_vector_number", Want::Count(100, ANY)),
    field("default_segment_number", Want::Count(0, ANY)),
    unset(alias(
        "max_segment_size",
        "max_segment_size_kb",
        Want::Count(1, ANY),
    )),
    unset(alias(
        "memmap_threshold",
        "memmap_threshold_kb",
        Want::Count(0, ANY),
    )),
    unset(alias(
        "indexing_threshold",
        "indexing_threshold_kb",
        Want::Count(0, ANY),
    )),
    field("flush_interval_sec", Want::Count(0, ANY)),
    unset(field("max_optimization_threads", Want::Threads)),
    unset(field("prevent_unoptimized", Want::Flag)),
];

/// Keys of `wal_config`.
pub(super) const WAL: &[Field] = &[
    field("wal_capacity_mb", Want::Count(1, ANY)),
    field("wal_segments_ahead", Want::Count(0, ANY)),
    field("wal_retain_closed", Want::Count(1, ANY)),
];

/// Keys of one dense vector.
pub(super) const VECTOR: &[Field] = &[
    field("size", Want::Count(1, SIZE_MOST)),
    field("distance", Want::Word(Distance::KNOWN)),
    field("hnsw_config", Want::Table(HNSW)),
    alias("quantization_config", "quantization", Want::Quantization),
    field("on_disk", Want::Flag),
    field("memory", Want::Word(&["cold", "cached"])),
    field("datatype", Want::Word(Datatype::KNOWN)),
    field(
        "multivector_config",
        Want::Table(&[field("comparator", Want::Word(Comparator::KNOWN))]),
    ),
];

/// Keys of one sparse vector.
pub(super) const SPARSE: &[Field] = &[
    field(
        "index",
        Want::Table(&[
            field("full_scan_threshold", Want::Count(0, ANY)),
            field("on_disk", Want::Flag),
            field("memory", MEMORY),
            field("datatype", Want::Word(&["float32", "float16", "uint8"])),
        ]),
    ),
    field("modifier", Want::Word(Modifier::KNOWN)),
];

const PAYLOAD: Want = Want::Table(&[field("memory", Want::Word(&["cold", "cached"]))]);

const STRICT: &[Field] = &[
    field("enabled", Want::Flag),
    field("max_query_limit", Want::Count(1, ANY)),
    field("max_timeout", Want::Count(1, ANY)),
    field("unindexed_filtering_retrieve", Want::Flag),
    field("unindexed_filtering_update", Want::Flag),
    field("search_max_hnsw_ef", Want::Count(0, ANY)),
    field("search_allow_exact", Want::Flag),
    field("search_max_oversampling", Want::Share(0.0, f64::MAX)),
    field("upsert_max_batchsize", Want::Count(0, ANY)),
    field("search_max_batchsize", Want::Count(0, ANY)),
    field("max_collection_vector_size_bytes", Want::Count(0, ANY)),
    field("read_rate_limit", Want::Count(1, ANY)),
    field("write_rate_limit", Want::Count(1, ANY)),
    field("max_collection_payload_size_bytes", Want::Count(0, ANY)),
    field("max_points_count", Want::Count(1, ANY)),
    field("filter_max_conditions", Want::Count(0, ANY)),
    field("condition_max_size", Want::Count(0, ANY)),
    field("multivector_config", Want::Object),
    field("sparse_config", Want::Object),
    field("max_payload_index_count", Want::Count(0, ANY)),
    field("max_resident_memory_percent", Want::Count(1, 100)),
];

/// The keys of `params`, and their counterparts at the top of a create-collection body.
macro_rules! params {
    ($($more:expr),* $(,)?) => {
        &[
            field("vectors", Want::Vectors),
            field("sparse_vectors", Want::Each(SPARSE)),
            field("shard_number", Want::Count(1, SHARDS_MOST)),
            field("sharding_method", Want::Word(ShardingMethod::KNOWN)),
            field("replication_factor", Want::Count(1, u32::MAX as u64)),
            field("write_consistency_factor", Want::Count(1, u32::MAX as u64)),
            field("on_disk_payload", Want::Flag),
            field("payload", PAYLOAD),
            $($more),*
        ]
    };
}

/// The top of a collection's own config.json.
pub(super) const FULL: &[Field] = &[
    field("params", Want::Table(PARAMS)),
    field("hnsw_config", Want::Table(HNSW)),
    field("optimizer_config", Want::Table(OPTIMIZER)),
    field("wal_config", Want::Table(WAL)),
    unset(field("quantization_config", Want::Quantization)),
    field("strict_mode_config", Want::Table(STRICT)),
    field("metadata", Want::Object),
    field("uuid", Want::Anything),
];

/// Keys of `params` in a collection's own config.json.
pub(super) const PARAMS: &[Field] = params![
    field("read_fan_out_factor", Want::Count(0, u32::MAX as u64)),
    field("read_fan_out_delay_ms", Want::Count(0, ANY)),
];

/// The top of a body of `PUT /collections/NAME`.
pub(super) const CREATE: &[Field] = params![
    field("hnsw_config", Want::Table(HNSW)),
    alias(
        "optimizers_config",
        "optimizer_config",
        Want::Table(OPTIMIZER)
    ),
    field("wal_config", Want::Table(WAL)),
    unset(alias(
        "quantization_config",
        "quantization",
        Want::Quantization
    )),
    field("strict_mode_config", Want::Table(STRICT)),
    field("metadata", Want::Object),
    field("uuid", Want::Anything),
];

/// The kinds of quantization and the keys of each.
const QUANTIZATIONS: &[Field] = &[
    field(
        "scalar",
        Want::Table(&[
            field("type", Want::Word(&["int8"])),
            field("quantile", Want::Share(0.5, 1.0)),
            field("always_ram", Want::Flag),
            field("memory", MEMORY),
        ]),
    ),
    field(
        "product",
        Want::Table(&[
            field("compression", Want::Word(COMPRESSIONS)),
            field("always_ram", Want::Flag),
            field("memory", MEMORY),
        ]),
    ),
    field(
        "binary",
        Want::Table(&[
            field("always_ram", Want::Flag),
            field("memory", MEMORY),
            field(
                "encoding",
                Want::Word(&["one_bit", "two_bits", "one_and_half_bits"]),
            ),
            field(
                "query_encoding",
                Want::Word(&["default", "binary", "scalar4bits", "scalar8bits"]),
            ),
        ]),
    ),
    field(
        "turbo",
        Want::Table(&[
            field("always_ram", Want::Flag),
            field("memory", MEMORY),
            field(
                "bits",
                Want::Word(&["bits1", "bits1_5", "bits2", "bits4", "bits8"]),
            ),
        ]),
    ),
];

/// The compressions of product quantization.
pub(super) const COMPRESSIONS: &[&str] = &["x4", "x8", "x16", "x32", "x64"];
