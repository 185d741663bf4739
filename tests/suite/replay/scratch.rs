//! The route scratch: a server reads the snapshots; nothing of that is left on it, whatever happens.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Place, points_of};
use crate::support::cli::{Cli, Signal};
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, names_in};

/// How the names of its collections begin.
const PREFIX: &str = "snapmerge-scratch-";

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = Vec::new();
    for name in [
        "album_2017",
        "named",
        "multivector",
        "log_pending",
        "three_shards",
        "empty",
    ] {
        let trial = format!("replay/scratch/{name}");
        trials.push(env.live(trial, move |bin| one(env, bin, name)));
    }
    trials.push(env.live("replay/scratch/shard_keys", |bin| keyed(env, bin)));
    trials.push(env.live("replay/scratch/failed", |bin| failed(env, bin)));
    trials.push(env.live("replay/scratch/stopped", |bin| stopped(env, bin)));
    trials.push(env.live("replay/scratch/killed", |bin| killed(env, bin)));
    trials
}

/// With a place for what is written down that is this test's own.
fn by_scratch(place: &Place, run: Cli) -> Cli {
    run.args([
        "--route",
        "scratch",
        "--scratch-server",
        &place.server.url(),
    ])
    .env("XDG_STATE_HOME", place.path("state"))
}

fn collections(place: &Place) -> Outcome<Vec<String>> {
    let answer = place.server.get("/collections")?;
    let all = answer["collections"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut names: Vec<String> = all
        .iter()
        .filter_map(|one| one["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

fn ensure_nothing_left(place: &Place, want: &[&str]) -> Outcome {
    ensure_eq!(collections(place)?, want, "collections of the server");
    let notes = names_in(&place.path("state/snapmerge/lent"))?;
    ensure_eq!(notes, Vec::<String>::new(), "what is written down");
    Ok(())
}

/// Compressed and plain, into a file and into a collection.
fn one(env: &Env, bin: &Path, name: &str) -> Outcome {
    let place = Place::new(bin)?;
    let case = env.case(name);
    let truth = case.truth()?;
    let file = case.unpack(place.dir.path())?;
    by_scratch(&place, place.merging(&[&file], "master"))
        .run()?
        .ok()?;
    place.ensure_holds("master", &truth)?;
    ensure_nothing_left(&place, &["master"])?;
    let output = place.path("master.snapshot");
    let port = place.server.grpc_url();
    let run = cli!["merge", "--json", "-o", &output, &case.snapshot_gz]
        .args(["--grpc-port", port.rsplit(':').next().unwrap_or_default()]);
    let report = by_scratch(&place, run).run()?.ok()?.json()?;
    ensure_eq!(report["route"], "rebuild", "the route");
    ensure_same(&crate::export::exported(&output)?, &truth)?;
    ensure_nothing_left(&place, &["master"])
}

fn keyed(env: &Env, bin: &Path) -> Outcome {
    let place = Place::cluster(bin)?;
    let case = env.case("shard_keys");
    let file = case.unpack(place.dir.path())?;
    by_scratch(&place, place.merging(&[&file], "master"))
        .run()?
        .ok()?;
    place.ensure_holds("master", points_of(&case)?.values())?;
    ensure_nothing_left(&place, &["master"])
}

/// The second source cannot be restored: the first one's collection is removed too.
fn failed(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let first = env.case("plain_dot").unpack(place.dir.path())?;
    // Without a cluster there are no shard keys.
    let keyed = env.case("shard_keys").unpack(place.dir.path())?;
    by_scratch(&place, place.merging(&[&keyed], "master"))
        .run()?
        .code(12)?;
    ensure_nothing_left(&place, &[])?;
    let run = place
        .merging(&[&first], "master")
        .args(["--route", "scratch"]);
    run.run()?.code(2)?.says(&["--scratch-server"])?;
    // Of a target that is refused, after the sources were restored.
    place.server.put(
        "/collections/master",
        &json!({"vectors": {"size": 2, "distance": "Dot"}}),
    )?;
    by_scratch(&place, place.merging(&[&first], "master"))
        .run()?
        .code(12)?;
    ensure_nothing_left(&place, &["master"])
}

/// Starts a merge that takes its time, and waits until there is a collection of its own.
fn begun(place: &Place, file: &Path) -> Outcome<crate::support::cli::Running> {
    let merge = place
        .merging(&[file], "master")
        .args(["--limit-rate", "20k"]);
    let running = by_scratch(place, merge).start()?;
    let start = Instant::now();
    while !collections(place)?
        .iter()
        .any(|name| name.starts_with(PREFIX))
    {
        ensure!(
            start.elapsed() < Duration::from_secs(60),
            "no collection in a minute"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(running)
}

/// Ctrl-C: what was made to be read is removed.
fn stopped(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let file = env.case("album_2017").unpack(place.dir.path())?;
    for pause in [0, 50, 400] {
        let running = begun(&place, &file)?;
        std::thread::sleep(Duration::from_millis(pause));
        running.signal(Signal::INT)?;
        running.wait()?.code(130)?;
        let left: Vec<String> = collections(&place)?
            .into_iter()
            .filter(|name| name.starts_with(PREFIX))
            .collect();
        ensure_eq!(left, Vec::<String>::new(), "left after {pause} ms");
    }
    // And it is gone on with.
    by_scratch(&place, place.merging(&[&file], "master"))
        .run()?
        .ok()?;
    place.ensure_holds("master", env.case("album_2017").truth()?.iter())?;
    ensure_nothing_left(&place, &["master"])
}

/// SIGKILL: the next run removes it, and nothing that it only looks like.
fn killed(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let file = env.case("album_2017").unpack(place.dir.path())?;
    let others = format!("{PREFIX}of-somebody-else");
    place.server.put(
        &format!("/collections/{others}"),
        &json!({"vectors": {"size": 2, "distance": "Dot"}}),
    )?;
    for pause in [0, 100, 600] {
        let running = by_scratch(
            &place,
            place
                .merging(&[&file], "master")
                .args(["--limit-rate", "20k"]),
        )
        .start()?;
        let start = Instant::now();
        while collections(&place)?
            .iter()
            .filter(|name| name.starts_with(PREFIX))
            .count()
            < 2
        {
            ensure!(
                start.elapsed() < Duration::from_secs(60),
                "no collection in a minute"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(pause));
        // With all that it started.
        drop(running);
        by_scratch(&place, place.merging(&[&file], "master"))
            .run()?
            .ok()?;
        let master: Vec<Value> = place.server.scroll("master")?;
        ensure_same(&master, &env.case("album_2017").truth()?)?;
        ensure_nothing_left(&place, &["master", &others])?;
        place.server.delete("/collections/master")?;
    }
    Ok(())
}
