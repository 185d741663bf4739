//! A server whose gRPC is not reached, or lies elsewhere than beside its REST: points travel all the same,
//! bit by bit.

use std::path::Path;

use serde_json::{Value, json};

use super::Place;
use crate::export::exported;
use crate::support::cases::Case;
use crate::support::cli::Cli;
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let names = [
        "named",
        "sparse_dense",
        "multivector",
        "uuid_ids",
        "float16",
        "uint8",
        "all_indexes",
    ];
    let mut trials: Vec<Trial> = names
        .into_iter()
        .map(|name| {
            env.live(format!("replay/by_rest/{name}"), move |bin| {
                by_rest(env, bin, name)
            })
        })
        .collect();
    trials.push(env.live("replay/by_rest/grpc_elsewhere", |bin| elsewhere(env, bin)));
    trials
}

/// Without a word about gRPC it is looked for at the port after REST's, where nobody listens.
fn merging(place: &Place, sources: &[&str], to: [&str; 2]) -> Cli {
    cli!["merge", "--json", to[0], to[1]]
        .args(sources)
        .arg("--scratch")
        .arg(place.path(""))
        .arg("--journal")
        .arg(place.path("journal"))
}

/// Read, written, brought to another state, and asked, over REST alone.
fn by_rest(env: &Env, bin: &Path, name: &str) -> Outcome {
    let place = Place::new(bin)?;
    let case = env.case(name);
    let truth = restored(&place, &case)?;
    let source = place.at(name);
    let file = place.path("file.snapshot");
    let read = cli!["merge", "--json", &source, "-o", &file]
        .run()?
        .ok()?
        .json()?;
    ensure_told(&read, true)?;
    ensure_same(&exported(&file)?, &truth)?;
    let into = place.at("master");
    let written = merging(&place, &[&file.to_string_lossy()], ["--into", &into]);
    ensure_told(&written.run()?.ok()?.json()?, true)?;
    place.ensure_holds("master", &truth)?;
    // One is gone from the sources, one is another.
    let ids = [&truth[0]["id"], &truth[1]["id"]];
    let more = json!({"points": [ids[0]]});
    place.server.post(
        &format!("/collections/{name}/points/delete?wait=true"),
        &more,
    )?;
    let other = json!({"payload": {"late": true}, "points": [ids[1]]});
    place.server.post(
        &format!("/collections/{name}/points/payload?wait=true"),
        &other,
    )?;
    let now = place.server.scroll(name)?;
    merging(&place, &[&source], ["--into", &into])
        .arg("--sync")
        .run()?
        .ok()?;
    place.ensure_holds("master", &now)?;
    let verify = cli!["verify", &into, "--queries", "20", "--against", &source];
    verify.run()?.ok()?;
    Ok(())
}

/// Said where it is, gRPC is spoken, and nothing is said of REST.
fn elsewhere(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let truth = restored(&place, &env.case("named"))?;
    let file = place.path("file.snapshot");
    let grpc = place.server.grpc_url();
    let merge = cli![
        "merge",
        "--json",
        place.at("named"),
        "-o",
        &file,
        "--grpc",
        &grpc
    ];
    let read = merge.run()?.ok()?.json()?;
    ensure_told(&read, false)?;
    ensure_same(&exported(&file)?, &truth)?;
    let nobody = cli![
        "merge",
        place.at("named"),
        "-o",
        place.path("n"),
        "--retries",
        "0"
    ];
    let nobody = nobody.args(["--grpc", "http://127.0.0.1:9"]);
    nobody.run()?.code(1)?.says(&["127.0.0.1:9"]).map(drop)
}

/// Restores a case under its own name; what the server has then.
fn restored(place: &Place, case: &Case) -> Outcome<Vec<Value>> {
    place.restore(case)?;
    place.server.scroll(&case.name)
}

fn ensure_told(report: &Value, by_rest: bool) -> Outcome {
    let notes = report["notes"].to_string();
    ensure_eq!(
        notes.contains("points travel over REST"),
        by_rest,
        "{notes}"
    );
    Ok(())
}
