//! The records of an unpacked segment, read without the engine: dense vectors of four-byte numbers, and payloads
//! in a gridstore, as today's servers keep them.
//!
//! The engine takes some 10 ms to open a shard and to close it, whatever is in it, nearly all of them the
//! system's: of thousands of small collections that is more than all else. The forms are those of [`super::storage`].
//!
//! Invariants: only what is exactly of the known form is read here, everything else is left to the engine; a
//! record that is read is the one that the engine reads, bit by bit.

use std::path::Path;

use serde_json::Value;

use super::kind::{DenseFiles, DenseStorage};
use super::layout;
use super::payloads::STORAGE;
use super::schema::CollectionConfig;
use super::storage::{DenseReader, GridstoreReader};
use crate::base::error::{Error, Result};
use crate::point::{PointId, Record, Vector};

/// Storages of payloads that are gridstores.
const GRIDSTORE: [&str; 2] = ["mmap", "in_ram_mmap"];

/// Returns true if a segment with this `segment.json`, of a collection with `config`, says that it is of the
/// form that is read here.
pub fn is_plain(state: &Value, config: &CollectionConfig) -> bool {
    let state = &state["config"];
    let none = serde_json::Map::new();
    let vectors = state["vector_data"].as_object().unwrap_or(&none);
    let of = |name: &String, vector: &Value| {
        let datatype = vector["datatype"].as_str();
        config.vectors().contains_key(name)
            && files(vector).is_some()
            && datatype.is_none_or(|datatype| datatype == "float32")
            && vector["multivector_config"].is_null()
            && vector["size"].is_u64()
    };
    let payloads = state["payload_storage_type"]["type"].as_str();
    vectors.len() == config.vectors().len()
        && vectors.iter().all(|(name, vector)| of(name, vector))
        && config.sparse_vectors().is_empty()
        && (state["sparse_vector_data"].as_object()).is_none_or(serde_json::Map::is_empty)
        && payloads.is_some_and(|kind| GRIDSTORE.contains(&kind))
}

/// Form of the files of the `vector` in `segment.json`, if it is known.
fn files(vector: &Value) -> Option<DenseFiles> {
    DenseStorage::of_vector(vector)?.files
}

/// Reads records by the offsets of their points.
#[derive(Debug)]
pub struct SegmentReader {
    what: String,
    /// By name.
    vectors: Vec<(String, DenseReader)>,
    payloads: GridstoreReader,
}

impl SegmentReader {
    /// The segment in `folder`, called `what` in errors, whose `segment.json` is `state` and [`is_plain`]; none
    /// if its files are not of that form after all, or end before the offset `last`.
    pub fn open(folder: &Path, state: &Value, last: u32, what: &str) -> Result<Option<Self>> {
        let mut vectors = Vec::new();
        for (name, vector) in state["config"]["vector_data"]
            .as_object()
            .into_iter()
            .flatten()
        {
            let dim = vector["size"].as_u64().unwrap_or(0);
            let storage = folder.join(layout::vector_storage(name));
            let Some(files) = files(vector) else {
                return Ok(None);
            };
            let reader = DenseReader::open(&storage, dim, files, what)?;
            match reader.filter(|reader| reader.length() > u64::from(last)) {
                Some(reader) => vectors.push((name.clone(), reader)),
                None => return Ok(None),
            }
        }
        vectors.sort_by(|(one, _), (other, _)| one.cmp(other));
        let storage = folder.join(STORAGE);
        if !storage.join("config.json").exists() {
            return Ok(None);
        }
        let payloads = GridstoreReader::open(&storage, &format!("the payloads of {what}"))?;
        Ok(Some(Self {
            what: what.to_owned(),
            vectors,
            payloads,
        }))
    }

    /// The record of the point `id`, which lies at `offset`.
    pub fn record(&mut self, id: PointId, offset: u32) -> Result<Record> {
        let mut record = Record::bare(id);
        for (name, reader) in &mut self.vectors {
            if let Some(values) = reader.read(offset)? {
                record.vectors.push((name.clone(), Vector::Dense(values)));
            }
        }
        if let Some(text) = self.payloads.read(offset)? {
            record.payload = serde_json::from_slice(&text).map_err(|err| {
                Error::damaged(
                    format!("reading the payloads of {}", self.what),
                    format!("point {id}, offset {offset}: {err}"),
                )
                .next("check the snapshot against its checksum; if that fits, take it again")
            })?;
        }
        Ok(record)
    }
}
