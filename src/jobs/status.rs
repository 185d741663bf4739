//! Progress of a job: which of its tasks are done, and what attempts left that made no part.
//!
//! Invariants: only documents are read; what was damaged is told as that.

use chrono::{DateTime, Utc};
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::folder::{JobFolder, JobPlan, TaskOutput, is_document};
use super::index::Stage;
use super::parts::StoredPart;
use super::runs::StoredRun;
use crate::base::error::{Kind, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::merge::SourceShard;

/// Says how far a job is.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct JobStatusRequest {
    /// The job, as `job plan` printed it
    #[arg(value_name = "JOB")]
    pub job: String,
}

/// Progress of a job.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct JobStatusReport {
    /// Header of the report.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// The job.
    pub job: String,
    /// The version of snapmerge that planned it and does its tasks.
    pub planned_by: String,
    /// When it was planned.
    pub planned: DateTime<Utc>,
    /// Its tasks.
    pub tasks: Vec<TaskStatus>,
    /// Number of tasks that are done.
    pub done: u64,
    /// Bytes of all runs and parts.
    pub bytes: u64,
    /// Bytes of attempts that made nothing: they are under way, or were ended.
    pub unnamed_bytes: u64,
}

/// A task.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TaskStatus {
    /// The stage.
    pub stage: Stage,
    /// Index of the task.
    pub index: u32,
    /// Shard of a source that it makes a run of, in the stage map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<SourceShard>,
    /// Shard of the master that it makes, in the stage shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// Shard key, with custom sharding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// State of the task.
    pub state: TaskState,
}

/// State of a task.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TaskState {
    /// The run or part is complete.
    Done {
        /// When it was made.
        made: DateTime<Utc>,
        /// Wall-clock time that it took, in seconds.
        seconds: f64,
        /// Points of it.
        points: u64,
        /// Bytes of it.
        bytes: u64,
    },
    /// It is not done: to be begun, under way, or ended before its end.
    NotDone,
    /// The run or part is not as it was written.
    Damaged {
        /// Why.
        why: String,
    },
}

impl Operation for JobStatusRequest {
    const NAME: &'static str = "job-status";
    type Report = JobStatusReport;

    fn run(self, _context: &Context) -> Result<JobStatusReport> {
        let folder = JobFolder::open(&self.job)?;
        let plan = folder.plan()?;
        let listed = folder.list()?;
        let stored: u64 = (listed.iter())
            .filter(|one| !is_document(&one.name))
            .map(|one| one.bytes)
            .sum();
        let mut tasks = Vec::new();
        for (index, run) in (0..).zip(&plan.runs) {
            tasks.push(TaskStatus {
                stage: Stage::Map,
                index,
                of: Some(run.of),
                shard: None,
                key: None,
                state: state(&folder, &plan, index, |run: &StoredRun| TaskState::Done {
                    made: run.made,
                    seconds: run.seconds,
                    points: run.run.points - run.run.filtered,
                    bytes: run.bytes(),
                })?,
            });
        }
        for (index, task) in (0..).zip(&plan.tasks) {
            tasks.push(TaskStatus {
                stage: Stage::Shard,
                index,
                of: None,
                shard: Some(task.shard),
                key: task.key.clone(),
                state: state(&folder, &plan, index, done)?,
            });
        }
        let bytes_of = |task: &TaskStatus| match task.state {
            TaskState::Done { bytes, .. } => Some(bytes),
            TaskState::NotDone | TaskState::Damaged { .. } => None,
        };
        let done = tasks.iter().filter_map(bytes_of).count() as u64;
        let bytes: u64 = tasks.iter().filter_map(bytes_of).sum();
        let is_damaged = |task: &TaskStatus| matches!(task.state, TaskState::Damaged { .. });
        let outcome = match tasks.iter().any(is_damaged) {
            true => Kind::Damaged.into(),
            false => Outcome::DONE,
        };
        Ok(JobStatusReport {
            envelope: Envelope::new("job status", 1, outcome),
            job: self.job,
            planned_by: plan.version,
            planned: plan.planned,
            tasks,
            done,
            bytes,
            unnamed_bytes: stored.saturating_sub(bytes),
        })
    }
}

/// State of the task `index`, whose output is `done`.
fn state<T: TaskOutput>(
    folder: &JobFolder,
    plan: &JobPlan,
    index: u32,
    done: impl FnOnce(&T) -> TaskState,
) -> Result<TaskState> {
    match folder.output(plan, index) {
        Ok(Some(output)) => Ok(done(&output)),
        Ok(None) => Ok(TaskState::NotDone),
        Err(err) if err.kind() == Kind::Damaged => Ok(TaskState::Damaged {
            why: err.why().to_owned(),
        }),
        Err(err) => Err(err),
    }
}

fn done(part: &StoredPart) -> TaskState {
    let shards = part.part.built.shards.iter();
    TaskState::Done {
        made: part.made,
        seconds: part.seconds,
        points: shards.map(|shard| shard.points).sum(),
        bytes: part.bytes(),
    }
}
