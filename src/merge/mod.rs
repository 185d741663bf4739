//! Merging: plan, resolve the route, and make the master.
//!
//! Invariants: a plan is made and can be printed before anything is done; records flow in the order
//! of ids, in bounded memory; every record that is read is accounted for.

mod built;
mod carried;
mod divide;
mod graft;
mod join;
mod making;
mod members;
mod offline;
mod online;
mod options;
mod parts;
mod plan;
mod proven;
mod rebuild;
mod replay;
mod report;
mod request;
mod route;
mod runs;
mod scratch_collection;
mod settings;
mod share;
mod tell;

use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use self::carried::{CarriedCounts, Consolidated};
pub use self::divide::{DividedMerge, DividedSource, MadePart, PlannedPart, PlannedRun};
pub use self::join::{JoinedMaster, Parts};
pub use self::options::{ConfigFile, MergeOptions, RouteChoice};
pub use self::report::{
    ConflictReport, LiveReport, MasterReport, MergeReport, PlanReport, ProofReport, ShardReport,
    SourceReport,
};
pub use self::request::{LiveOptions, MergeRequest};
pub use self::runs::{MadeRun, RunRange, Runs, SourceShard, StoredRuns};
pub use self::scratch_collection::{ScratchCollection, scratch_collection};
pub use self::settings::Route;
pub use self::share::TaskNeeds;

use crate::base::error::{Error, Result};
use crate::base::operation::{Context, Operation};
use crate::base::stage::Stages;

impl Operation for MergeRequest {
    const NAME: &'static str = "merge";
    type Report = MergeReport;

    fn run(self, context: &Context) -> Result<MergeReport> {
        let started = Instant::now();
        let mut stages = Stages::since(started);
        let mut prepared = self.prepare(context, &mut stages)?;
        let lent = prepared.scratch_collection(&self, context)?;
        if !lent.is_empty() {
            stages.end("restore");
        }
        let report = match (&self.output, prepared.target.take()) {
            (_, Some(target)) => online::run(&self, prepared, target, context, started, stages)?,
            (Some(output), None) => offline::run(&self, prepared, output, context, stages)?,
            (None, None) => {
                return Err(Error::usage("merging", "nothing says where to")
                    .next("name a file with -o, or a collection with --into"));
            }
        };
        for one in lent {
            one.drop_remote()?;
        }
        Ok(report)
    }
}

/// The plan of a merge, with nothing done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanRequest {
    /// The merge.
    pub merge: MergeRequest,
}

impl Operation for PlanRequest {
    const NAME: &'static str = "merge-plan";
    type Report = PlanReport;

    fn run(self, context: &Context) -> Result<PlanReport> {
        let mut stages = Stages::since(Instant::now());
        Ok(self.merge.prepare(context, &mut stages)?.plan.report())
    }
}
