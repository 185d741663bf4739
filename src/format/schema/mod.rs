//! A collection's config: read, compared, united.
//!
//! The files in which a snapshot describes its collection (`config.json`, `payload_index.json`,
//! `shard_key_mapping.json`) are read into types that keep Qdrant's own JSON beside them;
//! [`compare`] finds what stops sources from being merged and what only differs; [`unite`] makes
//! the master's config and says which side won where.
//!
//! Invariants: everything here is pure, from bytes and values to values: no file, no engine, no
//! clock, so the same sources and overrides always give the same config; answers are lists of typed
//! findings and decisions, never a bare yes or no; what a newer server wrote is kept or named, never
//! dropped in silence.

mod compare;
mod config;
mod config_keys;
mod defaults;
mod enums;
mod new_index;
mod overrides;
mod payload;
mod shard_keys;
mod unite;
mod vector_changes;
mod vectors;

pub use compare::{Finding, Severity, SourceValue, compare};
pub use config::{CollectionConfig, HnswSettings, UnknownValue};
pub use enums::{Comparator, Datatype, Distance, Memory, Modifier, ShardingMethod};
pub use new_index::NewIndex;
pub use overrides::{Overrides, Quantization, UserConfig};
pub use payload::{INDEX_TYPES, PayloadSchema, index_type, same_index, show_index};
pub use shard_keys::ShardKeys;
pub use unite::{Decision, United, unite};
pub use vector_changes::VectorChanges;
pub use vectors::{SparseParams, VectorParams, vector_label};

/// One source of a merge as this module sees it: its name, its config, its payload indexes. The
/// order of sources is the order of the merge.
pub type Source<'a> = (String, &'a CollectionConfig, &'a PayloadSchema);
