//! The ids of a segment written as `mutable_id_tracker.*`.
//!
//! Invariants: what is read from it is what was written, in the order of writing: of two ids at one
//! offset the later stays; an offset's version is the one that came with the id that stays; memory is
//! 16 bytes for each id.

use std::fs::File;
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::mutable::{MAPPINGS, VERSIONS};
use crate::base::error::{Error, Result};
use crate::base::scratch;
use crate::point::PointId;

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Writes ids.
#[derive(Debug)]
pub struct IdWriter {
    folder: PathBuf,
    mappings: BufWriter<File>,
    versions: Vec<(u32, Option<u64>)>,
}

impl IdWriter {
    /// Writes the ids of the segment in `folder`, in place of those that it has in this form.
    pub fn new(folder: &Path) -> Result<Self> {
        for name in [MAPPINGS, VERSIONS] {
            let path = folder.join(name);
            match std::fs::remove_file(&path) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("removing", &path, &err));
                }
                _ => {}
            }
        }
        let file = scratch::create(&folder.join(MAPPINGS))?;
        Ok(Self {
            folder: folder.to_owned(),
            mappings: BufWriter::with_capacity(BUFFER_BYTES, file),
            versions: Vec::new(),
        })
    }

    /// Maps `id` to `offset`; a point without a version is one that was half written.
    pub fn add(&mut self, id: PointId, offset: u32, version: Option<u64>) -> Result<()> {
        let mut record = Vec::with_capacity(1 + 16 + 4);
        match id {
            PointId::Num(num) => {
                record.push(1);
                record.extend_from_slice(&num.to_le_bytes());
            }
            PointId::Uuid(uuid) => {
                record.push(2);
                record.extend_from_slice(uuid.as_bytes());
            }
        }
        record.extend_from_slice(&offset.to_le_bytes());
        self.versions.push((offset, version));
        (self.mappings.write_all(&record))
            .map_err(|err| Error::io("writing", &self.folder.join(MAPPINGS), &err))
    }

    /// Ends it. An offset between others that has no version gets 0, as servers give it one.
    pub fn finish(mut self) -> Result<()> {
        (self.mappings.flush())
            .map_err(|err| Error::io("writing", &self.folder.join(MAPPINGS), &err))?;
        // Of one offset the last counts; the sort is stable.
        self.versions.sort_by_key(|(offset, _)| *offset);
        let path = self.folder.join(VERSIONS);
        let failed = |err: std::io::Error| Error::io("writing", &path, &err);
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, scratch::create(&path)?);
        let mut at = 0;
        let mut versions = self.versions.into_iter().peekable();
        while let Some((offset, version)) = versions.next() {
            let is_last = versions.peek().is_none_or(|(next, _)| *next != offset);
            let (true, Some(version)) = (is_last, version) else {
                continue;
            };
            let place = u64::from(offset) * 8;
            if place != at {
                file.seek(SeekFrom::Start(place)).map_err(failed)?;
            }
            file.write_all(&version.to_le_bytes()).map_err(failed)?;
            at = place + 8;
        }
        file.flush().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::{TrackerFiles, read};
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(MAPPINGS), "of another form").unwrap();
        let mut writer = IdWriter::new(folder.path()).unwrap();
        let uuid = PointId::Uuid(Uuid::from_u128(7 << 64));
        for (id, offset, version) in [
            (PointId::Num(5), 3, Some(30)),
            (uuid, 1, Some(10)),
            // The next id takes over this offset.
            (PointId::Num(6), 6, Some(60)),
            (PointId::Num(9), 6, Some(61)),
            (PointId::Num(8), 4, None),
            (PointId::Num(7), 9, None),
        ] {
            writer.add(id, offset, version).unwrap();
        }
        writer.finish().unwrap();
        let mut files = TrackerFiles::default();
        for name in [MAPPINGS, VERSIONS] {
            let bytes = std::fs::read(folder.path().join(name)).unwrap();
            *files.from_name(name).unwrap() = Some(bytes);
        }
        let ids = read(&files, "a test").unwrap();
        let found: Vec<(PointId, u32, u64)> = (ids.entries.iter())
            .map(|entry| (entry.id, entry.offset, entry.version))
            .collect();
        let wanted = [
            (PointId::Num(5), 3, 30),
            (PointId::Num(8), 4, 0),
            (PointId::Num(9), 6, 61),
            (uuid, 1, 10),
        ];
        assert_eq!(found, wanted);
        assert_eq!((ids.unversioned, ids.torn_bytes), (1, 0));
    }
}
