//! Several files at once: patterns of names, columns that only some of them have, and what a failure leaves.

use std::path::Path;

use serde_json::{Value, json};

use super::rows::lines;
use crate::export::exported;
use crate::support::points::ensure_same;
use crate::support::{Outcome, Trial, names_in, temp_dir};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("ingest/several/patterns", patterns),
        Trial::new("ingest/several/columns_of_some", columns_of_some),
        Trial::new("ingest/several/columns_of_none", columns_of_none),
        Trial::new("ingest/several/rejects_of_a_failure", rejects_of_a_failure),
    ]
}

const DOT: [&str; 4] = ["--size", "1", "--distance", "Dot"];

fn row(id: u64, mark: &str) -> Value {
    json!({"id": id, "vector": [1.0], "payload": {"mark": mark}})
}

/// Marks of the points of a snapshot, by ascending ids.
fn marks(snapshot: &Path) -> Outcome<Value> {
    let of = |point: &Value| point["payload"]["mark"].clone();
    Ok(exported(snapshot)?.iter().map(of).collect())
}

fn patterns() -> Outcome {
    let dir = temp_dir()?;
    let data = dir.path().join("data");
    std::fs::create_dir(&data)?;
    // The later name wins, whatever came first to the disk.
    lines(&data, "b.jsonl", &[row(1, "b"), row(2, "b")])?;
    lines(&data, "a.jsonl", &[row(1, "a"), row(3, "a")])?;
    lines(&data, ".hidden.jsonl", &[row(9, "hidden")])?;
    lines(&data, "c.txt", &[row(8, "c")])?;
    let out = dir.path().join("out.snapshot");
    let ingest = |pattern: &str| {
        cli!["ingest", pattern, "-o", &out, "--force", "--json"]
            .args(DOT)
            .dir(&data)
            .run()
    };
    let report = ingest("*.jsonl")?.ok()?.json()?;
    ensure_eq!(report["inputs"][0]["file"], "a.jsonl", "the first file");
    ensure_eq!(report["inputs"][1]["file"], "b.jsonl", "the second file");
    ensure_eq!(marks(&out)?, json!(["b", "b", "a"]), "marks");
    let all = data.join("[ab].js?nl").to_string_lossy().into_owned();
    ensure_eq!(ingest(&all)?.ok()?.json()?["points"], 3, "points");
    ingest("*.parquet")?
        .code(2)?
        .says(&["*.parquet", "there is none"])?;
    ingest("[a.jsonl")?.code(2)?.says(&["[a.jsonl"])?;
    // A file that is called so.
    lines(&data, "[ab].jsonl", &[row(7, "called so")])?;
    ingest("[ab].jsonl")?.ok()?;
    ensure_eq!(marks(&out)?, json!(["called so"]), "marks");
    Ok(())
}

/// A config with two vectors, `image` and `text`.
fn config(dir: &Path) -> Outcome<std::path::PathBuf> {
    let file = dir.join("collection.json");
    let vector = json!({"size": 2, "distance": "Dot"});
    std::fs::write(
        &file,
        json!({"vectors": {"image": vector, "text": vector}}).to_string(),
    )?;
    Ok(file)
}

fn columns_of_some() -> Outcome {
    let dir = temp_dir()?;
    let config = config(dir.path())?;
    // A table that has one of the vectors, and lines that have the other.
    let image = json!({"vectors": {"image": {"size": 2, "distance": "Dot"}}});
    let image_alone = dir.path().join("image.json");
    std::fs::write(&image_alone, image.to_string())?;
    let rows = [json!({"id": 1, "image": [1.0, 2.0], "year": 2017})];
    let file = lines(dir.path(), "image.jsonl", &rows)?;
    let snapshot = dir.path().join("image.snapshot");
    cli!["ingest", &file, "--config", &image_alone, "-o", &snapshot]
        .run()?
        .ok()?;
    let table = dir.path().join("image.parquet");
    cli!["export", &snapshot, "--columns", "year", "-o", &table]
        .run()?
        .ok()?;
    let rows = [json!({"id": 2, "words": [3.0, 4.0], "camera": "gr"})];
    let file = lines(dir.path(), "text.jsonl", &rows)?;
    let out = dir.path().join("out.snapshot");
    let ingest = |more: &[&str]| {
        cli![
            "ingest", &table, &file, "--config", &config, "-o", &out, "--force"
        ]
        .args(["--vector", "image=image", "--vector"])
        .args(more)
        .run()
    };
    ingest(&["text=words", "--payload", "year,camera"])?.ok()?;
    let wanted = [
        json!({"id": 1, "payload": {"year": 2017}, "vector": {"image": [1.0, 2.0]}}),
        json!({"id": 2, "payload": {"camera": "gr"}, "vector": {"text": [3.0, 4.0]}}),
    ];
    ensure_same(&exported(&out)?, &wanted)?;
    // What neither has is told when both are read.
    ingest(&["text=words", "--payload", "yaer"])?
        .code(2)?
        .says(&["none has yaer", "--payload"])?;
    ingest(&["text=wrods"])?
        .code(12)?
        .says(&["text.jsonl", "wrods"])?;
    Ok(())
}

fn columns_of_none() -> Outcome {
    let dir = temp_dir()?;
    let config = config(dir.path())?;
    let rows = [
        json!({"id": 1, "image": [1.0, 2.0], "year": 2017}),
        json!({"id": 2, "image": [1.0, 2.0], "txet": [1.0], "yaer": 2018}),
    ];
    let file = lines(dir.path(), "rows.jsonl", &rows)?;
    let (out, bad) = (
        dir.path().join("out.snapshot"),
        dir.path().join("bad.jsonl"),
    );
    let before = names_in(dir.path())?;
    let ingest = |more: &[&str]| {
        let ingest = cli![
            "ingest", &file, "--config", &config, "-o", &out, "--reject", &bad
        ];
        ingest.args(["--vector", "image=image"]).args(more).run()
    };
    // The only row that has them is none.
    ingest(&["--vector", "text=txet"])?
        .code(2)?
        .says(&["none has txet", "--vector"])?;
    let with_text = ["--vector", "text=txet", "--payload", "yaer"];
    ingest(&with_text)?.code(2)?.says(&["none has"])?;
    ingest(&["--payload", "month"])?
        .code(2)?
        .says(&["none has month", "--payload"])?;
    ensure_eq!(names_in(dir.path())?, before, "what is there");
    // A row that is a point has it.
    ingest(&["--payload", "yaer,year"])?.ok()?;
    let payloads: Vec<Value> = exported(&out)?
        .iter()
        .map(|point| point["payload"].clone())
        .collect();
    ensure_eq!(
        payloads,
        [json!({"year": 2017}), json!({"yaer": 2018})],
        "payloads"
    );
    Ok(())
}

/// The file of rows that are no points comes with the snapshots, or not at all.
fn rejects_of_a_failure() -> Outcome {
    let dir = temp_dir()?;
    let rows = [row(1, "a"), json!({"id": 2, "vector": [1.0, 2.0]})];
    let file = lines(dir.path(), "rows.jsonl", &rows)?;
    let (out, bad) = (
        dir.path().join("out.snapshot"),
        dir.path().join("bad.jsonl"),
    );
    // Where the checksum is to be, there is a folder.
    let in_the_way = dir.path().join("out.snapshot.checksum");
    std::fs::create_dir(&in_the_way)?;
    let before = names_in(dir.path())?;
    let ingest = || {
        cli!["ingest", &file, "-o", &out, "--reject", &bad]
            .args(DOT)
            .run()
    };
    ingest()?.code(1)?.says(&["out.snapshot.checksum"])?;
    ensure_eq!(names_in(dir.path())?, before, "what is there");
    std::fs::remove_dir(&in_the_way)?;
    ingest()?.code(3)?;
    ensure!(out.is_file() && bad.is_file(), "both are there");
    Ok(())
}
