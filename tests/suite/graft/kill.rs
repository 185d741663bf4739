//! Killed at any moment, a merge leaves nothing that anybody could take for a master, and nothing
//! that the next run does not remove.
//!
//! A run comes to its end after every few killed ones, not after each: it takes longer than they do.

use std::collections::BTreeMap;
use std::fs::{File, FileTimes, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::fs::{FlockOperation, flock};

use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

use super::{Given, Points, export, merging, sha256, union};

/// How the names of leftovers begin.
const PREFIX: &str = ".snapmerge-";
/// Begin of the name of a folder with parts that a killed run had finished.
const BUILDING: &str = ".building-";
/// After so many killed runs one may come to its end; what they left has piled up until then.
const KILLED_BETWEEN: u32 = 5;
/// A killed process is gone by then, with its locks.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// What a merge leaves: the master, and what is known of it.
const MASTER: [&str; 3] = [
    "master.snapshot",
    "master.snapshot.checksum",
    "master.snapshot.provenance.json",
];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("graft/kill/50_moments", || {
            killed(env, &["--route", "graft"], None, 50)
        }),
        Trial::new("graft/kill/rebuild", || {
            killed(env, &["--route", "rebuild"], None, 6)
        }),
        Trial::new("graft/kill/few_segments", || {
            let args = ["--route", "graft", "--segments", "2"];
            killed(env, &args, None, 12)
        }),
        Trial::new("graft/kill/stamped", || {
            let args = ["--route", "graft", "--stamp", "from"];
            killed(env, &args, Some("from"), 12)
        }),
    ]
}

/// Kills a merge of two sources, both of which are repacked, at `times` moments of its life; `stamp` is the
/// field that `args` have each point's source written to.
fn killed(env: &Env, args: &[&str], stamp: Option<&str>, times: u32) -> Outcome {
    let dir = temp_dir()?;
    let sources = dir.path().join("sources");
    std::fs::create_dir(&sources)?;
    let mut given = Vec::new();
    for name in ["album_2018", "album_2019_overlap"] {
        let case = env.case(name);
        let mut points = case.truth_by_id()?;
        if let Some(field) = stamp {
            for point in points.values_mut() {
                point["payload"][field] = name.into();
            }
        }
        given.push(Given {
            file: case.unpack(&sources)?,
            points,
        });
    }
    let held: Vec<&Points> = given.iter().map(|given| &given.points).collect();
    let expected = union(&held, "last")?.points;
    let before = hashes(&sources)?;

    let folder = dir.path().join("out");
    std::fs::create_dir(&folder)?;
    let output = folder.join("master.snapshot");
    let merge = || {
        merging(given.iter().map(|given| &given.file), &output)
            .args(args)
            .args(["--on-conflict", "last", "--force"])
    };
    // How long it takes when nobody kills it; the first run finds nothing in the file cache.
    merge().run()?.ok()?;
    clear(&folder)?;
    let mut whole = merge().run()?.ok()?.elapsed;

    let mut random = ChaCha8Rng::seed_from_u64(3);
    let (mut killed, mut left_something, mut complete) = (0, 0, 0);
    while killed < times {
        let mut running = merge().start()?;
        let moment = whole.mul_f64(random.random_range(0.0..1.0));
        std::thread::sleep(moment);
        if running.ended()? {
            // This machine is faster now than it was.
            whole = whole.mul_f64(0.95);
            clear(&folder)?;
            continue;
        }
        // What is dropped while it runs is killed, with all that it started.
        drop(running);
        killed += 1;
        wait_for_locks(&folder)?;
        let mut folders = 0;
        for name in names_in(&folder)? {
            let known = MASTER.contains(&name.as_str());
            ensure!(known || name.starts_with(PREFIX), "{moment:?}: left {name}");
            folders += u32::from(!known);
        }
        left_something += u32::from(folders > 0);
        if output.exists() {
            complete += 1;
            ensure_same(&export(&output)?, expected.values())?;
            std::fs::remove_file(&output)?;
        }
        ensure_eq!(hashes(&sources)?, before, "the sources after {moment:?}");
        if killed % KILLED_BETWEEN != 0 && killed < times {
            continue;
        }
        // The next run does it, and removes what was left.
        let run = merge().run()?.ok()?;
        whole = (whole + run.elapsed) / 2;
        let left = left(&folder)?;
        if !left.is_empty() {
            // A folder without a lock may be this moment made; its age tells.
            for name in &left {
                let path = folder.join(name);
                ensure!(!path.join("lock").exists(), "{moment:?}: {name} stayed");
                let old = SystemTime::now() - Duration::from_secs(3600);
                File::open(&path)?.set_times(FileTimes::new().set_modified(old))?;
            }
            merge().run()?.ok()?;
        }
        ensure_eq!(
            names_in(&folder)?,
            MASTER,
            "what is there after {moment:?} and another run"
        );
        ensure_same(&export(&output)?, expected.values())?;
        clear(&folder)?;
    }
    ensure_eq!(hashes(&sources)?, before, "the sources at the end");
    // Otherwise it was killed before it began, or after its end, each time.
    ensure!(
        left_something > times / 4,
        "of {killed} killed runs only {left_something} left a folder, {complete} a master"
    );
    Ok(())
}

/// Empties the folder, so that a run starts as if it were the first.
pub fn clear(folder: &Path) -> Outcome {
    for name in names_in(folder)? {
        let path = folder.join(name);
        match path.is_dir() {
            true => std::fs::remove_dir_all(path)?,
            false => std::fs::remove_file(path)?,
        }
    }
    Ok(())
}

pub fn left(folder: &Path) -> Outcome<Vec<String>> {
    let mut names = names_in(folder)?;
    names.retain(|name| name.starts_with(PREFIX) || name.starts_with(BUILDING));
    Ok(names)
}

/// Waits until no lock in the folder is held: what was killed is gone then.
pub fn wait_for_locks(folder: &Path) -> Outcome {
    let start = Instant::now();
    for name in left(folder)? {
        let path = folder.join(&name).join("lock");
        loop {
            let Ok(lock) = OpenOptions::new().write(true).open(&path) else {
                break;
            };
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                break;
            }
            ensure!(start.elapsed() < GONE_WITHIN, "{name} is still locked");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

fn hashes(folder: &Path) -> Outcome<BTreeMap<String, String>> {
    let mut hashes = BTreeMap::new();
    for name in names_in(folder)? {
        let hash = sha256(&std::fs::read(folder.join(&name))?);
        hashes.insert(name, hash);
    }
    Ok(hashes)
}
