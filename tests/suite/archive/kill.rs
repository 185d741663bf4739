//! Killed at any moment while it stores or gives up, nothing that was there is lost, nothing half
//! is there, and the next run goes on. Stopped and overtaken, it has changed nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::{Rng as _, RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{archive, entries, make, walk};
use crate::support::cli::Signal;
use crate::support::{Outcome, Trial, temp_dir};

/// Kills of each.
const KILLS: u32 = 50;
/// Entries that are kept.
const KEPT: usize = 3;

pub fn trials(_env: &'static crate::support::Env) -> Vec<Trial> {
    vec![
        Trial::new("archive/kill/100_moments", killed),
        Trial::new("archive/kill/overtaken_while_it_stores", overtaken),
    ]
}

/// A snapshot of some megabytes, of which a tenth is new every night.
fn night(dir: &Path, blocks: &mut [Vec<u8>], night: usize) -> Outcome<PathBuf> {
    let mut random = ChaCha8Rng::seed_from_u64(night as u64);
    for block in blocks.iter_mut().skip(night % 10).step_by(10) {
        random.fill_bytes(block);
    }
    let path = dir.join(format!("{night}.snapshot"));
    let mut tar = tar::Builder::new(std::fs::File::create(&path)?);
    let mut add = |name: &str, bytes: &[u8]| -> Outcome {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        Ok(tar.append_data(&mut header, name, bytes)?)
    };
    add("0/wal/open-1", &blocks.concat())?;
    add("config.json", b"{}")?;
    tar.finish()?;
    Ok(path)
}

/// A run that stands still while it stores, has its lock broken, and what it builds on given up: it
/// ends without an entry, and what is left is whole.
fn overtaken() -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let mut blocks = vec![vec![0; 40_000]; 1000];
    for (n, block) in blocks.iter_mut().enumerate() {
        ChaCha8Rng::seed_from_u64(1000 + n as u64).fill_bytes(block);
    }
    let add = |night: usize, path: &Path| {
        let day = format!("2026-01-{:02}", night + 1);
        archive("add", &root)
            .arg(path)
            .args(["--name", "a", "--time", &day])
    };
    let first = night(dir.path(), &mut blocks, 0)?;
    add(0, &first).run()?.ok()?;
    let lock = root.join("lock.json");
    for attempt in 1..=20 {
        let path = night(dir.path(), &mut blocks, attempt)?;
        // From its first object on it has read the chain, and builds on what that says.
        let before = walk(&root.join("objects"))?.len();
        let mut running = add(attempt, &path).start()?;
        while !running.ended()? && walk(&root.join("objects"))?.len() == before {
            std::thread::sleep(Duration::from_millis(1));
        }
        running.signal_group(Signal::STOP)?;
        // Stopped too late, it has given the lock back; then the next night is tried.
        let stored = entries(&root)?;
        if !lock.exists() || stored.len() > attempt {
            running.signal_group(Signal::CONT)?;
            running.wait()?.ok()?;
            continue;
        }
        archive("unlock", &root).arg("--force").run()?.ok()?;
        let mut forget = archive("forget", &root);
        for entry in &stored {
            let id = entry["id"].as_str().ok_or("no id")?;
            forget = forget.args(["--entry", id]);
        }
        forget.run()?.ok()?;
        running.signal_group(Signal::CONT)?;
        running.wait()?.code(11)?.says(&["nothing of this run"])?;
        ensure_eq!(entries(&root)?.len(), 0, "entries");
        archive("check", &root).run()?.ok()?;
        archive("verify-chain", &root).run()?.ok()?;
        add(attempt, &path).run()?.ok()?;
        archive("check", &root).run()?.ok()?;
        return Ok(());
    }
    Err("it was never stopped while it stored".into())
}

fn killed() -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let mut blocks = vec![vec![0; 40_000]; 500];
    for (n, block) in blocks.iter_mut().enumerate() {
        ChaCha8Rng::seed_from_u64(1000 + n as u64).fill_bytes(block);
    }
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let mut moments = [Duration::from_millis(150), Duration::from_millis(80)];
    let (mut kills, mut hits, mut done, mut night_no) = ([0, 0], 0, 0, 0);
    while kills.iter().any(|kills| *kills < KILLS) {
        // More is stored than given up: there is something to give up then.
        let stored = entries(&root)?;
        let forgets = stored.len() > KEPT + 1;
        let path = dir.path().join(format!("{night_no}.snapshot"));
        if !forgets && !path.exists() {
            night(dir.path(), &mut blocks, night_no)?;
        }
        let run = || match forgets {
            true => archive("forget", &root).args(["--keep-last", &KEPT.to_string()]),
            false => {
                let day = format!("2026-01-01T{:02}:{:02}:00Z", night_no / 60, night_no % 60);
                archive("add", &root)
                    .arg(&path)
                    .args(["--name", "a", "--time", &day])
            }
        };
        let which = usize::from(forgets);
        if kills[which] < KILLS {
            let mut running = run().start()?;
            let moment = moments[which].mul_f64(random.random_range(0.5..1.5));
            std::thread::sleep(moment);
            let was_killed = !running.ended()?;
            // With all that it started.
            drop(running);
            kills[which] += u32::from(was_killed);
            let check = archive("check", &root).arg("--json").run()?;
            let code = check.status.code();
            ensure!(
                matches!(code, Some(0 | 3)),
                "after {moment:?} of {run:?}: {}",
                check.told(),
                run = ["add", "forget"][which]
            );
            let told = check.json()?;
            let now = entries(&root)?;
            // All of it, or nothing.
            let whole = match forgets {
                true => now == stored || now[..] == stored[stored.len() - KEPT..],
                false => now == stored || now[..stored.len()] == stored[..],
            };
            ensure!(whole, "after {moment:?}: {told}");
            let was_done = now != stored;
            let left_something = code == Some(3);
            if was_killed {
                hits += u32::from(left_something);
                done += u32::from(was_done);
            }
            // Towards the moments at which something is half done, however fast the machine is.
            moments[which] = match (was_done, left_something) {
                (true, _) => moments[which].mul_f64(0.8),
                (false, true) => moments[which],
                (false, false) => moments[which].mul_f64(1.25),
            };
            if was_done {
                night_no += usize::from(!forgets);
                continue;
            }
        }
        // The next one does it.
        run().run()?.ok()?;
        night_no += usize::from(!forgets);
    }
    // Otherwise it was always killed before it began, or when all was done.
    ensure!(hits >= 5, "only {hits} of {kills:?} left anything");
    archive("forget", &root).arg("--leftovers").run()?.ok()?;
    archive("check", &root).run()?.ok()?;
    let mut root_names = crate::support::names_in(&root)?;
    // A staging folder that was killed before it was locked is removed when it is older.
    root_names
        .retain(|name| !name.starts_with(".snapmerge-") || root.join(name).join("lock").exists());
    ensure_eq!(
        root_names,
        ["head.json", "log", "objects", "recipes", "reserve"],
        "what is there"
    );
    let entry = entries(&root)?.pop().ok_or("no entry")?;
    let id = entry["id"].as_str().ok_or("no id")?.to_owned();
    let got = dir.path().join("got");
    archive("get", &root)
        .arg(id)
        .arg("-o")
        .arg(&got)
        .run()?
        .ok()?;
    println!("archive: {kills:?} kills, {hits} left something, {done} were done already");
    Ok(())
}
