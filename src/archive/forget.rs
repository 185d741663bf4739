//! Giving entries up, and removing what none needs any more.
//!
//! Keeps true: first everything that may be removed is listed, then the record is written that gives
//! the entries up, and only then it is removed. Whatever lay there before the record was written is
//! either needed by an entry that is left, or by none ever again: another run whose work was under way
//! cannot write its record any more, and one that begins later makes objects of its own. So neither a
//! kill at any moment nor a run beside it loses anything.

use std::collections::BTreeSet;

use serde::Serialize;

use super::chain::{Chain, Event, Forgotten};
use super::index::read_recipe;
use super::lock::Lock;
use super::name::Name;
use super::retention::{Candidate, Decision, Policy};
use super::store::Store;
use super::{Archive, OBJECTS, RECIPES};
use crate::base::error::Result;
use crate::base::parallel::in_parallel;

/// What is to be given up.
#[derive(Debug, Clone)]
pub enum Forgetting {
    /// Whatever the policy does not keep; of these names only, if any are given.
    By(Policy, Vec<String>),
    /// These entries, by id.
    These(Vec<String>),
    /// Nothing: only what no entry needs is removed.
    Nothing,
}

/// What became of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Swept {
    /// What was decided, entry by entry.
    pub decisions: Vec<Decision>,
    /// Entries that were given up.
    pub forgotten: u64,
    /// Entries that are left.
    pub left: u64,
    /// Objects and recipes that were removed, or would be.
    pub removed: u64,
    /// Their bytes as they lay there.
    pub removed_bytes: u64,
    /// Whether nothing was done, and this is what would be.
    pub dry_run: bool,
}

impl Archive {
    /// Gives entries up, and removes what none needs. With `dry_run` only says what it would do.
    pub fn forget(&self, forgetting: &Forgetting, dry_run: bool) -> Result<Swept> {
        if let Forgetting::By(policy, _) = forgetting {
            policy.validate()?;
        }
        let store = &*self.store;
        if dry_run {
            let chain = Chain::open(store)?;
            return Ok(Swept {
                dry_run,
                ..plan(store, &chain, forgetting)?.swept
            });
        }
        let (_lock, mut chain) = Lock::take(store, "archive forget", self.signer.as_ref())?;
        let Plan {
            mut swept,
            forgot,
            unneeded,
        } = plan(store, &chain, forgetting)?;
        if forgot.is_empty() && unneeded.is_empty() {
            return Ok(swept);
        }
        // Also when nothing is given up: it ends whatever another run has under way.
        let event = Event::Forget { forgot };
        chain.append(store, event, self.signer.as_ref(), Self::now())?;
        // Recipes first: what is left of a broken off removal are objects that nothing names.
        let removed = in_parallel(&unneeded, store.lanes(), |(path, bytes)| {
            Ok(store.remove(path)?.then_some(*bytes))
        })?;
        store.sync()?;
        swept.removed = removed.iter().flatten().count() as u64;
        swept.removed_bytes = removed.iter().flatten().sum();
        Ok(swept)
    }
}

struct Plan {
    swept: Swept,
    forgot: Vec<Forgotten>,
    /// Names, with the bytes under them.
    unneeded: Vec<(String, u64)>,
}

fn plan(store: &dyn Store, chain: &Chain, forgetting: &Forgetting) -> Result<Plan> {
    let entries = chain.entries();
    let mut decisions = Vec::new();
    let forgot: Vec<Forgotten> = match forgetting {
        Forgetting::Nothing => Vec::new(),
        Forgetting::These(ids) => entries
            .iter()
            .filter(|entry| ids.contains(&entry.id))
            .map(|entry| Forgotten {
                id: entry.id.clone(),
                why: "by hand".into(),
            })
            .collect(),
        Forgetting::By(policy, names) => {
            let candidates: Vec<Candidate> = entries
                .iter()
                .filter(|entry| names.is_empty() || names.contains(&entry.name))
                .map(|entry| Candidate {
                    id: entry.id.clone(),
                    name: entry.name.clone(),
                    time: entry.time,
                    tags: entry.tags.clone(),
                })
                .collect();
            decisions = policy.decide(&candidates)?;
            decisions
                .iter()
                .filter(|decision| !decision.keep)
                .map(|decision| Forgotten {
                    id: decision.id.clone(),
                    why: decision.reasons.join(", "),
                })
                .collect()
        }
    };
    let gone: BTreeSet<&str> = forgot.iter().map(|one| one.id.as_str()).collect();
    let left: Vec<Name> = entries
        .iter()
        .filter(|entry| !gone.contains(entry.id.as_str()))
        .map(|entry| entry.recipe)
        .collect();
    // If one cannot be read, nobody knows what it needs, and nothing is removed.
    let recipes = in_parallel(&left, store.lanes(), |name| read_recipe(store, *name))?;
    let needed: BTreeSet<Name> = recipes
        .iter()
        .flat_map(|recipe| recipe.objects.iter().map(|part| part.name))
        .collect();
    let left: BTreeSet<Name> = left.into_iter().collect();
    let mut unneeded = Vec::new();
    for (folder, needed) in [(RECIPES, &left), (OBJECTS, &needed)] {
        for listed in store.list(folder)? {
            // What is called otherwise is not ours to remove.
            if Name::of_path(folder, &listed.name).is_some_and(|name| !needed.contains(&name)) {
                unneeded.push((listed.name, listed.bytes));
            }
        }
    }
    let swept = Swept {
        decisions,
        forgotten: forgot.len() as u64,
        left: (entries.len() - forgot.len()) as u64,
        removed: unneeded.len() as u64,
        removed_bytes: unneeded.iter().map(|(_, bytes)| bytes).sum(),
        dry_run: false,
    };
    Ok(Plan {
        swept,
        forgot,
        unneeded,
    })
}
