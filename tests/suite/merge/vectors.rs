//! Vectors that only some sources have: the master has all of them, each point keeps its own, and the
//! report says which were not everywhere.

use serde_json::{Value, json};

use super::Sources;
use super::policies::expected;
use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("merge/vectors/of_some_sources", || of_some_sources(env)),
        Trial::new("merge/vectors/named_beside_unnamed", || {
            named_beside_unnamed(env)
        }),
    ]
}

/// No two of these have a vector in common: dense, sparse and multivectors under six names.
pub const DISJOINT: [&str; 3] = ["named", "sparse_dense", "multivector"];

fn of_some_sources(env: &Env) -> Outcome {
    let sources = Sources::named(env, &DISJOINT)?;
    let want = expected(&DISJOINT, &sources.truths, "remap")?;
    ensure_eq!(want.points.len(), 2100, "points under ids of their own");
    let master = sources.merge(&["--on-conflict", "remap"])?;
    master.ensure_holds(want.points.values())?;

    let params = &master.packed.config()?["params"];
    for (nth, kind) in [
        (0, "vectors"),
        (1, "vectors"),
        (2, "vectors"),
        (1, "sparse_vectors"),
    ] {
        let own = &sources.cases[nth].info["config"]["params"][kind];
        for (name, vector) in own.as_object().ok_or("no vectors")? {
            ensure_eq!(params[kind][name], *vector, "{kind} {name} of the master");
            let finding = finding(&master.report, name)?;
            ensure!(finding["severity"] != "blocks", "{finding} blocks, and yet");
        }
    }
    ensure_eq!(
        params["vectors"].as_object().map(serde_json::Map::len),
        Some(4),
        "dense vectors"
    );
    // Each source's points lie in the graph of their own vectors.
    for segment in master
        .packed
        .all_segments()?
        .iter()
        .filter(|s| s.holds_points())
    {
        for graph in ["image", "text", "dense", "colbert"] {
            let graph = format!("vector_index-{graph}/graph.bin");
            ensure!(segment.has(&graph), "there is no {graph}");
        }
    }
    Ok(())
}

/// What the report finds about the vector `name`.
fn finding(report: &Value, name: &str) -> Outcome<Value> {
    let quoted = format!("'{name}'");
    let findings = report["findings"].as_array().ok_or("no findings")?;
    let found = findings.iter().find(|f| f.to_string().contains(&quoted));
    found
        .cloned()
        .ok_or_else(|| format!("the report does not name the vector {name}").into())
}

/// A source without names for its one vector, and one with names.
fn named_beside_unnamed(env: &Env) -> Outcome {
    let names = ["named", "album_2017"];
    let sources = Sources::named(env, &names)?;
    let want = expected(&names, &sources.truths, "newest:score")?;
    let of_album = want
        .points
        .values()
        .filter(|p| p["vector"].is_array())
        .count();
    ensure!(
        (101..1000).contains(&of_album),
        "{of_album} points of the album won: neither all nor none should"
    );
    let master = sources.merge(&["--on-conflict", "newest:score"])?;
    master.ensure_holds(want.points.values())?;
    ensure_eq!(
        master.packed.config()?["params"]["vectors"][""],
        json!({"size": 16, "distance": "Cosine"}),
        "the unnamed vector"
    );
    Ok(())
}
