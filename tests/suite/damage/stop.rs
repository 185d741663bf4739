//! Runs that somebody stops: Ctrl-C, a signal to the process alone, and the one that cannot be
//! caught.

use std::path::PathBuf;
use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::support::cli::{Cli, Running, Signal};
use crate::support::{Env, Outcome, Trial, names_in};

use super::{Bed, plain};

/// Moments at which a run is killed.
const KILLS: usize = 15;
/// Moments at which a run is interrupted, in each way.
const INTERRUPTS: usize = 5;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("damage/ctrl_c_leaves_nothing", || {
            interrupted(env, 1, |running| running.signal_group(Signal::INT))
        }),
        Trial::new("damage/interrupt_leaves_nothing", || {
            interrupted(env, 2, |running| running.signal(Signal::INT))
        }),
        Trial::new("damage/terminate_leaves_nothing", || {
            interrupted(env, 3, |running| running.signal(Signal::TERM))
        }),
        Trial::new("damage/kill_leaves_what_the_next_run_removes", || {
            killed(env)
        }),
    ]
}

/// A merge that takes a while.
struct Work {
    bed: Bed,
    other: PathBuf,
    points: usize,
    takes: Duration,
}

impl Work {
    fn new(env: &Env) -> Outcome<Self> {
        let (one, other) = (env.case("album_2017"), env.case("album_2018"));
        let mut work = Self {
            bed: Bed::new("a.snapshot", &plain(env, "album_2017")?)?,
            points: one.points() + other.points(),
            other: other.snapshot_gz,
            takes: Duration::ZERO,
        };
        work.takes = work.merge().run()?.ok()?.elapsed;
        work.is_complete()?;
        Ok(work)
    }

    fn merge(&self) -> Cli {
        let ledger = self.bed.folder("out").join("ledger");
        let merge = self.bed.merge().arg(&self.other).arg("--route=rebuild");
        merge.arg("--ledger").arg(ledger)
    }

    /// The master is whole; it and what belongs to it are then removed.
    fn is_complete(&self) -> Outcome {
        let export = cli!["export", self.bed.out(), "--no-vectors"].run()?.ok()?;
        ensure_eq!(export.stdout.lines().count(), self.points, "points");
        for name in [
            "master.snapshot",
            "master.snapshot.checksum",
            "master.snapshot.provenance.json",
            "ledger",
        ] {
            match std::fs::remove_file(self.bed.folder("out").join(name)) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(err.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Starts it and waits for a part of the time that it takes.
    fn start(&self, rng: &mut ChaCha8Rng, part: std::ops::Range<f64>) -> Outcome<(Running, f64)> {
        let part = rng.random_range(part);
        let running = self.merge().start()?;
        std::thread::sleep(self.takes.mul_f64(part));
        Ok((running, part))
    }
}

fn interrupted(env: &Env, seed: u64, interrupt: fn(&Running) -> Outcome) -> Outcome {
    let work = Work::new(env)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut cancelled = 0;
    for number in 0..INTERRUPTS {
        let (mut running, part) = work.start(&mut rng, 0.1..0.8)?;
        if running.ended()? {
            work.is_complete()?;
            continue;
        }
        interrupt(&running)?;
        let run = running.wait()?;
        let check = || -> Outcome {
            if run.status.code() == Some(0) {
                return work.is_complete();
            }
            let run = run.clone().code(130)?.says(&["cancelled"])?;
            ensure_eq!(
                run.stderr.matches("snapmerge: ").count(),
                1,
                "errors\n{}",
                run.told()
            );
            if run.stderr.contains("was complete already") {
                work.is_complete()?;
            }
            work.bed.is_clean()
        };
        check().map_err(|e| {
            let why = e.message().unwrap_or_default();
            format!(
                "seed {seed}, number {number}, after {part:.2} of the time\n{why}\n{}",
                run.told()
            )
        })?;
        cancelled += usize::from(run.status.code() == Some(130));
    }
    ensure!(
        cancelled >= 2,
        "only {cancelled} of {INTERRUPTS} were cancelled"
    );
    Ok(())
}

fn killed(env: &Env) -> Outcome {
    let work = Work::new(env)?;
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut died = 0;
    for number in 0..KILLS {
        let (running, part) = work.start(&mut rng, 0.0..1.1)?;
        running.signal(Signal::KILL)?;
        // The pipes are closed when the working process is gone too.
        let run = running.wait()?;
        died += usize::from(run.signal() == Some(Signal::KILL.as_raw()));
        let check = || -> Outcome {
            let names = names_in(&work.bed.folder("out"))?;
            if names.iter().any(|name| name == "master.snapshot") {
                work.is_complete()?;
            }
            // A small run with the same folders.
            let next = work.bed.folder("out").join("next.snapshot");
            let other = env.case("uint8").snapshot_gz;
            let merge = cli!["merge", other, "-q", "--force", "-o", &next];
            merge
                .arg("--scratch")
                .arg(work.bed.folder("scratch"))
                .run()?
                .ok()?;
            for name in [
                "next.snapshot",
                "next.snapshot.checksum",
                "next.snapshot.provenance.json",
                "ledger",
            ] {
                match std::fs::remove_file(work.bed.folder("out").join(name)) {
                    // A ledger is there only if the run came that far.
                    Err(_) if name == "ledger" => {}
                    done => done?,
                }
            }
            work.bed.is_clean()
        };
        check().map_err(|e| {
            let why = e.message().unwrap_or_default();
            format!("number {number}, after {part:.2} of the time\n{why}")
        })?;
    }
    ensure!(died >= KILLS / 2, "only {died} of {KILLS} were killed");
    Ok(())
}
