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

mod archive;
#[path = "../suite/support/config.rs"]
mod config;
#[path = "../suite/support/daemon.rs"]
mod daemon;
mod goals;
mod live;
mod log;
mod process;
mod sources;
mod table;
mod verify;
#[path = "../suite/support/wal.rs"]
mod wal;
mod worker;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use clap::Parser;

use digest_io::IoWrapper;
use process::Measured;
use sha2::{Digest as _, Sha256};
use sources::{Kind, Shape};
use table::{Row, median};

/// The program's own, so that a stage in a process of the bench costs what it costs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Dimensions where ids are what is measured.
const IDS_DIMS: usize = 16;

/// The result of anything here; whoever fails says why in one line.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

#[derive(Debug, Parser)]
#[command(
    name = "bench",
    about = "Measures opening, scan and merge on sources of its own making"
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
    /// What is measured: open, scan, merge (rebuild without graphs), whole (with them), graft,
    /// graft-checked (with the sources' SHA-256), graft-tail (their logs hold more than their
    /// segments), graft-overlap (a tenth of the ids is in two sources), graft-ids and graft-uuids (tiny
    /// vectors: finding what meets costs most, with numbers and with UUIDs), stamp (graft with --stamp and
    /// an index of its field; judged against whole), consolidate (graft into two segments; judged against
    /// whole), many-sources (with --stamp, by the route that is taken then; for --sources 200 and more), archive-add, archive-get (of
    /// the first source), archive-check (against reading the same objects; all three from the disk),
    /// archive-add-warm and archive-get-warm (the same two from the page cache), verify
    /// (a grafted master against its sources, by bytes) and verify-deep (the same point by point; both
    /// against reading all these files with cat), live
    /// (capture, graft and restore, and replay on a real Qdrant, beside what people do without
    /// snapmerge)
    #[arg(long, value_delimiter = ',', default_value = "open,scan,merge,whole")]
    stages: Vec<String>,
    /// For live: the guide's script that merges collections (SCRIPT DEST_grpc SOURCE…, over ports 6333
    /// and 6334), to be compared with
    #[arg(long, env = "SNAPMERGE_BENCH_GUIDE")]
    guide: Option<PathBuf>,
    /// For live: the Python that has what the script imports
    #[arg(long, env = "SNAPMERGE_BENCH_PYTHON", default_value = "python3")]
    python: PathBuf,
    /// Have the sources leave the page cache before everything that is timed
    #[arg(long)]
    cold: bool,
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
        kind: Kind::Disjoint,
    };
    let files = sources::make(&args.dir, shape)?;
    if let Some(stage) = &args.worker {
        return worker::run(stage, &files, &args.dir);
    }
    let mut stages = Vec::new();
    for name in args.stages.iter().filter(|name| *name != live::STAGE) {
        let kind = match name.as_str() {
            "graft-tail" => Kind::Tail,
            "graft-overlap" => Kind::Overlap,
            "graft-uuids" => Kind::Uuids,
            _ => Kind::Disjoint,
        };
        let dims = match name.as_str() {
            "graft-ids" | "graft-uuids" => IDS_DIMS,
            _ => shape.dims,
        };
        let shape = Shape {
            kind,
            dims,
            ..shape
        };
        let mut files = sources::make(&args.dir, shape)?;
        if name.starts_with("archive-get") {
            files.truncate(1);
        }
        let bytes = match name.as_str() {
            "verify" | "verify-deep" => verify::bytes(args, &files)?,
            _ => bytes_of(&files)?,
        };
        stages.push((name, shape, files, bytes));
    }
    if args.make {
        for (_, _, files, _) in &stages {
            for file in files {
                println!("{}", file.display());
            }
        }
        return Ok(());
    }
    println!("{}", table::heading(&shape, bytes_of(&files)?, args.cold));
    if args.stages.iter().any(|name| name == live::STAGE) {
        live::run(args, &shape, &files)?;
    }
    if stages.is_empty() {
        return Ok(());
    }
    let mut samples: Vec<Vec<Row>> = Vec::new();
    for run in 0..args.runs {
        let mut rows = Vec::new();
        for (stage, shape, files, bytes) in &stages {
            let cold = args.cold || archive::is_of_the_disk(stage);
            let copied = match stage.as_str() {
                "archive-check" => archive::fill_and_read(args, files)?,
                "verify" | "verify-deep" => verify::read(args, files)?,
                _ => copy(files, args, cold)?,
            };
            let hashes = match stage.as_str() {
                "graft-checked" => hashes(files)?,
                _ => Vec::new(),
            };
            prepare(files, cold)?;
            let started = Instant::now();
            let measured = measure(stage, args, files, cold, &hashes)?;
            rows.extend(table::rows(stage, &measured, shape, *bytes, copied));
            eprintln!(
                "bench: run {} of {}: {stage} {:.2} s (cp {:.2} s, with sync {:.2} s)",
                run + 1,
                args.runs,
                started.elapsed().as_secs_f64(),
                copied.plain,
                copied.synced
            );
        }
        samples.push(rows);
    }
    let rows = median(samples);
    println!("{}", table::show(&rows));
    for line in goals::judge(&rows) {
        println!("{line}");
    }
    Ok(())
}

/// The files' SHA-256, as the program is told them.
fn hashes(files: &[PathBuf]) -> Outcome<Vec<String>> {
    let mut hashes = Vec::new();
    for file in files {
        let mut hash = IoWrapper(Sha256::new());
        std::io::copy(&mut File::open(file)?, &mut hash)?;
        hashes.push(format!(
            "{}={}",
            file.display(),
            hex::encode(hash.0.finalize())
        ));
    }
    Ok(hashes)
}

/// Has the files in the page cache, or out of it.
fn prepare(files: &[PathBuf], cold: bool) -> Outcome {
    for file in files {
        let mut file = File::open(file)?;
        if cold {
            // They were synced when they were made, so that nothing holds their pages.
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        } else {
            std::io::copy(&mut file, &mut std::io::sink())?;
        }
    }
    Ok(())
}

/// Runs one stage in a process of its own.
fn measure(
    stage: &str,
    args: &Args,
    files: &[PathBuf],
    cold: bool,
    hashes: &[String],
) -> Outcome<Measured> {
    let mut command = match stage {
        "open" | "scan" => {
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
        "graft" | "graft-checked" | "graft-tail" | "graft-overlap" | "graft-ids"
        | "graft-uuids" | "stamp" | "consolidate" | "many-sources" => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_snapmerge"));
            command.args(["merge", "--json", "--quiet"]);
            if stage != "many-sources" {
                command.args(["--route", "graft"]);
            }
            command.args(files);
            for hash in hashes {
                command.args(["--sha256", hash]);
            }
            match stage {
                "consolidate" => command.args(["--segments", "2"]),
                _ => &mut command,
            };
            if matches!(stage, "stamp" | "many-sources") {
                command.args(["--stamp", "album", "--payload-index", "album=keyword"]);
            }
            command
        }
        archive if archive.starts_with("archive-") => {
            return archive::measure(stage, args, files, cold);
        }
        "verify" | "verify-deep" => return verify::measure(stage, args, files),
        other => return Err(format!("there is no stage '{other}'").into()),
    };
    let folder = fresh(&args.dir.join("out"))?;
    command.arg("-o").arg(folder.join("master.snapshot"));
    command.args(&args.merge_args);
    let measured = process::run_verb(command, true)?;
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
fn copy(files: &[PathBuf], args: &Args, cold: bool) -> Outcome<Copied> {
    let folder = fresh(&args.dir.join("copy"))?;
    // What other stages left dirty is not this copy's business.
    expect_success(Command::new("sync").arg("-f").arg(&args.dir))?;
    prepare(files, cold)?;
    let started = Instant::now();
    expect_success(Command::new("cp").args(files).arg(&folder))?;
    let plain = started.elapsed().as_secs_f64();
    let copies = files.iter().filter_map(|file| file.file_name());
    expect_success(Command::new("sync").args(copies.map(|name| folder.join(name))))?;
    let synced = started.elapsed().as_secs_f64();
    std::fs::remove_dir_all(&folder)?;
    Ok(Copied { plain, synced })
}

/// How long it takes to read files with `cat`.
fn read_all(files: &[PathBuf]) -> Outcome<Copied> {
    let started = Instant::now();
    expect_success(Command::new("cat").args(files).stdout(Stdio::null()))?;
    let read = started.elapsed().as_secs_f64();
    Ok(Copied {
        plain: read,
        synced: read,
    })
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
