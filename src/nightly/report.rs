//! The report of a run: printed, written to files and sent.
//!
//! Invariants: every source, every step and everything that was left out is in it, with why; it holds
//! no key.

use std::time::Instant;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Kind};
use crate::base::operation::{Envelope, Outcome};
use crate::merge::MergeReport;
use crate::verify::VerifyReport;

/// The report of a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RunReport {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// The plan's name.
    pub plan: String,
    /// The run, by the second in which it started: `20261122_030000`.
    pub id: String,
    /// When it started.
    #[serde(alias = "begun")]
    pub started: DateTime<Utc>,
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// Seconds of this run.
    pub seconds: f64,
    /// `done`, `differs` or `failed`.
    pub run_outcome: RunOutcome,
    /// True if it failed because somebody asked to stop.
    pub cancelled: bool,
    /// True if it resumed an interrupted run.
    pub resumed: bool,
    /// The sources.
    pub sources: Vec<RunSource>,
    /// The master.
    pub master: Option<RunMaster>,
    /// The archive.
    pub archive: RunArchive,
    /// The steps.
    pub steps: Vec<RunStep>,
    /// Errors, in the order in which they occurred.
    pub errors: Vec<RunError>,
    /// Omissions and differences, which make the outcome `differs`.
    pub differs: Vec<String>,
    /// Notes that do not change the outcome.
    pub notes: Vec<String>,
    /// End of the last run with the outcome `done`.
    pub last_success: Option<DateTime<Utc>>,
    /// The last proven master.
    pub last_proven: Option<DateTime<Utc>>,
    /// The last proven restore of anything in the archive.
    pub last_proven_restore: Option<DateTime<Utc>>,
}

/// The reports of the steps that worker processes did.
#[derive(Debug, Clone, Default)]
pub struct StepReports {
    /// The merge's.
    pub merge: Option<MergeReport>,
    /// The verification's.
    pub verify: Option<VerifyReport>,
}

/// Outcome of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Everything was done.
    Done,
    /// All that could be done was, but something differs or was left out.
    Differs,
    /// Something went wrong.
    Failed,
}

impl RunOutcome {
    /// The outcome as a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Differs => "differs",
            Self::Failed => "failed",
        }
    }
}

/// Outcome of capturing a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It was captured.
    Captured,
    /// Nothing was written to it since it was captured last.
    Unchanged,
    /// It could not be captured, and the newest snapshot of it was taken.
    Last,
    /// It could not be captured.
    Broken,
}

/// A source.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RunSource {
    /// Name in the archive.
    pub name: String,
    /// Collection on the server.
    pub collection: String,
    /// The server's name in the plan.
    pub server: String,
    /// Outcome of the capture.
    pub how: How,
    /// Archive entry.
    pub entry: Option<String>,
    /// Number of points, if nothing was written while it was captured.
    pub points: Option<u64>,
    /// The snapshot's bytes.
    pub bytes: u64,
    /// Bytes that are new in the archive.
    pub new_bytes: u64,
    /// Bytes that came from the server, if it was captured in this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_bytes: Option<u64>,
    /// Why it is as it is.
    pub note: Option<String>,
}

/// The master.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RunMaster {
    /// Name in the archive.
    pub name: String,
    /// True if it is the last run's master, since none of its inputs has changed.
    pub unchanged: bool,
    /// Archive entry.
    pub entry: Option<String>,
    /// Route of the merge.
    pub route: String,
    /// Number of points.
    pub points: u64,
    /// Size of the file in bytes, if it is a file.
    pub bytes: Option<u64>,
    /// SHA-256 of the file, if it is a file.
    pub sha256: Option<String>,
    /// When it was proven.
    pub proven: DateTime<Utc>,
    /// The collection that it is.
    pub collection: Option<String>,
    /// The alias, if it points to it.
    pub alias: Option<String>,
    /// Collection that the alias pointed to before.
    pub before: Option<String>,
}

/// The archive after the run.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct RunArchive {
    /// Location, as the plan gives it.
    pub place: String,
    /// Entries that are there.
    pub entries: u64,
    /// Entries that were given up.
    pub forgotten: u64,
    /// Bytes that were removed.
    pub removed_bytes: u64,
    /// Bytes that came to it.
    pub new_bytes: u64,
}

/// A step.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RunStep {
    /// Name of the step.
    pub step: String,
    /// Seconds that it took.
    pub seconds: f64,
    /// True if an earlier run did it.
    pub earlier: bool,
}

/// An error of a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RunError {
    /// In which step.
    pub step: String,
    /// Action that failed.
    pub doing: String,
    /// Why it failed.
    pub why: String,
    /// The next step.
    pub next: Option<String>,
}

impl RunReport {
    /// The report of a night that begins.
    pub fn begin(plan: &str, place: &str, id: &str, started: DateTime<Utc>, resumed: bool) -> Self {
        Self {
            envelope: Envelope::new("run", 2, Outcome::DONE),
            plan: plan.to_owned(),
            id: id.to_owned(),
            started,
            ended: started,
            seconds: 0.0,
            run_outcome: RunOutcome::Done,
            cancelled: false,
            resumed,
            sources: Vec::new(),
            master: None,
            archive: RunArchive {
                place: place.to_owned(),
                ..RunArchive::default()
            },
            steps: Vec::new(),
            errors: Vec::new(),
            differs: Vec::new(),
            notes: Vec::new(),
            last_success: None,
            last_proven: None,
            last_proven_restore: None,
        }
    }

    /// Tells that `step` failed. The first failure decides the exit code, whatever differs, unless
    /// somebody asked to stop.
    pub fn failed(&mut self, step: &str, err: &Error) {
        tracing::error!(step, doing = err.doing(), why = err.why(), "failed");
        self.cancelled |= err.kind() == Kind::Cancelled;
        if self.run_outcome != RunOutcome::Failed || err.kind() == Kind::Cancelled {
            self.envelope.outcome = err.kind().into();
        }
        self.errors.push(RunError {
            step: step.to_owned(),
            doing: err.doing().to_owned(),
            why: err.why().to_owned(),
            next: err.next_step().map(str::to_owned),
        });
        self.run_outcome = RunOutcome::Failed;
    }

    /// Tells that something differs or was left out.
    pub fn differs(&mut self, what: String) {
        tracing::warn!("{what}");
        self.differs.push(what);
        if self.run_outcome == RunOutcome::Done {
            self.run_outcome = RunOutcome::Differs;
            self.envelope.outcome = Kind::Differs.into();
        }
    }

    /// Decides how it ended.
    pub fn end(&mut self, started: Instant, now: DateTime<Utc>) {
        self.ended = now;
        self.seconds = started.elapsed().as_secs_f64();
    }
}
