//! Single flipped bits, some anywhere in the file and more where it says something: with a checksum
//! each is found; without one, some change points silently, but nothing crashes, panics or hangs.

use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::support::cli::Cli;
use crate::support::{Env, Outcome, Trial};

use super::{Bed, is_one_error, plain, write_checksum};

/// Generous, since a machine may be busy; the whole takes less than a second.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A part of the flips: so many in that case's snapshot, from that seed.
struct Flips {
    case: &'static str,
    seed: u64,
    count: usize,
    /// Whether the snapshot has its checksum beside it.
    checked: bool,
}

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = Vec::new();
    for seed in 0..2 {
        for (case, count, checked) in [
            ("uint8", 100, true),
            ("uint8", 100, false),
            ("named", 10, false),
            ("sparse_dense", 10, false),
        ] {
            let with = if checked { "with" } else { "without" };
            let name = format!("damage/bits_{with}_checksum/{case}/{seed}");
            let flips = Flips {
                case,
                seed,
                count,
                checked,
            };
            trials.push(Trial::new(name, move || each(env, &flips)));
        }
    }
    trials
}

fn each(env: &Env, flips: &Flips) -> Outcome {
    let bytes = plain(env, flips.case)?;
    let mut rng = ChaCha8Rng::seed_from_u64(flips.seed);
    let telling: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    for number in 0..flips.count {
        let at = match number % 4 {
            0 => rng.random_range(0..bytes.len()),
            _ => telling[rng.random_range(0..telling.len())],
        };
        let bit = rng.random_range(0..8);
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        let bed = Bed::new("a.snapshot", &flipped)?;
        let checked = if flips.checked {
            write_checksum(&bed.source, &bytes)?;
            with_checksum(&bed, number)
        } else {
            without_checksum(&bed, number)
        };
        checked.map_err(|e| {
            let why = e.message().unwrap_or_default();
            format!(
                "{}, seed {}, flip {number}: bit {bit} of byte {at}\n{why}",
                flips.case, flips.seed
            )
        })?;
    }
    Ok(())
}

/// The ways to read a snapshot take turns.
fn reader(bed: &Bed, number: usize) -> (bool, Cli) {
    let (merges, cli) = match number % 3 {
        0 => (true, bed.merge().arg("--route=rebuild")),
        1 => (true, bed.merge()),
        _ => (false, bed.export()),
    };
    (merges, cli.timeout(TIMEOUT))
}

fn with_checksum(bed: &Bed, number: usize) -> Outcome {
    let run = reader(bed, number).1.run()?.code(13)?;
    is_one_error(&run, "a.snapshot")?;
    ensure!(run.stdout.is_empty(), "points came out\n{}", run.told());
    bed.is_clean()
}

fn without_checksum(bed: &Bed, number: usize) -> Outcome {
    let (merges, cli) = reader(bed, number);
    let run = cli.run()?;
    if run.status.code() != Some(0) {
        let run = run.code(13)?;
        is_one_error(&run, "a.snapshot")?;
        return bed.is_clean();
    }
    let run = run.ok()?;
    if merges {
        ensure!(
            run.stdout.contains("UNVERIFIED"),
            "not said\n{}",
            run.told()
        );
        // The rest of the check is that of a folder without the master.
        for name in [
            "master.snapshot",
            "master.snapshot.checksum",
            "master.snapshot.provenance.json",
        ] {
            std::fs::remove_file(bed.folder("out").join(name))?;
        }
    }
    bed.is_clean()
}
