//! Places of the bytes of a snapshot's files in it, those in inner tars included.
//!
//! The archive cuts a snapshot at these places, so that what did not change since last night is
//! found again although everything around it moved.
//!
//! Invariants: runs are ascending and disjoint; nothing is read but headers and each segment's
//! `segment.json`; a tar that the walker refuses is refused.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::file::SnapshotFile;
use super::input::Input;
use super::layout::{self, Place, ShardMember};
use super::tar::{Member, MemberKind, Stream, Walker};
use crate::base::error::Result;

/// Largest `segment.json` that is read, in bytes.
const JSON_BYTES_MAX: u64 = 16 << 20;
/// Size of a record in a file of which nothing better is known, in bytes: a page, since files that
/// are changed in place are changed by pages.
const PAGE_BYTES: u64 = 4096;

/// A file as it is packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedFile {
    /// Path; in an inner tar, after the path of that tar.
    pub path: String,
    /// Size in bytes, holes included.
    pub bytes: u64,
    /// Bytes that the snapshot stores for the file.
    pub stored_bytes: u64,
    /// Structure of the file's content.
    pub record: Record,
}

/// Structure of a file's content: records of one size, after some bytes that belong to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Bytes before the first.
    pub skip: u64,
    /// Bytes of each.
    pub bytes: u64,
}

/// A run of stored bytes of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Offset in the snapshot, in bytes.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// Index of the file in [`TarExtents::files`].
    pub file: usize,
    /// Offset in that file, in bytes.
    pub offset: u64,
}

/// All that a snapshot stores of files.
#[derive(Debug, Default)]
pub struct TarExtents {
    /// The files, in the order of the snapshot.
    pub files: Vec<PackedFile>,
    /// The stored bytes of these files.
    pub runs: Vec<Run>,
    /// The sizes of vectors by the folder of their segment.
    vectors: BTreeMap<String, BTreeMap<String, u64>>,
}

impl TarExtents {
    /// Walks over the snapshot in `file`; a .gz is decompressed for it.
    pub fn of(file: &SnapshotFile) -> Result<Self> {
        let mut runs = Self::default();
        let mut walker = Walker::new(Input::open(file, None, None)?, file.to_string());
        while let Some(member) = walker.next_member()? {
            let is_directory = member.kind == MemberKind::Directory;
            let is_tar = matches!(
                layout::place(&member.path, is_directory),
                Place::Shard {
                    part: ShardMember::SegmentTar(_),
                    ..
                }
            );
            if is_tar && member.pieces.is_none() {
                let what = format!("{} of {}", member.path, walker.what());
                let base = member.position;
                let mut inner = Walker::inner(walker.data(), what);
                while let Some(file) = inner.next_member()? {
                    runs.take(&mut inner, &file, base, &member.path)?;
                }
            } else {
                runs.take(&mut walker, &member, 0, "")?;
            }
        }
        for file in &mut runs.files {
            file.record = record_of(&runs.vectors, &file.path);
        }
        Ok(runs)
    }

    fn take<S: Stream>(
        &mut self,
        walker: &mut Walker<S>,
        member: &Member,
        base: u64,
        within: &str,
    ) -> Result<()> {
        if member.kind == MemberKind::Directory {
            return Ok(());
        }
        let path = match within {
            "" => member.path.clone(),
            within => format!("{within}/{}", member.path),
        };
        let file = self.files.len();
        let mut start = base + member.position;
        let mut push = |bytes: u64, offset: u64| {
            if bytes > 0 {
                self.runs.push(Run {
                    start,
                    bytes,
                    file,
                    offset,
                });
            }
            start += bytes;
        };
        match &member.pieces {
            None => push(member.stored_bytes, 0),
            Some(pieces) => {
                for piece in pieces {
                    push(piece.bytes, piece.offset);
                }
            }
        }
        if let Some(folder) = path.strip_suffix(layout::SEGMENT_STATE)
            && member.bytes <= JSON_BYTES_MAX
        {
            let bytes = walker.read_small(member, JSON_BYTES_MAX)?;
            // One that cannot be read is cut by pages, as whatever else is unknown.
            if let Ok(state) = serde_json::from_slice::<State>(&bytes) {
                self.vectors.insert(folder.to_owned(), state.sizes());
            }
        }
        self.files.push(PackedFile {
            path,
            bytes: member.bytes,
            stored_bytes: member.stored_bytes,
            record: Record {
                skip: 0,
                bytes: PAGE_BYTES,
            },
        });
        Ok(())
    }
}

/// `segment.json`, as far as the sizes of vectors go.
#[derive(Deserialize)]
struct State {
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    vector_data: BTreeMap<String, Vectors>,
}

#[derive(Deserialize)]
struct Vectors {
    size: u64,
    #[serde(default)]
    datatype: Option<String>,
}

impl State {
    /// Bytes of one vector, by name.
    fn sizes(self) -> BTreeMap<String, u64> {
        let size = |vectors: Vectors| {
            let width = match vectors.datatype.as_deref() {
                None | Some("float32") => 4,
                Some("float16") => 2,
                Some("uint8") => 1,
                Some(_) => return None,
            };
            vectors.size.checked_mul(width).filter(|bytes| *bytes > 0)
        };
        self.config
            .vector_data
            .into_iter()
            .filter_map(|(name, vectors)| Some((name, size(vectors)?)))
            .collect()
    }
}

/// Returns the structure of the file called `path`. Files of vectors are divided into vectors: the
/// optimizer writes them in another order, and only whole ones are found again.
fn record_of(vectors: &BTreeMap<String, BTreeMap<String, u64>>, path: &str) -> Record {
    let page = Record {
        skip: 0,
        bytes: PAGE_BYTES,
    };
    let Some(at) = path.rfind("/vector_storage").map(|at| at + 1) else {
        return page;
    };
    let (folder, rest) = path.split_at(at);
    let Some((storage, file)) = rest.split_once('/') else {
        return page;
    };
    let name = storage.trim_start_matches("vector_storage");
    let name = name.strip_prefix('-').unwrap_or(name);
    let Some(bytes) = vectors.get(folder).and_then(|sizes| sizes.get(name)) else {
        return page;
    };
    let (skip, bytes) = match file {
        // "data" stands before the first vector.
        "matrix.dat" => (4, *bytes),
        file if file.starts_with("vectors/chunk_") => (0, *bytes),
        _ => return page,
    };
    Record { skip, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_vectors_are_made_of_vectors() {
        let json = r#"{"version":7,"config":{"vector_data":{"":{"size":512},
            "small":{"size":100,"datatype":"uint8"},"odd":{"size":8,"datatype":"turbo4"}}}}"#;
        let state: State = serde_json::from_str(json).unwrap();
        let folder = "0/segments/u.tar/snapshot/files/";
        let vectors = BTreeMap::from([(folder.to_owned(), state.sizes())]);
        let page = (0, PAGE_BYTES);
        for (file, expected) in [
            ("vector_storage/matrix.dat", (4, 2048)),
            ("vector_storage/vectors/chunk_0.mmap", (0, 2048)),
            ("vector_storage-small/matrix.dat", (4, 100)),
            ("vector_storage-odd/matrix.dat", page),
            ("vector_storage-none/matrix.dat", page),
            ("vector_storage/deleted.dat", page),
            ("vector_storage", page),
            ("id_tracker.versions", page),
        ] {
            let record = record_of(&vectors, &format!("{folder}{file}"));
            assert_eq!((record.skip, record.bytes), expected, "{file}");
        }
        let elsewhere = record_of(&vectors, "1/other/vector_storage/matrix.dat");
        assert_eq!((elsewhere.skip, elsewhere.bytes), page);
    }
}
