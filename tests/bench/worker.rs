//! The stages that are measured without the rest of a merge, done by a process of their own.
//!
//! Keeps true: it does what a merge does up to the stage and in it, by the same calls, and nothing
//! more; the scan reads all vectors and payload and digests nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use snapmerge::source::{OpenedShards, Opening, Purpose, Source};
use snapmerge::stream::{PointStream, Scan};

use super::{Outcome, fresh};

/// Opens the shards of `files`, and scans them if that is the `stage`.
pub fn run(stage: &str, files: &[PathBuf], dir: &Path) -> Outcome {
    let clock = Clock::start()?;
    snapmerge::engine::install();
    let folder = fresh(&dir.join("opened"))?;
    let mut sources = Vec::new();
    for file in files {
        sources.push(Source::open(
            &file.as_path().into(),
            &Opening::default(),
            None,
        )?);
    }
    let from = clock.now();
    let mut open_shards = Vec::new();
    for (at, source) in sources.iter_mut().enumerate() {
        open_shards.push(source.open_all_shards(
            &fresh(&folder.join(at.to_string()))?,
            Purpose::Reading,
            None,
        )?);
    }
    if stage == "open" {
        println!("open {from} {}", clock.now());
    } else {
        let from = clock.now();
        let (points, bytes) = scan(&open_shards)?;
        println!("scan {from} {}", clock.now());
        eprintln!("bench: scanned {points} points, {bytes} bytes in memory");
    }
    for open_shards in open_shards {
        for shard in open_shards.shards {
            shard.shard.discard()?;
        }
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Points, and a rough number of bytes, so that nothing is read for nothing.
fn scan(open_shards: &[OpenedShards]) -> Outcome<(u64, usize)> {
    let mut point_streams = Vec::new();
    for (source, open_shards) in open_shards.iter().enumerate() {
        for shard in &open_shards.shards {
            point_streams.push(PointStream::new(source, &shard.shard, shard.key.clone()));
        }
    }
    std::thread::scope(|scope| {
        let mut scan = Scan::start(scope, &point_streams, None)?;
        let (mut group, mut points, mut bytes) = (Vec::new(), 0, 0);
        while scan.next_group(&mut group)?.is_some() {
            for scanned in &group {
                points += 1;
                bytes += scanned.record.weight_bytes();
            }
        }
        Ok((points, bytes))
    })
}

/// Tells the time since this process was started, as its parent counts it.
struct Clock {
    started: Instant,
    before: Duration,
}

impl Clock {
    fn start() -> Outcome<Self> {
        let started = Instant::now();
        // Field 22 is when the process started, in ticks (100 a second) since the machine did.
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let (_, fields) = stat.rsplit_once(')').ok_or("a stat without a name")?;
        let ticks: f64 = fields
            .split_whitespace()
            .nth(19)
            .ok_or("a short stat")?
            .parse()?;
        let uptime = std::fs::read_to_string("/proc/uptime")?;
        let up: f64 = uptime
            .split_whitespace()
            .next()
            .ok_or("no uptime")?
            .parse()?;
        Ok(Self {
            started,
            before: Duration::from_secs_f64((up - ticks / 100.0).max(0.0)),
        })
    }

    fn now(&self) -> f64 {
        (self.before + self.started.elapsed()).as_secs_f64()
    }
}
