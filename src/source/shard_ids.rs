//! The points of a shard by its segments and its log, without the engine.
//!
//! Invariants: an entry of the log counts as taken in only if applying it again can change no
//! point, whatever the points hold; where that cannot be shown, it counts as not taken in.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use uuid::Uuid;

use super::id_set::{IdSet, IdSetBuilder, SegmentCount, Span, Spill};
use crate::base::error::Result;
use crate::format::ids::{Format, IdEntry, SegmentIds, Trackers};
use crate::format::rocks::InRocks;
use crate::format::schema::{PayloadSchema, same_index};
use crate::format::wal::{Entry, Log, Op, Touches};
use crate::format::{Segment, Shard, ids};
use crate::point::PointId;

/// The points of a shard's segments.
#[derive(Debug)]
pub struct ShardIds {
    segments: IdSetBuilder,
    unread: u64,
}

/// Counts of one segment's points; see [`ids::SegmentIds`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentCounts {
    /// Form in which the segment keeps its ids.
    pub format: Format,
    /// Live points.
    pub points: u64,
    /// Highest version of a live point.
    pub newest: Option<u64>,
    /// Offsets without a live point.
    pub deleted: u64,
    /// Points with a mapping but no version.
    pub unversioned: u64,
    /// Points that a pending delete beside the segment removes.
    pub pending_deletes: u64,
    /// Other pending changes beside the segment.
    pub pending_others: u64,
    /// Bytes of a last record that was cut off while it was written.
    pub torn_bytes: u64,
}

/// Facts about a shard's points that take one walk along all of them.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Number of ids, each once.
    pub ids: u64,
    /// Ids that lie in more than one segment. Of several copies the one that was changed last counts,
    /// here as in the engine.
    pub in_several: u64,
    /// The number of the operation that last changed each point that the log's tail names; those that
    /// are not there are missing.
    pub versions: BTreeMap<PointId, u64>,
    /// True if the points of every segment are known.
    pub is_whole: bool,
}

impl ShardIds {
    /// None yet; they go to `spill` when there are too many for memory.
    pub fn new(spill: &Spill) -> Self {
        Self {
            segments: IdSetBuilder::new(spill),
            unread: 0,
        }
    }

    /// The points of all segments of `shard`, in the order of their UUIDs, and the counts of each;
    /// `what` names it in errors. It was opened with its id trackers; those of a segment that are in
    /// RocksDB stay unread.
    pub fn of(
        shard: &Shard,
        what: &str,
        spill: &Spill,
    ) -> Result<(Self, BTreeMap<Uuid, SegmentCounts>)> {
        let mut held = Self::new(spill);
        let mut counts = BTreeMap::new();
        for (uuid, segment) in &shard.segments {
            if InRocks::of(segment).ids {
                held.add_unread();
                continue;
            }
            let what = format!("segment {uuid} of {what}");
            counts.insert(*uuid, held.add(&segment.trackers, &what)?);
        }
        Ok((held, counts))
    }

    /// The points of each segment.
    pub fn set(&self) -> &IdSet {
        self.segments.set()
    }

    /// The same, to be kept.
    pub fn into_set(self) -> IdSet {
        self.segments.finish()
    }

    /// Adds the points of one segment, which `what` names in errors.
    ///
    /// # Errors
    /// [`crate::base::error::Kind::Damaged`] as [`ids::read`] says.
    pub fn add(&mut self, trackers: &Trackers, what: &str) -> Result<SegmentCounts> {
        let segments = &mut self.segments;
        segments.restart();
        let streamed = ids::stream(trackers, what, &mut |id, version| segments.add(id, version))?;
        if let Some(streamed) = streamed
            && let Ok(SegmentCount { ids, newest }) = segments.end_segment(streamed.once)?
        {
            return Ok(SegmentCounts {
                format: streamed.format,
                points: ids,
                newest,
                deleted: streamed.total_offsets.saturating_sub(ids),
                unversioned: 0,
                pending_deletes: 0,
                pending_others: 0,
                torn_bytes: 0,
            });
        }
        // Not as a sound writer leaves it, or of a form that takes all files together.
        self.add_read(&ids::read(&trackers.load(what)?, what)?)
    }

    /// The same of a segment whose ids were read.
    pub fn add_read(&mut self, read: &SegmentIds) -> Result<SegmentCounts> {
        self.segments.restart();
        let newest = self.add_entries(&read.entries)?;
        Ok(SegmentCounts {
            format: read.format,
            points: read.entries.len() as u64,
            newest,
            deleted: read.deleted as u64,
            unversioned: read.unversioned as u64,
            pending_deletes: read.pending_deletes as u64,
            pending_others: read.pending_others as u64,
            torn_bytes: read.torn_bytes as u64,
        })
    }

    /// Adds the points of one segment; returns their highest version.
    fn add_entries(&mut self, entries: &[IdEntry]) -> Result<Option<u64>> {
        for entry in entries {
            self.segments.add(entry.id, Some(entry.version))?;
        }
        let count = self.segments.end_segment(false)?;
        Ok(count.ok().and_then(|count| count.newest))
    }

    /// Adds a segment whose points cannot be read.
    pub fn add_unread(&mut self) {
        self.unread += 1;
    }

    /// Returns true if the points of every segment are known.
    pub fn is_whole(&self) -> bool {
        self.unread == 0
    }

    /// Calls `take` with the ids, ascending, each once, and with the segments that have them: their
    /// places in the order in which they were added, and their versions.
    pub fn walk(&self, take: impl FnMut(Span<'_>) -> Result<()>) -> Result<()> {
        self.set().walk(take)
    }

    /// Counts the ids, and looks for those that the tail of `log` names.
    pub fn survey(&self, log: Option<&Log>) -> Result<Survey> {
        let mut named: BTreeSet<PointId> = BTreeSet::new();
        for entry in log.into_iter().flat_map(|log| &log.entries) {
            if let Touches::Ids(ids) = entry.op.touches() {
                named.extend(ids);
            }
        }
        let mut named = named.into_iter().peekable();
        let mut survey = Survey {
            is_whole: self.is_whole(),
            ..Survey::default()
        };
        self.walk(|span| {
            survey.ids += span.count();
            if span.having().len() > 1 {
                survey.in_several += span.count();
            }
            while let Some(id) = named.next_if(|id| *id <= span.last()) {
                let Some(place) = span.place(id) else {
                    continue;
                };
                let versions = span.having().iter().map(|one| one.version(place));
                survey
                    .versions
                    .extend(versions.max().map(|version| (id, version)));
            }
            Ok(())
        })?;
        Ok(survey)
    }
}

/// The entries of the log's tail that the segments do not provably hold already: applying them
/// again may change points. `survey` was made of the segments and this log.
///
/// An entry is held if it can touch no point at all, or if of each point that it names one of these
/// is so: the point has been changed by this entry or a later one; the point is gone, and the entry
/// deletes it, or a later one in the log does. Entries that may touch points they do not name are
/// never held, and none is that touches points while a segment's points are unknown.
pub fn not_taken_in<'a>(log: &'a Log, survey: &Survey) -> Vec<&'a Entry> {
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
            survey.is_whole
                && touched.iter().all(|id| match survey.versions.get(id) {
                    Some(version) => *version >= entry.index,
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
        let mut ids = ShardIds::new(&Spill::within(&std::env::temp_dir()));
        for points in segments {
            ids.add_entries(&segment(points)).unwrap();
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
        let count = |ids: &ShardIds| {
            let survey = ids.survey(None).unwrap();
            (survey.ids, survey.in_several)
        };
        assert_eq!(count(&shard(&[])), (0, 0));
        assert_eq!(count(&shard(&[&[], &[(1, 1)]])), (1, 0));
        let three = shard(&[
            &[(1, 1), (2, 9), (3, 1)],
            &[(2, 4), (3, 2)],
            &[(3, 3), (4, 1)],
        ]);
        assert_eq!(count(&three), (4, 2));
        let named = log(vec![Op::Delete(nums(&[5, 3, 2, 0]))]);
        let versions = three.survey(Some(&named)).unwrap().versions;
        let expected = [(PointId::Num(2), 9), (PointId::Num(3), 3)];
        assert_eq!(versions.into_iter().collect::<Vec<_>>(), expected);
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
            let survey = ids.survey(Some(&log)).unwrap();
            let found: Vec<u64> = not_taken_in(&log, &survey)
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
        let open = |ids: &ShardIds| {
            let survey = ids.survey(Some(&log)).unwrap();
            not_taken_in(&log, &survey).len()
        };
        assert_eq!(open(&ids), 0);
        ids.add_unread();
        assert!(!ids.is_whole());
        assert_eq!(open(&ids), 2);
    }
}
