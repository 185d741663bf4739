//! What people do without snapmerge.
//!
//! Keeps true: it is done by the programs that they would use, and what these say is looked at: a
//! download with another hash, or a script that copied nothing, is not measured.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use super::server::Server;
use crate::Outcome;

/// Seconds that making a snapshot, downloading, hashing and removing it take.
pub fn curl(server: &Server, collection: &str, folder: &Path) -> Outcome<f64> {
    let started = Instant::now();
    let snapshots = format!("{}/collections/{collection}/snapshots", server.url());
    let made = output(Command::new("curl").args(["-sSf", "-X", "POST", &snapshots]))?;
    let made: Value = serde_json::from_str(&made)?;
    let told = |part: &str| made["result"][part].as_str().ok_or("no snapshot was made");
    let (name, checksum) = (told("name")?, told("checksum")?);
    let one = format!("{snapshots}/{name}");
    let file = folder.join("snapshot");
    output(Command::new("curl").args(["-sSf", &one, "-o"]).arg(&file))?;
    let hash = output(Command::new("sha256sum").arg(&file))?;
    output(Command::new("curl").args(["-sSf", "-X", "DELETE", &one]))?;
    let seconds = started.elapsed().as_secs_f64();
    match hash.starts_with(checksum) {
        true => Ok(seconds),
        false => Err(format!("sha256sum says {hash}, the server {checksum}").into()),
    }
}

/// What the guide's script took.
#[derive(Debug)]
pub struct Guided {
    /// Until all points were copied.
    pub copied_seconds: f64,
    /// Until the collection was green.
    pub green_seconds: f64,
}

/// Runs the guide's script, which prints `copied N in S s` and `green after S s`.
pub fn guided(python: &Path, script: &Path, sources: &[String]) -> Outcome<Guided> {
    let mut command = Command::new(python);
    command.arg(script).arg("guide_grpc").args(sources);
    let told = output(&mut command)?;
    eprint!("{told}");
    let after = |word: &str| -> Outcome<f64> {
        let (_, rest) = told
            .split_once(word)
            .ok_or_else(|| format!("no '{word}' in: {told}"))?;
        let number = rest.trim_start().split('s').next().unwrap_or_default();
        Ok(number.trim().parse()?)
    };
    Ok(Guided {
        copied_seconds: after(" in ")?,
        green_seconds: after("green after")?,
    })
}

fn output(command: &mut Command) -> Outcome<String> {
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    Err(format!("{command:?}: {}", output.status).into())
}
