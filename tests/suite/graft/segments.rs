//! Masters with as few segments as were asked for: what is in them, what is carried, and what a server makes of
//! them.
//!
//! Keeps true: the points are held to the truths; a segment that is said to be carried has the bytes of its
//! source.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::points::ensure_same;
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial, temp_dir};

use super::live::{change, holds};
use super::whole::copy_of;
use super::{
    Given, ensure_adds_up, export, given, graft, has_note, members, merging, segments, union,
};

const ALBUMS: [&str; 3] = ["album_2017", "album_2018", "album_2019_overlap"];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let trial = |name: &str, run: fn(&Env) -> Outcome| {
        Trial::new(format!("graft/segments/{name}"), move || run(env))
    };
    vec![
        trial("as_few_as_were_asked_for", few),
        trial("the_largest_travels_untouched", largest),
        trial("shards_have_their_own", shards),
        trial("many_small_ones", many),
        trial("what_is_no_number", refused),
        env.live("graft/segments/on_a_server", |bin| on_server(env, bin)),
    ]
}

fn all(sources: &[Given]) -> Vec<&Given> {
    sources.iter().collect()
}

fn count(master: &Path) -> Outcome<usize> {
    Ok(segments(&members(File::open(master)?)?).len())
}

fn few(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    for names in [&ALBUMS[..], &["edited", "log_pending"], &["quant_scalar"]] {
        let mut sources = given(env, dir.path(), names)?;
        sources.push(copy_of(&sources[0], "copy")?);
        let points: Vec<_> = sources.iter().map(|one| &one.points).collect();
        let union = union(&points, "last")?;
        for (wanted, most) in [("1", 2), ("2", 2), ("3", 3), ("auto", 2)] {
            let output = dir.path().join("master.snapshot");
            let args = ["--segments", wanted, "--force"];
            let report = graft(&all(&sources), &output, &args)?;
            let found = count(&output)?;
            ensure!(
                found <= most,
                "{names:?}, --segments {wanted}: {found} segments"
            );
            let done = &report["carried"]["consolidated"];
            ensure_eq!(
                done["segments_after"],
                json!(found),
                "{names:?}: segments after"
            );
            if wanted == "1" && names == ALBUMS {
                let points = union.points.len();
                ensure_eq!(done["merged_points"], json!(points), "{names:?}: {done}");
                ensure_eq!(done["carried_segments"], json!(0), "{names:?}: {done}");
                let compared = report["proof"]["compared"].as_str().unwrap_or_default();
                ensure!(compared.contains("records that they had"), "{compared}");
            }
            ensure_same(&export(&output)?, union.points.values())?;
            ensure_adds_up(&report, &all(&sources), &union)?;
        }
    }
    Ok(())
}

/// Of sources that need nothing the largest with a graph is carried as it is, and config and report say so.
fn largest(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &ALBUMS[..2])?;
    let output = dir.path().join("master.snapshot");
    let report = graft(&all(&sources), &output, &["--segments", "3"])?;
    // Two with graphs, and one for new points.
    ensure_eq!(report["carried"]["untouched_segments"], 3, "untouched");
    ensure_eq!(
        report["carried"]["consolidated"]["merged_segments"],
        0,
        "merged"
    );
    let parts = members(File::open(&output)?)?;
    let ours = segments(&parts);
    let mut theirs = 0;
    for source in &sources {
        let parts = members(File::open(&source.file)?)?;
        for (uuid, tar) in segments(&parts) {
            theirs += 1;
            if let Some(carried) = ours.get(uuid) {
                ensure!(*carried == tar, "segment {uuid} is another");
            }
        }
    }
    ensure!(theirs > ours.len(), "{theirs} segments in the sources");
    ensure!(
        !has_note(&report, &["default_segment_number is 4"]),
        "the number of the sources' segments: {}",
        report["notes"]
    );
    Ok(())
}

fn shards(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    for name in ["three_shards", "shard_keys"] {
        let sources = given(env, dir.path(), &[name])?;
        let output = dir.path().join("master.snapshot");
        let report = graft(&all(&sources), &output, &["--segments", "1", "--force"])?;
        let shards = report["master"]["shards"].as_array().ok_or("no shards")?;
        for shard in shards {
            let segments = shard["segments"].as_u64().unwrap_or(u64::MAX);
            ensure!(segments <= 2, "{name}: {shard}");
        }
        ensure_same(&export(&output)?, sources[0].points.values())?;
    }
    Ok(())
}

/// More segments than are merged at once, of which only one is larger.
fn many(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let whole = given(env, dir.path(), &["album_2017"])?;
    let mut sources = Vec::new();
    for part in 0..75 {
        let file = dir.path().join(format!("part_{part}.snapshot"));
        let ids: Vec<&Value> = (whole[0].points.values())
            .map(|point| &point["id"])
            .skip(part * 4)
            .take(if part == 74 { 600 } else { 4 })
            .collect();
        let filter = json!({"must": [{"has_id": ids}]}).to_string();
        merging([&whole[0].file], &file)
            .args(["--route", "rebuild", "--filter", &filter])
            .run()?
            .ok()?;
        let points = whole[0]
            .points
            .iter()
            .filter(|(_, point)| ids.contains(&&point["id"]));
        sources.push(Given {
            points: points
                .map(|(id, point)| (id.clone(), point.clone()))
                .collect(),
            file,
        });
    }
    let points: Vec<_> = sources.iter().map(|one| &one.points).collect();
    let union = union(&points, "last")?;
    ensure_eq!(union.points.len(), 896, "points of the parts");
    let output = dir.path().join("master.snapshot");
    let args = [
        "--segments",
        "4",
        "--stamp",
        "part",
        "--payload-index",
        "part=keyword",
    ];
    let report = graft(&all(&sources), &output, &args)?;
    ensure!(count(&output)? <= 4, "{} segments", count(&output)?);
    let done = &report["carried"]["consolidated"];
    ensure!(done["merged_segments"].as_u64() > Some(64), "{done}");
    let mut found = export(&output)?;
    let mut parts = BTreeSet::new();
    for point in &mut found {
        let payload = point["payload"].as_object_mut().ok_or("no payload")?;
        let part = payload.remove("part").ok_or("a point without a stamp")?;
        parts.insert(part.as_str().ok_or("a stamp that is no text")?.to_owned());
    }
    ensure_eq!(parts.len(), 75, "stamps");
    ensure_same(&found, union.points.values())?;
    Ok(())
}

fn refused(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &["album_2017"])?;
    let output = dir.path().join("master.snapshot");
    for wrong in ["0", "few", "-1"] {
        let given = format!("--segments={wrong}");
        let run = merging([&sources[0].file], &output)
            .arg(given)
            .run()?
            .code(2)?;
        ensure!(
            run.stderr
                .contains("none of keep, server, auto, and no number above 0"),
            "{}",
            run.stderr
        );
    }
    Ok(())
}

/// A server takes such masters as they are: green, all points, and it indexes nothing.
fn on_server(env: &Env, bin: &Path) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &ALBUMS)?;
    let points: Vec<_> = sources.iter().map(|one| &one.points).collect();
    let mut expected = union(&points, "last")?.points;
    let mut server = Server::start(bin)?;
    for wanted in ["1", "3"] {
        let name = format!("few_{wanted}");
        let master = dir.path().join(format!("{name}.snapshot"));
        graft(&all(&sources), &master, &["--segments", wanted])?;
        server.upload(&name, &master)?;
        server.wait_green(&name, Duration::from_secs(60))?;
        let found = server.get(&format!("/collections/{name}"))?;
        ensure_eq!(
            found["segments_count"],
            json!(count(&master)?),
            "segments of {name}"
        );
        holds(&server, &name, &expected)?;
    }
    change(&server, "few_3", &sources, &mut expected)?;
    server.restart()?;
    server.wait_green("few_3", Duration::from_secs(60))?;
    holds(&server, "few_3", &expected)?;
    server.stop()
}
