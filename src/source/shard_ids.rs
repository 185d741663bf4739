//! The points of a shard by its segments and its log, without the engine.
//!
//! Invariants: an entry of the log counts as taken in only if applying it again can change no
//! point, whatever the points hold; where that cannot be shown, it counts as not taken in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use serde_json::Value;

use crate::base::error::Result;
use crate::format::ids::IdEntry;
use crate::format::rocks::InRocks;
use crate::format::schema::{PayloadSchema, same_index};
use crate::format::wal::{Entry, Log, Op, Touches};
use crate::format::{Segment, Shard, ids};
use crate::point::PointId;

/// The points of a shard's segments.
#[derive(Debug, Default)]
pub struct ShardIds {
    segments: Vec<Vec<IdEntry>>,
    unread: u64,
}

impl ShardIds {
    /// The points of all segments of `shard`, in the order of their UUIDs; `what` names it in errors.
    /// It was opened with its id trackers; those of a segment that are in RocksDB stay unread.
    pub fn of(shard: &Shard, what: &str) -> Result<Self> {
        let mut held = Self::default();
        for (uuid, segment) in &shard.segments {
            if InRocks::of(segment).ids {
                held.add_unread();
                continue;
            }
            let what = format!("segment {uuid} of {what}");
            held.add(ids::read(&segment.trackers, &what)?.entries);
        }
        Ok(held)
    }

    /// The points of each segment.
    pub fn segments(&self) -> &[Vec<IdEntry>] {
        &self.segments
    }

    /// Adds the points of one segment, by ascending id.
    pub fn add(&mut self, entries: Vec<IdEntry>) {
        self.segments.push(entries);
    }

    /// Adds a segment whose points cannot be read.
    pub fn add_unread(&mut self) {
        self.unread += 1;
    }

    /// Returns true if the points of every segment are known.
    pub fn is_whole(&self) -> bool {
        self.unread == 0
    }

    /// Counts the ids, and those that lie in more than one segment. Of several copies the one that was
    /// changed last counts, here as in the engine.
    pub fn count(&self) -> (u64, u64) {
        let (mut ids, mut in_several) = (0, 0);
        self.walk(|_, having| {
            ids += 1;
            in_several += u64::from(having.len() > 1);
        });
        (ids, in_several)
    }

    /// Calls `take` with every id, ascending, and with the segments that have it: their places in the
    /// order in which they were added, and the number of the operation that last changed it there.
    pub fn walk(&self, mut take: impl FnMut(PointId, &[(usize, u64)])) {
        let mut heap = BinaryHeap::new();
        let mut rests: Vec<_> = self.segments.iter().map(|entries| entries.iter()).collect();
        for (at, rest) in rests.iter_mut().enumerate() {
            heap.extend(
                rest.next()
                    .map(|entry| Reverse((entry.id, at, entry.version))),
            );
        }
        let mut having: Vec<(usize, u64)> = Vec::new();
        while let Some(Reverse((id, at, version))) = heap.pop() {
            having.push((at, version));
            let next = rests.get_mut(at).and_then(Iterator::next);
            heap.extend(next.map(|entry| Reverse((entry.id, at, entry.version))));
            if heap.peek().is_none_or(|Reverse((next, ..))| *next != id) {
                take(id, &having);
                having.clear();
            }
        }
    }

    /// The ids, ascending, each once.
    pub fn ids(&self) -> Vec<PointId> {
        let mut ids: Vec<PointId> = Vec::with_capacity(self.segments.iter().map(Vec::len).sum());
        for segment in &self.segments {
            ids.extend(segment.iter().map(|entry| entry.id));
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The number of the operation that last changed the point `id`; none if there is no such
    /// point.
    pub fn version(&self, id: PointId) -> Option<u64> {
        let in_segment = |entries: &Vec<IdEntry>| {
            let at = entries.binary_search_by_key(&id, |entry| entry.id).ok()?;
            Some(entries.get(at)?.version)
        };
        self.segments.iter().filter_map(in_segment).max()
    }
}

/// The entries of the log's tail that the segments do not provably hold already: applying them
/// again may change points.
///
/// An entry is held if it can touch no point at all, or if of each point that it names one of these
/// is so: the point has been changed by this entry or a later one; the point is gone, and the entry
/// deletes it, or a later one in the log does. Entries that may touch points they do not name are
/// never held, and none is that touches points while a segment's points are unknown.
pub fn not_taken_in<'a>(log: &'a Log, ids: &ShardIds) -> Vec<&'a Entry> {
    let mut last_delete: BTreeMap<PointId, u64> = BTreeMap::new();
    for entry in &log.entries {
        if let Op::Delete(deleted) = &entry.op {
            last_delete.extend(deleted.iter().map(|id| (*id, entry.index)));
        }
    }
    let is_held = |entry: &Entry| match entry.op.touches() {
        Touches::Nothing => true,
        Touches::Unbounded => false,
        Touches::Ids(touched) => {
            ids.is_whole()
                && touched.iter().all(|id| match ids.version(*id) {
                    Some(version) => version >= entry.index,
                    None => last_delete.get(id).is_some_and(|at| *at >= entry.index),
                })
        }
    };
    log.entries.iter().filter(|entry| !is_held(entry)).collect()
}

/// A payload index that a segment should have and lacks.
#[derive(Debug)]
pub struct Lacking<'a> {
    /// The field.
    pub field: &'a str,
    /// The index that it should have.
    pub index: &'a Value,
    /// The one that it has instead, if any.
    pub has: Option<Value>,
}

/// The payload indexes of those `wanted` that `segment` lacks.
pub fn lacking_indexes<'a>(segment: &Segment, wanted: &'a PayloadSchema) -> Vec<Lacking<'a>> {
    let held = segment.payload_index_json();
    let fields = wanted.fields().iter();
    fields
        .filter_map(|(field, index)| {
            let has = held["indexed_fields"].get(field.as_str());
            (!has.is_some_and(|has| same_index(has, index))).then(|| Lacking {
                field,
                index,
                has: has.cloned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment with these ids at these versions.
    fn segment(points: &[(u64, u64)]) -> Vec<IdEntry> {
        let mut entries: Vec<IdEntry> = points
            .iter()
            .zip(0..)
            .map(|((id, version), offset)| IdEntry {
                id: PointId::Num(*id),
                offset,
                version: *version,
            })
            .collect();
        entries.sort_by_key(|entry| entry.id);
        entries
    }

    fn shard(segments: &[&[(u64, u64)]]) -> ShardIds {
        let mut ids = ShardIds::default();
        for points in segments {
            ids.add(segment(points));
        }
        ids
    }

    fn nums(ids: &[u64]) -> Vec<PointId> {
        ids.iter().copied().map(PointId::Num).collect()
    }

    fn log(ops: Vec<Op>) -> Log {
        let entries: Vec<Entry> = (10..)
            .zip(ops)
            .map(|(index, op)| Entry {
                index,
                bytes: 1,
                name: "op".into(),
                op,
            })
            .collect();
        Log {
            start: 10,
            first: 10,
            ack: None,
            blank_first_index: false,
            next: 10 + entries.len() as u64,
            entries,
            bytes: 0,
            torn: Vec::new(),
        }
    }

    #[test]
    fn ids_in_several_segments_count_once() {
        assert_eq!(shard(&[]).count(), (0, 0));
        assert_eq!(shard(&[&[], &[(1, 1)]]).count(), (1, 0));
        let three = shard(&[
            &[(1, 1), (2, 9), (3, 1)],
            &[(2, 4), (3, 2)],
            &[(3, 3), (4, 1)],
        ]);
        assert_eq!(three.count(), (4, 2));
        assert_eq!(three.version(PointId::Num(2)), Some(9));
        assert_eq!(three.version(PointId::Num(3)), Some(3));
        assert_eq!(three.version(PointId::Num(5)), None);
    }

    #[test]
    fn an_entry_is_taken_in_only_if_it_can_be_shown() {
        // Points 1 at version 10, 2 at version 3; 9 is nowhere. Entries are numbered from 10 on.
        let ids = shard(&[&[(1, 10), (2, 3)], &[(1, 2)]]);
        let cases: Vec<(&str, Vec<Op>, Vec<u64>)> = vec![
            ("changed since", vec![Op::Upsert(nums(&[1]))], vec![]),
            ("changed before", vec![Op::Upsert(nums(&[1, 2]))], vec![10]),
            ("not there", vec![Op::Upsert(nums(&[9]))], vec![10]),
            (
                "not there, but deleted later",
                vec![Op::Upsert(nums(&[9])), Op::Delete(nums(&[9]))],
                vec![],
            ),
            (
                "deleted, then written again",
                vec![Op::Delete(nums(&[9])), Op::Upsert(nums(&[9]))],
                vec![11],
            ),
            (
                "there still, though deleted",
                vec![Op::Delete(nums(&[2]))],
                vec![10],
            ),
            ("deleted and gone", vec![Op::Delete(nums(&[9]))], vec![]),
            (
                "payload and vectors of what is there",
                vec![
                    Op::Payload {
                        ids: Some(nums(&[1])),
                    },
                    Op::Vectors {
                        ids: Some(nums(&[1])),
                    },
                ],
                vec![11],
            ),
            (
                "whatever it may reach",
                vec![
                    Op::DeleteByFilter,
                    Op::Sync(nums(&[1])),
                    Op::Payload { ids: None },
                    Op::Vectors { ids: None },
                    Op::VectorName { vector: "v".into() },
                    Op::Other("new".into()),
                ],
                (10..16).collect(),
            ),
            (
                "no point at all",
                vec![
                    Op::Index {
                        field: "year".into(),
                    },
                    Op::Upsert(vec![]),
                ],
                vec![],
            ),
        ];
        for (what, ops, want) in cases {
            let log = log(ops);
            let found: Vec<u64> = not_taken_in(&log, &ids)
                .into_iter()
                .map(|entry| entry.index)
                .collect();
            assert_eq!(found, want, "{what}");
        }
    }

    #[test]
    fn nothing_is_shown_while_a_segment_is_unread() {
        let mut ids = shard(&[&[(1, 99)]]);
        let log = log(vec![
            Op::Upsert(nums(&[1])),
            Op::Delete(nums(&[9])),
            Op::Index { field: "f".into() },
        ]);
        assert_eq!(not_taken_in(&log, &ids).len(), 0);
        ids.add_unread();
        assert!(!ids.is_whole());
        assert_eq!(not_taken_in(&log, &ids).len(), 2);
    }
}
