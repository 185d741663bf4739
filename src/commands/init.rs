//! `snapmerge init`: a plan to start from, and the schema that editors check one by.
//!
//! Invariants: what is printed is a plan that `snapmerge run` takes.

use clap::Args;

use super::Ended;
use crate::base::error::Result;
use crate::nightly::{TEMPLATE, schema};

/// Arguments of `init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge init > nightly.toml
  snapmerge init --schema > nightly.schema.json

The plan has every key, most of them commented out with what is assumed without them. Editors that know the
schema name what is misspelt while it is typed.")]
pub struct InitPlanArgs {
    /// Print the JSON schema of plans instead
    #[arg(long)]
    pub schema: bool,
}

/// Runs the command.
pub fn run(args: &InitPlanArgs) -> Result<Ended> {
    match args.schema {
        true => super::print_json(&schema())?,
        false => super::print(TEMPLATE)?,
    }
    Ok(None)
}
