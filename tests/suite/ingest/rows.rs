//! Rows of JSON lines: which become points, how, and which do not.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::export::exported;
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("ingest/rows/by_year", by_year),
        Trial::new("ingest/rows/as_a_server", || as_a_server(env)),
        Trial::new("ingest/rows/again", again),
        Trial::new("ingest/rows/rejected", rejected),
        Trial::new("ingest/rows/config", || config(env)),
        Trial::new("ingest/rows/standard_input", standard_input),
        Trial::new("ingest/rows/refuses", refuses),
    ]
}

/// Writes lines to a file called `name` in `dir`.
pub fn lines(dir: &Path, name: &str, rows: &[Value]) -> Outcome<PathBuf> {
    let path = dir.join(name);
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(&path, text)?;
    Ok(path)
}

/// The guide's first step: pictures of some years, each year into a collection.
fn by_year() -> Outcome {
    let dir = temp_dir()?;
    let row = |id: u64| json!({"id": id, "vector": [id, 1, 2, 3], "payload": {"year": 2017 + id % 3, "path": format!("{id}.jpg")}});
    let rows: Vec<Value> = (0..300).rev().map(row).collect();
    let file = lines(dir.path(), "points.jsonl", &rows)?;
    let pattern = dir.path().join("album_{year}.snapshot");
    let run = cli![
        "ingest",
        &file,
        "--size",
        "4",
        "--distance",
        "Dot",
        "-o",
        &pattern
    ]
    .args(["--payload-index", "year=integer"])
    .run()?
    .ok()?;
    run.prints(&[
        "300 rows of 1 file: 300 points in 3 snapshots",
        "album_2018.snapshot",
    ])?;
    for year in 2017..2020 {
        let album = dir.path().join(format!("album_{year}.snapshot"));
        let mut wanted: Vec<&Value> = rows
            .iter()
            .filter(|row| row["payload"]["year"] == year)
            .collect();
        wanted.sort_by_key(|row| row["id"].as_u64());
        ensure_eq!(ensure_same(&exported(&album)?, wanted)?, 100, "points");
        let inspected = cli!["inspect", &album].run()?.ok()?;
        inspected.prints(&["album_", ".snapshot.checksum", "1 index: year integer"])?;
    }
    // And the master of them.
    let master = dir.path().join("master.snapshot");
    let albums = (2017..2020).map(|year| dir.path().join(format!("album_{year}.snapshot")));
    cli!["merge"]
        .args(albums)
        .arg("-o")
        .arg(&master)
        .run()?
        .ok()?;
    ensure_eq!(exported(&master)?.len(), 300, "points of the master");
    Ok(())
}

/// Vectors become what a server makes of them: a case's truth is what one made of these.
fn as_a_server(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    for (name, factor) in [("album_2017", 3.0), ("float16", 1.0)] {
        let case = env.case(name);
        let truth = case.truth()?;
        let mut rows = truth.clone();
        for row in &mut rows {
            for value in row["vector"].as_array_mut().into_iter().flatten() {
                *value = json!(value.as_f64().unwrap_or_default() * factor);
            }
        }
        let file = lines(dir.path(), &format!("{name}.jsonl"), &rows)?;
        let back = dir.path().join(format!("{name}.snapshot"));
        cli!["ingest", &file, "-o", &back, "--like", &case.snapshot_gz]
            .run()?
            .ok()?;
        let found = exported(&back)?;
        ensure_eq!(found.len(), truth.len(), "{name}: points");
        for (found, truth) in found.iter().zip(&truth) {
            ensure_eq!(found["id"], truth["id"], "{name}");
            ensure_eq!(found["payload"], truth["payload"], "{name}");
            let of = |point: &Value| -> Vec<f64> {
                let vector = point["vector"].as_array();
                vector
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_f64)
                    .collect()
            };
            let (found, truth) = (of(found), of(truth));
            ensure_eq!(found.len(), truth.len(), "{name}: dimensions");
            for (found, truth) in found.iter().zip(&truth) {
                let apart = (found - truth).abs();
                let is_near = apart <= 1e-3 * truth.abs() + 1e-6;
                ensure!(is_near, "{name}: {found} for {truth}");
            }
        }
    }
    Ok(())
}

/// An id that comes again, in another file too, and the same ingest again.
fn again() -> Outcome {
    let dir = temp_dir()?;
    let row = |id: u64, mark: u64| json!({"id": id, "vector": [1.0], "payload": {"mark": mark}});
    let first = lines(dir.path(), "a.jsonl", &[row(1, 1), row(2, 1), row(1, 2)])?;
    let second = lines(dir.path(), "b.jsonl", &[row(2, 3), row(3, 3)])?;
    let out = dir.path().join("out.snapshot");
    let ingest = |rule: &str| {
        cli![
            "ingest",
            &first,
            &second,
            "--size",
            "1",
            "--distance",
            "Dot",
            "-o",
            &out
        ]
        .args(["--force", "--on-existing", rule, "--json"])
        .run()
    };
    for (rule, marks) in [("replace", [2, 3, 3]), ("skip", [1, 1, 3])] {
        for _ in 0..2 {
            let report = ingest(rule)?.ok()?.json()?;
            ensure_eq!(report["rows"], 5, "{rule}: rows");
            ensure_eq!(report["replaced"], 2, "{rule}: replaced");
            let found: Vec<Value> = exported(&out)?
                .iter()
                .map(|point| point["payload"]["mark"].clone())
                .collect();
            ensure_eq!(Value::from(found), json!(marks), "{rule}: marks");
        }
    }
    ingest("fail")?
        .code(12)?
        .says(&["point 1", "more than once"])?;
    // What was there is there.
    ensure_eq!(exported(&out)?.len(), 3, "points");
    Ok(())
}

/// Bad rows end the ingest, or are written to a file with the reason.
fn rejected() -> Outcome {
    let dir = temp_dir()?;
    let good = |id: u64| json!({"id": id, "vector": [1.0, 2.0], "payload": {"year": 2017}});
    let text = [
        good(1).to_string(),
        "{".into(),
        r#"{"vector": [1.0, 2.0]}"#.into(),
        r#"{"id": 2, "vector": [1.0]}"#.into(),
        r#"{"id": 3, "vector": [1.0, null], "payload": {"year": 2017}}"#.into(),
        r#"{"id": 4, "vector": [1.0, 1e39], "payload": {"year": 2017}}"#.into(),
        r#"{"id": 5, "vector": {"x": [1.0, 2.0]}, "payload": {"year": 2017}}"#.into(),
        r#"{"id": 6, "vector": [1.0, 2.0], "payload": {"year": [2017]}}"#.into(),
        r#"{"id": "x", "vector": [1.0, 2.0]}"#.into(),
        r#"{"id": 7, "vector": [1.0, 2.0], "payload": {}, "yaer": 2017}"#.into(),
        "\u{fffd}".into(),
        String::new(),
        good(8).to_string(),
    ]
    .join("\n");
    let file = dir.path().join("rows.jsonl");
    std::fs::write(&file, text.replace('\u{fffd}', "\u{1}"))?;
    let pattern = dir.path().join("album_{year}.snapshot");
    let ingest = || {
        cli![
            "ingest",
            &file,
            "--size",
            "2",
            "--distance",
            "Dot",
            "-o",
            &pattern
        ]
    };
    let before = names_in(dir.path())?;
    ingest()
        .run()?
        .code(12)?
        .says(&["row 2 of", "rows.jsonl", "--reject"])?;
    ensure_eq!(names_in(dir.path())?, before, "what is there");
    let bad = dir.path().join("bad.jsonl");
    let run = ingest().arg("--reject").arg(&bad).run()?.code(3)?;
    run.prints(&["2 points", "10 rows ARE NO POINTS"])?;
    let told: Vec<Value> = std::fs::read_to_string(&bad)?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let wanted = [
        (2, "EOF"),
        (3, "no id"),
        (4, "1 dimensions"),
        (5, "number of a vector is null"),
        (6, "infinite"),
        (7, "no such vector"),
        (8, "--rest"),
        (9, "neither"),
        (10, "yaer"),
        (11, "expected"),
    ];
    ensure_eq!(told.len(), wanted.len(), "rejected rows: {told:?}");
    for (told, (row, why)) in told.iter().zip(wanted) {
        ensure_eq!(told["row"], row, "the row");
        ensure!(
            told["why"].as_str().is_some_and(|told| told.contains(why)),
            "{told}"
        );
        ensure!(
            told["file"]
                .as_str()
                .is_some_and(|told| told.ends_with("rows.jsonl")),
            "{told}"
        );
    }
    ensure_eq!(
        exported(&dir.path().join("album_2017.snapshot"))?.len(),
        2,
        "points"
    );
    Ok(())
}

/// The config comes from a snapshot, a file, or flags, and flags win.
fn config(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let row = json!({"id": 1, "image": [1.0, 2.0, 3.0, 4.0], "words": {"indices": [7, 3], "values": [1, 2]}, "year": 2017});
    let file = lines(dir.path(), "rows.jsonl", &[row])?;
    let given = dir.path().join("collection.json");
    std::fs::write(
        &given,
        json!({
            "vectors": {"image": {"size": 4, "distance": "Euclid", "on_disk": true}},
            "sparse_vectors": {"words": {}},
            "shard_number": 2,
            "hnsw_config": {"m": 24},
        })
        .to_string(),
    )?;
    let out = dir.path().join("out.snapshot");
    cli!["ingest", &file, "--config", &given, "-o", &out]
        .args(["--hnsw-m", "32"])
        .run()?
        .ok()?;
    let wanted = json!({"id": 1, "payload": {"year": 2017}, "vector": {
        "image": [1.0, 2.0, 3.0, 4.0], "words": {"indices": [3, 7], "values": [2.0, 1.0]}}});
    ensure_same(&exported(&out)?, [&wanted])?;
    let plan = cli![
        "merge",
        &out,
        "-o",
        dir.path().join("x.snapshot"),
        "--dry-run",
        "--json"
    ]
    .run()?
    .ok()?
    .json()?;
    let config = &plan["config"];
    ensure_eq!(config["hnsw_config"]["m"], 32, "m");
    ensure_eq!(config["params"]["shard_number"], 2, "shards");
    ensure_eq!(
        config["params"]["vectors"]["image"]["on_disk"],
        true,
        "on_disk"
    );
    // Of a snapshot, with its shard keys.
    let keyed = env.case("shard_keys");
    let truth = keyed.truth()?;
    let mut rows: Vec<Value> = truth.iter().take(50).cloned().collect();
    let file = lines(dir.path(), "keyed.jsonl", &rows)?;
    let out = dir.path().join("keyed.snapshot");
    let ingest = || {
        cli![
            "ingest",
            &file,
            "--as-stored",
            "--like",
            &keyed.snapshot_gz,
            "--force",
            "-o",
            &out
        ]
    };
    ingest().run()?.ok()?;
    ensure_same(&exported(&out)?, &rows)?;
    // A row without a key has nowhere to go.
    rows[7]
        .as_object_mut()
        .ok_or("no object")?
        .remove("shard_key");
    lines(dir.path(), "keyed.jsonl", &rows)?;
    ingest()
        .run()?
        .code(2)?
        .says(&["have none", "--shard-key"])?;
    Ok(())
}

fn standard_input() -> Outcome {
    let dir = temp_dir()?;
    let rows = [
        json!({"id": 1, "vector": [1.0]}),
        json!({"id": 2, "vector": [2.0]}),
    ];
    let file = lines(dir.path(), "rows.jsonl", &rows)?;
    let out = dir.path().join("out.snapshot");
    // Through a pipe, which is read once.
    let status = std::process::Command::new("sh")
        .arg("-c")
        .arg("cat \"$1\" | \"$2\" ingest - --size 1 --distance Dot -o \"$3\"")
        .args([
            "sh".as_ref(),
            file.as_os_str(),
            env!("CARGO_BIN_EXE_snapmerge").as_ref(),
            out.as_os_str(),
        ])
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "{status}");
    ensure_eq!(exported(&out)?.len(), 2, "points");
    Ok(())
}

fn refuses() -> Outcome {
    let dir = temp_dir()?;
    let file = lines(
        dir.path(),
        "rows.jsonl",
        &[json!({"id": 1, "vector": [1.0]})],
    )?;
    let out = dir.path().join("out.snapshot");
    let before = names_in(dir.path())?;
    let ingest = |args: &[&str]| cli!["ingest", &file, "-o", &out].args(args).run();
    ingest(&[])?
        .code(2)?
        .says(&["none of the files carries one", "--like", "--size"])?;
    ingest(&["--size", "4"])?.code(2)?;
    ingest(&["--size", "0", "--distance", "Dot"])?.code(2)?;
    ingest(&["--size", "1", "--distance", "Near"])?
        .code(2)?
        .says(&["Near"])?;
    ingest(&[
        "--size",
        "1",
        "--distance",
        "Dot",
        "--vector",
        "image=vector",
    ])?
    .code(2)?
    .says(&["no such vector"])?;
    ingest(&["--like", "nothing.snapshot"])?.code(1)?;
    let folder = cli![
        "ingest",
        dir.path(),
        "-o",
        &out,
        "--size",
        "1",
        "--distance",
        "Dot"
    ];
    folder.run()?.code(2)?.says(&["is a folder"])?;
    ensure_eq!(names_in(dir.path())?, before, "what is there");
    Ok(())
}
