//! One file on its way from a server to disk, hashed as it comes.
//!
//! Invariants: both hashes are of exactly the bytes in the file, in order, also when it was gone on
//! with; the file only grows, and is never longer than was announced.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::base::durable;
use crate::base::error::{Error, Result};

/// Prefix of the names of unfinished files.
pub const PART: &str = "part";

/// Bytes read at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Pieces between whoever writes and each hash.
const PIECES: usize = 64;

/// Both hashes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// The server's kind.
    pub sha256: String,
    /// Ours.
    pub blake3: String,
}

/// Hashes what it is fed, each kind in a thread of its own.
struct Hashing {
    sha256: (SyncSender<Bytes>, JoinHandle<Sha256>),
    blake3: (SyncSender<Bytes>, JoinHandle<blake3::Hasher>),
}

impl Hashing {
    fn start() -> Self {
        let (to_sha256, pieces) = sync_channel::<Bytes>(PIECES);
        let sha256 = std::thread::spawn(move || {
            let mut hash = Sha256::new();
            pieces.iter().for_each(|piece| hash.update(&piece));
            hash
        });
        let (to_blake3, pieces) = sync_channel::<Bytes>(PIECES);
        let blake3 = std::thread::spawn(move || {
            let mut hash = blake3::Hasher::new();
            pieces.iter().for_each(|piece| {
                hash.update(&piece);
            });
            hash
        });
        Self {
            sha256: (to_sha256, sha256),
            blake3: (to_blake3, blake3),
        }
    }

    /// Returns true if both hashers took the piece.
    fn feed(&self, piece: &Bytes) -> bool {
        self.sha256.0.send(piece.clone()).is_ok() && self.blake3.0.send(piece.clone()).is_ok()
    }

    fn end(self) -> Option<Hashes> {
        let (sha256, blake3) = (self.sha256, self.blake3);
        drop((sha256.0, blake3.0));
        Some(Hashes {
            sha256: hex::encode(sha256.1.join().ok()?.finalize()),
            blake3: blake3.1.join().ok()?.finalize().to_hex().to_string(),
        })
    }
}

/// A file that grows.
pub struct PartialFile {
    path: PathBuf,
    file: File,
    length: u64,
    hashing: Hashing,
}

impl PartialFile {
    /// Opens the file at `path`, which may have been begun. What is in it counts if it is not longer
    /// than `bytes`; otherwise it is begun anew.
    pub fn open(path: &Path, bytes: u64) -> Result<Self> {
        let failed = |err: &std::io::Error| Error::io("reading what was started,", path, err);
        let mut file = durable::open_private(path)?;
        let there = file.metadata().map_err(|err| failed(&err))?.len();
        let mut length = 0;
        let hashing = Hashing::start();
        if there > bytes {
            file.set_len(0).map_err(|err| failed(&err))?;
        } else {
            let mut buffer = vec![0; BUFFER_BYTES];
            loop {
                let count = file.read(&mut buffer).map_err(|err| failed(&err))?;
                if count == 0 {
                    break;
                }
                let piece = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
                if !hashing.feed(&piece) {
                    return Err(ended(path));
                }
                length += count as u64;
            }
        }
        file.seek(SeekFrom::Start(length))
            .map_err(|err| failed(&err))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            hashing,
        })
    }

    /// Returns the length of the file in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Adds a piece at its end.
    pub fn add(&mut self, piece: &Bytes) -> Result<()> {
        if !self.hashing.feed(piece) {
            return Err(ended(&self.path));
        }
        self.file
            .write_all(piece)
            .map_err(|err| Error::io("writing", &self.path, &err))?;
        self.length += piece.len() as u64;
        Ok(())
    }

    /// Ends it; its hashes.
    pub fn end(self) -> Result<Hashes> {
        self.hashing.end().ok_or_else(|| ended(&self.path))
    }
}

/// The hashes of the whole file at `path`, read now.
pub fn hashes(path: &Path) -> Result<Hashes> {
    PartialFile::open(path, u64::MAX)?.end()
}

fn ended(path: &Path) -> Error {
    Error::failed(format!("hashing {}", path.display()), "a thread ended")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_was_begun_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        let mut part = PartialFile::open(&path, 10).unwrap();
        part.add(&Bytes::from_static(b"0123")).unwrap();
        drop(part);
        let mut part = PartialFile::open(&path, 10).unwrap();
        assert_eq!(part.length(), 4);
        part.add(&Bytes::from_static(b"456789")).unwrap();
        let ended = part.end().unwrap();
        assert_eq!(ended.sha256, hex::encode(Sha256::digest(b"0123456789")));
        assert_eq!(ended.blake3, blake3::hash(b"0123456789").to_hex().as_str());
        assert_eq!(hashes(&path).unwrap(), ended);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Longer than announced: it is another file's beginning.
        let part = PartialFile::open(&path, 9).unwrap();
        assert_eq!(part.length(), 0);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    }
}
