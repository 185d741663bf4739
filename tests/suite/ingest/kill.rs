//! Killed at any moment, `split` and `ingest` leave whole outputs or none, the next run goes on with the parts that
//! were finished, and nothing else is left after it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};

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
            "split", &source, "--by", "camera", "--rest", "none", "--json", "-q"
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
        cli!["ingest", &file, "--rest", "none", "--json", "-q"]
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
    let (mut killed, mut left_something, mut kept) = (0, 0, 0);
    while killed < KILLS || kept == 0 {
        ensure!(
            killed < 5 * KILLS,
            "no run had finished parts when it was killed"
        );
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
        // The next run goes on, also where some have their names, and removes what was left.
        let is_done = left(out)?.is_empty() && names_in(out)?.len() == 2 * parts.len();
        let next = command().run()?;
        if is_done {
            // It was killed after its work: its outputs are not replaced, and whole.
            next.code(2)?.says(&["it exists already"])?;
            parts.keys().try_for_each(|value| whole(value))?;
            lasts = lasts.mul_f64(0.9);
            continue;
        }
        let report = next.ok()?.json()?;
        let before = kept;
        for list in ["parts", "collections"] {
            let parts = report[list].as_array();
            kept += parts
                .into_iter()
                .flatten()
                .filter(|part| part["resumed"] == true)
                .count();
        }
        // It takes longer beside other tests than it did at first: the moments move to where parts are finished.
        if kept == before {
            lasts = lasts.mul_f64(1.1);
        }
        for value in parts.keys() {
            whole(value)?;
        }
        let names = names_in(out)?;
        ensure_eq!(names.len(), 2 * parts.len(), "what is there: {names:?}");
    }
    ensure!(left_something > 0, "it was never killed while it worked");
    Ok(())
}

/// What a killed run finished is used only where it is what the next one would make.
pub fn goes_on(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let table = |name: &str| -> Outcome<PathBuf> {
        let file = dir.path().join(format!("{name}.parquet"));
        cli!["export", &env.case(name).snapshot_gz, "-o", &file]
            .run()?
            .ok()?;
        Ok(file)
    };
    let (first, second) = (table("album_2017")?, table("album_2018")?);
    let out = dir.path().join("out");
    std::fs::create_dir(&out)?;
    let command = |file: &Path| {
        cli!["ingest", file, "--rest", "none", "--json", "-q"]
            .arg("-o")
            .arg(out.join("p_{year}.snapshot"))
    };
    let list = || -> Outcome<Option<(PathBuf, Value)>> {
        for name in left(&out)? {
            let folder = out.join(name);
            if let Ok(bytes) = std::fs::read(folder.join("parts.json")) {
                return Ok(Some((folder, serde_json::from_slice(&bytes)?)));
            }
        }
        Ok(None)
    };
    let mut running = command(&first).start()?;
    let (folder, parts) = loop {
        ensure!(
            !running.ended()?,
            "it ended before it had finished two parts"
        );
        match list()? {
            Some((folder, parts)) if parts.as_object().map(Map::len) >= Some(2) => {
                break (folder, parts);
            }
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    // Another run at the same time, however the folder is spelled.
    cli!["ingest", &second, "--rest", "none", "-q", "-o"]
        .arg(out.join("../out/./p_{year}.snapshot"))
        .run()?
        .code(11)?
        .says(&["another run writes it"])?;
    drop(running);
    wait_for_locks(&out)?;
    let (folder, parts) = list()?.unwrap_or((folder, parts));
    let finished: Vec<&String> = parts.as_object().into_iter().flat_map(Map::keys).collect();
    let saved = dir.path().join("saved");
    copy(&folder, &saved)?;

    let whole = |name: &str| -> Outcome<usize> {
        let parts = by_value(&env.case(name).truth()?, "/year");
        for (value, points) in &parts {
            let file = out.join(format!("p_{value}.snapshot"));
            ensure_same(&exported(&file)?, points.iter())?;
        }
        let names = names_in(&out)?;
        ensure_eq!(names.len(), 2 * parts.len(), "what is there: {names:?}");
        Ok(parts.len())
    };
    // How many parts the next run kept, of those that the killed one had finished.
    let again = |file: &Path, args: &[&str]| -> Outcome<usize> {
        let report = command(file).args(args).run()?.ok()?.json()?;
        let parts = report["collections"].as_array();
        Ok(parts
            .into_iter()
            .flatten()
            .filter(|part| part["resumed"] == true)
            .count())
    };
    let restored = || -> Outcome {
        clear(&out)?;
        copy(&saved, &folder)
    };
    restored()?;
    ensure_eq!(again(&first, &[])?, finished.len(), "kept");
    whole("album_2017")?;
    // Other settings, and other points.
    restored()?;
    ensure_eq!(
        again(&first, &["--hnsw-m", "8"])?,
        0,
        "kept of another config"
    );
    whole("album_2017")?;
    restored()?;
    ensure_eq!(again(&second, &[])?, 0, "kept of other points");
    whole("album_2018")?;
    // A file that is not what was proven.
    restored()?;
    let file = |value: &str| folder.join(parts[value]["file"].as_str().unwrap_or_default());
    let mut bytes = std::fs::read(file(finished[0]))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file(finished[0]), bytes)?;
    ensure_eq!(
        again(&first, &[])?,
        finished.len() - 1,
        "kept of a damaged one"
    );
    whole("album_2017")?;
    // Killed while names were given: one has its name, and no checksum yet.
    restored()?;
    let named = out.join(format!("p_{}.snapshot", finished[0]));
    std::fs::rename(file(finished[0]), &named)?;
    command(&second)
        .run()?
        .code(2)?
        .says(&["has other points"])?;
    ensure_eq!(
        again(&first, &[])?,
        finished.len(),
        "kept of one with its name"
    );
    whole("album_2017")?;
    // What is there by another hand stays.
    command(&first).run()?.code(2)?.says(&["exists"])?;
    whole("album_2017")?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Outcome {
    std::fs::create_dir(to)?;
    let mut mode = std::fs::metadata(to)?.permissions();
    mode.set_mode(0o700);
    std::fs::set_permissions(to, mode)?;
    for name in names_in(from)? {
        std::fs::copy(from.join(&name), to.join(&name))?;
    }
    Ok(())
}
