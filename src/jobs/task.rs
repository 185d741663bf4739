//! Doing one task of a job.
//!
//! Invariants: a run or part is named when all of it was read back from the store; of two processes that do one task the
//! first to name its own wins, and the other removes what it wrote; what is there is compared, and nothing is made
//! again.

use std::path::PathBuf;
use std::time::Instant;

use chrono::Utc;
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::chunks::Chunks;
use super::folder::{JobFolder, JobPlan, PARTS, RUNS, TaskOutput, document_name, prefix};
use super::index::{Stage, index};
use super::parts::{CONFLICTS, MEMBERS, StoredPart};
use super::runs::{RUN, RunsInStore, StoredRun};
use crate::archive::SourceArchiveOptions;
use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::base::scratch::{self, Scratch, require_free};
use crate::base::stage::{StageReport, Stages};
use crate::build::Target;
use crate::input::InputOptions;
use crate::merge::{DividedMerge, MadeRun, MergeRequest, Runs, SourceShard};

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
    /// Shard of a source that it makes a run of, in the stage map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<SourceShard>,
    /// Shard of the master that it makes, in the stage shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// True if the run or part was there already, or another process was faster: it was compared.
    pub was_there: bool,
    /// Points of it.
    pub points: u64,
    /// Segments of the shard; none of a run.
    pub segments: u64,
    /// Conflicts.
    pub conflicts: u64,
    /// Bytes of the run or part in the store.
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
        let stages = Stages::since(Instant::now());
        let index = index(self.index, |variable| std::env::var(variable).ok())?;
        let folder = JobFolder::open(&self.job)?;
        let plan = folder.plan_of_this_version()?;
        let count = match self.stage {
            Stage::Map => plan.runs.len(),
            Stage::Shard => plan.tasks.len(),
        };
        if index as usize >= count {
            return Err(Error::usage(
                format!("doing task {index} of {}", folder.what()),
                match count {
                    0 => format!(
                        "it has no stage {}: its shards need no runs",
                        self.stage.word()
                    ),
                    count => format!(
                        "its stage {} has {count} tasks, from 0 on",
                        self.stage.word()
                    ),
                },
            ));
        }
        let task = Task {
            request: &self,
            folder: &folder,
            plan: &plan,
            index,
            context,
        };
        match self.stage {
            Stage::Map => task.run(stages, Task::make_run, TaskReport::of_run),
            Stage::Shard => task.run(stages, Task::make_part, TaskReport::of_part),
        }
    }
}

/// A task to be done.
struct Task<'a> {
    request: &'a TaskRequest,
    folder: &'a JobFolder,
    plan: &'a JobPlan,
    index: u32,
    context: &'a Context,
}

impl Task<'_> {
    /// Does what `make` does, unless its output is there; `report` tells of that.
    fn run<T: TaskOutput>(
        &self,
        mut stages: Stages,
        make: impl FnOnce(&Self, &mut Stages) -> Result<T>,
        report: impl FnOnce(TaskReport, &T) -> TaskReport,
    ) -> Result<TaskReport> {
        let Self { folder, index, .. } = *self;
        let store = &*folder.store;
        if let Some(there) = folder.output::<T>(self.plan, index)? {
            there.check(store)?;
            stages.end("check").bytes(there.bytes());
            return Ok(report(self.report(true, there.bytes(), stages), &there));
        }
        let made = make(self, &mut stages)?;
        if folder.put_output(&made)? {
            stages.end("publish");
            return Ok(report(self.report(false, made.bytes(), stages), &made));
        }
        made.remove(store)?;
        let Some(first) = folder.output::<T>(self.plan, index)? else {
            return Err(Error::failed(
                format!(
                    "naming {} of {}",
                    document_name(T::FOLDER, index),
                    folder.what()
                ),
                "it was there, and is gone",
            )
            .next("run the task again, unless somebody removed the job"));
        };
        first.check(store)?;
        stages.end("check").bytes(first.bytes());
        Ok(report(self.report(true, first.bytes(), stages), &first))
    }

    fn report(&self, was_there: bool, bytes: u64, stages: Stages) -> TaskReport {
        TaskReport {
            envelope: Envelope::new("job task", 1, Outcome::DONE),
            job: self.request.job.clone(),
            stage: self.request.stage,
            index: self.index,
            of: None,
            shard: None,
            was_there,
            points: 0,
            segments: 0,
            conflicts: 0,
            bytes,
            seconds: stages.elapsed().as_secs_f64(),
            stages: stages.into_reports(),
        }
    }

    fn divide(&self, stages: &mut Stages) -> Result<DividedMerge> {
        let archive = &self.request.from_archive;
        divide(self.plan, archive, None, self.context, stages).map(|(divided, _)| divided)
    }

    /// A new scratch folder with room for `bytes` bytes, for `what`.
    fn scratch(&self, bytes: u64, what: &str) -> Result<Scratch> {
        let parent = self.request.scratch.clone();
        let parent = parent.unwrap_or_else(std::env::temp_dir);
        require_free(&parent, bytes, what)?;
        Scratch::new(&parent)
    }

    /// Makes a run, and puts all of it but its document into the store.
    fn make_run(&self, stages: &mut Stages) -> Result<StoredRun> {
        let Some(task) = self.plan.runs.get(self.index as usize) else {
            return Err(Error::usage("doing a task", "there is no such task"));
        };
        let divided = self.divide(stages)?;
        let scratch = self.scratch(task.needs.scratch_bytes, "the run")?;
        let site = Workspace {
            scratch: &scratch,
            progress: self.context.progress,
        };
        let path = scratch.path().join(RUN);
        let target = Target {
            file: scratch::create(&path)?,
            path: path.clone(),
        };
        let run = divided.make_run(task.of, target, site, stages)?;
        let attempt = Uuid::new_v4().simple().to_string();
        let prefix = prefix(RUNS, self.index, &attempt, RUN);
        Chunks::put_unread(&*self.folder.store, &prefix, &path)?;
        stages.end("store").bytes(run.bytes());
        let run = StoredRun {
            job: self.plan.job.clone(),
            index: self.index,
            attempt,
            made: Utc::now(),
            seconds: stages.elapsed().as_secs_f64(),
            run,
        };
        run.check(&*self.folder.store)?;
        stages.end("check").bytes(run.bytes());
        Ok(run)
    }

    /// Makes a part, and puts all of it but its document into the store.
    fn make_part(&self, stages: &mut Stages) -> Result<StoredPart> {
        let (folder, plan) = (self.folder, self.plan);
        let Some(task) = plan.tasks.get(self.index as usize) else {
            return Err(Error::usage("doing a task", "there is no such task"));
        };
        let stored: Vec<StoredRun> =
            folder.all_outputs(plan, plan.runs.len(), "reading the runs")?;
        let made: Vec<MadeRun> = stored.iter().map(|one| one.run.clone()).collect();
        let in_store = RunsInStore {
            store: &*folder.store,
            runs: &stored,
        };
        let runs = (!made.is_empty()).then_some(Runs {
            made: &made,
            stored: &in_store,
        });
        let divided = self.divide(stages)?;
        let scratch = self.scratch(task.needs.scratch_bytes, "the part")?;
        let site = Workspace {
            scratch: &scratch,
            progress: self.context.progress,
        };
        let members = scratch.path().join(MEMBERS);
        let conflicts = scratch.path().join(CONFLICTS);
        let target = Target {
            file: scratch::create(&members)?,
            path: members.clone(),
        };
        let (part, written) = divided.make(task.shard, runs, target, &conflicts, site, stages)?;
        written.read_back()?;
        stages.end("read back");
        let attempt = Uuid::new_v4().simple().to_string();
        let put = |kind, path| {
            let prefix = prefix(PARTS, self.index, &attempt, kind);
            Chunks::put(&*folder.store, &prefix, path)
        };
        let members = put(MEMBERS, &members)?;
        let conflicts = put(CONFLICTS, &conflicts)?;
        stages
            .end("store")
            .bytes(members.bytes() + conflicts.bytes());
        Ok(StoredPart {
            job: plan.job.clone(),
            index: self.index,
            attempt,
            made: Utc::now(),
            seconds: stages.elapsed().as_secs_f64(),
            members,
            conflicts,
            part,
        })
    }
}

impl TaskReport {
    fn of_run(self, run: &StoredRun) -> Self {
        Self {
            of: Some(run.run.of),
            points: run.run.points - run.run.filtered,
            ..self
        }
    }

    fn of_part(self, part: &StoredPart) -> Self {
        let shards = &part.part.built.shards;
        Self {
            shard: Some(part.part.shard),
            points: shards.iter().map(|shard| shard.points).sum(),
            segments: shards.iter().map(|shard| shard.segments).sum(),
            conflicts: part.part.conflicts,
            ..self
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
    let archive = archive_of(plan, archive);
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
    if !same || divided.runs() != plan.runs || divided.parts()? != plan.tasks {
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

/// The archive of the sources of `plan`. What is `given` goes before what the plan says.
pub fn archive_of(plan: &JobPlan, given: &SourceArchiveOptions) -> SourceArchiveOptions {
    let archive = given.archive.clone();
    SourceArchiveOptions {
        archive: archive.or_else(|| Some(plan.archive.clone())),
        ..given.clone()
    }
}
