//! `snapmerge publish`: an alias to a new master.
//!
//! Keeps true: what is refused is refused before anything moves.

use super::args::PublishArgs;
use super::{Ended, LOUD};
use crate::base::error::{Error, Result};
use crate::input::connect;
use crate::publish::{Change, PublishRequest, publish};
use crate::server::check_name;

/// Runs the command.
pub fn run(args: &PublishArgs) -> Result<Ended> {
    check_name(&args.alias)
        .map_err(|why| Error::usage(format!("reading --alias {}", args.alias), why))?;
    let state = args.known.state.folder()?;
    let connection = connect(&args.server, &args.known.connection, &LOUD)?;
    let request = PublishRequest {
        collection: &args.collection,
        alias: &args.alias,
        keep: args.keep,
        max_shrink: args.max_shrink,
        allow: &args.allow,
        dry_run: args.dry_run,
    };
    let change = publish(&connection, &request, &state)?;
    if args.json {
        super::print_json(&change)?;
    } else {
        super::print(&text(&change))?;
    }
    Ok(None)
}

/// What was done, or would be.
pub fn text(change: &Change) -> String {
    let done = match (change.dry_run, change.moved) {
        (true, true) => "would point to",
        (false, true) => "points to",
        (_, false) => "points already to",
    };
    let mut lines = vec![format!(
        "{} {done} {} ({} points)",
        change.alias, change.to, change.points
    )];
    if let Some(from) = change.from.as_ref().filter(|from| **from != change.to) {
        let points = change
            .points_before
            .map_or(String::new(), |points| format!(" ({points} points)"));
        lines.push(format!("  before   {from}{points}"));
    }
    for name in &change.removed {
        let done = match change.dry_run {
            true => "would be removed",
            false => "was removed: older than those to keep, and nothing points to it",
        };
        lines.push(format!("  {name} {done}"));
    }
    for note in &change.notes {
        lines.push(format!("  note     {note}"));
    }
    if !change.dry_run {
        lines.push(format!("  state    {}", change.state));
    }
    lines.join("\n") + "\n"
}
