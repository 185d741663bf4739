//! From scanned records to the master's records: conflicts decided, declared changes made.
//!
//! Keeps true: a record that is read is written, or lost to a winner, and is counted either way;
//! a record is changed only as the settings say.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::conflict::{Policy, Verdict, decide, remapped};
use super::ledger::{Conflict, Ledger};
use super::options::UnionOptions;
use super::scan::Scanned;
use crate::base::error::Result;
use crate::point::ShardKey;
use crate::point::{PointId, Record};

/// What became of a source's points.
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
    /// Whether every point that was read is accounted for.
    pub fn adds_up(&self) -> bool {
        self.read == self.filtered + self.lost + self.won
    }
}

/// Decides conflicts and makes declared changes.
pub struct Resolver<'a> {
    settings: &'a UnionOptions,
    names: Vec<&'a str>,
    stamps: Vec<Value>,
    keeps_keys: bool,
    /// What became of each source's points so far; `read` and `filtered` are counted by others.
    pub tallies: Vec<Tally>,
    /// The conflicts so far.
    pub ledger: Ledger,
    /// Points whose stamped field had another value before.
    pub restamped: u64,
}

impl<'a> Resolver<'a> {
    /// A resolver over sources called `names`. With `keeps_keys` the master has shard keys.
    pub fn new(
        settings: &'a UnionOptions,
        names: Vec<&'a str>,
        keeps_keys: bool,
        ledger: Ledger,
    ) -> Self {
        let stamps = match &settings.stamp {
            Some(stamp) => names.iter().map(|name| stamp.value(name)).collect(),
            None => Vec::new(),
        };
        Self {
            settings,
            tallies: vec![Tally::default(); names.len()],
            names,
            stamps,
            keeps_keys,
            ledger,
            restamped: 0,
        }
    }

    /// What became of the points, once `counts` says how many each source has, and how many of them
    /// the filter let through; the ledger; and how many points had another stamp before.
    pub fn finish(
        mut self,
        counts: impl IntoIterator<Item = (u64, u64)>,
    ) -> (Vec<Tally>, Ledger, u64) {
        for (tally, (read, matching)) in self.tallies.iter_mut().zip(counts) {
            tally.read = read;
            tally.filtered = read - matching;
        }
        (self.tallies, self.ledger, self.restamped)
    }

    /// The sources' names.
    pub fn names(&self) -> &[&'a str] {
        &self.names
    }

    /// Takes the records of the id `id`; calls `write` with each that the master gets, and with the
    /// number of its source.
    pub fn take(
        &mut self,
        id: PointId,
        group: &mut Vec<Scanned>,
        mut write: impl FnMut(usize, Record) -> Result<()>,
    ) -> Result<()> {
        let verdict = if group.len() < 2 {
            Verdict::Wins(0)
        } else {
            self.judge(id, group)?
        };
        for (place, scanned) in group.drain(..).enumerate() {
            let mut record = scanned.record;
            let tally = self.tallies.get_mut(scanned.source);
            match verdict {
                Verdict::Wins(winner) if winner != place => {
                    if let Some(tally) = tally {
                        tally.lost += 1;
                    }
                    continue;
                }
                Verdict::Remapped if place > 0 => {
                    let name = self.names.get(scanned.source).copied().unwrap_or_default();
                    record.id = remapped(name, id);
                    if let Some(tally) = tally {
                        tally.won += 1;
                        tally.remapped += 1;
                    }
                }
                Verdict::Wins(_) | Verdict::Remapped => {
                    if let Some(tally) = tally {
                        tally.won += 1;
                    }
                }
            }
            self.change(&mut record, scanned.source);
            write(scanned.source, record)?;
        }
        Ok(())
    }

    /// Decides over records of one id, and takes down that there was a conflict.
    pub fn judge(&mut self, id: PointId, group: &[Scanned]) -> Result<Verdict> {
        let name = |scanned: &Scanned| self.names.get(scanned.source).copied().unwrap_or_default();
        let names: Vec<&str> = group.iter().map(name).collect();
        let payloads: Vec<_> = group
            .iter()
            .map(|scanned| &scanned.record.payload)
            .collect();
        // Within one source there is nobody to ask and nothing to tell apart by: the later shard
        // has it, as it would have after upserting in order.
        let one_source = group.windows(2).all(|pair| match pair {
            [a, b] => a.source == b.source,
            _ => true,
        });
        let verdict = match &self.settings.on_conflict {
            Policy::Remap if one_source => Verdict::Wins(group.len() - 1),
            policy => decide(policy, id, &payloads, &names)?,
        };
        let (winner, remapped_ids) = match verdict {
            Verdict::Wins(place) => (place, Vec::new()),
            Verdict::Remapped => (
                0,
                names
                    .iter()
                    .skip(1)
                    .map(|name| remapped(name, id))
                    .collect(),
            ),
        };
        self.ledger.add(Conflict {
            id,
            winner: names.get(winner).copied().unwrap_or_default().to_owned(),
            sources: names.into_iter().map(str::to_owned).collect(),
            remapped: remapped_ids,
        })?;
        Ok(verdict)
    }

    /// Makes the changes that were declared, and no other.
    pub fn change(&mut self, record: &mut Record, source: usize) {
        if self.settings.by_source {
            let name = self.names.get(source).copied().unwrap_or_default();
            record.shard_key = Some(ShardKey::Word(name.to_owned()));
        } else if !self.keeps_keys {
            record.shard_key = None;
        }
        for key in &self.settings.drop_payload {
            record.payload.remove(key);
        }
        if let (Some(stamp), Some(value)) = (&self.settings.stamp, self.stamps.get(source)) {
            let before = record.payload.insert(stamp.field.clone(), value.clone());
            if before.is_some_and(|before| before != *value) {
                self.restamped += 1;
            }
        }
    }
}
