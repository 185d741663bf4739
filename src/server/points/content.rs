//! Content of one request that writes points.
//!
//! Invariants: cut in halves it is the same points, each once.

use qdrant_client::qdrant as proto;
use serde_json::Value;

use super::convert::id_from;
use crate::point::ShardKey;

#[derive(Clone)]
pub(super) enum Content {
    Grpc {
        points: Vec<proto::PointStruct>,
        key: Option<ShardKey>,
    },
    /// Points that gRPC cannot hold.
    Rest {
        points: Vec<Value>,
        key: Option<ShardKey>,
    },
    /// Nothing, to set a mark after what was sent before.
    Nothing,
}

impl Content {
    /// Returns the number of points.
    pub fn points(&self) -> usize {
        match self {
            Self::Grpc { points, .. } => points.len(),
            Self::Rest { points, .. } => points.len(),
            Self::Nothing => 0,
        }
    }

    /// Splits the points into halves; of nothing, nothing twice.
    pub fn halves(self) -> (Self, Self) {
        match self {
            Self::Grpc { mut points, key } => {
                let second = points.split_off(points.len() / 2);
                let again = key.clone();
                (
                    Self::Grpc { points, key },
                    Self::Grpc {
                        points: second,
                        key: again,
                    },
                )
            }
            Self::Rest { mut points, key } => {
                let second = points.split_off(points.len() / 2);
                let again = key.clone();
                (
                    Self::Rest { points, key },
                    Self::Rest {
                        points: second,
                        key: again,
                    },
                )
            }
            Self::Nothing => (Self::Nothing, Self::Nothing),
        }
    }

    /// The id of its only point.
    pub fn only_id(&self) -> Option<String> {
        match self {
            Self::Grpc { points, .. } => match points.as_slice() {
                [one] => id_from(one.id.clone()).ok().map(|id| id.to_string()),
                _ => None,
            },
            Self::Rest { points, .. } => match points.as_slice() {
                [one] => one.get("id").map(ToString::to_string),
                _ => None,
            },
            Self::Nothing => None,
        }
    }
}
