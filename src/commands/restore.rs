//! `snapmerge restore`: a master onto a server.
//!
//! Keeps true: it ends with 0 only when everything that has to be equal was compared and is.

use std::fmt::Write as _;
use std::time::Duration;

use super::args::RestoreArgs;
use super::{Ended, LOUD, progress};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Unit;
use crate::capture::Members;
use crate::input::{Inputs, connect, peers};
use crate::restore::{Expected, Options, Restored, restore};
use crate::source::Checksum;

/// Runs the command.
pub fn run(args: &RestoreArgs) -> Result<Ended> {
    let state = args.known.state.folder()?;
    let connection = connect(&args.to.server, &args.known.connection, &LOUD)?;
    let members = Members::new(&connection, &peers(&args.peer)?)?;
    // A server that is not there is known before gigabytes are hashed.
    connection.server_info()?;
    let parent = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let inputs = Inputs::find(std::slice::from_ref(&args.snapshot), &args.reading, &parent)?;
    let Some(path) = inputs.paths().first() else {
        return Err(Error::usage("opening the snapshot", "there is none"));
    };
    let stage = progress(args.quiet).stage("look into the snapshot", None, Unit::None);
    let expected = Expected::read(path, &inputs.opening(path))?;
    drop(stage);
    let options = Options {
        overwrite: args.overwrite,
        resume: args.resume,
        keep_failed: args.keep_failed,
        allow_incomplete: args.allow_incomplete,
        replication_factor: args.replication_factor,
        rate: args.limit_rate,
        wait: Duration::from_secs(args.wait),
        dry_run: args.dry_run,
        progress: progress(args.quiet),
    };
    let restored = restore(&args.to, &members, &expected, &options, &state)?;
    if args.json {
        super::print_json(&restored)?;
    } else if args.dry_run || !args.quiet {
        super::print(&text(&restored, &expected))?;
    }
    for left in &restored.left {
        super::warn(&format!("could not be removed: {left}"));
    }
    Ok((!restored.left.is_empty()).then_some(Kind::Differs))
}

fn text(restored: &Restored, expected: &Expected) -> String {
    let bytes = humansize::format_size(restored.bytes, humansize::BINARY);
    let mut text = match &restored.verdict {
        Some(verdict) => format!(
            "{}: {} points, {bytes}, green\n",
            restored.target, verdict.points
        ),
        None => format!("{}: {bytes} would be restored\n", restored.target),
    };
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:<9}{value}");
    };
    line(
        "server",
        format!("{}, members: {}", restored.server_version, restored.members),
    );
    line(
        "checksum",
        match expected.checksum() {
            Checksum::Unverified => format!(
                "{}, UNVERIFIED: none was found for the file",
                restored.sha256
            ),
            known => known.words(),
        },
    );
    if let Some(verdict) = &restored.verdict {
        line(
            "compared",
            format!(
                "points of {} shards, shard keys, config, payload indexes, {} vectors in an index",
                verdict.shards.len(),
                verdict.indexed_vectors
            ),
        );
        for open in &verdict.open {
            line("open", open.clone());
        }
    }
    if let Some((sent, green)) = restored.seconds {
        line(
            "seconds",
            format!("{sent:.2} until restored, {green:.2} until green and compared"),
        );
    }
    if restored.finished_earlier {
        line("note", "an earlier run had all but finished it".into());
    }
    for note in &restored.notes {
        line("note", note.clone());
    }
    text
}
