//! Killed at any moment, capture and restore leave what the next run finishes or clears away: no
//! duplicate, nothing lost, nothing left on the server.

use std::path::Path;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::cli::Signal;
use crate::support::points::ensure_same;
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

use super::live::nothing_left;
use super::{captured_in, run_with};

/// Moments at which a run is killed.
const KILLS: u32 = 30;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        env.live("server/kill/capture", |bin| capture(env, bin)),
        env.live("server/kill/restore", |bin| restore(env, bin)),
    ]
}

fn capture(env: &Env, bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let dir = temp_dir()?;
    let case = env.case("album_2017");
    let url = server.url();
    let to = format!("{url}/album");
    run_with(dir.path(), &["restore", "-q", "--to", &to])
        .arg(&case.snapshot_gz)
        .run()?
        .ok()?;
    let archive = dir.path().join("archive");
    // Slow enough for the download to be a good part of it.
    let capture = || {
        let run = run_with(
            dir.path(),
            &["capture", &url, "album", "-q", "--limit-rate=2M"],
        );
        run.arg("--to").arg(&archive)
    };
    let mut whole = capture().run()?.ok()?.elapsed;
    std::fs::remove_dir_all(&archive)?;
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let (mut killed, mut left_on_server) = (0, 0);
    while killed < KILLS {
        let running = capture().start()?;
        let moment = whole.mul_f64(random.random_range(0.0..1.0));
        std::thread::sleep(moment);
        running.signal(Signal::KILL)?;
        if running.wait()?.signal().is_none() {
            whole = whole.mul_f64(0.95);
            std::fs::remove_dir_all(&archive)?;
            continue;
        }
        killed += 1;
        let listed = server.get("/collections/album/snapshots")?;
        left_on_server += usize::from(listed.as_array().is_some_and(|it| !it.is_empty()));
        let check = || -> Outcome {
            let run = capture().run()?.ok()?;
            let file = captured_in(&archive)?;
            cli!["inspect", &file, "--check"].run()?.ok()?;
            nothing_left(&server)
                .map_err(|e| format!("{}\n{}", e.message().unwrap_or("?"), run.told()))?;
            Ok(())
        };
        check().map_err(|e| format!("{moment:?} of {whole:?}: {}", e.message().unwrap_or("?")))?;
        std::fs::remove_dir_all(&archive)?;
    }
    ensure!(
        left_on_server > 5,
        "only {left_on_server} left a snapshot to be removed"
    );
    Ok(())
}

fn restore(env: &Env, bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let dir = temp_dir()?;
    let case = env.case("album_2017");
    let file = case.unpack(dir.path())?;
    let truth = case.truth()?;
    let url = server.url();
    let to = format!("{url}/album");
    let restore = || {
        let run = run_with(
            dir.path(),
            &["restore", "-q", "--resume", "--limit-rate=4M"],
        );
        run.args(["--to", &to]).arg(&file)
    };
    let mut whole = restore().run()?.ok()?.elapsed;
    server.delete("/collections/album")?;
    let mut random = ChaCha8Rng::seed_from_u64(12);
    let mut killed = 0;
    while killed < KILLS {
        let running = restore().start()?;
        let moment = whole.mul_f64(random.random_range(0.0..1.0));
        std::thread::sleep(moment);
        running.signal(Signal::KILL)?;
        if running.wait()?.signal().is_none() {
            whole = whole.mul_f64(0.95);
            server.delete("/collections/album")?;
            continue;
        }
        killed += 1;
        if random.random_range(0..2) == 0 {
            std::thread::sleep(Duration::from_millis(random.random_range(0..500)));
        }
        let check = || -> Outcome {
            let run = restore().run()?;
            let run = match run.status.code() {
                // Killed after its end, but before it could say so: there is nothing to go on with.
                Some(12) if run.stderr.contains("exists already") => run,
                _ => run.ok()?,
            };
            ensure_same(&server.scroll("album")?, &truth)?;
            nothing_left(&server)
                .map_err(|e| format!("{}\n{}", e.message().unwrap_or("?"), run.told()))?;
            let remembered = dir.path().join("state/snapmerge");
            for server in std::fs::read_dir(remembered)? {
                ensure_eq!(
                    names_in(&server?.path())?,
                    Vec::<String>::new(),
                    "remembered"
                );
            }
            Ok(())
        };
        check().map_err(|e| format!("{moment:?} of {whole:?}: {}", e.message().unwrap_or("?")))?;
        server.delete("/collections/album")?;
    }
    Ok(())
}
