//! `snapmerge inspect`.

use super::args::InspectArgs;
use crate::error::Result;

/// Runs the command.
pub fn run(_args: &InspectArgs) -> Result<super::Ended> {
    Ok(None)
}
