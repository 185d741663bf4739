//! One shard of a collection snapshot as a snapshot of its own, which a cluster's members take.
//!
//! Invariants: what is sent has the size and the hash that were said before; it is never on disk.

use std::io::{self, Read, Write};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};

use crate::base::error::{Error, Result};
use crate::format::{Input, SnapshotFile, TRAILER_BYTES, Transplant, Walker, size_in_tar};

/// Writes the shard as a snapshot of its own.
fn write_shard(file: &SnapshotFile, shard: u32, out: impl Write) -> Result<()> {
    let prefix = format!("{shard}/");
    let mut input = Input::open(file, None, None)?;
    let mut walker = Walker::new(&mut input, file.to_string());
    let mut tar = Transplant::new(out, format!("shard {shard} of {file}"));
    while let Some(member) = walker.next_member()? {
        if let Some(name) = member.path.strip_prefix(&prefix).map(str::to_owned) {
            tar.member(&mut walker, &member, &name)?;
        }
    }
    tar.finish().map(|_| ())
}

/// Size and SHA-256 of the shard as a snapshot of its own.
pub(super) fn measure(file: &SnapshotFile, shard: u32) -> Result<(u64, String)> {
    struct Hash(Sha256);
    impl Write for Hash {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let prefix = format!("{shard}/");
    let mut bytes = TRAILER_BYTES;
    let mut input = Input::open(file, None, None)?;
    let mut walker = Walker::new(&mut input, file.to_string());
    while let Some(member) = walker.next_member()? {
        if let Some(name) = member.path.strip_prefix(&prefix) {
            bytes += size_in_tar(&member, name);
        }
    }
    let mut hash = Hash(Sha256::new());
    write_shard(file, shard, &mut hash)?;
    Ok((bytes, hex::encode(hash.0.finalize())))
}

/// The shard as a snapshot of its own, written while it is read.
pub(super) fn stream(file: &SnapshotFile, shard: u32) -> Result<impl Read + Send + 'static> {
    let (reader, writer) =
        io::pipe().map_err(|err| Error::failed(format!("reading shard {shard} of {file}"), err))?;
    let file = file.clone();
    let writing = std::thread::spawn(move || write_shard(&file, shard, io::BufWriter::new(writer)));
    Ok(ShardReader {
        reader,
        writing: Some(writing),
    })
}

/// Reads what a thread writes, and tells at the end how that ended.
struct ShardReader {
    reader: io::PipeReader,
    writing: Option<JoinHandle<Result<()>>>,
}

impl Read for ShardReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count == 0
            && !buffer.is_empty()
            && let Some(writing) = self.writing.take()
        {
            let ended = writing.join();
            let ended =
                ended.unwrap_or_else(|_| Err(Error::failed("reading a shard", "a thread ended")));
            ended.map_err(Error::into_io)?;
        }
        Ok(count)
    }
}
