//! What building a collection needs, and what cannot be built.

use crate::base::error::{Error, Result};
use crate::format::schema::{CollectionConfig, Datatype, PayloadSchema, vector_label};

/// Free disk space that the engine requires to begin with a shard's indexes, however small the
/// shard is, in bytes: it makes its files ahead in pieces of 32 MiB, and wants twice of what a
/// shard takes. Measured.
const ENGINE_SHARD_BYTES: u64 = 48 << 20;
/// The same for each vector of a point.
const ENGINE_VECTOR_BYTES: u64 = 80 << 20;
/// The same for each payload index.
const ENGINE_INDEX_BYTES: u64 = 6 << 20;

/// Free disk space in bytes that the engine requires to build a collection, however small it is. Shards are
/// built one after the other.
pub fn engine_bytes(config: &CollectionConfig, payload: &PayloadSchema) -> u64 {
    let vectors: u64 = config
        .vectors()
        .values()
        .map(|vector| if vector.multivector.is_some() { 2 } else { 1 })
        .sum();
    let indexes = payload.fields().len() as u64;
    ENGINE_SHARD_BYTES + vectors * ENGINE_VECTOR_BYTES + indexes * ENGINE_INDEX_BYTES
}

/// Vectors that are stored lossily, in words: they cannot be read and written again without a change.
pub fn lossy(config: &CollectionConfig) -> Vec<String> {
    (config.vectors().iter())
        .filter(|(_, params)| {
            matches!(
                params.datatype(),
                Datatype::Turbo4 | Datatype::Turbo8 | Datatype::Turbo16
            )
        })
        .map(|(name, params)| format!("{} is stored as {}", vector_label(name), params.datatype()))
        .collect()
}

/// Refuses vectors that are stored lossily, in what is being `done`; `next` is what to do instead.
pub fn refuse_lossy(config: &CollectionConfig, doing: &str, next: &str) -> Result<()> {
    let lossy = lossy(config);
    if lossy.is_empty() {
        return Ok(());
    }
    let why = format!(
        "{}: the originals are not in the snapshot, and writing again what was read would change it",
        lossy.join(", ")
    );
    Err(Error::usage(doing, why).next(next))
}
