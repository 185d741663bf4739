//! Checking an archive: everything, or a share of its objects.
//!
//! Keeps true: every finding says what is lost by it, down to the files of a snapshot, and what is
//! not; the bytes that were looked at are counted; a check that looked at nothing says so. Records,
//! recipes and names are always looked at; a share is one of the objects, which are read,
//! decompressed and hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::Serialize;

use super::chain::{self, Chain, ChainFinding, Entry};
use super::index::read_recipe;
use super::lock::LOCK;
use super::name::Name;
use super::object::{Opener, STORED_BYTES_MAX};
use super::recipe::{Part, Recipe};
use super::store::Store;
use super::{Archive, OBJECTS, RECIPES};
use crate::base::error::{Error, Kind, Result};
use crate::base::parallel::in_parallel_with;

/// Files of an entry that are named as lost.
const FILES_NAMED_MAX: usize = 20;

/// One of several equal shares of the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// With the chain.
    Chain {
        /// What.
        #[serde(flatten)]
        finding: ChainFinding,
    },
    /// With the recipe of entries: they are lost.
    Recipe {
        /// Its name.
        name: Name,
        /// What.
        why: String,
    },
    /// With an object: parts of entries are lost.
    Object {
        /// Its name.
        name: Name,
        /// What.
        why: String,
    },
    /// A file that no entry needs: what a killed run left, or somebody put there.
    Extra {
        /// Its name.
        path: String,
        /// Its size in bytes.
        bytes: u64,
    },
}

/// What an entry has lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The entry.
    pub entry: String,
    /// Bytes of the snapshot that cannot be read.
    pub bytes: u64,
    /// Files in it that are hit, or the first of them.
    pub files: Vec<String>,
    /// How many are.
    pub files_hit: u64,
}

/// What came of a check.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Checked {
    /// Records that were read.
    pub records: u64,
    /// Entries that are there.
    pub entries: u64,
    /// Recipes that were read.
    pub recipes: u64,
    /// Objects that were read, decompressed and hashed.
    pub objects: u64,
    /// Objects that there are to read.
    pub objects_all: u64,
    /// Bytes of objects that were read.
    pub bytes: u64,
    /// The share that was asked for.
    pub subset: Option<Subset>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What is lost by that.
    pub losses: Vec<Loss>,
    /// What was put right from another archive.
    pub repaired: Vec<String>,
}

impl Checked {
    /// Whether anything is lost or altered: leftovers alone are no damage.
    pub fn is_damaged(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| !matches!(finding, Finding::Extra { .. }))
    }
}

impl Archive {
    /// Checks the archive. What is damaged is fetched from `repair`, if that has it.
    pub fn check(&self, subset: Option<Subset>, repair: Option<&Archive>) -> Result<Checked> {
        let store = &*self.store;
        let (mut chain, mut broken) = Chain::look(store)?;
        let mut checked = Checked {
            subset,
            ..Checked::default()
        };
        if let (Some(other), false) = (repair, broken.is_empty()) {
            checked.repaired = repair_chain(store, &*other.store, &chain, &broken)?;
            (chain, broken) = Chain::look(store)?;
        }
        checked.records = chain.records.len() as u64;
        checked
            .findings
            .extend(broken.into_iter().map(|finding| Finding::Chain { finding }));
        let entries = chain.entries();
        checked.entries = entries.len() as u64;

        let mut recipes: BTreeMap<Name, Recipe> = BTreeMap::new();
        let names: BTreeSet<Name> = entries.iter().map(|entry| entry.recipe).collect();
        for name in names {
            let mut read = read_recipe(store, name);
            if let (Some(other), true) = (repair, is_damage(&read))
                && fetch_again(store, &*other.store, &name.path(RECIPES), name)?
            {
                checked.repaired.push(format!("recipe {name}"));
                read = read_recipe(store, name);
            }
            match read {
                Ok(recipe) => {
                    checked.recipes += 1;
                    recipes.insert(name, recipe);
                }
                Err(err) if err.kind() == Kind::Damaged => {
                    let why = err.why().to_owned();
                    checked.findings.push(Finding::Recipe { name, why });
                }
                Err(err) => return Err(err),
            }
        }

        let parts: BTreeMap<Name, Part> = recipes
            .values()
            .flat_map(|recipe| recipe.objects.iter().map(|part| (part.name, *part)))
            .collect();
        checked.objects_all = parts.len() as u64;
        let share: Vec<Part> = parts
            .values()
            .filter(|part| subset.is_none_or(|s| part.name.share(s.of) == s.which - 1))
            .copied()
            .collect();
        let lane = || Ok((Opener::new()?, Vec::new()));
        let looked = in_parallel_with(&share, store.lanes(), lane, |lane, part| {
            look(store, part, lane, repair.map(|other| &*other.store))
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
        checked.losses = losses(&entries, &recipes, &lost);
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
        extras(store, &chain, &parts, &mut checked)?;
        Ok(checked)
    }
}

struct Looked {
    bytes: u64,
    wrong: Option<String>,
    repaired: bool,
}

/// Reads one object, and fetches it again if it is damaged.
fn look(
    store: &dyn Store,
    part: &Part,
    (opener, bytes): &mut (Opener, Vec<u8>),
    repair: Option<&dyn Store>,
) -> Result<Looked> {
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
        Ok(bytes) => Ok(Looked {
            bytes,
            wrong: None,
            repaired,
        }),
        Err(err) if err.kind() == Kind::Damaged => Ok(Looked {
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

/// Puts what `other` has under `path` in its place, if that is what `name` says.
fn fetch_again(store: &dyn Store, other: &dyn Store, path: &str, name: Name) -> Result<bool> {
    match other.get(path, super::recipe::STORED_BYTES_MAX)? {
        Some(bytes) if Name::of(&bytes) == name => {
            store.replace(path, &bytes)?;
            store.sync()?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Puts records in their place that `other` has, as far as the record after them, or the head, says
/// what they must be.
fn repair_chain(
    store: &dyn Store,
    other: &dyn Store,
    chain: &Chain,
    broken: &[ChainFinding],
) -> Result<Vec<String>> {
    let Ok(theirs) = Chain::open(other) else {
        return Ok(Vec::new());
    };
    let same = match (chain.records.first(), theirs.records.first()) {
        (Some(ours), Some(theirs)) => ours.record.archive == theirs.record.archive,
        _ => true,
    };
    let mut repaired = Vec::new();
    if !same {
        return Ok(repaired);
    }
    let ours: BTreeMap<u64, Name> = chain
        .records
        .iter()
        .map(|kept| (kept.record.seq, kept.hash))
        .collect();
    let seqs: BTreeSet<u64> = broken.iter().filter_map(|finding| finding.seq).collect();
    for kept in &theirs.records {
        let seq = kept.record.seq;
        // A copy that is older knows less, and what it knows is the same.
        if seqs.contains(&seq)
            && ours.get(&seq) != Some(&kept.hash)
            && fetch_again(store, other, &chain::path(seq), kept.hash)?
        {
            repaired.push(format!("record {seq}"));
        }
    }
    let head = broken.iter().any(|finding| finding.seq.is_none());
    let newer = theirs.records.len() >= chain.records.len();
    if head
        && newer
        && let Some(bytes) = other.get(chain::HEAD, STORED_BYTES_MAX)?
    {
        store.replace(chain::HEAD, &bytes)?;
        store.sync()?;
        repaired.push(chain::HEAD.to_owned());
    }
    Ok(repaired)
}

/// What each entry has lost.
fn losses(entries: &[Entry], recipes: &BTreeMap<Name, Recipe>, lost: &BTreeSet<Name>) -> Vec<Loss> {
    let mut losses = Vec::new();
    for entry in entries {
        let Some(recipe) = recipes.get(&entry.recipe) else {
            losses.push(Loss {
                entry: entry.id.clone(),
                bytes: entry.bytes,
                files: Vec::new(),
                files_hit: 0,
            });
            continue;
        };
        if !recipe.objects.iter().any(|part| lost.contains(&part.name)) {
            continue;
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
        for file in &recipe.files {
            // Stored runs of a file lie together, with nothing of another between them.
            let (start, end) = (file.start, file.start + file.stored);
            let after = holes.partition_point(|(_, hole_end)| *hole_end <= start);
            if holes.get(after).is_some_and(|(begin, _)| *begin < end) {
                files.push(file.path.clone());
            }
        }
        let files_hit = files.len() as u64;
        files.truncate(FILES_NAMED_MAX);
        losses.push(Loss {
            entry: entry.id.clone(),
            bytes: holes.iter().map(|(start, end)| end - start).sum(),
            files,
            files_hit,
        });
    }
    losses
}

/// What lies there and is needed by nothing.
fn extras(
    store: &dyn Store,
    chain: &Chain,
    parts: &BTreeMap<Name, Part>,
    checked: &mut Checked,
) -> Result<()> {
    let recipes: BTreeSet<Name> = chain.entries().iter().map(|entry| entry.recipe).collect();
    // Without every recipe nobody knows which objects are needed.
    let all_known = checked.recipes == recipes.len() as u64;
    let records: BTreeSet<String> = chain
        .records
        .iter()
        .map(|kept| chain::path(kept.record.seq))
        .collect();
    let altered: BTreeSet<String> = checked
        .findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Chain { finding } => finding.seq.map(chain::path),
            _ => None,
        })
        .collect();
    for listed in store.list("")? {
        let known = match listed.name.split('/').next() {
            Some(OBJECTS) => Name::of_path(OBJECTS, &listed.name)
                .is_some_and(|name| parts.contains_key(&name) || !all_known),
            Some(RECIPES) => {
                Name::of_path(RECIPES, &listed.name).is_some_and(|name| recipes.contains(&name))
            }
            Some(chain::LOG) => records.contains(&listed.name) || altered.contains(&listed.name),
            _ => listed.name == chain::HEAD || listed.name == LOCK,
        };
        if !known {
            checked.findings.push(Finding::Extra {
                path: listed.name,
                bytes: listed.bytes,
            });
        }
    }
    Ok(())
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
