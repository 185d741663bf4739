//! A master that is a snapshot file: made, packed, verified, published.
//!
//! Invariants: the master gets its name last, verified, with its sidecars beside it; every point that
//! was read is in it, lost a conflict, or was filtered out.

use std::path::Path;

use super::built::Made;
use super::graft::graft;
use super::making::Making;
use super::members::MemberWriter;
use super::plan::Plan;
use super::proven::{MasterFile, Unproven, prove};
use super::rebuild::rebuild;
use super::report::MergeReport;
use super::request::{MergeRequest, Prepared};
use super::settings::{Route, Settings};
use super::tell::conflicts;
use crate::base::Workspace;
use crate::base::durable::{self, Staged};
use crate::base::error::Result;
use crate::base::operation::Context;
use crate::base::path::{folder_of, is_gz};
use crate::base::scratch::Scratch;
use crate::base::stage::Stages;
use crate::build::{Sealed, Target, publish, seal};
use crate::source::Source;
use crate::stream::Ledger;
use crate::verify::Packed;

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
        mut plan,
        ..
    } = prepared;
    if is_gz(output) && plan.route == Route::Graft {
        // Compressed beside what is packed.
        plan.needs.output_bytes *= 2;
    }
    let planned = Planned {
        settings,
        sources,
        plan,
    };
    write(request, planned, output, context, stages, make)
}

/// Settings, sources and plan, resolved before a master is written.
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
    // The disk works while the file is read back from memory.
    let syncing = durable::sync_in_background(&packed)?;
    let proven = prove(
        Unproven {
            sources,
            plan,
            built,
            settings: &settings,
        },
        Packed::File(&packed, written),
        !request.no_verify,
        site,
    )?;
    syncing.wait()?;
    let proof = &proven.proof;
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
    let provenance = proven.provenance(&sha256, compressed);
    let conflicts = conflicts(&settings, &ledger);
    ledger.publish()?;
    publish(output, request.force, staged, &sha256, Some(&provenance))?;
    drop(scratch);
    let master = MasterFile {
        file: output.display().to_string(),
        bytes: file_bytes,
        sha256,
    };
    proven.report(master, provenance, conflicts, stages)
}
