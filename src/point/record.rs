//! A record: one point with everything that belongs to it.
//!
//! Invariants: a record has its vectors in the order of their names and its payload as Qdrant gave
//! it, so two records of the same content are equal, byte for byte, in their canonical form and as
//! JSON.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::PointId;
use crate::point::ShardKey;

/// One vector of a point, as the engine returns it: 32-bit floats whatever it is stored as
/// (float16 and uint8 widen without loss).
#[derive(Debug, Clone, PartialEq)]
pub enum Vector {
    /// One value per dimension.
    Dense(Vec<f32>),
    /// Values at some indices; both of the same length.
    Sparse {
        /// Dimensions that are not zero, ascending.
        indices: Vec<u32>,
        /// Their values.
        values: Vec<f32>,
    },
    /// Several dense vectors of one size.
    Multi {
        /// Dimensions of each.
        dim: usize,
        /// All of them, one after the other.
        flat: Vec<f32>,
    },
}

impl Vector {
    /// A sparse vector of `values` at `indices`, which are of the same length and in any order.
    pub fn sparse(indices: Vec<u32>, values: Vec<f32>) -> Self {
        if indices.is_sorted() {
            return Self::Sparse { indices, values };
        }
        let mut pairs: Vec<(u32, f32)> = indices.into_iter().zip(values).collect();
        pairs.sort_by_key(|(index, _)| *index);
        let (indices, values) = pairs.into_iter().unzip();
        Self::Sparse { indices, values }
    }
}

/// One point.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Id of the point.
    pub id: PointId,
    /// Vectors by name, ascending; the unnamed vector has the empty name.
    pub vectors: Vec<(String, Vector)>,
    /// Payload, as Qdrant gave it.
    pub payload: Map<String, Value>,
    /// The shard key that it lies under, in a collection with custom sharding.
    pub shard_key: Option<ShardKey>,
}

impl Record {
    /// A point of which nothing but its id is known.
    pub fn bare(id: PointId) -> Self {
        Self {
            id,
            vectors: Vec::new(),
            payload: Map::new(),
            shard_key: None,
        }
    }

    /// About how many bytes the record takes in memory, for batches of bounded size.
    pub fn weight_bytes(&self) -> usize {
        let vectors: usize = self
            .vectors
            .iter()
            .map(|(name, vector)| {
                size_of::<(String, Vector)>()
                    + name.len()
                    + 4 * match vector {
                        Vector::Dense(values) | Vector::Multi { flat: values, .. } => values.len(),
                        Vector::Sparse { values, .. } => 2 * values.len(),
                    }
            })
            .sum();
        size_of::<Self>() + vectors + map_weight_bytes(&self.payload)
    }
}

/// Overhead of one heap allocation, in bytes.
const ALLOCATION: usize = 16;

/// Estimated heap size of a map in bytes. A small map takes far more than its content: it has room for more
/// entries, and each takes a hash and a slot in a table.
fn map_weight_bytes(map: &Map<String, Value>) -> usize {
    let slots = map.len().next_power_of_two().max(4);
    let entries: usize = map
        .iter()
        .map(|(key, value)| ALLOCATION + key.len() + weight_bytes(value))
        .sum();
    2 * ALLOCATION + slots * (size_of::<(usize, usize, String, Value)>()) + entries
}

/// Estimated heap size of a value in bytes.
fn weight_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => ALLOCATION + text.len(),
        Value::Array(values) => {
            let slots = values.len().next_power_of_two().max(4);
            let values: usize = values.iter().map(weight_bytes).sum();
            ALLOCATION + slots * size_of::<Value>() + values
        }
        Value::Object(map) => map_weight_bytes(map),
    }
}

impl Vector {
    /// Returns true if all values are finite; JSON can write no others.
    pub fn is_finite(&self) -> bool {
        let values = match self {
            Self::Dense(values) | Self::Sparse { values, .. } => values,
            Self::Multi { flat, .. } => flat,
        };
        values.iter().all(|value| value.is_finite())
    }
}

impl Record {
    /// Returns true if all values of the vectors are finite.
    pub fn is_finite(&self) -> bool {
        self.vectors.iter().all(|(_, vector)| vector.is_finite())
    }
}

/// A record in the shape of Qdrant's scroll answer (`Record` in lib/api/src/rest/schema.rs).
#[derive(Debug)]
pub struct AsScrolled<'a> {
    /// The record.
    pub record: &'a Record,
    /// True if the vectors are written.
    pub with_vectors: bool,
}

impl Serialize for AsScrolled<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.record;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &record.id)?;
        map.serialize_entry("payload", &record.payload)?;
        if self.with_vectors {
            match record.vectors.as_slice() {
                [(name, vector)] if name.is_empty() => map.serialize_entry("vector", vector)?,
                vectors => map.serialize_entry("vector", &ByName(vectors))?,
            }
        }
        if let Some(key) = &record.shard_key {
            map.serialize_entry("shard_key", key)?;
        }
        map.end()
    }
}

struct ByName<'a>(&'a [(String, Vector)]);

impl Serialize for ByName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, vector)| (name, vector)))
    }
}

impl Serialize for Vector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Dense(values) => values.serialize(serializer),
            Self::Multi { dim, flat } => serializer.collect_seq(flat.chunks((*dim).max(1))),
            Self::Sparse { indices, values } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("indices", indices)?;
                map.serialize_entry("values", values)?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_shown_as_the_server_shows_it() {
        let payload = serde_json::json!({"n": 9_007_199_254_740_993_u64});
        let Value::Object(payload) = payload else {
            unreachable!("an object")
        };
        let mut record = Record {
            id: PointId::Num(7),
            vectors: vec![(String::new(), Vector::Dense(vec![0.1, -2.0]))],
            payload,
            shard_key: None,
        };
        let line = |record: &Record, with_vectors| {
            serde_json::to_string(&AsScrolled {
                record,
                with_vectors,
            })
            .unwrap()
        };
        assert_eq!(
            line(&record, true),
            r#"{"id":7,"payload":{"n":9007199254740993},"vector":[0.1,-2.0]}"#
        );
        record.vectors = vec![
            (
                "m".into(),
                Vector::Multi {
                    dim: 2,
                    flat: vec![1.0, 2.0, 3.0, 4.0],
                },
            ),
            (
                "s".into(),
                Vector::Sparse {
                    indices: vec![3],
                    values: vec![0.5],
                },
            ),
        ];
        record.shard_key = Some(ShardKey::Number(2019));
        assert_eq!(
            line(&record, true),
            r#"{"id":7,"payload":{"n":9007199254740993},"vector":{"m":[[1.0,2.0],[3.0,4.0]],"s":{"indices":[3],"values":[0.5]}},"shard_key":2019}"#
        );
        assert_eq!(
            line(&record, false),
            r#"{"id":7,"payload":{"n":9007199254740993},"shard_key":2019}"#
        );
    }
}
