//! A master that is a live collection: written over gRPC, read back, compared.
//!
//! Invariants: the collection is reported only after it was read back and compared.

use std::time::Instant;

use super::proven::provenance;
use super::replay::{Done, ReplayTarget, Replayed, Target, replay};
use super::report::{LiveReport, MasterReport, MergeReport, ProofReport};
use super::request::{MergeRequest, Prepared};
use super::tell::{conflicts, missing, notes, refuse_untallied, source_reports};
use crate::base::Workspace;
use crate::base::error::Result;
use crate::base::operation::{Context, Envelope, Outcome};
use crate::base::scratch::{Scratch, require_free};
use crate::base::stage::Stages;
use crate::format::schema::ShardingMethod;
use crate::server::About;
use crate::stream::{Layout, Ledger};
use crate::verify;

/// Merges into the collection `target`.
pub fn run(
    request: &MergeRequest,
    prepared: Prepared<'_>,
    target: Target,
    context: &Context,
    started: Instant,
    mut stages: Stages,
) -> Result<MergeReport> {
    let Prepared {
        settings,
        mut sources,
        mut plan,
        ..
    } = prepared;
    let folder = request.scratch_parent();
    require_free(&folder, plan.needs.scratch_bytes, "unpacking")?;
    let scratch = Scratch::new(&folder)?;
    let ledger = Ledger::new(request.ledger.as_deref(), request.force)?;
    let live = &request.live;
    let journal = match &live.journal {
        Some(path) => path.clone(),
        None => live.state.folder()?.file(
            &target.address.server,
            About::Replay(&target.address.collection),
        ),
    };
    let onto = ReplayTarget {
        target,
        limit: live.limit_rate,
        journal,
        asked: live.asked(),
    };
    let site = Workspace {
        scratch: &scratch,
        progress: context.progress,
    };
    let (replayed, ledger) = replay(
        &mut sources,
        &mut plan,
        &settings,
        ledger,
        &onto,
        site,
        &mut stages,
    )?;
    refuse_untallied(&sources, &replayed.tallies)?;
    if *plan.united.config.sharding_method() == ShardingMethod::Custom {
        // The server numbers shards as keys come, and keeps keys without points.
        let topology = onto.target.connection.topology(onto.target.name())?;
        plan.layout = Layout::of(topology.shard_keys()?, plan.united.config.shard_number());
    }
    let conflicts = conflicts(&settings, &ledger);
    ledger.publish()?;
    drop(scratch);

    let Replayed {
        outcome,
        sent,
        tallies,
        changes,
        digest,
        checked,
        info,
        differences,
        changed,
    } = replayed;
    let missing = missing(&plan, &sources);
    let differs = !differences.is_empty() || !changed.is_empty() || !missing.is_empty();
    let mut notes = notes(&plan, &changes);
    notes.extend(changed);
    let synced = match outcome {
        Done::Synced(synced) => synced,
        _ => Default::default(),
    };
    let proven = verify::Outcome {
        points: checked.points,
        digest: Some(digest.to_string()),
        // There is no file.
        sha256: "",
        xxh3: None,
        proven: differences.is_empty(),
    };
    Ok(MergeReport {
        envelope: Envelope::new("merge", 2, Outcome::differs_if(differs)),
        provenance: provenance(&sources, &plan, &settings, proven),
        route: plan.route,
        because: plan.because,
        sources: source_reports(&sources, &tallies),
        conflicts,
        master: MasterReport {
            file: onto.target.address.to_string(),
            file_bytes: None,
            sha256: None,
            points: checked.points,
            digest: Some(digest.to_string()),
            digest_parts: Some(digest),
            shards: Vec::new(),
            live: Some(LiveReport {
                done: done(&outcome),
                written: sent.points,
                changed: synced.changed,
                deleted: synced.deleted,
                same: synced.same,
                requests: sent.batches,
                again: sent.again,
                status: info.status.clone(),
                segments: info.segments_count,
                indexed_vectors: info.indexed_vectors_count.unwrap_or(0),
                near: checked.near,
                journal: onto.journal.display().to_string(),
            }),
        },
        proof: ProofReport {
            proven: true,
            points: checked.points,
            bytes: 0,
            compared: checked.words(),
        },
        findings: plan.united.findings,
        decisions: plan.united.decisions,
        missing,
        carried: None,
        differences,
        notes,
        stages: {
            stages.end("report");
            stages.into_reports()
        },
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn done(outcome: &Done) -> String {
    match outcome {
        Done::Made => "the collection was made and written".into(),
        Done::WentOn(points) => format!("an earlier run was resumed after {points} points"),
        Done::Unchanged => {
            "an earlier run had done it all: nothing was written, everything was compared".into()
        }
        Done::Synced(synced) => format!(
            "brought to the sources' state: {} points added, {} replaced, {} deleted, {} were right",
            synced.added, synced.changed, synced.deleted, synced.same
        ),
    }
}
