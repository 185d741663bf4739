//! Jobs: a merge as tasks gives what the merge gives, however the tasks are run; what was changed, lost or
//! mixed up on the way makes no master.

mod drivers;
mod elsewhere;
mod faults;
mod map;
mod same;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::archive::{archive, make};
use crate::support::cli::{Cli, Run, Signal};
use crate::support::{Env, Outcome, Trial, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    [
        same::trials(env),
        map::trials(env),
        faults::trials(env),
        elsewhere::trials(env),
        drivers::trials(env),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Snapshots in an archive, and a store for jobs.
struct Bench {
    dir: tempfile::TempDir,
    root: PathBuf,
    store: PathBuf,
    sources: Vec<String>,
}

impl Bench {
    /// One with the snapshots of real servers that are called `names` in fixtures/.
    fn of_cases(env: &Env, names: &[&str]) -> Outcome<Self> {
        Self::of(|dir| {
            let case = |name: &&str| Ok(((*name).to_owned(), env.case(name).unpack(dir)?));
            names.iter().map(case).collect()
        })
    }

    /// One with what `files` makes in its folder, each file under the name that it is given with.
    fn of(files: impl FnOnce(&Path) -> Outcome<Vec<(String, PathBuf)>>) -> Outcome<Self> {
        let dir = temp_dir()?;
        let root = make(dir.path())?;
        let mut sources = Vec::new();
        for (name, file) in files(dir.path())? {
            archive("add", &root)
                .arg(&file)
                .args(["--name", &name])
                .run()?
                .ok()?;
            sources.push(format!("archive:{name}@latest"));
        }
        Ok(Self {
            store: dir.path().join("jobs"),
            dir,
            root,
            sources,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `merge` of all sources.
    fn merge(&self, output: &Path, flags: &[&str]) -> Cli {
        cli!["merge", "--json", "--archive", &self.root]
            .args(&self.sources)
            .args(flags)
            .arg("-o")
            .arg(output)
    }

    fn plan(&self, flags: &[&str]) -> Cli {
        cli![
            "job",
            "plan",
            "--json",
            "--archive",
            &self.root,
            &self.store
        ]
        .args(&self.sources)
        .args(flags)
    }

    /// A planned job.
    fn planned(&self, flags: &[&str]) -> Outcome<Job> {
        let plan = self.plan(flags).run()?.ok()?.json()?;
        let count = |stage: &str| {
            let stages = plan["stages"].as_array().into_iter().flatten();
            let mut of_stage = stages.filter(|one| one["stage"] == stage);
            let tasks = of_stage.next().and_then(|one| one["tasks"].as_array());
            tasks.map_or(0, Vec::len)
        };
        Ok(Job {
            place: plan["job"].as_str().ok_or("no job")?.to_owned(),
            runs: count("map"),
            tasks: count("shard"),
            plan,
        })
    }
}

/// A planned job.
struct Job {
    place: String,
    /// Tasks of the stage map.
    runs: usize,
    /// Tasks of the stage shard.
    tasks: usize,
    plan: Value,
}

impl Job {
    fn task_of(&self, stage: &str, index: usize) -> Cli {
        cli!["job", "task", &self.place, "--json", "--stage", stage]
            .args(["--index", &index.to_string()])
    }

    fn task(&self, index: usize) -> Cli {
        self.task_of("shard", index)
    }

    fn map(&self, index: usize) -> Cli {
        self.task_of("map", index)
    }

    fn all_runs(&self) -> Outcome {
        for index in 0..self.runs {
            self.map(index).run()?.ok()?;
        }
        Ok(())
    }

    fn all_tasks(&self) -> Outcome {
        self.all_runs()?;
        for index in 0..self.tasks {
            self.task(index).run()?.ok()?;
        }
        Ok(())
    }

    fn join(&self, output: &Path) -> Cli {
        cli![
            "job",
            "join",
            &self.place,
            "--json",
            "--force",
            "-o",
            output
        ]
    }

    fn status(&self) -> Outcome<Value> {
        let status = cli!["job", "status", &self.place, "--json"];
        status.run()?.ok()?.json()
    }

    /// Its folder.
    fn folder(&self) -> PathBuf {
        PathBuf::from(&self.place)
    }

    /// The file of a chunk of the members of a part.
    fn chunk(&self, index: usize) -> Outcome<PathBuf> {
        let folder = self.folder().join(format!("parts/{index}"));
        let chunks = crate::archive::walk(&folder)?;
        let is_members = |path: &&PathBuf| path.to_string_lossy().contains("members-");
        let found = chunks.iter().find(is_members).ok_or("no chunk")?;
        Ok(found.clone())
    }

    /// The document of a part.
    fn document(&self, index: usize) -> PathBuf {
        self.folder().join(format!("parts/{index}.json"))
    }
}

/// Starts a task twice at once: both end well, and one of them made what it makes.
fn two_at_once(task: impl Fn() -> Cli) -> Outcome {
    let running = [task().start()?, task().start()?];
    let mut made = 0;
    for running in running {
        let done = running.wait()?.ok()?.json()?;
        made += u32::from(done["was_there"] == false);
    }
    ensure_eq!(made, 1, "of two at once made it");
    Ok(())
}

/// Starts a task `times` times, each time after `again` has removed what it makes, and kills it at a random moment of
/// the time that a whole one takes, so that every step is hit; then `look` says whether all is as it should be. Returns
/// how often the task had not ended by itself.
fn killed_at_random(
    times: u32,
    random: &mut ChaCha8Rng,
    again: impl Fn() -> Outcome<Run>,
    task: impl Fn() -> Cli,
    look: impl Fn() -> Outcome,
) -> Outcome<u32> {
    let whole = task().run()?.ok()?.elapsed;
    let mut unfinished = 0;
    for _ in 0..times {
        again()?;
        let moment = random.random_range(Duration::ZERO..whole);
        let running = task().start()?;
        std::thread::sleep(moment);
        running.signal_group(Signal::KILL)?;
        unfinished += u32::from(running.wait()?.signal().is_some());
        look()?;
    }
    Ok(unfinished)
}
