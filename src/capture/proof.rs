//! State that the next capture of a collection can build on: its segments' versions, and the proof that they are of
//! one history.
//!
//! Invariants: the state before the first byte was asked for before it, and the state after the last byte
//! after it; whatever is not the same in both is not kept, or spoils all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::CaptureOptions;
use super::lineage::{Lineage, lineage};
use super::manifest::PartialState;
use super::unfit::Unfit;
use crate::base::error::Error;
use crate::format::ShardManifest;

/// Largest state that is kept for the next capture, in bytes: a hundred for each file of a segment.
const STATE_BYTES_MAX: usize = 16 << 20;

/// State of the server before the first byte.
pub struct Start {
    /// The collection's history.
    pub lineage: Lineage,
    collection_drops: Option<u64>,
}

/// Which look at the telemetry is the state before the first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TelemetryAge {
    /// A look of this capture's own.
    New,
    /// One that other collections share.
    Shared,
}

impl Start {
    /// The state of the server, before anything is read.
    pub fn of(request: &CaptureOptions<'_>, age: TelemetryAge) -> Result<Self, Unfit> {
        let members = request.members;
        let looks = members.looks();
        let look = match age {
            TelemetryAge::New => looks.after(&members.first, Instant::now())?,
            TelemetryAge::Shared => looks.before(&members.first)?,
        };
        Ok(Self {
            lineage: lineage(members, request.collection, request.own_restores, &look)?,
            collection_drops: look.collection_drops,
        })
    }
}

/// State that the next capture can build on, as long as nothing spoils it.
pub struct Base {
    /// State of the server before the first byte.
    pub start: Start,
    /// Shards of which nothing came, since the server said that they had not changed.
    pub unchanged: BTreeSet<u32>,
    /// The manifests of the shards.
    pub shards: BTreeMap<u32, ShardManifest>,
}

impl Base {
    /// Partial state to keep, now that all bytes are there since `read_until`.
    pub fn end(
        self,
        request: &CaptureOptions<'_>,
        read_until: Instant,
    ) -> Result<PartialState, Unfit> {
        let members = request.members;
        let look = members.looks().after(&members.first, read_until)?;
        let after = lineage(members, request.collection, request.own_restores, &look)?;
        let mut lineage = self.start.lineage;
        if let Some(why) = after.parts_from(&lineage) {
            return Err(why.into());
        }
        // One of the same name may have begun anew, and its log be as long by now.
        let is_same =
            self.start.collection_drops == look.collection_drops && look.collection_drops.is_some();
        if !is_same {
            lineage.operations.clear();
        }
        // What was written meanwhile is in it or not: its number is not known.
        lineage
            .operations
            .retain(|shard, operation| after.operations.get(shard) == Some(operation));
        let is_open = |shard: &&u32| !lineage.operations.contains_key(*shard);
        if let Some(shard) = self.unchanged.iter().find(is_open) {
            return Err(Unfit::from(format!(
                "the server said that nothing had changed in shard {shard}, and that is not certain: \
                 something was written to it, or a collection was removed, while it was captured"
            )));
        }
        let state = PartialState {
            lineage,
            shards: self.shards,
            base: None,
            increments: 0,
        };
        let bytes = serde_json::to_vec(&state)
            .map_err(|err| Error::failed("writing the manifest", err))?
            .len();
        match bytes <= STATE_BYTES_MAX {
            true => Ok(state),
            false => Err(Unfit::from(format!(
                "the manifests of its segments come to {bytes} bytes, and {STATE_BYTES_MAX} are kept"
            ))),
        }
    }
}
