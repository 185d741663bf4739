//! The drivers that are shipped do what plan, tasks and join by hand do: the one for Slurm with an `sbatch` that does at
//! once what it is given, since no cluster is here; the one for Ray with Ray, where that is installed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Bench;
use super::faults::bench;
use crate::support::{Env, Outcome, Trial, program};

/// An `sbatch` that runs what it is given, and says the number 7.
const SBATCH: &str = r#"#!/usr/bin/env bash
set -euo pipefail
array=
while [[ $1 == --* && $1 != --wrap ]]; do
    case $1 in --array=0-*) array=${1#--array=0-} ;; esac
    shift
done
if [[ $1 == --wrap ]]; then
    bash -c "$2" >&2
else
    for ((index = 0; index <= array; index++)); do
        SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$index bash "$@" >&2
    done
fi
echo 7
"#;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let ray = python_with_ray();
    vec![
        Trial::needs(
            "job/drivers/slurm",
            &program("jq", "--version", "apt install jq"),
            |_| slurm(env),
        ),
        Trial::needs("job/drivers/ray", &ray, |python| by_ray(env, &python)),
        Trial::needs("job/drivers/ray_loses_a_node", &ray, |python| {
            ray_loses_a_node(env, &python)
        }),
    ]
}

/// The Python that has Ray: that beside the program `ray`.
fn python_with_ray() -> Result<PathBuf, String> {
    let ray = program("ray", "--version", "pip install ray")?;
    let python = ray.with_file_name("python3");
    let found = Command::new(&python).args(["-c", "import ray"]).output();
    match found {
        Ok(output) if output.status.success() => Ok(python),
        _ => Err(format!("{} has no Ray (pip install ray)", python.display())),
    }
}

/// A folder with `snapmerge` and what `files` says, to be put before the PATH.
fn path_with(bench: &Bench, files: &[(&str, &str)]) -> Outcome<String> {
    let bin = bench.path("bin");
    std::fs::create_dir(&bin)?;
    let program = env!("CARGO_BIN_EXE_snapmerge");
    std::os::unix::fs::symlink(program, bin.join("snapmerge"))?;
    for (name, text) in files {
        let path = bin.join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    let path = std::env::var("PATH")?;
    Ok(format!("{}:{path}", bin.display()))
}

/// Runs a driver, and compares the master that it makes.
fn run(bench: &Bench, mut driver: Command, path: &str, sha256: &str) -> Outcome {
    let master = bench.path("driven.snapshot");
    driver
        .arg(&master)
        .arg(&bench.store)
        .arg("--archive")
        .arg(&bench.root)
        .args(&bench.sources)
        .env("PATH", path);
    let output = driver.output()?;
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{}{}",
        told(&output.stdout),
        told(&output.stderr)
    );
    ensure!(
        told(&output.stdout).contains("3 tasks"),
        "{}",
        told(&output.stdout)
    );
    let checksum = std::fs::read_to_string(checksum_of(&master))?;
    ensure!(checksum.contains(sha256), "another master: {checksum}");
    Ok(())
}

fn checksum_of(master: &Path) -> PathBuf {
    master.with_extension("snapshot.checksum")
}

fn slurm(env: &Env) -> Outcome {
    let (bench, sha256) = bench()?;
    let path = path_with(&bench, &[("sbatch", SBATCH)])?;
    let script = env.root.join("scripts/deploy/slurm_job.sh");
    let mut driver = Command::new("bash");
    driver.arg(&script).env("SCRATCH", bench.dir.path());
    run(&bench, driver, &path, &sha256)?;
    // A plan that is refused ends it.
    let refused = Command::new("bash")
        .arg(&script)
        .arg(bench.path("none.snapshot"))
        .arg(&bench.store)
        .arg("--archive")
        .arg(&bench.root)
        .args(["archive:a", "--on-conflict", "remap"])
        .env("PATH", path)
        .output()?;
    ensure_eq!(refused.status.code(), Some(2), "the code");
    Ok(())
}

fn by_ray(env: &Env, python: &Path) -> Outcome {
    let (bench, sha256) = bench()?;
    let path = path_with(&bench, &[])?;
    let mut driver = Command::new(python);
    driver.arg(env.root.join("scripts/ray_job.py"));
    driver.env("TMPDIR", bench.dir.path());
    run(&bench, driver, &path, &sha256)
}

/// A `snapmerge` that says that it does a task, and on which node, and begins when it may.
const WAITING: &str = r#"#!/usr/bin/env bash
set -euo pipefail
if [[ "$1 $2" == "job task" ]]; then
    touch "$TEST_FOLDER/task-$TEST_NODE-$$"
    while [[ ! -e "$TEST_FOLDER/go" ]]; do sleep 0.05; done
fi
exec "$TEST_SNAPMERGE" "$@"
"#;

/// Two raylets, of which one is ended with a task under way on it.
fn ray_loses_a_node(env: &Env, python: &Path) -> Outcome {
    let (bench, sha256) = bench()?;
    let path = path_with(&bench, &[])?;
    let own = bench.path("bin/snapmerge");
    std::fs::remove_file(&own)?;
    std::fs::write(&own, WAITING)?;
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755))?;
    let folder = bench.path("marks");
    std::fs::create_dir(&folder)?;
    let mut driver = Command::new(python);
    driver
        .arg(env.root.join("tests/suite/job/two_raylets.py"))
        .arg(&folder)
        .arg(python)
        .arg(env.root.join("scripts/ray_job.py"))
        .env("TMPDIR", bench.dir.path())
        .env("TEST_FOLDER", &folder)
        .env("TEST_SNAPMERGE", env!("CARGO_BIN_EXE_snapmerge"));
    run(&bench, driver, &path, &sha256)?;
    let on = |node: &str| -> Outcome<usize> {
        let names = crate::support::names_in(&folder)?;
        let mark = format!("task-{node}-");
        Ok(names.iter().filter(|name| name.starts_with(&mark)).count())
    };
    ensure!(on("second")? > 0, "the second node did nothing");
    ensure!(on("first")? + on("second")? > 3, "no task was begun again");
    Ok(())
}
