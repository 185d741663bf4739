//! Masters with a shard key for each value of a payload field (`--layout by-field:FIELD`).
//!
//! Keeps true: keys and winners are computed here from the truth files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::points::{PointId, ensure_same};
use crate::support::{Env, Outcome, Trial, temp_dir};

const ALBUMS: [&str; 3] = ["album_2017", "album_2018", "album_2019_overlap"];
/// Points that have the field.
const HAS_CAMERA: &str = r#"{"must_not":[{"is_empty":{"key":"camera"}}]}"#;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let trial = |name: &str, run: fn(&Env) -> Outcome| {
        Trial::new(format!("merge/by_field/{name}"), move || run(env))
    };
    vec![
        trial("words", words),
        trial("numbers", numbers),
        trial("stamped", stamped),
        trial("stamped_otherwise", stamped_otherwise),
        trial("nothing", nothing),
        trial("refuses", refuses),
    ]
}

/// Points by id and key, as JSON orders keys: numbers before words.
pub type Keyed = BTreeMap<(PointId, (bool, u64, String)), Value>;

/// The union of `sources` under `last`, by the key that `key` tells; points without one are left out.
pub fn keyed(sources: &[Vec<Value>], key: impl Fn(usize, &Value) -> Value) -> Outcome<Keyed> {
    let mut all = Keyed::new();
    for (at, points) in sources.iter().enumerate() {
        for point in points {
            let key = key(at, point);
            if key.is_null() {
                continue;
            }
            let order = (
                key.is_string(),
                key.as_u64().unwrap_or(0),
                key.as_str().unwrap_or_default().to_owned(),
            );
            let mut point = point.clone();
            point["shard_key"] = key;
            all.insert((PointId::of(&point)?, order), point);
        }
    }
    Ok(all)
}

fn sources(env: &Env, dir: &Path) -> Outcome<(Vec<PathBuf>, Vec<Vec<Value>>)> {
    let cases = ALBUMS.map(|name| env.case(name));
    let files = cases.iter().map(|case| case.unpack(dir));
    let truths = cases.iter().map(|case| case.truth());
    Ok((
        files.collect::<Outcome<_>>()?,
        truths.collect::<Outcome<_>>()?,
    ))
}

/// Stamps the points of each source with its value of `values`.
fn put(truths: &mut [Vec<Value>], field: &str, values: [&str; 3]) {
    for (points, value) in truths.iter_mut().zip(values) {
        for point in points {
            if point["payload"].is_null() {
                point["payload"] = json!({});
            }
            point["payload"][field] = json!(value);
        }
    }
}

/// Merges, compares points and keys with `wanted`, and has `verify` prove it, with answers, by the
/// provenance and by flags.
fn compare(files: &[PathBuf], args: &[&str], wanted: &Keyed) -> Outcome<Value> {
    let dir = temp_dir()?;
    let output = dir.path().join("master.snapshot");
    let run = cli!["merge", "-q", "--json", "-o", &output, "--hnsw-m", "0"]
        .args(args)
        .args(files)
        .run()?
        .ok()?;
    let report = run.json()?;
    let lines = cli!["export", &output].run()?.ok()?.json_lines()?;
    ensure_same(&lines, wanted.values())?;
    ensure_eq!(report["master"]["points"], json!(wanted.len()), "points");
    let verify = |extra: &[&str]| {
        cli!["verify", &output, "-q", "--deep", "--queries", "5"]
            .args(extra)
            .arg("--against")
            .args(files)
            .run()
    };
    verify(&[])?.ok()?;
    std::fs::remove_file(dir.path().join("master.snapshot.provenance.json"))?;
    // The flags do not say that there are no graphs.
    let run = cli!["verify", &output, "-q", "--json"]
        .args(args)
        .arg("--against")
        .args(files)
        .run()?;
    let by_flags = run.json()?;
    ensure_eq!(
        by_flags["differences"],
        json!(0),
        "differences\n{}",
        run.told()
    );
    ensure_eq!(by_flags["looked_at"], json!(wanted.len()), "looked at");
    Ok(report)
}

/// An id under two keys is two points; under one key the later source has it.
fn words(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let (files, truths) = sources(env, dir.path())?;
    let wanted = keyed(&truths, |_, point| point["payload"]["camera"].clone())?;
    let ids = |keyed: &Keyed| -> std::collections::BTreeSet<PointId> {
        keyed.keys().map(|(id, _)| id.clone()).collect()
    };
    ensure!(ids(&wanted).len() < wanted.len(), "no id is under two keys");
    let args = ["--layout", "by-field:camera", "--filter", HAS_CAMERA];
    let report = compare(&files, &args, &wanted)?;
    ensure_eq!(report["route"], "rebuild", "the route");
    let why = report["because"].as_str().unwrap_or_default();
    ensure!(why.contains("several values of 'camera'"), "{why}");
    let lost: u64 = (report["sources"].as_array().into_iter().flatten())
        .filter_map(|source| source["lost"].as_u64())
        .sum();
    let read = truths
        .iter()
        .flatten()
        .filter(|one| one["payload"]["camera"].is_string());
    ensure_eq!(lost as usize, read.count() - wanted.len(), "lost");
    let mut by_key: BTreeMap<String, u64> = BTreeMap::new();
    for (_, (_, _, word)) in wanted.keys() {
        *by_key.entry(format!("\"{word}\"")).or_default() += 1;
    }
    let told: BTreeMap<String, u64> = (report["master"]["shards"].as_array().into_iter().flatten())
        .map(|shard| {
            let key = shard["key"].as_str().unwrap_or_default().to_owned();
            (key, shard["points"].as_u64().unwrap_or(0))
        })
        .collect();
    ensure_eq!(told, by_key, "points by key");
    Ok(())
}

fn numbers(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let (files, truths) = sources(env, dir.path())?;
    let wanted = keyed(&truths, |_, point| point["payload"]["year"].clone())?;
    let filter = r#"{"must_not":[{"is_empty":{"key":"year"}}]}"#;
    let args = [
        "--layout",
        "by-field:year",
        "--filter",
        filter,
        "--on-conflict",
        "newest:year",
    ];
    compare(&files, &args, &wanted)?;
    Ok(())
}

/// A field that is stamped counts as stamped.
fn stamped(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let (files, mut truths) = sources(env, dir.path())?;
    put(&mut truths, "from", ["album_2017", "album_2018", "z"]);
    let wanted = keyed(&truths, |_, point| point["payload"]["from"].clone())?;
    let args = [
        "--layout",
        "by-field:from",
        "--stamp",
        "from",
        "--stamp-value",
        "album_2019_overlap=z",
    ];
    compare(&files, &args, &wanted)?;
    Ok(())
}

/// A path with quotes is the same path; one below or above what is stamped is neither this nor that.
fn stamped_otherwise(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let (files, mut truths) = sources(env, dir.path())?;
    put(&mut truths, "camera", ALBUMS);
    let wanted = keyed(&truths, |_, point| point["payload"]["camera"].clone())?;
    // Under another key each id is another point, so nothing is in conflict.
    let args = [
        "--layout",
        "by-field:\"camera\"",
        "--stamp",
        "camera",
        "--on-conflict",
        "newest:no_such_field",
    ];
    compare(&files, &args, &wanted)?;
    let output = dir.path().join("master.snapshot");
    for (field, stamp) in [("meta.t", "meta"), ("meta", "meta.t")] {
        cli!["merge", "-q", "-o", &output, "--stamp", stamp]
            .args(["--layout", &format!("by-field:{field}")])
            .args(&files)
            .run()?
            .code(2)?
            .says(&["changes a part of that field"])?;
    }
    Ok(())
}

/// A filter that leaves nothing leaves no keys.
fn nothing(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let (files, _) = sources(env, dir.path())?;
    let filter = r#"{"must":[{"key":"year","match":{"value":1}}]}"#;
    let output = dir.path().join("master.snapshot");
    let run = cli![
        "merge",
        "-q",
        "--json",
        "-o",
        &output,
        "--layout",
        "by-field:year"
    ]
    .args(["--filter", filter])
    .args(&files)
    .run()?
    .ok()?;
    ensure_eq!(run.json()?["master"]["points"], json!(0), "points");
    cli!["verify", &output, "-q", "--against"]
        .args(&files)
        .run()?
        .ok()?;
    Ok(())
}

fn refuses(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let (files, _) = sources(env, dir.path())?;
    let output = dir.path().join("master.snapshot");
    for (args, code, says) in [
        (
            &["--layout", "by-field:camera"][..],
            12,
            &["shard key", "camera it has", "--filter"][..],
        ),
        (&["--layout", "by-field:file"], 12, &["it has nothing"]),
        (&["--layout", "by-field:"], 2, &["has a name"]),
        (
            &["--layout", "by-field"],
            2,
            &["same, by-source, by-field:FIELD"],
        ),
        (
            &["--layout", "by-field:camera", "--on-conflict", "remap"],
            2,
            &["which key a new id is under"],
        ),
        (
            &["--layout", "by-field:camera", "--route", "graft"],
            2,
            &["several values of 'camera'"],
        ),
        (
            &[
                "--layout",
                "by-field:path",
                "--filter",
                r#"{"must_not":[{"is_empty":{"key":"path"}}]}"#,
            ],
            12,
            &["257 values or more", "256 in all"],
        ),
    ] {
        let run = cli!["merge", "-q", "-o", &output]
            .args(args)
            .args(&files)
            .run()?;
        run.code(code)?.says(says)?;
        ensure!(!output.exists(), "{args:?} left a file");
    }
    Ok(())
}
