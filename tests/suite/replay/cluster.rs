//! Live collections of a cluster of three, asked through one member: each point comes once, whichever
//! members hold it, and however many of its replicas there are.

use std::path::Path;

use serde_json::{Value, json};

use super::{Place, points_of};
use crate::server::cluster::agree;
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial};

/// Members.
const MEMBERS: usize = 3;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![env.live("replay/cluster/three_members", |bin| three(env, bin))]
}

fn three(env: &Env, bin: &Path) -> Outcome {
    let place = Place::cluster(bin)?;
    let first = &place.server;
    let mut others = [first.join()?, first.join()?];
    agree(&[first, &others[0], &others[1]], None)?;
    let case = env.case("album_2017");
    let want = points_of(&case)?;
    let body = json!({
        "vectors": {"size": 16, "distance": "Cosine"}, "shard_number": 3, "replication_factor": 2,
    });
    first.put("/collections/spread?timeout=60", &body)?;
    agree(&[first, &others[0], &others[1]], Some("spread"))?;
    let points: Vec<Value> = want.values().cloned().collect();
    for some in points.chunks(200) {
        let put = json!({"points": some});
        first.put("/collections/spread/points?wait=true&ordering=strong", &put)?;
    }
    let points = first.scroll("spread")?;
    ensure_eq!(points.len(), want.len(), "points");
    // No member has all of it: what one is asked for comes from others too.
    for member in [first, &others[0], &others[1]] {
        let shards = member.get("/collections/spread/cluster")?;
        let local = shards["local_shards"].as_array().map_or(0, Vec::len);
        ensure!(local < MEMBERS, "one member has {local} of 3 shards");
    }

    let source = place.at("spread");
    let report = place.merging(&[&source], "master").run()?.ok()?.json()?;
    ensure_eq!(report["sources"][0]["read"], json!(want.len()), "read");
    ensure_eq!(report["notes"], json!([]), "notes");
    place.ensure_holds("master", &points)?;
    // The master has the source's shards and replicas, and each member all of its points.
    agree(&[first, &others[0], &others[1]], Some("master"))?;
    let info = first.get("/collections/master")?;
    ensure_eq!(
        info["config"]["params"]["replication_factor"],
        json!(2),
        "replicas"
    );
    ensure_eq!(info["config"]["params"]["shard_number"], json!(3), "shards");
    for member in &others {
        ensure_same(&member.scroll("master")?, &points)?;
    }
    let synced = place.merging(&[&source], "master").arg("--sync");
    let report = synced.run()?.ok()?.json()?;
    ensure_eq!(super::live(&report)["written"], json!(0), "written again");

    // With a member gone, the other replicas have everything still.
    others[1].stop()?;
    let output = place.path("master.snapshot");
    let grpc = first.grpc_url();
    let port = grpc.rsplit(':').next().unwrap_or_default();
    let report = cli![
        "merge",
        "--json",
        "-o",
        &output,
        &source,
        "--grpc-port",
        port
    ]
    .run()?
    .ok()?
    .json()?;
    ensure_eq!(report["sources"][0]["read"], json!(want.len()), "read");
    ensure_same(&crate::export::exported(&output)?, &points)?;
    Ok(())
}
