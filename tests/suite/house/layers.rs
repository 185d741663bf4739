//! Arrows go one way: a module names its own layer and those below it, never one above.

use crate::support::rust::paths;
use crate::support::{Env, Trial};

use super::{Findings, SOURCES_MIN, Source, sources};

/// The layers from the top down; what stands in one line may name its own line and those below.
const LAYERS: [&[&str]; 7] = [
    &["main", "lib"],
    &["cli"],
    &["commands"],
    &["nightly"],
    &[
        "merge", "proof", "archive", "source", "report", "capture", "deliver", "drill",
    ],
    &[
        "engine", "server", "snapshot", "schema", "point", "durable", "scratch", "parallel",
        "status", "stop",
    ],
    &["error"],
];

/// Crates that one module alone may name, and why.
const KEPT_IN: [(&str, &str, &str); 3] = [
    (
        "qdrant_edge",
        "engine",
        "the engine may be exchanged, and its panics are contained there",
    ),
    (
        "qdrant_client",
        "server",
        "all talk with a server has one set of retries, timeouts and secrets",
    ),
    (
        "reqwest",
        "server",
        "all talk with a server has one set of retries, timeouts and secrets",
    ),
];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("house/layers", || {
            arrows(&sources(env)?).verdict(SOURCES_MIN)
        }),
        Trial::new("house/layers_sees_faults", || {
            let planted = [
                ("src/main.rs", "fn main() { snapmerge::cli::run() }"),
                ("src/lib.rs", "pub mod cli; pub use error::Error;"),
                (
                    "src/commands/merge.rs",
                    "use crate::merge::plan;\nuse crate::{cli::exit, error::Error};",
                ),
                (
                    "src/merge/plan.rs",
                    "use super::conflict;\nuse super::super::commands::merge;\nuse crate::engine;",
                ),
                (
                    "src/point/id.rs",
                    "//! See [`crate::cli`].\nlet x = \"crate::cli\";\nfn f() -> crate::merge::Plan {}",
                ),
                (
                    "src/point/mod.rs",
                    "#[cfg(test)] mod tests { use crate::source::x; }",
                ),
                ("src/error.rs", "use crate::point::id;"),
                ("src/extra/mod.rs", "use crate::Error;"),
                (
                    "src/durable.rs",
                    "use crate::engine::Shard;\nuse super::cli;",
                ),
            ];
            let sources = planted.map(|(path, text)| Source::new(path, text));
            arrows(&sources).ensure_places(&[
                "src/commands/merge.rs:2",
                "src/merge/plan.rs:2",
                "src/point/id.rs:3",
                // Test code keeps to the layers too: it is moved and read with its module.
                "src/point/mod.rs:1",
                "src/error.rs:1",
                "src/extra/mod.rs:1",
                "src/extra/mod.rs:1",
                "src/durable.rs:2",
            ])
        }),
        Trial::new("house/one_user", || {
            one_user(&sources(env)?).verdict(SOURCES_MIN)
        }),
        Trial::new("house/one_user_sees_faults", || {
            let planted = [
                ("src/engine/open.rs", "use qdrant_edge::EdgeShard;"),
                (
                    "src/server/rest.rs",
                    "reqwest::get(); qdrant_client::Qdrant::new()",
                ),
                (
                    "src/merge/plan.rs",
                    "//! qdrant_edge\nuse qdrant_edge as e;",
                ),
                ("src/engine/http.rs", "use reqwest;"),
            ];
            let sources = planted.map(|(path, text)| Source::new(path, text));
            one_user(&sources).ensure_places(&["src/merge/plan.rs:2", "src/engine/http.rs:1"])
        }),
    ]
}

/// 0 at the top.
fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&module))
}

fn arrows(sources: &[Source]) -> Findings {
    let mut findings = Findings::default();
    for source in sources {
        findings.looked_at += 1;
        let module = source.module();
        let Some(own) = layer(module) else {
            findings.add(
                &source.path,
                1,
                format!("{module} stands in no layer: give it one in LAYERS, and in DESIGN's map"),
            );
            hold_to(source, LAYERS.len() - 1, &mut findings);
            continue;
        };
        hold_to(source, own, &mut findings);
    }
    findings
}

/// Holds what one file names to the layer `own`.
fn hold_to(source: &Source, own: usize, findings: &mut Findings) {
    for path in paths(&source.tokens) {
        let Some((named, certain)) = top_module(source, &path.parts) else {
            continue;
        };
        match layer(named) {
            Some(layer) if layer < own => findings.add(
                &source.path,
                path.line,
                format!("names {named}, which stands above it: hand in what it needs, or move it up"),
            ),
            // At the top everything is in reach, and lib.rs's own names are its own.
            None if certain && own > 0 => findings.add(
                &source.path,
                path.line,
                format!("crate::{named} hides the layer that it comes from: name the module (crate::error::Error)"),
            ),
            _ => {}
        }
    }
}

/// The module of the top level that a path leads into, and whether it certainly is one (a path of
/// `super`s may end inside an inline module instead).
fn top_module<'a>(source: &Source, parts: &'a [String]) -> Option<(&'a str, bool)> {
    match parts[0].as_str() {
        "crate" => Some((&parts[1], true)),
        "snapmerge" => Some((&parts[1], true)),
        "super" => {
            let supers = parts.iter().take_while(|part| *part == "super").count();
            let inner = source.path.strip_prefix("src/")?.trim_end_matches(".rs");
            let depth = inner.split('/').filter(|part| *part != "mod").count();
            // One `super` leaves the file's own module; as many as it is deep lead to the top.
            (supers >= depth).then(|| parts.get(supers).map(|name| (name.as_str(), false)))?
        }
        _ => None,
    }
}

fn one_user(sources: &[Source]) -> Findings {
    let mut findings = Findings::default();
    for source in sources {
        findings.looked_at += 1;
        for token in &source.tokens {
            for (name, home, why) in KEPT_IN {
                if token.text == name && source.module() != home {
                    findings.add(
                        &source.path,
                        token.line,
                        format!("{name} belongs to src/{home} alone: {why}"),
                    );
                }
            }
        }
    }
    findings
}
