//! Masters with a shard key for each source (`--layout by-source`).

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

use super::whole::{copy_of, given};
use super::{Given, export, graft, graft_and_compare, has_note, members, merging, under_key};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let trial = |name: &str, run: fn(&Env) -> Outcome| {
        Trial::new(format!("graft/{name}"), move || run(env))
    };
    vec![
        trial("by_source", by_source),
        trial("by_source_with_conflicts", by_source_with_conflicts),
        trial("by_source_refuses_many_shards", by_source_refuses),
    ]
}

/// What a restore needs of a master with keys, by what is in its file.
fn ensure_keys(output: &Path, report: &Value, keys: &[&str]) -> Outcome {
    let parts = members(File::open(output)?)?;
    let part = |name: &str| -> Outcome<Value> { Ok(serde_json::from_slice(&parts[name])?) };
    let params = &part("config.json")?["params"];
    ensure_eq!(params["sharding_method"], "custom", "sharding");
    ensure_eq!(params["shard_number"], 1, "shards a key");
    let mut mapping: Vec<(&str, i32)> = keys.iter().copied().zip(1..).collect();
    // The file lists them by name; their numbers tell the order.
    mapping.sort_unstable();
    let mapping: Vec<Value> = mapping
        .into_iter()
        .map(|(key, number)| json!({"key": key, "shard_ids": [number]}))
        .collect();
    ensure_eq!(part("shard_key_mapping.json")?, json!(mapping), "the keys");
    for (number, key) in (1..).zip(keys) {
        let shard = &report["master"]["shards"][number - 1];
        ensure_eq!(shard["shard"], number, "number of {key}");
        let told = shard["key"].as_str().unwrap_or_default();
        ensure!(told.contains(key), "{told} instead of {key}");
        let file = format!("{number}/shard_config.json");
        ensure!(parts.contains_key(&file), "{file} is missing");
        let log = format!("{number}/wal/closed-");
        let logs = parts.keys().filter(|name| name.starts_with(&log)).count();
        ensure_eq!(logs, 1, "logs of shard {number}");
    }
    let note = ["sharding_method custom", "in the order", "qdrant#10135"];
    ensure!(has_note(report, &note), "no note: {}", report["notes"]);
    Ok(())
}

fn by_source(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let a = given(env, dir.path(), "album_2017")?;
    let b = given(env, dir.path(), "album_2018")?;
    let output = dir.path().join("master.snapshot");
    // Not in the order of their names.
    let report = graft(&[&b, &a], &output, &["--layout", "by-source"])?;
    ensure_keys(&output, &report, &["album_2018", "album_2017"])?;
    ensure_eq!(report["carried"]["repacked_segments"], 0, "repacked");
    ensure!(
        !has_note(&report, &["default_segment_number"]),
        "a shard has as many segments as before, but {}",
        report["notes"]
    );
    let mut expected = under_key(&a.points, "album_2017");
    expected.extend(under_key(&b.points, "album_2018"));
    ensure_same(&export(&output)?, expected.values())?;
    // A master with keys is a source like any other, and joins itself key by key.
    let again = Given {
        file: output,
        points: expected,
    };
    graft_and_compare(dir.path(), &[&again], "last")?;
    let copy = copy_of(&again, "copy")?;
    graft_and_compare(dir.path(), &[&again, &copy], "first")?;
    Ok(())
}

/// Ids are unique within a shard key (qdrant.tech/documentation, user-defined sharding): of two sources
/// under keys of their own none loses, by either route and under every policy, also when the master is
/// merged again.
fn by_source_with_conflicts(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let a = given(env, dir.path(), "album_2018")?;
    let b = given(env, dir.path(), "album_2019_overlap")?;
    let keys = ["album_2018", "album_2019_overlap"];
    let mut expected: Vec<Value> = (under_key(&a.points, keys[0]).into_values())
        .chain(under_key(&b.points, keys[1]).into_values())
        .collect();
    expected.sort_by_key(|point| (point["id"].as_u64(), point["shard_key"].to_string()));
    let ids: BTreeSet<_> = expected.iter().map(|point| point["id"].as_u64()).collect();
    ensure_eq!(expected.len() - ids.len(), 200, "ids under both keys");

    let grafted = dir.path().join("graft.snapshot");
    for (route, policy) in [
        ("graft", "last"),
        ("graft", "newest:score"),
        ("graft", "fail"),
        ("rebuild", "last"),
        ("rebuild", "remap"),
    ] {
        let output = match (route, policy) {
            ("graft", "last") => grafted.clone(),
            _ => dir
                .path()
                .join(format!("{route}_{}.snapshot", &policy[..4])),
        };
        let report = merging([&a.file, &b.file], &output)
            .args(["--route", route, "--layout", "by-source"])
            .args(["--on-conflict", policy])
            .run()?
            .ok()?
            .json()?;
        ensure_keys(&output, &report, &keys)?;
        for source in report["sources"].as_array().ok_or("no sources")? {
            ensure_eq!(source["won"], 1000, "{route}, {policy}: won of {source}");
            ensure_eq!(source["lost"], 0, "{route}, {policy}: lost of {source}");
        }
        ensure_eq!(report["conflicts"]["count"], 0, "{route}, {policy}");
        ensure_eq!(report["master"]["points"], 2000, "{route}, {policy}");
        ensure_same(&export(&output)?, &expected)?;
        cli![
            "verify",
            &output,
            "--against",
            &a.file,
            "--against",
            &b.file
        ]
        .args(["--layout", "by-source", "--json", "--deep", "-q"])
        .run()?
        .ok()?;
    }

    for route in ["graft", "rebuild"] {
        let again = dir.path().join(format!("again_{route}.snapshot"));
        merging([&grafted], &again)
            .args(["--route", route])
            .run()?
            .ok()?;
        ensure_same(&export(&again)?, &expected)?;
        let report = cli!["diff", &grafted, &again, "--json"]
            .run()?
            .ok()?
            .json()?;
        ensure_eq!(report["points"]["same"], 2000, "{report}");
    }
    Ok(())
}

fn by_source_refuses(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let a = given(env, dir.path(), "album_2017")?;
    let b = given(env, dir.path(), "three_shards")?;
    let before = names_in(dir.path())?;
    let output = dir.path().join("master.snapshot");
    merging([&a.file, &b.file], &output)
        .args(["--route", "graft", "--layout", "by-source"])
        .run()?
        .code(2)?
        .says(&["three_shards has 3 shards", "lie elsewhere"])?;
    ensure_eq!(names_in(dir.path())?, before, "what is left");
    Ok(())
}
