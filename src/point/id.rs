//! Point ids and their order.
//!
//! Invariants: the order is Qdrant's own scroll order, all numbers before all UUIDs
//! (`ExtendedPointId` in lib/segment/src/types.rs).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The id of a point: an unsigned 64-bit number or a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PointId {
    /// A number; sorts before every UUID.
    Num(u64),
    /// A UUID; sorts by its bytes.
    Uuid(Uuid),
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Num(num) => write!(f, "{num}"),
            Self::Uuid(uuid) => write!(f, "{uuid}"),
        }
    }
}

impl FromStr for PointId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(num) = text.parse() {
            return Ok(Self::Num(num));
        }
        Uuid::try_parse(text)
            .map(Self::Uuid)
            .map_err(|_| format!("'{text}' is neither an unsigned number nor a UUID"))
    }
}

impl Serialize for PointId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Num(num) => serializer.serialize_u64(*num),
            Self::Uuid(uuid) => serializer.collect_str(uuid),
        }
    }
}

impl<'de> Deserialize<'de> for PointId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Num(u64),
            Uuid(Uuid),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Num(num) => Self::Num(num),
            Form::Uuid(uuid) => Self::Uuid(uuid),
        })
    }
}
