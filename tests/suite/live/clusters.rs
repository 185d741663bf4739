//! Masters of several shards in a server: it finds each point where its own routing looks for it, with
//! and without shard keys.

use std::path::Path;

use serde_json::{Value, json};

use super::{GREEN_WITHIN, Restored, ensure_points};
use crate::merge::Sources;
use crate::support::points::{PointId, by_id};
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome};

/// A point in the wrong shard is there, is counted, and comes twice once it is written again: so all of
/// them are written again.
pub fn shards(env: &Env, bin: &Path) -> Outcome {
    let sources = Sources::named(env, &["three_shards"])?;
    let points = by_id(sources.truths[0].clone())?;
    let mut restored = Restored::new(bin, &sources, &["--shards", "5"], points)?;
    let cluster = restored.server.get("/collections/master/cluster")?;
    let shards = cluster["local_shards"].as_array().ok_or("no shards")?;
    ensure_eq!(shards.len(), 5, "shards");
    for shard in shards {
        ensure_eq!(shard["state"], "Active", "state of {shard}");
        ensure!(shard["points_count"].as_u64() > Some(0), "{shard} is empty");
    }
    for point in restored.points.values_mut() {
        point["payload"]["written"] = json!("again");
    }
    let all: Vec<&Value> = restored.points.values().collect();
    let put = "/collections/master/points?wait=true";
    restored.server.put(put, &json!({"points": all}))?;
    restored.ensure_same()?;
    restored.ensure_alive()
}

/// Keys are not restored (qdrant#10135): the collection and its keys are made first, in the order of
/// the shards, and the master has to fit that.
pub fn shard_keys(env: &Env, bin: &Path) -> Outcome {
    let sources = Sources::named(env, &["shard_keys"])?;
    for flags in [vec![], vec!["--shards", "2"]] {
        let master = sources.merge(&flags)?;
        let mut keys = master.packed.keys()?;
        keys.sort_by_key(|(_, shards)| shards[0]);
        let params = &master.packed.config()?["params"];
        let mut server = Server::start_cluster(bin)?;
        server.put(
            "/collections/keyed",
            &json!({"vectors": params["vectors"], "sharding_method": "custom",
                "shard_number": params["shard_number"]}),
        )?;
        for (key, shards) in &keys {
            server.put(
                "/collections/keyed/shards",
                &json!({"shard_key": key, "shards_number": shards.len()}),
            )?;
        }
        server.upload("keyed", &master.path)?;
        server.wait_green("keyed", GREEN_WITHIN)?;
        let mut points = by_id(sources.truths[0].clone())?;
        ensure_points(&server, "keyed", &points)?;
        let cluster = server.get("/collections/keyed/cluster")?;
        for shard in cluster["local_shards"].as_array().into_iter().flatten() {
            let id = shard["shard_id"].as_u64().ok_or("a shard without id")?;
            let named = keys
                .iter()
                .find(|(_, ids)| ids.iter().any(|one| u64::from(*one) == id));
            ensure_eq!(
                named.map(|(key, _)| key),
                shard.get("shard_key"),
                "key of {id}"
            );
        }

        // Each key has its own points alone, and goes on to.
        for (key, _) in &keys {
            let own: Vec<&Value> = points.values().filter(|p| p["shard_key"] == *key).collect();
            let (count, mut point) = (own.len(), own[own.len() / 3].clone());
            let answer = server.post(
                "/collections/keyed/points/count",
                &json!({"exact": true, "shard_key": key}),
            )?;
            ensure_eq!(answer["count"], json!(count), "points of {key}");
            point["payload"] = json!({"written": "again"});
            server.put(
                "/collections/keyed/points?wait=true",
                &json!({"shard_key": key, "points": [
                    {"id": point["id"], "payload": point["payload"], "vector": point["vector"]}]}),
            )?;
            points.insert(PointId::of(&point)?, point);
        }
        ensure_points(&server, "keyed", &points)?;
        server.restart()?;
        server.wait_green("keyed", GREEN_WITHIN)?;
        ensure_points(&server, "keyed", &points)?;
    }
    Ok(())
}
