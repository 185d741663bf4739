//! Whether a shard's log holds anything that its segments do not.
//!
//! The tail of a log, from the acknowledged entry on, is rarely empty on a real server: an entry
//! stays until the next flush, and the last one always. Nor does a segment's version say that the
//! log was applied: deletes may be held back by the optimizer while everything else goes on.
//!
//! Keeps true: a tail counts as taken in only if each of its operations provably is, point by
//! point; whatever is less sure is left to the engine, in scratch.

use std::collections::HashMap;

use crate::point::PointId;
use crate::snapshot::log::{Log, Op};

/// The copies of a shard's points: one entry a copy, by id and version ascending.
pub struct Copies {
    copies: Vec<(PointId, u64)>,
}

impl Copies {
    /// From all copies in all segments, in any order.
    pub fn new(mut copies: Vec<(PointId, u64)>) -> Self {
        copies.sort_unstable();
        Self { copies }
    }

    /// The ids, ascending, each once.
    pub fn ids(&self) -> Vec<PointId> {
        let mut ids: Vec<PointId> = self.copies.iter().map(|(id, _)| *id).collect();
        ids.dedup();
        ids.shrink_to_fit();
        ids
    }

    /// The oldest and the newest version of `id`; none if there is no copy.
    fn versions(&self, id: PointId) -> Option<(u64, u64)> {
        let from = self.copies.partition_point(|(other, _)| *other < id);
        let to = self.copies.partition_point(|(other, _)| *other <= id);
        let copies = self.copies.get(from..to)?;
        Some((copies.first()?.1, copies.last()?.1))
    }
}

/// Why the tail of `log` is not provably in the segments; none if it is.
pub fn not_taken_in(log: &Log, copies: &Copies) -> Option<String> {
    if let Some(torn) = log.torn.first() {
        return Some(format!(
            "{} is cut off or damaged at byte {}",
            torn.file, torn.offset
        ));
    }
    // For each point, the later deletes of the tail decide what may be missing.
    let mut last_delete: HashMap<PointId, u64> = HashMap::new();
    for entry in &log.entries {
        if let Op::Delete(ids) = &entry.op {
            for id in ids {
                last_delete.insert(*id, entry.index);
            }
        }
    }
    for entry in &log.entries {
        let written = match &entry.op {
            Op::Index { .. } => continue,
            Op::Upsert(ids) | Op::Payload { ids: Some(ids) } | Op::Vectors { ids: Some(ids) } => {
                ids
            }
            Op::Delete(ids) => {
                let left = ids.iter().find(|id| {
                    copies
                        .versions(**id)
                        .is_some_and(|(oldest, _)| oldest <= entry.index)
                });
                if let Some(id) = left {
                    return Some(format!(
                        "entry {} deletes point {id}, which is still there",
                        entry.index
                    ));
                }
                continue;
            }
            Op::DeleteByFilter
            | Op::Sync(_)
            | Op::Payload { ids: None }
            | Op::Vectors { ids: None }
            | Op::VectorName { .. }
            | Op::Other(_) => {
                return Some(format!(
                    "entry {} ({}) may touch any point",
                    entry.index, entry.name
                ));
            }
        };
        let missing = written.iter().find(|id| match copies.versions(**id) {
            Some((_, newest)) => newest < entry.index,
            None => last_delete
                .get(*id)
                .is_none_or(|delete| *delete < entry.index),
        });
        if let Some(id) = missing {
            return Some(format!(
                "entry {} ({}) writes point {id}, which is not there in that version",
                entry.index, entry.name
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::log::{Entry, Torn};

    fn ids(nums: &[u64]) -> Vec<PointId> {
        nums.iter().copied().map(PointId::Num).collect()
    }

    fn log(ops: Vec<Op>) -> Log {
        let entries: Vec<Entry> = ops
            .into_iter()
            .zip(10..)
            .map(|(op, index)| Entry {
                index,
                bytes: 8,
                name: "op".into(),
                op,
            })
            .collect();
        Log {
            start: 0,
            first: 10,
            ack: Some(10),
            next: 10 + entries.len() as u64,
            entries,
            bytes: 0,
            torn: Vec::new(),
        }
    }

    #[test]
    fn a_tail_is_taken_in_only_if_every_point_shows_it() {
        let upsert = |nums: &[u64]| Op::Upsert(ids(nums));
        let delete = |nums: &[u64]| Op::Delete(ids(nums));
        let payload = |nums: &[u64]| Op::Payload {
            ids: Some(ids(nums)),
        };
        type Case = (Vec<Op>, Vec<(u64, u64)>, bool);
        let cases: Vec<Case> = vec![
            (vec![], vec![(1, 3)], true),
            (vec![upsert(&[1])], vec![(1, 10)], true),
            (vec![upsert(&[1])], vec![(1, 12)], true),
            (vec![upsert(&[1])], vec![(1, 9)], false),
            (vec![upsert(&[1, 2])], vec![(1, 10)], false),
            (vec![upsert(&[1])], vec![(1, 4), (1, 10)], true),
            (vec![delete(&[1])], vec![], true),
            (vec![delete(&[1])], vec![(1, 9)], false),
            (vec![delete(&[1])], vec![(1, 10)], false),
            // Written again after the delete, but the old copy is still there.
            (vec![delete(&[1]), upsert(&[1])], vec![(1, 11)], true),
            (
                vec![delete(&[1]), upsert(&[1])],
                vec![(1, 4), (1, 11)],
                false,
            ),
            (vec![upsert(&[1]), delete(&[1])], vec![], true),
            (vec![delete(&[1]), upsert(&[1])], vec![], false),
            (vec![payload(&[1])], vec![(1, 10)], true),
            (vec![payload(&[1])], vec![(1, 9)], false),
            (vec![payload(&[1])], vec![], false),
            (vec![Op::Payload { ids: None }], vec![(1, 10)], false),
            (vec![Op::DeleteByFilter], vec![], false),
            (vec![Op::Sync(ids(&[1]))], vec![(1, 10)], false),
            (vec![Op::Other("new".into())], vec![], false),
            (
                vec![Op::Index {
                    field: "year".into(),
                }],
                vec![],
                true,
            ),
        ];
        for (ops, copies, taken) in cases {
            let shown = format!("{ops:?} over {copies:?}");
            let copies = copies
                .into_iter()
                .map(|(num, version)| (PointId::Num(num), version))
                .collect();
            let why = not_taken_in(&log(ops), &Copies::new(copies));
            assert_eq!(why.is_none(), taken, "{shown}: {why:?}");
        }
    }

    #[test]
    fn a_torn_log_is_left_to_the_engine() {
        let mut torn = log(vec![]);
        torn.torn.push(Torn {
            file: "open-1".into(),
            offset: 80,
        });
        let why = not_taken_in(&torn, &Copies::new(Vec::new())).unwrap();
        assert!(why.contains("open-1"), "{why}");
    }
}
