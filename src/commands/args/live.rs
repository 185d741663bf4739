//! The arguments of a merge that has to do with servers.
//!
//! Keeps true: what is typed is only parsed here.

use std::path::PathBuf;

use clap::Args;

use super::StateArgs;
use crate::server::Rate;

/// Where a live master is, and how it is written.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Live master")]
pub struct LiveArgs {
    /// Write the master into this new collection of a running Qdrant: http://HOST:6333/COLLECTION.
    /// A run that was killed is taken up where it was
    #[arg(long, value_name = "URL", conflicts_with_all = ["output", "force"])]
    pub into: Option<String>,
    /// With --route scratch: the server that restores each snapshot file into a collection of its
    /// own, from where it is read, and which is then removed: http://HOST:6333
    #[arg(long, value_name = "URL")]
    pub scratch_server: Option<String>,
    /// Go on with an earlier run of the same merge, or fail
    #[arg(long, conflicts_with = "sync")]
    pub resume: bool,
    /// Bring the collection to the sources' state, whoever made it: points that differ are written,
    /// points that no source has are deleted. Not with --on-conflict remap, whose new ids come in no
    /// order, so that what is gone could not be told without keeping all of them: merge into a new
    /// collection then, and move the alias
    #[arg(long)]
    pub sync: bool,
    /// Where it is written down how far the collection is [default: a file for each collection in the
    /// folder of --state]
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub state: StateArgs,
    /// Send at most so many bytes a second, as 500k, 20M or 1G
    #[arg(long, value_name = "RATE")]
    pub limit_rate: Option<Rate>,
}
