//! The route `graft`: segments carried over whole, with their graphs.
//!
//! A shard is a set of segments, so the shards of several sources become one by lying side by side.
//! Nothing is indexed again, and a segment's bytes go from tar to tar without being unpacked.
//!
//! Invariants: a segment travels untouched only if its shard's log holds nothing that the segments
//! do not, none of its points loses a conflict, and it has every payload index of the master; a log
//! that only writes points becomes a segment beside them; every other shard is settled in scratch,
//! changed by the engine, and packed again. An id is in one source's segments only. The log of a
//! master begins above every segment's version.

mod carry;
mod settle;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Instant;

use self::settle::Workshop;
use super::built::{Built, BuiltShard, Made};
use super::carried::{Carried, Consolidated};
use super::plan::Plan;
use super::settings::Settings;
use crate::base::Site;
use crate::base::error::{Error, Result};
use crate::base::progress::Unit;
use crate::base::stage::StageReport;
use crate::engine::Columns;
use crate::point::{Identity, PointId, ShardKey};
use crate::source::Source;
use crate::stream::{self, Found, Policy, decide};
use crate::stream::{Changed, Conflict, Ledger};
use crate::stream::{ShardLane as Lane, Tally, look_into, overlaps_by_key, refuse_misplaced};

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
    site: Site<'_>,
) -> Result<Made> {
    let mut stages = Vec::new();
    let started = Instant::now();
    let stage = site.progress.stage("find conflicts", None, Unit::None);
    let mut lanes = lanes(&mut sources, &plan)?;
    let mut workshop = Workshop::new(site, &plan);
    // Entries still in the log decide which ids exist.
    if settings.consolidate {
        for lane in &mut lanes {
            lane.because("--consolidate merges its segments");
        }
    }
    workshop.settle(&mut sources, &mut lanes)?;
    workshop.settle_tails(&sources, &mut lanes)?;
    // Logs of which the engine refuses a part do not become segments.
    workshop.settle(&mut sources, &mut lanes)?;
    refuse_misplaced(&sources, &lanes)?;
    resolve_conflicts(
        &mut sources,
        &mut lanes,
        &plan,
        settings,
        &mut ledger,
        &mut workshop,
    )?;
    drop(stage);
    let mut tallies = vec![Tally::default(); sources.len()];
    let mut points: BTreeMap<u32, u64> = plan.layout.shards.iter().map(|n| (*n, 0)).collect();
    let mut ids = 0;
    for lane in &lanes {
        let (have, lose) = (lane.ids.len() as u64, lane.losers.len() as u64);
        ids += have;
        *points.entry(lane.target).or_default() += have - lose;
        if let Some(tally) = tallies.get_mut(lane.source) {
            tally.read += have;
            tally.lost += lose;
            tally.won += have - lose;
        }
    }
    stages.push(StageReport::new("find", started).points(ids));

    let started = Instant::now();
    workshop.settle(&mut sources, &mut lanes)?;
    let mut consolidated = None;
    let settled_bytes = if settings.consolidate {
        let (bytes, before, after) = workshop.consolidate(&mut lanes)?;
        consolidated = Some(Consolidated {
            segments_before: before,
            segments_after: after,
        });
        bytes
    } else {
        workshop.finish(&mut lanes)?
    };
    if workshop.was_used() {
        stages.push(StageReport::new("settle", started).bytes(settled_bytes));
    }
    // Settling may have made segments that nobody knew of when this was planned.
    if let Some(mut kept) = plan.kept {
        let mut by_target: BTreeMap<u32, u64> = BTreeMap::new();
        for lane in &lanes {
            *by_target.entry(lane.target).or_default() += lane.segments.len() as u64;
        }
        let most = by_target.values().copied().max().unwrap_or(0);
        kept.allow(most, &mut plan.united, &mut plan.notes)?;
        plan.kept = Some(kept);
    }
    // Only their number is needed from here on.
    for lane in &mut lanes {
        lane.ids = Vec::new();
        lane.losers = Vec::new();
    }

    let started = Instant::now();
    let packed = carry::carry(&mut sources, &lanes, &plan, target, target_path, site)?;
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
        carried: Some(Carried {
            consolidated,
            ..packed.carried
        }),
        tallies,
        changes: Changed::default(),
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

/// The lanes of all sources, in the order of sources and shards.
fn lanes(sources: &mut [Source], plan: &Plan) -> Result<Vec<Lane>> {
    let config = Some(&plan.united.config);
    look_into(sources, &plan.united.payload, config, |at, number, what| {
        plan.targets
            .get(&(at, number))
            .copied()
            .ok_or_else(|| Error::failed(format!("placing {what}"), "the plan has no place for it"))
    })
}

/// Finds the ids that more than one lane has, and decides who loses.
fn resolve_conflicts(
    sources: &mut [Source],
    lanes: &mut [Lane],
    plan: &Plan,
    settings: &Settings,
    ledger: &mut Ledger,
    workshop: &mut Workshop<'_>,
) -> Result<()> {
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let mut losers: Vec<Vec<PointId>> = vec![Vec::new(); lanes.len()];
    let mut undecided: Vec<(Identity, Vec<usize>)> = Vec::new();
    let key_of = |lane: &Lane| plan.layout.keys.key_of(lane.target).cloned();
    // Origin of each lane's points: the source's name, and a key that the master does not have.
    let homes: Vec<(String, Option<ShardKey>)> = lanes
        .iter()
        .map(|lane| {
            let source = sources.get(lane.source);
            let key = source.and_then(|source| source.shard_keys.key_of(lane.number).cloned());
            let name = names.get(lane.source).cloned().unwrap_or_default();
            (name, key.filter(|key| Some(key) != key_of(lane).as_ref()))
        })
        .collect();
    let homes_of = |having: &[usize]| -> Vec<(String, Option<ShardKey>)> {
        let having = having.iter().filter_map(|lane| homes.get(*lane).cloned());
        having.collect()
    };
    let keyed: Vec<(Option<ShardKey>, &[PointId])> = lanes
        .iter()
        .map(|lane| (key_of(lane), lane.ids.as_slice()))
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
            for lane in having {
                if let Some(lane) = lanes.get_mut(*lane) {
                    lane.because("a conflict is decided by a field of its points");
                }
            }
        }
        workshop.settle(sources, lanes)?;
        refuse_unknown_field(sources, lanes, settings, &undecided, workshop)?;
        for some in undecided.chunks(COMPARED_AT_ONCE) {
            let columns = Columns {
                vectors: false,
                payload: true,
            };
            let mut payloads: BTreeMap<(usize, PointId), serde_json::Map<_, _>> = BTreeMap::new();
            for (at, lane) in lanes.iter().enumerate() {
                let ids: Vec<PointId> = some
                    .iter()
                    .filter(|(_, having)| having.contains(&at))
                    .map(|(id, _)| id.id)
                    .collect();
                if let (Some(shard), false) = (workshop.shard(lane), ids.is_empty()) {
                    for record in shard.retrieve(&ids, columns)? {
                        payloads.insert((at, record.id), record.payload);
                    }
                }
            }
            for (id, having) in some {
                let nothing = serde_json::Map::new();
                let found: Vec<_> = having
                    .iter()
                    .map(|lane| payloads.get(&(*lane, id.id)).unwrap_or(&nothing))
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
    for (lane, losers) in lanes.iter_mut().zip(losers) {
        if !losers.is_empty() {
            lane.because(&format!("{} of its points lose a conflict", losers.len()));
        }
        lane.losers = losers;
    }
    Ok(())
}

/// Refuses a field that no record of any source has. The shards in conflict are settled; only if none of
/// them has it, the others are too.
fn refuse_unknown_field(
    sources: &mut [Source],
    lanes: &mut [Lane],
    settings: &Settings,
    undecided: &[(Identity, Vec<usize>)],
    workshop: &mut Workshop<'_>,
) -> Result<()> {
    let (Policy::Newest(field), Some((id, _))) = (&settings.union.on_conflict, undecided.first())
    else {
        return Ok(());
    };
    let find = |workshop: &Workshop<'_>, lanes: &[Lane]| {
        let shards = lanes.iter().filter_map(|lane| workshop.shard(lane));
        let shards: Vec<_> = shards
            .map(|shard| stream::Lane::new(0, shard, None))
            .collect();
        stream::find(field, &shards, &settings.union)
    };
    if let Found::Field = find(workshop, lanes)? {
        return Ok(());
    }
    for lane in &mut *lanes {
        lane.because("it was looked for a field that no point in conflict has");
    }
    workshop.settle(sources, lanes)?;
    match find(workshop, lanes)? {
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
    for (place, lane) in having.iter().enumerate() {
        if place != winner
            && let Some(losers) = losers.get_mut(*lane)
        {
            losers.push(conflict.id.id);
        }
    }
    ledger.conflict(conflict)
}
