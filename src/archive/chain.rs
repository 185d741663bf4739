//! The chain: everything that was ever done to an archive, one record after the other.
//!
//! A record is a file of its own, `log/00000042.json`: one line of canonical JSON, and a second line
//! with its signature if it has one. Each carries the SHA-256 of the file before it. What is in an
//! archive is what its records come to; an entry is forgotten by a record that says so, so there is
//! never a hole. `head.json` says which record was the last.
//!
//! Invariants: a record is never replaced; two writers cannot both write the next one, and who loses
//! has changed nothing; a chain that was read by [`Chain::open`] is whole.

mod encrypted;
mod read;
mod record;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound as _, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use self::read::{PLAIN_RECORD_BYTES_MAX, RECORDS_MAX};
pub use self::read::{RECORD_BYTES_MAX, read_head};
pub use self::record::{Entry, Event, Forgotten, Proven, Record, is_in_future};
use super::encryption::{Encryption, not_opened};
use super::name::Name;
use super::sign::{Seal, Signer};
use super::store::{Store, refuses_taken};
use crate::base::error::{Error, Kind, Result};

/// The format that is described in FORMAT.md.
pub const FORMAT: u32 = 1;
/// The format of an encrypted archive.
pub const FORMAT_ENCRYPTED: u32 = 2;
/// Says which record is the last.
pub const HEAD: &str = "head.json";
/// The folder of the records.
pub const LOG: &str = "log";

/// A record as it lies there.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRecord {
    /// It.
    pub record: Record,
    /// The SHA-256 of its file.
    pub hash: Name,
    /// Signature of the record, if it is signed.
    pub seal: Option<Seal>,
}

/// Which record is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Head {
    /// The SHA-256 of its file.
    pub hash: Name,
    /// Sequence number of that record.
    pub seq: u64,
}

/// Fault in a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChainFinding {
    /// The record, by its number; none for the head.
    pub seq: Option<u64>,
    /// Description of the fault.
    pub why: String,
}

/// The records of an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// Location of the archive, for errors.
    what: String,
    /// Records in order; a copy of the chain shares them.
    pub records: Vec<Arc<StoredRecord>>,
}

/// Returns the path of the record `seq` in the archive.
pub fn path(seq: u64) -> String {
    format!("{LOG}/{seq:08}.json")
}

impl Chain {
    /// Begins a new archive, which is encrypted if there is an `encryption`.
    pub fn begin(
        store: &dyn Store,
        signer: Option<&Signer>,
        encryption: Option<Encryption>,
    ) -> Result<Self> {
        let mut chain = Self {
            what: store.what(),
            records: Vec::new(),
        };
        let doing = format!("making an archive in {}", store.what());
        if store.head(&path(1), 1)?.is_some() {
            return Err(Error::usage(doing, "there is one already"));
        }
        require_empty(store, doing)?;
        let format = match &encryption {
            None => FORMAT,
            Some(_) => FORMAT_ENCRYPTED,
        };
        let begin = Event::Begin { format, encryption };
        chain.append(store, begin, signer, Utc::now())?;
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
        let (chain, findings) = Self::examine(store)?;
        chain.whole(&findings)
    }

    /// Encryption of the archive; none if it is not.
    pub fn encryption(&self) -> Option<&Encryption> {
        match &self.records.first()?.record.event {
            Event::Begin { encryption, .. } => encryption.as_ref(),
            _ => None,
        }
    }

    /// Returns true if there are records that were not decrypted, since the archive's key was not given: what
    /// is in the archive is not known then, and [`Self::entries`] tells only of what this process has added.
    pub fn is_closed(&self) -> bool {
        let is_closed = |event: &Event| matches!(event, Event::Encrypted { .. });
        self.records
            .iter()
            .any(|kept| is_closed(&kept.record.event))
    }

    /// An error if it is closed.
    pub fn require_opened(&self) -> Result<()> {
        match self.encryption() {
            Some(encryption) if self.is_closed() => Err(not_opened(&encryption.readers())),
            _ => Ok(()),
        }
    }

    /// It, unless it is closed.
    pub fn opened(self) -> Result<Self> {
        self.require_opened()?;
        Ok(self)
    }

    /// It, unless there are findings.
    pub fn whole(self, findings: &[ChainFinding]) -> Result<Self> {
        let Some(first) = findings.first() else {
            return Ok(self);
        };
        let mut why = first.why.clone();
        if findings.len() > 1 {
            why += &format!(" (and {} more)", findings.len() - 1);
        }
        Err(Error::new(
            Kind::Damaged,
            format!("reading the chain of {}", self.what),
            why,
        )
        .next("see all of it: snapmerge archive verify-chain; nothing was changed"))
    }

    /// Writes the next record. An error of [`Kind::Locked`] if somebody else has written one since
    /// this chain was read; then nothing was changed.
    pub fn append(
        &mut self,
        store: &dyn Store,
        event: Event,
        signer: Option<&Signer>,
        now: DateTime<Utc>,
    ) -> Result<&StoredRecord> {
        let last = self.records.last();
        let seq = last.map_or(1, |last| last.record.seq + 1);
        if signer.is_none() && last.is_some_and(|last| last.seal.is_some()) {
            return Err(Error::usage(
                format!("writing record {seq} of {}", self.what),
                "its records are signed, and there is no key to sign this one with",
            )
            .next("give the key with --sign-key FILE (a plan: archive.sign_key)"));
        }
        let record = Record {
            archive: last.map_or_else(Uuid::new_v4, |last| last.record.archive),
            by: format!("snapmerge {}", env!("CARGO_PKG_VERSION")),
            prev: last.map(|last| last.hash),
            seq,
            time: now.trunc_subsecs(0),
            event,
        };
        let failed = |err| Error::failed("writing a record", err);
        let value = self.as_written(store, &record)?;
        let mut bytes = canonical(&value).into_bytes();
        let seal = signer.map(|signer| signer.sign(&bytes));
        bytes.push(b'\n');
        if let Some(seal) = &seal {
            let value = serde_json::to_value(seal).map_err(failed)?;
            bytes.extend(canonical(&value).into_bytes());
            bytes.push(b'\n');
        }
        let bytes_max = match self.encryption() {
            None => PLAIN_RECORD_BYTES_MAX,
            Some(_) => RECORD_BYTES_MAX,
        };
        if bytes.len() as u64 > bytes_max || seq > RECORDS_MAX {
            return Err(Error::failed(
                format!("writing record {seq} of {}", self.what),
                format!(
                    "it has {} bytes; a record has at most {bytes_max}, an archive at most \
                     {RECORDS_MAX} records",
                    bytes.len()
                ),
            )
            .next("do less at once, or begin another archive"));
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
        write_head(store, Head { hash, seq })?;
        let stored = StoredRecord { record, hash, seal };
        self.records.push(Arc::new(stored));
        (self.records.last().map(|last| &**last))
            .ok_or_else(|| Error::failed("writing a record", "it is gone"))
    }

    /// The entries that are there, in the order in which they were stored.
    pub fn entries(&self) -> Vec<Entry> {
        let there = self.entries_there().into_iter();
        there.map(Cow::into_owned).collect()
    }

    /// The same without a copy of each, for whoever looks for some.
    pub fn entries_there(&self) -> Vec<Cow<'_, Entry>> {
        let mut there: BTreeMap<&str, (u64, Cow<'_, Entry>)> = BTreeMap::new();
        for kept in &self.records {
            match &kept.record.event {
                Event::Add { entry } => {
                    there.insert(&entry.id, (kept.record.seq, Cow::Borrowed(&**entry)));
                }
                Event::Repair {
                    id,
                    recipe,
                    recipe_bytes,
                    new_objects,
                    new_bytes,
                } => {
                    if let Some((_, entry)) = there.get_mut(id.as_str()) {
                        let entry = entry.to_mut();
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
                Event::Begin { .. }
                | Event::Unlock { .. }
                | Event::Drill { .. }
                | Event::Encrypted { .. } => {}
            }
        }
        let mut entries: Vec<(u64, Cow<'_, Entry>)> = there.into_values().collect();
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

/// Refuses a place where something is, for whoever makes an archive there.
pub fn require_empty(store: &dyn Store, doing: String) -> Result<()> {
    match store.list("")?.first() {
        None => Ok(()),
        Some(first) => Err(Error::usage(
            doing,
            format!("it is not empty: there is {}", first.name),
        )
        .next("choose an empty or a new place")),
    }
}

/// Writes which record is the last.
pub fn write_head(store: &dyn Store, head: Head) -> Result<()> {
    let value = serde_json::to_value(head).map_err(|err| Error::failed("writing the head", err))?;
    store.replace(HEAD, format!("{}\n", canonical(&value)).as_bytes())?;
    store.sync()
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
