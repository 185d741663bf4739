//! Nights on a real server: point by point what its sources have, and the sources as they were.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{ALIAS, archive_is_whole, named, night, sources, write_plan};
use crate::server::live::{fill, nothing_left};
use crate::support::points::{PointId, by_id, ensure_same};
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial, temp_dir};

/// The sources of all nights here.
pub const ALBUMS: [&str; 2] = ["album_2017", "album_2018"];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        env.live("nightly/live/nights", |bin| nights(env, bin)),
        env.live("nightly/live/restored_to_the_same_numbers", |bin| {
            same_numbers(env, bin)
        }),
        env.live("nightly/live/replay", |bin| replay(env, bin)),
    ]
}

/// Every point of both albums, in id order.
pub fn union(server: &Server) -> Outcome<BTreeMap<PointId, Value>> {
    let mut all = Vec::new();
    for album in ALBUMS {
        all.extend(server.scroll(album)?);
    }
    by_id(all)
}

/// The master that the alias points to has exactly these points.
pub fn master_is(server: &Server, points: &BTreeMap<PointId, Value>) -> Outcome {
    ensure_same(&server.scroll(ALIAS)?, points.values()).map(drop)
}

/// Changes some of an album's points: `round` says which and how.
pub fn change(server: &Server, round: u64) -> Outcome {
    let (album, base) = match round % 2 {
        0 => ("album_2017", 0),
        _ => ("album_2018", 1000),
    };
    let ids: Vec<u64> = (0..8).map(|n| base + (round * 13 + n * 7) % 900).collect();
    let path = format!("/collections/{album}/points");
    let payload = json!({"payload": {"round": round}, "points": ids});
    server.post(&format!("{path}/payload?wait=true"), &payload)?;
    // One comes and one goes; their ids are no other album's.
    let new = 10_000 + base + round;
    let vector: Vec<f64> = (0..16).map(|n| f64::from(n) + 1.0 + round as f64).collect();
    let point = json!({"points": [{"id": new, "vector": vector, "payload": {"round": round}}]});
    server.put(&format!("{path}?wait=true"), &point)?;
    if round >= 2 {
        let old = json!({"points": [10_000 + base + round - 2]});
        server.post(&format!("{path}/delete?wait=true"), &old)?;
    }
    Ok(())
}

/// Waits until nothing goes on in the sources.
pub fn rest(server: &Server) -> Outcome {
    for album in ALBUMS {
        server.wait_green(album, Duration::from_secs(60))?;
    }
    Ok(())
}

fn nights(env: &Env, bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    fill(env, &server, &ALBUMS)?;
    let dir = temp_dir()?;
    write_plan(dir.path(), &server.url(), "[checks]\nverify = \"deep\"\n")?;
    let night = |code: i32| -> Outcome<Value> {
        std::thread::sleep(Duration::from_millis(1100));
        let before = union(&server)?;
        let told = night(dir.path()).run()?.code(code)?.json()?;
        ensure_same(
            union(&server)?.into_values().collect::<Vec<_>>().as_slice(),
            before.values(),
        )?;
        archive_is_whole(dir.path())?;
        nothing_left(&server)?;
        Ok(told)
    };
    let both = |how: &str| named(&[("album_2017", how), ("album_2018", how)]);
    let told = night(0)?;
    ensure_eq!(sources(&told), both("captured"), "first night");
    let state = union(&server)?;
    master_is(&server, &state)?;

    rest(&server)?;
    // Nothing was written: none is captured, though the night before restored a master.
    let told = night(0)?;
    ensure_eq!(sources(&told), both("unchanged"), "a night without changes");
    ensure_eq!(told["master"]["unchanged"], json!(true), "{told}");
    master_is(&server, &state)?;

    for round in 0..3 {
        change(&server, round)?;
        let told = night(0)?;
        let changed = format!("album_201{}", 7 + round % 2);
        let how = sources(&told);
        ensure!(
            how.contains(&(changed.clone(), "captured".into())),
            "{how:?}"
        );
        // What changed alone was asked for, though every night restores a master on the same server.
        let sources = told["sources"].as_array().into_iter().flatten();
        for source in sources.filter(|source| source["name"] == changed) {
            ensure_eq!(
                source["note"],
                Value::Null,
                "why all of it was moved: {source}"
            );
            ensure!(source["moved_bytes"].is_u64(), "{source}");
        }
        master_is(&server, &union(&server)?)?;
    }
    // A source that goes away: nothing is made, and the alias stays.
    let state = union(&server)?;
    server.delete("/collections/album_2018")?;
    let plan = dir.path().join("nightly.toml");
    let text = std::fs::read_to_string(&plan)?;
    std::fs::write(
        &plan,
        text.replace("\"album_20*\"", "\"album_2017\", \"album_2018\""),
    )?;
    let run = super::night(dir.path()).run()?.code(12)?;
    ensure!(
        run.json()?["errors"][0]["why"]
            .to_string()
            .contains("no such collection"),
        "{}",
        run.told()
    );
    master_is(&server, &state)
}

/// Restored over by an older snapshot and written to as often as before, a collection tells the same
/// numbers with other points: it is captured all the same.
fn same_numbers(env: &Env, bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    fill(env, &server, &ALBUMS)?;
    let dir = temp_dir()?;
    write_plan(dir.path(), &server.url(), "")?;
    let old = dir.path().join("old.snapshot");
    server.snapshot("album_2017", &old)?;
    let write = |value: u64| {
        let body = json!({"payload": {"value": value}, "points": [1, 2, 3]});
        server.post("/collections/album_2017/points/payload?wait=true", &body)
    };
    write(1)?;
    rest(&server)?;
    night(dir.path()).run()?.ok()?;
    server.upload("album_2017", &old)?;
    write(2)?;
    rest(&server)?;
    std::thread::sleep(Duration::from_millis(1100));
    let told = night(dir.path()).run()?.ok()?.json()?;
    ensure_eq!(
        sources(&told).first().map(|(_, how)| how.as_str()),
        Some("captured"),
        "{told}"
    );
    master_is(&server, &union(&server)?)
}

/// By the route replay the master is written into a live collection, and there is no file of it.
fn replay(env: &Env, bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    fill(env, &server, &ALBUMS)?;
    let dir = temp_dir()?;
    let plan = write_plan(dir.path(), &server.url(), "")?;
    let port = server
        .grpc_url()
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .to_owned();
    let text = std::fs::read_to_string(&plan)?;
    let text = text
        .replace("[master]", "[master]\nroute = \"replay\"")
        .replace("timeout = 20", &format!("timeout = 20\ngrpc_port = {port}"));
    std::fs::write(&plan, text)?;
    for round in 0..2 {
        change(&server, round)?;
        std::thread::sleep(Duration::from_millis(1100));
        let told = night(dir.path()).run()?.ok()?.json()?;
        ensure_eq!(told["master"]["route"], json!("replay"), "{told}");
        ensure_eq!(told["master"]["entry"], Value::Null, "{told}");
        master_is(&server, &union(&server)?)?;
    }
    rest(&server)?;
    std::thread::sleep(Duration::from_millis(1100));
    let told = night(dir.path()).run()?.ok()?.json()?;
    ensure_eq!(told["master"]["unchanged"], json!(true), "{told}");
    nothing_left(&server)
}
