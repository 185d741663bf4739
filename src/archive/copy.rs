//! Copying an archive to another place: what is missing there, and what happened since.
//!
//! Invariants: a copy has the records of its original, or the first of them; it is written by nothing
//! else, and one that was is refused. Every byte that is copied has the SHA-256 that its name or the chain
//! says. What entries need is there before the records that speak of them; a run that is killed leaves
//! what the next one resumes from.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chain::{self, Chain, StoredRecord};
use super::lock::Lock;
use super::name::Name;
use super::recipe;
use super::store::Listed;
use super::sweep::{self, Needed};
use super::{Archive, OBJECTS, RECIPES, object};
use crate::base::error::{Error, Kind, Result};
use crate::base::parallel::in_parallel;
use crate::base::progress::{Progress, Unit};

/// Result of copying an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Copied {
    /// Entries that the copy has.
    pub entries: u64,
    /// Records that the copy has.
    pub records: u64,
    /// Of these, records that are new.
    pub new_records: u64,
    /// Objects and recipes that the copy has.
    pub objects: u64,
    /// Of these, those that are new.
    pub new_objects: u64,
    /// Bytes of these.
    pub new_bytes: u64,
    /// Objects and recipes that no entry needs any more, and that were removed.
    pub removed: u64,
    /// Bytes of these.
    pub removed_bytes: u64,
    /// Without the key: objects and recipes that the copy alone has. Nobody knows whether they were given up
    /// or lost, and they are kept.
    #[serde(default)]
    pub only_there: u64,
    /// True if the archive is encrypted and its key was not given: all that lies there was copied, and which
    /// entries there are, and whether they miss anything, is not known.
    #[serde(default)]
    pub without_key: bool,
    /// Why the copy's lock could not be given back.
    pub lock_left: Option<String>,
}

/// A recipe or an object of the original.
struct StoredFile {
    path: String,
    name: Name,
    bytes: u64,
    bytes_max: u64,
}

/// Files of `needed`, recipes last.
fn stored_files(needed: &Needed) -> Vec<StoredFile> {
    let of = |all: &BTreeMap<Name, u64>, folder, bytes_max| -> Vec<StoredFile> {
        let part = |(name, bytes): (&Name, &u64)| StoredFile {
            path: name.path(folder),
            name: *name,
            bytes: *bytes,
            bytes_max,
        };
        all.iter().map(part).collect()
    };
    let mut parts = of(&needed.objects, OBJECTS, object::STORED_BYTES_MAX);
    parts.extend(of(&needed.recipes, RECIPES, recipe::STORED_BYTES_MAX));
    parts
}

impl Archive {
    /// Brings `to`, which is empty or a copy of this archive, to the state of this one.
    pub fn copy_to(&self, to: &Self, progress: Progress) -> Result<Copied> {
        if self.what() == to.what() {
            return Err(self.refuse(to, "it is the same place"));
        }
        let ours = self.closed_chain()?;
        self.begin_copy(to, &ours)?;
        let (lock, theirs) = Lock::take_for_copy(to)?;
        self.require_copy(&ours, to, &theirs)?;
        let mut copied = Copied {
            entries: ours.entries().len() as u64,
            records: ours.records.len() as u64,
            new_records: ours.records.len().saturating_sub(theirs.records.len()) as u64,
            without_key: ours.is_closed(),
            ..Copied::default()
        };
        let listed = sweep::list(&*to.store)?;
        let needed = self.copy_parts(to, &ours, &listed, progress, &mut copied);
        let needed = needed.map_err(|err| self.unless_changed(&ours, err))?;
        // With the key what is needed is known, and that it is missing would have been told.
        if ours.is_closed() && self.closed_chain()?.head() != ours.head() {
            return Err(self.changed());
        }
        self.copy_records(to, &ours.records, theirs.records.len())?;
        let others = needed.others(&listed);
        // Without the key nobody knows whether what is here no more was given up or lost.
        match ours.is_closed() {
            true => copied.only_there = others.len() as u64,
            false => {
                (copied.removed, copied.removed_bytes) = sweep::remove(&*to.store, &others)?;
            }
        }
        // It is whole, and this machine remembers its last record.
        to.closed_chain()?;
        copied.lock_left = lock.release().err().map(|err| err.to_string());
        Ok(copied)
    }

    /// Makes the copy, if there is none: an archive with the first record.
    fn begin_copy(&self, to: &Self, ours: &Chain) -> Result<()> {
        if to.store.head(&chain::path(1), 1)?.is_some() {
            return Ok(());
        }
        let doing = format!("copying {} to {}", self.what(), to.what());
        chain::require_empty(&*to.store, doing)?;
        self.copy_records(to, ours.records.get(..1).unwrap_or_default(), 0)?;
        to.store.keep_reserve()
    }

    /// The error of whoever read an object that was needed, unless that was given up meanwhile.
    fn unless_changed(&self, ours: &Chain, err: Error) -> Error {
        let is_same = |now: Chain| now.head() == ours.head();
        match err.kind() == Kind::Damaged && !self.closed_chain().is_ok_and(is_same) {
            false => err,
            true => self.changed(),
        }
    }

    fn changed(&self) -> Error {
        Error::new(
            Kind::Locked,
            format!("copying {}", self.what()),
            "another run has changed it meanwhile",
        )
        .next("run it again")
    }

    fn refuse(&self, to: &Self, why: impl std::fmt::Display) -> Error {
        Error::usage(format!("copying {} to {}", self.what(), to.what()), why)
    }

    /// Refuses what is no copy of this archive.
    fn require_copy(&self, ours: &Chain, to: &Self, theirs: &Chain) -> Result<()> {
        let hashes = |chain: &Chain| -> Vec<Name> {
            chain.records.iter().map(|record| record.hash).collect()
        };
        let (ours, theirs) = (hashes(ours), hashes(theirs));
        if ours.first() != theirs.first() {
            return Err(self
                .refuse(to, "another archive is there")
                .next("choose an empty or a new place"));
        }
        if ours.starts_with(&theirs) {
            return Ok(());
        }
        let same = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
        let why = match same == ours.len() {
            true => format!("it has {} records that are not here", theirs.len() - same),
            false => format!("record {} is another one there", same + 1),
        };
        Err(self.refuse(to, format!("{why}: it was written to since it was copied")).next(
            "copy the other way round if that is the archive now, or choose a new place for the copy",
        ))
    }

    /// Copies what the entries of `ours` need and is not among what is `listed` in the copy; returns all
    /// that they need.
    fn copy_parts(
        &self,
        to: &Self,
        ours: &Chain,
        listed: &[Listed],
        progress: Progress,
        copied: &mut Copied,
    ) -> Result<Needed> {
        let there: BTreeMap<&str, u64> = listed
            .iter()
            .map(|one| (one.name.as_str(), one.bytes))
            .collect();
        let needed = match ours.is_closed() {
            true => Needed::all(&*self.store)?,
            false => Needed::by(&*self.store, &ours.entries())?,
        };
        let parts = stored_files(&needed);
        copied.objects = parts.len() as u64;
        let is_missing = |part: &&StoredFile| there.get(part.path.as_str()) != Some(&part.bytes);
        let missing: Vec<&StoredFile> = parts.iter().filter(is_missing).collect();
        let total = missing.iter().map(|part| part.bytes).sum();
        let stage = progress.stage("copy", Some(total), Unit::Bytes);
        let at_once = self.store.at_once().max(to.store.at_once());
        let bytes = in_parallel(&missing, at_once, |part| {
            let Some(bytes) = self.part(part, ours.is_closed())? else {
                return Ok(None);
            };
            to.store.replace(&part.path, &bytes)?;
            stage.add(bytes.len() as u64);
            Ok(Some(bytes.len() as u64))
        })?;
        to.store.sync()?;
        let bytes: Vec<u64> = bytes.into_iter().flatten().collect();
        copied.new_objects = bytes.len() as u64;
        copied.new_bytes = bytes.iter().sum();
        Ok(needed)
    }

    /// The bytes of a part; none of one that was only listed (`may_go`) and is not there any more.
    fn part(&self, part: &StoredFile, may_go: bool) -> Result<Option<Vec<u8>>> {
        let damaged = |why: &str| {
            Error::new(
                Kind::Damaged,
                format!("reading {} of {}", part.path, self.what()),
                why,
            )
            .next(
                "see what is lost: snapmerge archive check; a good copy repairs it: --repair PLACE",
            )
        };
        let bytes = self.store.get(&part.path, part.bytes_max)?;
        let bytes = match bytes {
            Some(bytes) => bytes,
            None if may_go => return Ok(None),
            None => return Err(damaged("it is not there")),
        };
        match Name::of(&bytes) == part.name {
            true => Ok(Some(bytes)),
            false => Err(damaged("its bytes are others than were stored")),
        }
    }

    /// Copies those of `records` after the first `there`.
    fn copy_records(&self, to: &Self, records: &[Arc<StoredRecord>], there: usize) -> Result<()> {
        for record in records.iter().skip(there) {
            self.copy_record(to, record)?;
        }
        to.store.sync()?;
        let Some(last) = records.last() else {
            return Ok(());
        };
        let (hash, seq) = (last.hash, last.record.seq);
        chain::write_head(&*to.store, chain::Head { hash, seq })
    }

    fn copy_record(&self, to: &Self, record: &StoredRecord) -> Result<()> {
        let path = chain::path(record.record.seq);
        let changed = || {
            Error::new(
                Kind::Locked,
                format!("copying {path} of {}", self.what()),
                "somebody else is writing it",
            )
            .next("run it again")
        };
        let bytes = self.store.get(&path, chain::RECORD_BYTES_MAX)?;
        let bytes = bytes.filter(|bytes| Name::of(bytes) == record.hash);
        let bytes = bytes.ok_or_else(changed)?;
        if to.store.put_new(&path, &bytes)? {
            return Ok(());
        }
        // What a copy that was killed had written.
        let there = to.store.get(&path, chain::RECORD_BYTES_MAX)?;
        match there.is_some_and(|there| there == bytes) {
            true => Ok(()),
            false => Err(changed()),
        }
    }
}
