//! Writing a snapshot front to back, hashed on the way.
//!
//! [`super::Packer`] leaves room for headers and comes back to them; here every size is known
//! before, so that segments can be carried from tar to tar without being unpacked, and the hash of
//! the whole is there when the last byte is written.
//!
//! Keeps true: the hash is of exactly the bytes that were written, in order; a member has exactly
//! the length that its header says.

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::input::Sha256Hex;
use super::pack::{COLLECTION_VERSION, PackedShard, header, shard_files};
use super::walk::BLOCK;
use super::{layout, log};
use crate::error::{Error, Result};

/// Bytes copied at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Buffers between the thread that writes and the thread that hashes.
const BUFFERS: usize = 4;

/// A snapshot being written front to back.
pub struct Carrier {
    file: File,
    path: PathBuf,
    written: u64,
    /// Buffers on their way to the hash.
    full: Option<SyncSender<Vec<u8>>>,
    /// Buffers on their way back.
    empty: Receiver<Vec<u8>>,
    hash: JoinHandle<Sha256>,
}

impl Carrier {
    /// A carrier that writes to `file`, which is new and empty; `path` names it in errors.
    pub fn new(file: File, path: &Path) -> Self {
        let (full, to_hash) = sync_channel::<Vec<u8>>(BUFFERS);
        let (back, empty) = sync_channel(BUFFERS + 2);
        for _ in 0..BUFFERS {
            // There is room for all of them.
            let _ = back.try_send(Vec::with_capacity(BUFFER_BYTES));
        }
        let hash = std::thread::spawn(move || {
            let mut hash = Sha256::new();
            for buffer in to_hash {
                hash.update(&buffer);
                // Nobody takes it any more once the last byte is written.
                let _ = back.try_send(buffer);
            }
            hash
        });
        Self {
            file,
            path: path.to_owned(),
            written: 0,
            full: Some(full),
            empty,
            hash,
        }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Adds a file called `path` with the `bytes` bytes that `reader` yields; `what` names the
    /// reader in errors.
    pub fn member(
        &mut self,
        path: &str,
        bytes: u64,
        reader: &mut dyn Read,
        what: &dyn Fn(&std::io::Error) -> Error,
    ) -> Result<()> {
        let failed = |err: &std::io::Error| Error::io("packing", Path::new(path), err);
        let mut header = header(bytes);
        header.set_path(path).map_err(|err| failed(&err))?;
        header.set_cksum();
        self.put(header.as_bytes())?;
        let mut left = bytes;
        while left > 0 {
            let mut buffer = self.buffer();
            let most = left.min(BUFFER_BYTES as u64);
            let count = (&mut *reader)
                .take(most)
                .read_to_end(&mut buffer)
                .map_err(|err| what(&err))?;
            if count == 0 {
                return Err(what(&std::io::ErrorKind::UnexpectedEof.into()));
            }
            left -= count as u64;
            self.send(buffer)?;
        }
        let padding = (BLOCK - bytes % BLOCK) % BLOCK;
        self.put(&vec![0; usize::try_from(padding).unwrap_or(0)])
    }

    /// Adds what a shard needs besides its segments; see [`super::Packer::shard`].
    pub fn shard(&mut self, shard: PackedShard) -> Result<()> {
        let (name, bytes) = log::write_empty(shard.version_max + 1);
        self.small(&format!("{}/{}/{name}", shard.number, layout::LOG), &bytes)?;
        for (name, value) in shard_files() {
            self.json(&format!("{}/{name}", shard.number), &value)?;
        }
        Ok(())
    }

    /// Adds what the collection has, and ends the tar. Returns its file, which is not synced, and
    /// its SHA-256.
    pub fn finish(
        mut self,
        config: &impl Serialize,
        shard_keys: &impl Serialize,
        payload_index: &impl Serialize,
    ) -> Result<(File, Sha256Hex)> {
        self.small(layout::VERSION, COLLECTION_VERSION.as_bytes())?;
        self.json(layout::CONFIG, config)?;
        self.json(layout::SHARD_KEYS, shard_keys)?;
        self.json(layout::PAYLOAD_INDEX, payload_index)?;
        self.put(&[0; 2 * BLOCK as usize])?;
        self.full = None;
        let hash = self.hash.join().map_err(|_| {
            Error::failed(format!("hashing {}", self.path.display()), "a thread ended")
        })?;
        Ok((self.file, format!("{:x}", hash.finalize())))
    }

    fn json(&mut self, path: &str, value: &impl Serialize) -> Result<()> {
        let bytes = serde_json::to_vec(value)
            .map_err(|err| Error::failed(format!("packing {path}"), err))?;
        self.small(path, &bytes)
    }

    fn small(&mut self, path: &str, mut bytes: &[u8]) -> Result<()> {
        let length = bytes.len() as u64;
        self.member(path, length, &mut bytes, &|err| {
            Error::failed(format!("packing {path}"), err)
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut buffer = self.buffer();
        buffer.extend_from_slice(bytes);
        self.send(buffer)
    }

    fn buffer(&self) -> Vec<u8> {
        let mut buffer = self.empty.recv().unwrap_or_default();
        buffer.clear();
        buffer
    }

    fn send(&mut self, buffer: Vec<u8>) -> Result<()> {
        self.file
            .write_all(&buffer)
            .map_err(|err| Error::io("packing into", &self.path, &err))?;
        self.written += buffer.len() as u64;
        let sent = self.full.as_ref().map(|full| full.send(buffer));
        match sent {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(Error::failed(
                format!("hashing {}", self.path.display()),
                "a thread ended",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_a_tar_with_the_hash_that_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.snapshot");
        let mut carrier = Carrier::new(File::create_new(&path).unwrap(), &path);
        let big: Vec<u8> = (0..3 * BUFFER_BYTES + 7).map(|at| at as u8).collect();
        let never = |err: &std::io::Error| Error::failed("reading", err);
        carrier
            .member(
                "0/segments/a.tar",
                big.len() as u64,
                &mut big.as_slice(),
                &never,
            )
            .unwrap();
        carrier
            .shard(PackedShard {
                number: 0,
                version_max: 41,
            })
            .unwrap();
        let none = serde_json::json!([]);
        let (_, sha256) = carrier.finish(&none, &none, &none).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(sha256, format!("{:x}", Sha256::digest(&bytes)));
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if names.is_empty() {
                assert_eq!(content, big);
            }
            names.push(entry.path().unwrap().display().to_string());
        }
        assert!(names.contains(&"0/wal/closed-42".to_owned()), "{names:?}");
        assert_eq!(names.len(), 8);
        // A reader that is too short is an error, not a hole.
        let path = folder.path().join("b.snapshot");
        let mut carrier = Carrier::new(File::create_new(&path).unwrap(), &path);
        assert!(
            carrier
                .member("x", 9, &mut [0_u8; 8].as_slice(), &never)
                .is_err()
        );
    }
}
