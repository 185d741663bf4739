//! `merge --into`: the master is a live collection.
//!
//! Keeps true: the collection is told about only after it was read back and compared; what is not as
//! it should be is told and changes the exit code.

use std::time::Instant;

use super::super::args::MergeArgs;
use super::super::open::Servers;
use super::super::state_folder;
use super::told::{Report, conflicts, notes, source_reports};
use super::{Ended, refuse_untallied};
use crate::base::Site;
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Progress;
use crate::base::scratch::{Scratch, require_free};
use crate::merge::Settings;
use crate::merge::{Asked, Done, Onto, Plan, Replayed, Target, replay};
use crate::report::merge::{ConflictReport, LiveReport, MasterReport, ProofReport};
use crate::server::About;
use crate::server::CollectionAddress;
use crate::source::Source;
use crate::stream::Ledger;
use crate::verify::{Outcome, Provenance};

/// What is known when the work begins.
pub(super) struct Begun<'a> {
    pub args: &'a MergeArgs,
    pub settings: &'a Settings,
    pub progress: Progress,
    pub started: Instant,
}

/// The collection that `--into` names, if it does.
pub(super) fn target(args: &MergeArgs, servers: &mut Servers<'_>) -> Result<Option<Target>> {
    let Some(text) = &args.live.into else {
        let live = &args.live;
        for (given, name) in [
            (live.resume, "--resume"),
            (live.sync, "--sync"),
            (live.journal.is_some(), "--journal"),
            (live.limit_rate.is_some(), "--limit-rate"),
        ] {
            if given {
                return Err(Error::usage(
                    format!("reading {name}"),
                    "it belongs to --into, which was not given",
                ));
            }
        }
        return Ok(None);
    };
    let address = CollectionAddress::parse(text)?;
    if args.sources.iter().any(|source| {
        let source = CollectionAddress::parse(&source.to_string_lossy());
        source.is_ok_and(|source| source == address)
    }) {
        return Err(Error::usage(
            format!("writing to {address}"),
            "it is one of the sources, which are only read",
        )
        .next("choose another name"));
    }
    Ok(Some(Target {
        connection: servers.at(&address.server)?,
        address,
    }))
}

/// Merges `sources` into `target`.
pub(super) fn into(
    sources: &mut [Source],
    target: Target,
    plan: &Plan,
    begun: &Begun<'_>,
) -> Result<Ended> {
    let Begun {
        args,
        settings,
        progress,
        ..
    } = *begun;
    let folder = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    require_free(&folder, plan.needs.scratch_bytes, "unpacking")?;
    let scratch = Scratch::new(&folder)?;
    let ledger = Ledger::new(args.ledger.as_deref(), args.force)?;
    let journal = match &args.live.journal {
        Some(path) => path.clone(),
        None => state_folder(&begun.args.live.state)?.file(
            &target.address.server,
            About::Replay(&target.address.collection),
        ),
    };
    let asked = match (args.live.resume, args.live.sync) {
        (true, _) => Asked::Resume,
        (_, true) => Asked::Sync,
        _ => Asked::Usual,
    };
    let onto = Onto {
        target,
        limit: args.live.limit_rate,
        journal,
        asked,
    };
    let site = Site {
        scratch: &scratch,
        progress,
    };
    let (replayed, ledger) = replay(sources, plan, settings, ledger, &onto, site)?;
    refuse_untallied(sources, &replayed.tallies)?;
    let conflicts = conflicts(settings, &ledger);
    ledger.publish()?;
    drop(scratch);
    let report = report(sources, &onto, replayed, conflicts, plan, begun);
    if args.json {
        super::super::print_json(&report.0)?;
    } else {
        super::super::print(&report.0.text())?;
    }
    Ok(report.1.then_some(Kind::Differs))
}

/// The report, and whether something differs.
fn report(
    sources: &[Source],
    onto: &Onto,
    replayed: Replayed,
    conflicts: ConflictReport<crate::stream::Conflict>,
    plan: &Plan,
    begun: &Begun<'_>,
) -> (Report, bool) {
    let Replayed {
        outcome,
        sent,
        tallies,
        restamped,
        digest,
        checked,
        info,
        differences,
        changed,
        stages,
    } = replayed;
    let differs = !differences.is_empty() || !changed.is_empty() || !plan.missing.is_empty();
    let mut notes = notes(plan, restamped);
    notes.extend(changed);
    let synced = match outcome {
        Done::Synced(synced) => synced,
        _ => Default::default(),
    };
    let proven = Outcome {
        points: checked.points,
        digest: Some(digest.to_string()),
        // There is no file.
        sha256: "",
        xxh3: None,
        proven: differences.is_empty(),
    };
    let report = Report {
        provenance: Provenance::new(
            sources,
            &plan.route.to_string(),
            &plan.united,
            &plan.layout.keys,
            &begun.settings.union,
            proven,
        ),
        format: "snapmerge-merge/1",
        version: env!("CARGO_PKG_VERSION"),
        route: plan.route.to_string(),
        because: plan.because.clone(),
        sources: source_reports(sources, &tallies),
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
        findings: plan.united.findings.clone(),
        decisions: plan.united.decisions.clone(),
        missing: plan.missing.clone(),
        carried: None,
        differences,
        notes,
        stages,
        seconds: begun.started.elapsed().as_secs_f64(),
    };
    (report, differs)
}

fn done(outcome: &Done) -> String {
    match outcome {
        Done::Made => "the collection was made and written".into(),
        Done::WentOn(points) => {
            format!("an earlier run was taken up after {points} points")
        }
        Done::Unchanged => {
            "an earlier run had done it all: nothing was written, everything was compared".into()
        }
        Done::Synced(synced) => format!(
            "brought to the sources' state: {} points added, {} replaced, {} deleted, {} were right",
            synced.added, synced.changed, synced.deleted, synced.same
        ),
    }
}
