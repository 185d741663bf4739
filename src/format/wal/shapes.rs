//! The parts of the log's operations that hold ids or names, and nothing else of them.
//!
//! Invariants: whatever is not named here is passed over, so that new fields do no harm; an id is
//! a number or a UUID, or the entry is refused.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use uuid::Uuid;

use crate::point::PointId;

/// `PointInsertOperationsInternal` in lib/shard/src/operations/point_ops.rs.
#[derive(Deserialize)]
pub(super) struct Insert {
    #[serde(default)]
    pub(super) points: Option<Vec<Point>>,
    #[serde(default)]
    pub(super) batch: Option<Ids>,
}

#[derive(Deserialize)]
pub(super) struct Conditional {
    pub(super) points_op: Insert,
}

#[derive(Deserialize)]
pub(super) struct Points {
    pub(super) points: Vec<Point>,
}

#[derive(Deserialize)]
pub(super) struct Point {
    id: Id,
}

#[derive(Deserialize)]
pub(super) struct Ids {
    pub(super) ids: Vec<Id>,
}

/// Points by id, or `None` by filter.
#[derive(Deserialize)]
pub(super) struct Selected {
    #[serde(default)]
    pub(super) points: Option<Vec<Id>>,
}

#[derive(Deserialize)]
pub(super) struct Field {
    pub(super) field_name: String,
}

#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) vector_name: String,
}

/// An id as the log has it: a number, or the 16 bytes of a UUID (CBOR is not for human readers);
/// its text too, for logs written by other means.
pub(super) struct Id(PointId);

impl From<Point> for Id {
    fn from(point: Point) -> Self {
        point.id
    }
}

pub(super) fn plain<T: Into<Id>>(ids: Vec<T>) -> Vec<PointId> {
    ids.into_iter().map(|id| id.into().0).collect()
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;

        impl Visitor<'_> for Forms {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the id of a point")
            }

            fn visit_u64<E: serde::de::Error>(self, num: u64) -> Result<Id, E> {
                Ok(Id(PointId::Num(num)))
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Id, E> {
                let uuid = Uuid::from_slice(bytes).map_err(E::custom)?;
                Ok(Id(PointId::Uuid(uuid)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Id, E> {
                let uuid = Uuid::try_parse(text).map_err(E::custom)?;
                Ok(Id(PointId::Uuid(uuid)))
            }
        }

        deserializer.deserialize_any(Forms)
    }
}
