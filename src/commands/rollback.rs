//! `snapmerge rollback`: an alias back to what it pointed to before.
//!
//! Keeps true: it goes one step, and only to what is there and green.

use super::args::RollbackArgs;
use super::{Ended, LOUD, publish};
use crate::base::error::Result;
use crate::input::connect;
use crate::publish::RollbackRequest;
use crate::publish::rollback;

/// Runs the command.
pub fn run(args: &RollbackArgs) -> Result<Ended> {
    let state = args.known.state.folder()?;
    let connection = connect(&args.server, &args.known.connection, &LOUD)?;
    let request = RollbackRequest {
        alias: &args.alias,
        allow: &args.allow,
        dry_run: args.dry_run,
    };
    let change = rollback(&connection, &request, &state)?;
    if args.json {
        super::print_json(&change)?;
    } else {
        super::print(&publish::text(&change))?;
    }
    Ok(None)
}
