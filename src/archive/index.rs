//! Index of the stored chunks by fingerprint.
//!
//! Invariants: only objects that entries of now hold are referred to, and of these only such as the
//! last entry that used them used enough of: an object of which less and less is needed would keep
//! the rest alive for ever, and make reading slow.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::chain::{self, Chain};
use super::encryption::bytes_of_prefix;
use super::name::Name;
use super::object::{self, Fingerprint, Row};
use super::recipe::{PackRef, Recipe};
use super::seen::SeenArchive;
use super::store::{Store, key_of};
use crate::base::error::{Kind, Result};
use crate::base::parallel::in_parallel;

/// Chunks of older entries that are remembered.
const KNOWN_MAX: usize = 2 << 20;
/// An object of which its last user needs less than a quarter is not referred to any more.
const USED_SHARE: u64 = 4;
/// Bytes of an object that are fetched for its table, at first.
const HEAD_BYTES: usize = 64 << 10;

/// Location of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// The object: one of [`Index::base`], or with [`NEW`] one of this run's.
    pub object: u32,
    /// Offset in the decompressed object, in bytes.
    pub start: u32,
}

/// Marks an object of this run.
pub const NEW: u32 = 1 << 31;

/// Number of different first two bytes.
const FIRSTS: usize = 1 << 16;

/// The first two bytes of a fingerprint.
fn first_of(print: &Fingerprint) -> usize {
    let [a, b, ..] = *print;
    usize::from(u16::from_be_bytes([a, b]))
}

/// Takes fingerprints as the hashes that they are.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.as_chunks().0 {
            self.0 ^= u64::from_le_bytes(*word);
        }
    }

    // The length, which is the same for all.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Chunks by fingerprint.
#[derive(Default)]
pub struct Index {
    /// Objects of older entries.
    pub base: Vec<PackRef>,
    /// Their chunks, sorted once all are there.
    known: Vec<(Fingerprint, At)>,
    /// Positions in [`Self::known`] at which the fingerprints with the same first two bytes begin.
    begins: Vec<u32>,
    /// Chunks of this run.
    new: HashMap<Fingerprint, At, BuildHasherDefault<Spread>>,
    /// Objects that should be there and are not, or not as they should be.
    pub lost: Vec<Name>,
}

impl Index {
    /// Loads the chunks of the newest entry of `name` and of the newest entries of other names: a master has
    /// its sources' segments.
    ///
    /// Objects in `avoid` are damaged and treated as missing.
    pub fn load(
        store: &dyn Store,
        chain: &Chain,
        name: &str,
        avoid: &BTreeSet<Name>,
        seen: &SeenArchive,
    ) -> Result<Self> {
        let entries = chain.entries_there();
        let mut newest: BTreeMap<&str, &chain::Entry> = BTreeMap::new();
        for entry in &entries {
            newest.insert(&entry.name, entry);
        }
        let mut bases: Vec<&chain::Entry> = newest.into_values().collect();
        bases.sort_by_key(|entry| (entry.name != name, std::cmp::Reverse(entry.time)));
        let mut index = Self::default();
        let mut met: BTreeSet<Name> = BTreeSet::new();
        for entry in bases {
            if index.known.len() >= KNOWN_MAX {
                break;
            }
            let parts = match seen.parts(entry.recipe, || used_parts(store, entry)) {
                Ok(parts) => parts,
                // The snapshot is stored anew then; check tells what is lost.
                Err(err) if err.kind() == Kind::Damaged => {
                    index.lost.push(entry.recipe);
                    continue;
                }
                Err(err) => return Err(err),
            };
            let parts: Vec<PackRef> = parts
                .iter()
                .filter(|part| !avoid.contains(&part.name) && met.insert(part.name))
                .copied()
                .collect();
            let tables = in_parallel(&parts, store.at_once(), |part| {
                seen.table(part.name, || table(store, part))
            })?;
            for (part, rows) in parts.into_iter().zip(tables) {
                match rows {
                    Some(rows) => index.add_base(part, &rows),
                    None => index.lost.push(part.name),
                }
            }
        }
        index.sort();
        Ok(index)
    }

    /// Makes what is known ready to be found.
    fn sort(&mut self) {
        self.known.sort_unstable_by_key(|(print, _)| *print);
        self.begins = vec![0; FIRSTS + 1];
        for (print, _) in &self.known {
            if let Some(after) = self.begins.get_mut(first_of(print) + 1) {
                *after += 1;
            }
        }
        let mut before = 0;
        for begin in &mut self.begins {
            before += *begin;
            *begin = before;
        }
    }

    fn add_base(&mut self, part: PackRef, rows: &[Row]) {
        let Ok(object) = u32::try_from(self.base.len()) else {
            return;
        };
        self.base.push(part);
        let mut start = 0_u32;
        for row in rows {
            if self.known.len() >= KNOWN_MAX {
                return;
            }
            self.known.push((row.print, At { object, start }));
            start = start.saturating_add(row.bytes);
        }
    }

    /// Returns the location of the chunk if it is stored; if not, returns `None` and records it as a chunk of
    /// this run that will lie at `new`.
    pub fn find_or_add(&mut self, print: Fingerprint, new: At) -> Option<At> {
        if let Some(at) = self.find_known(&print) {
            return Some(at);
        }
        match self.new.entry(print) {
            Entry::Occupied(there) => Some(*there.get()),
            Entry::Vacant(free) => {
                free.insert(new);
                None
            }
        }
    }

    fn find_known(&self, print: &Fingerprint) -> Option<At> {
        let first = first_of(print);
        let (from, to) = (*self.begins.get(first)?, *self.begins.get(first + 1)?);
        let same = self.known.get(from as usize..to as usize)?;
        let found = same.binary_search_by(|(known, _)| known.cmp(print)).ok()?;
        same.get(found).map(|(_, at)| *at)
    }
}

/// The objects of an entry of which it uses enough.
fn used_parts(store: &dyn Store, entry: &chain::Entry) -> Result<Vec<PackRef>> {
    let recipe = Recipe::of_entry(store, entry)?;
    let used = recipe.used();
    let parts = recipe.objects.iter().zip(used);
    let parts = parts.filter(|(part, used)| used.saturating_mul(USED_SHARE) >= part.raw);
    Ok(parts.map(|(part, _)| *part).collect())
}

/// The table of an object; none if it is not there as it should be.
fn table(store: &dyn Store, part: &PackRef) -> Result<Option<Vec<Row>>> {
    let what = format!("object {}", part.name);
    let Some(mut head) = first_bytes(store, part, HEAD_BYTES)? else {
        return Ok(None);
    };
    let Ok(end) = object::table_end(&head, &what) else {
        return Ok(None);
    };
    if end > head.len() {
        match first_bytes(store, part, end)? {
            Some(more) => head = more,
            None => return Ok(None),
        }
    }
    let is_whole = head
        .get(..end)
        .is_some_and(|table| Name::of(table) == part.table);
    Ok(is_whole.then(|| object::table(&head, &what).ok()).flatten())
}

/// The first `bytes` bytes of an object, or some more, or all of it, decrypted where the archive is
/// encrypted; none if it is not there as it should be.
fn first_bytes(store: &dyn Store, part: &PackRef, bytes: usize) -> Result<Option<Vec<u8>>> {
    let key = key_of(store);
    let most = match &key {
        None => bytes,
        Some(_) => bytes_of_prefix(bytes),
    };
    let path = part.name.path(super::OBJECTS);
    let Some((head, size)) = store.head(&path, most as u64)? else {
        return Ok(None);
    };
    // An object that was cut off or grew may be wrong anywhere.
    if size != part.stored {
        return Ok(None);
    }
    let Some(key) = key else {
        return Ok(Some(head));
    };
    let mut plain = Vec::new();
    match key.decrypt_prefix(&head, size, bytes, &path, &mut plain) {
        Ok(()) => Ok(Some(plain)),
        Err(err) if err.kind() == Kind::Damaged => Ok(None),
        Err(err) => Err(err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_found_by_fingerprint() {
        let mut index = Index::default();
        let print = |n: u8| object::fingerprint_of(&[n]);
        let rows: Vec<Row> = (0..100)
            .map(|n| Row {
                print: print(n),
                bytes: 10,
            })
            .collect();
        let part = PackRef {
            name: Name::of(b"x"),
            raw: 1000,
            stored: 500,
            table: Name::of(b"y"),
        };
        index.add_base(part, &rows);
        index.sort();
        let at = |object, start| At { object, start };
        let new = at(NEW, 5);
        assert_eq!(index.find_or_add(print(7), new), Some(at(0, 70)));
        assert_eq!(index.find_or_add(print(200), new), None);
        assert_eq!(index.find_or_add(print(200), at(NEW, 9)), Some(new));
    }
}
