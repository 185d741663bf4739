//! Snapshots of servers up to 1.16, which keep points in RocksDB: every case of every version at hand is
//! read, merged by both routes and proven; masters hold what the old server itself answered.
//!
//! Invariants: an old snapshot is read from its `.gz`, since unpacked it has up to 340 MB, nearly all of
//! it zeros.

mod damage;
mod mix;

use std::path::Path;

use serde_json::{Value, json};

use crate::export::exported;
use crate::support::cases::Case;
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = env.per_old_case("old/case", |case| as_its_server_saw_it(&case));
    trials.push(Trial::new("old/versions_told", move || versions_told(env)));
    trials.extend(mix::trials(env));
    trials.extend(damage::trials(env));
    trials
}

/// A case equals its truth when it is exported, and so does a master of it by each route, which is proven.
fn as_its_server_saw_it(case: &Case) -> Outcome {
    let dir = temp_dir()?;
    let mut truth = case.truth()?;
    case.keys_as_written(&mut truth);
    let scratch = dir.path().join("scratch");
    std::fs::create_dir(&scratch)?;
    let run = cli!["export", &case.snapshot_gz, "--scratch", &scratch]
        .run()?
        .ok()?;
    let compared = ensure_same(&run.json_lines()?, &truth)?;
    ensure_eq!(compared, case.points(), "points compared");
    ensure_eq!(names_in(&scratch)?, Vec::<String>::new(), "left in scratch");
    restores_where_it_was_made(case)?;

    let master = dir.path().join("master.snapshot");
    for route in ["rebuild", "graft"] {
        let run = cli![
            "merge",
            &case.snapshot_gz,
            "--json",
            "--force",
            "-o",
            &master
        ]
        .args(["--route", route])
        .run()?
        .ok()?;
        let report = run.json()?;
        ensure_eq!(report["route"], json!(route), "route");
        ensure_eq!(
            report["master"]["points"],
            json!(truth.len()),
            "points by {route}"
        );
        ensure_same(&exported(&master)?, &truth)?;
        needs_no_database(&master)?;
        let run = cli![
            "verify",
            &master,
            "--json",
            "-q",
            "--against",
            &case.snapshot_gz
        ]
        .run()?;
        let report = run.json()?;
        let run = run.ok()?;
        ensure_eq!(
            report["verdict"],
            "proven",
            "verdict of {route}\n{}",
            run.told()
        );
    }
    Ok(())
}

/// A snapshot is said to be restored by the server that took it, and by none that lost RocksDB if it
/// keeps anything there.
fn restores_where_it_was_made(case: &Case) -> Outcome {
    let run = cli!["inspect", &case.snapshot_gz, "--json"].run()?.ok()?;
    let inspection = run.json()?;
    let snapshot = &inspection["snapshots"][0];
    ensure_eq!(snapshot["verdict"], "readable", "verdict\n{}", run.told());
    let servers = &snapshot["contents"]["restored_by"];
    let version =
        |value: &Value| -> Option<[u64; 3]> { serde_json::from_value(value.clone()).ok() };
    let mut own = [0; 3];
    for (part, text) in own.iter_mut().zip(case.server().split('.')) {
        *part = text.parse()?;
    }
    let from = version(&servers["from"]).ok_or("no first server")?;
    let before = version(&servers["before"]);
    ensure!(
        from <= own && before.is_none_or(|before| own < before),
        "{} is not among {servers}",
        case.server()
    );
    let shards = snapshot["contents"]["shards"]
        .as_array()
        .ok_or("no shards")?;
    let told = snapshot["notes"]
        .to_string()
        .contains("may have been numbers");
    let keyed = case.name == "shard_keys";
    ensure_eq!(
        told,
        keyed && case.writes_keys_as_text(),
        "a word about shard keys"
    );
    let in_rocksdb = shards
        .iter()
        .flat_map(|shard| shard["segments"].as_array().into_iter().flatten())
        .filter(|segment| !segment["in_rocksdb"].is_null())
        .count();
    let until = before.is_some_and(|before| before <= [1, 18, 0]);
    let by_keys = servers["before_for"] == "its shard keys are a map";
    ensure!(
        until == (in_rocksdb > 0 || by_keys),
        "{in_rocksdb} segments with RocksDB, and {servers}"
    );
    Ok(())
}

/// Fails if anything of `master` lies in RocksDB.
fn needs_no_database(master: &Path) -> Outcome {
    let inspection = cli!["inspect", master, "--json"].run()?.ok()?.json()?;
    let servers = &inspection["snapshots"][0]["contents"]["restored_by"];
    ensure_eq!(
        servers["before"],
        Value::Null,
        "who restores the master: {servers}"
    );
    Ok(())
}

/// What a person is told of an old snapshot: what lies in RocksDB, who restores it, and what a merge does.
fn versions_told(env: &Env) -> Outcome {
    for (version, name, keeps, by) in [
        (
            "1.7.4",
            "named",
            "ids, payload, vectors",
            "Qdrant 1.7 to 1.17 restores it",
        ),
        (
            "1.10.1",
            "multivector",
            "ids, payload, vectors",
            "Qdrant 1.10 to 1.17 restores it",
        ),
        (
            "1.13.6",
            "ram_payload_appendable",
            "ids, payload",
            "Qdrant 1.11 to 1.17 restores it",
        ),
    ] {
        let case = env.old_case(version, name)?;
        let run = cli!["inspect", &case.snapshot_gz].run()?.ok()?;
        let text = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            &format!("segments keep {keeps} in RocksDB"),
            by,
            "a merge converts them in scratch",
        ] {
            ensure!(text.contains(part), "{part} is not told\n{}", run.told());
        }
    }
    Ok(())
}
