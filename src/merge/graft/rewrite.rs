//! The shards that cannot travel as they are: opened in scratch, changed, and closed, for their
//! segments to be packed again.
//!
//! Invariants: a shard is unpacked once; its losers are deleted and its missing indexes made by the
//! engine; what is packed is what the engine flushed. Sources are opened side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::payloads::SegmentRewriter;
use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::parallel::in_parallel;
use crate::base::scratch;
use crate::engine::{ClosedSegment, Shard, closed_segments};
use crate::format::{Bits, ToPack};
use crate::merge::plan::Plan;
use crate::source::{IdSet, IdSetBuilder, Purpose, Source, Spill};
use crate::stream::{SegmentPlan, ShardPlan};

/// Ids that are read or deleted at once.
const IDS_AT_ONCE: usize = 4096;
/// Shards that are opened at once.
const AT_ONCE: usize = 4;

/// Workspace in which shards are opened.
pub struct ShardRewriter<'a> {
    site: Workspace<'a>,
    plan: &'a Plan,
    payloads: &'a SegmentRewriter<'a>,
    spill: Spill,
    open: BTreeMap<(usize, u32), Shard>,
    /// Shards made of a log alone.
    tails: BTreeMap<(usize, u32), Shut>,
    rounds: u32,
}

impl<'a> ShardRewriter<'a> {
    /// An empty one.
    pub fn new(
        site: Workspace<'a>,
        plan: &'a Plan,
        payloads: &'a SegmentRewriter<'a>,
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

    /// Returns true if any shard was opened.
    pub fn was_used(&self) -> bool {
        self.rounds > 0
    }

    /// The opened shard of `shard_plan`.
    pub fn shard(&self, shard_plan: &ShardPlan) -> Option<&Shard> {
        self.open.get(&(shard_plan.source, shard_plan.number))
    }

    /// Opens the shards of every shard plan that has a reason and is not opened yet, and reads its ids again.
    pub fn open_shards(
        &mut self,
        sources: &mut [Source],
        shard_plans: &mut [ShardPlan],
    ) -> Result<()> {
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
                    .folder(&format!("opened-{}", self.rounds))?;
                waiting.push((at, source, wanted, folder));
            }
        }
        let bytes_of = |source: &Source, wanted: &BTreeSet<u32>| -> u64 {
            let shards = wanted
                .iter()
                .filter_map(|number| source.snapshot.shards.get(number));
            shards.map(|shard| shard.bytes()).sum()
        };
        let bytes = waiting
            .iter()
            .map(|(_, source, wanted, _)| bytes_of(source, wanted));
        self.plan.require_to_change(bytes.sum(), self.site)?;
        let spill = &self.spill;
        let opened = in_parallel(waiting, AT_ONCE, |(at, source, wanted, folder)| {
            let opened = source.open_shards(&folder, Some(&wanted), Purpose::Carrying, None)?;
            let mut shards = Vec::new();
            for shard in opened.shards {
                let (ids, points) = ids_of(&shard.shard, spill)?;
                shards.push((at, shard.number, ids, points, shard.shard));
            }
            Ok(shards)
        })?;
        for (at, number, ids, points, shard) in opened.into_iter().flatten() {
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

    /// Makes the log of every shard plan that is not opened, and has one that says more than its
    /// segments, a shard of its own, and adds its ids.
    pub fn replay_logs(&mut self, sources: &[Source], shard_plans: &mut [ShardPlan]) -> Result<()> {
        let mut by_source: BTreeMap<usize, BTreeMap<u32, &mut ShardPlan>> = BTreeMap::new();
        for shard_plan in shard_plans.iter_mut().filter(|one| one.has_tail()) {
            let of_source = by_source.entry(shard_plan.source).or_default();
            of_source.insert(shard_plan.number, shard_plan);
        }
        let mut waiting = Vec::new();
        for (at, shard_plans) in by_source {
            if let Some(source) = sources.get(at) {
                self.rounds += 1;
                let folder = self
                    .site
                    .scratch
                    .folder(&format!("opened-{}", self.rounds))?;
                waiting.push((at, source, shard_plans, folder));
            }
        }
        let this = &*self;
        // They are closed at once: thousands of sources would have too many files open.
        let opened = in_parallel(waiting, AT_ONCE, |(at, source, mut shard_plans, folder)| {
            let wanted: BTreeSet<u32> = shard_plans.keys().copied().collect();
            let mut tails = Vec::new();
            for opened in source.open_logs(&folder, &wanted)? {
                if let Some(shard_plan) = shard_plans.get_mut(&opened.number) {
                    let tail = this.replay_log(shard_plan, opened.shard)?;
                    tails.extend(tail.map(|tail| ((at, opened.number), tail)));
                }
            }
            Ok(tails)
        })?;
        self.tails.extend(opened.into_iter().flatten());
        Ok(())
    }

    /// The shard that was made of a log, with the indexes of the master, closed; none if the log has an entry that
    /// is refused.
    fn replay_log(&self, shard_plan: &mut ShardPlan, shard: Shard) -> Result<Option<Shut>> {
        if !shard.passed_over().is_empty() {
            shard_plan.because("an entry of its log is refused");
            shard.discard()?;
            return Ok(None);
        }
        // Beside those in the segments they would be the same points twice.
        let held = (shard_plan.tail.iter()).flat_map(|tail| tail.held.chunks(IDS_AT_ONCE));
        for held in held {
            shard.delete(held)?;
        }
        let (ids, _) = ids_of(&shard, &self.spill)?;
        shard_plan.ids.append(ids);
        shard_plan.points = shard_plan.ids.count()?;
        create_indexes(self.plan, self.payloads, &shard)?;
        shut(shard).map(Some)
    }

    /// Gives the segments that were made of logs to their shard plans. Those of shard plans that had to be
    /// opened after all are of no use any more.
    fn finish_tails(&mut self, shard_plans: &mut [ShardPlan]) -> Result<u64> {
        let mut waiting = Vec::new();
        for shard_plan in shard_plans {
            match self.tails.remove(&(shard_plan.source, shard_plan.number)) {
                Some(tail) if shard_plan.has_tail() => waiting.push((shard_plan, tail)),
                Some(tail) => scratch::remove_folder(&tail.folder)?,
                None => {}
            }
        }
        let payloads = self.payloads;
        let bytes = in_parallel(waiting, AT_ONCE, |(shard_plan, tail)| {
            let closed = change_payloads(tail, payloads, shard_plan.source)?;
            take(shard_plan, closed)
        })?;
        Ok(bytes.into_iter().sum())
    }

    /// Deletes the losers, makes the missing payload indexes, and closes every opened shard;
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
}

/// The ids of an opened shard, and their number.
fn ids_of(shard: &Shard, spill: &Spill) -> Result<(IdSet, u64)> {
    let mut ids = IdSetBuilder::new(spill);
    shard.each_id(|id| ids.add(id, Some(0)))?;
    let points = ids.end_segment(false)?.map_or(0, |count| count.ids);
    Ok((ids.finish(), points))
}

/// Makes an opened shard what it is to be in the master, and closes it.
fn change(
    plan: &Plan,
    payloads: &SegmentRewriter<'_>,
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
    change_payloads(shut(shard)?, payloads, shard_plan.source)
}

/// Makes the payload indexes of the master that the engine is to make here.
fn create_indexes(plan: &Plan, payloads: &SegmentRewriter<'_>, shard: &Shard) -> Result<()> {
    let fields = plan.united.payload.fields().iter();
    for (field, schema) in fields.filter(|(field, _)| !payloads.rebuilt().contains(*field)) {
        shard.create_index(field, schema)?;
    }
    Ok(())
}

/// A shard of scratch that was closed.
struct Shut {
    folder: PathBuf,
    what: String,
    indexed_vectors: u64,
}

fn shut(shard: Shard) -> Result<Shut> {
    let shut = Shut {
        // The engine tells it of the whole shard only.
        indexed_vectors: shard.indexed_vectors()?,
        folder: shard.folder().to_owned(),
        what: shard.what().to_owned(),
    };
    shard.close()?;
    Ok(shut)
}

/// Changes the payloads of the segments of a closed shard of the source at the place `source`.
fn change_payloads(shut: Shut, payloads: &SegmentRewriter<'_>, source: usize) -> Result<Closed> {
    let segments = closed_segments(&shut.folder)?;
    for segment in &segments {
        let what = format!("segment {} of {}", segment.uuid, shut.what);
        payloads.in_folder(source, &segment.folder, &what)?;
    }
    Ok(Closed {
        // Without some vectors they may be of another kind.
        segments: closed_segments(&shut.folder)?,
        indexed_vectors: shut.indexed_vectors,
    })
}

/// Gives `shard_plan` the segments of a closed shard; returns their bytes when packed.
pub(super) fn take(shard_plan: &mut ShardPlan, closed: Closed) -> Result<u64> {
    let mut bytes = 0;
    let mut indexed_vectors = closed.indexed_vectors;
    for segment in closed.segments {
        let repacked = ToPack::measure(segment.folder)?;
        bytes += repacked.bytes();
        shard_plan.segments.push(SegmentPlan {
            uuid: segment.uuid,
            version: segment.version,
            points: 0,
            kind: segment.kind,
            indexed_vectors: std::mem::take(&mut indexed_vectors),
            // The engine tells of the whole shard only, so this is not known by segment.
            to_index: 0,
            repacked: Some(repacked),
            live: Bits::default(),
            splice: None,
        });
    }
    Ok(bytes)
}

/// An opened shard, closed.
pub struct Closed {
    /// Its segments.
    pub segments: Vec<ClosedSegment>,
    /// Vectors of all of them that lie in an index.
    pub indexed_vectors: u64,
}
