//! What is refused before anything is written: names that are taken, aliases, sources as targets,
//! arguments that do not fit together.

use std::path::Path;

use serde_json::json;

use super::Place;
use crate::support::{Env, Outcome, Trial, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("replay/refuses_arguments", || arguments(env)),
        env.live("replay/refuses_targets", |bin| targets(env, bin)),
        env.live("replay/refuses_sources", |bin| sources(env, bin)),
    ]
}

fn arguments(env: &Env) -> Outcome {
    let file = &env.case("plain_dot").snapshot_gz;
    let dir = temp_dir()?;
    let output = dir.path().join("m.snapshot");
    let output = output.to_string_lossy();
    // A port that nobody listens on: nothing of this gets so far.
    let into = "http://127.0.0.1:9/m";
    for (args, code, says) in [
        (vec![], 2, "--output"),
        (
            vec!["--into", into, "-o", &output],
            2,
            "cannot be used with",
        ),
        (vec!["-o", &output, "--sync"], 2, "--into"),
        (vec!["-o", &output, "--route", "replay"], 2, "--into"),
        (
            vec!["--into", into, "--resume", "--sync"],
            2,
            "cannot be used with",
        ),
        (vec!["--into", into, "--limit-rate", "0"], 2, "--limit-rate"),
        (
            vec!["--into", "http://127.0.0.1:9"],
            2,
            "names no collection",
        ),
        (vec!["--into", "master"], 2, "master"),
        (vec!["--into", "http://key@127.0.0.1:9/m"], 2, ""),
        (vec!["--into", into, "--retries", "0"], 1, "127.0.0.1:9"),
    ] {
        let run = cli!["merge", file].args(&args).run()?;
        let run = run
            .code(code)
            .map_err(|e| format!("{args:?}: {}", e.message().unwrap_or("?")))?;
        run.says(&[says])?;
    }
    Ok(())
}

fn targets(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let case = env.case("plain_dot");
    let source = place.restore(&case)?;
    let before = place.state("plain_dot")?;
    place.server.post(
        "/collections/aliases",
        &json!({"actions": [{"create_alias": {"collection_name": "plain_dot", "alias_name": "live"}}]}),
    )?;
    let file = case.unpack(place.dir.path())?;
    // Written to, an alias is the collection behind it.
    for flags in [vec![], vec!["--sync"]] {
        place
            .merging(&[&file], "live")
            .args(&flags)
            .run()?
            .code(12)?
            .says(&["an alias of plain_dot", "publish"])?;
    }
    place
        .merging(&[&source], "plain_dot")
        .arg("--sync")
        .run()?
        .code(2)?
        .says(&["it is one of the sources"])?;
    place
        .merging(&[&file], "nowhere")
        .arg("--resume")
        .run()?
        .code(12)?
        .says(&["no such collection to resume"])?;
    // By source, a server without a cluster has no place for it.
    place
        .merging(&[&file], "keyed")
        .args(["--layout", "by-source"])
        .run()?
        .code(12)?
        .says(&["not in cluster mode"])?;
    ensure!(
        place.server.get("/collections/nowhere").is_err()
            && place.server.get("/collections/keyed").is_err(),
        "a collection was made"
    );
    ensure_eq!(place.state("plain_dot")?.0, before.0, "operations");
    // A plan is only printed.
    let run = place
        .merging(&[&source], "planned")
        .arg("--dry-run")
        .run()?
        .ok()?;
    ensure_eq!(run.json()?["route"], "replay", "the route");
    ensure!(
        place.server.get("/collections/planned").is_err(),
        "a dry run made it"
    );
    Ok(())
}

fn sources(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let source = place.restore(&env.case("plain_dot"))?;
    place
        .merging(&[&place.at("nobody")], "master")
        .run()?
        .code(12)?
        .says(&["no such collection"])?;
    place
        .merging(&[&source, &source], "master")
        .run()?
        .code(2)?
        .says(&["given twice"])?;
    let other = place.restore(&env.case("album_2017"))?;
    place.restore(&env.case("euclid_on_disk"))?;
    place
        .merging(&[&other, &place.at("euclid_on_disk")], "master")
        .run()?
        .code(2)?
        .says(&["distance"])?;
    ensure!(
        place.server.get("/collections/master").is_err(),
        "a collection was made"
    );
    Ok(())
}
