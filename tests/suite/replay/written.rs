//! A source that others write to while it is read: read to its end all the same, and told.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Place;
use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![env.live("replay/written_in_between", |bin| written(env, bin))]
}

fn written(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let case = env.case("album_2017");
    let source = place.restore(&case)?;
    let truth = case.truth()?;
    // What changes no count: a payload.
    let running = place
        .merging(&[&source], "master")
        .args(["--limit-rate", "300k"])
        .start()?;
    let start = Instant::now();
    while place.server.get("/collections/master").is_err() {
        ensure!(
            start.elapsed() < Duration::from_secs(60),
            "no master in a minute"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    place.server.post(
        "/collections/album_2017/points/payload?wait=true",
        &json!({"payload": {"late": true}, "points": [truth[0]["id"]]}),
    )?;
    let run = running.wait()?.code(3)?;
    let report = run.json()?;
    let notes = report["notes"].to_string();
    ensure!(
        notes.contains("was written to while it was read"),
        "{notes}"
    );
    ensure_eq!(place.server.count("master")?, 1000, "points");
    Ok(())
}
