//! Members of a snapshot of a whole storage: the snapshots of collections, and where each of them is.
//!
//! Invariants: all hashes are of one read of the whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

use crate::base::error::{Error, Result};
use crate::base::parallel::lock;

/// Bytes that are hashed at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// A snapshot of a whole storage.
#[derive(Debug)]
pub struct FullSnapshot {
    /// The file, plain.
    pub path: PathBuf,
    /// The members that are snapshots of collections, by the collection.
    pub members: BTreeMap<String, Place>,
    /// The aliases, each with its collection.
    pub aliases: BTreeMap<String, String>,
    pub(super) hashes: Mutex<Option<Arc<FullHashes>>>,
}

/// Place of the snapshot of one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the file, as Qdrant gave it: `album_2017-6053835381806815-2026-11-22-14-15-16.snapshot`.
    pub file: String,
    /// Bytes of the whole that are that file.
    pub range: Range<u64>,
}

/// SHA-256 of a snapshot of a whole storage, and of what is in it, all from one read.
#[derive(Debug)]
pub struct FullHashes {
    /// Of the whole.
    pub whole: String,
    /// Of the snapshots of collections, by the collection.
    pub members: BTreeMap<String, String>,
}

/// The snapshot of one collection in that of a whole storage.
#[derive(Debug, Clone)]
pub struct FullMember {
    /// The whole.
    pub full: Arc<FullSnapshot>,
    /// The collection.
    pub collection: String,
    /// Where it lies.
    pub place: Place,
}

impl FullMember {
    /// The aliases that pointed to the collection.
    pub fn aliases(&self) -> Vec<String> {
        let aliases = self.full.aliases.iter();
        aliases
            .filter(|(_, collection)| **collection == self.collection)
            .map(|(alias, _)| alias.clone())
            .collect()
    }
}

impl FullSnapshot {
    /// The hashes of all of it. It is read once, however many ask.
    pub fn hashes(&self) -> Result<Arc<FullHashes>> {
        let mut known = lock(&self.hashes);
        if let Some(hashes) = &*known {
            return Ok(Arc::clone(hashes));
        }
        let hashes = self.hash().map_err(|err| {
            Error::reading(format!("reading snapshot {}", self.path.display()), &err)
        })?;
        let hashes = Arc::new(hashes);
        *known = Some(Arc::clone(&hashes));
        Ok(hashes)
    }

    fn hash(&self) -> io::Result<FullHashes> {
        let mut reader = File::open(&self.path)?;
        let mut whole = Sha256::new();
        let mut hashers: Vec<(&String, &Range<u64>, Sha256)> = (self.members.iter())
            .map(|(name, place)| (name, &place.range, Sha256::new()))
            .collect();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut position = 0;
        loop {
            let count = reader.read(&mut buffer)?;
            let block = buffer.get(..count).unwrap_or_default();
            if block.is_empty() {
                break;
            }
            whole.update(block);
            let end = position + block.len() as u64;
            let here = (hashers.iter_mut())
                .filter(|(_, range, _)| range.start < end && position < range.end);
            for (_, range, hasher) in here {
                let within =
                    |at: u64| usize::try_from(at.clamp(position, end) - position).unwrap_or(0);
                hasher.update(
                    block
                        .get(within(range.start)..within(range.end))
                        .unwrap_or_default(),
                );
            }
            position = end;
        }
        let hex = |hasher: Sha256| hex::encode(hasher.finalize());
        Ok(FullHashes {
            whole: hex(whole),
            members: (hashers.into_iter())
                .map(|(name, _, hasher)| (name.clone(), hex(hasher)))
                .collect(),
        })
    }
}
