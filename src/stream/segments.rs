//! Looking into the sources' shards without opening one.
//!
//! Invariants: what a shard holds is known from its id trackers and its log alone; a shard about
//! which anything is unsure, or that keeps anything in RocksDB, is to be repacked, with the reason.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use uuid::Uuid;

use crate::base::error::Result;
use crate::format::payloads::{Splice, renamed_state};
use crate::format::rocks::InRocks;
use crate::format::schema::{
    CollectionConfig, PayloadSchema, VectorChanges, VectorParams, vector_label,
};
use crate::format::wal::{Log, Op};
use crate::format::{Bits, Segment, SegmentKind, Shard, ToPack, ids, wal};
use crate::point::PointId;
use crate::source::{IdSet, ShardIds, Source, Spill, Survey, lacking_indexes, not_taken_in};

/// A shard of a source on its way into the master.
#[derive(Debug)]
pub struct ShardPlan {
    /// Which source.
    pub source: usize,
    /// The shard's number there.
    pub number: u32,
    /// The shard of the master that it joins.
    pub target: u32,
    /// Ids.
    pub ids: IdSet,
    /// Number of ids, each once.
    pub points: u64,
    /// Ids of these that lose a conflict.
    pub losers: IdSet,
    /// Number of those.
    pub lost: u64,
    /// Why it must be repacked; nothing if it travels untouched.
    pub reasons: Vec<String>,
    /// Log, if it has something besides the segments and can become a segment of its own.
    pub tail: Option<Tail>,
    /// Segments; replaced when it is repacked.
    pub segments: Vec<SegmentPlan>,
}

/// The log of a shard that becomes a segment.
#[derive(Debug)]
pub struct Tail {
    /// Number of entries.
    pub entries: usize,
    /// Points that it writes and that the segments have as it leaves them, or newer, ascending.
    pub held: Vec<PointId>,
}

/// A segment on its way into the master.
#[derive(Debug, Clone)]
pub struct SegmentPlan {
    /// UUID in the source.
    pub uuid: Uuid,
    /// Highest operation number.
    pub version: u64,
    /// Number of its points; 0 until it is counted, if it is packed again.
    pub points: u64,
    /// Kind of the segment.
    pub kind: SegmentKind,
    /// Vectors of it that lie in an index; of a segment that travels untouched, no more than that.
    pub indexed_vectors: u64,
    /// Points of it that a server will index, since it has no graph and is large enough for one.
    pub to_index: u64,
    /// Folder in scratch, if it is to be packed again.
    pub repacked: Option<ToPack>,
    /// Offsets of its live points, if they were asked for.
    pub live: Bits,
    /// Replacement files, if payloads or payload indexes of it change and it is not repacked.
    pub splice: Option<Splice>,
}

/// Requirements that segments have to meet.
#[derive(Debug, Clone, Copy)]
pub struct Expectations<'a> {
    /// Payload indexes that they should have.
    pub indexes: &'a PayloadSchema,
    /// Fields of them whose index may be missing.
    pub rebuilt: &'a BTreeSet<String>,
    /// The master's config, as far as it is known.
    pub config: Option<&'a CollectionConfig>,
    /// Vectors that have another name in the master, or are left out.
    pub vectors: &'a VectorChanges,
    /// True if the offsets of live points are wanted.
    pub offsets: bool,
}

impl ShardPlan {
    /// Returns true if its segments travel untouched, and its log becomes one more.
    pub fn has_tail(&self) -> bool {
        self.tail.is_some() && self.reasons.is_empty()
    }

    /// Has it repacked, for this reason.
    pub fn because(&mut self, reason: &str) {
        if !self.reasons.iter().any(|known| known == reason) {
            self.reasons.push(reason.to_owned());
        }
    }
}

/// The shard plans of all sources, which were opened with their id trackers and logs, on their way into a
/// master of which this is `expected`; ids go to `spill` when there are too many for memory; `target` tells
/// the shard that a shard joins, by source, number, and what it is called; none for one that is left alone.
pub fn plan_segments(
    sources: &mut [Source],
    expected: Expectations<'_>,
    spill: &Spill,
    target: impl Fn(usize, u32, &str) -> Result<Option<u32>>,
) -> Result<Vec<ShardPlan>> {
    let mut shard_plans = Vec::new();
    for (at, source) in sources.iter_mut().enumerate() {
        let path = source.snapshot.what();
        for (number, shard) in &mut source.snapshot.shards {
            let what = format!("shard {number} of {path}");
            let Some(target) = target(at, *number, &what)? else {
                continue;
            };
            let mut shard_plan = ShardPlan {
                source: at,
                number: *number,
                target,
                ids: IdSet::default(),
                points: 0,
                losers: IdSet::default(),
                lost: 0,
                reasons: Vec::new(),
                tail: None,
                segments: Vec::new(),
            };
            // A collection that was streamed shard by shard has the form of a collection.
            if shard.segments.values().any(|segment| segment.tar.is_none()) {
                shard_plan.because("it was streamed, so its segments are not packed yet");
            }
            look(shard, &what, expected, spill, &mut shard_plan)?;
            shard_plans.push(shard_plan);
        }
    }
    Ok(shard_plans)
}

fn look(
    shard: &mut Shard,
    what: &str,
    expected: Expectations<'_>,
    spill: &Spill,
    shard_plan: &mut ShardPlan,
) -> Result<()> {
    let Expectations {
        indexes,
        rebuilt,
        config,
        vectors,
        offsets,
    } = expected;
    let mut held_ids = ShardIds::new(spill);
    for (uuid, segment) in &mut shard.segments {
        let trackers = std::mem::take(&mut segment.trackers);
        let inside = InRocks::of(segment);
        if !inside.is_nothing() {
            shard_plan.because(&format!("a segment keeps {} in RocksDB", inside.words()));
        }
        if inside.ids {
            shard_plan
                .segments
                .push(carriage(*uuid, segment, 0, config, vectors));
            held_ids.add_unread();
            continue;
        }
        let segment_what = format!("segment {uuid} of {what}");
        let (held, live) = match offsets {
            false => (held_ids.add(&trackers, &segment_what)?, Bits::default()),
            true => {
                let read = ids::read(&trackers.load(&segment_what)?, &segment_what)?;
                let live = Bits::of(read.entries.iter().map(|entry| entry.offset));
                (held_ids.add_read(&read)?, live)
            }
        };
        drop(trackers);
        if held.pending_deletes + held.pending_others > 0 {
            shard_plan.because("a segment has changes beside it that older servers do not read");
        }
        if held.unversioned + held.torn_bytes > 0 {
            shard_plan.because("a segment has points that were half written");
        }
        let lacking = lacking_indexes(segment, indexes);
        let mut lacking = (lacking.iter()).filter(|lacking| !rebuilt.contains(lacking.field));
        if let Some(lacking) = lacking.next() {
            let field = lacking.field;
            shard_plan.because(&format!("it lacks the payload index of '{field}'"));
        }
        for name in config
            .map(|config| without_storage(segment, config, vectors))
            .unwrap_or_default()
        {
            shard_plan.because(&format!("a segment has nothing for the {name}"));
        }
        let mut carriage = carriage(*uuid, segment, held.points, config, vectors);
        // Of a segment that was not closed in order, a point may be newer than what it says.
        carriage.version = carriage.version.max(held.newest.unwrap_or(0));
        carriage.live = live;
        shard_plan.segments.push(carriage);
    }
    let log = wal::read(
        std::mem::take(&mut shard.log),
        &format!("the log of {what}"),
    )?;
    if let Some(torn) = log.torn.first() {
        shard_plan.because(&format!("{} of its log is cut off or damaged", torn.file));
    }
    // The tail of a log is rarely empty on a real server: an entry stays in it until the next
    // flush, and the last one always.
    let survey = held_ids.survey(Some(&log))?;
    if let Some(entry) = not_taken_in(&log, &survey).first() {
        if only_writes(&log) && survey.is_whole {
            shard_plan.tail = Some(Tail {
                entries: log.entries.len(),
                held: held_of(&log, &survey),
            });
        } else {
            shard_plan.because(&format!(
                "its log is not all in its segments, from entry {} ({}) on",
                entry.index, entry.name
            ));
        }
    }
    shard_plan.points = survey.ids;
    shard_plan.ids = held_ids.into_set();
    Ok(())
}

/// `segment.json` as the master has it; null where names would become one, for which no segment is carried.
fn state_in_master(segment: &Segment, vectors: &VectorChanges) -> Value {
    renamed_state(vectors, segment.state_json()).unwrap_or_default()
}

/// The vectors of `config` that `segment` knows nothing of, in words: a server that restores it would not
/// find them.
fn without_storage(
    segment: &Segment,
    config: &CollectionConfig,
    vectors: &VectorChanges,
) -> Vec<String> {
    let state = state_in_master(segment, vectors);
    let lacks = |kind: &str, name: &String| state["config"][kind].get(name).is_none();
    let dense = config.vectors().keys();
    let sparse = config.sparse_vectors().keys();
    dense
        .filter(|name| lacks("vector_data", name))
        .chain(sparse.filter(|name| lacks("sparse_vector_data", name)))
        .map(|name| vector_label(name))
        .collect()
}

/// The points that a log of whole points writes, and that are in the segments as it leaves them.
fn held_of(log: &Log, survey: &Survey) -> Vec<PointId> {
    let mut last: BTreeMap<PointId, u64> = BTreeMap::new();
    for entry in &log.entries {
        if let Op::Upsert(written) = &entry.op {
            last.extend(written.iter().map(|id| (*id, entry.index)));
        }
    }
    let held = |(id, index): &(PointId, u64)| {
        let has = survey.versions.get(id);
        has.is_some_and(|has| has >= index)
    };
    last.into_iter().filter(held).map(|(id, _)| id).collect()
}

fn carriage(
    uuid: Uuid,
    segment: &Segment,
    points: u64,
    config: Option<&CollectionConfig>,
    vectors: &VectorChanges,
) -> SegmentPlan {
    let state = state_in_master(segment, vectors);
    let of = |kind: &str| {
        let map = state["config"][kind].as_object();
        map.into_iter().flatten()
    };
    let graphs = of("vector_data")
        .filter(|(_, vector)| vector["index"]["type"] == "hnsw")
        .count();
    // A sparse vector always has an index.
    let sparse = of("sparse_vector_data").count();
    let large = of("vector_data").any(|(name, vector)| {
        let bytes_each = match vector["datatype"].as_str() {
            Some("uint8") => 1,
            Some("float16") => 2,
            _ => 4,
        };
        let bytes = points * vector["size"].as_u64().unwrap_or(0) * bytes_each;
        vector["index"]["type"] == "plain"
            && config
                .and_then(|config| indexed_from(config, name))
                .is_some_and(|at| bytes >= at)
    });
    SegmentPlan {
        uuid,
        version: state["version"].as_u64().unwrap_or(0),
        points,
        kind: SegmentKind::of(&state),
        indexed_vectors: (graphs + sparse) as u64 * points,
        to_index: if large { points } else { 0 },
        repacked: None,
        live: Bits::default(),
        splice: None,
    }
}

/// Returns true if a segment with that many `points` of a collection with `config` may be given an index that no
/// points can be added to. The size of multivectors and of sparse vectors is not known here.
pub fn gets_index(config: &CollectionConfig, points: u64) -> bool {
    let from = indexing_threshold(config);
    let is_large =
        |vector: &VectorParams| vector.multivector.is_some() || vector.bytes(points) >= from;
    from > 0 && (!config.sparse_vectors().is_empty() || config.vectors().values().any(is_large))
}

/// From how many bytes of vectors on a segment is given an index; 0 if it never is.
fn indexing_threshold(config: &CollectionConfig) -> u64 {
    /// In KB (`DEFAULT_INDEXING_THRESHOLD_KB` in Qdrant since 1.16).
    const DEFAULT_KB: u64 = 10_000;
    let stated = config
        .optimizer_config()
        .and_then(|map| map.get("indexing_threshold"))
        .and_then(Value::as_u64);
    stated.unwrap_or(DEFAULT_KB) * 1024
}

/// From how many bytes of vectors on a server builds a graph for the vector called `name`; none if
/// it never does.
fn indexed_from(config: &CollectionConfig, name: &str) -> Option<u64> {
    let from = indexing_threshold(config);
    (from > 0 && config.effective_hnsw(name).m != 0).then_some(from)
}

/// Returns true if a log does nothing but write whole points.
///
/// Such points may lie in a segment of their own, beside the older copies in the segments that were there
/// before: a server, when it loads a shard, keeps of two copies the one that was written later
/// (`deduplicate_points` in lib/shard/src/segment_holder/mod.rs). Points that are deleted or changed in part
/// have to be looked for in the segments that hold them.
fn only_writes(log: &Log) -> bool {
    log.torn.is_empty()
        && log
            .entries
            .iter()
            .all(|entry| entry.name == "upsert_points" && matches!(entry.op, Op::Upsert(_)))
}
