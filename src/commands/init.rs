//! `snapmerge init`: a plan to start from, and the schema that editors check one by.
//!
//! Keeps true: what is printed is a plan that `snapmerge run` takes.

use super::Ended;
use super::args::InitPlanArgs;
use crate::base::error::Result;
use crate::nightly::{TEMPLATE, schema};

/// Runs the command.
pub fn run(args: &InitPlanArgs) -> Result<Ended> {
    match args.schema {
        true => super::print_json(&schema())?,
        false => super::print(TEMPLATE)?,
    }
    Ok(None)
}
