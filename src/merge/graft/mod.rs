//! The route `graft`: segments carried over whole, with their graphs.
//!
//! A shard is a set of segments, so the shards of several sources become one by lying side by side.
//! Nothing is indexed again, and a segment's bytes go from tar to tar without being unpacked; unless fewer
//! segments are asked for than the sources have: then the smaller ones are merged, and indexed.
//!
//! Invariants: a segment travels untouched only if its shard's log holds nothing that the segments
//! do not, none of its points loses a conflict, and it has every payload index of the master; a log
//! that only writes points becomes a segment beside them; every other shard is opened in scratch,
//! changed by the engine, and packed again. Where payloads or payload indexes are to change, they are all
//! that changes of a segment. An id is in one source's segments only. The log of a
//! master begins above every segment's version.

mod budget;
mod carry;
mod consolidate;
mod payloads;
mod rewrite;

use std::collections::{BTreeMap, BTreeSet};

use self::payloads::SegmentRewriter;
use self::rewrite::ShardRewriter;
use super::built::{Built, Made};
use super::carried::CarriedCounts;
use super::making::{Making, stranger};
use super::plan::Plan;
use super::settings::Settings;
use crate::base::error::{Error, Result};
use crate::base::progress::Unit;
use crate::build::BuiltShard;
use crate::engine::Columns;
use crate::format::Bits;
use crate::point::{Identity, PointId, ShardKey};
use crate::source::{IdSet, IdSetBuilder, Source, Spill};
use crate::stream::{self, DecidingField, Found, Policy, decide};
use crate::stream::{Conflict, Expectations, Ledger};
use crate::stream::{ShardPlan, Tally, overlaps_by_key, plan_segments, refuse_misplaced};

/// Conflicts that are compared at once under [`crate::stream::Policy::Newest`].
const COMPARED_AT_ONCE: usize = 512;

/// Builds the shards of the master of `plan` out of the segments of `sources` and packs them with `writer`.
/// The sources were opened with their id trackers and logs.
pub fn graft(making: Making<'_>) -> Result<Made> {
    let Making {
        mut sources,
        plan,
        settings,
        mut ledger,
        writer,
        site,
        stages,
    } = making;
    let stage = site.progress.stage("find conflicts", None, Unit::None);
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let payloads = SegmentRewriter::new(site, &plan.united.payload, settings, &names);
    let spill = Spill::into_scratch(site.scratch);
    let mut shard_plans = shard_plans(&mut sources, &plan, &payloads, &spill)?;
    let mut rewriter = ShardRewriter::new(site, &plan, &payloads, &spill);
    // Entries still in the log decide which ids exist.
    rewriter.open_shards(&mut sources, &mut shard_plans)?;
    rewriter.replay_logs(&sources, &mut shard_plans)?;
    // Logs of which the engine refuses a part do not become segments.
    rewriter.open_shards(&mut sources, &mut shard_plans)?;
    refuse_misplaced(&sources, &shard_plans)?;
    if plan.only.is_some() {
        refuse_strangers(&sources, &shard_plans, &plan)?;
    }
    let deciding_field = resolve_conflicts(
        &mut sources,
        &mut shard_plans,
        &plan,
        settings,
        &mut ledger,
        &mut rewriter,
        &spill,
    )?;
    drop(stage);
    let mut tallies = vec![Tally::default(); sources.len()];
    let mut points: BTreeMap<u32, u64> = plan.shards().map(|number| (number, 0)).collect();
    let mut ids = 0;
    for shard_plan in &shard_plans {
        let (have, lose) = (shard_plan.points, shard_plan.lost);
        ids += have;
        *points.entry(shard_plan.target).or_default() += have - lose;
        if let Some(tally) = tallies.get_mut(shard_plan.source) {
            tally.read += have;
            tally.lost += lose;
            tally.won += have - lose;
        }
    }
    stages.end("find conflicts").points(ids);

    rewriter.open_shards(&mut sources, &mut shard_plans)?;
    let repacked_bytes = rewriter.finish(&mut shard_plans)?;
    if rewriter.was_used() {
        stages.end("repack").bytes(repacked_bytes);
    }
    drop(rewriter);
    let mut consolidated = None;
    if let Some(most) = plan.segments_max {
        let done =
            consolidate::consolidate(&mut sources, &mut shard_plans, &plan, &payloads, most, site)?;
        stages.end("consolidate").points(done.merged_points);
        consolidated = Some(done);
    }
    if payloads.is_needed() {
        let bytes = payloads.splice(&sources, &mut shard_plans)?;
        stages.end("rewrite").bytes(bytes);
    }
    let (changes, rebuilt) = payloads.finish();
    // Only their number is needed from here on.
    for shard_plan in &mut shard_plans {
        shard_plan.ids = IdSet::default();
        shard_plan.losers = IdSet::default();
        for segment in &mut shard_plan.segments {
            segment.live = Bits::default();
        }
    }
    drop(spill);

    let packed = carry::carry(&mut sources, &shard_plans, &plan, writer, site)?;
    stages.end("carry").bytes(writer.bytes());

    let is_whole = consolidated.is_some_and(|done| done.carried_segments == 0);
    let shards = points
        .into_iter()
        .map(|(number, points)| BuiltShard {
            number,
            points,
            segments: packed.segments.get(&number).copied().unwrap_or(0),
            indexed_vectors: packed.indexed.get(&number).copied().unwrap_or(0),
        })
        .collect();
    let built = Built {
        shards,
        digest: None,
        carried: Some(CarriedCounts {
            // What is merged has its indexes built.
            rebuilt_indexes: match is_whole {
                true => Vec::new(),
                false => rebuilt,
            },
            consolidated,
            ..packed.carried
        }),
        tallies,
        changes,
        deciding_field,
    };
    Ok(Made {
        sources,
        plan,
        built,
        ledger,
    })
}

/// The shard plans of all sources, in the order of sources and shards.
fn shard_plans(
    sources: &mut [Source],
    plan: &Plan,
    payloads: &SegmentRewriter<'_>,
    spill: &Spill,
) -> Result<Vec<ShardPlan>> {
    let expected = Expectations {
        indexes: &plan.united.payload,
        rebuilt: payloads.rebuilt(),
        config: Some(&plan.united.config),
        vectors: payloads.vectors(),
        offsets: payloads.changes_payloads(),
    };
    let target = |at, number, what: &str| match plan.targets.get(&(at, number)) {
        Some(target) => Ok(plan.makes(*target).then_some(*target)),
        None => {
            let why = "the plan has no place for it";
            Err(Error::failed(format!("placing {what}"), why))
        }
    };
    plan_segments(sources, expected, spill, target)
}

/// A shard plan's points: the name of their source, and a key that the master does not have.
type Home = (String, Option<ShardKey>);

/// Decides who loses where more than one shard plan has an id.
struct Judge<'a> {
    policy: &'a Policy,
    /// By shard plan.
    homes: Vec<Home>,
    /// By shard plan.
    losers: Vec<IdSetBuilder>,
    ledger: &'a mut Ledger,
}

impl Judge<'_> {
    /// Decides the conflict of `id`, which the shard plans at the places `having` have, by these
    /// payloads of it.
    fn decide(
        &mut self,
        id: Identity,
        having: &[usize],
        payloads: &[&serde_json::Map<String, serde_json::Value>],
    ) -> Result<()> {
        let homes = having.iter().filter_map(|at| self.homes.get(*at).cloned());
        let homes: Vec<Home> = homes.collect();
        let words: Vec<&str> = homes.iter().map(|(name, _)| name.as_str()).collect();
        let winner = decide(self.policy, &id, payloads, &words)?.winner();
        for (place, shard_plan) in having.iter().enumerate() {
            if place != winner
                && let Some(losers) = self.losers.get_mut(*shard_plan)
            {
                losers.add(id.id, Some(0))?;
            }
        }
        let conflict = Conflict::new(id, homes, winner);
        let lacking = self.policy.lacking(payloads);
        self.ledger.conflict(conflict.lacking(&lacking))
    }
}

/// Calls `take` with the ids that more than one shard plan has.
fn conflicts(
    shard_plans: &[ShardPlan],
    plan: &Plan,
    mut take: impl FnMut(Identity, &[usize]) -> Result<()>,
) -> Result<()> {
    let keyed: Vec<(Option<ShardKey>, &IdSet)> = shard_plans
        .iter()
        .map(|shard_plan| (key_of(shard_plan, plan), &shard_plan.ids))
        .collect();
    overlaps_by_key(&keyed, |id, key, having| {
        let shard_key = key.cloned();
        take(Identity { id, shard_key }, having)
    })
}

/// The key of the points of `shard_plan` in the master.
fn key_of(shard_plan: &ShardPlan, plan: &Plan) -> Option<ShardKey> {
    plan.layout.keys.key_of(shard_plan.target).cloned()
}

/// Refuses points of one shard of the master, which is made by itself, that belong into another: whether that
/// has them too would not be seen.
fn refuse_strangers(sources: &[Source], shard_plans: &[ShardPlan], plan: &Plan) -> Result<()> {
    for shard_plan in shard_plans {
        let key = key_of(shard_plan, plan);
        let (ids, target) = (&shard_plan.ids, shard_plan.target);
        let (_, first) = plan.layout.strangers(ids, target, key.as_ref())?;
        if let Some(first) = first {
            let source = sources.get(shard_plan.source);
            let name = source.map(|source| source.name.as_str());
            return Err(stranger(first, name, target));
        }
    }
    Ok(())
}

/// Finds the ids that more than one shard plan has, and decides who loses.
fn resolve_conflicts(
    sources: &mut [Source],
    shard_plans: &mut [ShardPlan],
    plan: &Plan,
    settings: &Settings,
    ledger: &mut Ledger,
    rewriter: &mut ShardRewriter<'_>,
    spill: &Spill,
) -> Result<DecidingField> {
    let mut deciding_field = DecidingField::NotNeeded;
    let home = |shard_plan: &ShardPlan| -> Home {
        let source = sources.get(shard_plan.source);
        let key = source.and_then(|source| source.shard_keys.key_of(shard_plan.number).cloned());
        let name = source.map(|source| source.name.clone()).unwrap_or_default();
        (
            name,
            key.filter(|key| Some(key) != key_of(shard_plan, plan).as_ref()),
        )
    };
    let policy = &settings.union.on_conflict;
    let mut judge = Judge {
        policy,
        homes: shard_plans.iter().map(home).collect(),
        losers: shard_plans
            .iter()
            .map(|_| IdSetBuilder::new(spill))
            .collect(),
        ledger,
    };
    if policy.reads_payload() {
        // The field is read for the ids in conflict only, from the opened shards.
        let mut first = None;
        let mut involved: BTreeSet<usize> = BTreeSet::new();
        conflicts(shard_plans, plan, |id, having| {
            first.get_or_insert(id);
            involved.extend(having);
            Ok(())
        })?;
        let Some(first) = first else {
            return Ok(deciding_field);
        };
        for at in involved {
            if let Some(shard_plan) = shard_plans.get_mut(at) {
                shard_plan.because("a conflict is decided by a field of its points");
            }
        }
        rewriter.open_shards(sources, shard_plans)?;
        deciding_field = find_deciding_field(sources, shard_plans, settings, &first, rewriter)?;
        // Another shard may have it, if not all are made here.
        if plan.only.is_none() {
            deciding_field.clone().refuse_unknown()?;
        }
        let mut some: Vec<(Identity, Vec<usize>)> = Vec::new();
        conflicts(shard_plans, plan, |id, having| {
            some.push((id, having.to_vec()));
            if some.len() < COMPARED_AT_ONCE {
                return Ok(());
            }
            by_payload(std::mem::take(&mut some), shard_plans, rewriter, &mut judge)
        })?;
        by_payload(some, shard_plans, rewriter, &mut judge)?;
    } else {
        let nothing = serde_json::Map::new();
        conflicts(shard_plans, plan, |id, having| {
            judge.decide(id, having, &vec![&nothing; having.len()])
        })?;
    }
    for (shard_plan, mut losers) in shard_plans.iter_mut().zip(judge.losers) {
        shard_plan.lost = losers.end_segment(false)?.map_or(0, |count| count.ids);
        shard_plan.losers = losers.finish();
        if shard_plan.lost > 0 {
            shard_plan.because(&format!(
                "{} of its points lose a conflict",
                shard_plan.lost
            ));
        }
    }
    Ok(deciding_field)
}

/// Decides conflicts by the payloads of their points, which the opened shards have.
fn by_payload(
    some: Vec<(Identity, Vec<usize>)>,
    shard_plans: &[ShardPlan],
    rewriter: &ShardRewriter<'_>,
    judge: &mut Judge<'_>,
) -> Result<()> {
    let mut payloads: BTreeMap<(usize, PointId), serde_json::Map<_, _>> = BTreeMap::new();
    for (at, shard_plan) in shard_plans.iter().enumerate() {
        let ids: Vec<PointId> = some
            .iter()
            .filter(|(_, having)| having.contains(&at))
            .map(|(id, _)| id.id)
            .collect();
        if ids.is_empty() {
            continue;
        }
        let Some(shard) = rewriter.shard(shard_plan) else {
            return Err(Error::failed(
                format!("comparing points of shard {}", shard_plan.number),
                "its shard was not opened",
            ));
        };
        for record in shard.retrieve(&ids, Columns::PAYLOADS)? {
            payloads.insert((at, record.id), record.payload);
        }
    }
    let nothing = serde_json::Map::new();
    for (id, having) in some {
        let found: Vec<_> = having
            .iter()
            .map(|shard_plan| payloads.get(&(*shard_plan, id.id)).unwrap_or(&nothing))
            .collect();
        judge.decide(id, &having, &found)?;
    }
    Ok(())
}

/// Looks for the field by which conflicts, of which `first` is one, are decided. The shards in conflict are
/// opened; only if none of them has it, the others are too.
fn find_deciding_field(
    sources: &mut [Source],
    shard_plans: &mut [ShardPlan],
    settings: &Settings,
    first: &Identity,
    rewriter: &mut ShardRewriter<'_>,
) -> Result<DecidingField> {
    let Policy::Newest(field) = &settings.union.on_conflict else {
        return Ok(DecidingField::NotNeeded);
    };
    let find = |rewriter: &ShardRewriter<'_>, shard_plans: &[ShardPlan]| {
        let shards = shard_plans
            .iter()
            .filter_map(|shard_plan| rewriter.shard(shard_plan));
        let shards: Vec<_> = shards
            .map(|shard| stream::PointStream::new(0, shard, None))
            .collect();
        stream::find(field, &shards, &settings.union)
    };
    if let Found::Field = find(rewriter, shard_plans)? {
        return Ok(DecidingField::Found);
    }
    for shard_plan in &mut *shard_plans {
        shard_plan.because("it was looked for a field that no point in conflict has");
    }
    rewriter.open_shards(sources, shard_plans)?;
    Ok(match find(rewriter, shard_plans)? {
        Found::Field => DecidingField::Found,
        Found::Others(names) => DecidingField::Unknown(names.refuse(field, first)),
    })
}
