//! A file that is read back while it is still being written.
//!
//! Whoever writes hashes what is meant to be in the file, by XXH3 with 128 bits, which costs hardly
//! more than to look at it; a thread follows, reads what is there, and computes the same and the
//! SHA-256. XXH3 finds what a disk or a memory does to bytes; it is no proof against somebody who
//! means to deceive, which is what the SHA-256 is for.
//!
//!
//! Invariants: hashes are told only of a file that has, front to back and to its end, the bytes that
//! were meant to be in it; they are of what was read, not of what was meant.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::Xxh3;

use super::file::StoredSnapshot;
use super::input::{Sha256Hex, xxh3_hex};
use crate::base::error::{Error, Result};

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Expected content of a file, as it grows.
pub struct ExpectedBytes {
    path: PathBuf,
    bytes: u64,
    hash: Xxh3,
    thread: JoinHandle<io::Result<Found>>,
}

/// Says how far a file is written.
pub type Reached = Sender<u64>;

/// Size and hashes of a file, as read back.
#[derive(Debug)]
struct Found {
    bytes: u64,
    hash: u128,
    sha256: Sha256Hex,
}

/// A file that is written to its end, and is being read back.
#[derive(Debug)]
pub struct Written {
    path: PathBuf,
    bytes: u64,
    hash: u128,
    thread: JoinHandle<io::Result<Found>>,
}

/// The hashes of a file that was read back, in lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// SHA-256 of the file.
    pub sha256: Sha256Hex,
    /// XXH3 of the file, with 128 bits.
    pub xxh3: String,
}

/// The hashes of [`Sums`] as they grow.
#[derive(Default)]
struct Both {
    sha256: Sha256,
    xxh3: Xxh3,
}

impl Both {
    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.xxh3.update(bytes);
    }
}

impl io::Write for Both {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sums {
    /// Reads all of `file`, whose bytes are compared with hashes of their own as they are read.
    pub fn of_stored(file: &StoredSnapshot) -> Result<Self> {
        let reader = Arc::clone(&file.parts).read(0..file.bytes);
        let mut reader = io::BufReader::with_capacity(BUFFER_BYTES, reader);
        let mut both = Both::default();
        io::copy(&mut reader, &mut both)
            .map_err(|err| Error::reading(format!("hashing {}", file.reference), &err))?;
        Ok(Self {
            sha256: hex::encode(both.sha256.finalize()),
            xxh3: xxh3_hex(both.xxh3.digest128()),
        })
    }
}

impl ExpectedBytes {
    /// Begins to follow the file at `path`, which is new and empty. The thread that writes says how
    /// many bytes it wrote, and drops what it says that with at the end.
    pub fn follow(path: &Path) -> Result<(Self, Reached)> {
        let file = File::open(path).map_err(|err| Error::io("reading back", path, &err))?;
        let (reached, written) = channel();
        let thread = std::thread::spawn(move || read(&file, &written));
        let meant = Self {
            path: path.to_owned(),
            bytes: 0,
            hash: Xxh3::new(),
            thread,
        };
        Ok((meant, reached))
    }

    /// Adds what comes next.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All of it was written.
    pub fn finish(self) -> Written {
        Written {
            path: self.path,
            bytes: self.bytes,
            hash: self.hash.digest128(),
            thread: self.thread,
        }
    }
}

impl Written {
    /// Returns the size of the file in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits until the file is read back to its end, and compares it with what was meant to be in
    /// it.
    pub fn read_back(self) -> Result<Sums> {
        let path = &self.path;
        let reading = |err: &io::Error| Error::io("reading back", path, err);
        let ended = || Error::failed(format!("reading {} back", path.display()), "a thread ended");
        let found = self.thread.join().map_err(|_| ended())?;
        let found = found.map_err(|err| reading(&err))?;
        let wrong = |what: String| {
            Error::failed(format!("reading {} back", path.display()), what)
                .next("the disk or the memory of this machine is not reliable")
        };
        let there = std::fs::metadata(path).map_err(|err| reading(&err))?.len();
        if [found.bytes, there] != [self.bytes; 2] {
            return Err(wrong(format!(
                "it has {there} bytes, of which {} could be read; {} were written",
                found.bytes, self.bytes
            )));
        }
        if found.hash != self.hash {
            return Err(wrong("what is in it is not what was written".to_owned()));
        }
        Ok(Sums {
            sha256: found.sha256,
            xxh3: xxh3_hex(found.hash),
        })
    }
}

fn read(file: &File, written: &Receiver<u64>) -> io::Result<Found> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut both = Both::default();
    let (mut here, mut reached) = (0, 0);
    for more in written {
        reached += more;
        while here < reached {
            let most = usize::try_from(reached - here).unwrap_or(usize::MAX);
            let length = buffer.len().min(most);
            let room = buffer.get_mut(..length).unwrap_or_default();
            match file.read_at(room, here) {
                // The file is shorter than it should be, which its length will show.
                Ok(0) => reached = here,
                Ok(count) => {
                    both.update(room.get(..count).unwrap_or_default());
                    here += count as u64;
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
    }
    Ok(Found {
        bytes: here,
        hash: both.xxh3.digest128(),
        sha256: hex::encode(both.sha256.finalize()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Writes `meant` as it is meant, or as `there` has it, and reads it back.
    fn written(meant: &[u8], there: &[u8]) -> Result<Sums> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = File::create_new(&path).unwrap();
        let (mut following, reached) = ExpectedBytes::follow(&path).unwrap();
        let mut there = there;
        for part in meant.chunks(100_003) {
            following.add(part);
            let (now, later) = there.split_at(part.len().min(there.len()));
            file.write_all(now).unwrap();
            there = later;
            reached.send(part.len() as u64).unwrap();
        }
        file.write_all(there).unwrap();
        drop(reached);
        assert_eq!(following.bytes(), meant.len() as u64);
        following.finish().read_back()
    }

    #[test]
    fn what_was_written_is_read_back_or_refused() {
        for length in [0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, 1_234_567] {
            let meant: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let sums = Sums {
                sha256: hex::encode(Sha256::digest(&meant)),
                xxh3: format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&meant)),
            };
            assert_eq!(written(&meant, &meant).unwrap(), sums);
            for at in [0, length / 2, length.saturating_sub(1)] {
                let mut there = meant.clone();
                if let Some(byte) = there.get_mut(at) {
                    *byte ^= 1;
                    assert!(written(&meant, &there).is_err(), "{length} {at}");
                }
            }
            let mut longer = meant.clone();
            longer.push(0);
            assert!(written(&meant, &longer).is_err(), "{length} and one more");
            if let Some((_, shorter)) = meant.split_last() {
                assert!(written(&meant, shorter).is_err(), "{length} less one");
            }
        }
    }
}
