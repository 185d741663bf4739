//! The route `rebuild`: records are written into new shards offline, and indexed there.
//!
//! Invariants: vectors are stored bit by bit as they were read (see
//! [`ShardConfig::for_writing`]); what is to be written is digested on its way, so that what was
//! written can be compared with it; the number of a new operation always lies above every
//! segment's version.

use std::collections::BTreeMap;
use std::path::Path;

use super::built::{Built, BuiltShard, Made, Target};
use super::parts::Parts;
use super::plan::Plan;
use super::settings::Settings;
use super::write::{Making, Part, Writers};
use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::parallel::in_parallel;
use crate::base::progress::Unit;
use crate::base::scratch;
use crate::base::stage::Stages;
use crate::engine::{Shard, ShardConfig, closed_segments, restore_distances};
use crate::format::{PackedShard, SnapshotWriter, ToPack, Written, layout};
use crate::source::{OpenedShards, Purpose, Source};
use crate::stream::Ledger;
use crate::stream::Policy;
use crate::stream::Resolver;
use crate::stream::{Flow, Flowed};

/// Sources that are settled at once.
const AT_ONCE: usize = 2;

/// Builds the master of `plan` from `sources` and packs it into `target`, which is being read back.
pub fn rebuild(
    mut sources: Vec<Source>,
    plan: Plan,
    settings: &Settings,
    ledger: Ledger,
    target: Target,
    site: Workspace<'_>,
    stages: &mut Stages,
) -> Result<Made> {
    let settled = settle_all(&mut sources, settings, site, stages)?;
    let config = ShardConfig::new(&plan.united.config)?;
    let folder = site.scratch.folder("master")?;

    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let keeps_keys = !plan.layout.keys.is_empty();
    let mut resolver = Resolver::new(&settings.union, names, keeps_keys, ledger);
    let flow = Flow::new(&sources, &settled, &settings.union, keeps_keys)?;
    let Filled { parts, flowed } = write(
        &flow,
        &plan,
        settings,
        &config,
        &folder,
        &mut resolver,
        site,
    )?;
    stages
        .end("merge")
        .points(flowed.scanned)
        .bytes(flowed.bytes);

    drop(flow);

    // Their disk space is needed from here on.
    for (source, settled) in settled.into_iter().enumerate() {
        settled.discard()?;
        scratch::remove_folder(&site.scratch.path().join(source_folder(source)))?;
    }
    stages.end("clean up");

    let stage = site.progress.stage("index", None, Unit::None);
    let shards = finish_all(&parts, &plan)?;
    drop(stage);
    let points = flowed.digest.points();
    stages.end("index").points(points);

    let written = pack(&plan, &parts, target.file, &target.path, site)?;
    scratch::remove_folder(&folder)?;
    stages.end("pack").bytes(written.bytes());

    let (tallies, ledger, changes) = resolver.finish(flowed.counts);
    let built = Built {
        shards,
        digest: Some(flowed.digest),
        carried: None,
        tallies,
        changes,
    };
    Ok(Made {
        sources,
        plan,
        built,
        written,
        ledger,
    })
}

fn source_folder(source: usize) -> String {
    format!("source-{source}")
}

/// Settles the sources to be read; of a live one there is nothing to settle.
pub(super) fn settle_all(
    sources: &mut [Source],
    settings: &Settings,
    site: Workspace<'_>,
    stages: &mut Stages,
) -> Result<Vec<OpenedShards>> {
    sources.iter_mut().for_each(Source::forget);
    let purpose = match &settings.union.filter {
        Some(_) => Purpose::Filtering,
        None => Purpose::Reading,
    };
    let total = sources
        .iter()
        .map(|source| source.snapshot.file_bytes)
        .sum();
    let stage = site.progress.stage("settle", Some(total), Unit::Bytes);
    let settled = in_parallel(sources.iter_mut().enumerate(), AT_ONCE, |(at, source)| {
        let folder = site.scratch.folder(&source_folder(at))?;
        source.settle(&folder, purpose, Some(stage.counter()))
    })?;
    stages.end("settle").bytes(total);
    Ok(settled)
}

/// The master's shards, filled.
struct Filled {
    /// Written parts of all shards.
    parts: Vec<Part>,
    flowed: Flowed,
}

fn write(
    flow: &Flow<'_>,
    plan: &Plan,
    settings: &Settings,
    config: &ShardConfig,
    folder: &Path,
    resolver: &mut Resolver<'_>,
    site: Workspace<'_>,
) -> Result<Filled> {
    let total = flow.total();
    let stage = site.progress.stage("merge", Some(total), Unit::Points);
    let writing = config.for_writing();
    // A new id may be one that comes later; only within one part the engine finds that out.
    let at_most = if config.stays_plain() && settings.union.on_conflict != Policy::Remap {
        config.segments_max()
    } else {
        1
    };
    let parts = Parts::new(total / plan.layout.shards.len().max(1) as u64, at_most);

    std::thread::scope(|scope| {
        let making = Making {
            folder,
            config: &writing,
            indexes: &plan.united.payload,
            parts,
        };
        let mut writers = Writers::start(scope, &plan.layout, making)?;
        let flowed = flow.run(resolver, &stage, |record, _| writers.write(record))?;
        let parts = writers.finish()?;
        Ok(Filled { parts, flowed })
    })
}

/// Finishes every part; returns the shards that they make.
fn finish_all(parts: &[Part], plan: &Plan) -> Result<Vec<BuiltShard>> {
    let mut shards: BTreeMap<u32, BuiltShard> = BTreeMap::new();
    for part in parts {
        let indexed_vectors = finish(part, plan)?;
        let shard = shards.entry(part.number).or_insert_with(|| BuiltShard {
            number: part.number,
            points: 0,
            segments: 0,
            indexed_vectors: 0,
        });
        shard.points += part.points;
        shard.segments += closed_segments(&part.folder)?.len() as u64;
        shard.indexed_vectors += indexed_vectors;
    }
    Ok(shards.into_values().collect())
}

/// Gives a written part its distances and indexes; returns how many vectors lie in one.
fn finish(part: &Part, plan: &Plan) -> Result<u64> {
    let Part {
        number,
        folder,
        points,
    } = part;
    let config = ShardConfig::for_points(&plan.united.config, *points)?;
    restore_distances(folder, &config)?;
    if config.stays_plain() {
        return Ok(0);
    }
    let what = format!("shard {number} of the master");
    let shard = Shard::reopen(folder, &config.without_log(), what)?;
    shard.optimize()?;
    let indexed_vectors = shard.indexed_vectors()?;
    let counted = shard.count(None)?;
    if counted != *points {
        return Err(Error::failed(
            format!("indexing shard {number} of the master"),
            format!("it had {points} points before and {counted} after"),
        ));
    }
    shard.close()?;
    Ok(indexed_vectors)
}

/// Packs the finished parts, which come by their shards.
fn pack(
    plan: &Plan,
    parts: &[Part],
    target: std::fs::File,
    target_path: &Path,
    site: Workspace<'_>,
) -> Result<Written> {
    let _stage = site.progress.stage("pack", None, Unit::None);
    let mut carrier = SnapshotWriter::new(target, target_path)?;
    for parts in parts.chunk_by(|a, b| a.number == b.number) {
        let mut version_max = 0;
        for part in parts {
            for segment in closed_segments(&part.folder)? {
                let path = layout::segment_tar(part.number, segment.uuid);
                carrier.segment(&path, &ToPack::measure(segment.folder)?)?;
                version_max = version_max.max(segment.version);
            }
        }
        if let Some(part) = parts.first() {
            carrier.shard(PackedShard {
                number: part.number,
                version_max,
            })?;
        }
    }
    let united = &plan.united;
    carrier.finish(
        united.config.raw(),
        &plan.layout.keys,
        &united.payload.to_json(),
    )
}
