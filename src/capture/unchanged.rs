//! Change token of a collection: tells, without a snapshot, that nothing was written since its capture.
//!
//! A server numbers the operations of each shard, and tells the last number (`update_queue.op_num` of
//! its telemetry); and it tells the segments with their versions (the manifest of partial snapshots).
//! Neither is enough: whoever restores an older snapshot over a collection and then writes as often as
//! was written before comes to the same numbers in the same segments, with other points (seen with
//! Qdrant 1.19.0). So the change token holds only for one life of the server process, and only while nothing
//! was restored in it, which it counts; a restore of snapmerge's own is told apart by its count.
//!
//! Invariants: a change token is given only where every part of it is known, of a server that stands alone and
//! a collection at rest; two that are equal mean the same points; whatever is not known is a reason to
//! capture again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::observe::{Members, observe};
use crate::base::error::Result;

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

/// The change token of `collection` at this moment; or why there is none.
pub fn change_token(members: &Members, collection: &str) -> Result<Result<ChangeToken, String>> {
    let first = &members.first;
    let Some(cluster) = first.cluster_if_told()? else {
        return Ok(Err(
            "the server does not tell this key whether it is one of a cluster".into(),
        ));
    };
    if cluster.peer_ids().len() > 1 || !members.others.is_empty() {
        return Ok(Err(
            "the server is one of a cluster, whose members restore from each other".into(),
        ));
    }
    let activity = first.activity(collection)?;
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
    let (Some(process), Some(restores)) = (activity.process, activity.restores) else {
        return Ok(Err(
            "the server does not tell what it was asked for so far".into()
        ));
    };
    if activity.restoring > 0 {
        return Ok(Err("a snapshot is being restored to it".into()));
    }
    let mut shards = BTreeMap::new();
    for shard in observation.plan.shards() {
        let Some(operation) = activity.operations.get(&shard).copied().flatten() else {
            return Ok(Err(format!(
                "the server does not tell how far the log of shard {shard} is"
            )));
        };
        let Some(segments) = first.segments(collection, shard)? else {
            return Ok(Err(format!(
                "the server does not tell the segments of shard {shard}"
            )));
        };
        // Of their files it tells too how far they are on the disk, which changes by itself.
        let segments = segments.as_object().into_iter().flatten();
        let versions: Option<BTreeMap<String, u64>> = segments
            .map(|(id, told)| Some((id.clone(), told["segment_version"].as_u64()?)))
            .collect();
        let Some(segments) = versions else {
            return Ok(Err(format!(
                "the server does not tell the versions of the segments of shard {shard}"
            )));
        };
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
        process,
        restores,
        shards,
        points: observation.points,
        config: observation.info.config,
        payload: serde_json::to_value(payload.fields()).unwrap_or_default(),
    }))
}
