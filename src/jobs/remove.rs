//! Removing jobs, or parts of one.
//!
//! Invariants: only what a job writes is removed, and only where a plan is; the plan goes last, so that a removal that
//! was ended is taken up again; a part's document goes before its bytes, so that it is never believed without them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::folder::{JobFolder, PARTS, PLAN, RUNS, document_name, is_document, is_of_job};
use crate::archive::{Listed, Location};
use crate::base::error::{Error, Kind, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::base::parallel::in_parallel;

/// Seconds of a day.
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Removes a job, parts of one, or jobs that are old.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct JobRemoveRequest {
    /// The job, as `job plan` printed it; with --expire the store of jobs
    #[arg(value_name = "JOB")]
    pub job: String,
    /// Remove the part of this task alone, so that it can be done again; repeat it for more
    #[arg(long, value_name = "INDEX", conflicts_with = "expire")]
    pub part: Vec<u32>,
    /// Remove the run of this task of the stage map alone; repeat it for more
    #[arg(long, value_name = "INDEX", conflicts_with = "expire")]
    pub run: Vec<u32>,
    /// Remove every job of the store that nothing was written to for so many days
    #[arg(long, value_name = "DAYS")]
    pub expire: Option<u32>,
}

/// Report of a removal.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct JobRemoveReport {
    /// Header of the report.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// Jobs of which something was removed.
    pub jobs: Vec<String>,
    /// Files, or objects, that were removed.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
}

impl Operation for JobRemoveRequest {
    const NAME: &'static str = "job-rm";
    type Report = JobRemoveReport;

    fn run(self, _context: &Context) -> Result<JobRemoveReport> {
        let jobs = match self.expire {
            None => vec![self.job.clone()],
            Some(days) => expired(&self.job, days, SystemTime::now())?,
        };
        let (mut removed, mut removed_bytes) = (0, 0);
        for job in &jobs {
            let (count, bytes) = remove(job, &self.part, &self.run)?;
            removed += count;
            removed_bytes += bytes;
        }
        Ok(JobRemoveReport {
            envelope: Envelope::new("job rm", 1, Outcome::DONE),
            jobs,
            removed,
            removed_bytes,
        })
    }
}

/// Removes the job at `place`, or `parts` and `runs` of it, if there are any.
fn remove(place: &str, parts: &[u32], runs: &[u32]) -> Result<(u64, u64)> {
    let folder = JobFolder::open(place)?;
    let store = &*folder.store;
    // A damaged plan is no reason to keep the job.
    if store.head(PLAN, 0)?.is_none() {
        return Err(Error::new(
            Kind::NotFound,
            format!("removing the job {}", folder.what()),
            format!("there is no {PLAN}"),
        )
        .next("give the place that `snapmerge job plan` printed"));
    }
    let listed = folder.list()?;
    let is_wanted = |one: &&Listed| {
        let is_of = |folder: &str, index: u32| {
            one.name == document_name(folder, index)
                || one.name.starts_with(&format!("{folder}/{index}/"))
        };
        let is_all = parts.is_empty() && runs.is_empty();
        is_all
            || parts.iter().any(|index| is_of(PARTS, *index))
            || runs.iter().any(|index| is_of(RUNS, *index))
    };
    let wanted = listed.iter().filter(is_wanted);
    let (documents, chunks): (Vec<&Listed>, Vec<&Listed>) =
        wanted.partition(|one| is_document(&one.name));
    let (plan, documents): (Vec<&Listed>, Vec<&Listed>) =
        documents.into_iter().partition(|one| one.name == PLAN);
    let (mut removed, mut removed_bytes) = (0, 0);
    for some in [documents, chunks, plan] {
        let done = in_parallel(some, store.at_once(), |one| {
            Ok(store.remove(&one.name)?.then_some(one.bytes))
        })?;
        store.sync()?;
        for bytes in done.into_iter().flatten() {
            removed += 1;
            removed_bytes += bytes;
        }
    }
    if parts.is_empty() && runs.is_empty() {
        store.prune()?;
    }
    Ok((removed, removed_bytes))
}

/// The jobs of the store at `place` that nothing was written to for `days` days before `now`.
fn expired(place: &str, days: u32, now: SystemTime) -> Result<Vec<String>> {
    let store = Location::parse(place)?.open()?;
    let mut newest: BTreeMap<String, (SystemTime, bool)> = BTreeMap::new();
    for one in store.list("")? {
        let Some((job, name)) = one.name.split_once('/') else {
            continue;
        };
        if !is_of_job(name) {
            continue;
        }
        let (time, has_plan) = newest
            .entry(job.to_owned())
            .or_insert((one.modified, false));
        *time = one.modified.max(*time);
        *has_plan |= name == PLAN;
    }
    let age = Duration::from_secs(u64::from(days) * DAY_SECONDS);
    let is_old = |time: SystemTime| now.duration_since(time).is_ok_and(|since| since >= age);
    let old = newest.into_iter();
    let old = old.filter(|(_, (time, has_plan))| *has_plan && is_old(*time));
    Ok(old
        .map(|(job, _)| format!("{}/{job}", place.trim_end_matches('/')))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_is_removed_and_what_is_no_job_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display().to_string();
        let put = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        };
        for name in [
            "job-a/plan.json",
            "job-a/parts/0.json",
            "job-a/parts/0/ab/members-00000000",
            "job-a/parts/1/ab/members-00000000",
            "job-a/parts/10/ab/members-00000000",
            "job-a/runs/0.json",
            "job-a/runs/1/ab/run-00000000",
            "job-a/notes.txt",
            "objects/00/parts/1",
            "other/parts/0.json",
        ] {
            put(name);
        }
        let days = |days: u64| SystemTime::now() + Duration::from_secs(days * DAY_SECONDS + 60);
        let job = format!("{place}/job-a");
        assert_eq!(expired(&place, 7, days(6)).unwrap(), Vec::<String>::new());
        assert_eq!(
            expired(&place, 7, days(7)).unwrap(),
            std::slice::from_ref(&job)
        );
        assert_eq!(remove(&job, &[1], &[]).unwrap(), (1, 1));
        assert_eq!(remove(&job, &[0], &[]).unwrap(), (2, 2));
        assert_eq!(remove(&job, &[], &[1]).unwrap(), (1, 1));
        assert_eq!(remove(&job, &[], &[]).unwrap(), (3, 3));
        // What is not the job's stays, and nothing else.
        assert!(!folder.path().join("job-a/parts").exists());
        assert!(folder.path().join("job-a/notes.txt").exists());
        let err = remove(&job, &[], &[]).unwrap_err();
        assert_eq!(err.kind(), Kind::NotFound);
        assert!(remove(&format!("{place}/other"), &[], &[]).is_err());
        assert!(folder.path().join("other/parts/0.json").exists());
    }
}
