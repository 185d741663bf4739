//! Memory and disk to build a collection, and the configs that cannot be built.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::base::scratch::require_free;
use crate::format::schema::{CollectionConfig, Datatype, PayloadSchema, vector_label};

/// Free disk space that the engine requires to begin with a shard's indexes, however small the
/// shard is, in bytes: it makes its files ahead in pieces of 32 MiB, and wants twice of what a
/// shard takes. Measured.
const ENGINE_SHARD_BYTES: u64 = 48 << 20;
/// The same for each vector of a point.
const ENGINE_VECTOR_BYTES: u64 = 80 << 20;
/// The same for each payload index.
const ENGINE_INDEX_BYTES: u64 = 6 << 20;

/// Disk space that is needed, in bytes, at the most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Needs {
    /// In the scratch folder.
    pub scratch_bytes: u64,
    /// In the output's folder.
    pub output_bytes: u64,
    /// More in the scratch folder where segments are carried, if all of them had to be changed or merged: what that takes
    /// is compared with what is free once it is known which.
    #[serde(default)]
    pub changing_bytes: u64,
}

impl Needs {
    /// Refuses if the disks of `scratch` and of `output_folder`, where `output` goes, have less free: both together,
    /// if they are one disk.
    pub fn require(&self, scratch: &Path, output_folder: &Path, output: &str) -> Result<()> {
        let building = "unpacking and building";
        if device(scratch) == device(output_folder) {
            let both = self.scratch_bytes.saturating_add(self.output_bytes);
            return require_free(scratch, both, &format!("{building}, with {output},"));
        }
        require_free(scratch, self.scratch_bytes, building)?;
        require_free(output_folder, self.output_bytes, output)
    }
}

/// The disk of `folder`, or of the nearest folder above it that exists.
fn device(folder: &Path) -> Option<u64> {
    let mut folder = PathBuf::from(folder);
    loop {
        // Of a path without a folder, the current one.
        let path = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &folder
        };
        if let Ok(meta) = std::fs::metadata(path) {
            return Some(meta.dev());
        }
        if !folder.pop() {
            return None;
        }
    }
}

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
