//! A master that is a snapshot file: made, packed, verified, published.
//!
//! Invariants: the master gets its name last, verified, with its sidecars beside it; every point that
//! was read is in it, lost a conflict, or was filtered out.

use std::path::Path;

use super::built::{Built, Made};
use super::graft::graft;
use super::making::Making;
use super::members::MemberWriter;
use super::plan::Plan;
use super::rebuild::rebuild;
use super::report::{MasterReport, MergeReport, ProofReport, ShardReport};
use super::request::{MergeRequest, Prepared};
use super::settings::{Route, Settings};
use super::tell::{conflicts, missing, notes, refuse_untallied, source_reports};
use crate::base::Workspace;
use crate::base::durable::{self, Staged};
use crate::base::error::{Error, Result};
use crate::base::operation::{Context, Envelope, Outcome};
use crate::base::path::folder_of;
use crate::base::scratch::Scratch;
use crate::base::stage::Stages;
use crate::build::{BuiltShard, Sealed, Target, publish, seal};
use crate::format::{Sums, Written};
use crate::source::Source;
use crate::stream::Ledger;
use crate::verify::{self, Expected, Proof, Provenance, read_back, read_carried};

/// Merges into the file `output`.
pub fn run(
    request: &MergeRequest,
    prepared: Prepared<'_>,
    output: &Path,
    context: &Context,
    stages: Stages,
) -> Result<MergeReport> {
    let Prepared {
        settings,
        sources,
        plan,
        ..
    } = prepared;
    let planned = Planned {
        settings,
        sources,
        plan,
    };
    write(request, planned, output, context, stages, make)
}

/// What was settled before a master is written.
pub struct Planned {
    /// The settings.
    pub settings: Settings,
    /// The sources.
    pub sources: Vec<Source>,
    /// The plan.
    pub plan: Plan,
}

/// Makes the shards by the planned route.
pub fn make(making: Making<'_>) -> Result<Made> {
    match making.plan.route {
        Route::Graft => graft(making),
        Route::Rebuild | Route::Replay => rebuild(making),
    }
}

/// Writes the master whose shards `make` gives into the file `output`.
pub fn write(
    request: &MergeRequest,
    planned: Planned,
    output: &Path,
    context: &Context,
    mut stages: Stages,
    make: impl FnOnce(Making<'_>) -> Result<Made>,
) -> Result<MergeReport> {
    let Planned {
        settings,
        sources,
        plan,
    } = planned;
    let output_folder = folder_of(output);
    let scratch_folder = request.scratch_parent();
    plan.needs
        .require(&scratch_folder, output_folder, "the master")?;

    let staged = Staged::new(output, request.force)?;
    let scratch = Scratch::new(&scratch_folder)?;
    let ledger = Ledger::new(request.ledger.as_deref(), request.force)?;
    let site = Workspace {
        scratch: &scratch,
        progress: context.progress,
    };
    let (packed, file) = staged.create_beside("packed")?;
    let path = packed.clone();
    let mut writer = MemberWriter::new(Target { file, path })?;
    let Made {
        sources,
        mut plan,
        built,
        ledger,
    } = make(Making {
        sources,
        plan,
        settings: &settings,
        ledger,
        writer: &mut writer,
        site,
        stages: &mut stages,
    })?;
    plan.allow_segments(&built.shards)?;
    let written = writer.finish(plan.shape())?;
    refuse_lost(&sources, &built)?;

    // The disk works while the file is read back from memory.
    let syncing = durable::sync_in_background(&packed)?;
    let proof = match request.no_verify {
        true => unverified(&built, written)?,
        false => verify_packed(&plan, &built, written, &packed, site)?,
    };
    syncing.wait()?;
    match request.no_verify {
        true => stages.end("hash"),
        false => stages.end("verify").points(proof.points).bytes(proof.bytes),
    };
    let sealed = seal(&staged, &packed, &proof.sha256, output, context.progress)?;
    if sealed.compressed {
        stages.end("compress").bytes(proof.bytes);
    }
    let Sealed {
        sha256,
        file_bytes,
        compressed,
    } = sealed;
    let outcome = verify::Outcome {
        points: proof.points,
        digest: proof.digest.as_ref().map(ToString::to_string),
        sha256: &sha256,
        xxh3: (!compressed).then(|| proof.xxh3.clone()),
        proven: !request.no_verify,
    };
    let provenance = provenance(&sources, &plan, &settings, outcome);
    let conflicts = conflicts(&settings, &ledger);
    ledger.publish()?;
    publish(output, request.force, staged, &sha256, Some(&provenance))?;
    drop(scratch);

    let mut changed = Vec::new();
    for live in sources.iter().filter_map(|source| source.live.as_ref()) {
        changed.extend(live.changed("the master")?);
    }
    let missing = missing(&plan, &sources);
    let differs = !missing.is_empty() || !changed.is_empty();
    let mut notes = notes(&plan, &built.changes);
    notes.extend(changed);
    let proven = provenance.proven;
    stages.end("publish").bytes(file_bytes);
    Ok(MergeReport {
        envelope: Envelope::new("merge", 2, Outcome::differs_if(differs)),
        route: plan.route,
        because: plan.because.clone(),
        sources: source_reports(&sources, &built.tallies),
        conflicts,
        master: MasterReport {
            file: output.display().to_string(),
            file_bytes: Some(file_bytes),
            sha256: Some(sha256),
            points: proof.points,
            digest: proof.digest.as_ref().map(ToString::to_string),
            digest_parts: proof.digest.clone(),
            shards: shard_reports(&plan, &built),
            live: None,
        },
        proof: ProofReport {
            proven,
            points: if proven { proof.points } else { 0 },
            bytes: proof.bytes,
            compared: compared(&built, &settings, proven),
        },
        findings: plan.united.findings,
        decisions: plan.united.decisions,
        missing,
        provenance,
        carried: built.carried,
        differences: Vec::new(),
        notes,
        seconds: stages.elapsed().as_secs_f64(),
        stages: stages.into_reports(),
    })
}

/// What was compared when the master was read back, in words.
fn compared(built: &Built, settings: &Settings, proven: bool) -> String {
    if !proven {
        return "NOTHING: --no-verify was given".into();
    }
    let Some(carried) = &built.carried else {
        return "ids, vectors, payloads, shards and config are what was to be written".into();
    };
    let mut compared = vec!["its bytes are what was carried"];
    if settings.union.changes_payloads() {
        compared.push("payloads that were written anew read back as they were meant");
    }
    if (carried.consolidated).is_some_and(|done| done.merged_segments > 0) {
        compared.push("segments that were merged have the records that they had, bit by bit");
    }
    compared.push("no id is in it twice");
    compared.push("and config and shards are as planned");
    compared.join(", ")
}

fn shard_reports(plan: &Plan, built: &Built) -> Vec<ShardReport> {
    let report = |shard: &BuiltShard| ShardReport {
        shard: shard.number,
        key: plan
            .layout
            .keys
            .key_of(shard.number)
            .map(ToString::to_string),
        points: shard.points,
        segments: shard.segments,
        indexed_vectors: shard.indexed_vectors,
    };
    built.shards.iter().map(report).collect()
}

/// The record of what the master of `plan` was made of.
pub(super) fn provenance(
    sources: &[Source],
    plan: &Plan,
    settings: &Settings,
    outcome: verify::Outcome<'_>,
) -> Provenance {
    let keys = &plan.layout.keys;
    let route = plan.route.to_string();
    Provenance::new(
        sources,
        &route,
        &plan.united,
        keys,
        &settings.union,
        outcome,
    )
}

/// Reads the packed master back and compares it with what was to be written.
fn verify_packed(
    plan: &Plan,
    built: &Built,
    written: Written,
    packed: &Path,
    site: Workspace<'_>,
) -> Result<Proof> {
    let expected = Expected {
        digest: built.digest.clone(),
        shards: built
            .shards
            .iter()
            .map(|shard| (shard.number, shard.points))
            .collect(),
        layout: &plan.layout,
        config: plan.united.config.raw(),
    };
    match &built.carried {
        Some(_) => read_carried(packed, &expected, written, site.scratch),
        None => read_back(packed, &expected, written, site.scratch, site.progress),
    }
}

/// Returns the hashes and counts of a packed master that is not to be verified.
fn unverified(built: &Built, written: Written) -> Result<Proof> {
    let Sums { sha256, xxh3 } = written.read_back()?;
    Ok(Proof {
        points: built.shards.iter().map(|shard| shard.points).sum(),
        bytes: 0,
        digest: built.digest.clone(),
        sha256,
        xxh3,
    })
}

/// Every point is accounted for, and the master has as many points as won.
pub(super) fn refuse_lost(sources: &[Source], built: &Built) -> Result<()> {
    refuse_untallied(sources, &built.tallies)?;
    let won: u64 = built.tallies.iter().map(|tally| tally.won).sum();
    let there: u64 = built.shards.iter().map(|shard| shard.points).sum();
    if won == there {
        return Ok(());
    }
    Err(Error::failed(
        "accounting for the master's points",
        format!("{won} points won their place, but the master has {there}"),
    )
    .next(
        "with --on-conflict remap a new id may be one that a source has already: merge the \
         original sources instead of an earlier master",
    ))
}
