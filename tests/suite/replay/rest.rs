//! Collections whose config lets no optimizer run: `max_optimization_threads` is 0, and what is not
//! indexed stays yellow for ever.

use std::path::Path;

use serde_json::{Value, json};

use super::{Place, live};
use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![env.live("replay/rest", rests)]
}

const POINTS: u32 = 1000;

/// A master with such a config is indexed first and rests then; on one that rests already nothing is
/// waited for.
fn rests(bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let server = &place.server;
    let make = |name: &str| {
        let config = json!({
            "vectors": {"size": 16, "distance": "Dot"},
            "optimizers_config": {"indexing_threshold": 10, "max_optimization_threads": 0},
        });
        server.put(&format!("/collections/{name}"), &config)
    };
    make("still")?;
    let point = |id: u32| {
        let vector: Vec<u32> = (0..16).map(|at| (id * 31 + at * 17) % 97).collect();
        json!({"id": id, "vector": vector, "payload": {"n": id}})
    };
    let points: Vec<Value> = (0..POINTS).map(point).collect();
    let write = "/collections/still/points?wait=true";
    server.put(write, &json!({"points": points}))?;
    let truth = server.scroll("still")?;
    let status = |name: &str| -> Outcome<Value> {
        Ok(server.get(&format!("/collections/{name}"))?["status"].clone())
    };
    ensure_eq!(status("still")?, "yellow", "the source");

    let given = [place.at("still")];
    let report = place.merging(&given, "master").run()?.ok()?.json()?;
    ensure_eq!(live(&report)["status"], "green", "as it was told");
    ensure_eq!(live(&report)["indexed_vectors"], json!(POINTS), "indexed");
    ensure_eq!(status("master")?, "green", "the master");
    ensure_eq!(
        place.ensure_holds("master", &truth)?,
        POINTS as usize,
        "points"
    );
    let info = server.get("/collections/master")?;
    let threads = info.pointer("/config/optimizer_config/max_optimization_threads");
    ensure_eq!(threads, Some(&json!(0)), "the config that was planned");
    let threshold = info.pointer("/config/optimizer_config/indexing_threshold");
    ensure_eq!(threshold, Some(&json!(10)), "the config that was planned");

    // A target with a config of its own is left as it is.
    make("own")?;
    let run = place.merging(&given, "own").arg("--sync").run()?.code(3)?;
    let told = run.json()?["differences"].to_string();
    ensure!(told.contains("max_optimization_threads is 0"), "{told}");
    ensure_eq!(status("own")?, "yellow", "the target");
    place.ensure_holds("own", &truth)?;
    Ok(())
}
