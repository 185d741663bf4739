//! Storing a snapshot: cut, looked up, and what is new put into objects.
//!
//! Keeps true: the snapshot's bytes are hashed in the same pass that stores them, and the entry is
//! written only if that hash is what it must be and after everything that the entry needs is there
//! for good; whatever goes wrong before, nothing of it is in the archive.

mod cutter;
mod files;
mod pipeline;
mod pool;
mod told;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use chrono::{DateTime, SubsecRound as _, Utc};
use serde::Serialize;

use self::pipeline::{Stored, store_all};
use self::told::{MANIFEST, PROVENANCE, beside, file_name, free_id, taken};
use super::chain::{Chain, Entry, Event};
use super::check::Loss;
use super::index::Index;
use super::lock::Lock;
use super::name::Name;
use super::recipe::Recipe;
use super::store::Store;
use super::{Archive, OBJECTS, RECIPES};
use crate::base::error::{Error, Kind, Result};
use crate::base::scratch::Scratch;
use crate::format::{Runs, source_name};
use crate::source::{Checksum, Expectation, compare, expectations};

/// A snapshot to be stored.
#[derive(Debug, Clone, Default)]
pub struct Adding {
    /// The file, plain or .gz; of a .gz the snapshot in it is stored.
    pub path: PathBuf,
    /// What it is a snapshot of; the file's name tells otherwise.
    pub name: Option<String>,
    /// When it was taken; the file's manifest, name or age tells otherwise.
    pub time: Option<DateTime<Utc>>,
    /// Words to find and keep it by.
    pub tags: Vec<String>,
    /// The SHA-256 that it must have, besides what lies beside it.
    pub sha256: Option<String>,
    /// Whether one without a checksum is refused.
    pub require_checksum: bool,
    /// Counts the file's bytes.
    pub passed: Option<Arc<AtomicU64>>,
}

/// What became of it.
#[derive(Debug, Clone, Serialize)]
pub struct Added {
    /// The entry.
    pub entry: Entry,
    /// Whether it was there already, with the same name and SHA-256; then nothing was changed.
    pub already: bool,
    /// Objects of other entries that should be there and are not: what was in them was stored anew,
    /// as far as this snapshot has it.
    pub lost: Vec<Name>,
}

impl Archive {
    /// Stores a snapshot.
    pub fn add(&self, adding: &Adding) -> Result<Added> {
        let path = &adding.path;
        let expected = expectations(path, adding.sha256.as_deref())?;
        if adding.require_checksum && expected.is_empty() {
            return Err(Error::damaged(
                format!("checking {}", path.display()),
                "there is no checksum for it, and --require-checksum was given",
            )
            .next(format!(
                "put Qdrant's checksum beside it as {}.checksum, or give --sha256",
                file_name(path)
            )));
        }
        let name = adding.name.clone().unwrap_or_else(|| source_name(path));
        refuse_name(&name)?;
        let manifest = beside(path, MANIFEST)?;
        let provenance = beside(path, PROVENANCE)?;
        let time = match adding.time {
            Some(time) => time,
            None => taken(path, manifest.as_ref())?,
        };
        let runs = Runs::of(path)?;
        let store = &*self.store;
        let (_lock, mut chain) = Lock::take(store, "archive add", self.signer.as_ref())?;
        if let Some(entry) = same(&chain, &name, &expected) {
            return Ok(Added {
                entry,
                already: true,
                lost: Vec::new(),
            });
        }
        let mut index = Index::load(store, &chain, &name, &BTreeSet::new())?;
        let lost = std::mem::take(&mut index.lost);
        let mut put = Put::new(store);
        let stored = store_all(adding, &runs, index, &mut put);
        let entry = match stored.and_then(|stored| prepare(adding, stored, &expected, &mut put)) {
            Ok(prepared) => match same_hash(&chain, &name, &prepared.sha256) {
                // No checksum beside it told so before.
                Some(entry) => {
                    put.undo();
                    return Ok(Added {
                        entry,
                        already: true,
                        lost,
                    });
                }
                None => Entry {
                    id: free_id(&chain, &name, time),
                    name,
                    time: time.trunc_subsecs(0),
                    manifest,
                    provenance,
                    ..prepared
                },
            },
            Err(err) => {
                put.undo();
                return Err(err);
            }
        };
        let event = Event::Add {
            entry: Box::new(entry.clone()),
        };
        match chain.append(store, event, self.signer.as_ref(), Self::now()) {
            Ok(_) => Ok(Added {
                entry,
                already: false,
                lost,
            }),
            // Somebody else wrote the next record, so this one is certainly not there.
            Err(err) if err.kind() == Kind::Locked => {
                put.undo();
                Err(err)
            }
            // It may be there, and then needs what was put.
            Err(err) => Err(err),
        }
    }
}

impl Archive {
    /// Stores entries that have lost something again, from what `other` has with the same SHA-256.
    /// Objects in `lost` are damaged. Returns what was done.
    pub(super) fn store_again(
        &self,
        other: &Archive,
        losses: &[Loss],
        lost: &BTreeSet<Name>,
    ) -> Result<Vec<String>> {
        let store = &*self.store;
        let theirs = other.chain()?.entries();
        let mut done = Vec::new();
        // The newest first: the others then find in it what they share with it.
        for loss in losses.iter().rev() {
            let (_lock, mut chain) = Lock::take(store, "archive check", self.signer.as_ref())?;
            let ours = chain.entries();
            let Some(entry) = ours.iter().find(|entry| entry.id == loss.entry) else {
                continue;
            };
            let Some(their) = theirs.iter().find(|their| their.sha256 == entry.sha256) else {
                continue;
            };
            let scratch = Scratch::new(&std::env::temp_dir())?;
            let adding = Adding {
                path: scratch.path().join("again.snapshot"),
                sha256: Some(entry.sha256.clone()),
                ..Adding::default()
            };
            // What is damaged there, too, is no help.
            match other.get(their, &adding.path, false) {
                Err(err) if err.kind() == Kind::Damaged => continue,
                got => got.map(|_| ())?,
            }
            let runs = Runs::of(&adding.path)?;
            let index = Index::load(store, &chain, &entry.name, lost)?;
            let expected = expectations(&adding.path, adding.sha256.as_deref())?;
            let mut put = Put::new(store);
            let stored = store_all(&adding, &runs, index, &mut put)
                .and_then(|stored| prepare(&adding, stored, &expected, &mut put));
            let event = match stored {
                Ok(stored) => Event::Repair {
                    id: entry.id.clone(),
                    recipe: stored.recipe,
                    recipe_bytes: stored.recipe_bytes,
                    new_objects: stored.new_objects,
                    new_bytes: stored.new_bytes,
                },
                Err(err) => {
                    put.undo();
                    return Err(err);
                }
            };
            chain.append(store, event, self.signer.as_ref(), Self::now())?;
            done.push(format!(
                "{} from {} of {}",
                loss.entry,
                their.id,
                other.what()
            ));
        }
        Ok(done)
    }
}

/// Compares the checksum, puts the recipe, and says what is known of the entry.
fn prepare(
    adding: &Adding,
    stored: Stored,
    expected: &[Expectation],
    put: &mut Put<'_>,
) -> Result<Entry> {
    let checksum = compare(&adding.path, expected, &stored.hashes)?;
    let (recipe, bytes) = stored.recipe.seal()?;
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
        file: file_name(&adding.path),
        bytes,
        sha256,
        verified_by: match checksum {
            Checksum::Verified { by, .. } => by,
            Checksum::Unchecked { .. } | Checksum::Unverified | Checksum::Live => Vec::new(),
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

/// What a run has put, to be taken back.
struct Put<'a> {
    store: &'a dyn Store,
    objects: Vec<Name>,
    recipe: Option<Name>,
}

impl<'a> Put<'a> {
    fn new(store: &'a dyn Store) -> Self {
        Self {
            store,
            objects: Vec::new(),
            recipe: None,
        }
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

/// Names stand in commands, paths and lists.
fn refuse_name(name: &str) -> Result<()> {
    let why = match name {
        "" => "it is empty",
        name if name.len() > 255 => "it is longer than 255 bytes",
        name if name.contains(|c: char| c == '/' || c.is_control()) => {
            "there is a slash or a control character in it"
        }
        _ => return Ok(()),
    };
    Err(Error::usage(format!("reading the name {name:?}"), why)
        .next("name what it is a snapshot of: --name album_2017"))
}

/// The entry of the same name with the SHA-256 that the snapshot must have.
fn same(chain: &Chain, name: &str, expected: &[Expectation]) -> Option<Entry> {
    let entries = chain.entries();
    entries.into_iter().rev().find(|entry| {
        entry.name == name && expected.iter().any(|wanted| wanted.sha256 == entry.sha256)
    })
}

/// The entry of the same name with the SHA-256 that the snapshot has.
fn same_hash(chain: &Chain, name: &str, sha256: &str) -> Option<Entry> {
    let entries = chain.entries();
    entries
        .into_iter()
        .find(|entry| entry.name == name && entry.sha256 == sha256)
}
