//! The route `rebuild`: records are written into new shards offline, and indexed there.
//!
//! Invariants: every record that comes out of the flow is written, in its order, and digested on its way.

use std::path::Path;

use super::built::{Built, Made};
use super::plan::Plan;
use super::settings::Settings;
use crate::base::Workspace;
use crate::base::error::Result;
use crate::base::parallel::in_parallel;
use crate::base::progress::Unit;
use crate::base::scratch;
use crate::base::stage::Stages;
use crate::build::{self, Part, Parts, Target};
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
    mut plan: Plan,
    settings: &Settings,
    ledger: Ledger,
    target: Target,
    site: Workspace<'_>,
    stages: &mut Stages,
) -> Result<Made> {
    let settled = settle_all(&mut sources, settings, site, stages)?;
    let folder = site.scratch.folder("master")?;

    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let keeps_keys = !plan.layout.keys.is_empty();
    let mut resolver = Resolver::new(&settings.union, names, ledger);
    let flow = Flow::new(&sources, &settled, &settings.union, keeps_keys)?;
    plan.lay_out_by_field(&flow, &sources, settings, site)?;
    let (parts, flowed) = write(&flow, &plan, settings, &folder, &mut resolver, site)?;
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
    let shards = build::finish(&parts, &plan.united.config)?;
    drop(stage);
    let points = flowed.digest.points();
    stages.end("index").points(points);

    let written = build::pack(plan.shape(), &parts, target, site)?;
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
    let parts = Parts::of(&plan.united.config, total, plan.layout.shards.len())?;
    let parts = match settings.union.on_conflict {
        // A new id may be one that comes later; only within one part the engine finds that out.
        Policy::Remap => parts.whole(),
        _ => parts,
    };
    build::write(plan.shape(), parts, folder, |write| {
        flow.run(resolver, &stage, |record, _| write(record))
    })
}
