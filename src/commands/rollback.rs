//! `snapmerge rollback`: an alias back to the previous master.

use clap::Args;

use super::{Ended, print_answer};
use crate::base::error::Result;
use crate::base::operation::{Context, Operation as _};
use crate::publish::RollbackRequest;

/// Arguments of `rollback`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge rollback http://prod:6333 --alias album_master
  snapmerge rollback http://prod:6333 --alias album_master --dry-run

It goes one step back each time; what the alias pointed to until then stays.")]
pub struct RollbackArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub request: RollbackRequest,
    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: RollbackArgs) -> Result<Ended> {
    print_answer(&args.request.run(&Context::LOUD)?, args.json)
}
