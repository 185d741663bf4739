//! The route `rebuild`: records are written into new shards offline, and indexed there.
//!
//! Invariants: every record that comes out of the flow is written, in its order, and digested on its way.

use std::collections::BTreeMap;
use std::path::Path;

use super::built::{Built, Made};
use super::making::{Making, stranger};
use super::members::{MemberWriter, Place};
use super::plan::Plan;
use super::runs::Runs;
use super::settings::Settings;
use crate::base::Workspace;
use crate::base::error::Result;
use crate::base::progress::Unit;
use crate::base::scratch;
use crate::base::stage::Stages;
use crate::build::{self, BuiltShard, Packing, Part, Parts, Shape};
use crate::source::{OpenedShards, Purpose, Source};
use crate::stream::{
    DecidingField, Flow, Flowed, Ledger, Opened, Policy, Reads, Resolver, close_all, open_all,
};

/// Beginning of the names of the folders that sources are opened in.
const SOURCES: &str = "source";

/// Builds the shards of the master of `plan` from `sources` and packs them with `writer`.
pub fn rebuild(making: Making<'_>) -> Result<Made> {
    let Making {
        mut sources,
        mut plan,
        settings,
        ledger,
        writer,
        site,
        stages,
    } = making;
    let open_shards = open_sources(&mut sources, &plan, settings, site, stages)?;
    let folder = site.scratch.folder("master")?;

    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let keeps_keys = !plan.layout.keys.is_empty();
    let mut resolver = Resolver::new(&settings.union, names, ledger);
    let (flow, deciding_field) =
        Flow::of_part(&sources, &open_shards, &settings.union, keeps_keys)?;
    // Another shard may have it, if not all are made here.
    if plan.only.is_none() {
        deciding_field.clone().refuse_unknown()?;
    }
    plan.lay_out_by_field(&flow, &sources, settings, site)?;
    let (parts, flowed) = write(&flow, &plan, settings, &folder, &mut resolver, site)?;
    stages
        .end("merge")
        .points(flowed.scanned)
        .bytes(flowed.bytes);

    drop(flow);

    // Their disk space is needed from here on.
    close_all(open_shards, SOURCES, site)?;
    stages.end("clean up");

    let shards = complete(&parts, &plan, &folder, writer, site, stages)?;
    let (built, ledger) = built(shards, flowed, resolver, deciding_field);
    Ok(Made {
        sources,
        plan,
        built,
        ledger,
    })
}

/// Builds the shard `shard` of the master of `plan` from `runs` and packs it with `writer`.
pub fn rebuild_of_runs(making: Making<'_>, shard: u32, runs: Runs<'_>) -> Result<Made> {
    let Making {
        sources,
        plan,
        settings,
        ledger,
        writer,
        site,
        stages,
    } = making;
    let folder = site.scratch.folder("master")?;
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let mut resolver = Resolver::new(&settings.union, names, ledger);
    let keeps_keys = !plan.layout.keys.is_empty();
    let records = runs.records(shard, &plan.layout, &sources);
    let streams = (records.iter()).map(|one| one.stream(&sources, &settings.union, keeps_keys));
    let (flow, deciding_field) =
        Flow::of_streams(streams.collect(), sources.len(), &settings.union)?;
    let (parts, flowed) = write(&flow, &plan, settings, &folder, &mut resolver, site)?;
    drop(flow);
    stages
        .end("merge")
        .points(flowed.scanned)
        .bytes(flowed.bytes);
    let shards = complete(&parts, &plan, &folder, writer, site, stages)?;
    let (built, ledger) = built(shards, flowed, resolver, deciding_field);
    drop(records);
    Ok(Made {
        sources,
        plan,
        built,
        ledger,
    })
}

/// The statistics of `shards`, and the conflicts.
fn built(
    shards: Vec<BuiltShard>,
    flowed: Flowed,
    resolver: Resolver<'_>,
    deciding_field: DecidingField,
) -> (Built, Ledger) {
    let (tallies, ledger, changes) = resolver.finish(flowed.counts);
    let built = Built {
        shards,
        digest: Some(flowed.digest),
        carried: None,
        tallies,
        changes,
        deciding_field,
    };
    (built, ledger)
}

/// Indexes and packs the `parts`, which are all that is in `folder`.
fn complete(
    parts: &[Part],
    plan: &Plan,
    folder: &Path,
    writer: &mut MemberWriter,
    site: Workspace<'_>,
    stages: &mut Stages,
) -> Result<Vec<BuiltShard>> {
    let stage = site.progress.stage("index", None, Unit::None);
    let shards = build::finish(parts, &plan.united.config)?;
    drop(stage);
    let points = shards.iter().map(|shard| shard.points).sum();
    stages.end("index").points(points);

    pack(parts, writer, site)?;
    scratch::remove_folder(folder)?;
    stages.end("pack").bytes(writer.bytes());
    Ok(shards)
}

/// Packs finished parts.
fn pack(parts: &[Part], writer: &mut MemberWriter, site: Workspace<'_>) -> Result<()> {
    let _stage = site.progress.stage("pack", None, Unit::None);
    let mut indexes: BTreeMap<u32, u64> = BTreeMap::new();
    let mut place = |shard| {
        let index = indexes.entry(shard).or_default();
        *index += 1;
        Place::Built(shard, *index)
    };
    build::each_packed(parts, |packing| match packing {
        Packing::Segment {
            shard,
            path,
            segment,
        } => writer.segment(place(shard), &path, &segment),
        Packing::Shard(shard) => writer.shard(place(shard.number), shard),
    })
}

/// Opens the sources to be read, as far as the shards of the master that are made need them; of a live one
/// there is nothing to open.
pub(super) fn open_sources(
    sources: &mut [Source],
    plan: &Plan,
    settings: &Settings,
    site: Workspace<'_>,
    stages: &mut Stages,
) -> Result<Vec<OpenedShards>> {
    let filter = settings.union.filter.as_ref();
    let total = sources
        .iter()
        .map(|source| source.snapshot.file_bytes)
        .sum();
    let stage = site.progress.stage("open shards", Some(total), Unit::Bytes);
    let what_for = |at| Opened {
        purpose: Purpose::to_read(filter),
        shards: plan.only.map(|_| plan.needed_of(at)),
        filter,
    };
    let all = sources.iter_mut().collect();
    let open_shards = open_all(
        all,
        what_for,
        Reads::Plainly,
        SOURCES,
        site,
        &stage.counter(),
    )?;
    stages.end("open shards").bytes(total);
    Ok(open_shards)
}

fn write(
    flow: &Flow<'_>,
    plan: &Plan,
    settings: &Settings,
    folder: &Path,
    resolver: &mut Resolver<'_>,
    site: Workspace<'_>,
) -> Result<(Vec<Part>, Flowed)> {
    let total = flow.total();
    let stage = site.progress.stage("merge", Some(total), Unit::Points);
    let shards: Vec<u32> = plan.shards().collect();
    let parts = Parts::of(&plan.united.config, total, shards.len())?;
    let parts = match settings.union.on_conflict {
        // A new id may be one that comes later; only within one part the engine finds that out.
        Policy::Remap => parts.whole(),
        _ => parts,
    };
    let layout = plan.layout.only(shards);
    let shape = Shape {
        layout: &layout,
        ..plan.shape()
    };
    build::write(shape, parts, folder, |write| {
        flow.run(resolver, &stage, |record, _| {
            if let Some(only) = plan.only
                && layout.shard(&record)? != only
            {
                return Err(stranger(record.id, None, only));
            }
            write(record)
        })
    })
}
