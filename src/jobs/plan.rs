//! Planning a job: a merge is planned as `merge` plans it, divided into tasks, and written down in the store.
//!
//! Invariants: whatever `merge` refuses, and whatever is not divided, is refused before anything is written; planning
//! the same again finds the same job.

use std::path::PathBuf;
use std::time::Instant;

use chrono::Utc;
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::folder::{FORMAT, JobFolder, JobPlan};
use crate::archive::{EntryRef, Location};
use crate::base::error::{Error, Result};
use crate::base::operation::{Context, Envelope, Operation};
use crate::base::stage::Stages;
use crate::input::InputOptions;
use crate::merge::{
    DividedSource, MergeOptions, MergeRequest, PlanReport, PlannedPart, PlannedRun, RouteChoice,
};

/// Plans a job: one merge as tasks.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct JobPlanRequest {
    /// Where jobs are kept: a folder that every task reaches, s3://BUCKET/PREFIX (keys, region and endpoint come
    /// from AWS_*), gs://BUCKET/PREFIX (GOOGLE_*) or az://CONTAINER/PREFIX (AZURE_*)
    #[arg(value_name = "STORE")]
    pub store: String,
    /// Sources to merge: entries of the archive, as archive:NAME@DATE; their order decides conflicts
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub options: MergeOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub input: InputOptions,
}

/// A planned job.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct JobPlanReport {
    /// Header of the report.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// The job: the place that its tasks are given.
    pub job: String,
    /// True if it was planned before.
    pub was_planned: bool,
    /// The sources in their order.
    pub sources: Vec<DividedSource>,
    /// The stages in their order.
    pub stages: Vec<StagePlan>,
    /// Bytes that joining reads from the store and writes to the master, at about.
    pub join_bytes: u64,
    /// The merge's plan.
    pub merge: PlanReport,
}

/// A stage of a job. Its tasks need those of the stage before.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum StagePlan {
    /// Runs of the sources' shards, where the master has other shards.
    Map {
        /// Its tasks by their index.
        tasks: Vec<PlannedRun>,
    },
    /// The master's shards.
    Shard {
        /// Its tasks by their index.
        tasks: Vec<PlannedPart>,
    },
}

impl Operation for JobPlanRequest {
    const NAME: &'static str = "job-plan";
    type Report = JobPlanReport;

    fn run(self, context: &Context) -> Result<JobPlanReport> {
        let location = Location::parse(&self.store)?;
        self.refuse_encrypted()?;
        let config = self.options.config_file()?;
        // What is in it counts, not what it is called.
        let options = MergeOptions {
            config: None,
            ..self.options.clone()
        };
        let merge = MergeRequest {
            sources: self.sources.clone(),
            options: options.clone(),
            input: self.input.clone(),
            ..MergeRequest::default()
        };
        // As `merge` does before it begins.
        let inside = options.route != RouteChoice::Rebuild;
        let mut stages = Stages::since(Instant::now());
        let divided = merge.divide(config.as_ref(), inside, context, &mut stages)?;
        let sources = divided.sources()?;
        let (runs, tasks) = (divided.runs(), divided.parts()?);
        let job = JobPlan::name(&sources, &options, config.as_ref())?;
        let place = place(&self.store, &location, &job)?;
        let folder = JobFolder::open(&place)?;
        let plan = JobPlan {
            format: FORMAT.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            job,
            planned: Utc::now(),
            archive: self.archive()?,
            sources: sources.clone(),
            options,
            config,
            runs: runs.clone(),
            tasks: tasks.clone(),
        };
        let was_planned = !folder.put_plan(&plan)?;
        if was_planned {
            refuse_other(&folder, &plan)?;
        }
        let merge = divided.into_report();
        Ok(JobPlanReport {
            envelope: Envelope::new("job plan", 1, merge.envelope.outcome),
            job: place,
            was_planned,
            sources,
            join_bytes: tasks.iter().map(|task| task.needs.written_bytes).sum(),
            stages: stages_of(runs, tasks),
            merge,
        })
    }
}

impl JobPlanRequest {
    /// Refuses an archive whose entries are encrypted: parts of them are not.
    fn refuse_encrypted(&self) -> Result<()> {
        let of_archive = |path: &PathBuf| EntryRef::of_source(path).is_some();
        if !self.sources.iter().any(of_archive) {
            // Refused with the merge.
            return Ok(());
        }
        let archive = self.input.from_archive.open()?;
        match archive.chain()?.encryption() {
            None => Ok(()),
            Some(_) => Err(Error::usage(
                "dividing the merge into tasks",
                format!(
                    "{} is encrypted, and what the tasks write to {} is not",
                    archive.what(),
                    self.store
                ),
            )
            .next("merge in one process: snapmerge merge")),
        }
    }

    /// Where the sources are, as every process on this machine can tell.
    fn archive(&self) -> Result<String> {
        let given = self
            .input
            .from_archive
            .archive
            .as_deref()
            .unwrap_or_default();
        match Location::parse(given)? {
            Location::Folder(folder) => absolute(folder),
            Location::Bucket { .. } => Ok(given.to_owned()),
        }
    }
}

/// The stages with those tasks; without runs there is none for them.
fn stages_of(runs: Vec<PlannedRun>, tasks: Vec<PlannedPart>) -> Vec<StagePlan> {
    let map = (!runs.is_empty()).then_some(StagePlan::Map { tasks: runs });
    map.into_iter()
        .chain([StagePlan::Shard { tasks }])
        .collect()
}

/// The place of the `job` in the store at `location`, which was given as `store`.
fn place(store: &str, location: &Location, job: &str) -> Result<String> {
    let store = match location {
        Location::Folder(folder) => absolute(folder.clone())?,
        Location::Bucket { .. } => store.to_owned(),
    };
    Ok(format!("{}/{job}", store.trim_end_matches('/')))
}

fn absolute(folder: PathBuf) -> Result<String> {
    let absolute =
        std::path::absolute(&folder).map_err(|err| Error::io("looking for", &folder, &err))?;
    absolute.into_os_string().into_string().map_err(|path| {
        Error::usage(
            format!("planning a job in {}", path.display()),
            "names of folders have to be UTF-8",
        )
    })
}

/// Refuses a plan that is there under the name of `plan` and is another.
fn refuse_other(folder: &JobFolder, plan: &JobPlan) -> Result<()> {
    let there = folder.plan()?;
    let same = there.job == plan.job && there.sources == plan.sources;
    match same && there.runs == plan.runs && there.tasks == plan.tasks {
        true => Ok(()),
        false => Err(folder.damaged(super::folder::PLAN, "it is the plan of another job")),
    }
}
