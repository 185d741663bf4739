//! Proving a grafted master against its sources by the bytes of its segments.
//!
//! A segment that was carried over untouched is the same bytes in the source and in the master, so
//! its points need no look. What is left to show is that no id is in two of them, that each lies in
//! the right shard, and that no log changes what the segments say.
//!
//! Invariants: this proves all of the master or nothing: whatever cannot be shown here is told with
//! its reason, and left to the walk along the points, which names them.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pairs::{self, AT_ONCE, Content, Read};
use crate::base::error::{Error, Result};
use crate::base::parallel::in_parallel;
use crate::base::scratch::Scratch;
use crate::format::schema::PayloadSchema;
use crate::format::{Form, PackedSegment};
use crate::point::ShardKey;
use crate::source::{IdSet, ShardIds, Source, Spill, not_taken_in};
use crate::stream::{
    Expectations, Layout, Policy, ShardPlan, UnionOptions, identity_key, overlaps_by_key,
    plan_segments,
};

/// Bytes hashed at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Counts of what was shown by bytes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ByBytes {
    /// Points of the master.
    pub points: u64,
    /// The same by source, in their order.
    pub points_of: Vec<u64>,
    /// Segments of the master.
    pub segments: u64,
    /// Size of the segments in bytes.
    pub bytes: u64,
}

/// Result: shown, or the reason why not.
pub type Shown = std::result::Result<ByBytes, String>;

/// Shows that `master` is the segments of `sources`, which were all opened with id trackers and
/// logs; `wanted` are the payload indexes that it must have.
pub fn by_bytes(
    master: &mut Source,
    sources: &mut [Source],
    settings: &UnionOptions,
    layout: &Layout,
    wanted: &PayloadSchema,
    scratch: &Scratch,
) -> Result<Shown> {
    if settings.changes_payloads()
        || settings.filter.is_some()
        || !settings.vectors.is_none()
        || settings.on_conflict == Policy::Remap
        || settings.layout.field().is_some()
    {
        return Ok(Err(
            "records were changed, laid out anew or left out on the way".into(),
        ));
    }
    if master.live.is_some() || sources.iter().any(|source| source.live.is_some()) {
        return Ok(Err("a live collection has no files to look at".into()));
    }
    let streamed = |source: &Source| source.snapshot.form == Form::StreamedShard;
    if streamed(master) || sources.iter().any(streamed) {
        return Ok(Err("a streamed shard has no packed segments".into()));
    }
    if sizes(std::iter::once(&*master)) != sizes(sources.iter()) {
        return Ok(Err("the master's segments are not the sources'".into()));
    }
    let expected = Expectations {
        indexes: wanted,
        rebuilt: &BTreeSet::new(),
        config: None,
        vectors: &settings.vectors,
        offsets: false,
    };
    let spill = Spill::into_scratch(scratch);
    let shard_plans = plan_segments(sources, expected, &spill, |_, _, _| Ok(Some(0)))?;
    for shard_plan in &shard_plans {
        if let (Some(reason), Some(source)) =
            (shard_plan.reasons.first(), sources.get(shard_plan.source))
        {
            return Ok(Err(format!(
                "shard {} of {}: {reason}",
                shard_plan.number, source.name
            )));
        }
    }
    if shard_plans
        .iter()
        .any(|shard_plan| shard_plan.tail.is_some())
    {
        return Ok(Err("a log of the sources is not all in its segments".into()));
    }
    let keyed: Vec<(Option<ShardKey>, &IdSet)> = shard_plans
        .iter()
        .map(|shard_plan| {
            (
                key_in_master(shard_plan, sources, settings, layout),
                &shard_plan.ids,
            )
        })
        .collect();
    let mut met = None;
    overlaps_by_key(&keyed, |id, _, _| {
        met.get_or_insert(id);
        Ok(())
    })?;
    if let Some(id) = met {
        return Ok(Err(format!(
            "point {id} is in more than one shard of the sources"
        )));
    }
    if let Some(reason) = log_not_taken_in(master, &spill)? {
        return Ok(Err(reason));
    }

    let found = match pairs::compare(master, sources)? {
        Some(found) => found,
        None => hash_all(master, sources)?,
    };
    let Some((of_master, of_sources)) = found.split_first() else {
        return Ok(Err("there is nothing to compare".into()));
    };
    let targets = match join(&shard_plans, of_master, of_sources, master) {
        Ok(targets) => targets,
        Err(reason) => return Ok(Err(reason)),
    };
    for (shard_plan, target) in shard_plans.iter().zip(targets) {
        if let Some(reason) = misplaced(shard_plan, target, sources, settings, layout)? {
            return Ok(Err(reason));
        }
    }
    let mut points_of = vec![0; sources.len()];
    for shard_plan in &shard_plans {
        if let Some(count) = points_of.get_mut(shard_plan.source) {
            *count += shard_plan.points;
        }
    }
    Ok(Ok(ByBytes {
        points_of,
        points: shard_plans.iter().map(|shard_plan| shard_plan.points).sum(),
        segments: of_master.len() as u64,
        bytes: of_master.iter().map(|segment| segment.bytes).sum(),
    }))
}

/// The sizes of all segments, ascending: where they differ, nothing needs to be read to tell.
fn sizes<'a>(sources: impl Iterator<Item = &'a Source>) -> Vec<u64> {
    let mut sizes: Vec<u64> = sources
        .flat_map(|source| source.snapshot.shards.values())
        .flat_map(|shard| shard.segments.values())
        .map(|segment| segment.bytes)
        .collect();
    sizes.sort_unstable();
    sizes
}

/// Returns the reason if an entry of the master's log may change what its segments say.
fn log_not_taken_in(master: &mut Source, spill: &Spill) -> Result<Option<String>> {
    let what = master.snapshot.what();
    for (number, shard) in &mut master.snapshot.shards {
        let log = crate::format::wal::read(
            std::mem::take(&mut shard.log),
            &format!("the log of shard {number} of {what}"),
        )?;
        if log.entries.is_empty() && log.torn.is_empty() {
            continue;
        }
        let (held, _) = ShardIds::of(shard, &format!("shard {number} of {what}"), spill)?;
        let survey = held.survey(Some(&log))?;
        if !log.torn.is_empty() || !not_taken_in(&log, &survey).is_empty() {
            return Ok(Some(format!(
                "the log of the master's shard {number} is not all in its segments"
            )));
        }
    }
    Ok(None)
}

/// The segments' hashes of the master and of each source, in this order.
fn hash_all(master: &mut Source, sources: &mut [Source]) -> Result<Vec<Vec<Read>>> {
    let all = std::iter::once(master).chain(sources.iter_mut());
    in_parallel(all.collect::<Vec<_>>(), AT_ONCE, |source| {
        let mut found = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        let all = |_, _| true;
        source.walk_segments(None, all, |packed, reader| {
            let PackedSegment {
                shard,
                uuid,
                bytes,
                what,
                ..
            } = packed;
            let failed = |err: std::io::Error| match Error::carried(&err) {
                Some(carried) => carried.clone().within(format!("reading {what}")),
                None => Error::damaged(format!("reading {what}"), err),
            };
            let mut hasher = blake3::Hasher::new();
            loop {
                let count = reader.read(&mut buffer).map_err(failed)?;
                if count == 0 {
                    break;
                }
                hasher.update(buffer.get(..count).unwrap_or_default());
            }
            if hasher.count() != bytes {
                return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
            }
            found.push(Read {
                shard,
                uuid,
                bytes,
                content: Content::Hashed(*hasher.finalize().as_bytes()),
            });
            Ok(())
        })?;
        Ok(found)
    })
}

/// The shard of the master that each shard plan's segments lie in; or why they do not.
fn join(
    shard_plans: &[ShardPlan],
    of_master: &[Read],
    of_sources: &[Vec<Read>],
    master: &Source,
) -> Result<Vec<Option<u32>>, String> {
    let mut places: BTreeMap<Content, Vec<usize>> = BTreeMap::new();
    for (at, shard_plan) in shard_plans.iter().enumerate() {
        let segments = of_sources
            .get(shard_plan.source)
            .map_or(&[][..], Vec::as_slice);
        let mine = segments
            .iter()
            .filter(|segment| segment.shard == shard_plan.number);
        let mut count = 0;
        for segment in mine {
            places.entry(segment.content).or_default().push(at);
            count += 1;
        }
        if count != shard_plan.segments.len() {
            return Err(format!(
                "not all segments of shard {} were read",
                shard_plan.number
            ));
        }
    }
    let all: usize = master
        .snapshot
        .shards
        .values()
        .map(|shard| shard.segments.len())
        .sum();
    if all != of_master.len() {
        return Err("not all segments of the master were read".into());
    }
    let mut targets: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); shard_plans.len()];
    for segment in of_master {
        // An empty segment may be many times the same.
        let shard_plan = places.get_mut(&segment.content).and_then(Vec::pop);
        let Some(shard_plan) = shard_plan.and_then(|shard_plan| targets.get_mut(shard_plan)) else {
            return Err(format!(
                "segment {} of the master's shard {} is no source's, byte for byte",
                segment.uuid, segment.shard
            ));
        };
        shard_plan.insert(segment.shard);
    }
    if places.values().any(|left| !left.is_empty()) {
        return Err("a segment of a source is not in the master, byte for byte".into());
    }
    targets
        .into_iter()
        .map(|shards| {
            let mut shards = shards.into_iter();
            match (shards.next(), shards.next()) {
                (one, None) => Ok(one),
                _ => Err("the segments of one shard lie in several of the master's".into()),
            }
        })
        .collect()
}

/// The key that the points of `shard_plan` have in the master.
fn key_in_master(
    shard_plan: &ShardPlan,
    sources: &[Source],
    settings: &UnionOptions,
    layout: &Layout,
) -> Option<ShardKey> {
    let source = sources.get(shard_plan.source)?;
    let key = source.shard_keys.key_of(shard_plan.number);
    identity_key(settings, !layout.keys.is_empty(), &source.name, key)
}

/// Why the points of `shard_plan` do not belong into the master's shard `target`, if so.
fn misplaced(
    shard_plan: &ShardPlan,
    target: Option<u32>,
    sources: &[Source],
    settings: &UnionOptions,
    layout: &Layout,
) -> Result<Option<String>> {
    let target = match target {
        Some(target) => target,
        None if shard_plan.points == 0 => return Ok(None),
        None => return Ok(Some("points of a shard without segments".into())),
    };
    let Some(source) = sources.get(shard_plan.source) else {
        return Ok(None);
    };
    let key = key_in_master(shard_plan, sources, settings, layout);
    if layout.keys.key_of(target) != key.as_ref() {
        return Ok(Some(format!(
            "the master's shard {target} has another key than shard {} of {}",
            shard_plan.number, source.name
        )));
    }
    let (_, wrong) = layout.strangers(&shard_plan.ids, target, key.as_ref())?;
    Ok(wrong.map(|wrong| format!("point {wrong} does not belong into shard {target}")))
}
