//! A snapshot file as bytes: plain or gzip, hashed on the way or not.
//!
//! Keeps true: what is hashed is every byte of the file, in one pass with whatever else reads it;
//! without a hash a plain file is sought over instead of read.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::walk::{Stream, skip_by_reading};
use crate::error::{Error, Result};

/// Bytes read from the file at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// A SHA-256 as Qdrant prints it: 64 lowercase hexadecimal digits.
pub type Sha256Hex = String;

/// The hashes of one full read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// Of the file's bytes as they lie on disk.
    pub file: Sha256Hex,
    /// Of the tar in it: the same for a plain file, the decompressed bytes for a .gz.
    pub content: Sha256Hex,
    /// The size of that in bytes.
    pub content_bytes: u64,
}

/// A reader that counts, and may hash, what passes.
struct Tap<R> {
    inner: R,
    hash: Option<Sha256>,
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
    Plain(BufReader<Tap<File>>),
    Gzip(Box<Tap<MultiGzDecoder<BufReader<Tap<File>>>>>),
}

/// An open snapshot file, standing at the first byte of its tar.
pub struct Input {
    form: Form,
}

impl Input {
    /// Opens `path`. With `hashed`, every byte is read and hashed; `passed` counts the file's bytes
    /// as they are read or passed over.
    pub fn open(path: &Path, hashed: bool, passed: Option<Arc<AtomicU64>>) -> Result<Self> {
        let act = "opening snapshot";
        let meta = std::fs::metadata(path).map_err(|err| Error::io(act, path, &err))?;
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
        let mut file = File::open(path).map_err(|err| Error::io(act, path, &err))?;
        if meta.len() == 0 {
            return Err(Error::damaged(
                format!("opening snapshot {}", path.display()),
                "it is empty (0 bytes)",
            )
            .next("fetch or copy the snapshot again"));
        }
        let gzip = is_gzip(&mut file).map_err(|err| Error::io(act, path, &err))?;
        let hash = hashed.then(Sha256::new);
        let tap = Tap {
            inner: file,
            hash: hash.clone(),
            read: 0,
            passed,
        };
        let buffered = BufReader::with_capacity(BUFFER_BYTES, tap);
        let form = if gzip {
            Form::Gzip(Box::new(Tap {
                inner: MultiGzDecoder::new(buffered),
                hash,
                read: 0,
                passed: None,
            }))
        } else {
            Form::Plain(buffered)
        };
        Ok(Self { form })
    }

    /// The hashes of the whole file at `path`.
    pub fn hash(path: &Path) -> Result<Option<Hashes>> {
        let mut input = Self::open(path, true, None)?;
        io::copy(&mut input, &mut io::sink())
            .map_err(|err| Error::io("reading snapshot", path, &err))?;
        Ok(input.into_hashes())
    }

    /// Whether the file is compressed, so that reading any of it means reading all before it.
    pub fn is_compressed(&self) -> bool {
        matches!(self.form, Form::Gzip(_))
    }

    /// The hashes, if it was opened to be hashed; the caller has read to the end.
    pub fn into_hashes(self) -> Option<Hashes> {
        match self.form {
            Form::Plain(buffered) => {
                let tap = buffered.into_inner();
                let hash = hex(tap.hash?);
                Some(Hashes {
                    file: hash.clone(),
                    content: hash,
                    content_bytes: tap.read,
                })
            }
            Form::Gzip(outer) => {
                let content = hex(outer.hash?);
                let file = hex(outer.inner.into_inner().into_inner().hash?);
                Some(Hashes {
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
    match Input::hash(path)? {
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

fn skip_by_seeking(reader: &mut BufReader<Tap<File>>, bytes: u64) -> io::Result<()> {
    let buffered = reader.buffer().len() as u64;
    if bytes <= buffered {
        reader.consume(usize::try_from(bytes).unwrap_or(usize::MAX));
        return Ok(());
    }
    let beyond = bytes - buffered;
    let all = reader.buffer().len();
    reader.consume(all);
    let tap = reader.get_mut();
    let here = tap.inner.stream_position()?;
    let end = tap.inner.metadata()?.len();
    let target = here
        .checked_add(beyond)
        .filter(|target| *target <= end)
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    tap.inner.seek(SeekFrom::Start(target))?;
    if let Some(passed) = &tap.passed {
        passed.fetch_add(beyond, Ordering::Relaxed);
    }
    Ok(())
}

fn is_gzip(file: &mut File) -> io::Result<bool> {
    let mut magic = Vec::new();
    file.take(2).read_to_end(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(magic == [0x1f, 0x8b])
}

fn hex(hash: Sha256) -> Sha256Hex {
    format!("{:x}", hash.finalize())
}
