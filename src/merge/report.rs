//! The reports of a merge and of its plan.
//!
//! Invariants: what the master lacks, or what nobody vouches for, stands in them in so many words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::carried::CarriedCounts;
use super::plan::Plan;
use super::settings::Route;
use crate::base::operation::{Envelope, Outcome};
use crate::base::stage::StageReport;
use crate::build::Needs;
use crate::format::schema::{Decision, Finding};
use crate::point::Digest;
use crate::source::SourceLabel;
use crate::stream::{Conflict, Lacking};
use crate::verify::Provenance;

/// The plan of a merge.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PlanReport {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// The route.
    pub route: Route,
    /// Reason for the route.
    pub because: String,
    /// The sources in their order.
    pub sources: Vec<SourceLabel>,
    /// Differences between the sources' configs.
    pub findings: Vec<Finding>,
    /// The values chosen where they differ.
    pub decisions: Vec<Decision>,
    /// The master's config, in Qdrant's own form.
    pub config: Map<String, Value>,
    /// The numbers of the master's shards.
    pub shards: Vec<u32>,
    /// Parts that the sources lack.
    pub missing: Vec<String>,
    /// Notes worth reading before the merge.
    pub notes: Vec<String>,
    /// Disk space.
    pub needs: Needs,
}

impl Plan {
    /// The plan as a report.
    pub fn report(self) -> PlanReport {
        let missing = !self.missing.is_empty();
        PlanReport {
            envelope: Envelope::new("merge plan", 2, Outcome::differs_if(missing)),
            route: self.route,
            because: self.because,
            sources: self.sources,
            config: self.united.config.raw().clone(),
            findings: self.united.findings,
            decisions: self.united.decisions,
            shards: self.layout.shards,
            missing: self.missing,
            notes: self.notes,
            needs: self.needs,
        }
    }
}

/// A source in the report.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SourceReport {
    /// Name of the source.
    pub name: String,
    /// File of the source.
    pub file: String,
    /// The file's size in bytes.
    pub file_bytes: u64,
    /// State of the source's integrity check, in words.
    pub checksum: String,
    /// True if the file's SHA-256 was compared with an expected one.
    pub verified: bool,
    /// Points that it has.
    pub read: u64,
    /// Points of it that are in the master.
    pub won: u64,
    /// Of those, points that are there under a new id.
    pub remapped: u64,
    /// Points of it that lost a conflict.
    pub lost: u64,
    /// Points of it that the filter left out.
    pub filtered: u64,
}

/// Conflicts in the report.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ConflictReport {
    /// Policy that decides conflicts.
    pub policy: String,
    /// Number of ids that are in more than one place.
    pub count: u64,
    /// Counts of those that lacked the deciding field, by the policy newest.
    #[serde(default)]
    pub lacking: Lacking,
    /// The first of them.
    pub first: Vec<Conflict>,
    /// The file that has them all, if one was asked for.
    pub ledger: Option<String>,
}

/// A shard of the master in the report.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ShardReport {
    /// Number of the shard.
    pub shard: u32,
    /// Shard key, with custom sharding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Number of points.
    pub points: u64,
    /// Number of segments.
    pub segments: u64,
    /// Vectors of it that lie in an index; of carried segments, no more than that.
    pub indexed_vectors: u64,
}

/// The master in the report.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct MasterReport {
    /// File of the master, or the address of the collection.
    pub file: String,
    /// The file's size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
    /// The file's SHA-256, also in FILE.checksum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Number of points.
    pub points: u64,
    /// The digest of its points, if they were compared one by one: the same points have the same
    /// digest, whatever file they are in.
    pub digest: Option<String>,
    /// The same with the digests of its vectors by name, and of its payloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest_parts: Option<Digest>,
    /// Shards of the master, if it is a file.
    pub shards: Vec<ShardReport>,
    /// Changes made on the server, if it is a live collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveReport>,
}

/// Changes made on a server.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LiveReport {
    /// Outcome in words.
    pub done: String,
    /// Points that were written.
    pub written: u64,
    /// Points that were there and were replaced, by `--sync`.
    pub changed: u64,
    /// Points that were deleted, by `--sync`.
    pub deleted: u64,
    /// Points that were right already, by `--sync`.
    pub same: u64,
    /// Requests that the server acknowledged.
    pub requests: u64,
    /// Requests that were tried again, or cut in halves.
    pub again: u64,
    /// Status of the collection as the server reports it: green, if all is well.
    pub status: String,
    /// Number of segments.
    pub segments: u64,
    /// Vectors in an index, as the server estimates.
    pub indexed_vectors: u64,
    /// Points whose vectors differ in the last bits because the server normalized them again.
    pub near: u64,
    /// Path of the journal.
    pub journal: String,
}

/// Result of the proof, which precedes giving the master its name.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ProofReport {
    /// True if the master was proven.
    pub proven: bool,
    /// Points that were read back from the packed file and compared.
    pub points: u64,
    /// Bytes of it that were read.
    pub bytes: u64,
    /// Description of the comparison, in words.
    pub compared: String,
}

/// The report of a merge.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct MergeReport {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// The route that was taken.
    pub route: Route,
    /// Reason for the route.
    pub because: String,
    /// The sources in their order.
    pub sources: Vec<SourceReport>,
    /// Conflicts.
    pub conflicts: ConflictReport,
    /// The master.
    pub master: MasterReport,
    /// Result of the proof.
    pub proof: ProofReport,
    /// Differences between the sources' configs.
    pub findings: Vec<Finding>,
    /// Values chosen where the sources' configs differ.
    pub decisions: Vec<Decision>,
    /// Parts that the sources lacked, if that was allowed.
    pub missing: Vec<String>,
    /// Provenance of the master, as in the file beside it.
    pub provenance: Provenance,
    /// Counts of the carried segments, by the route graft.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carried: Option<CarriedCounts>,
    /// Differences from the expected state, in words; empty if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// Notes about the merge.
    pub notes: Vec<String>,
    /// Duration and volume of each stage.
    pub stages: Vec<StageReport>,
    /// Wall-clock time of the whole, in seconds.
    pub seconds: f64,
}
