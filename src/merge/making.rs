//! Inputs of the shards of a master, the same for all routes.
//!
//! Invariants: where one shard is made by itself, no point of it belongs into another.

use super::members::MemberWriter;
use super::plan::Plan;
use super::settings::Settings;
use crate::base::Workspace;
use crate::base::error::Error;
use crate::base::stage::Stages;
use crate::point::PointId;
use crate::source::Source;
use crate::stream::Ledger;

/// Inputs of the shards of a master.
pub struct Making<'a> {
    /// The sources.
    pub sources: Vec<Source>,
    /// The plan, which says whether all shards are made or one.
    pub plan: Plan,
    /// The settings.
    pub settings: &'a Settings,
    /// Where conflicts go.
    pub ledger: Ledger,
    /// Where the shards go.
    pub writer: &'a mut MemberWriter,
    /// Scratch and progress.
    pub site: Workspace<'a>,
    /// Durations.
    pub stages: &'a mut Stages,
}

/// The refusal of point `id` of `source`, which lies in what becomes `shard` of the master, and belongs into
/// another.
pub fn stranger(id: PointId, source: Option<&str>, shard: u32) -> Error {
    let point = match source {
        Some(source) => format!("point {id} of {source}"),
        None => format!("point {id} of a source"),
    };
    Error::usage(
        format!("making shard {shard} of the master by itself"),
        format!("{point} lies in it and belongs into another shard"),
    )
    .next("merge in one process, which puts every point where it belongs: snapmerge merge --route rebuild")
}
