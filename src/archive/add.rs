//! Storing a snapshot: cut, looked up, and what is new put into objects.
//!
//! Invariants: the snapshot's bytes are hashed in the same pass that stores them, and the entry is
//! written only if that hash is what it must be and after everything that the entry needs is there
//! for good; whatever goes wrong before, nothing of it is in the archive. That a snapshot is stored
//! already is said only after its bytes were hashed and all that its entry needs was read; what is
//! damaged of it is stored again.

mod chunker;
mod files;
mod gather;
mod metadata;
mod pipeline;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use chrono::{DateTime, SubsecRound as _, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::gather::MemberManifest;

use self::gather::{Gathered, expected};
use self::metadata::{free_id, take_state};
use self::pipeline::{StoredData, store_all};
use super::chain::{Chain, Entry, Event};
use super::check::Loss;
use super::index::Index;
use super::name::Name;
use super::recipe::Recipe;
use super::store::{Store, key_of};
use super::{Archive, OBJECTS, RECIPES};
use crate::base::error::{Error, Kind, Result};
use crate::format::{Algorithm, Input, SnapshotFile, TarExtents};
use crate::source::{Checksum, Expectation, compare};

/// A snapshot to be stored.
#[derive(Debug, Clone)]
pub struct Adding {
    /// The file, plain or .gz; of a .gz the snapshot in it is stored.
    pub file: SnapshotFile,
    /// Name of the source that the snapshot belongs to; derived from the file's name if `None`.
    pub name: Option<String>,
    /// When it was taken; the file's manifest, name or age tells otherwise.
    pub time: Option<DateTime<Utc>>,
    /// Words to find and keep it by.
    pub tags: Vec<String>,
    /// The SHA-256 that it must have, besides what lies beside it.
    pub sha256: Option<String>,
    /// True if a snapshot without a checksum is refused.
    pub require_checksum: bool,
    /// Record of how a snapshot without sidecars was made, with the SHA-256 that it must have.
    pub provenance: Option<Value>,
    /// True if it is an entry of its own also where its bytes are there: what is said of it is another.
    /// One of the same time is the same.
    pub is_capture: bool,
    /// Counts the file's bytes.
    pub passed: Option<Arc<AtomicU64>>,
}

impl Adding {
    /// All of `file`, as what lies beside it says.
    pub fn of(file: impl Into<SnapshotFile>) -> Self {
        Self {
            file: file.into(),
            name: None,
            time: None,
            tags: Vec::new(),
            sha256: None,
            require_checksum: false,
            provenance: None,
            is_capture: false,
            passed: None,
        }
    }
}

/// Size and hashes of what was stored, for whoever describes it.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// Size in bytes.
    pub bytes: u64,
    /// The SHA-256.
    pub sha256: &'a str,
    /// The BLAKE3.
    pub blake3: &'a str,
}

/// Makes the manifest of what was stored.
type Describe<'a> = &'a dyn Fn(Stored<'_>) -> Result<Value>;

/// Result of storing a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Added {
    /// The entry.
    pub entry: Entry,
    /// True if the archive already had an entry with the same name and SHA-256.
    pub already: bool,
    /// Entries that had lost something and were stored again.
    pub repaired: Vec<String>,
    /// Objects and recipes of entries that should be there and are not: what was in them was stored
    /// anew, as far as this snapshot has it.
    pub lost: Vec<Name>,
    /// True if the archive is encrypted and its key was not given: nothing in it was compared or used, the
    /// snapshot is stored whole.
    #[serde(default)]
    pub without_key: bool,
    /// Why the lock could not be given back.
    pub lock_left: Option<String>,
}

impl Added {
    /// Returns true if objects or recipes were lost, or the lock could not be released.
    pub fn differs(&self) -> bool {
        !self.lost.is_empty() || self.lock_left.is_some()
    }
}

impl Archive {
    /// Stores a snapshot. Of an encrypted archive the key need not be given: what is there is then not
    /// known, and the snapshot is stored whole.
    pub fn add(&self, adding: &Adding) -> Result<Added> {
        let gathered = Gathered::of(adding)?;
        let started = gathered.time;
        match &adding.file {
            SnapshotFile::Member(member) => {
                let describe = |stored: Stored<'_>| MemberManifest::of(member, started, stored);
                self.add_as(adding, gathered, Some(&describe))
            }
            SnapshotFile::Disk(_) | SnapshotFile::Stored(_) => self.add_as(adding, gathered, None),
        }
    }

    /// Stores a snapshot with the manifest that `describe` makes once its hashes are known.
    pub fn add_described(&self, adding: &Adding, describe: Describe<'_>) -> Result<Added> {
        self.add_as(adding, Gathered::of(adding)?, Some(describe))
    }

    fn add_as(
        &self,
        adding: &Adding,
        gathered: Gathered,
        describe: Option<Describe<'_>>,
    ) -> Result<Added> {
        let (added, lock_left) = self.while_locked_closed("archive add", |chain| {
            self.add_to(chain, adding, gathered, describe)
        })?;
        Ok(Added { lock_left, ..added })
    }

    fn add_to(
        &self,
        chain: &mut Chain,
        adding: &Adding,
        gathered: Gathered,
        describe: Option<Describe<'_>>,
    ) -> Result<Added> {
        let store = &*self.store;
        store.keep_reserve()?;
        let without_key = chain.is_closed();
        // A checksum beside a file may be that of another: only what was read is stored already.
        let is_expected = |sha256: &str| {
            gathered
                .expected
                .iter()
                .any(|wanted| wanted.sha256 == sha256)
        };
        if let Some(entry) = stored_as(chain, adding, &gathered, is_expected) {
            let hashes = Input::hash(&adding.file, Algorithm::Sha256)?
                .ok_or_else(|| Error::failed("hashing", &adding.file))?;
            compare(&adding.file, &gathered.expected, &hashes)?;
            if hashes.content == entry.sha256 && hashes.content_bytes == entry.bytes {
                return self.already(chain, adding, &gathered, entry);
            }
        }
        let mut index = Index::load(store, chain, &gathered.name, &BTreeSet::new(), &self.seen)?;
        let lost = std::mem::take(&mut index.lost);
        let mut put = PendingUpload::new(store);
        let mut manifest = gathered.manifest.clone();
        let stored = store_all(adding, &gathered.runs, index, &mut put);
        let stored = stored.and_then(|mut stored| {
            if let Some(describe) = describe {
                manifest = Some(describe(Stored {
                    bytes: stored.recipe.bytes,
                    sha256: &stored.recipe.sha256,
                    blake3: &stored.blake3,
                })?);
            }
            stored.recipe.state = take_state(manifest.as_mut());
            prepare(adding, stored, &gathered.expected, &mut put)
        });
        let prepared = stored.inspect_err(|_| put.undo())?;
        // No checksum beside it told so before.
        let is_it = |sha256: &str| sha256 == prepared.sha256;
        if let Some(entry) = stored_as(chain, adding, &gathered, is_it) {
            put.undo();
            return self.already(chain, adding, &gathered, entry);
        }
        let entry = Entry {
            id: free_id(chain, &gathered.name, gathered.time),
            name: gathered.name,
            time: gathered.time.trunc_subsecs(0),
            manifest,
            provenance: gathered.provenance,
            ..prepared
        };
        let event = Event::Add {
            entry: Box::new(entry.clone()),
        };
        self.commit(chain, event, &mut put)?;
        Ok(Added {
            entry,
            already: false,
            repaired: Vec::new(),
            lost,
            without_key,
            lock_left: None,
        })
    }

    /// Handles a snapshot that is already stored as `entry`: does nothing, or stores it again if the entry
    /// has lost something, since the bytes are at hand.
    fn already(
        &self,
        chain: &mut Chain,
        adding: &Adding,
        gathered: &Gathered,
        entry: Entry,
    ) -> Result<Added> {
        let mut added = Added {
            already: true,
            repaired: Vec::new(),
            lost: Vec::new(),
            without_key: false,
            lock_left: None,
            entry,
        };
        let same: Vec<Entry> = chain
            .entries()
            .into_iter()
            .filter(|one| one.sha256 == added.entry.sha256)
            .collect();
        let mut lost = BTreeSet::new();
        let mut hit = Vec::new();
        for one in same {
            let damage = self.damage(&one)?;
            if !damage.is_empty() {
                lost.extend(damage);
                hit.push(one.id);
            }
        }
        if hit.is_empty() {
            return Ok(added);
        }
        self.store_anew(chain, adding, (&gathered.name, &gathered.runs), &lost, &hit)?;
        let entries = chain.entries();
        if let Some(entry) = entries.into_iter().find(|one| one.id == added.entry.id) {
            added.entry = entry;
        }
        added.repaired = hit;
        // Others may have needed them, too.
        added.lost = lost.into_iter().collect();
        Ok(added)
    }

    /// Stores a snapshot again for the entries `ids`, which are all of it; objects in `lost` are
    /// damaged.
    fn store_anew(
        &self,
        chain: &mut Chain,
        adding: &Adding,
        (name, runs): (&str, &TarExtents),
        lost: &BTreeSet<Name>,
        ids: &[String],
    ) -> Result<()> {
        let store = &*self.store;
        let expected = expected(adding)?;
        let index = Index::load(store, chain, name, lost, &self.seen)?;
        let mut put = PendingUpload::new(store);
        let stored = store_all(adding, runs, index, &mut put)
            .and_then(|stored| prepare(adding, stored, &expected, &mut put))
            .inspect_err(|_| put.undo())?;
        for id in ids {
            let event = Event::Repair {
                id: id.clone(),
                recipe: stored.recipe,
                recipe_bytes: stored.recipe_bytes,
                new_objects: stored.new_objects,
                new_bytes: stored.new_bytes,
            };
            self.commit(chain, event, &mut put)?;
        }
        Ok(())
    }

    /// Writes the record that needs what was put.
    fn commit(&self, chain: &mut Chain, event: Event, put: &mut PendingUpload<'_>) -> Result<()> {
        match chain.append(&*self.store, event, self.signer.as_ref(), Self::now()) {
            Ok(_) => {
                put.keep();
                Ok(())
            }
            // Somebody else wrote the next record, or this one cannot be: it is certainly not there.
            Err(err) if matches!(err.kind(), Kind::Locked | Kind::Usage) => {
                put.undo();
                Err(err)
            }
            // It may be there, and then needs what was put.
            Err(err) => Err(err),
        }
    }

    /// Stores entries that have lost something again, from what `other` has with the same SHA-256.
    /// Objects in `lost` are damaged. What was done.
    pub(super) fn store_again(
        &self,
        other: &Archive,
        losses: &[Loss],
        lost: &BTreeSet<Name>,
    ) -> Result<Vec<String>> {
        let theirs = other.chain()?.entries();
        let mut done = Vec::new();
        // The newest first: the others then find in it what they share with it.
        for loss in losses.iter().rev() {
            let ours = self.chain()?.entries();
            let Some(entry) = ours.iter().find(|entry| entry.id == loss.entry) else {
                continue;
            };
            let Some(their) = theirs.iter().find(|their| their.sha256 == entry.sha256) else {
                continue;
            };
            // An entry that is damaged there, too, is no help.
            let read = other.reader().open(their, &their.id).and_then(|file| {
                let file = SnapshotFile::from(file);
                Ok((TarExtents::of(&file)?, file))
            });
            let (runs, file) = match read {
                Err(err) if err.kind() == Kind::Damaged => continue,
                read => read?,
            };
            let adding = Adding {
                sha256: Some(entry.sha256.clone()),
                ..Adding::of(file)
            };
            let ids = std::slice::from_ref(&entry.id);
            let stored = self.while_locked("archive check", |chain| {
                self.store_anew(chain, &adding, (&entry.name, &runs), lost, ids)
            });
            let ((), left) = match stored {
                Err(err) if err.kind() == Kind::Damaged => continue,
                stored => stored?,
            };
            done.push(format!(
                "{} from {} of {}",
                loss.entry,
                their.id,
                other.what()
            ));
            done.extend(left);
        }
        Ok(done)
    }
}

/// Compares the checksum, puts the recipe, and says what is known of the entry.
fn prepare(
    adding: &Adding,
    stored: StoredData,
    expected: &[Expectation],
    put: &mut PendingUpload<'_>,
) -> Result<Entry> {
    let checksum = compare(&adding.file, expected, &stored.hashes)?;
    let (recipe, bytes) = stored.recipe.seal(key_of(put.store).as_deref())?;
    let recipe_bytes = bytes.len() as u64;
    put.recipe = Some(recipe);
    if !put.store.put_new(&recipe.path(RECIPES), &bytes)? {
        put.recipe = None;
        return Err(Error::failed(
            format!("storing recipe {recipe}"),
            "there is one already, and no two runs make the same",
        ));
    }
    let Recipe { bytes, sha256, .. } = stored.recipe;
    Ok(Entry {
        id: String::new(),
        name: String::new(),
        time: DateTime::UNIX_EPOCH,
        file: adding.file.file_name(),
        bytes,
        sha256,
        verified_by: match checksum {
            Checksum::Verified { by, .. } => by,
            Checksum::Unchecked { .. }
            | Checksum::PartsVerified { .. }
            | Checksum::Unverified
            | Checksum::Live => Vec::new(),
        },
        tags: adding.tags.clone(),
        recipe,
        recipe_bytes,
        new_objects: put.objects.len() as u64,
        new_bytes: stored.new_bytes,
        manifest: None,
        provenance: None,
    })
}

/// Objects and recipe that a run has put, which are removed again if the run fails.
struct PendingUpload<'a> {
    store: &'a dyn Store,
    objects: Vec<Name>,
    recipe: Option<Name>,
}

impl<'a> PendingUpload<'a> {
    fn new(store: &'a dyn Store) -> Self {
        Self {
            store,
            objects: Vec::new(),
            recipe: None,
        }
    }

    /// A record needs it now.
    fn keep(&mut self) {
        self.objects.clear();
        self.recipe = None;
    }

    /// Takes back what no entry knows of. What cannot be removed is removed by the next `forget`.
    fn undo(&mut self) {
        for name in self.objects.drain(..) {
            let _ = self.store.remove(&name.path(OBJECTS));
        }
        if let Some(name) = self.recipe.take() {
            let _ = self.store.remove(&name.path(RECIPES));
        }
        let _ = self.store.sync();
    }
}

/// The newest entry of that name whose SHA-256 is as wanted, and that the snapshot is.
fn stored_as(
    chain: &Chain,
    adding: &Adding,
    gathered: &Gathered,
    is_wanted: impl Fn(&str) -> bool,
) -> Option<Entry> {
    let mut entries = chain.entries_there().into_iter().rev();
    let found = entries.find(|entry| {
        entry.name == gathered.name
            && is_wanted(&entry.sha256)
            && (!adding.is_capture || entry.time == gathered.time.trunc_subsecs(0))
    });
    found.map(Cow::into_owned)
}
