//! Giving entries up, and removing what none needs any more.
//!
//! Invariants: first everything that may be removed is listed, then the record is written that gives
//! the entries up, and only then it is removed. Whatever lay there before the record was written is
//! either needed by an entry that is left, or by none ever again: another run whose work was under way
//! cannot write its record any more, and one that begins later makes objects of its own. So neither a
//! kill at any moment nor a run beside it loses anything.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Archive;
use super::chain::{Chain, Event, Forgotten};
use super::retention::{Candidate, Decision, Policy};
use super::store::{Listed, Store};
use super::sweep::{self, Needed};
use crate::base::error::{Kind, Result};

/// Selection of the entries to forget.
#[derive(Debug, Clone)]
pub enum Forgetting {
    /// Whatever the policy does not keep; of these names only, if any are given.
    By(Policy, Vec<String>),
    /// These entries, by id.
    These(Vec<String>),
    /// Nothing: only what no entry needs is removed.
    Nothing,
}

/// Result of forgetting entries.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct PruneReport {
    /// Decision on each entry.
    pub decisions: Vec<Decision>,
    /// Entries that were given up.
    pub forgotten: u64,
    /// Entries that are left.
    pub left: u64,
    /// Objects and recipes that were removed, or would be.
    pub removed: u64,
    /// Their bytes as they lay there.
    pub removed_bytes: u64,
    /// True if nothing was done and the report shows what would be.
    pub dry_run: bool,
    /// Problems that remain: a lock that could not be released, no space for a reserve.
    pub left_behind: Vec<String>,
}

impl Archive {
    /// Gives entries up, and removes what none needs. With `dry_run` only says what it would do.
    pub fn forget(&self, forgetting: &Forgetting, dry_run: bool) -> Result<PruneReport> {
        if let Forgetting::By(policy, _) = forgetting {
            policy.validate()?;
        }
        let store = &*self.store;
        let now = Self::now();
        if dry_run {
            return Ok(PruneReport {
                dry_run,
                ..plan(store, &self.chain()?, forgetting, now)?.swept
            });
        }
        let give_up =
            || self.while_locked("archive forget", |chain| self.give_up(chain, forgetting));
        let mut done = give_up();
        // A full disk has no room for the record that makes room.
        let is_full = matches!(&done, Err(err) if err.kind() == Kind::NoSpace);
        let is_taken = is_full && store.take_reserve()?;
        if is_taken {
            done = give_up();
        }
        let kept = match is_taken || done.is_ok() {
            true => store.keep_reserve(),
            false => Ok(()),
        };
        let (mut swept, left) = done?;
        swept.left_behind.extend(left);
        if let Err(err) = kept {
            swept.left_behind.push(format!(
                "no room is reserved for the next time that the disk is full ({err})"
            ));
        }
        Ok(swept)
    }

    fn give_up(&self, chain: &mut Chain, forgetting: &Forgetting) -> Result<PruneReport> {
        let store = &*self.store;
        let Plan {
            mut swept,
            forgot,
            unneeded,
        } = plan(store, chain, forgetting, Self::now())?;
        if forgot.is_empty() && unneeded.is_empty() {
            return Ok(swept);
        }
        // Also when nothing is given up: it ends whatever another run has under way.
        let event = Event::Forget { forgot };
        chain.append(store, event, self.signer.as_ref(), Self::now())?;
        (swept.removed, swept.removed_bytes) =
            sweep::remove(store, &unneeded.iter().collect::<Vec<_>>())?;
        Ok(swept)
    }
}

struct Plan {
    swept: PruneReport,
    forgot: Vec<Forgotten>,
    unneeded: Vec<Listed>,
}

fn plan(
    store: &dyn Store,
    chain: &Chain,
    forgetting: &Forgetting,
    now: DateTime<Utc>,
) -> Result<Plan> {
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
            decisions = policy.decide(&candidates, now)?;
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
    let left = entries
        .iter()
        .filter(|entry| !gone.contains(entry.id.as_str()));
    let needed = Needed::by(store, left)?;
    let listed = sweep::list(store)?;
    let unneeded: Vec<Listed> = needed.others(&listed).into_iter().cloned().collect();
    let swept = PruneReport {
        decisions,
        forgotten: forgot.len() as u64,
        left: entries.len().saturating_sub(forgot.len()) as u64,
        removed: unneeded.len() as u64,
        removed_bytes: unneeded.iter().map(|one| one.bytes).sum(),
        dry_run: false,
        left_behind: Vec::new(),
    };
    Ok(Plan {
        swept,
        forgot,
        unneeded,
    })
}
