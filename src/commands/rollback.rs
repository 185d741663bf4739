//! `snapmerge rollback`: an alias back to what it pointed to before.
//!
//! Keeps true: it goes one step, and only to what is there and green.

use super::args::RollbackArgs;
use super::{Ended, connect, publish, state_folder};
use crate::base::error::Result;
use crate::publish::RollbackRequest;
use crate::publish::rollback;

/// Runs the command.
pub fn run(args: &RollbackArgs) -> Result<Ended> {
    let state = state_folder(&args.known.state)?;
    let connection = connect(&args.server, &args.known.connection)?;
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
