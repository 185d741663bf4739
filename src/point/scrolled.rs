//! Reading a point back from the shape of Qdrant's scroll answer.
//!
//! Invariants: what [`super::AsScrolled`] writes is read as the same record; anything else is
//! refused with what is wrong with it.

use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::{PointId, Record, Vector};
use crate::point::ShardKey;

impl Record {
    /// The record that a scroll answers as `point`, vectors included.
    pub fn from_scrolled(point: &Value) -> Result<Self, String> {
        let Value::Object(point) = point else {
            return Err("a point is an object".into());
        };
        let id = point.get("id").ok_or("it has no id")?;
        let id = PointId::deserialize(id).map_err(|err| format!("its id {id}: {err}"))?;
        let payload = match point.get("payload") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(payload)) => payload.clone(),
            Some(other) => return Err(format!("its payload is {other}")),
        };
        let mut vectors = match point.get("vector") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Object(named)) => named
                .iter()
                .map(|(name, vector)| Ok((name.clone(), Vector::from_json(vector)?)))
                .collect::<Result<Vec<_>, String>>()?,
            Some(unnamed) => vec![(String::new(), Vector::from_json(unnamed)?)],
        };
        vectors.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let shard_key = match point.get("shard_key") {
            None | Some(Value::Null) => None,
            Some(key) => Some(
                ShardKey::deserialize(key).map_err(|err| format!("its shard key {key}: {err}"))?,
            ),
        };
        Ok(Self {
            id,
            vectors,
            payload,
            shard_key,
        })
    }
}

impl Vector {
    /// The vector that `value` is in a scroll's answer.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::Array(rows) if rows.iter().any(Value::is_array) => {
                let mut dim = None;
                let mut flat = Vec::new();
                for row in rows {
                    let row = floats(row)?;
                    if *dim.get_or_insert(row.len()) != row.len() {
                        return Err("the vectors of a multivector differ in length".into());
                    }
                    flat.extend(row);
                }
                Ok(Self::Multi {
                    dim: dim.unwrap_or(0),
                    flat,
                })
            }
            Value::Array(_) => floats(value).map(Self::Dense),
            Value::Object(sparse) => {
                let indices = sparse.get("indices").ok_or("a vector has no indices")?;
                let indices = Vec::<u32>::deserialize(indices).map_err(|err| err.to_string())?;
                let values = floats(sparse.get("values").ok_or("a vector has no values")?)?;
                if indices.len() != values.len() {
                    return Err("a sparse vector has more indices than values, or fewer".into());
                }
                Ok(Self::sparse(indices, values))
            }
            other => Err(format!("a vector is {other}")),
        }
    }
}

fn floats(value: &Value) -> Result<Vec<f32>, String> {
    let Value::Array(values) = value else {
        return Err(format!("a list of numbers is {value}"));
    };
    values
        .iter()
        .map(|value| {
            #[expect(clippy::cast_possible_truncation, reason = "vectors are 32-bit floats")]
            value
                .as_f64()
                .map(|float| float as f32)
                .ok_or_else(|| format!("a number of a vector is {value}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::AsScrolled;

    #[test]
    fn what_is_written_is_read_back() {
        for line in [
            r#"{"id":7,"payload":{"n":9007199254740993},"vector":[0.1,-2.0]}"#,
            r#"{"id":7,"payload":{},"vector":{"m":[[1.0,2.0],[3.0,4.0]],"s":{"indices":[3],"values":[0.5]}},"shard_key":2019}"#,
            r#"{"id":"550e8400-e29b-41d4-a716-446655440000","payload":{"a":[null]},"vector":{},"shard_key":"2019"}"#,
        ] {
            let record = Record::from_scrolled(&serde_json::from_str(line).unwrap()).unwrap();
            let scrolled = AsScrolled {
                record: &record,
                with_vectors: true,
            };
            assert_eq!(serde_json::to_string(&scrolled).unwrap(), line);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for line in [
            "[]",
            "{}",
            r#"{"id":-1}"#,
            r#"{"id":1,"payload":[]}"#,
            r#"{"id":1,"vector":"x"}"#,
            r#"{"id":1,"vector":[1,"x"]}"#,
            r#"{"id":1,"vector":[[1],[1,2]]}"#,
            r#"{"id":1,"vector":{"s":{"indices":[1,2],"values":[1]}}}"#,
            r#"{"id":1,"shard_key":1.5}"#,
        ] {
            let value = serde_json::from_str(line).unwrap();
            assert!(Record::from_scrolled(&value).is_err(), "{line}");
        }
    }
}
