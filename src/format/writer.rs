//! Writing a snapshot front to back, read back on the way.
//!
//! Every size is known before, so that segments can be carried from tar to tar without being
//! unpacked, and what is written can be read back right behind.
//!
//! Invariants: what was expected to be in the file is what was read and packed, in order; a member has
//! exactly the length that its header says; every mandatory part is written (a restore skips a
//! shard without `wal/` and answers `true`: lib/collection/src/shards/replica_set/snapshots.rs).

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use serde::Serialize;

use super::pack::{
    COLLECTION_VERSION, Out, PackedShard, ToPack, header, pack_segment, shard_files,
};
use super::readback::{ExpectedBytes, Written};
use super::tar::BLOCK;
use super::{layout, wal};
use crate::base::error::{Error, Result};

/// Bytes copied at once: few enough to stay in the processor's cache from thread to thread.
const BUFFER_BYTES: usize = 256 << 10;
/// Buffers on their way, all threads together.
const BUFFERS: usize = 8;

/// A snapshot being written front to back, by three threads: one fills buffers, one writes them,
/// one reads back what is written.
pub struct SnapshotWriter {
    path: PathBuf,
    expected: ExpectedBytes,
    /// Full buffers on their way to the file; none once it has failed.
    full: Option<SyncSender<Vec<u8>>>,
    /// Buffers on their way back.
    empty: Receiver<Vec<u8>>,
    write: Option<JoinHandle<io::Result<()>>>,
}

impl SnapshotWriter {
    /// A carrier that writes to `file`, which is new and empty; `path` names it.
    pub fn new(mut file: File, path: &Path) -> Result<Self> {
        let (expected, reached) = ExpectedBytes::follow(path)?;
        let (full, to_write) = sync_channel::<Vec<u8>>(BUFFERS);
        let (back, empty) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            // There is room for all of them.
            let _ = back.try_send(Vec::with_capacity(BUFFER_BYTES));
        }
        let write = std::thread::spawn(move || {
            for buffer in to_write {
                file.write_all(&buffer)?;
                // If nobody listens, reading back has failed, and says so in the end.
                let _ = reached.send(buffer.len() as u64);
                // Nobody takes it any more once the last byte is written.
                let _ = back.try_send(buffer);
            }
            Ok(())
        });
        Ok(Self {
            path: path.to_owned(),
            expected,
            full: Some(full),
            empty,
            write: Some(write),
        })
    }

    /// Adds a file called `path` with the `bytes` bytes that `reader` yields; `what` names the
    /// reader in errors.
    pub fn member(
        &mut self,
        path: &str,
        bytes: u64,
        reader: &mut dyn Read,
        what: &dyn Fn(&io::Error) -> Error,
    ) -> Result<()> {
        self.head(path, bytes)?;
        self.copy(bytes, reader, what)?;
        self.pad(bytes)
    }

    /// Adds a member as another writer wrote it, headers and padding included: the `bytes` bytes, a whole
    /// number of blocks, that `reader` yields; `what` names the reader in errors.
    pub fn written_member(
        &mut self,
        bytes: u64,
        reader: &mut dyn Read,
        what: &dyn Fn(&io::Error) -> Error,
    ) -> Result<()> {
        if !bytes.is_multiple_of(BLOCK) {
            return Err(what(&io::ErrorKind::InvalidData.into()));
        }
        self.copy(bytes, reader, what)
    }

    fn copy(
        &mut self,
        bytes: u64,
        reader: &mut dyn Read,
        what: &dyn Fn(&io::Error) -> Error,
    ) -> Result<()> {
        let mut left = bytes;
        while left > 0 {
            let mut buffer = self.buffer()?;
            let most = usize::try_from(left).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES));
            // Read in one go: `read_to_end` would begin with little pieces for every buffer.
            buffer.resize(most, 0);
            reader.read_exact(&mut buffer).map_err(|err| what(&err))?;
            left -= most as u64;
            self.send(buffer)?;
        }
        Ok(())
    }

    /// Adds a segment as a tar called `path`.
    pub fn segment(&mut self, path: &str, segment: &ToPack) -> Result<()> {
        let bytes = segment.bytes();
        self.head(path, bytes)?;
        let before = self.expected.bytes();
        let mut buffer = self.buffer()?;
        buffer.clear();
        let mut room = Room {
            buffer,
            carrier: self,
            failed: None,
        };
        let packed = pack_segment(&segment.folder, &mut room, Path::new(path))
            .map(|(_, contents)| contents)
            .and_then(|contents| room.end().map(|()| contents));
        // Why it could not be written says more than that it could not.
        if let Some(why) = room.failed.take() {
            return Err(why);
        }
        let contents = packed?;
        let packed = self.expected.bytes() - before;
        let Some(lacking) = segment.lacks(packed, contents) else {
            return Err(Error::failed(
                format!("packing {path}"),
                format!("it has {packed} bytes instead of {bytes}"),
            )
            .next("something changed the scratch folder: try again"));
        };
        self.put(&vec![0; usize::try_from(lacking).unwrap_or(0)])?;
        self.pad(bytes)
    }

    /// Adds what a shard needs besides its segments: an empty log that goes on above every
    /// segment's version, the state of its one replica, and its kind.
    pub fn shard(&mut self, shard: PackedShard) -> Result<()> {
        let next = shard.version_max.checked_add(1).ok_or_else(|| {
            Error::damaged(
                format!("writing the log of shard {}", shard.number),
                format!(
                    "its newest operation is {}, and none comes after that",
                    shard.version_max
                ),
            )
        })?;
        let (name, bytes) = wal::write_empty(next);
        self.small(&format!("{}/{}/{name}", shard.number, layout::LOG), &bytes)?;
        for (name, value) in shard_files() {
            self.json(&format!("{}/{name}", shard.number), &value)?;
        }
        Ok(())
    }

    /// Adds what the collection has, and ends the tar. The file is not synced to its end.
    pub fn finish(
        mut self,
        config: &impl Serialize,
        shard_keys: &impl Serialize,
        payload_index: &impl Serialize,
    ) -> Result<Written> {
        self.small(layout::VERSION, COLLECTION_VERSION.as_bytes())?;
        self.json(layout::CONFIG, config)?;
        self.json(layout::SHARD_KEYS, shard_keys)?;
        self.json(layout::PAYLOAD_INDEX, payload_index)?;
        self.put(&[0; 2 * BLOCK as usize])?;
        self.end()
    }

    /// Ends the file behind the last member: members that other tars are made of, and no tar itself. The file
    /// is not synced to its end.
    pub fn end(mut self) -> Result<Written> {
        match self.end_writing()? {
            true => Ok(self.expected.finish()),
            false => Err(self.ended()),
        }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.expected.bytes()
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

    fn head(&mut self, path: &str, bytes: u64) -> Result<()> {
        let failed = |err: &io::Error| Error::io("packing", Path::new(path), err);
        let mut header = header(bytes);
        header.set_path(path).map_err(|err| failed(&err))?;
        header.set_cksum();
        self.put(header.as_bytes())
    }

    fn pad(&mut self, bytes: u64) -> Result<()> {
        let padding = (BLOCK - bytes % BLOCK) % BLOCK;
        self.put(&vec![0; usize::try_from(padding).unwrap_or(0)])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut buffer = self.buffer()?;
        buffer.clear();
        buffer.extend_from_slice(bytes);
        self.send(buffer)
    }

    /// A buffer that still holds what it held.
    fn buffer(&mut self) -> Result<Vec<u8>> {
        match self.empty.recv() {
            Ok(buffer) => Ok(buffer),
            Err(_) => Err(self.why_ended()),
        }
    }

    fn send(&mut self, buffer: Vec<u8>) -> Result<()> {
        self.expected.add(&buffer);
        match self.full.as_ref().map(|full| full.send(buffer)) {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(self.why_ended()),
        }
    }

    /// Why the thread that writes has ended before its time.
    fn why_ended(&mut self) -> Error {
        match self.end_writing() {
            Err(err) => err,
            Ok(_) => self.ended(),
        }
    }

    fn ended(&self) -> Error {
        Error::failed(
            format!("packing into {}", self.path.display()),
            "a thread ended",
        )
    }

    /// Waits until all is written; false if that was done before.
    fn end_writing(&mut self) -> Result<bool> {
        self.full = None;
        let Some(thread) = self.write.take() else {
            return Ok(false);
        };
        match thread.join() {
            Ok(Ok(())) => Ok(true),
            Ok(Err(err)) => Err(Error::io("packing into", &self.path, &err)),
            Err(_) => Err(self.ended()),
        }
    }
}

/// Room in a carrier for what is written rather than read.
struct Room<'a> {
    carrier: &'a mut SnapshotWriter,
    buffer: Vec<u8>,
    failed: Option<Error>,
}

impl Room<'_> {
    fn pass(&mut self, next: bool) -> io::Result<()> {
        if next && self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::take(&mut self.buffer);
        let passed = self.carrier.send(full).and_then(|()| {
            if next {
                self.buffer = self.carrier.buffer()?;
                self.buffer.clear();
            }
            Ok(())
        });
        passed.map_err(|err| {
            let why = io::Error::other(err.to_string());
            self.failed = Some(err);
            why
        })
    }

    fn end(&mut self) -> Result<()> {
        self.pass(false)
            .map_err(|err| Error::failed("packing a segment", err))
    }
}

impl Out for Room<'_> {
    fn content(&mut self, file: &mut File, bytes: u64) -> io::Result<()> {
        self.pass(true)?;
        let mut left = bytes;
        while left > 0 {
            let most = usize::try_from(left).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES));
            self.buffer.resize(most, 0);
            file.read_exact(&mut self.buffer)?;
            left -= most as u64;
            self.pass(true)?;
        }
        Ok(())
    }
}

impl Write for Room<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= BUFFER_BYTES {
            self.pass(true)?;
        }
        let room = BUFFER_BYTES - self.buffer.len();
        let some = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
        self.buffer.extend_from_slice(some);
        Ok(some.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_a_tar_with_the_hash_that_is_told() {
        use sha2::{Digest as _, Sha256};

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.snapshot");
        let mut carrier = SnapshotWriter::new(File::create_new(&path).unwrap(), &path).unwrap();
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
        let written = carrier.finish(&none, &none, &none).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(written.bytes(), bytes.len() as u64);
        let sha256 = written.read_back().unwrap().sha256;
        assert_eq!(sha256, hex::encode(Sha256::digest(&bytes)));
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
    }

    #[test]
    fn pages_that_become_holes_while_it_is_packed_leave_a_tar_of_the_size_that_was_told() {
        use rustix::fs::{FallocateFlags, fallocate};

        let folder = tempfile::tempdir().unwrap();
        let segment = folder.path().join("segment");
        std::fs::create_dir(&segment).unwrap();
        let page = segment.join("page.dat");
        let content = [[7; 8192], [0; 8192], [0; 8192], [9; 8192]].concat();
        std::fs::write(&page, &content).unwrap();
        let measured = ToPack::measure(segment.clone()).unwrap();
        let file = File::options().write(true).open(&page).unwrap();
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&file, hole, 8192, 16384).unwrap();
        let again = ToPack::measure(segment.clone()).unwrap();
        assert!(again.bytes() < measured.bytes());
        let pack = |what: &ToPack| {
            let path = folder.path().join("a.snapshot");
            let _ = std::fs::remove_file(&path);
            let mut carrier = SnapshotWriter::new(File::create_new(&path).unwrap(), &path).unwrap();
            carrier.segment("0/segments/a.tar", what)?;
            let none = serde_json::json!([]);
            carrier.finish(&none, &none, &none)?;
            Ok::<_, Error>(std::fs::read(&path).unwrap())
        };
        let bytes = pack(&measured).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut outer = archive.entries().unwrap();
        let mut inner = Vec::new();
        outer
            .next()
            .unwrap()
            .unwrap()
            .read_to_end(&mut inner)
            .unwrap();
        assert_eq!(inner.len() as u64, measured.bytes());
        assert_eq!(
            outer.next().unwrap().unwrap().path_bytes().as_ref(),
            b"version.info"
        );
        let mut archive = tar::Archive::new(inner.as_slice());
        let mut got = Vec::new();
        for entry in archive.entries().unwrap() {
            entry.unwrap().read_to_end(&mut got).unwrap();
        }
        assert_eq!(got, content);
        // A real change of the content is reported.
        file.set_len(8192).unwrap();
        let err = pack(&measured).unwrap_err();
        assert!(err.to_string().contains("instead of"), "{err}");
    }

    #[test]
    fn a_reader_that_is_too_short_is_an_error_and_no_hole() {
        let folder = tempfile::tempdir().unwrap();
        let never = |err: &std::io::Error| Error::failed("reading", err);
        let path = folder.path().join("b.snapshot");
        let mut carrier = SnapshotWriter::new(File::create_new(&path).unwrap(), &path).unwrap();
        assert!(
            carrier
                .member("x", 9, &mut [0_u8; 8].as_slice(), &never)
                .is_err()
        );
    }
}
