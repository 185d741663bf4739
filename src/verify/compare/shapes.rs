//! The shards of a master's file: how many points each of their segments has, and whether one has two
//! of the same.
//!
//! Invariants: an older copy beside a newer one is no finding, a server keeps the newer one when it
//! loads them; two that are equally new are one, be they the same or not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::point::{Identity, Sample, ShardKey};
use crate::source::{ShardIds, Source, Spill};
use crate::stream::Ledger;
use crate::verify::difference::{Difference, Wrong};

/// A shard of the master.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ShardShape {
    /// Number of the shard.
    pub shard: u32,
    /// Shard key, with custom sharding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<ShardKey>,
    /// Number of points.
    pub points: u64,
    /// The points of each of its segments, older copies included, the largest first; nothing of a live
    /// collection, which does not tell them.
    pub segments: Vec<u64>,
}

/// The shards of `master`, which was opened with its id trackers; and how many points, of the `sample`
/// if there is one, lie twice in one of them.
pub fn shapes(
    master: &Source,
    sample: Option<Sample>,
    ledger: &mut Ledger<Difference>,
    spill: &Spill,
) -> Result<(Vec<ShardShape>, u64)> {
    let mut shapes = Vec::new();
    let mut doubled = 0;
    for (number, shard) in &master.snapshot.shards {
        let what = format!("shard {number} of {}", master.snapshot.what());
        let (held, counts) = ShardIds::of(shard, &what, spill)?;
        if !held.is_whole() {
            return Err(Error::usage(
                format!("verifying {}", master.snapshot.what()),
                format!("segments of shard {number} keep their ids in RocksDB, and no master does"),
            )
            .next("merge it first: snapmerge merge FILE -o MASTER"));
        }
        let uuids: Vec<_> = shard.segments.keys().collect();
        let key = master.shard_keys.key_of(*number);
        let mut points = 0;
        held.walk(|span| {
            points += span.count();
            let having = span.having();
            if having.len() < 2 {
                return Ok(());
            }
            for (place, id) in span.ids() {
                let newest = having.iter().map(|one| one.version(place)).max();
                let newest = newest.unwrap_or(0);
                let newer = having.iter().filter(|one| one.version(place) == newest);
                if newer.clone().count() < 2 || sample.is_some_and(|sample| !sample.keeps(id)) {
                    continue;
                }
                doubled += 1;
                let segments = newer.filter_map(|one| uuids.get(one.segment).copied().copied());
                let what = Wrong::Doubled {
                    shard: *number,
                    segments: segments.collect(),
                    version: newest,
                };
                let id = Identity {
                    id,
                    shard_key: key.cloned(),
                };
                ledger.add(Difference { id, what })?;
            }
            Ok(())
        })?;
        let mut segments: Vec<u64> = counts.values().map(|counts| counts.points).collect();
        segments.sort_unstable_by(|a, b| b.cmp(a));
        shapes.push(ShardShape {
            shard: *number,
            key: key.cloned(),
            points,
            segments,
        });
    }
    Ok((shapes, doubled))
}
