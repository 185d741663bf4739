//! What is done with a real Qdrant, side by side with what people do without snapmerge: `curl` and
//! `sha256sum` of a snapshot, and the guide's script that merges collections point by point.
//!
//! Keeps true: both sides work on the same collections of the same server in the same run, one after
//! the other; the snapshot is made and removed on both sides; what cannot be had here is said, and
//! leaves no goal met.

mod beside;
mod server;

use std::path::{Path, PathBuf};
use std::process::Command;

use self::beside::{Guided, curl, guided};
use self::server::Server;
use super::process::{Measured, run_verb};
use super::sources::Shape;
use super::{Args, Outcome, daemon, fresh, goals};

/// The stage's name.
pub const STAGE: &str = "live";

/// What was measured several times.
#[derive(Debug, Default)]
struct Several {
    seconds: Vec<f64>,
    anon_bytes: u64,
}

impl Several {
    fn add(&mut self, seconds: f64, anon_bytes: u64) {
        self.seconds.push(seconds);
        self.anon_bytes = self.anon_bytes.max(anon_bytes);
    }

    fn median(&self) -> f64 {
        median(&self.seconds)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Measures, and prints its table and its goals.
pub fn run(args: &Args, shape: &Shape, files: &[PathBuf]) -> Outcome {
    let bin = match daemon::find() {
        Ok(bin) => bin,
        Err(why) => {
            println!("\nlive: left out: {why}");
            return Ok(());
        }
    };
    let folder = fresh(&args.dir.join("live"))?;
    // The script has the usual ports built in.
    let server = Server::start(bin, &folder, args.guide.is_some())?;
    let bench = Bench {
        args,
        folder: &folder,
        server: &server,
    };
    let mut albums = Vec::new();
    for file in files {
        let name = file.file_stem().and_then(|name| name.to_str());
        let name = name.ok_or("a source without a name")?;
        bench.restore(file, name)?;
        albums.push(name.to_owned());
    }

    let [mut curled, mut captured, mut merged] = <[Several; 3]>::default();
    for run in 0..args.runs {
        bench.rest()?;
        let name = format!("master_{run}");
        let master = folder.join("master.snapshot");
        let grafted = bench.graft(files, &master)?;
        let restored = bench.restore(&master, &name)?;
        add(&mut merged, &[&grafted, &restored]);
        eprintln!(
            "bench: live: run {} of {}: graft {:.2} s, restore to green {:.2} s",
            run + 1,
            args.runs,
            grafted.seconds,
            restored.seconds
        );
        bench.rest()?;
        curled.add(curl(&server, &name, &fresh(&folder.join("curl"))?)?, 0);
        bench.rest()?;
        add(&mut captured, &[&bench.capture(&name)?]);
        server.remove(&name)?;
    }
    let [mut from_files, mut from_live] = <[Several; 2]>::default();
    let live: Vec<PathBuf> = albums.iter().map(|name| server.at(name).into()).collect();
    for run in 0..args.runs {
        for (kept, sources) in [(&mut from_files, files), (&mut from_live, &live)] {
            bench.rest()?;
            let sent = bench.replay(sources, &format!("replayed_{run}"))?;
            add(kept, &[&sent]);
            eprintln!("bench: live: replay {:.2} s", sent.seconds);
            server.remove(&format!("replayed_{run}"))?;
        }
    }
    let guide = match &args.guide {
        Some(script) => {
            bench.rest()?;
            Some(guided(&args.python, script, &albums)?)
        }
        None => None,
    };
    server.stop()?;
    std::fs::remove_dir_all(&folder)?;
    show(&Found {
        points: shape.points,
        curled,
        captured,
        merged,
        from_files,
        from_live,
        guide,
    });
    Ok(())
}

fn add(to: &mut Several, measured: &[&Measured]) {
    let seconds = measured.iter().map(|one| one.seconds).sum();
    let anon_bytes = measured.iter().map(|one| one.anon_bytes).max();
    to.add(seconds, anon_bytes.unwrap_or_default());
}

/// Runs the program's verbs against the server.
struct Bench<'a> {
    args: &'a Args,
    folder: &'a Path,
    server: &'a Server,
}

impl Bench<'_> {
    fn verb(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_snapmerge"));
        command.args([verb, "--json", "--quiet"]);
        command.env("XDG_STATE_HOME", self.folder.join("state"));
        command
    }

    /// What others left dirty is not the next one's business.
    fn rest(&self) -> Outcome {
        super::expect_success(Command::new("sync").arg("-f").arg(&self.args.dir))
    }

    fn restore(&self, file: &Path, name: &str) -> Outcome<Measured> {
        let mut restore = self.verb("restore");
        restore.arg(file).args(["--to", &self.server.at(name)]);
        run_verb(restore, false)
    }

    fn graft(&self, files: &[PathBuf], master: &Path) -> Outcome<Measured> {
        let mut graft = self.verb("merge");
        graft.args(["--route", "graft", "--force"]);
        graft.args(files).arg("-o").arg(master);
        run_verb(graft, true)
    }

    fn capture(&self, name: &str) -> Outcome<Measured> {
        let archive = fresh(&self.folder.join("archive"))?;
        let mut capture = self.verb("capture");
        capture
            .args([&self.server.url(), name, "--to"])
            .arg(archive);
        run_verb(capture, false)
    }

    /// Replays; how long it takes to send everything is what comes back.
    fn replay(&self, sources: &[PathBuf], name: &str) -> Outcome<Measured> {
        let mut replay = self.verb("merge");
        replay.args(sources).args(["--into", &self.server.at(name)]);
        replay.args(["--grpc-port", &self.server.grpc_port().to_string()]);
        // The graphs are built when all points are there: without them there is less to wait for.
        replay.args(["--indexing-threshold", "0"]);
        let mut measured = run_verb(replay, true)?;
        let sending = measured.stages.iter().find(|stage| stage.name == "replay");
        measured.seconds = sending.ok_or("no stage called replay")?.seconds;
        Ok(measured)
    }
}

/// All that was measured.
struct Found {
    points: u64,
    curled: Several,
    captured: Several,
    merged: Several,
    from_files: Several,
    from_live: Several,
    guide: Option<Guided>,
}

fn show(found: &Found) {
    println!("\n| on a real server | seconds | points/s | peak RssAnon, MB |\n|---|--:|--:|--:|");
    let row = |name: &str, seconds: f64, anon_bytes: u64| {
        let rate = found.points as f64 / seconds;
        let memory = match anon_bytes {
            0 => String::new(),
            bytes => format!("{:.0}", bytes as f64 / 1e6),
        };
        println!("| {name} | {seconds:.2} | {rate:.0} | {memory} |");
    };
    let several = |name: &str, one: &Several| row(name, one.median(), one.anon_bytes);
    several(
        "making a snapshot, curl -o, sha256sum, removing it",
        &found.curled,
    );
    several("capture, all of that included", &found.captured);
    several(
        "graft of the sources and restore, until green",
        &found.merged,
    );
    several("replay, sending what snapshots have", &found.from_files);
    several(
        "replay, sending what live collections have",
        &found.from_live,
    );
    match &found.guide {
        Some(guide) => {
            row(
                "the guide's script over gRPC, copying",
                guide.copied_seconds,
                0,
            );
            row("the guide's script, until green", guide.green_seconds, 0);
        }
        None => println!(
            "\nthe guide's script: left out: nobody said where it is (--guide FILE or \
             SNAPMERGE_BENCH_GUIDE)"
        ),
    }
    println!();

    let pairs = found.curled.seconds.iter().zip(&found.captured.seconds);
    let ratios: Vec<f64> = pairs.map(|(curl, capture)| curl / capture).collect();
    let least = |what: &str, value: f64, least: f64| {
        let what = format!("{what} at least {least}");
        println!("{}", goals::goal(&what, value, value >= least));
    };
    let speed = median(&ratios);
    least("capture, speed of curl -o and sha256sum", speed, 0.9);
    if let Some(guide) = &found.guide {
        for (from, sent) in [
            ("snapshots", &found.from_files),
            ("live collections", &found.from_live),
        ] {
            let what = format!("replay from {from}, times the points/s of the guide's script");
            least(&what, guide.copied_seconds / sent.median(), 4.0);
        }
        let times = guide.green_seconds / found.merged.median();
        let what = "graft and restore, times faster until green than the guide's script";
        least(what, times, 20.0);
    }
    for (name, anon_bytes) in [
        ("capture", found.captured.anon_bytes),
        ("graft and restore", found.merged.anon_bytes),
        ("replay from snapshots", found.from_files.anon_bytes),
        ("replay from live collections", found.from_live.anon_bytes),
    ] {
        let megabytes = anon_bytes as f64 / 1e6;
        let what = format!("{name}, RssAnon in MB under 300");
        println!("{}", goals::goal(&what, megabytes, megabytes < 300.0));
    }
}
