//! The whole way on a real server: capture, merge, restore, publish, roll back; point by point equal,
//! the sources as they were, and nothing left.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::merge::policies::expected;
use crate::support::points::ensure_same;
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

use super::{captured_in, manifest_of, run_with};

const ALBUMS: [&str; 3] = ["album_2017", "album_2018", "album_2019_overlap"];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        env.live("server/live/whole_way", |bin| whole_way(env, bin)),
        env.live("server/live/every_case", |bin| every_case(env, bin)),
        env.live("server/live/writes_while_it_is_captured", |bin| {
            writes(env, bin)
        }),
    ]
}

/// Uploads cases, and gives back their points as the server has them.
pub fn fill(env: &Env, server: &Server, cases: &[&str]) -> Outcome<Vec<Vec<Value>>> {
    let dir = temp_dir()?;
    let mut points = Vec::new();
    for name in cases {
        server.upload(name, &env.case(name).unpack(dir.path())?)?;
        server.wait_green(name, std::time::Duration::from_secs(30))?;
        remove_snapshots(server, name)?;
        points.push(server.scroll(name)?);
    }
    Ok(points)
}

/// What the upload of this suite left.
pub fn remove_snapshots(server: &Server, name: &str) -> Outcome {
    let base = format!("/collections/{name}/snapshots");
    for one in server.get(&base)?.as_array().into_iter().flatten() {
        let name = one["name"].as_str().unwrap_or_default();
        server.delete(&format!("{base}/{name}"))?;
    }
    Ok(())
}

/// No snapshot of any collection lies on the server.
pub fn nothing_left(server: &Server) -> Outcome {
    for one in server.get("/collections")?["collections"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let name = one["name"].as_str().unwrap_or_default();
        let left = server.get(&format!("/collections/{name}/snapshots"))?;
        ensure_eq!(left, json!([]), "snapshots of {name}");
    }
    let files = snapshots_on_disk(server);
    ensure!(files.is_empty(), "on the server's disk: {files:?}");
    Ok(())
}

/// The snapshots on the server's disk: of collections that are gone, no call tells of them.
pub fn snapshots_on_disk(server: &Server) -> Vec<PathBuf> {
    let mut files = Vec::new();
    list(&server.dir().join("snapshots"), &mut files);
    files.retain(|file| file.extension().is_some_and(|it| it == "snapshot"));
    files
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => list(&entry.path(), files),
            false => files.push(entry.path()),
        }
    }
}

pub fn digest(points: &[Value]) -> String {
    let bytes = serde_json::to_vec(points).unwrap_or_default();
    hex::encode(Sha256::digest(bytes))
}

fn whole_way(env: &Env, bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let before = fill(env, &server, &ALBUMS)?;
    let dir = temp_dir()?;
    let archive = dir.path().join("archive");
    let url = server.url();
    let run = |args: &[&str]| run_with(dir.path(), args);

    let capture = run(&["capture", &url, "album_*", "-q", "--json"])
        .arg("--to")
        .arg(&archive);
    let captured = capture.run()?.ok()?.json()?;
    let mut files = Vec::new();
    for (at, one) in captured["captured"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        ensure_eq!(one["manifest"]["points"], json!(before[at].len()), "points");
        ensure_eq!(one["left"], json!([]), "left");
        files.push(one["file"].as_str().ok_or("no file")?.to_owned());
    }
    ensure_eq!(files.len(), ALBUMS.len(), "files");
    nothing_left(&server)?;

    let want = expected(&ALBUMS, &before, "last")?;
    for (number, flags) in [&[][..], &["--route=rebuild", "--shards=3"]]
        .into_iter()
        .enumerate()
    {
        let master = dir.path().join(format!("master{number}.snapshot"));
        run(&["merge", "-q"])
            .args(&files)
            .arg("-o")
            .arg(&master)
            .args(flags)
            .run()?
            .ok()?;
        let name = format!("album_master_{number}");
        let to = format!("{url}/{name}");
        let restore = run(&["restore", "-q", "--json", "--to", &to]).arg(&master);
        let report = restore.run()?.ok()?.json()?;
        ensure_eq!(
            report["verdict"]["points"],
            json!(want.points.len()),
            "points"
        );
        ensure_eq!(report["verdict"]["open"], json!([]), "open");
        ensure_eq!(report["left"], json!([]), "left");
        ensure_same(&server.scroll(&name)?, want.points.values())?;
        nothing_left(&server)?;
        run(&["publish", &url, &name, "--alias=album_master"])
            .run()?
            .ok()?;
        ensure_same(&server.scroll("album_master")?, want.points.values())?;
    }
    let target = || -> Outcome<Value> {
        let aliases = server.get("/aliases")?;
        Ok(aliases["aliases"][0]["collection_name"].clone())
    };
    ensure_eq!(target()?, json!("album_master_1"), "the alias");
    run(&["rollback", &url, "--alias=album_master"])
        .run()?
        .ok()?;
    ensure_eq!(target()?, json!("album_master_0"), "the alias");
    run(&[
        "publish",
        &url,
        "album_master_1",
        "--alias=album_master",
        "--keep=1",
    ])
    .run()?
    .ok()?;
    ensure!(
        server.get("/collections/album_master_0").is_err(),
        "it was not removed"
    );

    for (name, before) in ALBUMS.iter().zip(&before) {
        ensure_eq!(digest(&server.scroll(name)?), digest(before), "{name}");
    }
    let mut names = names_in(dir.path())?;
    names.retain(|name| !name.starts_with("master"));
    ensure_eq!(names, ["archive", "state"], "left here");
    nothing_left(&server)
}

/// Every kind of collection there and back: captured, restored under another name, the same.
fn every_case(env: &Env, bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let dir = temp_dir()?;
    let url = server.url();
    let mut compared = 0;
    for case in env.sets[0].cases.as_ref().into_iter().flatten() {
        if case.name == "shard_keys" {
            continue;
        }
        let points = fill(env, &server, &[&case.name])?.remove(0);
        for (form, flags) in [("collection", &[][..]), ("streamed", &["--stream"])] {
            let folder = dir.path().join(format!("{}-{form}", case.name));
            let capture = run_with(dir.path(), &["capture", &url, &case.name, "-q"]);
            capture.args(flags).arg("--to").arg(&folder).run()?.ok()?;
            let file = captured_in(&folder)?;
            ensure_eq!(manifest_of(&file)?["form"], json!(form), "form");
            let name = format!("again_{}_{form}", case.name);
            let to = format!("{url}/{name}");
            let restore = run_with(dir.path(), &["restore", "-q", "--to", &to]).arg(&file);
            restore
                .run()?
                .ok()
                .map_err(|e| format!("{} {form}: {}", case.name, e.message().unwrap_or("?")))?;
            compared += ensure_same(&server.scroll(&name)?, &points)?;
            server.delete(&format!("/collections/{name}"))?;
        }
        ensure_same(&server.scroll(&case.name)?, &points)?;
    }
    ensure!(compared > 10_000, "only {compared} points were compared");
    nothing_left(&server)
}

/// Points that are written meanwhile are in it or not; it is whole all the same, and says so.
fn writes(env: &Env, bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    fill(env, &server, &["album_2017"])?;
    let dir = temp_dir()?;
    let archive = dir.path().join("archive");
    let url = server.url();
    let capture = run_with(
        dir.path(),
        &["capture", &url, "album_2017", "-q", "--limit-rate=400k"],
    );
    let mut running = capture.arg("--to").arg(&archive).start()?;
    let mut written = 0;
    while !running.ended()? {
        let point = json!({"id": 900_000 + written, "vector": vec![0.25_f32; 16], "payload": {}});
        server.put(
            "/collections/album_2017/points?wait=true",
            &json!({"points": [point]}),
        )?;
        written += 1;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    running
        .wait()?
        .ok()?
        .says(&["points were written while it was captured"])?;
    ensure!(written > 3, "only {written} points were written");
    let file = captured_in(&archive)?;
    let manifest = manifest_of(&file)?;
    ensure!(manifest["points"].is_null(), "{}", manifest["points"]);
    cli!["inspect", &file, "--check"].run()?.ok()?;
    let to = format!("{url}/again");
    run_with(dir.path(), &["restore", "-q", "--to", &to])
        .arg(&file)
        .run()?
        .ok()?;
    let there = server.count("again")?;
    ensure!((1000..=1000 + written).contains(&there), "{there} points");
    nothing_left(&server)
}
