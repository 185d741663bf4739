//! Losses of entries by damaged objects, down to the files of their snapshots.
//!
//! Invariants: an entry whose recipe cannot be read has lost all of it.

use std::collections::BTreeSet;

use super::super::chain::Entry;
use super::super::name::Name;
use super::super::recipe::Recipe;
use super::super::store::Store;
use super::{Loss, Needed};
use crate::base::error::{Kind, Result};

/// Files of an entry that are named as lost.
const FILES_NAMED_MAX: usize = 20;

/// Returns the loss of each entry that has lost something.
pub(super) fn losses(
    store: &dyn Store,
    entries: &[Entry],
    needed: &Needed,
    lost: &BTreeSet<Name>,
) -> Result<Vec<Loss>> {
    let mut losses = Vec::new();
    for entry in entries {
        let all = || Loss {
            entry: entry.id.clone(),
            bytes: entry.bytes,
            files: Vec::new(),
            files_hit: 0,
            objects: BTreeSet::new(),
        };
        if needed.lost.contains_key(&entry.recipe) {
            losses.push(all());
        } else if !lost.is_empty() {
            match Recipe::of_entry(store, entry) {
                Ok(recipe) => losses.extend(loss(entry, &recipe, lost)),
                Err(err) if err.kind() == Kind::Damaged => losses.push(all()),
                Err(err) => return Err(err),
            }
        }
    }
    Ok(losses)
}

/// Returns the loss of an entry whose objects in `lost` are damaged; `None` if it needs none of them.
fn loss(entry: &Entry, recipe: &Recipe, lost: &BTreeSet<Name>) -> Option<Loss> {
    let names = recipe.objects.iter().map(|part| part.name);
    let objects: BTreeSet<Name> = names.filter(|name| lost.contains(name)).collect();
    if objects.is_empty() {
        return None;
    }
    let mut holes: Vec<(u64, u64)> = Vec::new();
    let mut position = 0;
    for extent in recipe.extents() {
        let end = position + u64::from(extent.bytes);
        let part = recipe.objects.get(extent.object as usize);
        if part.is_some_and(|part| lost.contains(&part.name)) {
            holes.push((position, end));
        }
        position = end;
    }
    let mut files = Vec::new();
    let mut files_hit = 0;
    for file in &recipe.files {
        // Stored runs of a file lie together, with nothing of another between them.
        let (start, end) = (file.start, file.start + file.stored);
        let after = holes.partition_point(|(_, hole_end)| *hole_end <= start);
        if holes.get(after).is_some_and(|(begin, _)| *begin < end) {
            files_hit += 1;
            if files.len() < FILES_NAMED_MAX {
                files.push(file.path.clone());
            }
        }
    }
    Some(Loss {
        entry: entry.id.clone(),
        bytes: holes.iter().map(|(start, end)| end - start).sum(),
        files,
        files_hit,
        objects,
    })
}
