//! `snapmerge publish`: an alias to a new master.

use clap::Args;

use super::{Ended, print_answer};
use crate::base::error::Result;
use crate::base::operation::{Context, Operation as _};
use crate::publish::PublishRequest;

/// Arguments of `publish`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge publish http://prod:6333 album_master_20261122 --alias album_master --keep 3
  snapmerge publish http://prod:6333 album_master_20261122 --alias album_master --dry-run
  snapmerge publish http://prod:6333 small_master --alias album_master --max-shrink 20% --allow missing-indexes

The alias moves in one call. What it pointed to is recorded, for rollback.")]
pub struct PublishArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub request: PublishRequest,
    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: PublishArgs) -> Result<Ended> {
    print_answer(&args.request.run(&Context::LOUD)?, args.json)
}
