//! A master that was packed: proven, and told of.
//!
//! Invariants: what is said to be proven was read from what is kept; every point that was read is in the master,
//! lost a conflict, or was filtered out.

use super::built::Built;
use super::plan::Plan;
use super::report::{ConflictReport, MasterReport, MergeReport, ProofReport, ShardReport};
use super::settings::Settings;
use super::tell::{missing, notes, refuse_untallied, source_reports};
use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::operation::{Envelope, Outcome};
use crate::base::stage::Stages;
use crate::build::BuiltShard;
use crate::format::Sums;
use crate::source::Source;
use crate::verify::{self, Expected, Packed, Proof, Provenance, read_back, read_carried};

/// A master that was made, with all that made it.
pub(super) struct Unproven<'a> {
    pub sources: Vec<Source>,
    pub plan: Plan,
    pub built: Built,
    pub settings: &'a Settings,
}

/// A master that was proven, unless nobody wanted that.
pub(super) struct Proven<'a> {
    made: Unproven<'a>,
    pub proof: Proof,
    is_verified: bool,
}

/// Where a master is.
pub(super) struct MasterFile {
    /// As reports call it.
    pub file: String,
    /// Size in bytes.
    pub bytes: u64,
    /// The SHA-256 of the same bytes.
    pub sha256: String,
}

/// Reads the `packed` master back and compares it with what was to be written; if it is not to be `verified`, it
/// is hashed.
pub(super) fn prove<'a>(
    made: Unproven<'a>,
    packed: Packed<'_>,
    verified: bool,
    site: Workspace<'_>,
) -> Result<Proven<'a>> {
    refuse_lost(&made.sources, &made.built)?;
    let Unproven { plan, built, .. } = &made;
    let shards = built.shards.iter();
    let proof = if verified {
        let expected = Expected {
            digest: built.digest.clone(),
            shards: shards.map(|shard| (shard.number, shard.points)).collect(),
            layout: &plan.layout,
            config: plan.united.config.raw(),
        };
        match &built.carried {
            Some(_) => read_carried(packed, &expected, site.scratch)?,
            None => read_back(packed, &expected, site.scratch, site.progress)?,
        }
    } else {
        let Sums { sha256, xxh3 } = packed.sums()?;
        Proof {
            points: shards.map(|shard| shard.points).sum(),
            bytes: 0,
            digest: built.digest.clone(),
            sha256,
            xxh3,
        }
    };
    Ok(Proven {
        made,
        proof,
        is_verified: verified,
    })
}

impl Proven<'_> {
    /// The record of what it was made of; the file that it lies in has this SHA-256.
    pub fn provenance(&self, sha256: &str, is_compressed: bool) -> Provenance {
        let proof = &self.proof;
        let outcome = verify::Outcome {
            points: proof.points,
            digest: proof.digest.as_ref().map(ToString::to_string),
            sha256,
            xxh3: (!is_compressed).then(|| proof.xxh3.clone()),
            proven: self.is_verified,
        };
        let made = &self.made;
        provenance(&made.sources, &made.plan, made.settings, outcome)
    }

    /// The report of the master, which lies in `master`.
    pub fn report(
        self,
        master: MasterFile,
        provenance: Provenance,
        conflicts: ConflictReport,
        mut stages: Stages,
    ) -> Result<MergeReport> {
        let Self {
            made,
            proof,
            is_verified,
        } = self;
        let Unproven {
            sources,
            plan,
            built,
            settings,
        } = made;
        let mut changed = Vec::new();
        for live in sources.iter().filter_map(|source| source.live.as_ref()) {
            changed.extend(live.changed("the master")?);
        }
        let missing = missing(&plan, &sources);
        let differs = !missing.is_empty() || !changed.is_empty();
        let mut notes = notes(&plan, &built.changes);
        notes.extend(changed);
        stages.end("publish").bytes(master.bytes);
        Ok(MergeReport {
            envelope: Envelope::new("merge", 2, Outcome::differs_if(differs)),
            route: plan.route,
            because: plan.because.clone(),
            sources: source_reports(&sources, &built.tallies),
            conflicts,
            master: MasterReport {
                file: master.file,
                file_bytes: Some(master.bytes),
                sha256: Some(master.sha256),
                points: proof.points,
                digest: proof.digest.as_ref().map(ToString::to_string),
                digest_parts: proof.digest.clone(),
                shards: shard_reports(&plan, &built),
                live: None,
            },
            proof: ProofReport {
                proven: is_verified,
                points: if is_verified { proof.points } else { 0 },
                bytes: proof.bytes,
                compared: compared(&built, settings, is_verified),
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
}

/// Description of the comparison when the master was read back.
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
