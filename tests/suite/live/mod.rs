//! Masters in a real server: restored, green without indexing anew, point for point what was merged;
//! and alive: what is written after the restore takes effect, survives a crash and a restart.

mod clusters;
mod restored;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::merge::policies::expected;
use crate::merge::vectors::DISJOINT;
use crate::merge::{ALBUMS, Sources};
use crate::support::cases::Case;
use crate::support::points::{PointId, by_id};
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial};
use restored::Restored;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = Vec::new();
    for case in env.sets[0].cases.as_ref().into_iter().flatten() {
        // With shard keys a restore wants more: see `clusters`.
        if case.name == "shard_keys" {
            continue;
        }
        for route in ["rebuild", "graft"] {
            let name = format!("live/{route}/{}", case.name);
            trials.push(env.live(name, move |bin| one(bin, case, route)));
        }
    }
    for set in &env.sets {
        for route in ["rebuild", "graft"] {
            let name = format!("live/albums/{route}/{}", set.version);
            trials.push(match &set.cases {
                Err(why) => Trial::ignored(name, why),
                Ok(cases) => env.live(name, move |bin| {
                    let named = cases.iter().filter(|c| ALBUMS.contains(&c.name.as_str()));
                    let sources = Sources::of(named.cloned().collect())?;
                    ensure_eq!(sources.cases.len(), 3, "albums");
                    albums(
                        &mut restore(bin, &sources, &["--route", route], "last")?,
                        route,
                    )
                }),
            });
        }
    }
    trials.extend([
        env.live("live/vectors_of_some_sources", |bin| {
            let sources = Sources::named(env, &DISJOINT)?;
            restore(bin, &sources, &[], "remap")?.ensure_alive()
        }),
        env.live("live/named_beside_unnamed", |bin| {
            let sources = Sources::named(env, &["named", "album_2017"])?;
            restore(bin, &sources, &[], "newest:score")?.ensure_alive()
        }),
        env.live("live/flags", |bin| flags(env, bin)),
        env.live("live/shards", |bin| clusters::shards(env, bin)),
        env.live("live/shard_keys", |bin| clusters::shard_keys(env, bin)),
    ]);
    trials
}

/// A case merged alone is to a server what it was.
fn one(bin: &std::path::Path, case: &Case, route: &str) -> Outcome {
    let sources = Sources::of(vec![case.clone()])?;
    let points = by_id(sources.truths[0].clone())?;
    let mut restored = Restored::new(bin, &sources, &["--route", route], points)?;
    let schema = &restored.info["payload_schema"];
    ensure_eq!(*schema, case.info["payload_schema"], "payload schema");
    let indexed = restored.info["indexed_vectors_count"].as_u64();
    let was_indexed = case.info["indexed"].as_u64() > Some(0);
    ensure_eq!(
        indexed > Some(0),
        was_indexed,
        "{indexed:?} vectors indexed"
    );
    match case.points() {
        0 => Ok(()),
        _ => restored.ensure_alive(),
    }
}

/// Merges, restores, and compares with what the policy gives.
fn restore(
    bin: &std::path::Path,
    sources: &Sources,
    flags: &[&str],
    policy: &str,
) -> Outcome<Restored> {
    let names: Vec<&str> = sources
        .cases
        .iter()
        .map(|case| case.name.as_str())
        .collect();
    let want = expected(&names, &sources.truths, policy)?;
    let flags = [flags, &["--on-conflict", policy]].concat();
    Restored::new(bin, sources, &flags, want.points)
}

fn albums(restored: &mut Restored, route: &str) -> Outcome {
    // The union of the payload indexes, over the points of all.
    let with = |field: &str| {
        let there = |point: &&Value| !point["payload"][field].is_null();
        restored.points.values().filter(there).count()
    };
    ensure_eq!(
        restored.info["payload_schema"],
        json!({
            "camera": {"data_type": "keyword", "points": with("camera")},
            "score": {"data_type": "float", "points": with("score")},
            "taken": {"data_type": "datetime", "points": with("taken")},
            "year": {"data_type": "integer", "points": with("year")},
        }),
        "payload schema"
    );
    // A grafted graph holds the losers too, deleted.
    let indexed = match route {
        "rebuild" => 2800,
        _ => 3000,
    };
    ensure_eq!(
        restored.info["indexed_vectors_count"],
        json!(indexed),
        "vectors indexed"
    );
    // Found in the graph alone: a segment without one is not searched.
    for id in (0..2800).step_by(140) {
        let point = &restored.points[&PointId::Num(id)];
        let query = json!({"query": point["vector"], "limit": 1, "params": {"indexed_only": true}});
        let answer = restored.post("points/query", &query)?;
        ensure_eq!(
            answer["points"][0]["id"],
            json!(id),
            "nearest to its own vector"
        );
    }
    let filter = json!({"must": [{"key": "year", "match": {"value": 2019}}]});
    let of_2019 = restored
        .points
        .values()
        .filter(|p| p["payload"]["year"] == 2019)
        .count();
    let answer = restored.post("points/count", &json!({"exact": true, "filter": filter}))?;
    ensure!(of_2019 > 0, "no point is of 2019");
    ensure_eq!(answer["count"], json!(of_2019), "points of 2019");
    restored.ensure_alive()
}

/// Segments built by flags are what the server would build by them: it has nothing to do anew.
fn flags(env: &Env, bin: &std::path::Path) -> Outcome {
    let sources = Sources::named(env, &["album_2018"])?;
    for flags in [
        "--hnsw-m 8 --hnsw-ef-construct 64 --on-disk-vectors true --on-disk-payload false --quantization scalar:0.9",
        "--quantization product:x16 --memmap-threshold 1",
        "--indexing-threshold 0 --memmap-threshold 1",
        "--quantization binary --indexing-threshold 100000",
        "--hnsw-m 0 --on-disk-payload true",
    ] {
        let points = by_id(sources.truths[0].clone())?;
        let flags: Vec<&str> = flags.split(' ').collect();
        Restored::new(bin, &sources, &flags, points)
            .map_err(|e| format!("{flags:?}: {}", e.message().unwrap_or("?")))?;
    }
    Ok(())
}

/// Long enough for a busy machine to load what is there, too short to index it.
const GREEN_WITHIN: Duration = Duration::from_secs(10);

/// Fails unless the collection is exactly these points, by count and by scroll.
fn ensure_points(server: &Server, name: &str, want: &BTreeMap<PointId, Value>) -> Outcome {
    ensure_eq!(server.count(name)?, want.len() as u64, "exact count");
    crate::support::points::ensure_same(&server.scroll(name)?, want.values())?;
    Ok(())
}
