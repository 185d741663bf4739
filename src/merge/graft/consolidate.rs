//! Segments merged until each of the master's shards has as few as were asked for.
//!
//! Invariants: what is merged holds the same records before and after, bit by bit, which is compared; a
//! segment that is not merged stays as it is; no more than [`AT_ONCE`] segments are open at once, whatever
//! the number of sources, unless the config's `max_segment_size` keeps more of them apart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::budget::{Candidate, Fate, choose};
use super::payloads::SegmentRewriter;
use super::rewrite::{Closed, take};
use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::parallel::in_parallel;
use crate::base::progress::{Stage, Unit};
use crate::base::scratch;
use crate::engine::{Shard, ShardConfig, closed_segments, leave_on_disk};
use crate::format::ids::{self, TrackerFiles};
use crate::format::layout;
use crate::merge::carried::Consolidated;
use crate::merge::plan::Plan;
use crate::source::Source;
use crate::stream::{self, PointStream, SegmentPlan, ShardPlan, gets_index};

/// Segments that are merged at once.
const AT_ONCE: usize = 64;
/// Points of segments that are merged at once on the way to the last round, ...
const POINTS_AT_ONCE: u64 = 1 << 20;
/// ... unless they are in so few.
const FEW: usize = 4;
/// Sources that are unpacked at once.
const UNPACKED_AT_ONCE: usize = 2;

/// Merges segments of `shard_plans`, which are repacked where they have to be, until no shard of the master has
/// more than `most`, or as few as the config's `max_segment_size` allows.
pub fn consolidate(
    sources: &mut [Source],
    shard_plans: &mut [ShardPlan],
    plan: &Plan,
    payloads: &SegmentRewriter<'_>,
    most: usize,
    site: Workspace<'_>,
) -> Result<Consolidated> {
    let mut done = Consolidated {
        segments_before: count(shard_plans),
        ..Consolidated::default()
    };
    for shard_plan in &mut *shard_plans {
        count_repacked(shard_plan)?;
    }
    let picked = pick(shard_plans, plan, most, site)?;
    done.carried_segments = count(shard_plans);
    done.empty_segments = done.segments_before - done.carried_segments - picked.len() as u64;
    unpack(sources, &picked, plan, payloads, site)?;
    let stage = site.progress.stage("consolidate", None, Unit::Points);
    let mut by_target: BTreeMap<u32, Vec<Picked>> = BTreeMap::new();
    for one in picked {
        by_target.entry(one.target).or_default().push(one);
    }
    for (target, picked) in by_target {
        let Some(first) = picked.first().map(|one| one.shard_plan) else {
            continue;
        };
        let points: u64 = picked.iter().map(|one| one.segment.points).sum();
        let mut merger = Merger {
            target,
            what: format!("shard {target} of the master, of {} segments", picked.len()),
            config: ShardConfig::for_points(&plan.united.config, points)?
                .without_log()
                .with_segments(1),
            plan,
            site,
            stage: &stage,
            rounds: 0,
        };
        let parts = picked.into_iter().map(|one| UnpackedSegment {
            points: one.segment.points,
            folder: one.folder,
        });
        let parts: Vec<UnpackedSegment> = parts.collect();
        let count = parts.len();
        let mut closed = merger.merge(parts).map_err(|err| match err.next_step() {
            Some(_) => err,
            None => err.next("--segments keep carries segments as they are"),
        })?;
        done.indexed_vectors += closed.indexed_vectors;
        let carried = shard_plans.iter().filter(|one| one.target == target);
        let takes_points = carried
            .flat_map(|one| &one.segments)
            .any(|segment| segment.kind.appendable);
        if leave_out_empty(&mut closed, takes_points)? < count {
            done.merged_segments += count as u64;
            done.merged_points += points;
        }
        if let Some(shard_plan) = shard_plans.get_mut(first) {
            take(shard_plan, closed)?;
        }
    }
    done.segments_after = count(shard_plans);
    Ok(done)
}

/// A segment that is to be merged.
struct Picked {
    /// Index of its shard plan, which has it no more.
    shard_plan: usize,
    source: usize,
    /// Number of its shard in the source.
    number: u32,
    /// The shard of the master that it joins.
    target: u32,
    segment: SegmentPlan,
    /// Where it lies unpacked.
    folder: PathBuf,
}

fn count(shard_plans: &[ShardPlan]) -> u64 {
    shard_plans
        .iter()
        .map(|one| one.segments.len() as u64)
        .sum()
}

/// Number of live points in the unpacked segment in `folder`.
fn points_in(folder: &Path) -> Result<u64> {
    let what = folder.display().to_string();
    let read = ids::read(&TrackerFiles::in_folder(folder)?, &what)?;
    Ok(read.entries.len() as u64)
}

/// Counts the points of the segments of `shard_plan` that were repacked, and tells which of them have the vectors
/// that lie in an index: the engine knows that of the whole shard only.
fn count_repacked(shard_plan: &mut ShardPlan) -> Result<()> {
    let mut repacked: Vec<&mut SegmentPlan> = (shard_plan.segments.iter_mut())
        .filter(|segment| segment.repacked.is_some())
        .collect();
    let mut indexed = 0;
    for segment in &mut repacked {
        if let Some(repacked) = &segment.repacked {
            segment.points = points_in(&repacked.folder)?;
        }
        indexed += std::mem::take(&mut segment.indexed_vectors);
    }
    // Those of sparse vectors lie in an index in every segment.
    let has_graph = repacked.iter().any(|segment| segment.kind.indexed);
    repacked.retain(|segment| segment.kind.indexed || !has_graph);
    let points: u64 = repacked.iter().map(|segment| segment.points).sum();
    for segment in repacked {
        segment.indexed_vectors = indexed * segment.points / points.max(1);
    }
    Ok(())
}

/// Takes the segments out of `shard_plans` that are to be merged, and those that are not needed.
fn pick(
    shard_plans: &mut [ShardPlan],
    plan: &Plan,
    most: usize,
    site: Workspace<'_>,
) -> Result<Vec<Picked>> {
    let mut picked = Vec::new();
    for target in &plan.layout.shards {
        let of_target = || {
            let plans = shard_plans.iter().filter(|one| one.target == *target);
            plans.flat_map(|one| &one.segments)
        };
        let candidates: Vec<Candidate> = of_target()
            .map(|segment| Candidate {
                points: segment.points,
                kind: segment.kind,
            })
            .collect();
        let config = &plan.united.config;
        let fates = choose(&candidates, most, |points| gets_index(config, points));
        let mut fates = fates.into_iter();
        for (at, shard_plan) in shard_plans.iter_mut().enumerate() {
            if shard_plan.target != *target {
                continue;
            }
            for segment in std::mem::take(&mut shard_plan.segments) {
                match fates.next().unwrap_or(Fate::Carried) {
                    Fate::Carried => shard_plan.segments.push(segment),
                    Fate::LeftOut => {}
                    Fate::Merged => picked.push(Picked {
                        shard_plan: at,
                        source: shard_plan.source,
                        number: shard_plan.number,
                        target: *target,
                        folder: match &segment.repacked {
                            Some(repacked) => repacked.folder.clone(),
                            None => site
                                .scratch
                                .path()
                                .join(unpacked(shard_plan.source))
                                .join(shard_plan.number.to_string())
                                .join(layout::SEGMENTS)
                                .join(segment.uuid.to_string()),
                        },
                        segment,
                    }),
                }
            }
        }
    }
    Ok(picked)
}

/// Unpacks what is `picked` and not repacked, and changes its payloads.
fn unpack(
    sources: &mut [Source],
    picked: &[Picked],
    plan: &Plan,
    payloads: &SegmentRewriter<'_>,
    site: Workspace<'_>,
) -> Result<()> {
    // On the way to the last round there is no use for payload indexes.
    let goes_rounds = picked.len() > AT_ONCE;
    let mut by_source: BTreeMap<usize, Vec<&Picked>> = BTreeMap::new();
    for one in picked.iter().filter(|one| one.segment.repacked.is_none()) {
        by_source.entry(one.source).or_default().push(one);
    }
    let waiting: Vec<_> = (sources.iter_mut().enumerate())
        .filter_map(|(at, source)| Some((at, source, by_source.remove(&at)?)))
        .collect();
    let bytes = waiting.iter().flat_map(|(_, source, picked)| {
        let shards = &source.snapshot.shards;
        let segment = |one: &&Picked| shards.get(&one.number)?.segments.get(&one.segment.uuid);
        picked
            .iter()
            .filter_map(segment)
            .map(|segment| segment.bytes)
    });
    plan.require_to_change(bytes.sum(), site)?;
    in_parallel(waiting, UNPACKED_AT_ONCE, |(at, source, picked)| {
        let wanted = picked.iter().map(|one| (one.number, one.segment.uuid));
        let folder = site.scratch.folder(&unpacked(at))?;
        source.unpack_segments(&folder, &wanted.collect(), goes_rounds, None)?;
        for Picked {
            number,
            segment,
            folder,
            ..
        } in picked
        {
            let uuid = segment.uuid;
            let what = format!("segment {uuid} of shard {number} of {}", source.name);
            payloads.in_folder(at, folder, &what)?;
        }
        Ok(())
    })
    .map(drop)
}

/// Name of the folder that segments of the source at the place `source` are unpacked in.
fn unpacked(source: usize) -> String {
    format!("merge-{source}")
}

/// Removes segments without points from a closed shard; one stays for a server to add to, where no other
/// segment of the shard `takes_points`. Returns the number of those with points.
fn leave_out_empty(closed: &mut Closed, takes_points: bool) -> Result<usize> {
    let mut takes_points = takes_points;
    let mut empty = Vec::new();
    for segment in std::mem::take(&mut closed.segments) {
        if ids::are_none(&segment.folder)? {
            empty.push(segment);
        } else {
            takes_points |= segment.kind.appendable;
            closed.segments.push(segment);
        }
    }
    let count = closed.segments.len();
    if !takes_points {
        let first = empty.into_iter().find(|segment| segment.kind.appendable);
        closed.segments.extend(first);
    }
    Ok(count)
}

/// An unpacked segment.
struct UnpackedSegment {
    points: u64,
    folder: PathBuf,
}

/// `parts`, so many together as are merged at once.
fn chunks(parts: Vec<UnpackedSegment>) -> Vec<Vec<UnpackedSegment>> {
    let mut chunks: Vec<Vec<UnpackedSegment>> = Vec::new();
    let mut points = 0;
    for part in parts {
        points += part.points;
        match chunks.last_mut() {
            Some(last)
                if last.len() < FEW || (last.len() < AT_ONCE && points <= POINTS_AT_ONCE) =>
            {
                last.push(part);
            }
            _ => {
                points = part.points;
                chunks.push(vec![part]);
            }
        }
    }
    chunks
}

/// Merges the segments of one shard of the master.
struct Merger<'a> {
    target: u32,
    what: String,
    config: ShardConfig,
    plan: &'a Plan,
    site: Workspace<'a>,
    /// Counts points that are compared.
    stage: &'a Stage,
    /// Rounds that were begun.
    rounds: u64,
}

impl Merger<'_> {
    /// Merges unpacked segments, the small ones in rounds until no more than [`AT_ONCE`] are left for the last.
    fn merge(&mut self, mut parts: Vec<UnpackedSegment>) -> Result<Closed> {
        while parts.len() > AT_ONCE {
            let before = parts.len();
            parts.sort_by_key(|part| part.points);
            let mut next = Vec::new();
            for some in chunks(parts) {
                if let [_] = *some {
                    next.extend(some);
                    continue;
                }
                let mut closed = self.round(&some, false)?;
                leave_out_empty(&mut closed, true)?;
                for segment in closed.segments {
                    next.push(UnpackedSegment {
                        points: points_in(&segment.folder)?,
                        folder: segment.folder,
                    });
                }
            }
            parts = next;
            // Large ones, and a max_segment_size, leave them as they are.
            if parts.len() == before {
                break;
            }
        }
        self.round(&parts, true)
    }

    /// Merges unpacked segments, and compares the records before and after; indexes are built in the last round.
    fn round(&mut self, parts: &[UnpackedSegment], is_last: bool) -> Result<Closed> {
        self.rounds += 1;
        let name = format!("{}-{}", self.target, self.rounds);
        let config = match is_last {
            true => self.config.clone(),
            false => self.config.without_graphs(),
        };
        let home = self.site.scratch.folder(&format!("whole-{name}"))?;
        let segments = home.join(layout::SEGMENTS);
        std::fs::create_dir_all(&segments)
            .map_err(|err| Error::io("making scratch folder", &segments, &err))?;
        // Two sources may have segments with one UUID.
        let bring = |folder: &Path| {
            scratch::move_folder(folder, &segments.join(Uuid::new_v4().to_string()))
        };
        for part in parts {
            bring(&part.folder)?;
        }
        // The engine makes fewer of three, but not of two, since it may have to add one for new points
        // (merge_optimizer.rs).
        if parts.len() == 2 {
            let empty = self.site.scratch.folder(&format!("empty-{name}"))?;
            Shard::create(&empty, &config, &*self.what)?.close()?;
            for segment in closed_segments(&empty)? {
                bring(&segment.folder)?;
            }
        }
        let on_disk = leave_on_disk(&home, is_last)?;
        let shard = Shard::open(&home, &config, &*self.what)?;
        if is_last {
            // A graph is built for filters by the indexes that are there, in all segments alike.
            for (field, schema) in self.plan.united.payload.fields() {
                shard.create_index(field, schema)?;
            }
        }
        let digest = || stream::digest(&[PointStream::new(0, &shard, None)], self.stage);
        let before = digest()?;
        shard.optimize()?;
        let after = digest()?;
        if before != after {
            return Err(Error::failed(
                format!("merging segments of {}", self.what),
                format!(
                    "the records are others than before: {} differ",
                    after.differing(&before).join(", ")
                ),
            ));
        }
        let indexed_vectors = shard.indexed_vectors()?;
        let count = shard.segments()?;
        shard.close()?;
        on_disk.undo(&home)?;
        let segments = closed_segments(&home)?;
        // What was merged is removed when the engine finds the time.
        if segments.len() != count {
            return Err(Error::failed(
                format!("merging segments of {}", self.what),
                format!("{} segments are there instead of {count}", segments.len()),
            ));
        }
        Ok(Closed {
            segments,
            indexed_vectors,
        })
    }
}
