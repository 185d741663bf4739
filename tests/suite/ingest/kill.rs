//! Killed at any moment, `split` and `ingest` leave whole outputs or none, and nothing that the next run does not
//! remove.

use std::path::Path;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::export::exported;
use crate::graft::kill::{clear, left, wait_for_locks};
use crate::split::by_value;
use crate::support::cli::Cli;
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, names_in, temp_dir};

/// Times that each is killed.
const KILLS: u32 = 10;

pub fn killed_split(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let source = env.case("album_2017").unpack(dir.path())?;
    let out = dir.path().join("out");
    std::fs::create_dir(&out)?;
    killed(env, &out, || {
        cli![
            "split", &source, "--by", "camera", "--rest", "none", "--force"
        ]
        .arg("-o")
        .arg(out.join("p_{camera}.snapshot"))
    })
}

pub fn killed_ingest(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let file = dir.path().join("points.parquet");
    cli!["export", &env.case("album_2017").snapshot_gz, "-o", &file]
        .run()?
        .ok()?;
    let out = dir.path().join("out");
    std::fs::create_dir(&out)?;
    killed(env, &out, || {
        cli!["ingest", &file, "--rest", "none", "--force"]
            .arg("-o")
            .arg(out.join("p_{camera}.snapshot"))
    })
}

/// Kills what writes album_2017 by camera into `out`.
fn killed(env: &Env, out: &Path, command: impl Fn() -> Cli) -> Outcome {
    let parts = by_value(&env.case("album_2017").truth()?, "/camera");
    let whole = |value: &str| {
        let file = out.join(format!("p_{value}.snapshot"));
        ensure_same(&exported(&file)?, parts.get(value).into_iter().flatten()).map(drop)
    };
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut lasts = command().run()?.ok()?.elapsed;
    let (mut killed, mut left_something) = (0, 0);
    while killed < KILLS {
        clear(out)?;
        let mut running = command().start()?;
        std::thread::sleep(lasts.mul_f64(random.random_range(0.1..1.0)));
        if running.ended()? {
            lasts = lasts.mul_f64(0.9).max(Duration::from_millis(5));
            continue;
        }
        drop(running);
        killed += 1;
        wait_for_locks(out)?;
        left_something += u32::from(!left(out)?.is_empty());
        for name in names_in(out)? {
            if let Some(value) = name
                .strip_prefix("p_")
                .and_then(|name| name.strip_suffix(".snapshot"))
            {
                whole(value)?;
            }
        }
        // The next run does it, and removes what was left.
        command().run()?.ok()?;
        for value in parts.keys() {
            whole(value)?;
        }
        let names = names_in(out)?;
        ensure_eq!(names.len(), 2 * parts.len(), "what is there: {names:?}");
    }
    ensure!(left_something > 0, "it was never killed while it worked");
    Ok(())
}
