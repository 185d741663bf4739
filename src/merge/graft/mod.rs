//! The route `graft`: segments carried over whole, with their graphs.
//!
//! A shard is a set of segments, so the shards of several sources become one by lying side by side.
//! Nothing is indexed again, and a segment's bytes go from tar to tar without being unpacked.
//!
//! Keeps true: a segment travels untouched only if its shard's log holds nothing that the segments
//! do not, none of its points loses a conflict, and it has every payload index of the master; a log
//! that only writes points becomes a segment beside them; every other shard is settled in scratch, changed by the engine, and packed again. An id is in one
//! source's segments only. The log of a master begins above every segment's version.

mod carry;
mod look;
mod overlap;
mod placement;
mod settle;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

pub use self::look::{Lane as ShardLane, look_into};
pub use self::overlap::overlaps;

use self::look::Lane;
use self::settle::Workshop;
use super::conflict::{Policy, Verdict, decide};
use super::ledger::{Conflict, Ledger};
use super::plan::{Plan, Settings};
use super::rebuild::{Built, BuiltShard, Site};
use super::resolve::Tally;
use crate::engine::Columns;
use crate::error::Result;
use crate::point::PointId;
use crate::report::merge::StageReport;
use crate::report::progress::Unit;
use crate::snapshot::Written;
use crate::source::Source;

/// Conflicts that are compared at once under [`Policy::Newest`].
const COMPARED_AT_ONCE: usize = 512;

/// How segments travelled.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Carried {
    /// Segments whose bytes went from a source to the master untouched.
    pub untouched_segments: u64,
    /// Their bytes.
    pub untouched_bytes: u64,
    /// Segments of shards that were settled and packed again.
    pub settled_segments: u64,
    /// Their bytes in the master.
    pub settled_bytes: u64,
    /// Which shards were settled, and why.
    pub settled: Vec<String>,
    /// Which logs became segments of their own, and their entries.
    pub tails: Vec<String>,
    /// What a server will index in the background, because it comes without a graph and is large
    /// enough for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_index: Option<ToIndex>,
    /// What `--consolidate` did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consolidated: Option<Consolidated>,
}

/// Segments that a server will index.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct ToIndex {
    /// How many.
    pub segments: u64,
    /// Their points.
    pub points: u64,
}

/// What merging a master's segments offline did.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Consolidated {
    /// Segments that the sources brought.
    pub segments_before: u64,
    /// Segments that the master has.
    pub segments_after: u64,
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |bytes| humansize::format_size(bytes, humansize::BINARY);
        write!(
            f,
            "{} segments ({}) untouched",
            self.untouched_segments,
            size(self.untouched_bytes)
        )?;
        if self.settled_segments > 0 {
            write!(
                f,
                ", {} ({}) settled in scratch and packed again",
                self.settled_segments,
                size(self.settled_bytes)
            )?;
        }
        if let Some(done) = &self.consolidated {
            write!(
                f,
                "; {} segments consolidated into {}",
                done.segments_before, done.segments_after
            )?;
        }
        if let Some(ToIndex { segments, points }) = self.to_index {
            write!(
                f,
                "\n           {segments} segments with {points} points have no graph yet and are large \
                 enough for one: a server builds it in the background"
            )?;
        }
        for tail in &self.tails {
            write!(
                f,
                "\n           entries of the log that became a segment: {tail}"
            )?;
        }
        for settled in &self.settled {
            write!(f, "\n           settled: {settled}")?;
        }
        Ok(())
    }
}

/// Builds the master of `plan` out of the segments of `sources` and packs it into `target`, a new
/// file called `target_path`. The plan is corrected where it could only estimate. The sources were opened with their id trackers and logs.
pub fn graft(
    sources: &mut [Source],
    plan: &mut Plan,
    settings: &Settings,
    mut ledger: Ledger,
    target: File,
    target_path: &Path,
    site: Site<'_>,
) -> Result<(Built, Written, Ledger)> {
    let mut stages = Vec::new();
    let started = Instant::now();
    let stage = site.progress.stage("find conflicts", None, Unit::None);
    let mut lanes = look::lanes(sources, plan)?;
    let mut workshop = Workshop::new(site, plan);
    // What the log still holds decides which ids there are.
    if settings.consolidate {
        for lane in &mut lanes {
            lane.because("--consolidate merges its segments");
        }
    }
    workshop.settle(sources, &mut lanes)?;
    workshop.settle_tails(sources, &mut lanes)?;
    placement::refuse_misplaced(sources, &lanes)?;
    meet(sources, &mut lanes, settings, &mut ledger, &mut workshop)?;
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
    workshop.settle(sources, &mut lanes)?;
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
    let packed = carry::carry(sources, &lanes, plan, target, target_path, site)?;
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
        restamped: 0,
        stages,
    };
    Ok((built, packed.written, ledger))
}

/// Finds the ids that more than one lane has, and decides who loses.
fn meet(
    sources: &mut [Source],
    lanes: &mut [Lane],
    settings: &Settings,
    ledger: &mut Ledger,
    workshop: &mut Workshop<'_>,
) -> Result<()> {
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let mut losers: Vec<Vec<PointId>> = vec![Vec::new(); lanes.len()];
    let mut undecided: Vec<(PointId, Vec<usize>)> = Vec::new();
    let name = |lanes: &[Lane], lane: usize| -> String {
        lanes
            .get(lane)
            .and_then(|lane| names.get(lane.source))
            .cloned()
            .unwrap_or_default()
    };
    let slices: Vec<&[PointId]> = lanes.iter().map(|lane| lane.ids.as_slice()).collect();
    overlap::overlaps(&slices, |id, having| {
        if let Policy::Newest(_) = settings.on_conflict {
            undecided.push((id, having.to_vec()));
            return Ok(());
        }
        let having_names: Vec<String> = having.iter().map(|lane| name(lanes, *lane)).collect();
        let words: Vec<&str> = having_names.iter().map(String::as_str).collect();
        let nothing = serde_json::Map::new();
        let payloads = vec![&nothing; having.len()];
        let verdict = decide(&settings.on_conflict, id, &payloads, &words)?;
        lose(id, having, verdict, &having_names, &mut losers, ledger)
    })?;
    drop(slices);
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
                    .map(|(id, _)| *id)
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
                    .map(|lane| payloads.get(&(*lane, *id)).unwrap_or(&nothing))
                    .collect();
                let having_names: Vec<String> =
                    having.iter().map(|lane| name(lanes, *lane)).collect();
                let words: Vec<&str> = having_names.iter().map(String::as_str).collect();
                let verdict = decide(&settings.on_conflict, *id, &found, &words)?;
                lose(*id, having, verdict, &having_names, &mut losers, ledger)?;
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

fn lose(
    id: PointId,
    having: &[usize],
    verdict: Verdict,
    names: &[String],
    losers: &mut [Vec<PointId>],
    ledger: &mut Ledger,
) -> Result<()> {
    // Remapping changes records, so a plan never comes here with it.
    let winner = match verdict {
        Verdict::Wins(place) => place,
        Verdict::Remapped => 0,
    };
    for (place, lane) in having.iter().enumerate() {
        if place != winner
            && let Some(losers) = losers.get_mut(*lane)
        {
            losers.push(id);
        }
    }
    ledger.add(Conflict {
        id,
        sources: names.to_vec(),
        winner: names.get(winner).cloned().unwrap_or_default(),
        remapped: Vec::new(),
    })
}
