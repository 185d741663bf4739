//! `verify --queries`: a right master finds what its sources find; one that was made otherwise does not.

use serde_json::Value;

use super::verify;
use crate::merge::{ALBUMS, Sources};
use crate::support::{Env, Outcome, Trial};

/// Questions for each vector.
const QUERIES: &str = "25";

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, cases, flags) in [
        ("graft", &ALBUMS[..], &["--route", "graft"][..]),
        ("rebuild", &ALBUMS, &["--route", "rebuild", "--shards", "2"]),
        ("first", &ALBUMS, &["--on-conflict", "first"]),
        ("newest", &ALBUMS, &["--on-conflict", "newest:score"]),
        ("remap", &ALBUMS, &["--on-conflict", "remap"]),
        (
            "filtered",
            &ALBUMS,
            &[
                "--filter",
                r#"{"must":[{"key":"fav","match":{"value":true}}]}"#,
                "--stamp",
                "camera",
            ],
        ),
        (
            "by_source",
            &ALBUMS,
            &["--layout", "by-source", "--on-conflict", "remap"],
        ),
        ("euclid", &["euclid_on_disk"], &[]),
        ("names", &["named"], &[]),
        ("multi", &["multivector"], &[]),
        ("quantized", &["quant_scalar"], &["--route", "graft"]),
    ] {
        trials.push(Trial::new(format!("verify/answers/{name}"), move || {
            right(&Sources::named(env, cases)?, flags)
        }));
    }
    trials.push(Trial::new("verify/answers/wrong", || wrong(env)));
    trials.push(Trial::new("verify/structure", || structure(env)));
    trials.push(Trial::new("verify/answers/skipped", || skipped(env)));
    trials
}

/// Every exact answer is the sources', and the indexes find most of it.
fn right(sources: &Sources, flags: &[&str]) -> Outcome {
    let master = sources.merge(flags)?;
    let run = verify(&master.path, sources, &["--queries", QUERIES])?.ok()?;
    let answers = run.json()?["answers"].clone();
    let kinds = answers["kinds"].as_array().ok_or("no kinds")?;
    let plain: Vec<&Value> = kinds
        .iter()
        .filter(|kind| kind["filtered_by"].is_null())
        .collect();
    ensure!(!plain.is_empty(), "no vector was searched: {answers}");
    for kind in kinds {
        ensure_eq!(kind["differing"], 0, "{kind}");
        // Without an index on the field a graph leads past most of the few that match.
        if kind["filtered_by"].is_null() {
            let recall = kind["recall_mean"].as_f64().ok_or("no recall")?;
            ensure!(
                recall.total_cmp(&0.8).is_gt(),
                "the indexes find little: {kind}"
            );
        }
        ensure!(kind["queries"].as_u64() > Some(5), "few questions: {kind}");
        let took = kind["exact"]["p50_ms"].as_f64().unwrap_or_default();
        ensure!(took.total_cmp(&0.0).is_gt(), "no time passed: {kind}");
    }
    let filtered: Vec<&Value> = kinds
        .iter()
        .map(|kind| &kind["filtered_by"]["indexed"])
        .collect();
    let cases: Vec<&str> = sources
        .cases
        .iter()
        .map(|case| case.name.as_str())
        .collect();
    if cases == ALBUMS {
        ensure!(
            filtered.contains(&&Value::Bool(true)) && filtered.contains(&&Value::Bool(false)),
            "with filters by a field with and one without an index: {filtered:?}"
        );
    }
    Ok(())
}

/// A master in which other points won gives other answers than its sources would.
fn wrong(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["album_2018", "album_2019_overlap"])?;
    let master = sources.merge(&["--on-conflict", "first"])?;
    let flags = [
        "--no-provenance",
        "--on-conflict",
        "last",
        "--queries",
        "100",
        "--top",
        "20",
    ];
    let run = verify(&master.path, &sources, &flags)?.code(3)?;
    let report = run.json()?;
    ensure_eq!(report["points"]["differing"], 200, "points");
    let kinds = report["answers"]["kinds"].as_array().ok_or("no kinds")?;
    let plain = kinds
        .iter()
        .find(|kind| kind["filtered_by"].is_null())
        .ok_or("none")?;
    ensure!(plain["differing"].as_u64() > Some(30), "{plain}");
    let first = &plain["first"][0];
    ensure!(
        first["missing"]
            .as_array()
            .is_some_and(|ids| !ids.is_empty())
            || first["extra"].as_array().is_some_and(|ids| !ids.is_empty()),
        "{first}"
    );
    let run = cli!["verify", "-q", &master.path]
        .args(flags)
        .arg("--against")
        .args(&sources.files)
        .run()?
        .code(3)?;
    ensure!(
        run.stdout.contains("EXACT ANSWERS DIFFER"),
        "{}",
        run.told()
    );
    Ok(())
}

/// What cannot be compared is named.
fn skipped(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["sparse_dense"])?;
    let master = sources.merge(&[])?;
    let run = verify(&master.path, &sources, &["--queries", QUERIES])?.ok()?;
    let answers = run.json()?["answers"].clone();
    let skipped = answers["skipped"].to_string();
    ensure!(
        skipped.contains("'words'") && skipped.contains("rare"),
        "{skipped}"
    );
    ensure_eq!(
        answers["kinds"].as_array().map(Vec::is_empty),
        Some(false),
        "the dense one"
    );
    Ok(())
}

/// The structure of the sources and of the master is told, and held to a limit.
fn structure(env: &Env) -> Outcome {
    let sources = Sources::named(env, &ALBUMS)?;
    let master = sources.merge(&[])?;
    let run = verify(&master.path, &sources, &["--structure", "300"])?.ok()?;
    let found = run.json()?["answers"]["structure"].clone();
    ensure_eq!(
        found["sources"].as_array().map(Vec::len),
        Some(3),
        "{found}"
    );
    ensure_eq!(found["master"]["points"], 300, "{found}");
    ensure!(found["silhouette_by_source"].is_number(), "{found}");
    // The same points again, the same numbers.
    let again = verify(&master.path, &sources, &["--structure", "300"])?.ok()?;
    ensure_eq!(again.json()?["answers"]["structure"], found, "again");
    let run = cli!["verify", &master.path, "--structure", "100", "--against"]
        .args(&sources.files)
        .run()?
        .ok()?;
    for part in ["structure by HDBSCAN", "album_2019_overlap", "the master"] {
        ensure!(
            run.stdout.contains(part),
            "the text lacks {part:?}\n{}",
            run.told()
        );
    }
    if found["drop"].is_number() {
        // Whatever it is, it is more than this.
        let limit = ["--structure", "300", "--max-drop=-2"];
        let run = verify(&master.path, &sources, &limit)?.code(3)?;
        ensure_eq!(run.json()?["verdict"], "differs", "beyond the limit");
    }
    Ok(())
}
