//! JSON schemas of everything that is written as JSON, made out of the types that write it.
//!
//! Invariants: every report that a verb prints has one, by the name in its `format`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use crate::archive::{
    AddReport, CheckReport, CopyReport, FindReport, ForgetReport, GetReport, InitReport,
    ListReport, MemberManifest, ShowReport, UnlockReport, VerifyChainReport,
};
use crate::base::progress::event::Event;
use crate::capture::{CaptureReport, Manifest};
use crate::drill::DrillReport;
use crate::ingest::IngestReport;
use crate::inspect::Inspection;
use crate::jobs::{JobPlanReport, JobRemoveReport, JobStatusReport, JoinReport, TaskReport};
use crate::merge::{MergeReport, PlanReport};
use crate::nightly::{self, DryRun, RunReport};
use crate::publish::AliasReport;
use crate::restore::{RestoreManyReport, RestoreReport};
use crate::split::SplitReport;
use crate::stream::Conflict;
use crate::verify::{Change, DiffReport, Difference, Provenance, SyncStep, VerifyReport};

/// The schema of one kind of JSON.
pub struct Schema {
    /// Name: of a report the middle of its `format`, as `merge` in `snapmerge-merge/2`.
    pub name: &'static str,
    /// Where such JSON is found.
    pub found: &'static str,
    make: fn() -> Value,
}

impl Schema {
    /// The schema called `name`.
    pub fn of(name: &str) -> Option<&'static Self> {
        SCHEMAS.iter().find(|schema| schema.name == name)
    }

    /// The schema itself, in JSON Schema's draft 2020-12.
    pub fn json(&self) -> Value {
        (self.make)()
    }
}

/// Every schema.
pub const SCHEMAS: [Schema; 40] = [
    written::<AddReport>("archive-add", "archive add --json"),
    written::<CheckReport>("archive-check", "archive check --json"),
    written::<CopyReport>("archive-copy", "archive copy --json"),
    written::<FindReport>("archive-find", "archive find --json"),
    written::<ForgetReport>("archive-forget", "archive forget --json"),
    written::<GetReport>("archive-get", "archive get --json"),
    written::<InitReport>("archive-init", "archive init --json"),
    written::<ListReport>("archive-ls", "archive ls --json"),
    written::<ShowReport>("archive-show", "archive show --json"),
    written::<UnlockReport>("archive-unlock", "archive unlock --json"),
    written::<VerifyChainReport>("archive-verify-chain", "archive verify-chain --json"),
    written::<CaptureReport>("capture", "capture --json"),
    written::<DiffReport>("diff", "diff --json"),
    written::<DrillReport>("drill", "drill --json"),
    written::<IngestReport>("ingest", "ingest --json"),
    written::<Inspection>("inspect", "inspect --json"),
    written::<JoinReport>("job-join", "job join --json"),
    written::<JobPlanReport>("job-plan", "job plan --json"),
    written::<JobRemoveReport>("job-rm", "job rm --json"),
    written::<JobStatusReport>("job-status", "job status --json"),
    written::<TaskReport>("job-task", "job task --json"),
    written::<MergeReport>("merge", "merge --json"),
    written::<PlanReport>("merge-plan", "merge --dry-run --json"),
    written::<AliasReport>("publish", "publish --json"),
    written::<RestoreReport>("restore", "restore --json"),
    written::<RestoreManyReport>("restore-many", "restore --json, to a server alone"),
    written::<AliasReport>("rollback", "rollback --json"),
    written::<RunReport>("run", "run --json, files of [report], webhooks"),
    written::<DryRun>("run-plan", "run --dry-run --json"),
    written::<SplitReport>("split", "split --json"),
    written::<VerifyReport>("verify", "verify --json"),
    written::<Conflict>("conflict", "a line of merge --ledger"),
    written::<Difference>("difference", "a line of verify --ledger"),
    written::<Change>("change", "a line of diff --jsonl and --ledger"),
    written::<SyncStep>("sync-step", "a line of diff --sync-plan"),
    written::<Manifest>("manifest", "SNAPSHOT.manifest.json of a capture"),
    written::<MemberManifest>(
        "member-manifest",
        "SNAPSHOT.manifest.json of a collection out of a storage snapshot",
    ),
    written::<Provenance>("provenance", "MASTER.provenance.json of a merge"),
    written::<Event>("progress", "standard error with --progress json"),
    Schema {
        name: "nightly",
        found: "nightly.toml, the plan of run",
        make: nightly::schema,
    },
];

/// The schema of what is written as `T`.
const fn written<T: JsonSchema>(name: &'static str, found: &'static str) -> Schema {
    Schema {
        name,
        found,
        make: || generator().into_root_schema_for::<T>().to_value(),
    }
}

/// A generator of schemas of values as they are written: what is left out sometimes need not be there.
fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_which_version_of_what_it_is() {
        for schema in &SCHEMAS {
            let json = schema.json();
            assert_eq!(
                json["$schema"],
                "https://json-schema.org/draft/2020-12/schema"
            );
            let kinds = ["properties", "oneOf", "anyOf"];
            assert!(
                kinds
                    .iter()
                    .any(|kind| json[kind].is_object() || json[kind].is_array()),
                "{}",
                schema.name
            );
        }
        let merge = Schema::of("merge").unwrap().json();
        assert_eq!(merge["properties"]["format"]["type"], "string");
        assert!(
            merge["required"]
                .as_array()
                .unwrap()
                .contains(&"outcome".into())
        );
        assert!(Schema::of("nothing").is_none());
    }
}
