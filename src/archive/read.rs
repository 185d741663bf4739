//! Entries read straight out of the archive, without a copy of the snapshot.
//!
//! Objects are compared with their names, decompressed, and kept for a while: an object has some four
//! megabytes of a snapshot, and readers meet in them. Whoever reads from front to back has the next block
//! put together meanwhile; whoever passes over something reads no object of it.
//!
//! Invariants: no byte is handed out but of an object whose SHA-256 is its name, at the place that the
//! entry's recipe says, whose SHA-256 the chain says; memory is bounded for all readers of one
//! [`EntryReader`] together, apart from the recipes (see [`Extents`]); nothing is written.

mod extents;
mod memory;
mod objects;
mod stream;

use std::ops::Range;
use std::sync::Arc;

use self::extents::Extents;
use self::memory::Memory;
use self::objects::ObjectCache;
use self::stream::EntryStream;
use super::Archive;
use super::chain::Entry;
use super::object::Object;
use super::recipe::{PackRef, Recipe};
use crate::base::error::{Error, Result};
use crate::format::{Parts, StoredSnapshot, Stream};

/// Reads entries of one archive, for one operation.
#[derive(Clone)]
pub struct EntryReader {
    shared: Arc<Shared>,
}

/// State that all readers have in common.
struct Shared {
    archive: Archive,
    objects: ObjectCache,
    memory: Arc<Memory>,
}

impl EntryReader {
    /// A reader of entries of `archive`.
    pub fn new(archive: Archive) -> Self {
        Self {
            shared: Arc::new(Shared {
                archive,
                objects: ObjectCache::default(),
                memory: Arc::default(),
            }),
        }
    }

    /// The archive.
    pub fn archive(&self) -> &Archive {
        &self.shared.archive
    }

    /// The snapshot of `entry`, which reports and errors call `reference`. Its recipe is read now.
    pub fn open(&self, entry: &Entry, reference: &str) -> Result<StoredSnapshot> {
        let archive = self.archive();
        let recipe = Recipe::of_entry(&*archive.store, entry)
            .map_err(|err| archive.failed_entry(entry, err))?;
        Ok(self.open_by(recipe, entry, reference))
    }

    /// The same by the `recipe` of the entry, which was read.
    pub fn open_by(&self, recipe: Recipe, entry: &Entry, reference: &str) -> StoredSnapshot {
        let parts = EntryParts {
            shared: Arc::clone(&self.shared),
            entry: entry.clone(),
            objects: recipe.objects,
            extents: Extents::new(recipe.extents),
        };
        StoredSnapshot {
            reference: reference.to_owned(),
            id: entry.id.clone(),
            name: entry.name.clone(),
            bytes: entry.bytes,
            sha256: entry.sha256.clone(),
            parts_sha256: entry.recipe.to_string(),
            manifest: entry.manifest.clone(),
            parts: Arc::new(parts),
        }
    }
}

/// The objects of one entry.
struct EntryParts {
    shared: Arc<Shared>,
    entry: Entry,
    objects: Vec<PackRef>,
    extents: Extents,
}

impl Parts for EntryParts {
    fn read(self: Arc<Self>, range: Range<u64>) -> Box<dyn Stream + Send> {
        Box::new(EntryStream::new(self, range))
    }
}

impl EntryParts {
    /// Size of an object of the recipe in bytes, decompressed.
    fn object_bytes(&self, number: u32) -> u64 {
        self.objects.get(number as usize).map_or(0, |part| part.raw)
    }

    /// An object of the recipe, decompressed; true if it had to be read for it.
    fn object(&self, number: u32) -> Result<(Arc<Object>, bool)> {
        let Some(part) = self.objects.get(number as usize) else {
            let why = format!("its recipe names object {number}, which it does not have");
            return Err(Error::damaged(format!("getting {}", self.entry.id), why));
        };
        let Shared {
            archive, objects, ..
        } = &*self.shared;
        objects
            .get(&*archive.store, part)
            .map_err(|err| archive.failed_entry(&self.entry, err))
    }
}
