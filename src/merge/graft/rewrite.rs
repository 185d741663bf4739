//! The shards that cannot travel as they are: settled in scratch, changed, and closed, for their
//! segments to be packed again.
//!
//! Invariants: a shard is unpacked once; its losers are deleted and its missing indexes made by the
//! engine; what is packed is what the engine flushed. Sources are settled side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::payloads::PayloadRewriter;
use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::parallel::in_parallel;
use crate::base::scratch;
use crate::engine::{ClosedSegment, Shard, ShardConfig, closed_segments};
use crate::format::{Bits, ToPack, layout};
use crate::merge::plan::Plan;
use crate::source::{IdSet, IdSetBuilder, Source, Spill};
use crate::stream::{SegmentPlan, ShardPlan};

/// Ids that are read or deleted at once.
const IDS_AT_ONCE: usize = 4096;
/// Shards that are settled at once.
const AT_ONCE: usize = 4;

/// Workspace in which shards are settled.
pub struct ShardRewriter<'a> {
    site: Workspace<'a>,
    plan: &'a Plan,
    payloads: &'a PayloadRewriter<'a>,
    spill: Spill,
    open: BTreeMap<(usize, u32), Shard>,
    /// Shards made of a log alone.
    tails: BTreeMap<(usize, u32), Shard>,
    rounds: u32,
}

impl<'a> ShardRewriter<'a> {
    /// An empty one.
    pub fn new(
        site: Workspace<'a>,
        plan: &'a Plan,
        payloads: &'a PayloadRewriter<'a>,
        spill: &Spill,
    ) -> Self {
        Self {
            site,
            plan,
            payloads,
            spill: spill.clone(),
            open: BTreeMap::new(),
            tails: BTreeMap::new(),
            rounds: 0,
        }
    }

    /// Returns true if any shard was settled.
    pub fn was_used(&self) -> bool {
        self.rounds > 0
    }

    /// The settled shard of `shard_plan`.
    pub fn shard(&self, shard_plan: &ShardPlan) -> Option<&Shard> {
        self.open.get(&(shard_plan.source, shard_plan.number))
    }

    /// Settles every shard plan that has a reason and is not settled yet, and reads its ids again.
    pub fn settle(&mut self, sources: &mut [Source], shard_plans: &mut [ShardPlan]) -> Result<()> {
        let mut waiting = Vec::new();
        for (at, source) in sources.iter_mut().enumerate() {
            let wanted: BTreeSet<u32> = shard_plans
                .iter()
                .filter(|shard_plan| shard_plan.source == at && !shard_plan.reasons.is_empty())
                .map(|shard_plan| shard_plan.number)
                .filter(|number| !self.open.contains_key(&(at, *number)))
                .collect();
            if !wanted.is_empty() {
                self.rounds += 1;
                let folder = self
                    .site
                    .scratch
                    .folder(&format!("settle-{}", self.rounds))?;
                waiting.push((at, source, wanted, folder));
            }
        }
        let spill = &self.spill;
        let settled = in_parallel(waiting, AT_ONCE, |(at, source, wanted, folder)| {
            let settled = source.settle_some(&folder, Some(&wanted), None)?;
            let mut shards = Vec::new();
            for shard in settled.shards {
                let (ids, points) = ids_of(&shard.shard, spill)?;
                shards.push((at, shard.number, ids, points, shard.shard));
            }
            Ok(shards)
        })?;
        for (at, number, ids, points, shard) in settled.into_iter().flatten() {
            let shard_plan = shard_plans
                .iter_mut()
                .find(|shard_plan| shard_plan.source == at && shard_plan.number == number);
            if let Some(shard_plan) = shard_plan {
                shard_plan.ids = ids;
                shard_plan.points = points;
            }
            self.open.insert((at, number), shard);
        }
        Ok(())
    }

    /// Makes the log of every shard plan that is not settled, and has one that says more than its
    /// segments, a shard of its own, and adds its ids.
    pub fn settle_tails(
        &mut self,
        sources: &[Source],
        shard_plans: &mut [ShardPlan],
    ) -> Result<()> {
        let mut waiting = Vec::new();
        for (at, source) in sources.iter().enumerate() {
            let wanted: BTreeSet<u32> = shard_plans
                .iter()
                .filter(|shard_plan| shard_plan.source == at && shard_plan.has_tail())
                .map(|shard_plan| shard_plan.number)
                .collect();
            if !wanted.is_empty() {
                self.rounds += 1;
                let name = format!("settle-{}", self.rounds);
                waiting.push((at, source, wanted, self.site.scratch.folder(&name)?));
            }
        }
        let settled = in_parallel(waiting, AT_ONCE, |(at, source, wanted, folder)| {
            let mut shards = Vec::new();
            for settled in source.settle_logs(&folder, &wanted)? {
                shards.push(((at, settled.number), settled.shard));
            }
            Ok(shards)
        })?;
        for (key, shard) in settled.into_iter().flatten() {
            let shard_plan = shard_plans
                .iter_mut()
                .find(|shard_plan| (shard_plan.source, shard_plan.number) == key);
            if let Some(shard_plan) = shard_plan {
                if !shard.passed_over().is_empty() {
                    shard_plan.because("an entry of its log is refused");
                    shard.discard()?;
                    continue;
                }
                // Beside those in the segments they would be the same points twice.
                let held = shard_plan
                    .tail
                    .iter()
                    .flat_map(|tail| tail.held.chunks(IDS_AT_ONCE));
                for held in held {
                    shard.delete(held)?;
                }
                let (ids, _) = ids_of(&shard, &self.spill)?;
                shard_plan.ids.append(ids);
                shard_plan.points = shard_plan.ids.count()?;
            }
            self.tails.insert(key, shard);
        }
        Ok(())
    }

    /// Closes the shards that were made of logs, and gives their segments to their shard plans. Those of
    /// shard plans that had to be settled after all are of no use any more.
    fn finish_tails(&mut self, shard_plans: &mut [ShardPlan]) -> Result<u64> {
        let mut waiting = Vec::new();
        for shard_plan in shard_plans {
            match self.tails.remove(&(shard_plan.source, shard_plan.number)) {
                Some(shard) if shard_plan.has_tail() => waiting.push((shard_plan, shard)),
                Some(shard) => shard.discard()?,
                None => {}
            }
        }
        let (plan, payloads) = (self.plan, self.payloads);
        let bytes = in_parallel(waiting, AT_ONCE, |(shard_plan, shard)| {
            create_indexes(plan, payloads, &shard)?;
            let closed = close(shard, payloads, shard_plan.source)?;
            take(shard_plan, closed)
        })?;
        Ok(bytes.into_iter().sum())
    }

    /// Deletes the losers, makes the missing payload indexes, and closes every settled shard;
    /// returns the bytes that are to be packed.
    pub fn finish(&mut self, shard_plans: &mut [ShardPlan]) -> Result<u64> {
        let mut waiting = Vec::new();
        for shard_plan in shard_plans.iter_mut() {
            if let Some(shard) = self.open.remove(&(shard_plan.source, shard_plan.number)) {
                waiting.push((shard_plan, shard));
            }
        }
        let (plan, payloads) = (self.plan, self.payloads);
        let bytes = in_parallel(waiting, AT_ONCE, |(shard_plan, shard)| {
            let closed = change(plan, payloads, shard_plan, shard)?;
            shard_plan.segments = Vec::new();
            take(shard_plan, closed)
        })?;
        Ok(bytes.into_iter().sum::<u64>() + self.finish_tails(shard_plans)?)
    }

    /// The same, with the segments of each of the master's shards merged until there are no more
    /// than its config wants, and indexed as it wants; every shard plan was settled. Returns the bytes
    /// that were packed, and the segments before and after.
    pub fn consolidate(&mut self, shard_plans: &mut [ShardPlan]) -> Result<(u64, u64, u64)> {
        let config = ShardConfig::new(&self.plan.united.config)?.without_log();
        let (mut bytes, mut before, mut after) = (0, 0, 0);
        for target in &self.plan.layout.shards {
            let home = self.site.scratch.path().join(format!("whole-{target}"));
            let segments = home.join(layout::SEGMENTS);
            std::fs::create_dir_all(&segments)
                .map_err(|err| Error::io("making scratch folder", &segments, &err))?;
            let mut first = None;
            for (at, shard_plan) in shard_plans.iter_mut().enumerate() {
                if shard_plan.target != *target {
                    continue;
                }
                let Some(shard) = self.open.remove(&(shard_plan.source, shard_plan.number)) else {
                    continue;
                };
                let closed = change(self.plan, self.payloads, shard_plan, shard)?;
                shard_plan.segments = Vec::new();
                first.get_or_insert(at);
                for segment in closed.segments {
                    // Two sources may have segments with one UUID.
                    let to = segments.join(uuid::Uuid::new_v4().to_string());
                    scratch::move_folder(&segment.folder, &to)?;
                    before += 1;
                }
                scratch::remove_folder(&closed.folder)?;
            }
            let Some(shard_plan) = first.and_then(|at| shard_plans.get_mut(at)) else {
                continue;
            };
            let what = format!("shard {target} of the master");
            let shard = Shard::reopen(&home, &config, what)?;
            // Those that were left to be built are built by now; here it is said of all segments alike.
            for (field, schema) in self.plan.united.payload.fields() {
                shard.create_index(field, schema)?;
            }
            shard.optimize()?;
            let indexed_vectors = shard.indexed_vectors()?;
            shard.close()?;
            let closed = Closed {
                segments: closed_segments(&home)?,
                folder: home,
                indexed_vectors,
            };
            after += closed.segments.len() as u64;
            bytes += take(shard_plan, closed)?;
        }
        Ok((bytes, before, after))
    }
}

/// The ids of an opened shard, and their number.
fn ids_of(shard: &Shard, spill: &Spill) -> Result<(IdSet, u64)> {
    let mut ids = IdSetBuilder::new(spill);
    shard.each_id(|id| ids.add(id, Some(0)))?;
    let points = ids.end_segment(false)?.map_or(0, |count| count.ids);
    Ok((ids.finish(), points))
}

/// Makes a settled shard what it is to be in the master, and closes it.
fn change(
    plan: &Plan,
    payloads: &PayloadRewriter<'_>,
    shard_plan: &ShardPlan,
    shard: Shard,
) -> Result<Closed> {
    let losers = &shard_plan.losers;
    losers.chunks(IDS_AT_ONCE, |losers| shard.delete(losers))?;
    create_indexes(plan, payloads, &shard)?;
    let left = shard.count(None)?;
    let expected = shard_plan.points.saturating_sub(shard_plan.lost);
    if left != expected {
        return Err(Error::failed(
            format!("deleting what lost from {}", shard.what()),
            format!("{left} points are left where {expected} should be"),
        )
        .next("use --route rebuild, and please report this"));
    }
    close(shard, payloads, shard_plan.source)
}

/// Makes the payload indexes of the master that the engine is to make here.
fn create_indexes(plan: &Plan, payloads: &PayloadRewriter<'_>, shard: &Shard) -> Result<()> {
    let fields = plan.united.payload.fields().iter();
    for (field, schema) in fields.filter(|(field, _)| !payloads.rebuilt().contains(*field)) {
        shard.create_index(field, schema)?;
    }
    Ok(())
}

/// Closes a shard of the source at the place `source`, and changes the payloads of its segments.
fn close(shard: Shard, payloads: &PayloadRewriter<'_>, source: usize) -> Result<Closed> {
    // The engine tells it of the whole shard only.
    let indexed_vectors = shard.indexed_vectors()?;
    let folder = shard.folder().to_owned();
    let what = shard.what().to_owned();
    shard.close()?;
    let segments = closed_segments(&folder)?;
    for segment in &segments {
        let what = format!("segment {} of {what}", segment.uuid);
        payloads.in_folder(source, &segment.folder, &what)?;
    }
    Ok(Closed {
        segments,
        folder,
        indexed_vectors,
    })
}

/// Gives `shard_plan` the segments of a closed shard; returns their bytes when packed.
fn take(shard_plan: &mut ShardPlan, closed: Closed) -> Result<u64> {
    let mut bytes = 0;
    let mut indexed_vectors = closed.indexed_vectors;
    for segment in closed.segments {
        let settled = ToPack::measure(segment.folder)?;
        bytes += settled.bytes();
        shard_plan.segments.push(SegmentPlan {
            uuid: segment.uuid,
            version: segment.version,
            indexed_vectors: std::mem::take(&mut indexed_vectors),
            // The engine tells of the whole shard only, so this is not known by segment.
            to_index: 0,
            settled: Some(settled),
            live: Bits::default(),
            splice: None,
        });
    }
    Ok(bytes)
}

/// A settled shard, closed.
struct Closed {
    segments: Vec<ClosedSegment>,
    folder: PathBuf,
    indexed_vectors: u64,
}
