//! Payloads that gRPC cannot hold: whole numbers beyond 2^63 and deep nesting, there and back.

use std::path::Path;

use serde_json::{Value, json};

use super::{Place, live};
use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![env.live("replay/payloads", exact)]
}

fn exact(bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    place.server.put(
        "/collections/odd",
        &json!({"vectors": {"size": 2, "distance": "Dot"}}),
    )?;
    let deep = |levels: usize| (0..levels).fold(json!(0.5), |inner, _| json!({"in": [inner]}));
    let payloads = [
        json!({"big": u64::MAX, "edge": 9_223_372_036_854_775_808_u64}),
        json!({"big": i64::MAX, "low": i64::MIN, "whole": 9_007_199_254_740_993_i64}),
        json!({"float": 1e19, "whole": 10_000_000_000_000_000_000_u64, "list": [1e19, u64::MAX, 1.0, 1]}),
        json!({"deep": deep(40)}),
        json!({"deep": deep(12), "null": null, "empty": {}, "none": [], "flag": true}),
        json!({"": "no name", "a.b": {"c": "é\u{0}\"🦀"}, "float": 1.0, "int": 1}),
        json!({}),
    ];
    let points: Vec<Value> = payloads
        .iter()
        .cycle()
        .take(300)
        .enumerate()
        .map(|(id, payload)| json!({"id": id, "vector": [id, 0.5], "payload": payload}))
        .collect();
    place.server.put(
        "/collections/odd/points?wait=true",
        &json!({"points": points}),
    )?;
    let want = place.server.scroll("odd")?;
    for (got, want) in want.iter().zip(&points) {
        ensure_eq!(got["payload"], want["payload"], "what the server keeps");
    }
    let run = place.merging(&[place.at("odd")], "master").run()?;
    let report = run.ok()?.json()?;
    ensure_eq!(live(&report)["near"], json!(0), "near");
    ensure_eq!(place.ensure_holds("master", &want)?, 300, "points compared");
    // And found right when they are looked at once more.
    let run = place
        .merging(&[place.at("odd")], "master")
        .arg("--sync")
        .run()?;
    ensure_eq!(
        live(&run.ok()?.json()?)["same"],
        json!(300),
        "right already"
    );
    Ok(())
}
