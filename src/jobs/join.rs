//! Joining the parts of a job into the master.
//!
//! Invariants: every part is there and belongs to the job, or nothing is made; the master is proven as that of
//! `merge` is, and its report says the same.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::folder::JobFolder;
use super::parts::{StoredPart, StoredParts};
use super::task::divide;
use crate::archive::SourceArchiveOptions;
use crate::base::error::Result;
use crate::base::operation::{Context, Operation};
use crate::base::stage::Stages;
use crate::merge::{MergeReport, MergeRequest};

/// Joins the parts of a job.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The job, as `job plan` printed it
    #[arg(value_name = "JOB")]
    pub job: String,
    /// The master to write; compressed if it ends in .gz
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    pub force: bool,
    /// Where to unpack what is proven [default: the folder of the output]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Write every conflict to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub from_archive: SourceArchiveOptions,
}

impl Operation for JoinRequest {
    const NAME: &'static str = "job-join";
    type Report = MergeReport;

    fn run(self, context: &Context) -> Result<MergeReport> {
        let mut stages = Stages::since(Instant::now());
        let folder = JobFolder::open(&self.job)?;
        let plan = folder.plan_of_this_version()?;
        let count = plan.tasks.len();
        let parts: Vec<StoredPart> = folder.all_outputs(&plan, count, "joining the parts")?;
        stages.end("parts");
        let output = MergeRequest {
            output: Some(self.output),
            force: self.force,
            scratch: self.scratch,
            ledger: self.ledger,
            ..MergeRequest::default()
        };
        let (divided, request) = divide(
            &plan,
            &self.from_archive,
            Some(output),
            context,
            &mut stages,
        )?;
        let made = parts.iter().map(|part| part.part.clone()).collect();
        let stored = StoredParts::new(&*folder.store, &parts);
        divided.join(&request, made, &stored, context, stages)
    }
}
