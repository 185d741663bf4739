//! The reports of a merge and of its plan.
//!
//! Invariants: what the master lacks, or what nobody vouches for, stands in them in so many words.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::carried::Carried;
use super::plan::{Needs, Plan};
use super::settings::Route;
use crate::base::operation::{Envelope, Outcome};
use crate::base::stage::StageReport;
use crate::format::schema::{Decision, Finding};
use crate::point::Digest;
use crate::source::SourceLabel;
use crate::stream::{Conflict, Lacking};
use crate::verify::Provenance;

/// The plan of a merge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanReport {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// The route.
    pub route: Route,
    /// Why this route.
    pub because: String,
    /// The sources in their order.
    pub sources: Vec<SourceLabel>,
    /// Where sources differ.
    pub findings: Vec<Finding>,
    /// The values chosen where they differ.
    pub decisions: Vec<Decision>,
    /// The master's config, in Qdrant's own form.
    pub config: Map<String, Value>,
    /// The numbers of the master's shards.
    pub shards: Vec<u32>,
    /// What the sources lack.
    pub missing: Vec<String>,
    /// What is worth knowing.
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// The file's size in bytes.
    pub file_bytes: u64,
    /// What is known about its integrity, in words.
    pub checksum: String,
    /// Whether its SHA-256 was compared with one that it must have.
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConflictReport {
    /// Who wins.
    pub policy: String,
    /// How many ids are in more than one place.
    pub count: u64,
    /// How many of them lacked the field that decides, by the policy newest.
    #[serde(default)]
    pub lacking: Lacking,
    /// The first of them.
    pub first: Vec<Conflict>,
    /// The file that has them all, if one was asked for.
    pub ledger: Option<String>,
}

/// A shard of the master in the report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShardReport {
    /// Its number.
    pub shard: u32,
    /// Its key, with custom sharding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its points.
    pub points: u64,
    /// Its segments.
    pub segments: u64,
    /// Vectors of it that lie in an index; of carried segments, no more than that.
    pub indexed_vectors: u64,
}

/// The master in the report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MasterReport {
    /// Its file, or the address of the collection.
    pub file: String,
    /// The file's size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
    /// The file's SHA-256, also in FILE.checksum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its points.
    pub points: u64,
    /// The digest of its points, if they were compared one by one: the same points have the same
    /// digest, whatever file they are in.
    pub digest: Option<String>,
    /// The same with the digests of its vectors by name, and of its payloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest_parts: Option<Digest>,
    /// Its shards, of a file.
    pub shards: Vec<ShardReport>,
    /// What was done on the server, if it is a live collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveReport>,
}

/// What was done on a server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LiveReport {
    /// In words.
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
    /// What the server says of the collection: green, if all is well.
    pub status: String,
    /// Its segments.
    pub segments: u64,
    /// Vectors in an index, as the server estimates.
    pub indexed_vectors: u64,
    /// Points whose vectors differ in the last bits, since the server made them as long as 1 again.
    pub near: u64,
    /// Where what is done was written down.
    pub journal: String,
}

/// What was proven of the master before it got its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProofReport {
    /// Whether anything was.
    pub proven: bool,
    /// Points that were read back from the packed file and compared.
    pub points: u64,
    /// Bytes of it that were read.
    pub bytes: u64,
    /// What was compared, in words.
    pub compared: String,
}

/// The report of a merge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MergeReport {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// The route that was taken.
    pub route: Route,
    /// Why it was taken.
    pub because: String,
    /// The sources in their order.
    pub sources: Vec<SourceReport>,
    /// Conflicts.
    pub conflicts: ConflictReport,
    /// The master.
    pub master: MasterReport,
    /// What was proven.
    pub proof: ProofReport,
    /// Where the sources' configs differ.
    pub findings: Vec<Finding>,
    /// What was chosen where they differ.
    pub decisions: Vec<Decision>,
    /// What the sources lacked, if that was allowed.
    pub missing: Vec<String>,
    /// What the master was made with, as it lies beside it.
    pub provenance: Provenance,
    /// How segments travelled, by the route graft.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carried: Option<Carried>,
    /// What is not as it should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// How long what took.
    pub stages: Vec<StageReport>,
    /// Wall-clock time of the whole, in seconds.
    pub seconds: f64,
}
