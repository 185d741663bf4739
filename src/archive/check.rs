//! Checking an archive: everything, or a share of its objects.
//!
//! Invariants: every finding says what is lost by it, down to the files of a snapshot, and what is
//! not; the bytes that were read are counted; a check that read nothing says so; what another run adds
//! or removes meanwhile is no damage. Records, recipes and names are always checked; a share is one of
//! the objects, which are read, decompressed and hashed. Memory holds the names of objects, and no
//! more than a few recipes.

mod closed;
mod losses;
mod repair;

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::losses::losses;
use self::repair::{fetch_again, repair_chain};
use super::chain::{self, Chain, ChainFinding, Entry};
use super::lock::{self, LOCK};
use super::name::{Name, is_of_job};
use super::object::{Opener, STORED_BYTES_MAX};
use super::recipe::{PackRef, Recipe};
use super::store::{RESERVE, Store, key_of};
use super::{Archive, OBJECTS, RECIPES};
use crate::base::error::{Error, Kind, Result};
use crate::base::parallel::{in_parallel, in_parallel_with};

/// One of several equal shares of the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subset {
    /// Which, from 1.
    pub which: u32,
    /// Of how many.
    pub of: u32,
}

impl FromStr for Subset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (which, of) = text.split_once('/')?;
            let (which, of) = (which.parse().ok()?, of.parse().ok()?);
            (which >= 1 && which <= of).then_some(Self { which, of })
        };
        read().ok_or_else(|| "give it as 3/7, the third of seven shares".to_owned())
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// With the chain.
    Chain {
        /// Fault in the chain.
        #[serde(flatten)]
        finding: ChainFinding,
    },
    /// With the recipe of entries: they are lost.
    Recipe {
        /// Name of the recipe.
        name: Name,
        /// Description of the fault.
        why: String,
    },
    /// With an object: parts of entries are lost.
    Object {
        /// Name of the object.
        name: Name,
        /// Description of the fault.
        why: String,
    },
    /// A file that no entry needs: what a killed run left, or somebody put there.
    Extra {
        /// Path of the file in the archive.
        path: String,
        /// Size of the file in bytes.
        bytes: u64,
    },
}

/// Data that an entry has lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Loss {
    /// The entry.
    pub entry: String,
    /// Bytes of the snapshot that cannot be read.
    pub bytes: u64,
    /// Files in it that are hit, or the first of them.
    pub files: Vec<String>,
    /// Number of files that are hit.
    pub files_hit: u64,
    /// The damaged objects that it needs.
    #[serde(skip)]
    pub(super) objects: BTreeSet<Name>,
}

/// Result of a check.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Checked {
    /// Records that were read.
    pub records: u64,
    /// Entries that are there.
    pub entries: u64,
    /// Recipes that were read.
    pub recipes: u64,
    /// Objects that were read and hashed, and decompressed and decrypted if the key was given.
    pub objects: u64,
    /// Objects that there are to read.
    pub objects_all: u64,
    /// Bytes of objects that were read.
    pub bytes: u64,
    /// The share that was asked for.
    pub subset: Option<Subset>,
    /// Faults that were found.
    pub findings: Vec<Finding>,
    /// Data that is lost because of the findings.
    pub losses: Vec<Loss>,
    /// Files and entries that were repaired from another archive.
    pub repaired: Vec<String>,
    /// Records that another run has written meanwhile; what it stored was not checked.
    pub records_meanwhile: u64,
    /// Files that no entry needs and that may be of a run at work.
    pub unsettled: u64,
    /// True if the archive is encrypted and its key was not given: what is stored was compared with the hashes
    /// that name it, and which entries there are, and whether they miss anything, is not known.
    #[serde(default)]
    pub without_key: bool,
    /// Why a lock could not be given back.
    pub lock_left: Option<String>,
}

impl Checked {
    /// Returns true if anything is lost or altered; leftover files alone are no damage.
    pub fn is_damaged(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| !matches!(finding, Finding::Extra { .. }))
    }
}

/// Recipes and objects that some entries need.
#[derive(Default)]
struct Needed {
    recipes: BTreeSet<Name>,
    parts: BTreeMap<Name, PackRef>,
    /// Recipes that cannot be read, and why.
    lost: BTreeMap<Name, String>,
}

impl Needed {
    fn of(
        store: &dyn Store,
        entries: &[Entry],
        read: impl Fn(&Entry) -> Result<Recipe> + Sync,
    ) -> Result<Self> {
        let recipes: BTreeMap<Name, &Entry> =
            entries.iter().map(|entry| (entry.recipe, entry)).collect();
        let found = in_parallel(recipes.values(), store.at_once(), |entry| {
            match read(entry) {
                Ok(recipe) => Ok(Ok(recipe.objects)),
                Err(err) if err.kind() == Kind::Damaged => Ok(Err(err.why().to_owned())),
                Err(err) => Err(err),
            }
        })?;
        let mut needed = Self::default();
        for (name, found) in recipes.keys().zip(found) {
            match found {
                Ok(parts) => needed
                    .parts
                    .extend(parts.into_iter().map(|part| (part.name, part))),
                Err(why) => {
                    needed.lost.insert(*name, why);
                }
            }
        }
        needed.recipes = recipes.into_keys().collect();
        Ok(needed)
    }
}

impl Archive {
    /// Checks the archive. What is damaged is fetched from `repair`, if that has it.
    pub fn check(&self, subset: Option<Subset>, repair: Option<&Archive>) -> Result<Checked> {
        let store = &*self.store;
        let (mut chain, mut broken) = self.examine()?;
        let mut checked = Checked {
            subset,
            ..Checked::default()
        };
        if let Some(other) = repair {
            checked.repaired = repair_chain(self, other, &chain, &broken)?;
            if !checked.repaired.is_empty() {
                (chain, broken) = self.examine()?;
            }
        }
        checked.records = chain.records.len() as u64;
        checked
            .findings
            .extend(broken.into_iter().map(|finding| Finding::Chain { finding }));
        let other = repair.map(|other| &*other.store);
        if chain.is_closed() {
            self.check_closed(other, &mut checked)?;
            return Ok(checked);
        }
        let entries = chain.entries();

        let fetched = Mutex::new(Vec::new());
        let needed = Needed::of(store, &entries, |entry| {
            let (name, read) = (entry.recipe, Recipe::of_entry(store, entry));
            if let (Some(other), true) = (other, is_damage(&read))
                && fetch_again(store, other, &name.path(RECIPES), name)?
            {
                let mut fetched = fetched.lock().unwrap_or_else(PoisonError::into_inner);
                fetched.push(format!("recipe {name}"));
                return Recipe::of_entry(store, entry);
            }
            read
        })?;
        let fetched = fetched.into_inner().unwrap_or_else(PoisonError::into_inner);
        checked.repaired.extend(fetched);
        checked.recipes = (needed.recipes.len() - needed.lost.len()) as u64;
        for (name, why) in &needed.lost {
            let (name, why) = (*name, why.clone());
            checked.findings.push(Finding::Recipe { name, why });
        }

        checked.objects_all = needed.parts.len() as u64;
        let lost = self.read_objects(&needed, other, &mut checked)?;
        checked.losses = losses(store, &entries, &needed, &lost)?;
        if let (Some(other), false) = (repair, checked.losses.is_empty()) {
            let again = self.store_again(other, &checked.losses, &lost)?;
            if !again.is_empty() {
                checked.repaired.extend(again);
                return Ok(Checked {
                    repaired: checked.repaired,
                    ..self.check(subset, None)?
                });
            }
        }
        self.finish(&chain, needed, &mut checked)?;
        Ok(checked)
    }

    /// Reads every object, or those of the share; which of them are damaged.
    fn read_objects(
        &self,
        needed: &Needed,
        other: Option<&dyn Store>,
        checked: &mut Checked,
    ) -> Result<BTreeSet<Name>> {
        let store = &*self.store;
        let subset = checked.subset;
        let share = needed
            .parts
            .values()
            .filter(|part| subset.is_none_or(|s| part.name.share(s.of) == s.which - 1));
        let share: Vec<&PackRef> = share.collect();
        let opened = || Ok((Opener::new(key_of(store))?, Vec::new()));
        let looked = in_parallel_with(&share, store.at_once(), opened, |opened, part| {
            check_object(store, part, opened, other)
        })?;
        let mut lost: BTreeSet<Name> = BTreeSet::new();
        for (part, looked) in share.iter().zip(looked) {
            checked.objects += 1;
            checked.bytes += looked.bytes;
            if looked.repaired {
                checked.repaired.push(format!("object {}", part.name));
            }
            if let Some(why) = looked.wrong {
                lost.insert(part.name);
                let name = part.name;
                checked.findings.push(Finding::Object { name, why });
            }
        }
        Ok(lost)
    }

    /// Objects of an entry that are damaged, and its recipe if that is.
    pub(super) fn damage(&self, entry: &Entry) -> Result<BTreeSet<Name>> {
        let store = &*self.store;
        let read = |entry: &Entry| Recipe::of_entry(store, entry);
        let needed = Needed::of(store, std::slice::from_ref(entry), read)?;
        let mut lost = self.read_objects(&needed, None, &mut Checked::default())?;
        lost.extend(needed.lost.keys());
        Ok(lost)
    }

    /// Takes out of the findings what another run has given up since `chain` was read, and adds what
    /// nothing needs.
    fn finish(&self, chain: &Chain, needed: Needed, checked: &mut Checked) -> Result<()> {
        let store = &*self.store;
        let held_before = lock::held(store)?;
        let listed = store.list("")?;
        // Whatever was missing was removed after the record that gave it up.
        let (now, _) = self.examine()?;
        let entries = now.entries();
        checked.entries = entries.len() as u64;
        checked.records_meanwhile = (now.records.len() as u64).saturating_sub(checked.records);
        if now.head() != chain.head() {
            let is_there = |id: &String| entries.iter().any(|entry| entry.id == *id);
            checked.losses.retain(|loss| is_there(&loss.entry));
            let is_needed = |name: &Name| {
                entries.iter().any(|entry| entry.recipe == *name)
                    || checked
                        .losses
                        .iter()
                        .any(|loss| loss.objects.contains(name))
            };
            checked.findings.retain(|finding| match finding {
                Finding::Recipe { name, .. } | Finding::Object { name, .. } => is_needed(name),
                Finding::Chain { .. } | Finding::Extra { .. } => true,
            });
        }
        let at_work = [held_before, lock::held(store)?]
            .into_iter()
            .flatten()
            .any(|holder| !holder.is_gone());
        let extras = extras(listed, chain, &needed, checked);
        match at_work || now.head() != chain.head() {
            true => checked.unsettled = extras.len() as u64,
            false => checked.findings.extend(extras),
        }
        Ok(())
    }
}

struct CheckedObject {
    bytes: u64,
    wrong: Option<String>,
    repaired: bool,
}

/// Reads one object, and fetches it again if it is damaged.
fn check_object(
    store: &dyn Store,
    part: &PackRef,
    (opener, bytes): &mut (Opener, Vec<u8>),
    repair: Option<&dyn Store>,
) -> Result<CheckedObject> {
    let path = part.name.path(OBJECTS);
    let mut read = || -> Result<u64> {
        let missing = || Error::damaged(format!("reading object {}", part.name), "it is missing");
        if !store.get_into(&path, STORED_BYTES_MAX, bytes)? {
            return Err(missing());
        }
        let raw = opener.check(part.name, bytes)?;
        if raw.len() as u64 != part.raw || bytes.len() as u64 != part.stored {
            let why = "its size is not what its recipe says";
            return Err(Error::damaged(format!("reading object {}", part.name), why));
        }
        Ok(bytes.len() as u64)
    };
    let mut first = read();
    let mut repaired = false;
    if let (Some(other), true) = (repair, is_damage(&first))
        && fetch_again(store, other, &path, part.name)?
    {
        first = read();
        repaired = true;
    }
    match first {
        Ok(bytes) => Ok(CheckedObject {
            bytes,
            wrong: None,
            repaired,
        }),
        Err(err) if err.kind() == Kind::Damaged => Ok(CheckedObject {
            bytes: 0,
            wrong: Some(err.why().to_owned()),
            repaired: false,
        }),
        Err(err) => Err(err),
    }
}

fn is_damage<T>(read: &Result<T>) -> bool {
    matches!(read, Err(err) if err.kind() == Kind::Damaged)
}

/// The files of records, those that were found wrong included.
fn chain_files(chain: &Chain, checked: &Checked) -> BTreeSet<String> {
    let found = checked.findings.iter().filter_map(|finding| match finding {
        Finding::Chain { finding } => finding.seq.map(chain::path),
        _ => None,
    });
    let records = chain.records.iter();
    records
        .map(|kept| chain::path(kept.record.seq))
        .chain(found)
        .collect()
}

/// Of what lies there, what is needed by nothing.
fn extras(
    listed: Vec<super::Listed>,
    chain: &Chain,
    needed: &Needed,
    checked: &Checked,
) -> Vec<Finding> {
    // Without every recipe nobody knows which objects are needed.
    let all_known = needed.lost.is_empty();
    let of_chain = chain_files(chain, checked);
    let is_known = |name: &str| match name.split('/').next() {
        Some(OBJECTS) => Name::of_path(OBJECTS, name)
            .is_some_and(|name| needed.parts.contains_key(&name) || !all_known),
        Some(RECIPES) => {
            Name::of_path(RECIPES, name).is_some_and(|name| needed.recipes.contains(&name))
        }
        Some(chain::LOG) => of_chain.contains(name),
        _ => [chain::HEAD, LOCK, RESERVE].contains(&name),
    };
    listed
        .into_iter()
        .filter(|listed| !is_known(&listed.name) && !is_of_job(&listed.name))
        .map(|listed| Finding::Extra {
            path: listed.name,
            bytes: listed.bytes,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_and_shares_are_the_whole() {
        let parse = |text: &str| text.parse::<Subset>();
        assert_eq!(parse("3/7"), Ok(Subset { which: 3, of: 7 }));
        for text in ["", "3", "0/7", "8/7", "a/b", "3/", "-1/2"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for n in 0..100_u8 {
            let name = Name::of(&[n]);
            let shares = (1..=7).filter(|which| name.share(7) == which - 1);
            assert_eq!(shares.count(), 1);
        }
    }
}
