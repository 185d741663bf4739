//! Runs a process and watches its memory.
//!
//! Keeps true: the process that is watched is the one that works (a child, where the engine is used); a
//! stage's peak is that of the samples between its beginning and its end.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Outcome;

/// How often memory is looked at.
const EVERY: Duration = Duration::from_millis(2);

/// What a stage took.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Wall-clock time.
    pub seconds: f64,
    /// Processor time of all threads.
    pub cpu_seconds: f64,
    /// Peak of RssAnon.
    pub anon_bytes: u64,
}

/// What a process took.
#[derive(Debug, Clone)]
pub struct Measured {
    /// From start to end.
    pub seconds: f64,
    /// Processor time of all threads.
    pub cpu_seconds: f64,
    /// Peak of RssAnon.
    pub anon_bytes: u64,
    /// Its stages.
    pub stages: Vec<Stage>,
}

struct Sample {
    at: Duration,
    cpu_seconds: f64,
    anon_bytes: u64,
}

/// Runs `snapmerge VERB --json`, which works in a child if the engine has to do with it; its report
/// is looked into for stages.
pub fn run_verb(command: Command, works_in_child: bool) -> Outcome<Measured> {
    let (output, samples, seconds) = run(command, works_in_child)?;
    let report: Value = serde_json::from_str(&output)?;
    let mut named = Vec::new();
    for stage in report["stages"].as_array().into_iter().flatten() {
        if let (Some(name), Some(seconds)) = (stage["stage"].as_str(), stage["seconds"].as_f64()) {
            named.push((name.to_owned(), seconds));
        }
    }
    // The report has how long each stage took; what comes before the first (starting, looking into
    // the sources) is not in it, and after the last there is next to nothing.
    let mut from = seconds - named.iter().map(|(_, seconds)| seconds).sum::<f64>();
    let mut stages = Vec::new();
    for (name, seconds) in named {
        stages.push(Stage {
            name,
            seconds,
            cpu_seconds: cpu(&samples, from, from + seconds),
            anon_bytes: peak(&samples, from, from + seconds),
        });
        from += seconds;
    }
    Ok(Measured {
        seconds,
        cpu_seconds: cpu(&samples, 0.0, f64::MAX),
        anon_bytes: peak(&samples, 0.0, f64::MAX),
        stages,
    })
}

/// Runs the bench's own worker, which prints `NAME SECONDS` as soon as a stage has ended.
pub fn run_worker(command: Command) -> Outcome<Measured> {
    let (output, samples, seconds) = run(command, false)?;
    let mut stages = Vec::new();
    for line in output.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, from, to] = words.as_slice() else {
            return Err(format!("the worker said '{line}'").into());
        };
        let (from, to): (f64, f64) = (from.parse()?, to.parse()?);
        stages.push(Stage {
            name: (*name).to_owned(),
            seconds: to - from,
            cpu_seconds: cpu(&samples, from, to),
            anon_bytes: peak(&samples, from, to),
        });
    }
    Ok(Measured {
        seconds,
        cpu_seconds: cpu(&samples, 0.0, f64::MAX),
        anon_bytes: peak(&samples, 0.0, f64::MAX),
        stages,
    })
}

/// Processor time between two moments.
fn cpu(samples: &[Sample], from: f64, to: f64) -> f64 {
    let until = |end: f64| {
        let before = samples.partition_point(|sample| sample.at.as_secs_f64() <= end);
        samples[..before]
            .last()
            .map_or(0.0, |sample| sample.cpu_seconds)
    };
    until(to) - until(from)
}

fn peak(samples: &[Sample], from: f64, to: f64) -> u64 {
    samples
        .iter()
        .filter(|sample| (from..=to).contains(&sample.at.as_secs_f64()))
        .map(|sample| sample.anon_bytes)
        .max()
        .unwrap_or(0)
}

fn run(mut command: Command, works_in_child: bool) -> Outcome<(String, Vec<Sample>, f64)> {
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let watch = Watch::start(&child, works_in_child, started);
    let mut output = String::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_string(&mut output)?;
    }
    let status = child.wait()?;
    let seconds = started.elapsed().as_secs_f64();
    let samples = watch.end()?;
    if !status.success() {
        return Err(format!("{command:?}: {status}").into());
    }
    Ok((output, samples, seconds))
}

/// A thread that looks at a process.
struct Watch {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Watch {
    fn start(child: &Child, works_in_child: bool, started: Instant) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (flag, parent) = (Arc::clone(&ended), child.id());
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            let mut worker = (!works_in_child).then_some(parent);
            while !flag.load(Ordering::Relaxed) {
                worker = worker.or_else(|| child_of(parent));
                let seen =
                    worker.and_then(|worker| Some((anon_bytes(worker)?, cpu_seconds(worker)?)));
                if let Some((anon_bytes, cpu_seconds)) = seen {
                    samples.push(Sample {
                        at: started.elapsed(),
                        cpu_seconds,
                        anon_bytes,
                    });
                }
                std::thread::sleep(EVERY);
            }
            samples
        });
        Self { ended, thread }
    }

    fn end(self) -> Outcome<Vec<Sample>> {
        self.ended.store(true, Ordering::Relaxed);
        let samples = self.thread.join().map_err(|_| "the watch panicked")?;
        if samples.is_empty() {
            return Err("the working process was never seen".into());
        }
        Ok(samples)
    }
}

/// The first child of a process.
fn child_of(parent: u32) -> Option<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = std::fs::read_to_string(path).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn anon_bytes(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn cpu_seconds(process: u32) -> Option<f64> {
    /// What the kernel counts in, on every Linux that there is.
    const TICKS_A_SECOND: f64 = 100.0;
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may have anything in it.
    let (_, fields) = text.rsplit_once(')')?;
    let ticks = |at: usize| fields.split_whitespace().nth(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_A_SECOND)
}
