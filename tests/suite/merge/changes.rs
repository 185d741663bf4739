//! The changes to points that a user asks for: `--filter`, `--stamp`, `--drop-payload`; exactly those,
//! and counted.

use serde_json::{Value, json};

use super::policies::expected;
use super::{ALBUMS, Sources};
use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("merge/changes/filter", || filter(env)),
        Trial::new("merge/changes/stamp", || stamp(env)),
        Trial::new("merge/changes/stamp_value_and_drop", || {
            stamp_value_and_drop(env)
        }),
        Trial::new("merge/changes/nested", || nested(env)),
        Trial::new("merge/changes/all_filtered", || all_filtered(env)),
    ]
}

/// What is filtered out takes no part in a conflict.
fn filter(env: &Env) -> Outcome {
    let sources = Sources::named(env, &ALBUMS)?;
    let filter = json!({"must": [{"key": "score", "range": {"gte": 400_000.0}}]}).to_string();
    let passes = |point: &&Value| point["payload"]["score"].as_f64() >= Some(400_000.0);
    let kept: Vec<Vec<Value>> = sources
        .truths
        .iter()
        .map(|truth| truth.iter().filter(passes).cloned().collect())
        .collect();
    let want = expected(&ALBUMS, &kept, "last")?;
    let conflicts = want.conflicts.len();
    ensure!(
        (1..200).contains(&conflicts) && want.lost[1] > 0,
        "{conflicts} conflicts are left: the filter takes no part in them"
    );

    let master = sources.merge(&["--filter", &filter])?;
    master.ensure_holds(want.points.values())?;
    ensure_eq!(
        master.report["conflicts"]["count"],
        json!(conflicts),
        "conflicts"
    );
    for (nth, kept) in kept.iter().enumerate() {
        let source = &master.report["sources"][nth];
        let passed = kept.len() as u64;
        let want = [1000, passed - want.lost[nth], want.lost[nth], 1000 - passed];
        let got = ["read", "won", "lost", "filtered"].map(|key| source[key].as_u64());
        ensure_eq!(got, want.map(Some), "read, won, lost, filtered of {nth}");
    }
    Ok(())
}

fn stamp(env: &Env) -> Outcome {
    let sources = Sources::named(env, &ALBUMS)?;
    let stamped: Vec<Vec<Value>> = ALBUMS
        .iter()
        .zip(&sources.truths)
        .map(|(name, truth)| {
            let mut truth = truth.clone();
            for point in &mut truth {
                point["payload"]["source"] = json!(name);
            }
            truth
        })
        .collect();
    // The winner is stamped with its own source, under any policy.
    for policy in ["newest:taken", "remap"] {
        let want = expected(&ALBUMS, &stamped, policy)?;
        let master = sources.merge(&["--stamp", "source", "--on-conflict", policy])?;
        master.ensure_holds(want.points.values())?;
        let notes = master.report["notes"].to_string();
        ensure!(!notes.contains("replaced"), "nothing was replaced: {notes}");
        ensure!(notes.contains("'source' has no payload index"), "{notes}");
    }
    // And can be asked for, as the guide's option A has it.
    let only = json!({"must": [{"key": "source", "match": {"value": "album_2017"}}]}).to_string();
    let master = sources.path("master.snapshot");
    let run = cli!["export", &master, "--no-vectors", "--filter", only]
        .run()?
        .ok()?;
    ensure_eq!(run.stdout.lines().count(), 1000, "points of album_2017");
    Ok(())
}

fn stamp_value_and_drop(env: &Env) -> Outcome {
    let sources = Sources::named(env, &ALBUMS)?;
    // A number, a text that is no JSON, and one that has none; over a field that most points have.
    let values = [json!(2017), json!("the year 2018"), json!(ALBUMS[2])];
    let mut replaced = 0;
    let changed: Vec<Vec<Value>> = values
        .iter()
        .zip(&sources.truths)
        .map(|(value, truth)| {
            let mut truth = truth.clone();
            for point in &mut truth {
                let payload = point["payload"].as_object_mut().expect("a payload");
                // Not `f` within `exif`, not `nowhere`: keys of the top.
                for key in ["exif", "tags", "f", "nowhere"] {
                    payload.remove(key);
                }
                payload.insert("year".to_owned(), value.clone());
            }
            truth
        })
        .collect();
    let want = expected(&ALBUMS, &changed, "first")?;
    for (id, point) in &want.points {
        let of = |truth: &Vec<Value>| truth.iter().find(|p| p["id"] == point["id"]).cloned();
        // Under `first` the first that has it is the one that was stamped.
        let before = sources.truths.iter().find_map(of);
        let before = before.ok_or_else(|| format!("{id} is nowhere"))?;
        let had = before["payload"].get("year");
        replaced += u64::from(had.is_some_and(|year| *year != point["payload"]["year"]));
    }
    ensure!(replaced > 1000, "{replaced} replaced: too few to tell");

    let master = sources.merge(&[
        "--stamp",
        "year",
        "--stamp-value",
        "album_2017=2017",
        "--stamp-value",
        "album_2018=the year 2018",
        "--drop-payload",
        "exif",
        "--drop-payload",
        "tags",
        "--drop-payload",
        "f",
        "--drop-payload",
        "nowhere",
        "--on-conflict",
        "first",
    ])?;
    master.ensure_holds(want.points.values())?;
    let notes = master.report["notes"].to_string();
    ensure!(
        notes.contains("--drop-payload nowhere left nothing out"),
        "a key that nowhere is: {notes}"
    );
    ensure!(
        notes.contains(&format!("{replaced} points")),
        "{replaced} values were replaced, and the notes say {notes}"
    );
    Ok(())
}

/// Fields within fields are written and left out as Qdrant's filters and `set_payload` mean them.
fn nested(env: &Env) -> Outcome {
    let sources = Sources::named(env, &ALBUMS[..1])?;
    let mut had = [0, 0];
    let mut want = sources.truths[0].clone();
    for point in &mut want {
        let payload = point["payload"].as_object_mut().ok_or("no payload")?;
        if let Some(exif) = payload.get_mut("exif").and_then(Value::as_object_mut) {
            had[0] += u64::from(exif.remove("iso").is_some());
        }
        // What is there is no object, and becomes one.
        had[1] += u64::from(payload.contains_key("year"));
        payload.insert("year".into(), json!({"by": {"source": 2017}}));
    }
    ensure!(had.iter().all(|had| *had > 100), "{had:?}: too few to tell");
    let flags = [
        "--stamp",
        "year.by.source",
        "--stamp-value",
        "album_2017=2017",
        "--drop-payload",
        "exif.iso",
        "--drop-payload",
        "exif.nowhere",
    ];
    let master = sources.merge(&flags)?;
    master.ensure_holds(&want)?;
    let notes = master.report["notes"].to_string();
    for told in [
        format!("in {} points", had[1]),
        "--drop-payload exif.nowhere left nothing out".into(),
    ] {
        ensure!(notes.contains(&told), "{told} is not in {notes}");
    }
    let only = json!({"must": [{"key": "year.by.source", "match": {"value": 2017}}]});
    let run = cli![
        "export",
        &master.path,
        "--no-vectors",
        "--filter",
        only.to_string()
    ]
    .run()?
    .ok()?;
    ensure_eq!(run.stdout.lines().count(), 1000, "points of that source");
    let proof = cli!["verify", &master.path, "--against", &sources.files[0]];
    let told = proof.run()?.ok()?.stdout;
    ensure!(told.contains("PROVEN"), "{told}");
    Ok(())
}

fn all_filtered(env: &Env) -> Outcome {
    let sources = Sources::named(env, &ALBUMS[..1])?;
    let nobody = json!({"must": [{"key": "year", "match": {"value": 1999}}]}).to_string();
    let master = sources.merge(&["--filter", &nobody])?;
    master.ensure_holds([])?;
    let source = &master.report["sources"][0];
    ensure_eq!(source["filtered"], json!(1000), "filtered");
    Ok(())
}
