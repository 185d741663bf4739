//! `snapmerge init`: a plan to start from.
//!
//! Invariants: what is printed is a plan that `snapmerge run` takes.

use super::{Ended, print};
use crate::base::error::Result;
use crate::nightly::TEMPLATE;

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  snapmerge init > nightly.toml
  snapmerge schema nightly > nightly.schema.json

The plan has every key, most of them commented out with what is assumed without them. Editors that know the
schema name what is misspelt while it is typed.")]
pub struct InitPlanArgs {}

/// Runs the command.
pub fn run(_: &InitPlanArgs) -> Result<Ended> {
    print(TEMPLATE)?;
    Ok(None)
}
