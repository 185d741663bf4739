//! What a merge tells: its plan, and its report.
//!
//! Keeps true: everything that was decided, left out or not vouched for is in it.

use std::path::Path;
use std::time::Instant;

use crate::base::error::Result;
use crate::base::stage::StageReport;
use crate::engine::take_warnings;
use crate::format::schema::{Decision, Finding};
use crate::merge::Settings;
use crate::merge::{Built, Carried, Plan};
use crate::report::merge::{
    ConflictReport, MasterReport, MergeReport, ProofReport, ShardReport, SourceReport,
};
use crate::source::{Checksum, Source};
use crate::stream::{Conflict, Ledger, Tally};
use crate::verify::Proof;
use crate::verify::Provenance;

pub(super) type Report = MergeReport<Conflict, Finding, Decision, Carried, Provenance>;

/// The conflicts that `ledger` has.
pub(super) fn conflicts(settings: &Settings, ledger: &Ledger) -> ConflictReport<Conflict> {
    ConflictReport {
        policy: settings.union.on_conflict.to_string(),
        count: ledger.count(),
        first: ledger.first().to_vec(),
        ledger: ledger.path().map(|path| path.display().to_string()),
    }
}

/// Prints a plan.
pub(super) fn print_plan(plan: &Plan, json: bool) -> Result<()> {
    if json {
        return super::super::print_json(&plan.view());
    }
    let size = |bytes| humansize::format_size(bytes, humansize::BINARY);
    let mut text = format!("plan: route {}\n  because {}\n", plan.route, plan.because);
    text += "\nsources\n";
    for source in &plan.sources {
        text += &format!(
            "  {}  {}  {}\n",
            source.name,
            size(source.file_bytes),
            source.checksum.words()
        );
    }
    text += &format!("\nmaster: {} shards\n", plan.layout.shards.len());
    let mut list = |title: &str, items: Vec<String>| {
        if !items.is_empty() {
            text += &format!("\n{title}\n");
            for item in items {
                text += &format!("  - {}\n", item.replace('\n', "\n    "));
            }
        }
    };
    let strings = |items: &[String]| items.to_vec();
    list(
        "configs that differ",
        plan.united
            .findings
            .iter()
            .map(ToString::to_string)
            .collect(),
    );
    list(
        "chosen for the master",
        plan.united
            .decisions
            .iter()
            .map(ToString::to_string)
            .collect(),
    );
    list("MISSING", strings(&plan.missing));
    list("notes", strings(&plan.notes));
    text += &format!(
        "\ndisk: up to {} for scratch and {} for the master\nnothing was done (--dry-run)\n",
        size(plan.needs.scratch_bytes),
        size(plan.needs.output_bytes)
    );
    super::super::print(&text)
}

/// What became of the sources.
pub(super) fn source_reports(sources: &[Source], tallies: &[Tally]) -> Vec<SourceReport> {
    let report = |(source, tally): (&Source, &Tally)| SourceReport {
        name: source.name.clone(),
        file: source.snapshot.path.display().to_string(),
        file_bytes: source.snapshot.file_bytes,
        checksum: source.checksum.words(),
        verified: matches!(source.checksum, Checksum::Verified { .. }),
        read: tally.read,
        won: tally.won,
        remapped: tally.remapped,
        lost: tally.lost,
        filtered: tally.filtered,
    };
    sources.iter().zip(tallies).map(report).collect()
}

/// What is worth knowing of a merge: what its plan says, and what came up since.
pub(super) fn notes(plan: &Plan, restamped: u64) -> Vec<String> {
    let mut notes = plan.notes.clone();
    if restamped > 0 {
        notes.push(format!(
            "the stamp replaced another value of its field in {restamped} points"
        ));
    }
    notes.extend(
        take_warnings()
            .into_iter()
            .map(|warning| format!("the storage engine: {warning}")),
    );
    notes
}

/// The master's file.
pub(super) struct Master<'a> {
    /// Its name.
    pub file: &'a Path,
    /// Its size in bytes.
    pub file_bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

/// The report of a merge.
#[expect(clippy::too_many_arguments, reason = "a report is made of everything")]
pub(super) fn report(
    sources: &[Source],
    plan: &Plan,
    built: &Built,
    proof: &Proof,
    master: Master<'_>,
    conflicts: ConflictReport<Conflict>,
    stages: Vec<StageReport>,
    changed: Vec<String>,
    started: Instant,
    provenance: Provenance,
) -> Report {
    let mut notes = notes(plan, built.restamped);
    notes.extend(changed);
    MergeReport {
        format: "snapmerge-merge/1",
        version: env!("CARGO_PKG_VERSION"),
        route: plan.route.to_string(),
        because: plan.because.clone(),
        sources: source_reports(sources, &built.tallies),
        conflicts,
        master: MasterReport {
            file: master.file.display().to_string(),
            file_bytes: Some(master.file_bytes),
            sha256: Some(master.sha256),
            points: proof.points,
            digest: proof.digest.as_ref().map(ToString::to_string),
            digest_parts: proof.digest.clone(),
            shards: built
                .shards
                .iter()
                .map(|shard| ShardReport {
                    shard: shard.number,
                    key: plan
                        .layout
                        .keys
                        .key_of(shard.number)
                        .map(ToString::to_string),
                    points: shard.points,
                    segments: shard.segments,
                    indexed_vectors: shard.indexed_vectors,
                })
                .collect(),
            live: None,
        },
        proof: ProofReport {
            proven: provenance.proven,
            points: if provenance.proven { proof.points } else { 0 },
            bytes: proof.bytes,
            compared: match (&built.carried, provenance.proven) {
                (_, false) => "NOTHING: --no-verify was given",
                (None, true) => {
                    "ids, vectors, payloads, shards and config are what was to be written"
                }
                (Some(_), true) => {
                    "its bytes are what was carried, no id is in it twice, and config and shards \
                     are as planned"
                }
            }
            .into(),
        },
        findings: plan.united.findings.clone(),
        decisions: plan.united.decisions.clone(),
        missing: plan.missing.clone(),
        provenance,
        carried: built.carried.clone(),
        differences: Vec::new(),
        notes,
        stages,
        seconds: started.elapsed().as_secs_f64(),
    }
}
