//! `snapmerge job`: one merge as tasks of an engine that people already run.
//!
//! Invariants: each verb parses, runs one operation and prints its report.

use clap::{Args, Subcommand};

use super::archive::VerbArgs;
use super::{Ended, answer, show};
use crate::base::error::Result;
use crate::jobs::{JobPlanRequest, JobRemoveRequest, JobStatusRequest, JoinRequest, TaskRequest};

/// Arguments of `job`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge job plan s3://backups/jobs --archive s3://backups/qdrant archive:a@2026-11-01 archive:b@2026-11-01
  snapmerge job task s3://backups/jobs/job-4f1c9a07d2e86b35a1c4f7e09d3b5826 --stage shard --index 3
  snapmerge job join s3://backups/jobs/job-4f1c9a07d2e86b35a1c4f7e09d3b5826 -o master.snapshot

Kubernetes, Slurm, Ray or a plain loop place the tasks and retry them; scripts/deploy has manifests.")]
pub struct JobArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: JobVerb,
}

/// Verbs of `job`.
#[derive(Debug, Subcommand)]
pub enum JobVerb {
    /// Plan a merge as tasks, and say what each of them needs
    #[command(after_help = "\
Examples:
  snapmerge job plan jobs --archive backups archive:album_2017 archive:album_2018 --on-conflict first
  snapmerge job plan s3://backups/jobs --archive s3://backups/qdrant archive:a@2026-11-01 archive:b@2026-11-01 --json

Everything that merge refuses is refused here, before a task begins; and a merge that cannot be divided:
--on-conflict remap, --layout by-field. Planning the same again gives the same job.")]
    Plan(Box<VerbArgs<JobPlanRequest>>),
    /// Do one task: make one of the master's shards, or a run of a source's
    #[command(after_help = "\
Examples:
  snapmerge job task s3://backups/jobs/job-4f1c9a07d2e86b35a1c4f7e09d3b5826 --stage shard --index 3
  snapmerge job task jobs/job-4f1c9a07d2e86b35a1c4f7e09d3b5826 --stage shard --index 0 --scratch /mnt/scratch
  snapmerge job task jobs/job-4f1c9a07d2e86b35a1c4f7e09d3b5826 --stage map --index 0

The plan says which stages there are, and how many tasks each has: all of map, then all of shard.

Run again, or twice at once, it changes nothing: the first part counts, and is compared. A task that ends with 2, 10,
12 or 13 ends so again; one that ends with 1 or 14, or was killed, is to be retried.")]
    Task(Box<VerbArgs<TaskRequest>>),
    /// Make the master out of all parts, proven as that of merge
    #[command(after_help = "\
Examples:
  snapmerge job join s3://backups/jobs/job-4f1c9a07d2e86b35a1c4f7e09d3b5826 -o master.snapshot
  snapmerge job join jobs/job-4f1c9a07d2e86b35a1c4f7e09d3b5826 -o master.snapshot --ledger conflicts.jsonl --force
  snapmerge job join s3://backups/jobs/job-4f1c9a07d2e86b35a1c4f7e09d3b5826 --into-archive album_master
  snapmerge job join s3://backups/jobs/job-4f1c9a07d2e86b35a1c4f7e09d3b5826 --to http://prod:6333/album_master

Without -o the master is made in scratch, proven, stored or restored from there, and removed.")]
    Join(Box<VerbArgs<JoinRequest>>),
    /// Say which tasks are done
    #[command(after_help = "\
Examples:
  snapmerge job status s3://backups/jobs/job-4f1c9a07d2e86b35a1c4f7e09d3b5826
  snapmerge job status jobs/job-4f1c9a07d2e86b35a1c4f7e09d3b5826 --json")]
    Status(VerbArgs<JobStatusRequest>),
    /// Remove a job, a part of one, or jobs that are old
    #[command(after_help = "\
Examples:
  snapmerge job rm s3://backups/jobs/job-4f1c9a07d2e86b35a1c4f7e09d3b5826
  snapmerge job rm jobs/job-4f1c9a07d2e86b35a1c4f7e09d3b5826 --part 3
  snapmerge job rm jobs/job-4f1c9a07d2e86b35a1c4f7e09d3b5826 --run 0
  snapmerge job rm s3://backups/jobs --expire 7

Masters that were joined, and the archive, do not need it any more.")]
    Rm(VerbArgs<JobRemoveRequest>),
}

/// Runs the command.
pub fn run(args: JobArgs) -> Result<Ended> {
    match args.verb {
        JobVerb::Plan(args) => answer(&args.request, args.output),
        JobVerb::Task(args) => show(&args.request, args.output),
        JobVerb::Join(args) => show(&args.request, args.output),
        JobVerb::Status(args) => answer(&args.request, args.output),
        JobVerb::Rm(args) => show(&args.request, args.output),
    }
}
