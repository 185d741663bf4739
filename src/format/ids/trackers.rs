//! The files of a segment's id tracker: held in memory, or left where they lie in a snapshot.
//!
//! Invariants: what is left in a snapshot is read only when it is needed, in the range that the tar's
//! headers gave for it; a file that ends before is damage.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

use super::{TrackerFiles, immutable, mutable};
use crate::base::error::{Error, Result};
use crate::format::file::SnapshotFile;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Content of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In memory.
    Held(Vec<u8>),
    /// In a plain snapshot.
    InFile {
        /// The snapshot.
        file: SnapshotFile,
        /// Offset in bytes.
        from: u64,
        /// Length in bytes.
        bytes: u64,
    },
}

impl Content {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Held(bytes) => bytes.len() as u64,
            Self::InFile { bytes, .. } => *bytes,
        }
    }

    /// Returns true if there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A reader from its beginning to its end.
    pub(super) fn reader(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::Held(bytes) => Box::new(bytes.as_slice()),
            Self::InFile { file, from, bytes } => Box::new(BufReader::with_capacity(
                BUFFER_BYTES,
                file.read_range(*from..from.saturating_add(*bytes))?,
            )),
        })
    }

    /// All of it.
    fn load(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::Held(bytes) => Ok(bytes.clone()),
            Self::InFile { file, from, bytes } => {
                let mut content = Vec::new();
                let mut range = file.read_range(*from..from.saturating_add(*bytes))?;
                let read = range.read_to_end(&mut content)?;
                match read as u64 == *bytes {
                    true => Ok(content),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
        }
    }
}

/// The files of a segment's id tracker by name, as far as there are any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trackers {
    files: BTreeMap<String, Content>,
}

/// The plain forms of an id tracker, which can be read from front to back.
pub(super) enum Plain<'a> {
    Mutable {
        mappings: &'a Content,
        versions: &'a Content,
    },
    Immutable {
        mappings: &'a Content,
        versions: &'a Content,
        deleted: &'a Content,
    },
}

impl Trackers {
    /// Returns true if there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Adds the file `name` of the id tracker; see [`super::is_tracker_file`].
    pub fn add(&mut self, name: &str, content: Content) {
        self.files.insert(name.to_owned(), content);
    }

    /// Loads all files into memory; `what` names the segment in errors.
    ///
    /// # Errors
    /// If the snapshot that they lie in cannot be read any more.
    pub fn load(&self, what: &str) -> Result<TrackerFiles> {
        let mut files = TrackerFiles::default();
        for (name, content) in &self.files {
            let failed = |err: io::Error| {
                let doing = format!("reading {name} of {what}");
                match Error::carried(&err) {
                    Some(carried) => carried.clone().within(doing),
                    None => Error::failed(doing, err)
                        .next("the file changed while it was read: try again"),
                }
            };
            if let Some(place) = files.from_name(name) {
                *place = Some(content.load().map_err(failed)?);
            }
        }
        Ok(files)
    }

    /// The files, if they are of a plain form and nothing is beside them.
    pub(super) fn plain(&self) -> Option<Plain<'_>> {
        let of = |name| self.files.get(name);
        if let (2, Some(mappings), Some(versions)) = (
            self.files.len(),
            of(mutable::MAPPINGS),
            of(mutable::VERSIONS),
        ) {
            return Some(Plain::Mutable { mappings, versions });
        }
        let (3, Some(mappings), Some(versions), Some(deleted)) = (
            self.files.len(),
            of(immutable::MAPPINGS),
            of(immutable::VERSIONS),
            of(immutable::DELETED),
        ) else {
            return None;
        };
        Some(Plain::Immutable {
            mappings,
            versions,
            deleted,
        })
    }
}
