//! The folder of a job in a store.
//!
//! Invariants: a document is there with the SHA-256 of its first line in its second, and one that is not as it was
//! written is never believed; a part is there when its document is, which is put last.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::index::Stage;
use crate::archive::{JOB_DIGITS, JOB_PREFIX, Listed, Location, Store};
use crate::base::error::{Error, Kind, Result};
use crate::base::parallel::in_parallel;
use crate::base::words::first_few;
use crate::merge::{ConfigFile, DividedSource, MergeOptions, PlannedPart, PlannedRun};

use chrono::{DateTime, Utc};

/// The name and version of the plan's structure, and of all that lies beside it.
pub const FORMAT: &str = "snapmerge-job/1";
/// The document that says what is merged.
pub const PLAN: &str = "plan.json";
/// The folder of the parts.
pub const PARTS: &str = "parts";
/// The folder of the runs.
pub const RUNS: &str = "runs";
/// Largest document that is read, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;

/// Sources and options of a merge: all that a task needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobPlan {
    /// The name and version of this structure.
    pub format: String,
    /// snapmerge's version, which is that of every task.
    pub version: String,
    /// Name of the job.
    pub job: String,
    /// When it was planned.
    pub planned: DateTime<Utc>,
    /// Where the sources are, as it was given.
    pub archive: String,
    /// The sources in their order.
    pub sources: Vec<DividedSource>,
    /// The merge's options.
    pub options: MergeOptions,
    /// The file that they name.
    pub config: Option<ConfigFile>,
    /// The tasks of the stage map by their index, if it has one: each makes a run of one shard of a source.
    pub runs: Vec<PlannedRun>,
    /// The tasks of the stage shard by their index: each makes one of the master's shards.
    pub tasks: Vec<PlannedPart>,
}

/// Output of a task: bytes in chunks, and a document that describes them.
pub trait TaskOutput: Serialize + DeserializeOwned + Send {
    /// The folder that it lies in.
    const FOLDER: &str;
    /// The stage whose tasks make it.
    const STAGE: Stage;

    /// Index of its task.
    fn index(&self) -> u32;

    /// Why it is not that of the task `index` of `plan`.
    fn refuse_other(&self, plan: &JobPlan, index: u32) -> Result<(), String>;

    /// Reads all of its chunks and compares them.
    fn check(&self, store: &dyn Store) -> Result<()>;

    /// Removes its chunks.
    fn remove(&self, store: &dyn Store) -> Result<()>;

    /// Bytes of its chunks.
    fn bytes(&self) -> u64;
}

/// Identity of a job: plans with equal fields are the same job.
#[derive(Serialize)]
struct Identity<'a> {
    format: &'a str,
    version: &'a str,
    sources: &'a [DividedSource],
    options: &'a MergeOptions,
    config: Option<&'a str>,
}

impl JobPlan {
    /// The name of the job of `sources` that are merged with `options`, which name the file `config`.
    pub fn name(
        sources: &[DividedSource],
        options: &MergeOptions,
        config: Option<&ConfigFile>,
    ) -> Result<String> {
        let identity = Identity {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION"),
            sources,
            options,
            config: config.map(|file| file.text.as_str()),
        };
        let bytes =
            serde_json::to_vec(&identity).map_err(|err| Error::failed("naming the job", err))?;
        let hash = hex::encode(Sha256::digest(&bytes));
        let digits = hash.get(..JOB_DIGITS).unwrap_or(&hash);
        Ok(format!("{JOB_PREFIX}{digits}"))
    }
}

/// The folder of a job.
pub struct JobFolder {
    /// The store, whose names begin there.
    pub store: Arc<dyn Store>,
}

impl JobFolder {
    /// The folder `place`, as [`JobPlanReport::job`](super::JobPlanReport) tells it.
    pub fn open(place: &str) -> Result<Self> {
        Ok(Self {
            store: Location::parse(place)?.open()?.into(),
        })
    }

    /// Where it is, for errors.
    pub fn what(&self) -> String {
        self.store.what()
    }

    /// The plan; an error if there is none.
    pub fn plan(&self) -> Result<JobPlan> {
        let Some(plan) = self.plan_if_any()? else {
            return Err(Error::new(
                Kind::NotFound,
                format!("looking for the job {}", self.what()),
                format!("there is no {PLAN}"),
            )
            .next("give the place that `snapmerge job plan` printed"));
        };
        Ok(plan)
    }

    /// The plan, if there is one.
    pub fn plan_if_any(&self) -> Result<Option<JobPlan>> {
        let plan: Option<JobPlan> = self.document(PLAN)?;
        match plan {
            Some(plan) if plan.format != FORMAT => Err(Error::usage(
                format!("reading the plan of {}", self.what()),
                format!("its format is {}, this version knows {FORMAT}", plan.format),
            )
            .next("use the version of snapmerge that planned it, or plan it again")),
            plan => Ok(plan),
        }
    }

    /// The plan, for whoever makes or joins parts: an error if another version planned it, whose parts may be
    /// others.
    pub fn plan_of_this_version(&self) -> Result<JobPlan> {
        let plan = self.plan()?;
        let own = env!("CARGO_PKG_VERSION");
        if plan.version != own {
            return Err(Error::usage(
                format!("working on {}", self.what()),
                format!("snapmerge {} planned it, and this is {own}", plan.version),
            )
            .next("use one version for all of a job, or plan it again with this one"));
        }
        Ok(plan)
    }

    /// Puts the plan; false if there is one.
    pub fn put_plan(&self, plan: &JobPlan) -> Result<bool> {
        self.put(PLAN, plan)
    }

    /// Output of the task `index` of `plan`, if it is there.
    pub fn output<T: TaskOutput>(&self, plan: &JobPlan, index: u32) -> Result<Option<T>> {
        let name = document_name(T::FOLDER, index);
        let Some(output) = self.document::<T>(&name)? else {
            return Ok(None);
        };
        output
            .refuse_other(plan, index)
            .map_err(|why| self.damaged(&name, why))?;
        Ok(Some(output))
    }

    /// Outputs of the first `count` tasks of `plan`; an error if one is not done, while `doing`.
    pub fn all_outputs<T: TaskOutput>(
        &self,
        plan: &JobPlan,
        count: usize,
        doing: &str,
    ) -> Result<Vec<T>> {
        let indexes = (0..).zip(0..count).map(|(index, _)| index);
        let made = in_parallel(indexes, self.store.at_once(), |index| {
            self.output::<T>(plan, index)
        })?;
        let missing = (0..).zip(&made).filter(|(_, made)| made.is_none());
        let missing: Vec<String> = missing
            .map(|(index, _): (u32, _)| index.to_string())
            .collect();
        if missing.is_empty() {
            return Ok(made.into_iter().flatten().collect());
        }
        Err(Error::failed(
            format!("{doing} of {}", self.what()),
            format!(
                "{} of {count} tasks are not done: {}",
                missing.len(),
                first_few(&missing)
            ),
        )
        .next(format!(
            "do them: snapmerge job task JOB --stage {} --index N",
            T::STAGE.word()
        )))
    }

    /// Puts the document of `output`, whose chunks are there; false if there is one, and nothing was changed.
    pub fn put_output<T: TaskOutput>(&self, output: &T) -> Result<bool> {
        self.put(&document_name(T::FOLDER, output.index()), output)
    }

    /// All that lies in it.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let mut listed = self.store.list("")?;
        listed.retain(|one| is_of_job(&one.name));
        Ok(listed)
    }

    fn put(&self, name: &str, document: &impl Serialize) -> Result<bool> {
        let failed = |err| Error::failed(format!("writing {name} of {}", self.what()), err);
        let mut bytes = serde_json::to_vec(document).map_err(failed)?;
        let hash = hex::encode(Sha256::digest(&bytes));
        bytes.push(b'\n');
        bytes.extend(hash.bytes());
        bytes.push(b'\n');
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(Error::failed(
                format!("writing {name} of {}", self.what()),
                format!(
                    "it has {} bytes, and no more than {DOCUMENT_BYTES_MAX} are read",
                    bytes.len()
                ),
            ));
        }
        // Whatever it speaks of is to stay before it is there.
        self.store.sync()?;
        let put = self.store.put_new(name, &bytes)?;
        self.store.sync()?;
        Ok(put)
    }

    fn document<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(bytes) = self.store.get(name, DOCUMENT_BYTES_MAX)? else {
            return Ok(None);
        };
        read(&bytes)
            .map(Some)
            .map_err(|why| self.damaged(name, why))
    }

    /// The error about what lies under `name`.
    pub fn damaged(&self, name: &str, why: impl std::fmt::Display) -> Error {
        let next = match name {
            PLAN => "remove the job and plan it again: snapmerge job rm JOB".to_owned(),
            _ => {
                let what = if name.starts_with(RUNS) {
                    "run"
                } else {
                    "part"
                };
                format!(
                    "remove the {what} and run its task again: snapmerge job rm {} --{what} INDEX",
                    self.what()
                )
            }
        };
        Error::damaged(format!("reading {name} of the job {}", self.what()), why).next(next)
    }
}

/// Name of the document in `folder` of what the task `index` made.
pub fn document_name(folder: &str, index: u32) -> String {
    format!("{folder}/{index}.json")
}

/// The beginning of the names of the chunks in `folder` of what `kind` says, of an attempt at the task `index`.
pub fn prefix(folder: &str, index: u32, attempt: &str, kind: &str) -> String {
    format!("{folder}/{index}/{attempt}/{kind}")
}

/// Returns true if a job writes what is called `name` in its folder.
pub fn is_of_job(name: &str) -> bool {
    let in_folder = |folder: &str| {
        let rest = name.strip_prefix(folder);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    name == PLAN || in_folder(PARTS) || in_folder(RUNS)
}

/// Returns true if `name`, which a job writes, is that of a document.
pub fn is_document(name: &str) -> bool {
    let of_task = || {
        let (_, rest) = name.split_once('/')?;
        rest.strip_suffix(".json")?.parse::<u32>().ok()
    };
    name == PLAN || of_task().is_some()
}

/// Why `attempt` is the name of none.
pub fn refuse_attempt(attempt: &str) -> Result<(), String> {
    let is_plain = !attempt.is_empty() && attempt.chars().all(|c| c.is_ascii_hexdigit());
    match is_plain {
        true => Ok(()),
        false => Err("its attempt has no name that one is given".into()),
    }
}

/// Reads a document: a line of JSON, and one with its SHA-256.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (Some(first), Some(second), Some([]), None) =
        (lines.next(), lines.next(), lines.next(), lines.next())
    else {
        return Err("it is not two lines".into());
    };
    if hex::encode(Sha256::digest(first)).as_bytes() != second {
        return Err("its SHA-256 is not the one in its second line".into());
    }
    serde_json::from_slice(first).map_err(|err| err.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_believed_only_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobFolder::open(&folder.path().display().to_string()).unwrap();
        assert_eq!(job.document::<Vec<u32>>("a").unwrap(), None);
        assert!(job.put("a", &[1, 22]).unwrap());
        assert!(!job.put("a", &[3]).unwrap());
        assert_eq!(job.document::<Vec<u32>>("a").unwrap(), Some(vec![1, 22]));
        let path = folder.path().join("a");
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                assert!(read::<Vec<u32>>(&bytes).is_err(), "{at} {bit}");
            }
            assert!(read::<Vec<u32>>(&whole[..at]).is_err(), "{at}");
        }
        assert_eq!(read::<Vec<u32>>(&whole).unwrap(), [1, 22]);
    }

    #[test]
    fn names_of_documents_are_told_from_others() {
        for name in [
            document_name(PARTS, 17),
            document_name(RUNS, 0),
            PLAN.to_owned(),
        ] {
            assert!(is_document(&name) && is_of_job(&name), "{name}");
        }
        let chunk = prefix(PARTS, 1, "ab", "1.json");
        for other in ["parts/x.json", "parts/1", "runs/1/a/run-0", &chunk] {
            assert!(!is_document(other) && is_of_job(other), "{other}");
        }
        for other in ["notes.txt", "partsx/1.json", "parts", "other/parts/1.json"] {
            assert!(!is_of_job(other), "{other}");
        }
    }
}
