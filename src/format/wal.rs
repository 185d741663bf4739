//! A shard's write-ahead log, read from the files of its `wal/` directory without the engine.
//!
//! `inspect` shows what a log still holds; `graft` must know which points the log may yet change
//! before it carries segments over as they are. Invariants:
//! - which entries there are, their numbers, and from which on they are applied again are what the
//!   engine finds when it opens the same files (lib/wal/src/lib.rs, lib/shard/src/wal.rs);
//! - a file is read only up to the end of its last entry, one entry at a time, and of an entry only
//!   the ids are kept: memory is that of one entry and of the ids in the log, not of the files;
//! - an operation that may reach points it does not name is never reported as bounded
//!   ([`Touches::Unbounded`]); what cannot be decoded is an error, never left out;
//! - no input makes it panic.

mod cbor;
mod op;
mod outline;
mod scan;
mod shapes;
mod skim;
mod without;

use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use serde::Deserialize;

use self::op::Record;
pub use self::op::{Op, Touches};
use self::scan::{ScanError, Stop};
pub use self::without::without;
use crate::base::error::{Error, Result};

/// The file that says from which entry on a log is applied again.
pub const FIRST_INDEX: &str = "first-index";

/// `{"ack_index":7}` takes 15 bytes; no `first-index` of any server comes near this.
const FIRST_INDEX_BYTES_MAX: u64 = 4096;

/// Collects the files of one `wal/` directory, in whatever order they come.
#[derive(Debug, Default)]
pub struct LogFiles {
    ack: Option<u64>,
    blank_first_index: bool,
    /// By the number in `closed-N`: that of the file's first entry.
    closed: BTreeMap<u64, ShardMember>,
    /// By the number in `open-N`, which only says in which order the files were made.
    open: BTreeMap<u64, ShardMember>,
}

/// One `open-N` or `closed-N`.
#[derive(Debug)]
struct ShardMember {
    name: String,
    entries: Vec<Raw>,
    torn_at: Option<u64>,
}

/// An entry without its number, which depends on files that may not have come yet.
#[derive(Debug)]
struct Raw {
    bytes: u64,
    record: std::result::Result<Record, String>,
}

/// A log, as the engine would find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The number of the oldest entry that is still in the files, even if it is acknowledged.
    pub start: u64,
    /// The number of the first entry that is applied again on load: `ack` as far as there is such
    /// an entry, else the nearest one there is (`SerdeWal::new` in lib/shard/src/wal.rs).
    pub first: u64,
    /// Number that `first-index` acknowledges. The entry of this very number may or may not be in
    /// the segments already: `first` counts it as not.
    pub ack: Option<u64>,
    /// True if there is a `first-index` without content, as a server that crashed leaves it: then
    /// nothing counts as acknowledged.
    pub blank_first_index: bool,
    /// The number that the next operation gets; also that of points changed by it, so a log for a
    /// set of segments needs a `next` above all their versions.
    pub next: u64,
    /// The entries from `first` up to `next`: the tail. It is empty only if the log is; most often
    /// the segments hold what it says already, and applying it again changes nothing. That they do
    /// does not follow from a segment's version: one delete leaves behind what others still hold.
    pub entries: Vec<Entry>,
    /// Bytes of all entries from `start` on, without their frames.
    pub bytes: u64,
    /// Files that go on with something other than zeros after their last whole entry: an append
    /// that was cut off, or damage. The engine logs a warning and takes the rest for empty.
    pub torn: Vec<Torn>,
}

/// One operation in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Number of the entry, which is also the version of the points it changes.
    pub index: u64,
    /// Length in bytes, without the frame.
    pub bytes: u64,
    /// The operation's name as it stands in the log, such as `upsert_points`.
    pub name: String,
    /// Operation of the entry, and the points that it touches.
    pub op: Op,
}

/// Place where a file of the log has other content than zeros after its last whole entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The file's name.
    pub file: String,
    /// The byte at which the next entry would begin.
    pub offset: u64,
}

/// A name in a `wal/` directory that means something.
enum Name {
    FirstIndex,
    Open(u64),
    Closed(u64),
}

impl Name {
    /// `None` for what the engine ignores, an error for what it refuses.
    fn parse(name: &str) -> std::result::Result<Option<Self>, &'static str> {
        let number = |text: &str| text.parse().map_err(|_| "its name ends in no number");
        match name.split_once('-') {
            Some(_) if name == FIRST_INDEX => Ok(Some(Self::FirstIndex)),
            Some(("open", text)) => number(text).map(|number| Some(Self::Open(number))),
            Some(("closed", text)) => number(text).map(|number| Some(Self::Closed(number))),
            _ => Ok(None),
        }
    }
}

/// Returns true if a file of a `wal/` directory, by its name without directories, is for
/// [`LogFiles`].
pub fn is_log_file(name: &str) -> bool {
    !matches!(Name::parse(name), Ok(None))
}

impl LogFiles {
    /// Returns true if no file of a log was taken in.
    pub fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.open.is_empty()
    }

    /// Takes the file `name` (without directories) of `size` bytes in. From `reader` only as much
    /// is read as there are entries, so of a sparse file of 32 MiB its used part.
    /// Returns whether it is a file of the log; nothing is read from one that is not.
    /// `what` names the log in errors ("the log of shard 0 of a.snapshot").
    ///
    /// # Errors
    /// [`crate::base::error::Kind::Damaged`] if it is no file that the engine would open, or `reader`
    /// ends before `size`; [`crate::base::error::Kind::Failed`] if `reader` fails.
    pub fn add(&mut self, name: &str, size: u64, reader: impl Read, what: &str) -> Result<bool> {
        let doing = || format!("reading {name} of {what}");
        let damaged = |why: String| Error::damaged(doing(), why);
        let (parts, number) = match Name::parse(name).map_err(|why| damaged(why.to_owned()))? {
            None => return Ok(false),
            Some(Name::FirstIndex) => {
                let mut text = Vec::new();
                reader
                    .take(FIRST_INDEX_BYTES_MAX)
                    .read_to_end(&mut text)
                    .map_err(|err| read_failed(doing(), &err))?;
                if is_blank_first_index(&text) {
                    self.blank_first_index = true;
                    return Ok(true);
                }
                let state: FirstIndex =
                    serde_json::from_slice(&text).map_err(|err| damaged(err.to_string()))?;
                self.ack = Some(state.ack_index);
                return Ok(true);
            }
            Some(Name::Open(number)) => (&mut self.open, number),
            Some(Name::Closed(number)) => (&mut self.closed, number),
        };

        let mut entries = Vec::new();
        let stop = scan::scan(BufReader::new(reader), size, |bytes, data| {
            let record = data.map_or_else(|| Ok(Record::undecoded(bytes)), skim::decode);
            entries.push(Raw { bytes, record });
        })
        .map_err(|err| scan_failed(doing(), err))?;
        let part = ShardMember {
            name: name.to_owned(),
            entries,
            torn_at: match stop {
                Stop::Clean => None,
                Stop::Torn(offset) => Some(offset),
            },
        };
        match parts.insert(number, part) {
            None => Ok(true),
            Some(other) => Err(damaged(format!("{} has the same number", other.name))),
        }
    }
}

fn scan_failed(doing: String, err: ScanError) -> Error {
    match err {
        ScanError::Io(err) => read_failed(doing, &err),
        ScanError::Damaged(why) => Error::damaged(doing, why),
    }
}

fn read_failed(doing: String, err: &std::io::Error) -> Error {
    if let Some(carried) = Error::carried(err) {
        return carried.clone().within(doing);
    }
    match super::tar::is_damage(err) {
        true => Error::damaged(doing, format!("its compressed data is damaged: {err}")),
        false => Error::failed(doing, err),
    }
}

/// Returns true if `text`, the content of a `first-index`, is blank: nothing but zeros or
/// whitespace, or `null`.
pub fn is_blank_first_index(text: &[u8]) -> bool {
    let is_blank = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
    text.trim_ascii() == b"null" || text.iter().all(is_blank)
}

#[derive(Deserialize)]
struct FirstIndex {
    ack_index: u64,
}

/// Puts the files together; `what` names the log in errors. No file at all is an empty log from 0
/// on, as it is for the engine.
///
/// # Errors
/// [`crate::base::error::Kind::Damaged`] if closed files leave a gap or overlap, or an entry of the tail
/// cannot be decoded.
pub fn read(files: LogFiles, what: &str) -> Result<Log> {
    let LogFiles {
        ack,
        blank_first_index,
        closed,
        open,
    } = files;
    let doing = || format!("reading {what}");

    let start = closed.keys().next().copied().unwrap_or(0);
    let mut next = start;
    let mut parts = Vec::new();
    for (number, part) in closed {
        if number != next {
            let why = format!("{} should begin with entry {next}", part.name);
            return Err(Error::damaged(doing(), why));
        }
        next = next.saturating_add(count(&part.entries));
        parts.push(part);
    }
    // Open files have no start of their own: each goes on where the one before ended.
    for part in open.into_values() {
        next = next.saturating_add(count(&part.entries));
        parts.push(part);
    }

    // The last entry always stays in the tail: the engine knows no log in which all is
    // acknowledged.
    let last = next.saturating_sub(1).max(start);
    let first = ack.map_or(start, |ack| ack.max(start).min(last));

    let mut log = Log {
        start,
        first,
        ack,
        blank_first_index,
        next,
        entries: Vec::new(),
        bytes: 0,
        torn: Vec::new(),
    };
    let mut index = start;
    for part in parts {
        for Raw { bytes, record } in part.entries {
            log.bytes = log.bytes.saturating_add(bytes);
            if index >= first {
                let Record { name, op } = record.map_err(|why| {
                    Error::damaged(format!("reading entry {index} of {what}"), why)
                        .next("restore the snapshot on a server of its own version")
                })?;
                log.entries.push(Entry {
                    index,
                    bytes,
                    name,
                    op,
                });
            }
            index = index.saturating_add(1);
        }
        if let Some(offset) = part.torn_at {
            log.torn.push(Torn {
                file: part.name,
                offset,
            });
        }
    }
    Ok(log)
}

fn count(entries: &[Raw]) -> u64 {
    u64::try_from(entries.len()).unwrap_or(u64::MAX)
}

/// The one file of an empty log, by name and content, in which the first operation to be appended
/// gets exactly the number `next`. For segments whose highest version is N, `next` must be N + 1.
///
/// A closed file without entries begins and ends at the number in its name; that is what
/// `Wal::generate_empty_wal_starting_at_index(N)` of lib/wal/src/lib.rs makes too, as
/// `closed-{N+1}`. The last four bytes seed the checksums of the file's entries; as it never gets
/// any, they may be anything.
pub fn write_empty(next: u64) -> (String, [u8; 8]) {
    (format!("closed-{next}"), *b"wal\0\0\0\0\0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;
    use crate::point::PointId;

    /// A record that deletes the point `id`, in CBOR.
    fn delete(id: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let ids = serde_json::json!({ "delete_points": { "ids": [id] } });
        ciborium::into_writer(&ids, &mut bytes).expect("writes");
        bytes
    }

    fn file(ids: &[u8]) -> Vec<u8> {
        let records: Vec<_> = ids.iter().map(|id| delete(*id)).collect();
        scan::tests::file(7, &records, 64)
    }

    fn log(files: &[(&str, Vec<u8>)]) -> Result<Log> {
        let mut log = LogFiles::default();
        for (name, bytes) in files {
            let size = u64::try_from(bytes.len()).expect("short");
            assert!(log.add(name, size, bytes.as_slice(), "the log")?, "{name}");
        }
        read(log, "the log")
    }

    fn ack(ack: u64) -> (&'static str, Vec<u8>) {
        (FIRST_INDEX, format!("{{\"ack_index\":{ack}}}").into_bytes())
    }

    /// `(index, the id it deletes)` of the tail.
    fn tail(log: &Log) -> Vec<(u64, u64)> {
        log.entries
            .iter()
            .map(|entry| match entry.op.touches() {
                Touches::Ids([PointId::Num(id)]) => (entry.index, *id),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn open_files_follow_each_other_and_what_is_closed() {
        let log = log(&[
            ("open-2", file(&[14])),
            ("closed-10", file(&[10, 11])),
            ("open-10", file(&[])),
            ("open-1", file(&[13])),
            ("closed-12", file(&[12])),
        ])
        .expect("reads");
        assert_eq!(
            (log.start, log.first, log.ack, log.next),
            (10, 10, None, 15)
        );
        let want: Vec<_> = (10..15).map(|at| (at, at)).collect();
        assert_eq!(tail(&log), want);
        assert_eq!(log.torn, []);
        assert_eq!(
            log.bytes,
            5 * u64::try_from(delete(10).len()).expect("short")
        );
    }

    #[test]
    fn the_tail_begins_at_the_acknowledged_entry_as_far_as_there_is_one() {
        let files = || vec![("closed-5", file(&[5, 6])), ("open-1", file(&[7, 8]))];
        for (acked, first) in [(0, 5), (5, 5), (7, 7), (8, 8), (9, 8), (u64::MAX, 8)] {
            let mut files = files();
            files.push(ack(acked));
            let log = log(&files).expect("reads");
            assert_eq!((log.ack, log.first), (Some(acked), first));
            let want: Vec<_> = (first..9).map(|at| (at, at)).collect();
            assert_eq!(tail(&log), want, "acknowledged {acked}");
            assert_eq!((log.start, log.next), (5, 9));
        }
    }

    #[test]
    fn a_first_index_that_says_nothing_acknowledges_nothing() {
        for text in [&b""[..], b"null", b" null\n", b"\0\0\0", b"\n"] {
            let log = log(&[("closed-5", file(&[5, 6])), (FIRST_INDEX, text.to_vec())]);
            let log = log.expect("reads");
            assert_eq!((log.first, log.ack, log.blank_first_index), (5, None, true));
        }
        let told = log(&[("closed-5", file(&[5, 6])), ack(6)]).expect("reads");
        assert!(!told.blank_first_index);
    }

    #[test]
    fn no_files_and_empty_files_are_an_empty_log() {
        let none = log(&[]).expect("reads");
        assert_eq!((none.first, none.next, none.entries.len()), (0, 0, 0));
        let empty = log(&[("open-1", file(&[])), ack(4)]).expect("reads");
        assert_eq!((empty.first, empty.next, empty.entries.len()), (0, 0, 0));
    }

    #[test]
    fn an_empty_log_gives_the_next_entry_the_number_asked_for() {
        for next in [0, 1, 42, u64::MAX] {
            let (name, bytes) = write_empty(next);
            assert_eq!(name, format!("closed-{next}"));
            let empty = log(&[(&name, bytes.to_vec())]).expect("reads");
            assert_eq!((empty.start, empty.first, empty.next), (next, next, next));
            assert_eq!((empty.entries.len(), empty.torn.len()), (0, 0));
        }
        // And what is then appended, to an open file as the server does, has that number.
        let (name, bytes) = write_empty(42);
        let log = log(&[(&name, bytes.to_vec()), ("open-1", file(&[9])), ack(41)]).expect("reads");
        assert_eq!(tail(&log), [(42, 9)]);
    }

    #[test]
    fn gaps_overlaps_and_strange_names_are_damage() {
        let cases: [&[(&str, Vec<u8>)]; 6] = [
            &[("closed-0", file(&[1])), ("closed-2", file(&[1]))],
            &[("closed-0", file(&[1, 2])), ("closed-1", file(&[1]))],
            &[("closed-1", file(&[1])), ("closed-01", file(&[1]))],
            &[("open-x", file(&[1]))],
            &[("open-1", b"WAL\0".repeat(4))],
            &[(FIRST_INDEX, b"{}".to_vec())],
        ];
        for (at, files) in cases.into_iter().enumerate() {
            let err = log(files).expect_err("refuses");
            assert_eq!(err.kind(), Kind::Damaged, "case {at}: {err}");
            assert!(err.doing().ends_with("the log"), "case {at}: {err}");
        }
    }

    #[test]
    fn other_files_are_left_alone() {
        let mut files = LogFiles::default();
        for name in ["tmp-open-1", "segments_manifest.json", "", "openly"] {
            assert!(!is_log_file(name), "{name}");
            assert!(!files.add(name, 3, &b"abc"[..], "the log").expect("ignores"));
        }
        for name in ["open-1", "closed-0", FIRST_INDEX, "closed-x"] {
            assert!(is_log_file(name), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_matters_in_the_tail_only() {
        let bytes = scan::tests::file(7, &[b"\xffgarbage".to_vec(), delete(2)], 0);
        let log_with = |acked| log(&[("open-1", bytes.clone()), ack(acked)]);
        assert_eq!(tail(&log_with(1).expect("reads")), [(1, 2)]);
        let err = log_with(0).expect_err("refuses");
        assert_eq!(err.kind(), Kind::Damaged);
        assert_eq!(err.doing(), "reading entry 0 of the log");
    }

    #[test]
    fn an_append_cut_off_is_reported() {
        let whole = file(&[1, 2]);
        let mut bytes = whole.clone();
        let second = file(&[1]).len() - 64;
        bytes[second + 10] ^= 1;
        let log = log(&[("open-1", bytes)]).expect("reads");
        assert_eq!(tail(&log), [(0, 1)]);
        let offset = u64::try_from(second).expect("short");
        let file = "open-1".to_owned();
        assert_eq!(log.torn, [Torn { file, offset }]);
    }

    #[test]
    fn a_reader_that_ends_early_is_damage() {
        let bytes = file(&[1]);
        let size = u64::try_from(bytes.len()).expect("short");
        let mut files = LogFiles::default();
        let err = files
            .add("open-1", size, &bytes[..20], "the log")
            .expect_err("refuses");
        assert_eq!(err.kind(), Kind::Damaged);
    }
}
