//! A snapshot file as bytes: plain or gzip, hashed on the way or not.
//!
//! Invariants: what is hashed is every byte of the file, in one pass with whatever else reads it;
//! without a hash a plain file is sought over instead of read.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::Xxh3;

use super::file::{RangeReader, SnapshotFile};
use super::gzip::Gunzip;
use super::tar::{Stream, skip_by_reading};
use crate::base::error::{Error, Result};

/// Bytes read from the file at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// A SHA-256 as Qdrant prints it: 64 lowercase hexadecimal digits.
pub type Sha256Hex = String;

/// Hash algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// SHA-256, as reported by Qdrant.
    Sha256,
    /// BLAKE3, recorded by a capture as well: some three times as fast.
    Blake3,
    /// XXH3 with 128 bits, recorded by a merge for its master as well: costs next to nothing, but
    /// is no proof against deliberate manipulation.
    Xxh3,
    /// SHA-256 of each part of a snapshot that is stored in parts, and of the list of them: each part is
    /// compared when it is read, so that whoever has read all of it has compared all of it.
    Sha256Parts,
}

impl Algorithm {
    /// Returns the algorithm's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Blake3 => "BLAKE3",
            Self::Xxh3 => "XXH3",
            Self::Sha256Parts => "SHA-256 of every part",
        }
    }
}

/// A hash that grows.
#[derive(Clone)]
enum Hasher {
    Sha256(Sha256),
    Blake3(Box<blake3::Hasher>),
    Xxh3(Box<Xxh3>),
    /// Hash of the parts, once none of these bytes is left to be read.
    Parts {
        hash: String,
        left: u64,
    },
}

impl Hasher {
    fn new(algorithm: Algorithm, file: &SnapshotFile) -> Self {
        match (algorithm, file) {
            (Algorithm::Sha256Parts, SnapshotFile::Stored(stored)) => Self::Parts {
                hash: stored.parts_sha256.clone(),
                left: stored.bytes,
            },
            // A file on disk is one part.
            (Algorithm::Sha256 | Algorithm::Sha256Parts, _) => Self::Sha256(Sha256::new()),
            (Algorithm::Blake3, _) => Self::Blake3(Box::default()),
            (Algorithm::Xxh3, _) => Self::Xxh3(Box::default()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Blake3(hash) => {
                hash.update(bytes);
            }
            Self::Xxh3(hash) => hash.update(bytes),
            Self::Parts { left, .. } => *left = left.saturating_sub(bytes.len() as u64),
        }
    }

    /// The hash; none if not all of the parts were read.
    fn end(self) -> Option<(Algorithm, String)> {
        Some(match self {
            Self::Sha256(hash) => (Algorithm::Sha256, hex::encode(hash.finalize())),
            Self::Blake3(hash) => (Algorithm::Blake3, hash.finalize().to_hex().to_string()),
            Self::Xxh3(hash) => (Algorithm::Xxh3, xxh3_hex(hash.digest128())),
            Self::Parts { hash, left: 0 } => (Algorithm::Sha256Parts, hash),
            Self::Parts { .. } => return None,
        })
    }
}

/// An XXH3 with 128 bits, as 32 lowercase hexadecimal digits.
pub fn xxh3_hex(hash: u128) -> String {
    format!("{hash:032x}")
}

/// The hashes of one full read, in lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// Algorithm that computed the hashes.
    pub algorithm: Algorithm,
    /// Of the file's bytes as they lie on disk.
    pub file: String,
    /// Of the tar in it: the same for a plain file, the decompressed bytes for a .gz.
    pub content: String,
    /// The size of that in bytes.
    pub content_bytes: u64,
}

/// A reader that counts, and may hash, what passes.
struct Tap<R> {
    inner: R,
    hash: Option<Hasher>,
    read: u64,
    passed: Option<Arc<AtomicU64>>,
}

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        if let (Some(hash), Some(bytes)) = (&mut self.hash, buffer.get(..count)) {
            hash.update(bytes);
        }
        if let Some(passed) = &self.passed {
            passed.fetch_add(count as u64, Ordering::Relaxed);
        }
        Ok(count)
    }
}

enum Form {
    Plain(BufReader<Tap<RangeReader>>),
    Gzip(Box<Tap<Gunzip<BufReader<Tap<RangeReader>>>>>),
}

/// An open snapshot file, standing at the first byte of its tar.
pub struct Input {
    form: Form,
}

impl Input {
    /// Opens `file`. To be `hashed`, every byte is read; `passed` counts the file's bytes as they are
    /// read or passed over.
    pub fn open(
        file: &SnapshotFile,
        hashed: Option<Algorithm>,
        passed: Option<Arc<AtomicU64>>,
    ) -> Result<Self> {
        let act = "opening snapshot";
        let gzip = match file.path() {
            Some(path) => is_gzip(path)?,
            // It was decompressed when it was stored.
            None => false,
        };
        let reader = file
            .reader()
            .map_err(|err| Error::reading(format!("{act} {file}"), &err))?;
        let hash = hashed.map(|algorithm| Hasher::new(algorithm, file));
        let tap = Tap {
            inner: reader,
            hash: hash.clone(),
            read: 0,
            passed,
        };
        let buffered = BufReader::with_capacity(BUFFER_BYTES, tap);
        let form = if gzip {
            Form::Gzip(Box::new(Tap {
                inner: Gunzip::new(buffered),
                hash,
                read: 0,
                passed: None,
            }))
        } else {
            Form::Plain(buffered)
        };
        Ok(Self { form })
    }

    /// The hashes of all of `file`.
    pub fn hash(file: &SnapshotFile, algorithm: Algorithm) -> Result<Option<Hashes>> {
        let mut input = Self::open(file, Some(algorithm), None)?;
        io::copy(&mut input, &mut io::sink())
            .map_err(|err| Error::reading(format!("reading snapshot {file}"), &err))?;
        Ok(input.into_hashes())
    }

    /// Returns true if the file is compressed, so that reading any of it means reading all before
    /// it.
    pub fn is_compressed(&self) -> bool {
        matches!(self.form, Form::Gzip(_))
    }

    /// The hashes, if it was opened to be hashed; the caller has read to the end.
    pub fn into_hashes(self) -> Option<Hashes> {
        match self.form {
            Form::Plain(buffered) => {
                let tap = buffered.into_inner();
                let (algorithm, hash) = tap.hash?.end()?;
                Some(Hashes {
                    algorithm,
                    file: hash.clone(),
                    content: hash,
                    content_bytes: tap.read,
                })
            }
            Form::Gzip(outer) => {
                let (algorithm, content) = outer.hash?.end()?;
                let (_, file) = outer.inner.into_inner()?.into_inner().hash?.end()?;
                Some(Hashes {
                    algorithm,
                    file,
                    content,
                    content_bytes: outer.read,
                })
            }
        }
    }
}

/// The SHA-256 of the file at `path`, which is a plain snapshot.
pub fn hash_file(path: &Path) -> Result<Sha256Hex> {
    match Input::hash(&SnapshotFile::from(path), Algorithm::Sha256)? {
        Some(hashes) => Ok(hashes.file),
        None => Err(Error::failed(
            format!("hashing {}", path.display()),
            "it was not hashed",
        )),
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.form {
            Form::Plain(reader) => reader.read(buffer),
            Form::Gzip(reader) => reader.read(buffer),
        }
    }
}

impl Stream for Input {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match &mut self.form {
            Form::Plain(reader) if reader.get_ref().hash.is_none() => {
                skip_by_seeking(reader, bytes)
            }
            Form::Plain(reader) => skip_by_reading(reader, bytes),
            Form::Gzip(reader) => skip_by_reading(reader, bytes),
        }
    }
}

fn skip_by_seeking(reader: &mut BufReader<Tap<RangeReader>>, bytes: u64) -> io::Result<()> {
    let buffered = reader.buffer().len() as u64;
    if bytes <= buffered {
        reader.consume(usize::try_from(bytes).unwrap_or(usize::MAX));
        return Ok(());
    }
    let beyond = bytes - buffered;
    let all = reader.buffer().len();
    reader.consume(all);
    let tap = reader.get_mut();
    tap.inner.skip(beyond)?;
    if let Some(passed) = &tap.passed {
        passed.fetch_add(beyond, Ordering::Relaxed);
    }
    Ok(())
}

/// Returns true if the file at `path`, which can be read as often as is needed, is a .gz.
fn is_gzip(path: &Path) -> Result<bool> {
    let failed = |err: &io::Error| Error::io("opening snapshot", path, err);
    let meta = std::fs::metadata(path).map_err(|err| failed(&err))?;
    // To open a pipe would be to wait for whoever writes to it; and what is read is read twice.
    if !meta.is_file() {
        let what = match meta.is_dir() {
            true => "it is a folder",
            false => "it is a pipe or a device, which cannot be read twice",
        };
        return Err(
            Error::usage(format!("opening snapshot {}", path.display()), what)
                .next("give a snapshot file, plain or .gz"),
        );
    }
    let file = File::open(path).map_err(|err| failed(&err))?;
    if meta.len() == 0 {
        return Err(Error::damaged(
            format!("opening snapshot {}", path.display()),
            "it is empty (0 bytes)",
        )
        .next("fetch or copy the snapshot again"));
    }
    let mut magic = Vec::new();
    let read = file.take(2).read_to_end(&mut magic);
    read.map_err(|err| failed(&err))?;
    Ok(magic == [0x1f, 0x8b])
}
