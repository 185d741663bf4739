//! Getting a snapshot out again, byte by byte as it was.
//!
//! Objects are fetched in the order in which they are first needed, each once, and everything that is
//! in them is written to its place; after an optimizer's rewriting, an object's vectors lie all over
//! the snapshot. What is complete from the beginning on is hashed meanwhile.
//!
//! Invariants: a file gets its name only if its SHA-256 is the entry's, which covers every byte that
//! was decompressed; if it is not, or nothing can be decompressed, the object that is to blame is
//! found by its own hash and named; no more than a few objects are in memory.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::chain::{Chain, Entry};
use super::name::Name;
use super::object::{Opener, STORED_BYTES_MAX};
use super::recipe::{PackRef, Recipe};
use super::store::{Store, key_of};
use super::{Archive, OBJECTS};
use crate::base::durable;
use crate::base::durable::Staged;
use crate::base::error::{Error, Kind, Result};
use crate::base::parallel::{in_parallel_with, lock};
use crate::base::scratch;

/// Bytes that are hashed at once.
const BLOCK_BYTES: usize = 1 << 20;
/// Objects that are fetched at once.
const LANES_MAX: usize = 3;
/// The disk is to begin with its work when there is so much for it, in bytes.
const SYNC_BYTES: u64 = 32 << 20;

/// Result of getting an entry.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Retrieved {
    /// The entry.
    pub entry: Entry,
    /// The SHA-256 of the bytes that were written, which is the entry's.
    pub sha256: String,
    /// Objects that were read.
    pub objects: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
}

/// A piece of the snapshot: where in the object, how long, where in the snapshot.
type Piece = (u32, u32, u64);

impl Archive {
    /// Writes the snapshot of `entry` to `target`.
    pub fn get(&self, entry: &Entry, target: &Path, replace: bool) -> Result<Retrieved> {
        let staged = Staged::new(target, replace)?;
        let folder = staged.path().parent().unwrap_or(Path::new("."));
        scratch::require_free(folder, entry.bytes, "the snapshot")?;
        let file = staged.create()?;
        let written = self.write_to(entry, &file, target);
        let got = written.map_err(|err| self.or_given_up(entry, err))?;
        drop(file);
        staged.publish(replace)?;
        Ok(got)
    }

    /// The error of whoever reads an entry and met `err`.
    pub(super) fn failed_entry(&self, entry: &Entry, err: Error) -> Error {
        self.or_given_up(entry, err.within(format!("getting {}", entry.id)))
    }

    /// The error of whoever read an entry, unless that was given up meanwhile.
    fn or_given_up(&self, entry: &Entry, err: Error) -> Error {
        let is_gone = |chain: Chain| !chain.entries().iter().any(|one| one.id == entry.id);
        match err.kind() == Kind::Damaged && self.chain().is_ok_and(is_gone) {
            true => Error::new(
                Kind::NotFound,
                format!("getting {}", entry.id),
                "another run gave it up while it was read",
            )
            .next("see what there is: snapmerge archive ls"),
            false => err,
        }
    }

    /// Writes the snapshot of `entry` into `file`, which is called `target` in errors.
    fn write_to(&self, entry: &Entry, file: &File, target: &Path) -> Result<Retrieved> {
        let store = &*self.store;
        let within = |err: Error| err.within(format!("getting {}", entry.id));
        let recipe = Recipe::of_entry(store, entry).map_err(within)?;
        let gathering = Gathering::new(&recipe);
        file.set_len(recipe.bytes)
            .map_err(|err| Error::io("writing", target, &err))?;
        let hash = std::thread::scope(|scope| {
            let (gathering, recipe) = (&gathering, &recipe);
            scope.spawn(move || {
                let at_once = store.at_once().min(LANES_MAX);
                let opened = || Ok((Opener::new(key_of(store))?, Vec::new()));
                let parts = recipe.objects.iter().enumerate();
                let done = in_parallel_with(parts, at_once, opened, |opened, (number, part)| {
                    let (opener, bytes) = opened;
                    read_object(store, part, bytes)?;
                    let raw = opener.decompress(part.name, bytes)?;
                    gathering.write(number, raw, part, file, target)
                });
                gathering.end(done.map(|_| ()));
            });
            let syncing = scope.spawn(move || sync_as_it_comes(gathering, file, target));
            let hash = hash_as_it_comes(gathering, file, target);
            let synced = syncing
                .join()
                .unwrap_or_else(|_| Err(Error::failed("syncing", "a thread ended")));
            synced.and(hash)
        });
        let sha256 = match gathering.outcome().and(hash) {
            Ok(hash) => Name::from_hasher(hash).to_string(),
            // The object's hash tells more than the failure to decompress it.
            Err(err) if err.kind() == Kind::Damaged => {
                return Err(within(blame(store, &recipe)?.unwrap_or(err)));
            }
            Err(err) => return Err(within(err)),
        };
        if sha256 != entry.sha256 {
            let other = || {
                let why = format!("its SHA-256 is {sha256}, and was {}", entry.sha256);
                Error::damaged("comparing what came out", why)
                    .next("see what is lost: snapmerge archive check")
            };
            return Err(within(blame(store, &recipe)?.unwrap_or_else(other)));
        }
        Ok(Retrieved {
            entry: entry.clone(),
            sha256,
            objects: recipe.objects.len() as u64,
            read_bytes: recipe.objects.iter().map(|part| part.stored).sum(),
        })
    }
}

/// Reads an object as it lies there.
fn read_object(store: &dyn Store, part: &PackRef, bytes: &mut Vec<u8>) -> Result<()> {
    match store.get_into(&part.name.path(OBJECTS), STORED_BYTES_MAX, bytes)? {
        true => Ok(()),
        false => Err(missing_object(part.name)),
    }
}

/// The error for the object `name`, which is not there.
pub(super) fn missing_object(name: Name) -> Error {
    Error::damaged(format!("reading object {name}"), "it is missing")
        .next("see what is lost: snapmerge archive check; --repair OTHER fetches it again")
}

/// Returns the error of the first object that is missing or does not match its name; `None` if all match.
fn blame(store: &dyn Store, recipe: &Recipe) -> Result<Option<Error>> {
    let (mut opener, mut bytes) = (Opener::new(key_of(store))?, Vec::new());
    for part in &recipe.objects {
        let opened = read_object(store, part, &mut bytes)
            .and_then(|()| opener.open(part.name, &bytes).map(|_| ()));
        match opened {
            Err(err) if err.kind() == Kind::Damaged => return Ok(Some(err)),
            opened => opened?,
        }
    }
    Ok(None)
}

/// Which pieces come of each object, and how far everything is there.
struct Gathering {
    /// For each object its pieces.
    pieces: Vec<Vec<Piece>>,
    /// For each object where in the snapshot it, or one after it, is first needed.
    first: Vec<u64>,
    /// Bytes of the snapshot.
    whole: u64,
    progress: Mutex<Progress>,
    advanced: Condvar,
}

#[derive(Default)]
struct Progress {
    done: Vec<bool>,
    /// Objects from the first on that are done.
    all_before: usize,
    ended: Option<Result<()>>,
}

impl Gathering {
    fn new(recipe: &Recipe) -> Self {
        let mut pieces: Vec<Vec<Piece>> = vec![Vec::new(); recipe.objects.len()];
        let mut first = vec![recipe.bytes; recipe.objects.len()];
        let mut position = 0;
        for extent in recipe.extents() {
            let object = extent.object as usize;
            if let (Some(pieces), Some(first)) = (pieces.get_mut(object), first.get_mut(object)) {
                pieces.push((extent.start, extent.bytes, position));
                *first = position.min(*first);
            }
            position += u64::from(extent.bytes);
        }
        // All bytes before this position come from the objects before this one; objects are numbered as they
        // are first needed, but nothing holds a recipe to it.
        let mut least = recipe.bytes;
        for first in first.iter_mut().rev() {
            least = least.min(*first);
            *first = least;
        }
        let progress = Progress {
            done: vec![false; recipe.objects.len()],
            ..Progress::default()
        };
        Self {
            pieces,
            first,
            whole: recipe.bytes,
            progress: Mutex::new(progress),
            advanced: Condvar::new(),
        }
    }

    /// Writes all that comes of an object.
    fn write(
        &self,
        number: usize,
        raw: &[u8],
        part: &PackRef,
        file: &File,
        target: &Path,
    ) -> Result<()> {
        for (start, bytes, position) in self.pieces.get(number).into_iter().flatten() {
            let start = *start as usize;
            let piece = raw.get(start..start + *bytes as usize).ok_or_else(|| {
                let why = format!("it has {} bytes, and its recipe wants more", raw.len());
                Error::damaged(format!("reading object {}", part.name), why)
            })?;
            file.write_all_at(piece, *position)
                .map_err(|err| Error::io("writing", target, &err))?;
        }
        let mut progress = lock(&self.progress);
        if let Some(done) = progress.done.get_mut(number) {
            *done = true;
        }
        while progress.done.get(progress.all_before) == Some(&true) {
            progress.all_before += 1;
        }
        self.advanced.notify_all();
        Ok(())
    }

    fn end(&self, outcome: Result<()>) {
        lock(&self.progress).ended = Some(outcome);
        self.advanced.notify_all();
    }

    /// Returns the outcome; `Ok` if it has not ended yet.
    fn outcome(&self) -> Result<()> {
        lock(&self.progress).ended.clone().unwrap_or(Ok(()))
    }

    /// Waits until more than `position` bytes from the beginning are there; how many are. None if
    /// no more will come.
    fn wait_past(&self, position: u64) -> Option<u64> {
        let mut progress = lock(&self.progress);
        loop {
            // Bytes before the first need of the next object come from the objects before it.
            let there = self
                .first
                .get(progress.all_before)
                .copied()
                .unwrap_or(self.whole);
            if there > position {
                return Some(there);
            }
            if progress.ended.is_some() {
                return None;
            }
            progress = self
                .advanced
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Syncs what is there while the rest is still to come: then little is left to wait for.
fn sync_as_it_comes(gathering: &Gathering, file: &File, target: &Path) -> Result<()> {
    let mut synced = 0;
    while let Some(there) = gathering.wait_past(synced + SYNC_BYTES) {
        durable::sync_data(file, target)?;
        synced = there;
    }
    Ok(())
}

fn hash_as_it_comes(gathering: &Gathering, file: &File, target: &Path) -> Result<Sha256> {
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut position = 0;
    while position < gathering.whole {
        let Some(there) = gathering.wait_past(position) else {
            break;
        };
        while position < there {
            let bytes = usize::try_from(there - position).unwrap_or(usize::MAX);
            let most = bytes.min(block.len());
            let Some(block) = block.get_mut(..most) else {
                break;
            };
            file.read_exact_at(block, position)
                .map_err(|err| Error::io("reading back", target, &err))?;
            hasher.update(&*block);
            position += block.len() as u64;
        }
    }
    Ok(hasher)
}
