//! `drill`: what is in an archive restored and proven; a damaged or belied entry is not.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{archive, findings, make, walk};
use crate::support::cli::{Cli, Run};
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("archive/drill/takes_turns", || takes_turns(env)),
        Trial::new("archive/drill/believes_nobody", || believes_nobody(env)),
        Trial::new("archive/drill/damaged", || damaged(env)),
        env.live("archive/drill/on_a_server", move |bin| {
            on_a_server(env, bin)
        }),
    ]
}

fn drill(root: &Path) -> Cli {
    cli!["drill", "--archive", root]
}

fn master(env: &Env, dir: &Path, route: &str) -> Outcome<PathBuf> {
    let master = dir.join("master.snapshot");
    let sources = ["album_2017", "album_2019_overlap"].map(|name| env.case(name).snapshot_gz);
    cli!["merge", "-q", "--force", "--route", route, "-o", &master]
        .args(sources)
        .run()?
        .ok()?;
    Ok(master)
}

/// The entries that a drill of `cli` has proven.
fn proven(run: &Run) -> Outcome<Vec<String>> {
    let told = run.json()?;
    let drilled = told["drilled"].as_array().ok_or("no entries")?;
    let names = drilled.iter().filter_map(|one| {
        let differs = one["differences"].as_array()?;
        let (name, _) = one["id"].as_str()?.rsplit_once('@')?;
        differs.is_empty().then(|| name.to_owned())
    });
    Ok(names.collect())
}

fn takes_turns(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    drill(&root)
        .run()?
        .code(10)?
        .says(&["nothing in the archive"])?;
    for name in ["album_2017", "log_pending", "shard_keys"] {
        let file = env.case(name).snapshot_gz;
        archive("add", &root).arg(file).run()?.ok()?;
    }
    let run = archive("ls", &root).run()?.ok()?;
    ensure!(run.stdout.contains("no restore was ever"), "{}", run.told());
    let master = master(env, dir.path(), "rebuild")?;
    archive("add", &root).arg(&master).run()?.ok()?;
    let scratch = dir.path().join("scratch");
    let mut seen = Vec::new();
    for _ in 0..4 {
        let run = drill(&root)
            .arg("--json")
            .arg("--scratch")
            .arg(&scratch)
            .run()?
            .ok()?;
        let now = proven(&run)?;
        ensure_eq!(now.len(), 2, "proven");
        ensure_eq!(now[0], "master", "the first");
        seen.push(now[1].clone());
        let told = run.json()?;
        // What a master's record says is compared: the digest was known, as it was rebuilt.
        let compared = told["drilled"][0]["compared"].to_string();
        for part in ["SHA-256", "points", "digest", "config, payload indexes"] {
            ensure!(compared.contains(part), "{part} is not in {compared}");
        }
        let record = std::fs::read_to_string(master.with_extension("snapshot.provenance.json"))?;
        let record: Value = serde_json::from_str(&record)?;
        ensure_eq!(told["drilled"][0]["points"], record["points"], "points");
        ensure_eq!(told["drilled"][0]["digest"], record["digest"], "digest");
        let points = env.case(&now[1]).points() as u64;
        ensure_eq!(told["drilled"][1]["points"], json!(points), "points");
    }
    let turns = ["album_2017", "log_pending", "shard_keys", "album_2017"];
    ensure_eq!(seen, turns, "the sources in turn");
    ensure_eq!(names_in(&scratch)?, Vec::<String>::new(), "scratch");
    let run = archive("ls", &root).run()?.ok()?;
    ensure!(run.stdout.contains("last proven on 2"), "{}", run.told());
    let run = archive("show", &root).arg("master").run()?.ok()?;
    ensure!(run.stdout.contains("and proven on"), "{}", run.told());
    archive("verify-chain", &root).run()?.ok()?;
    ensure_eq!(findings(&root)?, Vec::<Value>::new(), "findings");
    // What was grafted was not looked at then; from its first drill on its digest is known.
    let grafted = self::master(env, dir.path(), "graft")?;
    let name = ["--name", "grafted"];
    archive("add", &root).arg(&grafted).args(name).run()?.ok()?;
    let run = drill(&root).arg("grafted").run()?.ok()?;
    ensure!(run.stdout.contains("open     digest"), "{}", run.told());
    let run = drill(&root).arg("grafted").run()?.ok()?;
    let earlier = run.stdout.contains("in an earlier drill");
    ensure!(earlier, "{}", run.told());
    Ok(())
}

/// Records that say something else than what the snapshot holds.
fn believes_nobody(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let master = master(env, dir.path(), "rebuild")?;
    let beside = master.with_extension("snapshot.provenance.json");
    let record: Value = serde_json::from_str(&std::fs::read_to_string(&beside)?)?;
    type Lie = (&'static str, fn(&mut Value), &'static str);
    let lies: [Lie; 5] = [
        ("points", |it| it["points"] = json!(7), "points (7 when"),
        (
            "digest",
            |it| it["digest"] = json!(format!("v2:1:{}", "0".repeat(64))),
            "digest (as merged)",
        ),
        (
            "config",
            |it| it["config"]["params"]["vectors"]["distance"] = json!("Euclid"),
            "distance",
        ),
        (
            "index",
            |it| it["payload_index"]["schema"]["nowhere"] = json!("keyword"),
            "nowhere",
        ),
        (
            "keys",
            |it| it["shard_keys"] = json!([{"key": "a", "shard_ids": [0]}]),
            "shard keys",
        ),
    ];
    for (name, lie, says) in lies {
        let mut belied = record.clone();
        lie(&mut belied);
        std::fs::write(&beside, belied.to_string())?;
        archive("add", &root)
            .arg(&master)
            .args(["--name", name])
            .run()?
            .ok()?;
        let run = drill(&root).arg(name).run()?.code(3)?;
        ensure!(run.stdout.contains("NOT PROVEN"), "{}", run.told());
        ensure!(run.stdout.contains(says), "{says}: {}", run.told());
        let run = archive("show", &root).arg(name).run()?.ok()?;
        ensure!(run.stdout.contains("restored  never"), "{}", run.told());
    }
    std::fs::write(&beside, r#"{"format":"another/1"}"#)?;
    archive("add", &root)
        .arg(&master)
        .args(["--name", "unreadable"])
        .run()?
        .ok()?;
    drill(&root)
        .arg("unreadable")
        .run()?
        .code(13)?
        .says(&["provenance of unreadable@"])?;
    Ok(())
}

/// A flipped bit: 13, the others are restored all the same.
fn damaged(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let add = |name: &str| -> Outcome {
        let file = env.case(name).snapshot_gz;
        archive("add", &root).arg(file).run()?.ok()?;
        Ok(())
    };
    add("album_2017")?;
    let before = walk(&root.join("objects"))?;
    add("three_shards")?;
    let after = walk(&root.join("objects"))?;
    let object = after
        .iter()
        .find(|object| !before.contains(object))
        .ok_or("no new object")?;
    let mut bytes = std::fs::read(object)?;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(object, &bytes)?;
    let both = || drill(&root).args(["three_shards", "album_2017"]);
    let run = both().run()?.code(13)?;
    let run = run.says(&["three_shards@", "SHA-256", "archive check"])?;
    let other = run.stdout.contains("album_2017@") && run.stdout.contains(": PROVEN");
    ensure!(other, "{}", run.told());
    let run = both().arg("--json").run()?.code(13)?;
    ensure_eq!(proven(&run)?, ["album_2017"], "proven");
    let failed = run.json()?["failed"][0]["id"].to_string();
    ensure!(failed.contains("three_shards@"), "{failed}");
    let run = archive("show", &root).arg("three_shards").run()?.ok()?;
    ensure!(run.stdout.contains("restored  never"), "{}", run.told());
    bytes[last] ^= 1;
    std::fs::write(object, &bytes)?;
    both().run()?.ok()?;
    Ok(())
}

/// Captured from a server, and restored there; nothing is left of it.
fn on_a_server(env: &Env, bin: &Path) -> Outcome {
    let server = Server::start_cluster(bin)?;
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let names = [
        "album_2017",
        "named",
        "sparse_dense",
        "multivector",
        "uuid_ids",
    ];
    for name in names {
        let case = env.case(name);
        server.upload(name, &case.unpack(dir.path())?)?;
        server.wait_green(name, std::time::Duration::from_secs(60))?;
    }
    cli!["capture", server.url(), "*", "-q", "--archive", &root]
        .run()?
        .ok()?;
    let keyed = env.case("shard_keys").snapshot_gz;
    archive("add", &root).arg(keyed).run()?.ok()?;
    let grpc = server.grpc_url();
    let (_, port) = grpc.rsplit_once(':').ok_or("no port")?;
    let run = drill(&root)
        .args(names)
        .arg("shard_keys")
        .args([
            "--json",
            "--to",
            &server.url(),
            "--grpc-port",
            port,
            "--state",
        ])
        .arg(dir.path())
        .run()?
        .ok()?;
    ensure_eq!(proven(&run)?.len(), names.len() + 1, "proven");
    let told = run.json()?;
    for one in told["drilled"].as_array().into_iter().flatten() {
        let compared = one["compared"].to_string();
        ensure!(compared.contains("points, config and indexes on"), "{one}");
        let captured = !one["id"].to_string().contains("shard_keys@");
        ensure_eq!(compared.contains("config as captured"), captured, "{one}");
        ensure_eq!(compared.contains("when captured"), captured, "{one}");
    }
    let there = server.get("/collections")?;
    let there = there["collections"].as_array().map(Vec::len);
    ensure_eq!(there, Some(names.len()), "collections");
    let run = archive("show", &root).arg("named").run()?.ok()?;
    ensure!(run.stdout.contains("also on"), "{}", run.told());
    // And by name, to stay.
    cli!["restore", "archive:named@latest", "-q", "--archive", &root]
        .args(["--to", &format!("{}/again", server.url()), "--state"])
        .arg(dir.path())
        .run()?
        .ok()?;
    let points = env.case("named").points() as u64;
    ensure_eq!(server.count("again")?, points, "points");
    // A server that is not there is known before anything is unpacked.
    drill(&root)
        .args(["--to", "http://127.0.0.1:1", "--state"])
        .arg(dir.path())
        .run()?
        .code(1)?;
    Ok(())
}
