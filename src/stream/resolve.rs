//! From scanned records to the master's records: conflicts decided, declared changes made.
//!
//! Invariants: a record that is read is written, or lost to a winner, and is counted either way;
//! a record is changed only as the settings say.

use serde::{Deserialize, Serialize};

use super::change::{Changed, PayloadChange};
use super::conflict::{Policy, Verdict, decide, remapped};
use super::ledger::{Conflict, Ledger};
use super::options::UnionOptions;
use super::scan::Scanned;
use crate::base::error::Result;
use crate::point::{Identity, PointId, Record, ShardKey};

/// Counts of a source's points, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Points that it has.
    pub read: u64,
    /// Points of it that the filter left out.
    pub filtered: u64,
    /// Points of it that lost a conflict.
    pub lost: u64,
    /// Points of it that are in the master.
    pub won: u64,
    /// Of those, points that are there under a new id.
    pub remapped: u64,
}

impl Tally {
    /// Adds the counts of other shards of the same source.
    pub fn join(&mut self, other: &Self) {
        self.read += other.read;
        self.filtered += other.filtered;
        self.lost += other.lost;
        self.won += other.won;
        self.remapped += other.remapped;
    }

    /// Returns true if every point that was read is accounted for.
    pub fn adds_up(&self) -> bool {
        self.read == self.filtered + self.lost + self.won
    }
}

/// Decides conflicts and makes declared changes.
pub struct Resolver<'a> {
    settings: &'a UnionOptions,
    names: Vec<&'a str>,
    /// Declared changes of payloads, by source.
    payloads: Vec<PayloadChange<'a>>,
    /// Counts of each source so far; `read` and `filtered` are set by `finish`.
    pub tallies: Vec<Tally>,
    /// The conflicts so far.
    pub ledger: Ledger,
    /// The changes so far.
    pub changed: Changed,
}

impl<'a> Resolver<'a> {
    /// A resolver over sources called `names`.
    pub fn new(settings: &'a UnionOptions, names: Vec<&'a str>, ledger: Ledger) -> Self {
        let payloads = names.iter().map(|name| PayloadChange::new(settings, name));
        Self {
            settings,
            tallies: vec![Tally::default(); names.len()],
            payloads: payloads.collect(),
            names,
            ledger,
            changed: Changed::none(settings),
        }
    }

    /// Returns the counts of each source, once `counts` says how many points it has, and how many of them the
    /// filter let through; the ledger; and the counts of the declared changes.
    pub fn finish(
        mut self,
        counts: impl IntoIterator<Item = (u64, u64)>,
    ) -> (Vec<Tally>, Ledger, Changed) {
        for (tally, (read, matching)) in self.tallies.iter_mut().zip(counts) {
            tally.read = read;
            tally.filtered = read - matching;
        }
        (self.tallies, self.ledger, self.changed)
    }

    /// The sources' names.
    pub fn names(&self) -> &[&'a str] {
        &self.names
    }

    /// Takes the records of the identity `id`; calls `write` with each that the master gets, and with the
    /// number of its source.
    pub fn take(
        &mut self,
        id: &Identity,
        group: &mut Vec<Scanned>,
        mut write: impl FnMut(usize, Record) -> Result<()>,
    ) -> Result<()> {
        let verdict = if group.len() < 2 {
            Verdict::Wins(0)
        } else {
            self.judge(id, group)?
        };
        let remapped = match verdict {
            Verdict::Wins(_) => Vec::new(),
            Verdict::Remapped => remapped_fates(id, group, &self.names),
        };
        for (place, scanned) in group.drain(..).enumerate() {
            let fate = match verdict {
                Verdict::Wins(winner) if winner == place => Fate::Stays,
                Verdict::Wins(_) => Fate::Lost,
                Verdict::Remapped => remapped.get(place).copied().unwrap_or(Fate::Lost),
            };
            let mut record = scanned.record;
            let mut unknown = Tally::default();
            let tally = self.tallies.get_mut(scanned.source).unwrap_or(&mut unknown);
            match fate {
                Fate::Lost => {
                    tally.lost += 1;
                    continue;
                }
                Fate::Stays => tally.won += 1,
                Fate::Becomes(new) => {
                    record.id = new;
                    tally.won += 1;
                    tally.remapped += 1;
                }
            }
            self.change(&mut record, scanned.source, id.shard_key.as_ref());
            write(scanned.source, record)?;
        }
        Ok(())
    }

    /// The id in the master, by `Policy::Remap`, of the record at `place` of a group of the identity `id`;
    /// none if it is dropped.
    pub fn remapped(&self, id: &Identity, group: &[Scanned], place: usize) -> Option<PointId> {
        let fates = remapped_fates(id, group, &self.names);
        match fates.get(place)? {
            Fate::Stays => Some(id.id),
            Fate::Becomes(new) => Some(*new),
            Fate::Lost => None,
        }
    }

    /// Decides over records of one identity, and takes down that there was a conflict.
    pub fn judge(&mut self, id: &Identity, group: &[Scanned]) -> Result<Verdict> {
        let name = |scanned: &Scanned| self.names.get(scanned.source).copied().unwrap_or_default();
        let names: Vec<&str> = group.iter().map(name).collect();
        let payloads: Vec<_> = group
            .iter()
            .map(|scanned| &scanned.record.payload)
            .collect();
        // Within one source, and one key of it, there is nobody to ask and nothing to tell apart by: the
        // later shard has it, as it would have after upserting in order.
        let first = group.first().map(home);
        let one_home = group.iter().all(|other| Some(home(other)) == first);
        let verdict = match &self.settings.on_conflict {
            Policy::Remap if one_home => Verdict::Wins(group.len() - 1),
            policy => decide(policy, id, &payloads, &names)?,
        };
        let (winner, remapped_ids) = match verdict {
            Verdict::Wins(place) => (place, Vec::new()),
            Verdict::Remapped => {
                let fates = remapped_fates(id, group, &self.names).into_iter().skip(1);
                let new = fates.map(|fate| match fate {
                    Fate::Becomes(new) => new,
                    Fate::Stays | Fate::Lost => id.id,
                });
                (0, new.collect())
            }
        };
        let keys = (group.iter()).map(|one| dropped_key(id, &one.record).cloned());
        let homes = names.into_iter().map(str::to_owned).zip(keys).collect();
        let lacking = self.settings.on_conflict.lacking(&payloads);
        let conflict = Conflict::new(id.clone(), homes, winner).lacking(&lacking);
        self.ledger.conflict(Conflict {
            remapped: remapped_ids,
            ..conflict
        })?;
        Ok(verdict)
    }

    /// Makes the changes that were declared, and no other, and gives `record` the `key` that it has in the
    /// master.
    pub fn change(&mut self, record: &mut Record, source: usize, key: Option<&ShardKey>) {
        record.shard_key = key.cloned();
        if let Some(change) = self.payloads.get(source) {
            change.apply(&mut record.payload, &mut self.changed);
        }
    }
}

/// Outcome of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It keeps its id.
    Stays,
    /// It gets this id.
    Becomes(PointId),
    /// It is dropped.
    Lost,
}

/// Returns the outcomes of the records of the identity `id` by `Policy::Remap`: the first source's keeps the
/// id, every other source's gets one of its own; of copies within one source, and one key of it, the last
/// counts. `names` are the sources'.
pub(super) fn remapped_fates(id: &Identity, group: &[Scanned], names: &[&str]) -> Vec<Fate> {
    let homes: Vec<_> = group.iter().map(home).collect();
    let fate = |(place, scanned): (usize, &Scanned)| {
        let own = homes.get(place);
        let mut later = homes.iter().skip(place + 1);
        if later.any(|home| Some(home) == own) {
            Fate::Lost
        } else if homes.first() == own {
            Fate::Stays
        } else {
            let name = names.get(scanned.source).copied().unwrap_or_default();
            Fate::Becomes(remapped(name, dropped_key(id, &scanned.record), id.id))
        }
    };
    group.iter().enumerate().map(fate).collect()
}

/// Returns the source of a record, and the key that it has there.
fn home(scanned: &Scanned) -> (usize, Option<&ShardKey>) {
    (scanned.source, scanned.record.shard_key.as_ref())
}

/// The key of `record` that its identity in the master, `id`, does not have.
fn dropped_key<'a>(id: &Identity, record: &'a Record) -> Option<&'a ShardKey> {
    let key = record.shard_key.as_ref();
    key.filter(|key| Some(*key) != id.shard_key.as_ref())
}
