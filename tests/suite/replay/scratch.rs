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
    // No server that reads RocksDB (before 1.18) is at hand, and none that is can write it: that such
    // snapshots come out whole is not tried. That they do not come out empty is.
    trials.push(
        env.live("replay/scratch/rocksdb_is_not_read_as_nothing", |bin| {
            rocksdb(env, bin)
        }),
    );
    trials.push(env.live("replay/scratch/incomplete", |bin| incomplete(env, bin)));
    trials.push(env.live("replay/scratch/vector_name_in_the_log", |bin| {
        vector_name(bin)
    }));
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
    let kept = crate::server::live::snapshots_on_disk(&place.server);
    ensure!(kept.is_empty(), "on the server's disk: {kept:?}");
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

/// A server without RocksDB restores such a snapshot with status 200 and without its points.
fn rocksdb(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let good = env.case("plain_dot").unpack(place.dir.path())?;
    let old = place.path("old.snapshot");
    let case = env.old_case("1.10.1", "uint8")?;
    std::fs::rename(case.unpack(place.dir.path())?, &old)?;
    for flags in [&[][..], &["--dry-run"], &["--allow-incomplete"]] {
        let merge = place.merging(&[&good, &old], "master").args(flags);
        by_scratch(&place, merge).run()?.code(13)?.says(&[
            "its ids, payload, vectors lie in RocksDB, which Qdrant 1.18 and later do not read",
            "without --route scratch",
        ])?;
        ensure_eq!(collections(&place)?, Vec::<String>::new(), "made there");
    }
    Ok(())
}

/// A snapshot that may lack points is taken only if that was said to be well, and then told.
fn incomplete(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let case = env.case("album_2017");
    let file = case.unpack(place.dir.path())?;
    let mut tar = crate::support::craft::Tar::parse(&std::fs::read(&file)?)?;
    let state = tar.find("replica_state.json")?;
    state.edit("\"Active\"", "\"Dead\"")?;
    std::fs::write(&file, tar.bytes())?;
    by_scratch(&place, place.merging(&[&file], "master"))
        .run()?
        .code(13)?
        .says(&["Dead"])?;
    ensure_eq!(collections(&place)?, Vec::<String>::new(), "made there");
    let merge = place.merging(&[&file], "master").arg("--allow-incomplete");
    let report = by_scratch(&place, merge).run()?.code(3)?.json()?;
    ensure!(
        report["missing"].to_string().contains("Dead"),
        "{}",
        report["missing"]
    );
    place.ensure_holds("master", &case.truth()?)?;
    ensure_nothing_left(&place, &["master"])
}

/// A vector that was added to a collection with graphs, while nothing was optimized: it is in the log
/// and in no graph. Every route gives what the server has.
fn vector_name(bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let server = &place.server;
    server.put(
        "/collections/grown",
        &json!({
            "vectors": {"a": {"size": 4, "distance": "Dot"}},
            "optimizers_config": {"indexing_threshold": 1},
        }),
    )?;
    let point = |id: u32| {
        let x = f64::from(id % 17) - 8.0;
        json!({"id": id, "vector": {"a": [x, 1.0, f64::from(id), -x]}, "payload": {"n": id}})
    };
    let points: Vec<Value> = (0..1000).map(point).collect();
    let write = "/collections/grown/points?wait=true";
    server.put(write, &json!({"points": points}))?;
    server.wait_green("grown", Duration::from_secs(60))?;
    let still = json!({"optimizers_config": {"max_optimization_threads": 0}});
    server.ask("PATCH", "/collections/grown", Some(&still))?;
    let (status, answer) = server.call(
        "PUT",
        "/collections/grown/vectors/b?wait=true",
        Some(&json!({"dense": {"size": 2, "distance": "Euclid"}})),
    )?;
    ensure_eq!(status, 200, "adding a vector: {answer}");
    let both = json!([{"id": 7, "vector": {"b": [1.5, -2.5]}}]);
    let update = "/collections/grown/points/vectors?wait=true";
    server.put(update, &json!({"points": both}))?;

    let truth = server.scroll("grown")?;
    ensure_eq!(truth.len(), 1000, "points");
    ensure!(truth[7]["vector"]["b"].is_array(), "{}", truth[7]);
    let file = place.path("grown.snapshot");
    server.snapshot("grown", &file)?;
    for snapshot in server
        .get("/collections/grown/snapshots")?
        .as_array()
        .into_iter()
        .flatten()
    {
        let name = snapshot["name"].as_str().unwrap_or_default();
        server.delete(&format!("/collections/grown/snapshots/{name}"))?;
    }
    let grpc = server.grpc_url();
    let port = grpc.rsplit(':').next().unwrap_or_default();
    for route in ["graft", "rebuild", "scratch"] {
        let output = place.path(&format!("{route}.snapshot"));
        let merge = cli!["merge", "-q", "-o", &output, &file, "--grpc-port", port];
        let merge = match route {
            "scratch" => by_scratch(&place, merge),
            _ => merge.args(["--route", route]),
        };
        merge.run()?.ok()?;
        ensure_same(&crate::export::exported(&output)?, &truth)?;
    }
    ensure_nothing_left(&place, &["grown"])
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
