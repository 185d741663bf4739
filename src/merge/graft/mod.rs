//! The route `graft`: segments carried over whole, with their graphs.
//!
//! A shard is a set of segments, so the shards of several sources become one by lying side by side.
//! Nothing is indexed again, and a segment's bytes go from tar to tar without being unpacked.
//!
//! Invariants: a segment travels untouched only if its shard's log holds nothing that the segments
//! do not, none of its points loses a conflict, and it has every payload index of the master; a log
//! that only writes points becomes a segment beside them; every other shard is settled in scratch,
//! changed by the engine, and packed again. Where payloads or payload indexes are to change, they are all
//! that changes of a segment. An id is in one source's segments only. The log of a
//! master begins above every segment's version.

mod carry;
mod payloads;
mod rewrite;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Instant;

use self::payloads::PayloadRewriter;
use self::rewrite::ShardRewriter;
use super::built::{Built, BuiltShard, Made};
use super::carried::{CarriedCounts, Consolidated};
use super::plan::Plan;
use super::settings::Settings;
use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::progress::Unit;
use crate::base::stage::StageReport;
use crate::engine::Columns;
use crate::format::Bits;
use crate::point::{Identity, PointId, ShardKey};
use crate::source::Source;
use crate::stream::{self, Found, Policy, decide};
use crate::stream::{Conflict, Expectations, Ledger};
use crate::stream::{ShardPlan, Tally, overlaps_by_key, plan_segments, refuse_misplaced};

/// Conflicts that are compared at once under [`crate::stream::Policy::Newest`].
const COMPARED_AT_ONCE: usize = 512;

/// Builds the master of `plan` out of the segments of `sources` and packs it into `target`, a new
/// file called `target_path`. The plan is corrected where it could only estimate. The sources were opened with their id trackers and logs.
pub fn graft(
    mut sources: Vec<Source>,
    mut plan: Plan,
    settings: &Settings,
    mut ledger: Ledger,
    target: File,
    target_path: &Path,
    site: Workspace<'_>,
) -> Result<Made> {
    let mut stages = Vec::new();
    let started = Instant::now();
    let stage = site.progress.stage("find conflicts", None, Unit::None);
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let payloads = PayloadRewriter::new(site, &plan.united.payload, settings, &names);
    let mut shard_plans = shard_plans(&mut sources, &plan, &payloads)?;
    let mut rewriter = ShardRewriter::new(site, &plan, &payloads);
    // Entries still in the log decide which ids exist.
    if settings.consolidate {
        for shard_plan in &mut shard_plans {
            shard_plan.because("--consolidate merges its segments");
        }
    }
    rewriter.settle(&mut sources, &mut shard_plans)?;
    rewriter.settle_tails(&sources, &mut shard_plans)?;
    // Logs of which the engine refuses a part do not become segments.
    rewriter.settle(&mut sources, &mut shard_plans)?;
    refuse_misplaced(&sources, &shard_plans)?;
    resolve_conflicts(
        &mut sources,
        &mut shard_plans,
        &plan,
        settings,
        &mut ledger,
        &mut rewriter,
    )?;
    drop(stage);
    let mut tallies = vec![Tally::default(); sources.len()];
    let mut points: BTreeMap<u32, u64> = plan.layout.shards.iter().map(|n| (*n, 0)).collect();
    let mut ids = 0;
    for shard_plan in &shard_plans {
        let (have, lose) = (shard_plan.ids.len() as u64, shard_plan.losers.len() as u64);
        ids += have;
        *points.entry(shard_plan.target).or_default() += have - lose;
        if let Some(tally) = tallies.get_mut(shard_plan.source) {
            tally.read += have;
            tally.lost += lose;
            tally.won += have - lose;
        }
    }
    stages.push(StageReport::new("find", started).points(ids));

    let started = Instant::now();
    rewriter.settle(&mut sources, &mut shard_plans)?;
    let mut consolidated = None;
    let settled_bytes = if settings.consolidate {
        let (bytes, before, after) = rewriter.consolidate(&mut shard_plans)?;
        consolidated = Some(Consolidated {
            segments_before: before,
            segments_after: after,
        });
        bytes
    } else {
        rewriter.finish(&mut shard_plans)?
    };
    if rewriter.was_used() {
        stages.push(StageReport::new("settle", started).bytes(settled_bytes));
    }
    let started = Instant::now();
    if payloads.is_needed() {
        let bytes = payloads.splice(&sources, &mut shard_plans)?;
        stages.push(StageReport::new("rewrite", started).bytes(bytes));
    }
    let (changes, rebuilt) = payloads.finish();
    // Settling may have made segments that nobody knew of when this was planned.
    if let Some(mut kept) = plan.kept {
        let mut by_target: BTreeMap<u32, u64> = BTreeMap::new();
        for shard_plan in &shard_plans {
            *by_target.entry(shard_plan.target).or_default() += shard_plan.segments.len() as u64;
        }
        let most = by_target.values().copied().max().unwrap_or(0);
        kept.allow(most, &mut plan.united, &mut plan.notes)?;
        plan.kept = Some(kept);
    }
    // Only their number is needed from here on.
    for shard_plan in &mut shard_plans {
        shard_plan.ids = Vec::new();
        shard_plan.losers = Vec::new();
        for segment in &mut shard_plan.segments {
            segment.live = Bits::default();
        }
    }

    let started = Instant::now();
    let packed = carry::carry(&mut sources, &shard_plans, &plan, target, target_path, site)?;
    stages.push(StageReport::new("carry", started).bytes(packed.written.bytes()));

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
            consolidated,
            rebuilt_indexes: rebuilt,
            ..packed.carried
        }),
        tallies,
        changes,
        stages,
    };
    Ok(Made {
        sources,
        plan,
        built,
        written: packed.written,
        ledger,
    })
}

/// The shard plans of all sources, in the order of sources and shards.
fn shard_plans(
    sources: &mut [Source],
    plan: &Plan,
    payloads: &PayloadRewriter<'_>,
) -> Result<Vec<ShardPlan>> {
    let expected = Expectations {
        indexes: &plan.united.payload,
        rebuilt: payloads.rebuilt(),
        config: Some(&plan.united.config),
        offsets: payloads.changes_payloads(),
    };
    plan_segments(sources, expected, |at, number, what| {
        plan.targets
            .get(&(at, number))
            .copied()
            .ok_or_else(|| Error::failed(format!("placing {what}"), "the plan has no place for it"))
    })
}

/// Finds the ids that more than one shard plan has, and decides who loses.
fn resolve_conflicts(
    sources: &mut [Source],
    shard_plans: &mut [ShardPlan],
    plan: &Plan,
    settings: &Settings,
    ledger: &mut Ledger,
    rewriter: &mut ShardRewriter<'_>,
) -> Result<()> {
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let mut losers: Vec<Vec<PointId>> = vec![Vec::new(); shard_plans.len()];
    let mut undecided: Vec<(Identity, Vec<usize>)> = Vec::new();
    let key_of = |shard_plan: &ShardPlan| plan.layout.keys.key_of(shard_plan.target).cloned();
    // Origin of each shard plan's points: the source's name, and a key that the master does not have.
    let homes: Vec<(String, Option<ShardKey>)> = shard_plans
        .iter()
        .map(|shard_plan| {
            let source = sources.get(shard_plan.source);
            let key =
                source.and_then(|source| source.shard_keys.key_of(shard_plan.number).cloned());
            let name = names.get(shard_plan.source).cloned().unwrap_or_default();
            (
                name,
                key.filter(|key| Some(key) != key_of(shard_plan).as_ref()),
            )
        })
        .collect();
    let homes_of = |having: &[usize]| -> Vec<(String, Option<ShardKey>)> {
        let having = having
            .iter()
            .filter_map(|shard_plan| homes.get(*shard_plan).cloned());
        having.collect()
    };
    let keyed: Vec<(Option<ShardKey>, &[PointId])> = shard_plans
        .iter()
        .map(|shard_plan| (key_of(shard_plan), shard_plan.ids.as_slice()))
        .collect();
    overlaps_by_key(&keyed, |id, key, having| {
        let id = Identity {
            id,
            shard_key: key.cloned(),
        };
        if settings.union.on_conflict.reads_payload() {
            undecided.push((id, having.to_vec()));
            return Ok(());
        }
        let homes = homes_of(having);
        let words: Vec<&str> = homes.iter().map(|(name, _)| name.as_str()).collect();
        let nothing = serde_json::Map::new();
        let payloads = vec![&nothing; having.len()];
        let verdict = decide(&settings.union.on_conflict, &id, &payloads, &words)?;
        let winner = verdict.winner();
        lose(
            Conflict::new(id, homes, winner),
            winner,
            having,
            &mut losers,
            ledger,
        )
    })?;
    drop(keyed);
    if !undecided.is_empty() {
        // The field is read for the ids in conflict only, from the settled shards.
        for (_, having) in &undecided {
            for shard_plan in having {
                if let Some(shard_plan) = shard_plans.get_mut(*shard_plan) {
                    shard_plan.because("a conflict is decided by a field of its points");
                }
            }
        }
        rewriter.settle(sources, shard_plans)?;
        refuse_unknown_field(sources, shard_plans, settings, &undecided, rewriter)?;
        for some in undecided.chunks(COMPARED_AT_ONCE) {
            let columns = Columns {
                vectors: false,
                payload: true,
            };
            let mut payloads: BTreeMap<(usize, PointId), serde_json::Map<_, _>> = BTreeMap::new();
            for (at, shard_plan) in shard_plans.iter().enumerate() {
                let ids: Vec<PointId> = some
                    .iter()
                    .filter(|(_, having)| having.contains(&at))
                    .map(|(id, _)| id.id)
                    .collect();
                if let (Some(shard), false) = (rewriter.shard(shard_plan), ids.is_empty()) {
                    for record in shard.retrieve(&ids, columns)? {
                        payloads.insert((at, record.id), record.payload);
                    }
                }
            }
            for (id, having) in some {
                let nothing = serde_json::Map::new();
                let found: Vec<_> = having
                    .iter()
                    .map(|shard_plan| payloads.get(&(*shard_plan, id.id)).unwrap_or(&nothing))
                    .collect();
                let homes = homes_of(having);
                let words: Vec<&str> = homes.iter().map(|(name, _)| name.as_str()).collect();
                let policy = &settings.union.on_conflict;
                let winner = decide(policy, id, &found, &words)?.winner();
                let conflict = Conflict::new(id.clone(), homes, winner);
                let conflict = conflict.lacking(&policy.lacking(&found));
                lose(conflict, winner, having, &mut losers, ledger)?;
            }
        }
    }
    for (shard_plan, losers) in shard_plans.iter_mut().zip(losers) {
        if !losers.is_empty() {
            shard_plan.because(&format!("{} of its points lose a conflict", losers.len()));
        }
        shard_plan.losers = losers;
    }
    Ok(())
}

/// Refuses a field that no record of any source has. The shards in conflict are settled; only if none of
/// them has it, the others are too.
fn refuse_unknown_field(
    sources: &mut [Source],
    shard_plans: &mut [ShardPlan],
    settings: &Settings,
    undecided: &[(Identity, Vec<usize>)],
    rewriter: &mut ShardRewriter<'_>,
) -> Result<()> {
    let (Policy::Newest(field), Some((id, _))) = (&settings.union.on_conflict, undecided.first())
    else {
        return Ok(());
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
        return Ok(());
    }
    for shard_plan in &mut *shard_plans {
        shard_plan.because("it was looked for a field that no point in conflict has");
    }
    rewriter.settle(sources, shard_plans)?;
    match find(rewriter, shard_plans)? {
        Found::Field => Ok(()),
        Found::Others(names) => Err(names.refuse(field, id)),
    }
}

/// Takes down that the records at the places `having` lose `conflict`, but for the one at `winner`.
fn lose(
    conflict: Conflict,
    winner: usize,
    having: &[usize],
    losers: &mut [Vec<PointId>],
    ledger: &mut Ledger,
) -> Result<()> {
    for (place, shard_plan) in having.iter().enumerate() {
        if place != winner
            && let Some(losers) = losers.get_mut(*shard_plan)
        {
            losers.push(conflict.id.id);
        }
    }
    ledger.conflict(conflict)
}
