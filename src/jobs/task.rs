//! Doing one task of a job.
//!
//! Invariants: a part is named when all of it was read back from the store; of two processes that do one task the
//! first to name its part wins, and the other removes what it wrote; a part that is there is compared, and nothing is
//! made again.

use std::path::PathBuf;
use std::time::Instant;

use chrono::Utc;
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::chunks::Chunks;
use super::folder::{JobFolder, JobPlan, part_name};
use super::index::{Stage, index};
use super::parts::{CONFLICTS, MEMBERS, StoredPart, prefix};
use crate::archive::SourceArchiveOptions;
use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::base::scratch::{self, Scratch};
use crate::base::stage::{StageReport, Stages};
use crate::build::{Needs, Target};
use crate::input::InputOptions;
use crate::merge::{DividedMerge, MergeRequest};

/// Does one task of a job.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct TaskRequest {
    /// The job, as `job plan` printed it
    #[arg(value_name = "JOB")]
    pub job: String,
    /// The stage
    #[arg(long, value_name = "STAGE")]
    pub stage: Stage,
    /// Which task of the stage, from 0 on [default: what JOB_COMPLETION_INDEX (Kubernetes),
    /// SLURM_ARRAY_TASK_ID, AWS_BATCH_JOB_ARRAY_INDEX or CLOUD_RUN_TASK_INDEX says]
    #[arg(long, value_name = "N")]
    pub index: Option<u32>,
    /// Where to unpack and build [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub from_archive: SourceArchiveOptions,
}

/// A task that was done.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TaskReport {
    /// Header of the report.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// The job.
    pub job: String,
    /// The stage.
    pub stage: Stage,
    /// Index of the task.
    pub index: u32,
    /// Shard of the master that it makes.
    pub shard: u32,
    /// True if the part was there already, or another process was faster: it was compared.
    pub was_there: bool,
    /// Points of the shard.
    pub points: u64,
    /// Segments of the shard.
    pub segments: u64,
    /// Conflicts.
    pub conflicts: u64,
    /// Bytes of the part in the store.
    pub bytes: u64,
    /// Duration and volume of each stage of the work.
    pub stages: Vec<StageReport>,
    /// Wall-clock time in seconds.
    pub seconds: f64,
}

impl Operation for TaskRequest {
    const NAME: &'static str = "job-task";
    type Report = TaskReport;

    fn run(self, context: &Context) -> Result<TaskReport> {
        let mut stages = Stages::since(Instant::now());
        let index = index(self.index, |variable| std::env::var(variable).ok())?;
        let folder = JobFolder::open(&self.job)?;
        let plan = folder.plan_of_this_version()?;
        if plan.tasks.get(index as usize).is_none() {
            return Err(Error::usage(
                format!("doing task {index} of {}", folder.what()),
                format!("it has {} tasks, from 0 on", plan.tasks.len()),
            ));
        }
        if let Some(part) = folder.part(&plan, index)? {
            part.check(&*folder.store)?;
            stages.end("check").bytes(part.bytes());
            return Ok(self.report(&part, true, stages));
        }
        let divided = divide(&plan, &self.from_archive, None, context, &mut stages)?.0;
        let part = self.make(&folder, &plan, index, divided, context, &mut stages)?;
        if folder.put_part(&part)? {
            stages.end("publish");
            return Ok(self.report(&part, false, stages));
        }
        part.remove(&*folder.store)?;
        let Some(first) = folder.part(&plan, index)? else {
            return Err(Error::failed(
                format!("naming {} of {}", part_name(index), folder.what()),
                "it was there, and is gone",
            )
            .next("run the task again, unless somebody removed the job"));
        };
        first.check(&*folder.store)?;
        stages.end("check").bytes(first.bytes());
        Ok(self.report(&first, true, stages))
    }
}

impl TaskRequest {
    /// Makes a part, and puts all of it but its name into the store.
    fn make(
        &self,
        folder: &JobFolder,
        plan: &JobPlan,
        index: u32,
        divided: DividedMerge,
        context: &Context,
        stages: &mut Stages,
    ) -> Result<StoredPart> {
        let Some(task) = plan.tasks.get(index as usize) else {
            return Err(Error::usage("doing a task", "there is no such task"));
        };
        let parent = self.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let needs = Needs {
            scratch_bytes: task.scratch_bytes,
            output_bytes: 0,
        };
        needs.require(&parent, &parent, "the part")?;
        let scratch = Scratch::new(&parent)?;
        let site = Workspace {
            scratch: &scratch,
            progress: context.progress,
        };
        let members = scratch.path().join(MEMBERS);
        let conflicts = scratch.path().join(CONFLICTS);
        let target = Target {
            file: scratch::create(&members)?,
            path: members.clone(),
        };
        let (part, written) = divided.make(task.shard, target, &conflicts, site, stages)?;
        written.read_back()?;
        stages.end("read back");
        let attempt = Uuid::new_v4().simple().to_string();
        let store = &*folder.store;
        let put = |kind, path| Chunks::put(store, &prefix(index, &attempt, kind), path);
        let members = put(MEMBERS, &members)?;
        let conflicts = put(CONFLICTS, &conflicts)?;
        stages
            .end("store")
            .bytes(members.bytes() + conflicts.bytes());
        Ok(StoredPart {
            job: plan.job.clone(),
            index,
            attempt,
            made: Utc::now(),
            seconds: stages.elapsed().as_secs_f64(),
            members,
            conflicts,
            part,
        })
    }

    fn report(&self, part: &StoredPart, was_there: bool, stages: Stages) -> TaskReport {
        let shards = &part.part.built.shards;
        TaskReport {
            envelope: Envelope::new("job task", 1, Outcome::DONE),
            job: self.job.clone(),
            stage: self.stage,
            index: part.index,
            shard: part.part.shard,
            was_there,
            points: shards.iter().map(|shard| shard.points).sum(),
            segments: shards.iter().map(|shard| shard.segments).sum(),
            conflicts: part.part.conflicts,
            bytes: part.bytes(),
            seconds: stages.elapsed().as_secs_f64(),
            stages: stages.into_reports(),
        }
    }
}

/// The merge of `plan`, planned again from the same entries, whose master is to be `output`; and the request for
/// it. What `archive` says goes before what the plan says.
pub fn divide(
    plan: &JobPlan,
    archive: &SourceArchiveOptions,
    output: Option<MergeRequest>,
    context: &Context,
    stages: &mut Stages,
) -> Result<(DividedMerge, MergeRequest)> {
    let archive = SourceArchiveOptions {
        archive: archive
            .archive
            .clone()
            .or_else(|| Some(plan.archive.clone())),
        ..archive.clone()
    };
    let ids = plan
        .sources
        .iter()
        .map(|source| format!("archive:{}", source.id));
    let request = MergeRequest {
        sources: ids.map(PathBuf::from).collect(),
        options: plan.options.clone(),
        input: InputOptions {
            from_archive: archive,
            ..InputOptions::default()
        },
        ..output.unwrap_or_default()
    };
    let divided = request.divide(plan.config.as_ref(), false, context, stages)?;
    let sources = divided.sources()?;
    let same = sources == plan.sources;
    if let Some((there, planned)) = (sources.iter().zip(&plan.sources)).find(|(a, b)| a != b) {
        return Err(Error::usage(
            format!("working on the job {}", plan.job),
            format!(
                "{} has the SHA-256 {} in this archive; it was planned with {}",
                there.id, there.sha256, planned.sha256
            ),
        )
        .next("give the archive that it was planned with"));
    }
    if !same || divided.parts()? != plan.tasks {
        return Err(Error::failed(
            format!("working on the job {}", plan.job),
            "planned again, it has other tasks",
        )
        .next(
            "this is a fault of snapmerge: please report it; snapmerge merge does without a job",
        ));
    }
    Ok((divided, request))
}
