//! Vectors that only some sources have: the master has all of them, each point keeps its own, and the
//! report says which were not everywhere.

use serde_json::{Value, json};

use super::Sources;
use super::policies::expected;
use crate::export::exported;
use crate::support::craft::{Member, Tar};
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("merge/vectors/of_some_sources", || of_some_sources(env)),
        Trial::new("merge/vectors/named_beside_unnamed", || {
            named_beside_unnamed(env)
        }),
        Trial::new("merge/vectors/without_a_storage", || empty(env, true)),
        Trial::new("merge/vectors/not_in_segments", || empty(env, false)),
    ]
}

/// Vectors that a collection has and no point: `stored`, segments say that they have no storage for them,
/// else nothing. Both are read as absent, and carried as they are.
fn empty(env: &Env, stored: bool) -> Outcome {
    let sources = Sources::named(env, &["named"])?;
    let mut tar = Tar::parse(&std::fs::read(&sources.files[0])?)?;
    let edit = |member: &mut Member, edit: &dyn Fn(&mut Value)| -> Outcome {
        let mut value: Value = serde_json::from_slice(&member.data)?;
        edit(&mut value);
        member.set(value.to_string().into_bytes());
        Ok(())
    };
    edit(tar.find("config.json")?, &|config| {
        config["params"]["vectors"]["ghost"] = json!({"size": 4, "distance": "Dot"});
        config["params"]["sparse_vectors"] = json!({"words": {}});
    })?;
    if stored {
        tar.segments(|segment| {
            edit(segment.find("segment.json")?, &|state| {
                state["config"]["vector_data"]["ghost"] = json!({
                    "size": 4, "distance": "Dot", "storage_type": "Empty",
                    "index": {"type": "plain", "options": {}},
                });
                state["config"]["sparse_vector_data"] = json!({
                    "words": {"index": {"index_type": "MutableRam"}, "storage_type": "Empty"},
                });
            })
        })?;
    }
    std::fs::write(&sources.files[0], tar.bytes())?;
    for route in ["graft", "rebuild"] {
        let master = sources.path(&format!("{route}.snapshot"));
        let merge = cli!["merge", "--route", route, &sources.files[0], "-o", &master];
        merge.run()?.ok()?;
        ensure_same(&exported(&master)?, &sources.truths[0])?;
        for how in [&[][..], &["--deep"]] {
            let verify = cli!["verify", &master, "--against", &sources.files[0]];
            verify.args(how).run()?.ok()?;
        }
        let config: Value = serde_json::from_slice(
            &Tar::parse(&std::fs::read(&master)?)?
                .find("config.json")?
                .data,
        )?;
        let ghost = &config["params"]["vectors"]["ghost"];
        ensure_eq!(ghost["size"], json!(4), "{route}");
        let kept = std::fs::read(&master)?;
        let kept = kept.windows(7).any(|bytes| bytes == b"\"Empty\"");
        ensure_eq!(kept, stored && route == "graft", "as it was, by {route}");
    }
    Ok(())
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
