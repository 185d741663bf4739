//! Point ids and their order.
//!
//! Invariants: the order is Qdrant's own scroll order, all numbers before all UUIDs
//! (`ExtendedPointId` in lib/segment/src/types.rs).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of a point: an unsigned 64-bit number or a UUID.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(from = "Form", into = "Form")]
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

/// A [`PointId`] in JSON.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Form {
    /// An unsigned 64-bit number.
    Num(u64),
    /// A UUID.
    Uuid(Uuid),
}

impl From<Form> for PointId {
    fn from(form: Form) -> Self {
        match form {
            Form::Num(num) => Self::Num(num),
            Form::Uuid(uuid) => Self::Uuid(uuid),
        }
    }
}

impl From<PointId> for Form {
    fn from(id: PointId) -> Self {
        match id {
            PointId::Num(num) => Self::Num(num),
            PointId::Uuid(uuid) => Self::Uuid(uuid),
        }
    }
}
