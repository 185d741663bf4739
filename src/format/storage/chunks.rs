//! Vectors of one size in files of 32 MiB: lib/segment/src/vector_storage/chunked_vectors.
//!
//! Invariants: a vector lies whole in one chunk; vectors come in any order; no more files are open at
//! once than a process may have.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::base::error::{Error, Result};
use crate::base::scratch;

/// `CHUNK_SIZE` in lib/segment/src/vector_storage/common.rs.
pub(super) const CHUNK_BYTES: u64 = 32 << 20;
/// Sizes of the chunks, and how many vectors there are.
pub(super) const CONFIG: &str = "config.json";
pub(super) const STATUS: &str = "status.dat";
/// Files that are open at once.
const OPEN_MAX: usize = 128;

/// Writes chunks.
#[derive(Debug)]
pub struct ChunkWriter {
    folder: PathBuf,
    /// Elements in a vector.
    dim: u64,
    vector_bytes: u64,
    per_chunk: u64,
    open: BTreeMap<u64, File>,
    /// Number of vectors, those that were not written included.
    length: u64,
    chunks: u64,
}

impl ChunkWriter {
    /// Writes vectors of `dim` elements of `element_bytes` bytes into `folder`, which is made; none if no
    /// vector of that size fits into a chunk.
    pub fn new(folder: &Path, dim: u64, element_bytes: u64) -> Result<Option<Self>> {
        let vector_bytes = dim.saturating_mul(element_bytes);
        let Some(per_chunk) = CHUNK_BYTES.checked_div(vector_bytes).filter(|n| *n > 0) else {
            return Ok(None);
        };
        std::fs::create_dir_all(folder)
            .map_err(|err| Error::io("making scratch folder", folder, &err))?;
        Ok(Some(Self {
            folder: folder.to_owned(),
            dim,
            vector_bytes,
            per_chunk,
            open: BTreeMap::new(),
            length: 0,
            chunks: 0,
        }))
    }

    /// Vectors in a chunk.
    pub fn per_chunk(&self) -> u64 {
        self.per_chunk
    }

    /// Bytes of a vector.
    pub fn vector_bytes(&self) -> u64 {
        self.vector_bytes
    }

    /// Writes the vectors in `bytes` from the place `at` on, which lie in one chunk.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let chunk = at / self.per_chunk;
        let offset = at % self.per_chunk * self.vector_bytes;
        let path = self.path(chunk);
        self.make_up_to(chunk)?;
        if self.open.len() > OPEN_MAX {
            self.open.clear();
        }
        let failed = |err: std::io::Error| Error::io("writing", &path, &err);
        let file = match self.open.entry(chunk) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => {
                let file = File::options().write(true).open(&path);
                place.insert(file.map_err(failed)?)
            }
        };
        file.write_all_at(bytes, offset).map_err(failed)?;
        let count = (bytes.len() as u64).checked_div(self.vector_bytes);
        self.length = self.length.max(at + count.unwrap_or(0));
        Ok(())
    }

    /// Makes every chunk up to `last` that is not there yet.
    fn make_up_to(&mut self, last: u64) -> Result<()> {
        while self.chunks <= last {
            let path = self.path(self.chunks);
            let file = scratch::create(&path)?;
            file.set_len(self.per_chunk * self.vector_bytes)
                .map_err(|err| Error::io("writing", &path, &err))?;
            self.chunks += 1;
        }
        Ok(())
    }

    fn path(&self, chunk: u64) -> PathBuf {
        chunk_path(&self.folder, chunk)
    }

    /// Ends it with at least `length` vectors; those that were not written are zeros. Returns how many
    /// there are.
    pub fn finish(mut self, length: u64) -> Result<u64> {
        self.length = self.length.max(length);
        if let Some(last) = self.length.checked_sub(1) {
            self.make_up_to(last / self.per_chunk)?;
        }
        let config = json!({
            "chunk_size_bytes": self.per_chunk * self.vector_bytes,
            "chunk_size_vectors": self.per_chunk,
            "dim": self.dim,
        });
        for (name, bytes) in [
            (CONFIG, config.to_string().into_bytes()),
            (STATUS, self.length.to_le_bytes().to_vec()),
        ] {
            let path = self.folder.join(name);
            let written = scratch::create(&path)?.write_all(&bytes);
            written.map_err(|err| Error::io("writing", &path, &err))?;
        }
        Ok(self.length)
    }
}

/// The file of a chunk.
pub(super) fn chunk_path(folder: &Path, chunk: u64) -> PathBuf {
    folder.join(format!("chunk_{chunk}.mmap"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_lie_where_the_engine_looks_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        // Three vectors of 9 MiB fit into a chunk, with a rest.
        let mut writer = ChunkWriter::new(folder.path(), 9 << 20, 1)
            .unwrap()
            .unwrap();
        assert_eq!((writer.per_chunk(), writer.vector_bytes()), (3, 9 << 20));
        for at in [7, 1] {
            writer.write(at, &vec![at as u8; 9 << 20]).unwrap();
        }
        assert_eq!(writer.finish(5).unwrap(), 8);
        let config: serde_json::Value = serde_json::from_slice(&read("config.json")).unwrap();
        let wanted = json!({"chunk_size_bytes": 27 << 20, "chunk_size_vectors": 3, "dim": 9 << 20});
        assert_eq!(config, wanted);
        assert_eq!(read("status.dat"), 8_u64.to_le_bytes());
        for chunk in 0..3 {
            let bytes = read(&format!("chunk_{chunk}.mmap"));
            assert_eq!(bytes.len(), 27 << 20, "{chunk}");
            for place in 0..3 {
                let at = chunk * 3 + place;
                let wanted = if [1, 7].contains(&at) { at as u8 } else { 0 };
                assert_eq!(bytes[place * (9 << 20) + 5], wanted, "{at}");
            }
        }
        assert!(ChunkWriter::new(folder.path(), 0, 4).unwrap().is_none());
        assert!(
            ChunkWriter::new(folder.path(), u64::MAX, 4)
                .unwrap()
                .is_none()
        );
    }
}
