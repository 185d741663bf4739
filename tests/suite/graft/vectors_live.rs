//! Masters with renamed vectors on a real server: restored, replayed, and read from it.

use std::path::Path;

use serde_json::Map;

use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, temp_dir};

use super::vectors::{Names, args, renamed};
use super::{Given, export, given, graft, merging};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![env.live("graft/live/vectors", |bin| live(env, bin))]
}

/// A server that restores the master has the vectors under their new names, green, with the graphs that
/// were built under the old ones; `replay` with the same flags gives the same collection.
fn live(env: &Env, bin: &Path) -> Outcome {
    let dir = temp_dir()?;
    let sources: Vec<Given> = given(env, dir.path(), &["named"])?;
    let names = Names::from([
        ("image".to_owned(), Some("photo")),
        ("text".to_owned(), None),
    ]);
    let expected = renamed(&sources[0].points, &names);
    let master = dir.path().join("master.snapshot");
    let arguments = args(&names);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    graft(&[&sources[0]], &master, &arguments)?;
    let server = crate::support::qdrant::Server::start(bin)?;
    server.upload("grafted", &master)?;
    let info = server.wait_green("grafted", std::time::Duration::from_secs(10))?;
    let vectors = &info["config"]["params"]["vectors"];
    ensure!(
        vectors["photo"].is_object() && vectors.as_object().map(Map::len) == Some(1),
        "{vectors}"
    );
    ensure!(
        info["indexed_vectors_count"].as_u64() > Some(0),
        "no graph: {info}"
    );
    ensure_same(&server.scroll("grafted")?, expected.values())?;
    let into = format!("{}/replayed", server.url());
    let state = dir.path().join("state");
    cli![
        "merge",
        &sources[0].file,
        "--into",
        &into,
        "-q",
        "--state",
        &state
    ]
    .args(&arguments)
    .run()?
    .ok()?;
    ensure_same(&server.scroll("replayed")?, expected.values())?;
    // From a live source, offline.
    let back = dir.path().join("back.snapshot");
    merging([format!("{}/grafted", server.url())], &back)
        .args(["--rename-vector", "photo=image"])
        .run()?
        .ok()?;
    let names = Names::from([("text".to_owned(), None)]);
    ensure_same(
        &export(&back)?,
        renamed(&sources[0].points, &names).values(),
    )?;
    Ok(())
}
