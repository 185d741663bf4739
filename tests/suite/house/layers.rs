//! Arrows go one way: a module names itself and those below it, never one above; no two files import
//! each other, directly or around a circle (but for a child and its parents, which are one module); and the map in lib.rs shows the modules in this order.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::rust::{Path, paths};
use crate::support::{Env, Trial};

use super::{Findings, SOURCES_MIN, Source, sources};

/// The layers from the top down, one module a row, so that no two modules can use each other.
const LAYERS: [&str; 30] = [
    "main", "lib", "cli", "commands", "report", "nightly", "worker", "drill", "publish", "jobs",
    "merge", "ingest", "split", "build", "restore", "verify", "inspect", "export", "capture",
    "input", "archive", "table", "stream", "source", "server", "engine", "format", "point",
    "manual", "base",
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
                ("src/lib.rs", "pub mod cli; pub use base::error::Error;"),
                (
                    "src/commands/merge.rs",
                    "use crate::merge::plan;\nuse crate::{cli::exit, base::error::Error};",
                ),
                (
                    "src/merge/plan.rs",
                    "use super::graft;\nuse super::super::commands::merge;\nuse crate::engine;",
                ),
                (
                    "src/point/id.rs",
                    "//! See [`crate::cli`].\nlet x = \"crate::cli\";\nfn f() -> crate::merge::Plan {}",
                ),
                (
                    "src/point/mod.rs",
                    "#[cfg(test)] mod tests { use crate::source::x; }",
                ),
                ("src/base/error.rs", "use crate::point::id;"),
                ("src/extra/mod.rs", "use crate::Error;"),
                (
                    "src/base/durable.rs",
                    "use crate::engine::Shard;\nuse super::super::cli;",
                ),
            ];
            let sources = planted.map(|(path, text)| Source::new(path, text));
            arrows(&sources).ensure_places(&[
                "src/commands/merge.rs:2",
                "src/merge/plan.rs:2",
                "src/point/id.rs:3",
                // Test code keeps to the layers too: it is moved and read with its module.
                "src/point/mod.rs:1",
                "src/base/error.rs:1",
                "src/extra/mod.rs:1",
                "src/extra/mod.rs:1",
                "src/base/durable.rs:1",
                "src/base/durable.rs:2",
            ])
        }),
        Trial::new("house/circles", || {
            circles(&sources(env)?).verdict(SOURCES_MIN)
        }),
        Trial::new("house/circles_sees_faults", || {
            let planted = [
                ("src/lib.rs", "pub mod a; pub mod b;"),
                // Around three corners, once by a re-export.
                ("src/a/mod.rs", "mod x; mod y; pub use self::x::X;"),
                ("src/a/x.rs", "use super::y::Y; pub struct X;"),
                ("src/a/y.rs", "use crate::b::{Other, Z}; pub struct Y;"),
                (
                    "src/b.rs",
                    "use crate::a::X; pub struct Z; pub struct Other;",
                ),
                // No circle: a parent hands on what its child has, and uses it.
                (
                    "src/c/mod.rs",
                    "mod d; pub use d::D; fn f() -> d::D { d::D }",
                ),
                (
                    "src/c/d.rs",
                    "pub struct D; #[cfg(test)] mod tests { use super::super::f; }",
                ),
                // No circle either: a child takes from its parent, which uses it.
                ("src/e.rs", "mod f; pub struct E; fn g() { f::h() }"),
                ("src/e/f.rs", "use super::E; pub fn h() {}"),
            ];
            let sources = planted.map(|(path, text)| Source::new(path, text));
            circles(&sources).ensure_places(&["src/a/x.rs:1"])
        }),
        Trial::new("house/map", || {
            let sources = sources(env)?;
            let lib = sources.iter().find(|source| source.path == "src/lib.rs");
            map(lib.map_or("", |lib| &lib.text)).verdict(LAYERS.len() - 2)
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
    LAYERS.iter().position(|name| *name == module)
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
                format!(
                    "{module} stands in no layer: give it one in LAYERS, and in the map of lib.rs"
                ),
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
                format!("crate::{named} hides the layer that it comes from: name the module (crate::base::error::Error)"),
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

/// The map in lib.rs is a table whose first column names the modules, from the top down.
fn map(lib: &str) -> Findings {
    let mut findings = Findings::default();
    let shown: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("//! | [`"))
        .filter_map(|rest| rest.split('`').next())
        .collect();
    findings.looked_at = shown.len();
    if shown != LAYERS[2..] {
        findings.add(
            "src/lib.rs",
            1,
            format!("its map has {shown:?}, the layers are {:?}", &LAYERS[2..]),
        );
    }
    findings
}

/// Circles of files, each told once, at the first of its files.
fn circles(sources: &[Source]) -> Findings {
    let mut findings = Findings::default();
    let modules: BTreeMap<Vec<String>, &Source> = sources
        .iter()
        .map(|source| (module_path(&source.path), source))
        .collect();
    let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in sources {
        findings.looked_at += 1;
        let own = module_path(&source.path);
        let to = arrows.entry(&source.path).or_default();
        for path in paths(&source.program) {
            let Some(home) = home(&modules, &own, &path.parts, 0) else {
                continue;
            };
            // A child and its parents are one module: what it takes from them is no way up.
            if home != source.path && !own.starts_with(&module_path(home)) {
                to.insert(home);
            }
        }
    }
    let reach = |from: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(at) = open.pop() {
            for next in arrows.get(at).into_iter().flatten() {
                if seen.insert(*next) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        arrows.keys().map(|file| (*file, reach(file))).collect();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for (file, seen) in &reached {
        if !seen.contains(file) || told.contains(file) {
            continue;
        }
        let back = |other: &&&str| reached.get(**other).is_some_and(|own| own.contains(file));
        let circle: Vec<&str> = seen.iter().filter(back).copied().collect();
        findings.add(
            file,
            1,
            format!(
                "imports around a circle: {}; move what they share below both",
                circle.join(", ")
            ),
        );
        told.extend(circle);
    }
    findings
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are `a::b`.
fn module_path(path: &str) -> Vec<String> {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    let parts = inner.trim_end_matches(".rs").split('/');
    parts
        .filter(|part| !["mod", "lib"].contains(part))
        .map(str::to_owned)
        .collect()
}

/// The file that has what `parts` names, as written in the module `own`; re-exports are followed.
fn home<'a>(
    modules: &BTreeMap<Vec<String>, &'a Source>,
    own: &[String],
    parts: &[String],
    depth: usize,
) -> Option<&'a str> {
    let mut at = own.to_vec();
    let mut rest = parts;
    match rest.first()?.as_str() {
        "crate" | "snapmerge" => {
            at.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                at.pop()?;
                rest = &rest[1..];
            }
        }
        // A child of this module, or another crate.
        first => {
            at.push(first.to_owned());
            modules.get(&at)?;
            rest = &rest[1..];
        }
    }
    while let Some(name) = rest.first() {
        at.push(name.clone());
        if !modules.contains_key(&at) {
            at.pop();
            break;
        }
        rest = &rest[1..];
    }
    let source = modules.get(&at)?;
    let Some(name) = rest.first().filter(|_| depth < 8) else {
        return Some(&source.path);
    };
    let handed_on = paths(&source.program)
        .into_iter()
        .filter(|path: &Path| path.parts.last() == Some(name) && path.parts != parts)
        .filter(|path| is_reexport(source, path.line))
        .find_map(|path| home(modules, &at, &path.parts, depth + 1));
    handed_on.or(Some(&source.path))
}

/// Whether what stands in this line of `source` belongs to a `pub use` (or `pub(crate) use`).
fn is_reexport(source: &Source, line: usize) -> bool {
    let before = source
        .program
        .iter()
        .rposition(|token| token.line <= line && token.text == "use");
    let Some(at) = before else {
        return false;
    };
    let pieces = source
        .program
        .get(at.saturating_sub(4)..at)
        .unwrap_or_default();
    let last = pieces.last().map(|token| token.text.as_str());
    last == Some("pub") || (last == Some(")") && pieces.iter().any(|token| token.text == "pub"))
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
