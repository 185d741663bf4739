//! Where the bytes of a snapshot are: in a file on disk, in a part of one, or in parts that are put together
//! when they are read.
//!
//! Invariants: whoever reads gets the same bytes, whichever it is; what is passed over is not read; of a
//! snapshot in parts no byte is handed out that was not compared with a hash.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::member::FullMember;
use super::name::source_name;
use super::tar::Stream;
use crate::base::error::{Error, Result};

/// The parts of a snapshot, such as the objects of an archive.
pub trait Parts: Send + Sync {
    /// Reads `range` of the snapshot, which is within it, from front to back. Each part that is read is
    /// compared with its hash first; errors are ours, as [`Error::into_io`] passes them on.
    fn read(self: Arc<Self>, range: Range<u64>) -> Box<dyn Stream + Send>;
}

/// A snapshot in parts.
#[derive(Clone)]
pub struct StoredSnapshot {
    /// As it was asked for, for reports and errors: `archive:album_2017@latest`.
    pub reference: String,
    /// Name that is unique where it is stored: `album_2017@2026-11-01T03:00:00Z`.
    pub id: String,
    /// Name of the collection.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// The SHA-256 of all bytes, as it was recorded when it was stored.
    pub sha256: String,
    /// The SHA-256 of the list of its parts, which has that of each.
    pub parts_sha256: String,
    /// Manifest of its capture.
    pub manifest: Option<Value>,
    /// Parts that hold the bytes.
    pub parts: Arc<dyn Parts>,
}

impl fmt::Debug for StoredSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredSnapshot({})", self.id)
    }
}

/// The bytes of a snapshot.
#[derive(Debug, Clone)]
pub enum SnapshotFile {
    /// A file, plain or .gz.
    Disk(Arc<Path>),
    /// A plain one in the snapshot of a whole storage.
    Member(Arc<FullMember>),
    /// A plain one in parts.
    Stored(Arc<StoredSnapshot>),
}

/// Identity by which two snapshots are the same one, whatever they were called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileIdentity {
    /// Device and inode: a link is the same file under another name.
    Inode(u64, u64),
    /// Those of the file that it lies in, and where in it.
    Member(u64, u64, u64),
    /// The id where it is stored.
    Stored(String),
}

impl From<&Path> for SnapshotFile {
    fn from(path: &Path) -> Self {
        Self::Disk(Arc::from(path))
    }
}

impl From<StoredSnapshot> for SnapshotFile {
    fn from(stored: StoredSnapshot) -> Self {
        Self::Stored(Arc::new(stored))
    }
}

impl PartialEq for SnapshotFile {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Disk(one), Self::Disk(other)) => one == other,
            (Self::Member(one), Self::Member(other)) => Arc::ptr_eq(one, other),
            (Self::Stored(one), Self::Stored(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for SnapshotFile {}

impl fmt::Display for SnapshotFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(path) => write!(f, "{}", path.display()),
            Self::Member(member) => {
                write!(f, "{}#{}", member.full.path.display(), member.collection)
            }
            Self::Stored(stored) => f.write_str(&stored.reference),
        }
    }
}

impl SnapshotFile {
    /// The file on disk, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Disk(path) => Some(path),
            Self::Member(_) | Self::Stored(_) => None,
        }
    }

    /// The file on disk that its bytes lie in, whatever else does.
    pub fn lies_in(&self) -> Option<&Path> {
        match self {
            Self::Disk(path) => Some(path),
            Self::Member(member) => Some(&member.full.path),
            Self::Stored(_) => None,
        }
    }

    /// Name of the file without folders; of one that is no file, the name that a file of it has.
    pub fn file_name(&self) -> String {
        let path = match self {
            Self::Disk(path) => path.to_path_buf(),
            Self::Member(member) => PathBuf::from(format!("{}.snapshot", member.collection)),
            Self::Stored(stored) => PathBuf::from(format!("{}.snapshot", stored.name)),
        };
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The name of the collection, as far as the file's name tells it.
    pub fn source_name(&self) -> String {
        source_name(Path::new(&self.file_name()))
    }

    /// Size in bytes as it lies there.
    pub fn bytes(&self) -> Result<u64> {
        match self {
            Self::Disk(path) => std::fs::metadata(path)
                .map(|meta| meta.len())
                .map_err(|err| Error::io("opening snapshot", path, &err)),
            Self::Member(member) => Ok(member.place.range.end - member.place.range.start),
            Self::Stored(stored) => Ok(stored.bytes),
        }
    }

    /// Identity of the file; an error if it is not there.
    pub fn identity(&self) -> Result<FileIdentity> {
        let meta =
            |path: &Path| std::fs::metadata(path).map_err(|err| Error::io("reading", path, &err));
        match self {
            Self::Disk(path) => meta(path).map(|meta| FileIdentity::Inode(meta.dev(), meta.ino())),
            Self::Member(member) => {
                let start = member.place.range.start;
                meta(&member.full.path)
                    .map(|meta| FileIdentity::Member(meta.dev(), meta.ino(), start))
            }
            Self::Stored(stored) => Ok(FileIdentity::Stored(stored.id.clone())),
        }
    }

    /// A reader of all of it, as it lies there.
    pub fn reader(&self) -> io::Result<RangeReader> {
        self.read_range(0..u64::MAX)
    }

    /// A reader of `range`, or of as much of that as there is.
    pub fn read_range(&self, range: Range<u64>) -> io::Result<RangeReader> {
        let disk = |path: &Path, range: Range<u64>| {
            let mut file = File::open(path)?;
            if range.start > 0 {
                file.seek(SeekFrom::Start(range.start))?;
            }
            Ok::<_, io::Error>(RangeReader::Disk {
                file,
                left: range.end.saturating_sub(range.start),
            })
        };
        Ok(match self {
            Self::Disk(path) => disk(path, range)?,
            Self::Member(member) => {
                let whole = &member.place.range;
                let within = |at: u64| whole.start.saturating_add(at).min(whole.end);
                disk(&member.full.path, within(range.start)..within(range.end))?
            }
            Self::Stored(stored) => {
                let end = range.end.min(stored.bytes);
                let range = range.start.min(end)..end;
                RangeReader::Stored(Arc::clone(&stored.parts).read(range))
            }
        })
    }
}

/// Reads a range of a snapshot from front to back.
pub enum RangeReader {
    /// Of a file.
    Disk {
        /// It, at the byte that comes next.
        file: File,
        /// Bytes that are left of the range.
        left: u64,
    },
    /// Of parts.
    Stored(Box<dyn Stream + Send>),
}

impl Read for RangeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Disk { file, left } => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let length = buffer.len().min(most);
                let count = file.read(buffer.get_mut(..length).unwrap_or_default())?;
                *left -= count as u64;
                Ok(count)
            }
            Self::Stored(reader) => reader.read(buffer),
        }
    }
}

impl Stream for RangeReader {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match self {
            Self::Disk { file, left } => {
                let here = file.stream_position()?;
                let end = file.metadata()?.len();
                let target = here
                    .checked_add(bytes)
                    .filter(|target| *target <= end && bytes <= *left)
                    .ok_or(io::ErrorKind::UnexpectedEof)?;
                file.seek(SeekFrom::Start(target))?;
                *left -= bytes;
                Ok(())
            }
            Self::Stored(reader) => reader.skip(bytes),
        }
    }
}
