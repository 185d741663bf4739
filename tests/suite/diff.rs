//! `diff`: what changed from one snapshot to another, held to what a test computes from the truth files
//! on its own.

use serde_json::{Value, json};

use crate::merge::Sources;
use crate::support::points::PointId;
use crate::support::{Env, Outcome, Trial, names_in};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = env.per_case("diff/itself", |case| {
        let dir = crate::support::temp_dir()?;
        let file = case.unpack(dir.path())?;
        let report = cli!["diff", &file, &case.snapshot_gz, "--json"]
            .run()?
            .ok()?
            .json()?;
        ensure_eq!(report["points"]["same"], case.points(), "points");
        ensure_eq!(report["settings"], json!([]), "settings");
        Ok(())
    });
    trials.extend([
        Trial::new("diff/albums", || albums(env)),
        Trial::new("diff/changed", || changed(env)),
        Trial::new("diff/settings", || settings(env)),
        Trial::new("diff/refuses", || refuses(env)),
    ]);
    trials
}

/// Two albums of which some points are in both, all of these with another vector and payload: every
/// change is told, in the ledger, as lines, and as steps of a plan.
fn albums(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["album_2018", "album_2019_overlap"])?;
    let (ledger, plan) = (sources.path("ledger.jsonl"), sources.path("plan.jsonl"));
    let scratch = sources.path("scratch");
    std::fs::create_dir(&scratch)?;
    let run = cli![
        "diff",
        "--json",
        "-q",
        "--scratch",
        &scratch,
        "--ledger",
        &ledger
    ]
    .arg("--sync-plan")
    .arg(&plan)
    .args(&sources.files)
    .run()?
    .code(3)?;
    let report = run.json()?;
    let points = &report["points"];
    let counts = ["before", "after", "same", "added", "removed", "changed"].map(|key| &points[key]);
    ensure_eq!(counts, [1000, 1000, 0, 800, 800, 200], "{points}");
    ensure_eq!(points["changed_vectors"], json!({"": 200}), "vectors");
    ensure_eq!(names_in(&scratch)?, Vec::<String>::new(), "left in scratch");

    let want = expected(&sources)?;
    let lines = |text: &str| -> Outcome<Vec<Value>> {
        text.lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    };
    let told = lines(&std::fs::read_to_string(&ledger)?)?;
    ensure_eq!(told, want, "the ledger");
    let mut counted = std::collections::BTreeMap::new();
    for line in &want {
        for key in line["payload"].as_array().into_iter().flatten() {
            *counted.entry(key.as_str().unwrap_or_default()).or_insert(0) += 1;
        }
    }
    ensure_eq!(points["changed_payload"], json!(counted), "payload keys");

    let run = cli!["diff", "--jsonl", "-q"]
        .args(&sources.files)
        .run()?
        .code(3)?;
    ensure_eq!(run.json_lines()?, want, "as lines");

    let steps = lines(&std::fs::read_to_string(&plan)?)?;
    let acts: Vec<(Value, Value)> = want
        .iter()
        .map(|line| {
            let act = if line["change"] == "removed" {
                "delete"
            } else {
                "upsert"
            };
            (line["id"].clone(), json!(act))
        })
        .collect();
    let planned: Vec<(Value, Value)> = steps
        .iter()
        .map(|step| (step["id"].clone(), step["do"].clone()))
        .collect();
    ensure_eq!(planned, acts, "the plan");

    let run = cli!["diff", "-q"].args(&sources.files).run()?.code(3)?;
    for part in [
        "800 added",
        "800 removed",
        "200 changed",
        "- 1000",
        "and 1780 more",
    ] {
        ensure!(
            run.stdout.contains(part),
            "the text lacks {part:?}\n{}",
            run.told()
        );
    }
    Ok(())
}

/// The changes between the truths of two sources.
fn expected(sources: &Sources) -> Outcome<Vec<Value>> {
    let before = sources.cases[0].truth_by_id()?;
    let after = sources.cases[1].truth_by_id()?;
    let ids: std::collections::BTreeSet<&PointId> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for id in ids {
        match (before.get(id), after.get(id)) {
            (Some(old), Some(new)) => {
                let mut line = json!({"id": old["id"], "change": "changed"});
                if old["vector"] != new["vector"] {
                    line["vectors"] = json!([""]);
                }
                let (old, new) = (&old["payload"], &new["payload"]);
                let keys = |payload: &Value| -> Vec<String> {
                    payload
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|(key, _)| key.clone())
                        .collect()
                };
                let keys: std::collections::BTreeSet<String> =
                    keys(old).into_iter().chain(keys(new)).collect();
                let differing: Vec<String> = keys
                    .into_iter()
                    .filter(|key| old.get(key) != new.get(key))
                    .collect();
                if !differing.is_empty() {
                    line["payload"] = json!(differing);
                }
                changes.push(line);
            }
            (Some(old), None) => changes.push(json!({"id": old["id"], "change": "removed"})),
            (None, Some(new)) => changes.push(json!({"id": new["id"], "change": "added"})),
            (None, None) => {}
        }
    }
    Ok(changes)
}

/// A declared change of every point is seen as that, and nothing else.
fn changed(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["three_shards"])?;
    let flags = [
        "--route",
        "rebuild",
        "--stamp",
        "from",
        "--drop-payload",
        "neg",
    ];
    let master = sources.merge(&flags)?;
    let run = cli!["diff", "--json", "-q", &sources.files[0], &master.path]
        .run()?
        .code(3)?;
    let points = run.json()?["points"].clone();
    ensure_eq!(points["changed"], 1500, "all of them");
    ensure_eq!(points["changed_vectors"], json!({}), "vectors");
    ensure_eq!(points["changed_payload"]["from"], 1500, "the stamp");
    let had: usize = sources.truths[0]
        .iter()
        .filter(|point| point["payload"].get("neg").is_some())
        .count();
    ensure_eq!(points["changed_payload"]["neg"], had, "what was dropped");
    ensure_eq!(
        points["changed_payload"].as_object().map(|keys| keys.len()),
        Some(2),
        "keys"
    );
    // By another number of shards alone, nothing changes but the config.
    let master = sources.merge(&["--route", "rebuild", "--shards", "2"])?;
    let run = cli!["diff", "--json", "-q", &sources.files[0], &master.path]
        .run()?
        .code(3)?;
    let report = run.json()?;
    ensure_eq!(report["points"]["same"], 1500, "points");
    ensure_eq!(
        report["settings"][0]["about"],
        "shard_number",
        "{}",
        report["settings"]
    );
    Ok(())
}

fn settings(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["album_2018"])?;
    let master = sources.merge(&["--hnsw-m", "8"])?;
    let run = cli!["diff", "--json", "-q", &sources.files[0], &master.path]
        .run()?
        .code(3)?;
    let report = run.json()?;
    ensure_eq!(report["points"]["same"], 1000, "points");
    let told = &report["settings"];
    ensure_eq!(
        *told,
        json!([{"about": "hnsw_config.m", "expected": "16", "found": "8"}]),
        "settings"
    );
    Ok(())
}

fn refuses(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["plain_dot"])?;
    let file = &sources.files[0];
    let before = names_in(sources.dir())?;
    cli!["diff", file, sources.path("nobody.snapshot")]
        .run()?
        .code(1)?
        .says(&["nobody.snapshot"])?;
    let ledger = sources.path("plain_dot.snapshot");
    cli!["diff", file, file, "--ledger", &ledger]
        .run()?
        .code(2)?
        .says(&["exists already"])?;
    let both = sources.path("both");
    cli!["diff", file, file, "--ledger", &both, "--sync-plan", &both]
        .run()?
        .code(2)?
        .says(&["the same file"])?;
    ensure_eq!(names_in(sources.dir())?, before, "files afterwards");
    Ok(())
}
