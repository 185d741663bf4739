//! Servers as they are: in strict mode, with points that they hide, behind proxies that give up, with
//! keys for some collections, asked twice within one second.
//!
//! Invariants: each test fails if what it is about is taken for granted; after each the server is as
//! it was.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::cli::Signal;
use crate::support::craft::Tar;
use crate::support::points::ensure_same;
use crate::support::qdrant::Server;
use crate::support::scripted::{Fault, Scripted};
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

use super::live::nothing_left;
use super::{Stage, captured_in, is_one_error, manifest_of, run_with};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        env.live("server/as_they_are/strict_mode", strict_mode),
        Trial::new("server/as_they_are/hidden_points", || hidden_points(env)),
        Trial::new("server/as_they_are/points_appear_late", || {
            points_appear_late(env)
        }),
        Trial::new("server/as_they_are/making_behind_a_proxy", || {
            making_behind_a_proxy(env)
        }),
        Trial::new("server/as_they_are/upload_behind_a_proxy", || {
            upload_behind_a_proxy(env)
        }),
        Trial::new("server/as_they_are/twice_within_a_second", || {
            twice_within_a_second(env)
        }),
        Trial::new("server/as_they_are/trickle", || trickle(env)),
        Trial::new("server/as_they_are/signals_to_the_group", || {
            signals_to_the_group(env)
        }),
        Trial::new("server/as_they_are/no_proxy_to_this_machine", || {
            no_proxy_to_this_machine(env)
        }),
        Trial::new("server/as_they_are/vector_names", || vector_names(env)),
        Trial::new("server/as_they_are/tools_own_collections", || {
            tools_own_collections(env)
        }),
    ]
}

/// Exact counts are refused, and pages above 50.
fn strict_mode(bin: &Path) -> Outcome {
    const POINTS: u64 = 730;
    let server = Server::start(bin)?;
    let url = server.url();
    let dir = temp_dir()?;
    let run = |args: &[&str]| run_with(dir.path(), args);
    server.put(
        "/collections/strict?timeout=60",
        &json!({
            "vectors": {"size": 2, "distance": "Dot"}, "shard_number": 2,
            "strict_mode_config": {
                "enabled": true, "search_allow_exact": false, "max_query_limit": 50,
                "upsert_max_batchsize": 100,
            },
        }),
    )?;
    let points: Vec<Value> = (0..POINTS)
        .map(|id| json!({"id": id, "vector": [1.0, id], "payload": {"n": id}}))
        .collect();
    for some in points.chunks(100) {
        let put = json!({ "points": some });
        server.put("/collections/strict/points?wait=true", &put)?;
    }
    let exact = json!({"exact": true});
    let (status, _) = server.call("POST", "/collections/strict/points/count", Some(&exact))?;
    ensure_eq!(status, 400, "the server counts exactly");

    let archive = dir.path().join("archive");
    let capture = run(&["capture", &url, "strict", "-q", "--to"]).arg(&archive);
    capture.run()?.ok()?;
    let file = captured_in(&archive)?;
    ensure_eq!(manifest_of(&file)?["points"], json!(POINTS), "points");
    nothing_left(&server)?;

    let to = format!("{url}/back");
    let restore = run(&["restore", "-q", "--json", "--to", &to]).arg(&file);
    let report = restore.run()?.ok()?.json()?;
    ensure_eq!(report["verdict"]["points"], json!(POINTS), "points");

    // Read live, over gRPC, and written into a collection that has the same strict mode.
    let grpc = server.grpc_url();
    let port = grpc.rsplit(':').next().unwrap_or_default();
    let strict = format!("{url}/strict");
    let truth = cli!["export", &file].run()?.ok()?.json_lines()?;
    ensure_eq!(truth.len() as u64, POINTS, "points captured");
    let master = dir.path().join("master.snapshot");
    let merge = run(&["merge", &strict, "-q", "--grpc-port", port, "-o"]).arg(&master);
    merge.run()?.ok()?;
    ensure_same(&cli!["export", &master].run()?.ok()?.json_lines()?, &truth)?;
    let into = format!("{url}/written");
    let replay = run(&["merge", &strict, "-q", "--grpc-port", port, "--into", &into]);
    replay.run()?.ok()?;
    let written = format!("{url}/written");
    let diff = run(&["diff", &written, "--grpc-port", port]).arg(&file);
    diff.run()?.ok()?;
    nothing_left(&server)
}

/// A snapshot has also the points that the server hides until they are optimized.
fn hidden_points(env: &Env) -> Outcome {
    let stage = Stage::new(env)?;
    if let Some(album) = stage.scripted.fake().collections.get_mut("album") {
        album.set_points(0, 600);
        album.info["status"] = json!("yellow");
        album.info["update_queue"] = json!({"length": 0, "deferred_points": 400});
    }
    let run = stage.capture().run()?.ok()?;
    ensure!(
        run.told().contains("600 points are shown") && run.told().contains("400 that the server"),
        "{}",
        run.told()
    );
    let file = stage.captured()?;
    let manifest = manifest_of(&file)?;
    ensure_eq!(manifest["points"], Value::Null, "points");
    ensure_eq!(manifest["shards"][0]["points"], Value::Null, "points");

    // Restored it shows all of them, and that is right.
    let (back, _) = Stage::to_restore(env)?;
    let report = back.restore(&file).arg("--json").run()?.ok()?.json()?;
    ensure_eq!(report["verdict"]["points"], json!(1000), "points");
    Ok(())
}

/// What a restored collection does not show yet is waited for.
fn points_appear_late(env: &Env) -> Outcome {
    let (stage, file) = Stage::to_restore(env)?;
    let mut hides = stage
        .scripted
        .fake()
        .restored
        .clone()
        .ok_or("nothing")?
        .info;
    hides["update_queue"] = json!({"length": 0, "deferred_points": 400});
    let answer = json!({"result": hides, "status": "ok", "time": 0.001});
    let body = Fault::Body(answer);
    stage
        .scripted
        .fault_exactly("GET", "/collections/album", 3, body);
    let report = stage.restore(&file).arg("--json").run()?.ok()?.json()?;
    ensure_eq!(report["verdict"]["points"], json!(1000), "points");
    stage.scripted.ensure_faults_came_up()
}

/// The snapshot that a server made is used, whatever a proxy said in the meantime.
fn making_behind_a_proxy(env: &Env) -> Outcome {
    let faults = [502, 503, 504].map(Fault::Proxy);
    for fault in faults.into_iter().chain([Fault::Silent]) {
        let stage = Stage::new(env)?;
        stage
            .scripted
            .fault("POST", "/album/snapshots", 1, fault.clone());
        let run = stage.capture().run()?;
        run.ok()
            .map_err(|e| format!("{fault:?}: {}", e.message().unwrap_or("?")))?;
        ensure_eq!(stage.scripted.asked("POST", "/album/snapshots"), 1, "made");
        stage.captured()?;
        ensure_eq!(stage.scripted.fake().snapshots_left().len(), 0, "left");
        stage.scripted.ensure_faults_came_up()?;
    }
    Ok(())
}

/// What a server has restored is not sent again, whatever a proxy said in the meantime.
fn upload_behind_a_proxy(env: &Env) -> Outcome {
    for status in [502, 503, 504] {
        let (stage, file) = Stage::to_restore(env)?;
        let fault = Fault::Proxy(status);
        stage.scripted.fault("POST", "/snapshots/upload", 1, fault);
        let report = stage.restore(&file).arg("--json").run()?.ok()?.json()?;
        ensure_eq!(report["verdict"]["points"], json!(1000), "points");
        ensure_eq!(stage.scripted.asked("POST", "/upload"), 1, "uploads");
        ensure_eq!(stage.scripted.fake().snapshots_left().len(), 0, "left");
        stage.scripted.ensure_faults_came_up()?;
    }
    Ok(())
}

/// Servers name snapshots by the second.
fn twice_within_a_second(env: &Env) -> Outcome {
    let stage = Stage::new(env)?;
    let name = |second: u32| format!("album-7-2026-11-22-14-15-{second}.snapshot");
    // Somebody else's, of the second in which the first is made.
    let theirs = name(10);
    {
        let mut fake = stage.scripted.fake();
        let snapshot = fake.snapshot.clone();
        let album = fake.collections.get_mut("album").ok_or("no album")?;
        album.snapshots.insert(theirs.clone(), snapshot);
        fake.names = vec![name(12), name(11), name(11), name(10)];
    }
    for second in [11, 12] {
        let report = stage.capture().arg("--json").run()?.ok()?.json()?;
        let file = report["captured"][0]["file"].as_str().unwrap_or_default();
        ensure!(file.ends_with(&name(second)), "{file}");
    }
    let left = stage.scripted.fake().snapshots_left();
    ensure_eq!(left, [theirs], "on the server");
    let files = names_in(&stage.archive())?;
    ensure_eq!(files.len(), 6, "files: {files:?}");
    Ok(())
}

/// A byte now and then is no download.
fn trickle(env: &Env) -> Outcome {
    let stage = Stage::new(env)?;
    let drip = Fault::Drip(Duration::from_millis(50));
    stage.scripted.fault("GET", "/album/snapshots/", 9, drip);
    let capture = stage.capture_with(&["--timeout=1", "--retries=1"]);
    let run = capture.run()?.code(1)?.says(&["bytes in", "--timeout"])?;
    ensure!(
        run.elapsed < Duration::from_secs(30),
        "it took {:?}",
        run.elapsed
    );
    is_one_error(&run)?;
    stage.is_clean()
}

/// As `timeout` does: the process, and then its whole group with it.
fn signals_to_the_group(env: &Env) -> Outcome {
    let stage = Stage::new(env)?;
    // Putting away takes some time, in which the second signal comes.
    let slow = Fault::Slow(Duration::from_millis(300));
    stage.scripted.fault("DELETE", "/album/snapshots/", 9, slow);
    let running = stage.capture().arg("--limit-rate=100k").start()?;
    std::thread::sleep(Duration::from_millis(1500));
    running.signal(Signal::TERM)?;
    std::thread::sleep(Duration::from_millis(50));
    running.signal_group(Signal::TERM)?;
    running.wait()?.code(130)?.says(&["cancelled"])?;
    stage.is_clean()
}

/// A proxy of the environment is for what lies elsewhere, and sees no key for this machine.
fn no_proxy_to_this_machine(env: &Env) -> Outcome {
    const KEY: &str = "s3cr3t-key-0815";
    let stage = Stage::new(env)?;
    stage.scripted.fake().key = Some(KEY.into());
    let proxy = Scripted::start(stage.scripted.fake().clone())?;
    let capture = stage.capture().env("QDRANT_API_KEY", KEY);
    ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .into_iter()
        .fold(capture, |capture, name| capture.env(name, proxy.url()))
        .run()?
        .ok()?;
    ensure_eq!(proxy.seen().len(), 0, "requests to the proxy");
    stage.captured()?;
    Ok(())
}

/// A pattern does not mean what other tools, or killed runs, keep on a server.
fn tools_own_collections(env: &Env) -> Outcome {
    const OWN: [&str; 2] = ["_migration_offsets", "snapmerge-scratch-0815"];
    let stage = Stage::new(env)?;
    {
        let mut fake = stage.scripted.fake();
        let album = fake.collections.get("album").cloned().ok_or("no album")?;
        for name in OWN {
            fake.collections.insert(name.into(), album.clone());
        }
    }
    let server = stage.scripted.url();
    let capture = |name: &str| {
        let capture = stage.cli(&["capture", &server, name, "-q", "--json", "--to"]);
        capture.arg(stage.archive())
    };
    let run = capture("*").run()?.ok()?.says(&OWN)?.says(&["left out"])?;
    let captured = run.json()?["captured"].clone();
    ensure_eq!(captured.as_array().map(Vec::len), Some(1), "captured");
    ensure_eq!(
        captured[0]["manifest"]["collection"],
        json!("album"),
        "captured"
    );
    let run = capture(OWN[0]).run()?.ok()?;
    let captured = run.json()?["captured"][0].clone();
    ensure_eq!(
        captured["manifest"]["collection"],
        json!(OWN[0]),
        "by its whole name"
    );
    Ok(())
}

/// Names of vectors that the server refuses, after a restore has sent everything.
fn vector_names(env: &Env) -> Outcome {
    let (stage, file) = Stage::to_restore(env)?;
    let mut tar = Tar::parse(&std::fs::read(&file)?)?;
    let member = tar.find("config.json")?;
    let mut config: Value = serde_json::from_slice(&member.data)?;
    let vectors = config["params"]["vectors"].take();
    config["params"]["vectors"] = json!({"text:en": vectors});
    member.set(serde_json::to_vec(&config)?);
    std::fs::write(&file, tar.bytes())?;
    for dry in [&["--dry-run"][..], &[]] {
        let run = stage.restore(&file).args(dry).run()?.code(12)?;
        is_one_error(&run.says(&["text:en", "':'", "before 1.18"])?)?;
    }
    ensure_eq!(stage.scripted.asked("POST", "/upload"), 0, "uploads");
    stage.scripted.fake().version = "1.17.1".into();
    stage.restore(&file).arg("--dry-run").run()?.ok()?;
    Ok(())
}
