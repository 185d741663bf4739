//! The chain: everything that was ever done to an archive, one record after the other.
//!
//! A record is a file of its own, `log/00000042.json`: one line of canonical JSON, and a second line
//! with its signature if it has one. Each carries the SHA-256 of the file before it. What is in an
//! archive is what its records come to; an entry is forgotten by a record that says so, so there is
//! never a hole. `head.json` says which record was the last.
//!
//! Keeps true: a record is never replaced; two writers cannot both write the next one, and who loses
//! has changed nothing; a chain that was read by [`Chain::open`] is whole.

mod record;

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound as _, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

pub use self::record::{Entry, Event, Forgotten, Proven, Record};
use super::name::Name;
use super::sign::{Seal, Signer};
use super::store::{Store, refuses_taken};
use crate::base::error::{Error, Kind, Result};
use crate::base::parallel::in_parallel;

/// The format that is described in FORMAT.md.
pub const FORMAT: u32 = 1;
/// Says which record is the last.
pub const HEAD: &str = "head.json";
/// The folder of the records.
pub const LOG: &str = "log";
/// More bytes no record has.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// A record as it lies there.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// It.
    pub record: Record,
    /// The SHA-256 of its file.
    pub hash: Name,
    /// Its signature.
    pub seal: Option<Seal>,
}

/// Which record is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The SHA-256 of its file.
    pub hash: Name,
    /// Its number.
    pub seq: u64,
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainFinding {
    /// The record, by its number; none for the head.
    pub seq: Option<u64>,
    /// What is wrong with it.
    pub why: String,
}

/// The records of an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// What the archive is called, for errors.
    what: String,
    /// They, in order.
    pub records: Vec<Kept>,
}

/// Where the record `seq` lies.
pub fn path(seq: u64) -> String {
    format!("{LOG}/{seq:08}.json")
}

impl Chain {
    /// Begins a new archive.
    pub fn begin(store: &dyn Store, signer: Option<&Signer>) -> Result<Self> {
        let mut chain = Self {
            what: store.what(),
            records: Vec::new(),
        };
        let doing = format!("making an archive in {}", store.what());
        if store.head(&path(1), 1)?.is_some() {
            return Err(Error::usage(doing, "there is one already"));
        }
        let there = store.list("")?;
        if let Some(first) = there.first() {
            return Err(
                Error::usage(doing, format!("it is not empty: there is {}", first.name))
                    .next("choose an empty or a new place"),
            );
        }
        chain.append(store, Event::Begin { format: FORMAT }, signer, Utc::now())?;
        if let Err(err) = refuses_taken(store, &path(1)) {
            for name in [&path(1), HEAD] {
                store.remove(name)?;
            }
            return Err(err);
        }
        Ok(chain)
    }

    /// The chain of an archive that must be whole.
    pub fn open(store: &dyn Store) -> Result<Self> {
        let (chain, findings) = Self::look(store)?;
        if let Some(first) = findings.first() {
            let mut why = first.why.clone();
            if findings.len() > 1 {
                why += &format!(" (and {} more)", findings.len() - 1);
            }
            return Err(Error::new(
                Kind::Damaged,
                format!("reading the chain of {}", store.what()),
                why,
            )
            .next("see all of it: snapmerge archive verify-chain; nothing was changed"));
        }
        Ok(chain)
    }

    /// The chain as far as it can be read, and everything that is wrong with it.
    pub fn look(store: &dyn Store) -> Result<(Self, Vec<ChainFinding>)> {
        let mut findings = Vec::new();
        let mut find = |seq: Option<u64>, why: String| findings.push(ChainFinding { seq, why });
        let mut head = None;
        let head_bytes = store.get(HEAD, RECORD_BYTES_MAX)?;
        match &head_bytes {
            None => {}
            Some(bytes) => match parse_head(bytes) {
                Some(read) => head = Some(read),
                None => find(None, format!("{HEAD} cannot be read")),
            },
        }
        let mut known = head.map_or(1, |head| head.seq);
        if known > 1 && store.head(&path(known), 1)?.is_none() {
            // Removed, or the head lies: then what is there says how far to look.
            find(
                Some(known),
                format!("record {known} is missing, which {HEAD} says is the last"),
            );
            known = last_listed(store)?;
        }
        let wanted: Vec<u64> = (1..=known).collect();
        let mut files = in_parallel(&wanted, store.lanes(), |seq| {
            store.get(&path(*seq), RECORD_BYTES_MAX)
        })?;
        // A run that was killed may have written the next one, and not said so in the head.
        while files.last().is_some_and(Option::is_some) {
            files.push(store.get(&path(files.len() as u64 + 1), RECORD_BYTES_MAX)?);
        }
        if files.len() as u64 > known {
            files.truncate(files.len() - 1);
        }
        if files.iter().all(Option::is_none) && head_bytes.is_none() {
            return Err(Error::new(
                Kind::NotFound,
                format!("opening archive {}", store.what()),
                "there is no archive",
            )
            .next("look at the place again, or make one: snapmerge archive init --archive PLACE"));
        }
        let mut records: Vec<Kept> = Vec::new();
        let mut before: Option<Name> = None;
        for (seq, bytes) in (1_u64..).zip(&files) {
            let Some(bytes) = bytes else {
                find(Some(seq), format!("record {seq} is missing"));
                before = None;
                continue;
            };
            let hash = Name::of(bytes);
            match parse(bytes) {
                Err(why) => find(Some(seq), format!("record {seq} was altered: {why}")),
                Ok((record, seal)) => {
                    let other = records
                        .first()
                        .is_some_and(|first| first.record.archive != record.archive);
                    if record.seq != seq {
                        let why = format!("record {} stands in place of {seq}", record.seq);
                        find(Some(seq), why);
                    } else if other {
                        find(Some(seq), format!("record {seq} is another archive's"));
                    } else if record.prev != before && (seq == 1 || before.is_some()) {
                        let why = "what it carries is not the hash of the record before it";
                        find(
                            Some(seq),
                            format!("at record {seq} the chain is broken: {why}"),
                        );
                    }
                    records.push(Kept { record, hash, seal });
                }
            }
            before = Some(hash);
            if head.is_some_and(|head| head.seq == seq && head.hash != hash) {
                let why = format!("record {seq} was altered: {HEAD} knows another");
                find(Some(seq), why);
            }
        }
        // Killed before it wrote the first head, a run leaves one record without.
        if head_bytes.is_none() && files.len() > 1 {
            find(
                None,
                format!("{HEAD} is missing, so the last records may be, too"),
            );
        }
        if let Some(Event::Begin { format }) = records.first().map(|kept| &kept.record.event)
            && *format > FORMAT
        {
            return Err(Error::failed(
                format!("opening archive {}", store.what()),
                format!("it is of format {format}; this snapmerge knows {FORMAT}"),
            )
            .next("use the newer snapmerge that wrote it"));
        }
        let what = store.what();
        Ok((Self { what, records }, findings))
    }

    /// Writes the next record. An error of [`Kind::Locked`] if somebody else has written one since
    /// this chain was read; then nothing was changed.
    pub fn append(
        &mut self,
        store: &dyn Store,
        event: Event,
        signer: Option<&Signer>,
        now: DateTime<Utc>,
    ) -> Result<&Kept> {
        let last = self.records.last();
        let seq = last.map_or(1, |last| last.record.seq + 1);
        let record = Record {
            archive: last.map_or_else(Uuid::new_v4, |last| last.record.archive),
            by: format!("snapmerge {}", env!("CARGO_PKG_VERSION")),
            prev: last.map(|last| last.hash),
            seq,
            time: now.trunc_subsecs(0),
            event,
        };
        let failed = |err| Error::failed("writing a record", err);
        let value = serde_json::to_value(&record).map_err(failed)?;
        let mut bytes = canonical(&value).into_bytes();
        let seal = signer.map(|signer| signer.sign(&bytes));
        bytes.push(b'\n');
        if let Some(seal) = &seal {
            let value = serde_json::to_value(seal).map_err(failed)?;
            bytes.extend(canonical(&value).into_bytes());
            bytes.push(b'\n');
        }
        let hash = Name::of(&bytes);
        // Whatever the record speaks of is to stay before the record does.
        store.sync()?;
        if !store.put_new(&path(seq), &bytes)? {
            return Err(Error::new(
                Kind::Locked,
                format!("writing record {seq} of {}", self.what),
                "somebody else has changed the archive meanwhile; nothing of this run is in it",
            )
            .next("run it again"));
        }
        store.sync()?;
        let head = serde_json::to_value(Head { hash, seq }).map_err(failed)?;
        store.replace(HEAD, format!("{}\n", canonical(&head)).as_bytes())?;
        store.sync()?;
        self.records.push(Kept { record, hash, seal });
        self.records
            .last()
            .ok_or_else(|| Error::failed("writing a record", "it is gone"))
    }

    /// The entries that are there, in the order in which they were stored.
    pub fn entries(&self) -> Vec<Entry> {
        let mut there: BTreeMap<&str, (u64, Entry)> = BTreeMap::new();
        for kept in &self.records {
            match &kept.record.event {
                Event::Add { entry } => {
                    there.insert(&entry.id, (kept.record.seq, (**entry).clone()));
                }
                Event::Repair {
                    id,
                    recipe,
                    recipe_bytes,
                    new_objects,
                    new_bytes,
                } => {
                    if let Some((_, entry)) = there.get_mut(id.as_str()) {
                        entry.recipe = *recipe;
                        entry.recipe_bytes = *recipe_bytes;
                        entry.new_objects = *new_objects;
                        entry.new_bytes = *new_bytes;
                    }
                }
                Event::Forget { forgot } => {
                    for forgotten in forgot {
                        there.remove(forgotten.id.as_str());
                    }
                }
                Event::Begin { .. } | Event::Unlock { .. } | Event::Drill { .. } => {}
            }
        }
        let mut entries: Vec<(u64, Entry)> = there.into_values().collect();
        entries.sort_by_key(|(seq, _)| *seq);
        entries.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Every entry that ever was, with whether it is there.
    pub fn all_ids(&self) -> impl Iterator<Item = &str> {
        self.records
            .iter()
            .filter_map(|kept| match &kept.record.event {
                Event::Add { entry } => Some(entry.id.as_str()),
                _ => None,
            })
    }

    /// Every entry that was ever restored and proven, by id, with when that was last.
    pub fn proven(&self) -> BTreeMap<&str, (DateTime<Utc>, &Proven)> {
        let mut last = BTreeMap::new();
        for kept in &self.records {
            if let Event::Drill { proven } = &kept.record.event {
                for one in proven {
                    last.insert(one.id.as_str(), (kept.record.time, one));
                }
            }
        }
        last
    }

    /// When a restore was proven last, of whatever entry.
    pub fn last_proven(&self) -> Option<DateTime<Utc>> {
        self.proven().values().map(|(time, _)| *time).max()
    }

    /// The last record.
    pub fn head(&self) -> Option<Head> {
        self.records.last().map(|kept| Head {
            hash: kept.hash,
            seq: kept.record.seq,
        })
    }
}

/// The number of the last record that a listing finds.
fn last_listed(store: &dyn Store) -> Result<u64> {
    let numbers = store.list(LOG)?.into_iter().filter_map(|listed| {
        let seq = listed.name.strip_prefix(LOG)?.strip_prefix('/')?;
        let seq: u64 = seq.strip_suffix(".json")?.parse().ok()?;
        (path(seq) == listed.name).then_some(seq)
    });
    Ok(numbers.max().unwrap_or(1))
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

/// JSON in one way: keys sorted, no spaces.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            let fields: Vec<String> = sorted
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(canonical).collect();
            format!("[{}]", values.join(","))
        }
        plain => plain.to_string(),
    }
}
