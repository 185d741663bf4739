//! Reading what a gridstore holds: a value by its offset, without the engine.
//!
//! The form is that of [`super::gridstore`]; the facts are in lib/gridstore/src/{config,tracker,pages}.rs,
//! from 1.19 on in lib/blobstore/src.
//!
//! Invariants: a storage of a form that is not known is refused; no number that a file claims reserves
//! memory beyond [`VALUE_BYTES_MAX`]; no more files are open at once than a process may have.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::gridstore::{TRACKER_ENTRY_BYTES, TRACKER_HEADER_BYTES};
use super::lz4;
use crate::base::error::{Error, Result};

/// Largest value that is read, in bytes: more than a server takes as a point's payload.
const VALUE_BYTES_MAX: u64 = 1 << 30;
/// Largest page, in bytes: Qdrant's have 32 MiB.
const PAGE_BYTES_MAX: u64 = 1 << 32;
/// Entries of the tracker that are read at once.
const ENTRIES_AT_ONCE: u64 = 4096;
/// Bytes of a page that are read at once.
const WINDOW_BYTES: u64 = 256 << 10;
/// Pages that are open at once.
const OPEN_MAX: usize = 64;
/// Writes to the tracker that a crash may have torn, and that who opens the storage does again
/// (lib/blobstore/src/tracker/journal.rs, since 1.19): entries of a length, a CRC-32C, and 20 bytes a write.
const JOURNAL: &str = "tracker_journal.dat";
/// Largest journal that is read, in bytes; a server removes one of more than 20 KiB after each flush.
const JOURNAL_BYTES_MAX: u64 = 256 << 20;
const JOURNAL_RECORD_BYTES: usize = 20;

/// Reads values, in the order of their offsets best.
#[derive(Debug)]
pub struct GridstoreReader {
    folder: PathBuf,
    what: String,
    tracker: File,
    /// Entries that the tracker has room for.
    end: u64,
    page_bytes: u64,
    block_bytes: u64,
    is_packed: bool,
    open: BTreeMap<u32, File>,
    /// The tracker's words by offset, where the journal says them.
    journal: BTreeMap<u32, [u32; 4]>,
    /// Entries of the tracker from this place on.
    entries: (u64, Vec<u8>),
    /// Bytes of a page from this place on.
    window: (u32, u64, Vec<u8>),
}

impl GridstoreReader {
    /// The storage in `folder`; `what` names it in errors.
    pub fn open(folder: &Path, what: &str) -> Result<Self> {
        let damaged = |why: String| Error::damaged(format!("reading {what}"), why);
        let failed = |path: &Path, err: &io::Error| Error::io("reading", path, err);
        let path = folder.join("config.json");
        let bytes = std::fs::read(&path).map_err(|err| failed(&path, &err))?;
        let config: Value = serde_json::from_slice(&bytes)
            .map_err(|err| damaged(format!("its config.json cannot be read: {err}")))?;
        let number = |key: &str, most: u64| {
            let number = config[key].as_u64().filter(|n| (1..=most).contains(n));
            number.ok_or_else(|| damaged(format!("its {key} is {}", config[key])))
        };
        if !matches!(config["mode"].as_str(), None | Some("mutable")) {
            let why = format!("its mode is {}, which is not known here", config["mode"]);
            return Err(damaged(why));
        }
        let is_packed = match config["compression"].as_str() {
            // What is not stated is the default.
            None | Some("LZ4") => true,
            Some("None") => false,
            Some(other) => return Err(damaged(format!("its compression is {other}"))),
        };
        let path = folder.join(JOURNAL);
        let journal = match std::fs::metadata(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(err) => return Err(failed(&path, &err)),
            Ok(meta) if meta.len() > JOURNAL_BYTES_MAX => {
                return Err(damaged(format!("its journal has {} bytes", meta.len())));
            }
            Ok(_) => read_journal(&std::fs::read(&path).map_err(|err| failed(&path, &err))?),
        };
        let path = folder.join("tracker.dat");
        let tracker = File::open(&path).map_err(|err| failed(&path, &err))?;
        let bytes = tracker.metadata().map_err(|err| failed(&path, &err))?.len();
        Ok(Self {
            end: bytes.saturating_sub(TRACKER_HEADER_BYTES) / TRACKER_ENTRY_BYTES,
            page_bytes: number("page_size_bytes", PAGE_BYTES_MAX)?,
            block_bytes: number("block_size_bytes", PAGE_BYTES_MAX)?,
            folder: folder.to_owned(),
            what: what.to_owned(),
            tracker,
            is_packed,
            journal,
            open: BTreeMap::new(),
            entries: (0, Vec::new()),
            window: (0, 0, Vec::new()),
        })
    }

    /// The value at `offset`, unpacked; none if there is none.
    pub fn read(&mut self, offset: u32) -> Result<Option<Vec<u8>>> {
        let Some([some, page, block, length]) = self.entry(offset)? else {
            return Ok(None);
        };
        // A length of 0 is a write that was torn, for the engine as well.
        if some == 0 || length == 0 {
            return Ok(None);
        }
        let stored = self.stored(offset, page, block, length)?;
        if !self.is_packed {
            return Ok(Some(stored));
        }
        let unpacked = lz4::unpack(&stored);
        unpacked.map(Some).map_err(|why| self.damaged(offset, &why))
    }

    fn damaged(&self, offset: u32, why: &str) -> Error {
        Error::damaged(
            format!("reading {}", self.what),
            format!("offset {offset}: {why}"),
        )
        .next("check the snapshot against its checksum; if that fits, take it again")
    }

    /// The tracker's words for `offset`.
    fn entry(&mut self, offset: u32) -> Result<Option<[u32; 4]>> {
        if let Some(words) = self.journal.get(&offset) {
            return Ok(Some(*words));
        }
        let offset = u64::from(offset);
        if offset >= self.end {
            return Ok(None);
        }
        let (from, bytes) = &mut self.entries;
        let held = bytes.len() as u64 / TRACKER_ENTRY_BYTES;
        if offset < *from || offset >= *from + held {
            let count = ENTRIES_AT_ONCE.min(self.end - offset);
            bytes.resize((count * TRACKER_ENTRY_BYTES) as usize, 0);
            let at = TRACKER_HEADER_BYTES + offset * TRACKER_ENTRY_BYTES;
            self.tracker
                .read_exact_at(bytes, at)
                .map_err(|err| Error::io("reading", &self.folder, &err))?;
            *from = offset;
        }
        let at = ((offset - *from) * TRACKER_ENTRY_BYTES) as usize;
        let entry = bytes.get(at..at + TRACKER_ENTRY_BYTES as usize);
        Ok(Some(words(entry.unwrap_or_default())))
    }

    /// The bytes of a value, which may go on in the pages after.
    fn stored(&mut self, offset: u32, mut page: u32, block: u32, length: u32) -> Result<Vec<u8>> {
        let length = u64::from(length);
        let mut start = u64::from(block).saturating_mul(self.block_bytes);
        if start >= self.page_bytes || length > VALUE_BYTES_MAX {
            return Err(self.damaged(offset, "it lies in no page, or is larger than any payload"));
        }
        let mut value = Vec::new();
        loop {
            let part = (length - value.len() as u64).min(self.page_bytes - start);
            self.part(offset, page, start, part, &mut value)?;
            if value.len() as u64 >= length {
                return Ok(value);
            }
            start = 0;
            page = (page.checked_add(1)).ok_or_else(|| self.damaged(offset, "it has no end"))?;
        }
    }

    /// Adds `bytes` bytes of a page to `value`.
    fn part(
        &mut self,
        offset: u32,
        page: u32,
        start: u64,
        bytes: u64,
        value: &mut Vec<u8>,
    ) -> Result<()> {
        let (of, from, window) = &self.window;
        let at = start.checked_sub(*from).filter(|_| *of == page);
        let held = at.and_then(|at| {
            let at = usize::try_from(at).ok()?;
            window.get(at..at.checked_add(usize::try_from(bytes).ok()?)?)
        });
        if let Some(held) = held {
            value.extend_from_slice(held);
            return Ok(());
        }
        let path = self.folder.join(format!("page_{page}.dat"));
        if self.open.len() > OPEN_MAX {
            self.open.clear();
        }
        let file = match self.open.entry(page) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => match File::open(&path) {
                Ok(file) => place.insert(file),
                Err(err) if err.kind() == io::ErrorKind::NotFound => {
                    return Err(self.damaged(offset, &format!("there is no page {page}")));
                }
                Err(err) => return Err(Error::io("reading", &path, &err)),
            },
        };
        let size = file
            .metadata()
            .map_err(|err| Error::io("reading", &path, &err))?
            .len();
        if start.saturating_add(bytes) > size {
            return Err(self.damaged(offset, &format!("page {page} ends before it")));
        }
        let (of, from, window) = &mut self.window;
        let count = bytes.max(WINDOW_BYTES).min(size - start);
        window.resize(usize::try_from(count).unwrap_or(0), 0);
        (*of, *from) = (page, start);
        if let Err(err) = file.read_exact_at(window, start) {
            window.clear();
            return Err(Error::io("reading", &path, &err));
        }
        let some = window.get(..usize::try_from(bytes).unwrap_or(0));
        value.extend_from_slice(some.unwrap_or_default());
        Ok(())
    }
}

/// The first of the words that `bytes` are; those that it is too short for are 0.
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut words = [0; N];
    for (word, four) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_le_bytes(*four);
    }
    words
}

/// The writes of a journal, up to the first entry that is not whole, where the engine stops too.
fn read_journal(mut rest: &[u8]) -> BTreeMap<u32, [u32; 4]> {
    let mut writes = BTreeMap::new();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [length, sum] = words(head);
        let Some((records, after)) = after.split_at_checked(length as usize) else {
            break;
        };
        let is_whole = !records.is_empty() && records.len() % JOURNAL_RECORD_BYTES == 0;
        if !is_whole || crc32c::crc32c(records) != sum {
            break;
        }
        for record in records.as_chunks::<JOURNAL_RECORD_BYTES>().0 {
            let [offset, some, page, block, length] = words(record);
            writes.insert(offset, [some, page, block, length]);
        }
        rest = after;
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::super::GridstoreWriter;
    use super::*;
    use crate::base::error::Kind;

    #[test]
    fn what_is_written_is_read_packed_or_not() {
        // The third does not fit into what is left of a page, the last into none.
        let random = |seed: u64, length: usize| -> Vec<u8> {
            let mut state = seed;
            let mut next = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 33) as u8
            };
            (0..length).map(|_| next()).collect()
        };
        let values = [
            (5, b"a".to_vec()),
            (0, vec![2; 100_000]),
            (2, random(1, (32 << 20) - 128)),
            (3, random(2, (32 << 20) + 1)),
            (70_000, random(3, 300)),
        ];
        for is_packed in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = match is_packed {
                false => GridstoreWriter::new(folder.path()).unwrap(),
                true => GridstoreWriter::packed(folder.path()).unwrap(),
            };
            for (offset, value) in &values {
                writer.write(*offset, value).unwrap();
            }
            writer.finish().unwrap();
            let mut reader = GridstoreReader::open(folder.path(), "test").unwrap();
            for (offset, value) in &values {
                assert!(
                    reader.read(*offset).unwrap().as_ref() == Some(value),
                    "{offset}"
                );
            }
            for offset in [1, 4, 69_999, 70_001, u32::MAX] {
                assert_eq!(reader.read(offset).unwrap(), None, "{offset}");
            }
        }
    }

    #[test]
    fn a_journal_counts_up_to_where_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = GridstoreWriter::new(folder.path()).unwrap();
        writer.write(0, b"zero").unwrap();
        writer.write(1, b"one").unwrap();
        writer.finish().unwrap();
        let entry = |records: &[[u32; 5]], sum: u32| -> Vec<u8> {
            let bytes: Vec<u8> = records
                .iter()
                .flatten()
                .flat_map(|w| w.to_le_bytes())
                .collect();
            let head = [bytes.len() as u32, crc32c::crc32c(&bytes) ^ sum];
            [head.iter().flat_map(|w| w.to_le_bytes()).collect(), bytes].concat()
        };
        // Offset 5 gets what 1 has, and 0 loses what it had; the second entry is not whole.
        let journal = [
            entry(&[[5, 1, 0, 1, 3], [0, 0, 0, 0, 0]], 0),
            entry(&[[1, 0, 0, 0, 0]], 1),
        ];
        std::fs::write(folder.path().join(JOURNAL), journal.concat()).unwrap();
        let mut reader = GridstoreReader::open(folder.path(), "test").unwrap();
        assert_eq!(reader.read(5).unwrap().unwrap(), b"one");
        assert_eq!(reader.read(1).unwrap().unwrap(), b"one");
        assert_eq!(reader.read(0).unwrap(), None);
        assert!(read_journal(&entry(&[[5, 1, 0, 1, 3]], 0)[..20]).is_empty());
    }

    #[test]
    fn damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = GridstoreWriter::packed(folder.path()).unwrap();
        for offset in 0..4 {
            writer.write(offset, &[b'x'; 200]).unwrap();
        }
        writer.finish().unwrap();
        let tracker = File::options()
            .write(true)
            .open(folder.path().join("tracker.dat"))
            .unwrap();
        let put = |offset: u64, word: u64, number: u32| {
            let at = 4 + offset * 16 + word * 4;
            tracker.write_all_at(&number.to_le_bytes(), at).unwrap();
        };
        // A page that is not there, a block behind the page, a length without end.
        put(1, 1, 9);
        put(2, 2, 1 << 30);
        put(3, 3, u32::MAX);
        let mut reader = GridstoreReader::open(folder.path(), "test").unwrap();
        assert!(reader.read(0).unwrap().is_some());
        for offset in 1..4 {
            assert_eq!(reader.read(offset).unwrap_err().kind(), Kind::Damaged);
        }
        let config = folder.path().join("config.json");
        for wrong in [
            r#"{"page_size_bytes":0,"block_size_bytes":128}"#,
            r#"{"page_size_bytes":33554432,"block_size_bytes":128,"mode":"append_only"}"#,
            r#"{"page_size_bytes":33554432,"block_size_bytes":128,"compression":"Zstd"}"#,
        ] {
            std::fs::write(&config, wrong).unwrap();
            assert!(
                GridstoreReader::open(folder.path(), "test").is_err(),
                "{wrong}"
            );
        }
    }
}
