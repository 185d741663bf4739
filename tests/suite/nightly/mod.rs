//! Whole nights by a plan: on a server that fails by script, and on a real one.
//!
//! Keeps true: after each night the test looks at the alias, the archive, the server and what was told.

mod archive;
mod kill;
mod live;
mod outputs;
mod plan;
pub mod scripted;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::server::run_with;
use crate::support::cli::Cli;
use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    [
        plan::trials(env),
        scripted::trials(env),
        outputs::trials(env),
        live::trials(env),
        kill::trials(env),
        archive::trials(env),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The alias of all plans here.
pub const ALIAS: &str = "album_master";

/// A plan for the albums of a server, with more of it at its end.
pub fn write_plan(dir: &Path, url: &str, more: &str) -> Outcome<PathBuf> {
    let file = dir.join("nightly.toml");
    let text = format!(
        r#"
[archive]
place = "backups"
create = true
[servers.prod]
url = "{url}"
timeout = 20
retries = 1
[[sources]]
server = "prod"
collections = ["album_20*"]
[master]
name = "album_master"
[publish]
server = "prod"
alias = "{ALIAS}"
keep = 2
[keep]
last = 2
[report]
folder = "reports"
prometheus = "snapmerge.prom"
{more}"#
    );
    std::fs::write(&file, text)?;
    Ok(file)
}

/// A night by the plan in `dir`.
pub fn night(dir: &Path) -> Cli {
    run_with(dir, &["run", "--json", "-q"]).arg(dir.join("nightly.toml"))
}

/// What became of the sources: name and how.
fn sources(told: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let all = told["sources"].as_array().into_iter().flatten();
    all.map(|one| (text(&one["name"]), text(&one["how"])))
        .collect()
}

/// Names with what became of them, as [`sources`] gives them.
fn named(all: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = all.iter();
    owned
        .map(|(name, how)| ((*name).to_owned(), (*how).to_owned()))
        .collect()
}

/// The archive is whole, and so is every entry in it.
pub fn archive_is_whole(dir: &Path) -> Outcome {
    run_with(dir, &["archive", "check", "--archive"])
        .arg(dir.join("backups"))
        .run()?
        .ok()?;
    Ok(())
}

/// Entries in the archive, by name.
fn entries(dir: &Path, name: &str) -> Outcome<usize> {
    let run = run_with(dir, &["archive", "ls", "--json", "--archive"])
        .arg(dir.join("backups"))
        .arg(name)
        .run()?;
    let run = match run.status.code() {
        // Nothing of that name.
        Some(10) => return Ok(0),
        _ => run.ok()?,
    };
    let told = run.json()?;
    let list = told.as_array().or_else(|| told["entries"].as_array());
    Ok(list.ok_or("no entries")?.len())
}
