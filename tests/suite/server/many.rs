//! `restore` of many collections: everything that an archive had, or a snapshot of a whole storage, back
//! in one command.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::nightly::scripted::Stage;
use crate::support::cli::{Cli, Signal};
use crate::support::points::ensure_same;
use crate::support::qdrant::Server;
use crate::support::scripted::Fault;
use crate::support::{Env, Outcome, Trial, craft, sha256, temp_dir};

use super::live::nothing_left;
use super::run_with;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("server/many/everything_back", || back(env)),
        Trial::new("server/many/refuses", || refuses(env)),
        Trial::new("server/many/full_snapshot_checked", || checked(env)),
        env.live("server/many/killed_and_run_again", killed),
        env.live("server/many/full_snapshot", full),
    ]
}

/// Two albums in an archive, the first with an alias; and a server that makes of an upload what they were.
fn archived(env: &Env) -> Outcome<Stage> {
    let stage = Stage::new(env, "")?;
    let url = stage.scripted.url();
    stage
        .scripted
        .fake()
        .aliases
        .insert("photos".into(), "album_2017".into());
    init(stage.dir())?;
    let capture = run_with(
        stage.dir(),
        &["capture", &url, "album_*", "-q", "--archive=backups"],
    );
    capture.dir(stage.dir()).run()?.ok()?;
    if let Some(restored) = &mut stage.scripted.fake().restored {
        restored.set_points(0, 1000);
        restored.info["indexed_vectors_count"] = json!(1000);
    }
    Ok(stage)
}

fn init(dir: &Path) -> Outcome {
    let run = run_with(dir, &["archive", "init", "--archive=backups"]).dir(dir);
    run.run()?.ok()?;
    Ok(())
}

fn restore(dir: &Path, what: &str, to: &str, more: &[&str]) -> Cli {
    run_with(
        dir,
        &[
            "restore",
            what,
            "--to",
            to,
            "--archive=backups",
            "--json",
            "-q",
        ],
    )
    .args(more)
    .dir(dir)
}

/// What became of each collection, and of the aliases.
fn states(told: &Value) -> (BTreeMap<String, String>, bool) {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let all = told["collections"].as_array().into_iter().flatten();
    let all = all.map(|one| (text(&one["collection"]), text(&one["state"])));
    (all.collect(), told["aliases_set"] == true)
}

fn named(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    let all = all.iter();
    all.map(|(name, state)| ((*name).to_owned(), (*state).to_owned()))
        .collect()
}

fn back(env: &Env) -> Outcome {
    let stage = archived(env)?;
    let url = stage.scripted.url();
    let rename = ["--rename", "album_(.*)=old_$1", "--aliases"];
    let run = |more: &[&str]| {
        let more: Vec<&str> = rename.iter().chain(more).copied().collect();
        restore(stage.dir(), "archive:album_*@latest", &url, &more).run()
    };
    // The alias is somebody's.
    run(&[])?
        .code(12)?
        .says(&["alias photos points to album_2017", "--overwrite"])?;
    stage.scripted.fake().aliases.clear();
    let before = stage.scripted.fake().collections.len();
    let told = run(&["--dry-run"])?.ok()?.json()?;
    ensure_eq!(
        states(&told).0,
        named(&[("old_2017", "planned"), ("old_2018", "planned")]),
        "the plan"
    );
    ensure_eq!(
        told["collections"][0]["points"],
        json!(1000),
        "points of the manifest"
    );
    ensure_eq!(
        told["aliases"][0]["collection"],
        json!("old_2017"),
        "the alias"
    );
    ensure_eq!(
        stage.scripted.fake().collections.len(),
        before,
        "collections after a plan"
    );

    // One that fails does not keep the other from being restored, and no alias moves.
    let upload = "/collections/old_2018/snapshots/upload";
    stage.scripted.fault("POST", upload, 1, Fault::Status(400));
    let failed = run(&[])?.code(12)?;
    let told = failed.json()?;
    let want = named(&[("old_2017", "restored"), ("old_2018", "failed")]);
    ensure_eq!(
        states(&told),
        (want, false),
        "with a fault: {}",
        failed.told()
    );
    ensure!(told["collections"][1]["error"]["why"].is_string(), "{told}");
    ensure_eq!(stage.scripted.fake().aliases.len(), 0, "aliases");
    stage.scripted.ensure_faults_came_up()?;

    // The same again goes on where it was.
    let uploads = stage.scripted.fake().uploads;
    let told = run(&[])?.ok()?.json()?;
    let want = named(&[("old_2017", "restored_earlier"), ("old_2018", "restored")]);
    ensure_eq!(states(&told), (want, true), "the second time");
    ensure_eq!(stage.scripted.fake().uploads, uploads + 1, "uploads");
    let aliases = stage.scripted.fake().aliases.clone();
    ensure_eq!(
        aliases.get("photos").map(String::as_str),
        Some("old_2017"),
        "alias"
    );
    ensure_eq!(
        stage.scripted.fake().snapshots_left(),
        Vec::<String>::new(),
        "left there"
    );
    // What is to be written over may be alike in everything that is compared, and is sent all the same.
    stage.scripted.fake().aliases.clear();
    let told = run(&["--overwrite", "--resume"])?.ok()?.json()?;
    let want = named(&[("old_2017", "restored"), ("old_2018", "restored")]);
    ensure_eq!(states(&told), (want, true), "written over");
    // What is done is done: now they are somebody's.
    run(&[])?
        .code(12)?
        .says(&["collection old_2017 exists already"])?;
    Ok(())
}

fn refuses(env: &Env) -> Outcome {
    let stage = archived(env)?;
    let url = stage.scripted.url();
    let uploads = stage.scripted.fake().uploads;
    let run = |what: &str, to: &str, more: &[&str]| restore(stage.dir(), what, to, more).run();
    for (what, to, more, code, says) in [
        (
            "archive:*",
            url.clone(),
            &[][..],
            12,
            "collection album_2018 exists already",
        ),
        (
            "archive:*@2020",
            url.clone(),
            &[],
            10,
            "nothing of such a name was in the archive then",
        ),
        (
            "archive:*@20261101",
            url.clone(),
            &[],
            2,
            "20261101 does not begin a time",
        ),
        (
            "archive:*@2026-1",
            url.clone(),
            &[],
            2,
            "2026-1 does not begin a time",
        ),
        ("archive:none_*", url.clone(), &[], 10, "none_*@latest"),
        (
            "archive:*",
            url.clone(),
            &["--rename=.*=one"],
            12,
            "would both become one",
        ),
        (
            "archive:*",
            url.clone(),
            &["--rename=.*=a/b"],
            12,
            "a name with '/'",
        ),
        (
            "archive:*",
            url.clone(),
            &["--rename=("],
            2,
            "there is no '='",
        ),
        (
            "archive:*",
            format!("{url}/x"),
            &["--aliases"],
            2,
            "are for many collections",
        ),
    ] {
        run(what, &to, more)?.code(code)?.says(&[says])?;
    }
    let file = env.case("album_2017").unpack(stage.dir())?;
    let run = restore(stage.dir(), &file.display().to_string(), &url, &[]).run()?;
    run.code(2)?.says(&[
        "it is a snapshot of one collection",
        "http://HOST:6333/NAME",
    ])?;
    ensure_eq!(stage.scripted.fake().uploads, uploads, "uploads");
    Ok(())
}

/// The checksum of a snapshot of a whole storage is compared, as that of one collection is.
fn checked(env: &Env) -> Outcome {
    let stage = archived(env)?;
    let (dir, url) = (stage.dir(), stage.scripted.url());
    let full = dir.join("full.snapshot");
    let inner = env.case("album_2017").unpack(dir)?;
    craft::full_snapshot(&full, &[("new", &inner)], &json!({}))?;
    let run = |more: &[&str]| restore(dir, "full.snapshot", &url, more).run();
    run(&["--require-checksum"])?
        .code(13)?
        .says(&["--require-checksum was given"])?;
    let wrong = format!("--sha256=full.snapshot={}", "0".repeat(64));
    run(&[&wrong])?
        .code(13)?
        .says(&["checking full.snapshot"])?;
    ensure!(
        !stage.scripted.fake().collections.contains_key("new"),
        "it was restored"
    );
    std::fs::write(dir.join("full.snapshot.checksum"), sha256(&full)?)?;
    let told = run(&["--require-checksum"])?.ok()?.json()?;
    ensure_eq!(states(&told).0, named(&[("new", "restored")]), "restored");
    ensure!(
        told["checksum"]
            .to_string()
            .contains("full.snapshot.checksum"),
        "{told}"
    );
    Ok(())
}

/// Many small collections, every third with an alias.
fn filled(server: &Server, count: u64) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for number in 0..count {
        let name = format!("small_{number:02}");
        let path = format!("/collections/{name}");
        let config =
            json!({"vectors": {"size": 4, "distance": "Cosine"}, "shard_number": 1 + number % 2});
        server.put(&path, &config)?;
        let points: Vec<Value> = (0..20 + number)
            .map(|id| json!({"id": id, "vector": [id, 1, number, 2], "payload": {"n": number, "id": id}}))
            .collect();
        server.put(
            &format!("{path}/points?wait=true"),
            &json!({"points": points}),
        )?;
        if number % 3 == 0 {
            let alias =
                json!({"alias_name": format!("alias_{number:02}"), "collection_name": name});
            server.post(
                "/collections/aliases",
                &json!({"actions": [{"create_alias": alias}]}),
            )?;
        }
        names.push(name);
    }
    Ok(names)
}

/// The points of each of these collections.
fn points_of(server: &Server, names: &[String]) -> Outcome<Vec<(String, Vec<Value>)>> {
    let names = names.iter();
    names
        .map(|name| Ok((name.clone(), server.scroll(name)?)))
        .collect()
}

/// The collections and aliases of `lost` are there, as they were.
fn ensure_there(server: &Server, points: &[(String, Vec<Value>)], aliases: &Value) -> Outcome {
    for (name, points) in points {
        ensure_same(&server.scroll(name)?, points)?;
    }
    let pairs = |value: &Value| {
        let all = value["aliases"].as_array().cloned().unwrap_or_default();
        let pair = |one: &Value| {
            (
                one["alias_name"].to_string(),
                one["collection_name"].to_string(),
            )
        };
        all.iter().map(pair).collect::<BTreeMap<_, _>>()
    };
    ensure_eq!(pairs(&server.get("/aliases")?), pairs(aliases), "aliases");
    nothing_left(server)
}

fn killed(bin: &Path) -> Outcome {
    const COLLECTIONS: u64 = 30;
    let dir = temp_dir()?;
    let lost = Server::start(bin)?;
    let names = filled(&lost, COLLECTIONS)?;
    let url = lost.url();
    init(dir.path())?;
    let capture = run_with(
        dir.path(),
        &["capture", &url, "*", "-q", "--archive=backups"],
    );
    capture
        .dir(dir.path())
        .timeout(Duration::from_secs(600))
        .run()?
        .ok()?;
    let aliases = lost.get("/aliases")?;
    let points = points_of(&lost, &names)?;
    drop(lost);

    let server = Server::start(bin)?;
    let url = server.url();
    let restore = || {
        restore(dir.path(), "archive:*", &url, &["--aliases", "--jobs=3"])
            .timeout(Duration::from_secs(600))
    };
    // Killed where some are there and others are not, twice.
    let mut there = 0;
    for _ in 0..2 {
        let running = restore().start()?;
        let enough = there + 6;
        while there < enough {
            std::thread::sleep(Duration::from_millis(20));
            let all = server.get("/collections")?;
            there = all["collections"].as_array().map_or(0, Vec::len);
        }
        running.signal(Signal::KILL)?;
        ensure!(running.wait()?.signal().is_some(), "it had ended");
        ensure_eq!(
            server.get("/aliases")?["aliases"],
            json!([]),
            "aliases before the end"
        );
    }
    let told = restore().run()?.ok()?.json()?;
    let (states, set) = states(&told);
    ensure!(set, "{told}");
    ensure_eq!(states.len(), names.len(), "collections");
    let earlier = states
        .values()
        .filter(|state| *state == "restored_earlier")
        .count();
    ensure!(
        (6..names.len()).contains(&earlier),
        "{earlier} of an earlier run"
    );
    ensure_there(&server, &points, &aliases)
}

fn full(bin: &Path) -> Outcome {
    let dir = temp_dir()?;
    let lost = Server::start(bin)?;
    let names = filled(&lost, 4)?;
    let made = lost.post("/snapshots?wait=true", &json!({}))?;
    let name = made["name"].as_str().ok_or("no name")?;
    let file = dir.path().join("full.snapshot");
    lost.download(&format!("/snapshots/{name}"), &file)?;
    let aliases = lost.get("/aliases")?;
    let points = points_of(&lost, &names)?;
    drop(lost);
    let server = Server::start(bin)?;
    let told = restore(dir.path(), "full.snapshot", &server.url(), &["--aliases"])
        .run()?
        .ok()?
        .json()?;
    ensure_eq!(
        told["collections"].as_array().map(Vec::len),
        Some(4),
        "collections"
    );
    ensure_there(&server, &points, &aliases)
}
