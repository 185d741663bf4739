//! Night by night on a real server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{ALBUM, capture, entry_of, exported, increment, next_second};
use crate::archive::{archive, entries, findings, make};
use crate::server::live::{fill, nothing_left, remove_snapshots};
use crate::server::run_with;
use crate::support::cli::Signal;
use crate::support::points::ensure_same;
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

const KILLS: u32 = 20;
/// Dimensions of a vector: enough for the vectors to be most of what there is.
const DIMS: usize = 128;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        env.live("server/increment/nights", |bin| nights(env, bin)),
        env.live("server/increment/whole_again", |bin| whole_again(env, bin)),
        env.live("server/increment/kill", |bin| kill(env, bin)),
        env.live("server/increment/cluster", |bin| cluster(env, bin)),
        env.live("server/increment/dropped_vector", dropped_vector),
    ]
}

/// An entry restored by the server has these points.
fn restored_is(server: &Server, root: &Path, entry: &str, points: &[Value]) -> Outcome {
    let dir = temp_dir()?;
    let to = format!("{}/again", server.url());
    let source = format!("archive:{entry}");
    run_with(dir.path(), &["restore", &source, "-q", "--to", &to])
        .arg("--archive")
        .arg(root)
        .run()?
        .ok()?;
    let same = ensure_same(&server.scroll("again")?, points);
    server.delete("/collections/again")?;
    same.map(drop)
        .map_err(|e| format!("{entry}: {}", e.message().unwrap_or("?")).into())
}

/// A collection large enough for an index, on a server that indexes early.
fn make_album(server: &Server, random: &mut ChaCha8Rng) -> Outcome {
    let body = json!({
        "vectors": {"size": DIMS, "distance": "Cosine"},
        "optimizers_config": {"indexing_threshold": 100, "default_segment_number": 2},
    });
    server.put(&format!("/collections/{ALBUM}"), &body)?;
    upsert(server, random, 0..3000, 0)?;
    rest(server)
}

fn upsert(
    server: &Server,
    random: &mut ChaCha8Rng,
    ids: std::ops::Range<u64>,
    night: u64,
) -> Outcome {
    let points: Vec<Value> = ids
        .map(|id| {
            let vector: Vec<f32> = (0..DIMS).map(|_| random.random_range(-1.0..1.0)).collect();
            json!({"id": id, "vector": vector, "payload": {"n": id, "night": night}})
        })
        .collect();
    for some in points.chunks(500) {
        let path = format!("/collections/{ALBUM}/points?wait=true");
        server.put(&path, &json!({ "points": some }))?;
    }
    Ok(())
}

fn rest(server: &Server) -> Outcome {
    server.wait_green(ALBUM, Duration::from_secs(60))?;
    // What is done is told a little later.
    std::thread::sleep(Duration::from_millis(300));
    server.wait_green(ALBUM, Duration::from_secs(60)).map(drop)
}

/// The points of an album at rest, and what its capture told.
fn captured(server: &Server, dir: &Path, root: &Path) -> Outcome<(Vec<Value>, Value)> {
    rest(server)?;
    next_second();
    let points = server.scroll(ALBUM)?;
    let run = capture(dir, &server.url(), root, &[]).run()?.ok()?;
    Ok((points, run.json()?))
}

fn nights(_: &Env, bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let mut random = ChaCha8Rng::seed_from_u64(3);
    make_album(&server, &mut random)?;
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let path = format!("/collections/{ALBUM}");
    let (mut kept, mut moved) = (Vec::new(), Vec::new());
    for night in 0..9_u64 {
        match night {
            1 => upsert(&server, &mut random, 2950..3100, night)?,
            2 => {
                let ids: Vec<u64> = (0..90).map(|n| n * 31).collect();
                let body = json!({ "points": ids });
                server.post(&format!("{path}/points/delete?wait=true"), &body)?;
            }
            3 => {
                let body = json!({"payload": {"seen": true}, "points": [7, 8, 9, 1500]});
                server.post(&format!("{path}/points/payload?wait=true"), &body)?;
            }
            // Enough for the optimizers to make every segment anew.
            4 => upsert(&server, &mut random, 0..2000, night)?,
            5 => {
                let body = json!({"field_name": "n", "field_schema": "integer"});
                server
                    .put(&format!("{path}/index?wait=true"), &body)
                    .map(drop)?;
            }
            // A new vector beside the one without a name, where the server has that.
            6 => {
                let body = json!({"dense": {"size": 4, "distance": "Dot"}});
                let (status, _) =
                    server.call("PUT", &format!("{path}/vectors/small"), Some(&body))?;
                if status == 200 {
                    let vector = json!({"points": [
                        {"id": 7, "vector": {"small": [1.0, 0.0, 0.0, 2.0]}}]});
                    server.put(&format!("{path}/points/vectors?wait=true"), &vector)?;
                }
            }
            _ => {}
        }
        let (points, told) = captured(&server, dir.path(), &root)?;
        let entry = entry_of(&told)?;
        let increment = increment(&told);
        println!("night {night}: {increment}");
        match night {
            0 => ensure_eq!(increment["base"], Value::Null, "the first night"),
            // The seventh since the whole one is whole, and compared.
            7 => {
                ensure_eq!(increment["base"], Value::Null, "a whole night");
                ensure_eq!(
                    increment["checked"]["outcome"],
                    json!("equal"),
                    "{increment}"
                );
            }
            _ => ensure!(increment["base"].is_string(), "night {night}: {increment}"),
        }
        if night == 8 {
            let new = &told["archived"][0]["entry"]["new_objects"];
            ensure_eq!(new, &json!(0), "objects of a night without changes");
        }
        moved.push(increment["moved_bytes"].as_u64().unwrap_or(0));
        ensure_same(&server.scroll(ALBUM)?, &points)?;
        nothing_left(&server)?;
        kept.push((entry, points));
    }
    ensure!(moved[1] < moved[0] / 2, "bytes: {moved:?}");
    ensure_eq!(moved[8], 0, "bytes of a night without changes");
    ensure_eq!(findings(&root)?, Vec::<Value>::new(), "findings");
    for (entry, points) in &kept {
        restored_is(&server, &root, entry, points)?;
    }
    // None depends on another: of the last alone, everything is there.
    archive("forget", &root)
        .args(["--keep-last", "1"])
        .run()?
        .ok()?;
    ensure_eq!(entries(&root)?.len(), 1, "entries");
    ensure_eq!(findings(&root)?, Vec::<Value>::new(), "findings");
    let (entry, points) = &kept[8];
    restored_is(&server, &root, entry, points)
}

/// Whatever makes numbers mean something else, all of the collection is captured.
fn whole_again(env: &Env, bin: &Path) -> Outcome {
    let mut server = Server::start(bin)?;
    fill(env, &server, &[ALBUM])?;
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let old = dir.path().join("old.snapshot");
    server.snapshot(ALBUM, &old)?;
    remove_snapshots(&server, ALBUM)?;
    let write = |server: &Server, value: u64| {
        let body = json!({"payload": {"value": value}, "points": [1, 2, 3]});
        let path = format!("/collections/{ALBUM}/points/payload?wait=true");
        server.post(&path, &body).map(drop)
    };
    let night = |server: &Server, says: Option<&str>| -> Outcome {
        let (points, told) = captured(server, dir.path(), &root)?;
        let increment = increment(&told);
        match says {
            None => ensure!(increment["base"].is_string(), "{increment}"),
            Some(says) => {
                let why = increment["why_whole"].as_str().unwrap_or_default();
                ensure!(why.contains(says), "{increment}");
            }
        }
        restored_is(server, &root, &entry_of(&told)?, &points)
    };
    write(&server, 1)?;
    night(&server, Some("nothing yet"))?;
    // The test restored an entry, which the server counts: the numbers may mean something else now.
    write(&server, 2)?;
    night(&server, Some("restored"))?;
    server.restart()?;
    night(&server, Some("started again"))?;
    // To the same numbers with other points.
    server.upload(ALBUM, &old)?;
    write(&server, 3)?;
    night(&server, Some("restored"))
}

/// A vector that was dropped and made anew has the versions of the one before, and other vectors.
fn dropped_vector(bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let path = format!("/collections/{ALBUM}");
    let dense = json!({"size": 4, "distance": "Dot"});
    let body = json!({"vectors": {"a": dense, "b": dense}});
    server.put(&path, &body)?;
    let points: Vec<Value> = (1..200)
        .map(|id| json!({"id": id, "vector": {"a": [1.0, id, 0.0, 0.0], "b": [1.0, 0.0, id, 1.0]}}))
        .collect();
    server.put(
        &format!("{path}/points?wait=true"),
        &json!({ "points": points }),
    )?;
    rest(&server)?;
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    capture(dir.path(), &server.url(), &root, &[]).run()?.ok()?;
    let made = json!({"dense": dense});
    let (dropped, answer) = server.call("DELETE", &format!("{path}/vectors/b"), None)?;
    let (again, _) = server.call("PUT", &format!("{path}/vectors/b"), Some(&made))?;
    // Servers before 1.18 do not drop vectors.
    ensure!(dropped == again, "{dropped} and {again}: {answer}");
    let (points, told) = captured(&server, dir.path(), &root)?;
    if dropped == 200 {
        let why = increment(&told)["why_whole"].as_str().unwrap_or_default();
        ensure!(why.contains("a vector was dropped"), "{}", increment(&told));
    }
    restored_is(&server, &root, &entry_of(&told)?, &points)
}

/// A cluster's members restore from each other: all of it is captured, as before.
fn cluster(env: &Env, bin: &Path) -> Outcome {
    let server = Server::start_cluster(bin)?;
    let second = server.join()?;
    std::thread::sleep(Duration::from_secs(2));
    fill(env, &server, &[ALBUM])?;
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let id = second.get("/cluster")?["peer_id"].as_u64().ok_or("no id")?;
    let peer = format!("--peer={id}={}", second.url());
    let run = capture(dir.path(), &server.url(), &root, &[&peer])
        .run()?
        .ok()?;
    let told = run.json()?;
    let why = increment(&told)["no_base"].as_str().unwrap_or_default();
    ensure!(why.contains("cluster"), "{told}");
    let required = ["--incremental=require", &peer];
    let run = capture(dir.path(), &server.url(), &root, &required).run()?;
    run.code(12)?.says(&["cluster", "--incremental auto"])?;
    Ok(())
}

/// Killed at any moment, the next run leaves what an undisturbed one would.
fn kill(_: &Env, bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let mut random = ChaCha8Rng::seed_from_u64(5);
    make_album(&server, &mut random)?;
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let url = server.url();
    // Slow enough for the stream to be a good part of it.
    let args = ["--limit-rate=4M", "--full-every=1000"];
    let run = |args: &[&str]| capture(dir.path(), &url, &root, args);
    run(&args).run()?.ok()?;
    let mut whole = Duration::from_millis(400);
    let (mut killed, mut built_on) = (0, 0);
    for night in 1..200_u64 {
        if killed == KILLS {
            break;
        }
        upsert(&server, &mut random, night * 3..night * 3 + 40, night)?;
        rest(&server)?;
        next_second();
        let running = run(&args).start()?;
        std::thread::sleep(whole.mul_f64(random.random_range(0.0..1.0)));
        running.signal(Signal::KILL)?;
        if running.wait()?.signal().is_none() {
            whole = whole.mul_f64(0.9);
            continue;
        }
        killed += 1;
        let points = server.scroll(ALBUM)?;
        let told = run(&args).run()?.ok()?.json()?;
        built_on += u32::from(increment(&told)["base"].is_string());
        nothing_left(&server)?;
        ensure_eq!(findings(&root)?, Vec::<Value>::new(), "findings");
        let incoming = PathBuf::from(format!("{}.incoming", root.display()));
        ensure_eq!(
            names_in(&incoming)?,
            Vec::<String>::new(),
            "left on the way"
        );
        let got = dir.path().join("got.snapshot");
        archive("get", &root)
            .arg(entry_of(&told)?)
            .arg("--force")
            .arg("-o")
            .arg(&got)
            .run()?
            .ok()?;
        ensure_same(&exported(&got)?, &points)?;
    }
    ensure_eq!(killed, KILLS, "kills");
    ensure!(
        built_on > KILLS / 2,
        "only {built_on} took what changed alone"
    );
    Ok(())
}
