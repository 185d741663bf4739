//! Proving a grafted master, against reading the same files.
//!
//! Keeps true: the master is made anew of these very sources for each bench; the proof and `cat` read
//! the same files, all of them in the page cache, or none.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::{self, Measured};
use super::{Args, Copied, Outcome, bytes_of, expect_success, fresh, prepare, read_all};

/// Where the master is.
fn master(args: &Args) -> PathBuf {
    args.dir.join("verify/master.snapshot")
}

fn with_master(args: &Args, files: &[PathBuf]) -> Vec<PathBuf> {
    let mut all = files.to_vec();
    all.push(master(args));
    all
}

/// Makes the master, and says how many bytes it and its sources have.
pub fn bytes(args: &Args, files: &[PathBuf]) -> Outcome<u64> {
    let master = master(args);
    fresh(master.parent().unwrap_or(Path::new(".")))?;
    let mut merge = Command::new(env!("CARGO_BIN_EXE_snapmerge"));
    merge.args(["merge", "--json", "--quiet", "--route", "graft"]);
    merge.args(files).arg("-o").arg(&master);
    expect_success(merge.stdout(Stdio::null()))?;
    bytes_of(&with_master(args, files))
}

/// How long it takes to read all of it.
pub fn read(args: &Args, files: &[PathBuf]) -> Outcome<Copied> {
    let all = with_master(args, files);
    prepare(&all, args.cold)?;
    read_all(&all)
}

/// Runs the proof.
pub fn measure(stage: &str, args: &Args, files: &[PathBuf]) -> Outcome<Measured> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_snapmerge"));
    command.args(["verify", "--json", "--quiet"]);
    command.arg(master(args)).arg("--against").args(files);
    if stage == "verify-deep" {
        command.arg("--deep");
    }
    prepare(&with_master(args, files), args.cold)?;
    process::run_verb(command, true)
}
