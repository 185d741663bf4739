//! Storing a snapshot, getting it back, and checking the archive, against copying and reading.
//!
//! Keeps true: a copy and what is compared with it find their files both in the page cache or both out
//! of it. The goals speak of the disk's speed, so what they are for is measured out of it; how it is in
//! it is told beside, by stages of their own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::process::{self, Measured};
use super::{Args, Copied, Outcome, expect_success, fresh, prepare, read_all};

fn run(verb: &str, args: &Args) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_snapmerge"));
    command.args(["archive", verb, "--archive"]);
    command.arg(args.dir.join("archive"));
    command
}

/// An empty archive.
fn empty(args: &Args) -> Outcome {
    fresh(&args.dir.join("archive"))?;
    expect_success(run("init", args).stdout(Stdio::null()))
}

/// An archive of `files`.
fn fill(args: &Args, files: &[PathBuf]) -> Outcome {
    empty(args)?;
    expect_success(run("add", args).args(files).stdout(Stdio::null()))
}

/// Has the objects leave the page cache, or be in it; says which they are.
fn prepare_objects(args: &Args, cold: bool) -> Outcome<Vec<PathBuf>> {
    let mut objects = Vec::new();
    for folder in std::fs::read_dir(args.dir.join("archive/objects"))? {
        for object in std::fs::read_dir(folder?.path())? {
            objects.push(object?.path());
        }
    }
    prepare(&objects, cold)?;
    Ok(objects)
}

/// Fills an archive, and says how long it takes to read all its objects off the disk, one after the
/// other.
pub fn fill_and_read(args: &Args, files: &[PathBuf]) -> Outcome<Copied> {
    fill(args, files)?;
    let objects = prepare_objects(args, true)?;
    let read = read_all(&objects)?;
    prepare_objects(args, true)?;
    Ok(read)
}

/// Whether a stage is about what lies on the disk, and not in the page cache.
pub fn is_of_the_disk(stage: &str) -> bool {
    matches!(stage, "archive-add" | "archive-get" | "archive-check")
}

/// Runs one stage on an archive that is made for it.
pub fn measure(stage: &str, args: &Args, files: &[PathBuf], cold: bool) -> Outcome<Measured> {
    let mut command = match stage {
        "archive-add" | "archive-add-warm" => {
            empty(args)?;
            let mut command = run("add", args);
            command.args(files);
            command
        }
        "archive-get" | "archive-get-warm" => {
            fill(args, files)?;
            prepare_objects(args, cold)?;
            let entry = files.first().and_then(|file| file.file_stem());
            let mut command = run("get", args);
            command.args(entry).arg("--force").arg("-o");
            command.arg(args.dir.join("archive/got.snapshot"));
            command
        }
        "archive-check" => run("check", args),
        other => return Err(format!("there is no stage '{other}'").into()),
    };
    // What was made ready is not this run's business.
    expect_success(Command::new("sync").arg("-f").arg(&args.dir))?;
    command.arg("--json");
    let measured = process::run_verb(command, true)?;
    std::fs::remove_dir_all(args.dir.join("archive"))?;
    Ok(measured)
}
