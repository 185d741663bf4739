//! Change token of a collection: tells, without a snapshot, that nothing was written since its capture.
//!
//! A server tells the number of the last operation in each shard's log (`update_queue.op_num` of its
//! telemetry), and the segments with their versions (the manifest of partial snapshots). Neither is
//! enough outside one [`super::lineage`]; a restore of snapmerge's own is told apart by its count.
//!
//! The telemetry may be a look that other collections share and that is older than the rest: what was written in
//! between is then in the segments' versions and not in the logs' positions, and such a token is like none
//! that was kept.
//!
//! Invariants: a change token is given only where every part of it is known, of a server that stands alone and
//! a collection at rest; two that are equal mean the same points at the moments of their telemetry; whatever
//! is not known is a reason to capture again.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::lineage::{OwnRestores, lineage};
use super::observe::{Members, observe};
use super::unfit::Unfit;
use crate::base::error::Result;
use crate::server::Telemetry;

/// State of a collection at a moment at which nothing was written to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeToken {
    /// The life of the server's process: one that was started again has another.
    pub process: String,
    /// Snapshots that were restored in it, of any collection, whether that succeeded or not.
    pub restores: u64,
    /// The shards.
    pub shards: BTreeMap<u32, ShardSign>,
    /// Points.
    pub points: u64,
    /// The config.
    pub config: Map<String, Value>,
    /// The payload indexes.
    pub payload: Value,
}

/// State of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardSign {
    /// The last operation that was written to its log.
    pub operation: u64,
    /// Segments, each with the last operation that it has taken in.
    pub segments: BTreeMap<String, u64>,
}

/// The change token of `collection` before whatever begins after this returns; or why there is none.
pub fn change_token(members: &Members, collection: &str) -> Result<Result<ChangeToken, String>> {
    token(
        members,
        collection,
        &*members.looks().before(&members.first)?,
    )
}

/// The same after what had ended at `moment`.
pub fn change_token_after(
    members: &Members,
    collection: &str,
    moment: Instant,
) -> Result<Result<ChangeToken, String>> {
    token(
        members,
        collection,
        &*members.looks().after(&members.first, moment)?,
    )
}

fn token(
    members: &Members,
    collection: &str,
    telemetry: &Telemetry,
) -> Result<Result<ChangeToken, String>> {
    let lineage = match lineage(members, collection, &OwnRestores::new(), telemetry) {
        Ok(lineage) => lineage,
        Err(Unfit::Why(why)) => return Ok(Err(why)),
        Err(Unfit::Failed(err)) => return Err(err),
    };
    let observation = observe(members, collection)?;
    if !observation.info.is_green() || observation.info.queued() > 0 {
        return Ok(Err(format!(
            "it is {}, not at rest",
            observation.info.status
        )));
    }
    if !observation
        .optimizations
        .values()
        .all(|told| told.is_idle())
        || observation.optimizations.is_empty()
    {
        return Ok(Err(
            "optimizers work on it, or the server does not tell".into()
        ));
    }
    let mut shards = BTreeMap::new();
    for shard in observation.plan.shards() {
        let Some(&operation) = lineage.operations.get(&shard) else {
            return Ok(Err(format!(
                "the server does not tell how far the log of shard {shard} is"
            )));
        };
        let Some(manifest) = members.first.segments(collection, shard)? else {
            return Ok(Err(format!(
                "the server does not tell the segments of shard {shard}"
            )));
        };
        // Of their files it tells too how far they are on the disk, which changes by itself.
        let segments = manifest.segments.into_values();
        let segments = segments
            .map(|segment| (segment.segment_id, segment.segment_version))
            .collect();
        shards.insert(
            shard,
            ShardSign {
                operation,
                segments,
            },
        );
    }
    let payload = observation.info.payload_schema(collection)?;
    Ok(Ok(ChangeToken {
        process: lineage.process,
        restores: lineage.restores,
        shards,
        points: observation.points,
        config: observation.info.config,
        payload: serde_json::to_value(payload.fields()).unwrap_or_default(),
    }))
}
