//! Killed at any moment, a replay is taken up where it was: at the end there are the same points, and
//! each was sent at most once after the last mark.

use std::path::Path;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{Place, live};
use crate::support::{Env, Outcome, Trial};

/// How often it is killed.
const TIMES: u32 = 20;
/// Points of the source: enough for several marks.
const POINTS: u64 = 12_000;
const SIZE: u64 = 768;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![env.live("replay/kill", killed)]
}

fn killed(bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let mut random = ChaCha8Rng::seed_from_u64(5);
    place.server.put(
        "/collections/source",
        &json!({"vectors": {"size": SIZE, "distance": "Dot"},
            "optimizers_config": {"indexing_threshold": 0}}),
    )?;
    for start in (0..POINTS).step_by(1000) {
        let points: Vec<Value> = (start..start + 1000)
            .map(|id| {
                let vector: Vec<f32> = (0..SIZE).map(|_| random.random()).collect();
                json!({"id": id * 3, "vector": vector, "payload": {"number": id}})
            })
            .collect();
        place.server.put(
            "/collections/source/points?wait=true",
            &json!({"points": points}),
        )?;
    }
    let want = place.server.scroll("source")?;
    let sources = [place.at("source")];
    let merge = || {
        place
            .merging(&sources, "master")
            .args(["--limit-rate", "40M", "--indexing-threshold", "0"])
    };
    let mut whole = merge().run()?.ok()?.elapsed;
    place.ensure_holds("master", &want)?;
    place.server.delete("/collections/master")?;

    let (mut kills, mut went_on, mut runs) = (0, 0, 0);
    while kills < TIMES {
        let mut running = merge().start()?;
        let moment = whole.mul_f64(random.random_range(0.0..1.0));
        std::thread::sleep(moment);
        if !running.ended()? {
            // What is dropped while it runs is killed, with all that it started.
            drop(running);
            kills += 1;
            // Two in a row now and then.
            if random.random_bool(0.5) {
                continue;
            }
        } else {
            running.wait()?.ok()?;
            whole = whole.mul_f64(0.95).max(Duration::from_millis(50));
        }
        let report = merge().run()?.ok()?.json()?;
        runs += 1;
        let done = live(&report)["done"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let written = live(&report)["written"].as_u64().unwrap_or(0);
        if done.contains("was resumed after") && !done.contains("after 0 points") {
            went_on += 1;
            ensure!(
                written < POINTS,
                "{done}, and yet {written} points were written"
            );
        }
        place.ensure_holds("master", &want)?;
        place.server.delete("/collections/master")?;
    }
    ensure!(
        went_on >= 3,
        "of {runs} runs only {went_on} went on after a mark"
    );
    ensure_eq!(
        place.server.scroll("source")?.len() as u64,
        POINTS,
        "points of the source"
    );
    Ok(())
}
