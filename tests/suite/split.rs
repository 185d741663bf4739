//! `split`: the parts are what the truth says, together they are the source, and what cannot be split is refused
//! before anything is written.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::export::exported;
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("split/years", || years(env)),
        Trial::new("split/shard_keys", || shard_keys(env)),
        Trial::new("split/merged_again", || merged_again(env)),
        Trial::new("split/compressed", || compressed(env)),
        Trial::new("split/refuses", || refuses(env)),
        Trial::new("split/kill", || crate::ingest::kill::killed_split(env)),
    ]
}

/// The truth by the text of the value at `pointer`; "none" for what has none.
pub fn by_value(truth: &[Value], pointer: &str) -> BTreeMap<String, Vec<Value>> {
    let mut parts: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for point in truth {
        let value = match point["payload"].pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            _ => "none".into(),
        };
        parts.entry(value).or_default().push(point.clone());
    }
    parts
}

fn years(env: &Env) -> Outcome {
    for (name, field, pointer) in [
        ("album_2017", "year", "/year"),
        ("three_shards", "camera", "/camera"),
        ("edited", "fav", "/fav"),
        ("multivector", "year", "/year"),
        ("sparse_dense", "year", "/year"),
        ("uuid_ids", "year", "/year"),
    ] {
        let dir = temp_dir()?;
        let case = env.case(name);
        let source = case.unpack(dir.path())?;
        let out = dir.path().join("out");
        std::fs::create_dir(&out)?;
        let pattern = out.join(format!("part_{{{field}}}.snapshot"));
        let run = cli![
            "split", &source, "--by", field, "--rest", "none", "--json", "-o", &pattern
        ]
        .run()?
        .ok()?;
        let report = run.json()?;
        let parts = by_value(&case.truth()?, pointer);
        ensure!(parts.len() > 1, "{name}: nothing to split");
        ensure_eq!(
            report["parts"].as_array().map(Vec::len),
            Some(parts.len()),
            "{name}: parts"
        );
        ensure_eq!(
            report["points"].as_u64(),
            Some(case.points() as u64),
            "{name}: points"
        );
        for (value, points) in &parts {
            let file = out.join(format!("part_{value}.snapshot"));
            ensure_same(&exported(&file)?, points)?;
            // With the config and the indexes of the source; a server would find nothing to do.
            let inspected = cli!["inspect", &file, "--json"].run()?.ok()?.json()?;
            let whole = cli!["inspect", &source, "--json"].run()?.ok()?.json()?;
            for key in ["vectors", "payload_schema"] {
                ensure_eq!(
                    inspected["snapshots"][0][key],
                    whole["snapshots"][0][key],
                    "{name}: {key}"
                );
            }
        }
        let names = names_in(&out)?;
        ensure_eq!(names.len(), 2 * parts.len(), "{name}: files: {names:?}");
        // The digest is that of verify.
        let mut verify = cli![
            "verify",
            &source,
            "--no-provenance",
            "--deep",
            "--json",
            "--against"
        ];
        for value in parts.keys() {
            verify = verify.arg(out.join(format!("part_{value}.snapshot")));
        }
        let proven = verify.run()?.ok()?.json()?;
        let digest = &proven["verified"]["points"]["digest"];
        ensure!(
            proven
                .to_string()
                .contains(report["digest"].as_str().ok_or("no digest")?),
            "{name}: {digest} is not the split's"
        );
    }
    Ok(())
}

/// Points stay under their keys, and each part has all of them.
fn shard_keys(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let case = env.case("shard_keys");
    let source = case.unpack(dir.path())?;
    let pattern = dir.path().join("part_{year}.snapshot");
    cli![
        "split", &source, "--by", "year", "--rest", "none", "-o", &pattern
    ]
    .run()?
    .ok()?;
    for (value, points) in by_value(&case.truth()?, "/year") {
        let part = dir.path().join(format!("part_{value}.snapshot"));
        ensure_same(&exported(&part)?, &points)?;
    }
    Ok(())
}

/// `merge` is the inverse.
fn merged_again(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let case = env.case("named");
    let source = case.unpack(dir.path())?;
    let pattern = dir.path().join("{year}.snapshot");
    cli![
        "split", &source, "--by", "year", "--rest", "none", "-o", &pattern
    ]
    .run()?
    .ok()?;
    let mut merge = cli!["merge"];
    for value in by_value(&case.truth()?, "/year").keys() {
        merge = merge.arg(dir.path().join(format!("{value}.snapshot")));
    }
    let again = dir.path().join("again.snapshot");
    merge
        .arg("-o")
        .arg(&again)
        .args(["--on-conflict", "fail"])
        .run()?
        .ok()?;
    ensure_same(&exported(&again)?, &case.truth()?)?;
    crate::ingest::is_proven(&again, &source)
}

fn compressed(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let case = env.case("album_2018");
    let pattern = dir.path().join("a b_{camera}.snapshot.gz");
    cli![
        "split",
        &case.snapshot_gz,
        "--by",
        "camera",
        "--rest",
        "none",
        "-o",
        &pattern
    ]
    .run()?
    .ok()?;
    for (value, points) in by_value(&case.truth()?, "/camera") {
        let part = dir.path().join(format!("a b_{value}.snapshot.gz"));
        ensure_same(&exported(&part)?, &points)?;
        let run = cli!["inspect", &part].run()?.ok()?;
        run.prints(&["SHA-256 verified"])?;
    }
    Ok(())
}

fn refuses(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let case = env.case("album_2017");
    let source = case.unpack(dir.path())?;
    let before = names_in(dir.path())?;
    let split = |by: &str, pattern: &str, more: &[&str]| {
        cli!["split", &source, "--by", by, "-o", dir.path().join(pattern)]
            .args(more)
            .run()
    };
    split("year", "{year}.snapshot", &[])?
        .code(12)?
        .says(&["have no word", "--rest other"])?;
    split("year", "{camera}.snapshot", &[])?
        .code(2)?
        .says(&["{year}", "--by"])?;
    split("year", "part.snapshot", &[])?
        .code(2)?
        .says(&["{year}"])?;
    split("year", "{year}/x.snapshot", &[])?
        .code(2)?
        .says(&["folder"])?;
    split("tags[0]", "{tags[0]}.snapshot", &[])?
        .code(2)?
        .says(&["place in a list"])?;
    split(
        "path",
        "{path}.snapshot",
        &["--rest", "x", "--max-parts", "5"],
    )?
    .code(12)?
    .says(&["more than 5 values", "--max-parts"])?;
    ensure_eq!(names_in(dir.path())?, before, "what is there");
    // One of the outputs is there already, and is not touched.
    std::fs::write(dir.path().join("p_2016.snapshot"), "mine")?;
    split("year", "p_{year}.snapshot", &["--rest", "x"])?
        .code(2)?
        .says(&["p_2016.snapshot"])?;
    ensure_eq!(
        std::fs::read(dir.path().join("p_2016.snapshot"))?,
        b"mine",
        "the file"
    );
    ensure_eq!(names_in(dir.path())?.len(), before.len() + 1, "files");
    split("year", "p_{year}.snapshot", &["--rest", "x", "--force"])?.ok()?;
    // The source would be one of the parts.
    std::fs::rename(&source, dir.path().join("q_2016.snapshot"))?;
    let source = dir.path().join("q_2016.snapshot");
    let pattern = dir.path().join("q_{year}.snapshot");
    cli![
        "split", &source, "--by", "year", "--rest", "x", "--force", "-o", &pattern
    ]
    .run()?
    .code(2)?
    .says(&["it is read"])?;
    Ok(())
}
