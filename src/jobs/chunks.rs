//! Files in a store, cut into chunks: whole objects of some megabytes, which any store takes.
//!
//! Invariants: a chunk is compared with its SHA-256 before a byte of it is handed out; no more than
//! [`KEPT`] chunks are in memory for all readers together, besides those that are on their way.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::archive::Store;
use crate::base::error::{Error, Result};
use crate::base::parallel::{in_parallel, lock};
use crate::format::{Parts, SnapshotFile, StoredSnapshot, Stream, skip_within};

/// Bytes of a chunk, unless it is the last.
pub const CHUNK_BYTES: u64 = 4 << 20;
/// Chunks that are kept.
const KEPT: usize = 24;

/// A chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// A file in chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunks {
    /// The chunks in their order.
    pub chunks: Vec<Chunk>,
}

impl Chunks {
    /// Puts the file at `path` into `store`, each chunk under a name that begins with `prefix` and is free; and
    /// reads all of it back.
    pub fn put(store: &dyn Store, prefix: &str, path: &Path) -> Result<Self> {
        let put = Self::put_unread(store, prefix, path)?;
        put.check(store, prefix)?;
        Ok(put)
    }

    /// The same, for whoever reads it back.
    pub fn put_unread(store: &dyn Store, prefix: &str, path: &Path) -> Result<Self> {
        let failed = |err: &io::Error| Error::io("reading scratch file", path, err);
        let file = File::open(path).map_err(|err| failed(&err))?;
        let total = file.metadata().map_err(|err| failed(&err))?.len();
        let count = total.div_ceil(CHUNK_BYTES);
        let put = |number: u64| {
            let start = number * CHUNK_BYTES;
            let bytes = CHUNK_BYTES.min(total - start);
            let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(0)];
            file.read_exact_at(&mut buffer, start)
                .map_err(|err| failed(&err))?;
            let name = name(prefix, number);
            if !store.put_new(&name, &buffer)? {
                let doing = format!("writing {name} of {}", store.what());
                return Err(Error::failed(doing, "something is there already"));
            }
            Ok(Chunk {
                bytes,
                sha256: hex::encode(Sha256::digest(&buffer)),
            })
        };
        let put = Self {
            chunks: in_parallel(0..count, store.at_once(), put)?,
        };
        store.sync()?;
        Ok(put)
    }

    /// Length of the file in bytes.
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    /// Why it cannot be a file in chunks.
    pub fn fault(&self) -> Option<&'static str> {
        let (last, others) = self.chunks.split_last()?;
        let is_full = |chunk: &Chunk| chunk.bytes == CHUNK_BYTES;
        let is_whole = others.iter().all(is_full) && (1..=CHUNK_BYTES).contains(&last.bytes);
        (!is_whole).then_some("its chunks have sizes that none is written with")
    }

    /// Reads all of it and compares it.
    pub fn check(&self, store: &dyn Store, prefix: &str) -> Result<()> {
        in_parallel(
            (0..).zip(&self.chunks),
            store.at_once(),
            |(number, chunk)| get(store, &name(prefix, number), chunk).map(drop),
        )
        .map(drop)
    }

    /// Removes it, as far as it is there.
    pub fn remove(&self, store: &dyn Store, prefix: &str) -> Result<()> {
        remove(store, prefix, self.chunks.len() as u64)
    }
}

/// Removes the first `count` chunks whose names begin with `prefix`, as far as they are there.
pub fn remove(store: &dyn Store, prefix: &str, count: u64) -> Result<()> {
    in_parallel(0..count, store.at_once(), |number| {
        store.remove(&name(prefix, number)).map(drop)
    })?;
    store.sync()
}

/// Name of the chunk `number` of those whose names begin with `prefix`.
pub fn name(prefix: &str, number: u64) -> String {
    format!("{prefix}-{number:08}")
}

fn get(store: &dyn Store, name: &str, chunk: &Chunk) -> Result<Vec<u8>> {
    let damaged = |why: String| {
        Err(
            Error::damaged(format!("reading {name} of {}", store.what()), why)
                .next("remove the part and run its task again: snapmerge job rm JOB --part INDEX"),
        )
    };
    let Some(bytes) = store.get(name, CHUNK_BYTES)? else {
        return damaged("it is not there".into());
    };
    if bytes.len() as u64 != chunk.bytes {
        return damaged(format!(
            "it has {} bytes, {} were written",
            bytes.len(),
            chunk.bytes
        ));
    }
    if hex::encode(Sha256::digest(&bytes)) != chunk.sha256 {
        return damaged("its SHA-256 is not that of what was written".into());
    }
    Ok(bytes)
}

/// Chunks that were read, for all readers of one operation.
pub struct ChunkCache {
    store: Arc<dyn Store>,
    /// By name; that which was used last is the last.
    kept: Mutex<VecDeque<(String, Arc<Vec<u8>>)>>,
}

impl ChunkCache {
    /// An empty one of `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            kept: Mutex::default(),
        }
    }

    /// The chunk `number` of `file`; where it is not kept, those after it are read with it, up to `last`.
    fn get(&self, file: &ChunkedFile, number: u64, last: u64) -> Result<Arc<Vec<u8>>> {
        let mut kept = lock(&self.kept);
        let wanted = name(&file.prefix, number);
        if let Some(at) = kept.iter().position(|(name, _)| *name == wanted)
            && let Some(found) = kept.remove(at)
        {
            let bytes = Arc::clone(&found.1);
            kept.push_back(found);
            return Ok(bytes);
        }
        let store = &*self.store;
        let at_once = store.at_once().clamp(1, KEPT / 2);
        let first = usize::try_from(number).unwrap_or(usize::MAX);
        let ahead = usize::try_from(last.saturating_sub(number)).unwrap_or(usize::MAX);
        let some = file.chunks.chunks.iter().skip(first);
        let some: Vec<(u64, &Chunk)> = (number..)
            .zip(some.take(ahead.saturating_add(1).min(at_once)))
            .collect();
        let read = in_parallel(some, at_once, |(number, chunk)| {
            let name = name(&file.prefix, number);
            let bytes = get(store, &name, chunk)?;
            Ok((name, Arc::new(bytes)))
        })?;
        let found = read.first().map(|(_, bytes)| Arc::clone(bytes));
        for one in read.into_iter().rev() {
            kept.push_back(one);
        }
        while kept.len() > KEPT {
            kept.pop_front();
        }
        found.ok_or_else(|| Error::failed(format!("reading {wanted}"), "there is no such chunk"))
    }
}

/// A file in chunks, read where they lie.
pub struct ChunkedFile {
    cache: Arc<ChunkCache>,
    chunks: Chunks,
    prefix: String,
}

impl ChunkedFile {
    /// The file in `chunks`, whose names begin with `prefix`, as a snapshot would be that is called `reference`.
    pub fn open(
        cache: &Arc<ChunkCache>,
        chunks: &Chunks,
        prefix: String,
        reference: String,
    ) -> SnapshotFile {
        let mut parts = Sha256::new();
        for chunk in &chunks.chunks {
            parts.update(&chunk.sha256);
        }
        SnapshotFile::from(StoredSnapshot {
            reference,
            id: prefix.clone(),
            name: prefix.clone(),
            bytes: chunks.bytes(),
            // Only that of each chunk is known.
            sha256: String::new(),
            parts_sha256: hex::encode(parts.finalize()),
            manifest: None,
            parts: Arc::new(Self {
                cache: Arc::clone(cache),
                chunks: chunks.clone(),
                prefix,
            }),
        })
    }
}

impl Parts for ChunkedFile {
    fn read(self: Arc<Self>, range: Range<u64>) -> Box<dyn Stream + Send> {
        Box::new(ChunkReader {
            position: range.start,
            end: range.end.min(self.chunks.bytes()),
            file: self,
        })
    }
}

/// Reads a range of a file in chunks.
struct ChunkReader {
    file: Arc<ChunkedFile>,
    position: u64,
    end: u64,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.end || buffer.is_empty() {
            return Ok(0);
        }
        let number = self.position / CHUNK_BYTES;
        let last = (self.end - 1) / CHUNK_BYTES;
        let cache = &self.file.cache;
        let chunk = cache
            .get(&self.file, number, last)
            .map_err(Error::into_io)?;
        let from = usize::try_from(self.position % CHUNK_BYTES).unwrap_or(usize::MAX);
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let there = chunk.get(from..).unwrap_or_default();
        let count = there.len().min(left).min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), there.get(..count)) {
            to.copy_from_slice(from);
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Stream for ChunkReader {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.position = skip_within(self.position, bytes, self.end)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Local;
    use crate::base::error::Kind;

    #[test]
    fn what_was_put_is_read_by_ranges_and_what_was_changed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Local::new(&folder.path().join("store")));
        let path = folder.path().join("file");
        let length = 3 * CHUNK_BYTES + 12_345;
        let content: Vec<u8> = (0..length).map(|at| (at * at % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let chunks = Chunks::put(&*store, "a/b", &path).unwrap();
        assert_eq!((chunks.chunks.len(), chunks.bytes()), (4, length));
        assert_eq!(chunks.fault(), None);
        // The same names again are refused: they are another attempt's.
        assert!(Chunks::put(&*store, "a/b", &path).is_err());
        let read = |start: u64, bytes: u64| {
            let cache = Arc::new(ChunkCache::new(store.clone()));
            let file = ChunkedFile::open(&cache, &chunks, "a/b".into(), "a part".into());
            let mut found = Vec::new();
            let mut reader = file.read_range(start..start + bytes).unwrap();
            reader.read_to_end(&mut found).map(|_| found)
        };
        for (start, bytes) in [
            (0, length),
            (CHUNK_BYTES - 1, 2),
            (CHUNK_BYTES, CHUNK_BYTES),
            (length - 1, 10),
            (length, 1),
        ] {
            let from = start as usize;
            let to = (start + bytes).min(length) as usize;
            assert!(read(start, bytes).unwrap() == content[from..to], "{start}");
        }
        let middle = folder.path().join("store/a/b-00000002");
        let mut bytes = std::fs::read(&middle).unwrap();
        bytes[77] ^= 1;
        std::fs::write(&middle, &bytes).unwrap();
        let err = chunks.check(&*store, "a/b").unwrap_err();
        assert_eq!(err.kind(), Kind::Damaged);
        assert!(read(0, length).is_err());
        // What lies in others is not concerned.
        assert!(read(0, CHUNK_BYTES).is_ok());
        std::fs::remove_file(&middle).unwrap();
        assert!(chunks.check(&*store, "a/b").is_err());
        chunks.remove(&*store, "a/b").unwrap();
        assert!(store.list("").unwrap().is_empty());
    }

    #[test]
    fn an_empty_file_has_no_chunks() {
        let folder = tempfile::tempdir().unwrap();
        let store = Local::new(&folder.path().join("store"));
        let path = folder.path().join("file");
        std::fs::write(&path, b"").unwrap();
        let chunks = Chunks::put(&store, "a", &path).unwrap();
        assert!(chunks.chunks.is_empty() && chunks.fault().is_none());
        let wrong = Chunks {
            chunks: vec![Chunk {
                bytes: CHUNK_BYTES + 1,
                sha256: String::new(),
            }],
        };
        assert!(wrong.fault().is_some());
    }
}
