//! Typed reports as text and as HTML, and their JSON schemas.
//!
//! Invariants: text and HTML are made of the values that the JSON has; nothing here decides anything.

pub mod archive;
pub mod capture;
pub mod diff;
pub mod drill;
mod found;
pub mod html;
pub mod inspect;
pub mod job;
pub mod merge;
pub mod parts;
pub mod publish;
pub mod restore;
pub mod run;
pub mod schema;
pub mod verify;
mod words;

use crate::archive::{
    AddReport, CheckReport, CopyReport, FindReport, ForgetReport, GetReport, InitReport,
    ListReport, ShowReport, UnlockReport, VerifyChainReport,
};
use crate::base::operation::Outcome;
use crate::capture::CaptureReport;
use crate::drill::DrillReport;
use crate::ingest::IngestReport;
use crate::inspect::Inspection;
use crate::jobs::{JobPlanReport, JobRemoveReport, JobStatusReport, JoinReport, TaskReport};
use crate::merge::{MergeReport, PlanReport};
use crate::nightly::{DryRun, RunReport};
use crate::publish::AliasReport;
use crate::restore::{RestoreManyReport, RestoreReport};
use crate::split::SplitReport;
use crate::verify::{DiffReport, VerifyReport};

/// A report that can be printed.
pub trait Render {
    /// The report for people, ending in a line break.
    fn render(&self) -> String;

    /// Returns the outcome of the operation.
    fn outcome(&self) -> Outcome;
}

impl Render for JoinReport {
    fn render(&self) -> String {
        self.text()
    }

    fn outcome(&self) -> Outcome {
        self.merge.envelope.outcome
    }
}

macro_rules! render {
    ($($report:ty),*) => {$(
        impl Render for $report {
            fn render(&self) -> String {
                self.text()
            }

            fn outcome(&self) -> Outcome {
                self.envelope.outcome
            }
        }
    )*};
}

render!(
    AddReport,
    AliasReport,
    CaptureReport,
    DrillReport,
    RestoreReport,
    RestoreManyReport,
    CheckReport,
    CopyReport,
    DiffReport,
    DryRun,
    FindReport,
    ForgetReport,
    GetReport,
    InitReport,
    IngestReport,
    Inspection,
    JobPlanReport,
    JobRemoveReport,
    JobStatusReport,
    ListReport,
    MergeReport,
    PlanReport,
    RunReport,
    ShowReport,
    SplitReport,
    TaskReport,
    UnlockReport,
    VerifyChainReport,
    VerifyReport
);
