//! `snapmerge drill`: what is in the archive restored, and proven to be what it was.
//!
//! Keeps true: one entry that fails does not keep the others from being restored; it ends with 0 only
//! when every one is proven and that is written down.

use std::fmt::Write as _;

use humansize::{BINARY, format_size};
use serde_json::json;

use super::args::drill::DrillArgs;
use super::{Ended, LOUD, print, print_json, progress, warn};
use crate::base::error::{Error, Kind, Result};
use crate::drill::{Drilled, On, Place, choose, drill};
use crate::input::connect;

/// Runs the command.
pub fn run(args: &DrillArgs) -> Result<Ended> {
    let archive = args.archive.open()?;
    let chain = archive.chain()?;
    let entries = choose(&chain, &args.entries)?;
    let server = args
        .to
        .as_ref()
        .map(|address| -> Result<_> {
            let connection = connect(address, &args.known.connection, &LOUD)?;
            // A server that is not there is known before anything is unpacked.
            connection.server_info()?;
            Ok((connection, args.known.state.folder()?.lent()))
        })
        .transpose()?;
    let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let place = Place {
        scratch: &scratch,
        server: server
            .as_ref()
            .map(|(connection, notes)| On { connection, notes }),
        progress: progress(args.quiet),
    };
    let (mut drilled, mut failed): (Vec<Drilled>, Vec<(String, Error)>) = Default::default();
    for entry in &entries {
        match drill(&archive, &chain, entry, place) {
            Ok(one) => drilled.push(one),
            // The next one would fare no better.
            Err(err) if matches!(err.kind(), Kind::Cancelled | Kind::NoSpace) => return Err(err),
            Err(err) => failed.push((entry.id.clone(), err)),
        }
    }
    let proven: Vec<_> = drilled
        .iter()
        .filter(|one| one.is_proven())
        .map(Drilled::proven)
        .collect();
    let noted = match proven.is_empty() {
        true => None,
        false => Some(archive.note_proven(proven)?),
    };
    if args.json {
        let failed: Vec<_> = failed
            .iter()
            .map(|(id, err)| json!({"id": id, "why": err.to_string()}))
            .collect();
        print_json(&json!({
            "structure": "snapmerge.drill/1",
            "archive": archive.what(),
            "proven_at": noted,
            "drilled": drilled,
            "failed": failed,
        }))?;
    } else {
        let worth_telling = |one: &&Drilled| !args.quiet || !one.is_proven();
        let told: String = drilled.iter().filter(worth_telling).map(text).collect();
        print(&told)?;
    }
    let mut failed = failed.into_iter().map(|(_, err)| err);
    let Some(first) = failed.next() else {
        let differs = drilled.iter().any(|one| !one.is_proven());
        return Ok(differs.then_some(Kind::Differs));
    };
    for err in failed {
        warn(&err.to_string());
    }
    Err(first)
}

fn text(drilled: &Drilled) -> String {
    let verdict = match drilled.is_proven() {
        true => "PROVEN",
        false => "NOT PROVEN",
    };
    let mut text = format!(
        "{}: {verdict}: {} points, {}, in {:.1} s\n",
        drilled.id,
        drilled.points,
        format_size(drilled.bytes, BINARY),
        drilled.seconds
    );
    let mut line = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:<9}{value}");
    };
    line("digest", &drilled.digest);
    for equal in &drilled.compared {
        line("equal", equal);
    }
    for difference in &drilled.differences {
        line(
            "DIFFERS",
            &format!(
                "{}: {} was said, {} was found",
                difference.about, difference.expected, difference.found
            ),
        );
    }
    for open in &drilled.open {
        line("open", open);
    }
    text
}
