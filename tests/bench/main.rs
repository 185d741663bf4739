//! Measures merging: how fast each stage is, how much memory it takes, and how that compares with
//! copying the same files.
//!
//! `scripts/bench.sh` runs it; by hand: `cargo test --test bench -- --help`. It makes its sources
//! itself, offline, with the house's own engine and packer, and keeps them for the next run.
//!
//! Keeps true: every stage is timed in a process that does nothing else before but what the stage
//! needs; memory is the peak of `RssAnon` (mapped files are page cache) of the working process while
//! the stage ran; a copy of the same files is timed right before every run, and the ratio is taken
//! of such pairs; of several runs the median is shown.

mod process;
mod sources;
mod table;
mod worker;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::Parser;

use process::Measured;
use sources::Shape;
use table::{Row, median};

/// The result of anything here; whoever fails says why in one line.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

#[derive(Debug, Parser)]
#[command(
    name = "bench",
    about = "Measures settle, scan and merge on sources of its own making"
)]
struct Args {
    /// Points of all sources together
    #[arg(long, default_value_t = 200_000)]
    points: u64,
    /// Dimensions
    #[arg(long, default_value_t = 512)]
    dims: usize,
    /// Sources
    #[arg(long, default_value_t = 3)]
    sources: u64,
    /// Let the engine build HNSW for the sources
    #[arg(long)]
    indexed: bool,
    /// How often everything is measured
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Where sources are kept and merged; on the disk that is to be measured
    #[arg(long, env = "SNAPMERGE_BENCH_DIR")]
    dir: PathBuf,
    /// What is measured
    #[arg(long, value_delimiter = ',', default_value = "settle,scan,merge,whole")]
    stages: Vec<String>,
    /// Make the sources, print their names, and stop
    #[arg(long)]
    make: bool,
    /// Do this stage in this process (how the bench runs itself)
    #[arg(long, hide = true)]
    worker: Option<String>,
    /// Further arguments for every `snapmerge merge`
    #[arg(last = true)]
    merge_args: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Outcome {
    let shape = Shape {
        points: args.points,
        dims: args.dims,
        sources: args.sources,
        indexed: args.indexed,
    };
    let files = sources::make(&args.dir, shape)?;
    if let Some(stage) = &args.worker {
        return worker::run(stage, &files, &args.dir);
    }
    if args.make {
        for file in &files {
            println!("{}", file.display());
        }
        return Ok(());
    }
    let bytes = bytes_of(&files)?;
    println!("{}", table::heading(&shape, bytes));
    let mut samples: Vec<Vec<Row>> = Vec::new();
    for run in 0..args.runs {
        let mut rows = Vec::new();
        for stage in &args.stages {
            let copied = copy(&files, &args.dir)?;
            let started = Instant::now();
            let measured = measure(stage, args, &files)?;
            rows.extend(table::rows(stage, &measured, shape.points, bytes, copied));
            eprintln!(
                "bench: run {} of {}: {stage} {:.1} s (cp {:.2} s, with sync {:.2} s)",
                run + 1,
                args.runs,
                started.elapsed().as_secs_f64(),
                copied.plain,
                copied.synced
            );
        }
        samples.push(rows);
    }
    println!("{}", table::show(&median(samples)));
    Ok(())
}

/// Runs one stage in a process of its own.
fn measure(stage: &str, args: &Args, files: &[PathBuf]) -> Outcome<Measured> {
    let mut command = match stage {
        "settle" | "scan" => {
            let mut command = Command::new(std::env::current_exe()?);
            // As the program sets them for its own child.
            command.envs([
                ("MALLOC_ARENA_MAX", "2"),
                ("MALLOC_TRIM_THRESHOLD_", "1048576"),
            ]);
            command
                .args(["--worker", stage])
                .arg("--dir")
                .arg(&args.dir);
            command.args(["--points", &args.points.to_string()]);
            command.args(["--dims", &args.dims.to_string()]);
            command.args(["--sources", &args.sources.to_string()]);
            if args.indexed {
                command.arg("--indexed");
            }
            return process::run_worker(command);
        }
        "merge" | "whole" => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_snapmerge"));
            command.args(["merge", "--json", "--quiet", "--route", "rebuild"]);
            command.args(files);
            if stage == "merge" {
                command.args(["--indexing-threshold", "0"]);
            }
            command
        }
        other => return Err(format!("there is no stage '{other}'").into()),
    };
    let folder = fresh(&args.dir.join("out"))?;
    command.arg("-o").arg(folder.join("master.snapshot"));
    command.args(&args.merge_args);
    let measured = process::run_merge(command)?;
    std::fs::remove_dir_all(&folder)?;
    Ok(measured)
}

/// How long copying the sources takes, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Copied {
    /// `cp` alone, which leaves the bytes in the page cache.
    pub plain: f64,
    /// `cp` and `sync` of the copies.
    pub synced: f64,
}

/// Copies the sources as a user would.
fn copy(files: &[PathBuf], dir: &Path) -> Outcome<Copied> {
    let folder = fresh(&dir.join("copy"))?;
    // What other stages left dirty is not this copy's business.
    expect_success(Command::new("sync").arg("-f").arg(dir))?;
    let started = Instant::now();
    expect_success(Command::new("cp").args(files).arg(&folder))?;
    let plain = started.elapsed().as_secs_f64();
    let copies = files.iter().filter_map(|file| file.file_name());
    expect_success(Command::new("sync").args(copies.map(|name| folder.join(name))))?;
    let synced = started.elapsed().as_secs_f64();
    std::fs::remove_dir_all(&folder)?;
    Ok(Copied { plain, synced })
}

/// An empty folder.
pub fn fresh(folder: &Path) -> Outcome<PathBuf> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    Ok(folder.to_owned())
}

fn expect_success(command: &mut Command) -> Outcome {
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {status}").into())
}

fn bytes_of(files: &[PathBuf]) -> Outcome<u64> {
    let mut bytes = 0;
    for file in files {
        bytes += std::fs::metadata(file)?.len();
    }
    Ok(bytes)
}
