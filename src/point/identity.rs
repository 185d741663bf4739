//! The identity of a point: its id, and with custom sharding the shard key that it lies under.
//!
//! Qdrant keeps ids unique within a shard key only: tenants number their points from 1, each for
//! itself, and two points with one id under two keys are two points.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PointId, ShardKey};

/// The identity of a point; ordered by id, then by key.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Identity {
    /// The id.
    pub id: PointId,
    /// The shard key, where keys tell points apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_key: Option<ShardKey>,
}

impl From<PointId> for Identity {
    fn from(id: PointId) -> Self {
        Self {
            id,
            shard_key: None,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shard_key {
            None => self.id.fmt(f),
            Some(key) => write!(f, "{} under {key}", self.id),
        }
    }
}
