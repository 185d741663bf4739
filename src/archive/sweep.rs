//! Objects that entries need, and the removal of the rest.
//!
//! Invariants: if one recipe cannot be read, nobody knows what it needs, and nothing is called unneeded; a
//! file that has no name of ours is not ours to remove.

use std::collections::BTreeMap;

use super::chain::Entry;
use super::name::Name;
use super::recipe::Recipe;
use super::store::{Listed, Store};
use super::{OBJECTS, RECIPES};
use crate::base::error::Result;
use crate::base::parallel::in_parallel;

/// Recipes and objects that some entries need, each with its bytes as they are stored.
pub(super) struct Needed {
    pub recipes: BTreeMap<Name, u64>,
    pub objects: BTreeMap<Name, u64>,
}

impl Needed {
    /// Those that `entries` need.
    pub fn by<'e>(store: &dyn Store, entries: impl IntoIterator<Item = &'e Entry>) -> Result<Self> {
        let entries: BTreeMap<Name, &Entry> = entries
            .into_iter()
            .map(|entry| (entry.recipe, entry))
            .collect();
        let objects = in_parallel(entries.values(), store.at_once(), |entry| {
            Ok(Recipe::of_entry(store, entry)?.objects)
        })?;
        let objects = objects.into_iter().flatten();
        Ok(Self {
            objects: objects.map(|part| (part.name, part.stored)).collect(),
            recipes: entries
                .into_iter()
                .map(|(name, entry)| (name, entry.recipe_bytes))
                .collect(),
        })
    }

    /// All that lie in `store`: of an archive whose key was not given nobody knows which of them are needed.
    pub fn all(store: &dyn Store) -> Result<Self> {
        let listed = list(store)?;
        let named = |folder| -> BTreeMap<Name, u64> {
            let name = |one: &Listed| Some((Name::of_path(folder, &one.name)?, one.bytes));
            listed.iter().filter_map(name).collect()
        };
        Ok(Self {
            recipes: named(RECIPES),
            objects: named(OBJECTS),
        })
    }

    /// Those that are `listed` and not needed.
    pub fn others<'l>(&self, listed: &'l [Listed]) -> Vec<&'l Listed> {
        let is_other = |one: &&Listed| {
            let is_none_of = |folder, needed: &BTreeMap<Name, u64>| {
                Name::of_path(folder, &one.name).is_some_and(|name| !needed.contains_key(&name))
            };
            is_none_of(RECIPES, &self.recipes) || is_none_of(OBJECTS, &self.objects)
        };
        listed.iter().filter(is_other).collect()
    }
}

/// The recipes and objects that lie in `store`, recipes first: in this order what is left of a removal that
/// was interrupted are objects that nothing names.
pub(super) fn list(store: &dyn Store) -> Result<Vec<Listed>> {
    let mut listed = store.list(RECIPES)?;
    listed.extend(store.list(OBJECTS)?);
    Ok(listed)
}

/// Removes what was `listed`; returns how many were there, and their bytes.
pub(super) fn remove(store: &dyn Store, listed: &[&Listed]) -> Result<(u64, u64)> {
    let removed = in_parallel(listed, store.at_once(), |one| {
        Ok(store.remove(&one.name)?.then_some(one.bytes))
    })?;
    store.sync()?;
    let removed: Vec<u64> = removed.into_iter().flatten().collect();
    Ok((removed.len() as u64, removed.iter().sum()))
}
