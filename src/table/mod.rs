//! Points as tables: Parquet and Arrow IPC files, written and read.
//!
//! A table that is written here carries in its schema's metadata what its columns are and what the
//! collection's config is, so that it can be read back without being told (`snapmerge` in the key-value
//! metadata of a Parquet file, and in the schema's of an Arrow file).
//!
//! Invariants: what is written is read back bit by bit; a damaged or hostile file is an error that names it,
//! never a panic; memory is bounded by a batch of rows, or a row group.

mod columns;
mod kind;
mod read;
mod typed;
mod value;
mod vectors;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::error::Result;
use crate::format::schema::CollectionConfig;

pub use self::columns::{Fields, Mapping, VectorColumn};
pub use self::read::{TableReader, TableRow, whole_payload};
pub use self::typed::{Survey, TypedColumn};
pub use self::write::{TableShape, TableWriter, refuse_taken, vector_columns};

/// The key of [`TableMeta`] in a table's metadata.
const KEY: &str = "snapmerge";
/// Version of [`TableMeta`].
const VERSION: u32 = 1;

/// Form of a file of points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileForm {
    /// JSON lines, in the shape of Qdrant's scroll answer; compressed if the name ends in .gz
    Jsonl,
    /// Parquet
    Parquet,
    /// Arrow IPC, as a file or a stream
    Arrow,
}

impl FileForm {
    /// The form of the file at `path`, by its name; JSON lines if that tells nothing.
    pub fn of(path: &Path) -> Self {
        let ending = path
            .extension()
            .map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("parquet" | "pq") => Self::Parquet,
            Some("arrow" | "arrows" | "feather" | "ipc") => Self::Arrow,
            _ => Self::Jsonl,
        }
    }
}

impl fmt::Display for FileForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jsonl => "JSON lines",
            Self::Parquet => "Parquet",
            Self::Arrow => "Arrow IPC",
        })
    }
}

/// Description of a table and of the collection that it was made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableMeta {
    /// Version of this structure.
    pub version: u32,
    /// Column of the ids.
    pub id: String,
    /// Column of the payloads, as text of a JSON object.
    pub payload: Option<String>,
    /// Column of the shard keys, as JSON.
    pub shard_key: Option<String>,
    /// Columns of the vectors, by their names; the unnamed one has the empty name.
    pub vectors: BTreeMap<String, String>,
    /// Columns that only repeat parts of the payloads, with their types.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub repeats: BTreeMap<String, String>,
    /// The collection's config, as in `config.json`, without its uuid.
    pub config: Value,
    /// The collection's payload indexes, as in `payload_index.json`.
    pub payload_index: Value,
    /// The collection's shard keys, as in `shard_key_mapping.json`.
    pub shard_keys: Value,
}

impl TableMeta {
    /// The collection's config.
    pub fn config(&self) -> Result<CollectionConfig> {
        CollectionConfig::parse("a table", self.config.to_string().as_bytes())
    }

    /// Reads the description in a table's metadata; none if it is not of this version, or not ours.
    fn parse(text: Option<&String>) -> Option<Self> {
        let meta: Self = serde_json::from_str(text?).ok()?;
        (meta.version == VERSION).then_some(meta)
    }
}
