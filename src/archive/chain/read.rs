//! Reading the chain: every record that `head.json` or a listing knows of, and what is wrong with it.
//!
//! Invariants: nothing is read or allocated by a number or a size that no archive has; a record that is
//! returned stands where its number says; every fault is a finding.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Chain, ChainFinding, Event, FORMAT_ENCRYPTED, HEAD, Head, LOG, Record, StoredRecord, canonical,
    path,
};
use crate::archive::name::Name;
use crate::archive::sign::Seal;
use crate::archive::store::Store;
use crate::base::error::{Error, Kind, Result};
use crate::base::parallel::in_parallel;

/// More bytes no record has, and in an archive that is not encrypted.
pub const RECORD_BYTES_MAX: u64 = 12 << 20;
pub const PLAIN_RECORD_BYTES_MAX: u64 = 8 << 20;
/// More records no archive has.
pub const RECORDS_MAX: u64 = 1 << 20;
/// More bytes the records of an archive do not have together.
const CHAIN_BYTES_MAX: u64 = 1 << 30;
/// More bytes no head has.
const HEAD_BYTES_MAX: u64 = 1 << 10;
/// Records that are read at once.
const WINDOW: u64 = 32;

/// Content of the head file.
enum HeadFile {
    Missing,
    Unreadable,
    Read(Head),
}

/// A record's file that was read.
struct RecordFile {
    bytes: u64,
    hash: Name,
    /// Content of the file, or why it cannot be read.
    parsed: Result<(Record, Option<Seal>), String>,
}

impl RecordFile {
    fn read(store: &dyn Store, seq: u64) -> Result<Option<Self>> {
        let bytes = store.get(&path(seq), RECORD_BYTES_MAX)?;
        Ok(bytes.map(|bytes| Self {
            bytes: bytes.len() as u64,
            hash: Name::of(&bytes),
            parsed: parse(&bytes),
        }))
    }
}

/// The chain of an archive as far as it was read.
struct Reader<'a> {
    store: &'a dyn Store,
    head: Option<Head>,
    records: Vec<Arc<StoredRecord>>,
    findings: Vec<ChainFinding>,
    /// The SHA-256 of the record before the next one, if that was there.
    before: Option<Name>,
    /// The number of the next record.
    next: u64,
    /// The first of those that are missing right before it.
    missing: Option<u64>,
    bytes: u64,
}

impl Chain {
    /// The chain as far as it can be read, and everything that is wrong with it.
    pub fn examine(store: &dyn Store) -> Result<(Self, Vec<ChainFinding>)> {
        let head = head_file(store)?;
        let mut reader = Reader {
            store,
            head: None,
            records: Vec::new(),
            findings: Vec::new(),
            before: None,
            next: 1,
            missing: None,
            bytes: 0,
        };
        let last = match head {
            HeadFile::Read(head) => {
                reader.head = Some(head);
                reader.last(head)?
            }
            HeadFile::Unreadable => {
                reader.find(None, format!("{HEAD} cannot be read"));
                listed(store)?.pop().unwrap_or(0)
            }
            HeadFile::Missing => listed(store)?.pop().unwrap_or(0),
        };
        while reader.next <= last {
            reader.window(last)?;
        }
        reader.beyond()?;
        reader.end_of_gap();
        let has_head = !matches!(head, HeadFile::Missing);
        if reader.next == 1 && !has_head {
            return Err(Error::new(
                Kind::NotFound,
                format!("opening archive {}", store.what()),
                "there is no archive",
            )
            .next("look at the place again, or make one: snapmerge archive init --archive PLACE"));
        }
        if reader.next == 1 {
            reader.find(Some(1), "record 1 is missing".into());
        }
        // Killed before it wrote the first head, a run leaves one record without.
        if !has_head && reader.next > 2 {
            let why = format!("{HEAD} is missing, so the last records may be, too");
            reader.find(None, why);
        }
        reader.refuse_newer()?;
        reader.signatures();
        let what = store.what();
        let records = reader.records;
        let (mut chain, mut findings) = (Self { what, records }, reader.findings);
        chain.decrypt(store, &mut findings)?;
        Ok((chain, findings))
    }
}

impl Reader<'_> {
    fn find(&mut self, seq: Option<u64>, why: String) {
        self.findings.push(ChainFinding { seq, why });
    }

    /// Tells of the records that are missing up to the next one.
    fn end_of_gap(&mut self) {
        let Some(first) = self.missing.take() else {
            return;
        };
        self.before = None;
        let last = self.next - 1;
        let why = match first == last {
            true => format!("record {first} is missing"),
            false => format!("records {first} to {last} are missing"),
        };
        self.find(Some(first), why);
    }

    /// The number of the last record to look for: what the head says, or if that is not so, a listing.
    fn last(&mut self, head: Head) -> Result<u64> {
        if head.seq > RECORDS_MAX {
            let why = format!("{HEAD} says that there are {} records", head.seq);
            self.find(
                None,
                format!("{why}; no archive has more than {RECORDS_MAX}"),
            );
        } else if head.seq == 1 || self.store.head(&path(head.seq), 1)?.is_some() {
            return Ok(head.seq);
        } else {
            let why = format!(
                "record {} is missing, which {HEAD} says is the last",
                head.seq
            );
            self.find(Some(head.seq), why);
        }
        Ok(listed(self.store)?.pop().unwrap_or(0))
    }

    /// Reads the next records, up to the number `last`.
    fn window(&mut self, last: u64) -> Result<()> {
        let wanted = self.next..=last.min(self.next.saturating_add(WINDOW - 1));
        let files = in_parallel(wanted.collect::<Vec<u64>>(), self.store.at_once(), |seq| {
            RecordFile::read(self.store, seq)
        })?;
        if files.iter().all(Option::is_none) {
            // Not one by one, however many somebody says there are.
            let first = self.next;
            let there = listed(self.store)?;
            self.missing.get_or_insert(first);
            self.next = there
                .into_iter()
                .find(|seq| *seq >= first)
                .unwrap_or(last + 1);
            return Ok(());
        }
        for file in files {
            self.record(file)?;
        }
        Ok(())
    }

    /// A run that was killed may have written the next record, and not said so in the head.
    fn beyond(&mut self) -> Result<()> {
        while self.next <= RECORDS_MAX
            && let Some(file) = RecordFile::read(self.store, self.next)?
        {
            self.record(Some(file))?;
        }
        Ok(())
    }

    /// Takes the next record.
    fn record(&mut self, file: Option<RecordFile>) -> Result<()> {
        let seq = self.next;
        let Some(file) = file else {
            self.missing.get_or_insert(seq);
            self.next += 1;
            return Ok(());
        };
        self.end_of_gap();
        self.next += 1;
        self.bytes += file.bytes;
        if self.bytes > CHAIN_BYTES_MAX {
            return Err(Error::damaged(
                format!("reading the chain of {}", self.store.what()),
                format!("up to record {seq} it has more than {CHAIN_BYTES_MAX} bytes"),
            )
            .next("no run of snapmerge writes as much: see who else can write there"));
        }
        let hash = file.hash;
        match file.parsed {
            Err(why) => self.find(Some(seq), format!("record {seq} was altered: {why}")),
            Ok((record, _)) if record.seq != seq => {
                let why = format!("record {} stands in place of {seq}", record.seq);
                self.find(Some(seq), why);
            }
            Ok((record, seal)) => {
                let first = self.records.first();
                if first.is_some_and(|first| first.record.archive != record.archive) {
                    self.find(Some(seq), format!("record {seq} is another archive's"));
                } else if record.prev != self.before && (seq == 1 || self.before.is_some()) {
                    let why = "what it carries is not the hash of the record before it";
                    self.find(
                        Some(seq),
                        format!("at record {seq} the chain is broken: {why}"),
                    );
                }
                let stored = StoredRecord { record, hash, seal };
                self.records.push(Arc::new(stored));
            }
        }
        self.before = Some(hash);
        if self
            .head
            .is_some_and(|head| head.seq == seq && head.hash != hash)
        {
            let why = format!("record {seq} was altered: {HEAD} knows another");
            self.find(Some(seq), why);
        }
        Ok(())
    }

    /// Whoever finds a newer format must not go on.
    fn refuse_newer(&self) -> Result<()> {
        match self.records.first().map(|kept| &kept.record.event) {
            Some(Event::Begin { format, .. }) if *format > FORMAT_ENCRYPTED => Err(Error::failed(
                format!("opening archive {}", self.store.what()),
                format!("it is of format {format}; this snapmerge knows {FORMAT_ENCRYPTED}"),
            )
            .next("use the newer snapmerge that wrote it")),
            _ => Ok(()),
        }
    }

    /// Once records are signed, all that follow are: whoever has no key cannot add to them.
    fn signatures(&mut self) {
        let signed = self.records.iter().position(|kept| kept.seal.is_some());
        let unsigned: Vec<u64> = self
            .records
            .iter()
            .skip(signed.unwrap_or(self.records.len()))
            .filter(|kept| kept.seal.is_none())
            .map(|kept| kept.record.seq)
            .collect();
        for seq in unsigned {
            let why = format!("record {seq} is not signed, as those before it are");
            self.find(Some(seq), why);
        }
    }
}

/// The numbers of the records that a listing finds, in order.
fn listed(store: &dyn Store) -> Result<Vec<u64>> {
    let numbers = store.list(LOG)?.into_iter().filter_map(|listed| {
        let seq = listed.name.strip_prefix(LOG)?.strip_prefix('/')?;
        let seq: u64 = seq.strip_suffix(".json")?.parse().ok()?;
        (path(seq) == listed.name && (1..=RECORDS_MAX).contains(&seq)).then_some(seq)
    });
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The head, if it is there and can be read.
pub fn read_head(store: &dyn Store) -> Result<Option<Head>> {
    Ok(match head_file(store)? {
        HeadFile::Read(head) => Some(head),
        HeadFile::Missing | HeadFile::Unreadable => None,
    })
}

fn head_file(store: &dyn Store) -> Result<HeadFile> {
    Ok(match store.get(HEAD, HEAD_BYTES_MAX) {
        Ok(None) => HeadFile::Missing,
        Ok(Some(bytes)) => parse_head(&bytes).map_or(HeadFile::Unreadable, HeadFile::Read),
        Err(err) if err.kind() == Kind::Damaged => HeadFile::Unreadable,
        Err(err) => return Err(err),
    })
}

fn parse_head(bytes: &[u8]) -> Option<Head> {
    let head: Head = serde_json::from_slice(bytes).ok()?;
    let value = serde_json::to_value(head).ok()?;
    // Written one way only, so that no bit of it can be another.
    (format!("{}\n", canonical(&value)).as_bytes() == bytes && head.seq > 0).then_some(head)
}

/// The record and its signature, which must hold.
fn parse(bytes: &[u8]) -> Result<(Record, Option<Seal>), String> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let line = lines.next().unwrap_or_default();
    let line = line.strip_suffix(b"\n").ok_or("it does not end")?;
    let record: Record = serde_json::from_slice(line).map_err(|err| err.to_string())?;
    let seal = match lines.next() {
        None => None,
        Some(second) => {
            let seal: Seal = serde_json::from_slice(second).map_err(|err| err.to_string())?;
            if !seal.holds(line) {
                return Err("its signature is not its own".into());
            }
            Some(seal)
        }
    };
    match lines.next() {
        None => Ok((record, seal)),
        Some(_) => Err("something follows it".into()),
    }
}

impl Chain {
    /// The hash that each record must have, as far as `anchors` and the records that are good say:
    /// what a copy of the archive is compared with.
    pub fn expected(&self, anchors: &[Head]) -> BTreeMap<u64, Name> {
        let mut expected: BTreeMap<u64, Name> =
            anchors.iter().map(|head| (head.seq, head.hash)).collect();
        for kept in self.records.iter().rev() {
            let seq = kept.record.seq;
            if expected.get(&seq) == Some(&kept.hash)
                && let Some(prev) = kept.record.prev
            {
                expected.entry(seq - 1).or_insert(prev);
            }
        }
        expected
    }
}
