//! Between our records and those of Qdrant's gRPC and REST interfaces.
//!
//! gRPC cannot hold everything: whole numbers above 2^63 - 1 come and go as floats, and messages nest a
//! hundred deep at most, three for each level of a payload. Such records are known here, and go by REST.
//!
//! Invariants: over gRPC nothing is lost or computed on the way, in either direction; what cannot be
//! told from something else is not guessed at.

use std::collections::HashMap;

use qdrant_client::qdrant as proto;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::shard_key::Key;
use qdrant_client::qdrant::value::Kind as Form;
use qdrant_client::qdrant::{vector, vector_output, vectors, vectors_output};
use serde_json::{Map, Number, Value};
use uuid::Uuid;

use crate::point::ShardKey;
use crate::point::{PointId, Record, Vector};
use crate::server::answers::ServerVersion;

/// Levels of a payload that surely fit into a message.
const LEVELS_MAX: usize = 24;
/// From here on a float may have been a whole number that gRPC does not have.
const WHOLE_BEYOND: f64 = 9_223_372_036_854_775_808.0;
/// There are no whole numbers from here on.
const NO_WHOLE: f64 = 18_446_744_073_709_551_616.0;

/// A record from gRPC, and whether a number of its payload may have been another one.
#[derive(Debug, PartialEq)]
pub(super) struct Converted {
    pub record: Record,
    pub unsure: bool,
}

/// gRPC's id for ours.
pub(super) fn id_to(id: PointId) -> proto::PointId {
    proto::PointId {
        point_id_options: Some(match id {
            PointId::Num(num) => PointIdOptions::Num(num),
            PointId::Uuid(uuid) => PointIdOptions::Uuid(uuid.to_string()),
        }),
    }
}

/// Our id for gRPC's.
pub(super) fn id_from(id: Option<proto::PointId>) -> Result<PointId, String> {
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Num(num)) => Ok(PointId::Num(num)),
        Some(PointIdOptions::Uuid(text)) => Uuid::try_parse(&text)
            .map(PointId::Uuid)
            .map_err(|_| format!("'{text}' is no UUID")),
        None => Err("a point came without an id".into()),
    }
}

/// gRPC's shard key for ours.
pub(super) fn key_to(key: &ShardKey) -> proto::ShardKey {
    proto::ShardKey {
        key: Some(match key {
            ShardKey::Number(number) => Key::Number(*number),
            ShardKey::Word(word) => Key::Keyword(word.clone()),
        }),
    }
}

/// Returns the selector of the shards under `key`.
pub(super) fn selector(key: Option<&ShardKey>) -> Option<proto::ShardKeySelector> {
    key.map(|key| proto::ShardKeySelector {
        shard_keys: vec![key_to(key)],
        fallback: None,
    })
}

fn key_from(key: proto::ShardKey) -> Option<ShardKey> {
    Some(match key.key? {
        Key::Number(number) => ShardKey::Number(number),
        Key::Keyword(word) => ShardKey::Word(word),
    })
}

/// Returns true if gRPC can hold the record as it is.
pub(super) fn fits(record: &Record) -> bool {
    record.payload.values().all(|value| value_fits(value, 1))
}

fn value_fits(value: &Value, level: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => number.is_i64() || !number.is_u64(),
        _ if level >= LEVELS_MAX => false,
        Value::Array(values) => values.iter().all(|value| value_fits(value, level + 1)),
        Value::Object(map) => map.values().all(|value| value_fits(value, level + 1)),
    }
}

/// The first server that knows a message for each kind of vector (`Vector.vector` in
/// lib/api/src/grpc/proto/points.proto, whole since 1.12.2); older ones take such a vector for an empty one.
const VECTOR_MESSAGES: ServerVersion = (1, 13, 0);

/// Form in which a server expects vectors over gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VectorForm {
    /// A message for each kind.
    Messages,
    /// All floats in one list, with indices or a number of rows beside it.
    Flat,
}

impl VectorForm {
    /// The form for a server of `version`; today's if it does not tell one.
    pub(super) fn of(version: Option<ServerVersion>) -> Self {
        match version {
            Some(version) if version < VECTOR_MESSAGES => Self::Flat,
            _ => Self::Messages,
        }
    }
}

/// gRPC's point for our record, which [`fits`]; its shard key goes with the request.
pub(super) fn point_to(record: Record, form: VectorForm) -> proto::PointStruct {
    let vector_to = match form {
        VectorForm::Messages => vector_to,
        VectorForm::Flat => flat_vector_to,
    };
    let mut named = record.vectors;
    let options = match named.pop() {
        Some((name, only)) if name.is_empty() && named.is_empty() => {
            vectors::VectorsOptions::Vector(vector_to(only))
        }
        // A point without any vector has an empty map of them.
        last => vectors::VectorsOptions::Vectors(proto::NamedVectors {
            vectors: named
                .into_iter()
                .chain(last)
                .map(|(name, vector)| (name, vector_to(vector)))
                .collect(),
        }),
    };
    proto::PointStruct {
        id: Some(id_to(record.id)),
        payload: fields_to(record.payload),
        vectors: Some(proto::Vectors {
            vectors_options: Some(options),
        }),
    }
}

fn vector_to(vector: Vector) -> proto::Vector {
    let vector = match vector {
        Vector::Dense(data) => vector::Vector::Dense(proto::DenseVector { data }),
        Vector::Sparse { indices, values } => {
            vector::Vector::Sparse(proto::SparseVector { values, indices })
        }
        Vector::Multi { dim, flat } => vector::Vector::MultiDense(proto::MultiDenseVector {
            vectors: flat
                .chunks(dim.max(1))
                .map(|data| proto::DenseVector {
                    data: data.to_vec(),
                })
                .collect(),
        }),
    };
    proto::Vector {
        vector: Some(vector),
        ..proto::Vector::default()
    }
}

#[expect(
    deprecated,
    reason = "these fields are all that servers before 1.13 know"
)]
fn flat_vector_to(vector: Vector) -> proto::Vector {
    let (data, indices, vectors_count) = match vector {
        Vector::Dense(data) => (data, None, None),
        Vector::Sparse { indices, values } => {
            (values, Some(proto::SparseIndices { data: indices }), None)
        }
        // A row count beyond 32 bits fits into no message.
        Vector::Multi { dim, flat } => {
            let rows = u32::try_from(flat.len() / dim.max(1)).unwrap_or(u32::MAX);
            (flat, None, Some(rows))
        }
    };
    proto::Vector {
        data,
        indices,
        vectors_count,
        vector: None,
    }
}

fn fields_to(map: Map<String, Value>) -> HashMap<String, proto::Value> {
    map.into_iter()
        .map(|(key, value)| (key, value_to(value)))
        .collect()
}

fn value_to(value: Value) -> proto::Value {
    let kind = match value {
        Value::Null => Form::NullValue(0),
        Value::Bool(flag) => Form::BoolValue(flag),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Form::IntegerValue(whole),
            (None, Some(float)) => Form::DoubleValue(float),
            (None, None) => Form::NullValue(0),
        },
        Value::String(text) => Form::StringValue(text),
        Value::Array(values) => Form::ListValue(proto::ListValue {
            values: values.into_iter().map(value_to).collect(),
        }),
        Value::Object(map) => Form::StructValue(proto::Struct {
            fields: fields_to(map),
        }),
    };
    proto::Value { kind: Some(kind) }
}

/// Our record for gRPC's point.
pub(super) fn record_from(point: proto::RetrievedPoint) -> Result<Converted, String> {
    let id = id_from(point.id)?;
    let mut unsure = false;
    let payload =
        fields_from(point.payload, &mut unsure).map_err(|why| format!("point {id}: {why}"))?;
    let mut vectors = match point.vectors.and_then(|vectors| vectors.vectors_options) {
        None => Vec::new(),
        Some(vectors_output::VectorsOptions::Vector(one)) => {
            vec![(String::new(), vector_from(one))]
        }
        Some(vectors_output::VectorsOptions::Vectors(named)) => named
            .vectors
            .into_iter()
            .map(|(name, vector)| (name, vector_from(vector)))
            .collect(),
    };
    vectors.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Converted {
        record: Record {
            id,
            vectors,
            payload,
            shard_key: point.shard_key.and_then(key_from),
        },
        unsure,
    })
}

fn vector_from(vector: proto::VectorOutput) -> Vector {
    // Servers before 1.16 fill the older fields; this reads both.
    match vector.into_vector() {
        vector_output::Vector::Dense(dense) => Vector::Dense(dense.data),
        vector_output::Vector::MultiDense(multi) => {
            let dim = multi.vectors.first().map_or(0, |one| one.data.len());
            let mut flat = Vec::with_capacity(dim * multi.vectors.len());
            for one in multi.vectors {
                flat.extend(one.data);
            }
            Vector::Multi { dim, flat }
        }
        vector_output::Vector::Sparse(sparse) => Vector::sparse(sparse.indices, sparse.values),
    }
}

fn fields_from(
    fields: HashMap<String, proto::Value>,
    unsure: &mut bool,
) -> Result<Map<String, Value>, String> {
    let mut fields: Vec<(String, proto::Value)> = fields.into_iter().collect();
    // A message keeps no order of keys; this one is the same every time.
    fields.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    fields
        .into_iter()
        .map(|(key, value)| Ok((key, value_from(value, unsure)?)))
        .collect()
}

fn value_from(value: proto::Value, unsure: &mut bool) -> Result<Value, String> {
    Ok(match value.kind {
        None | Some(Form::NullValue(_)) => Value::Null,
        Some(Form::BoolValue(flag)) => Value::Bool(flag),
        Some(Form::IntegerValue(whole)) => Value::from(whole),
        Some(Form::DoubleValue(float)) => {
            *unsure |= (WHOLE_BEYOND..=NO_WHOLE).contains(&float);
            Value::Number(
                Number::from_f64(float).ok_or_else(|| format!("{float} is no JSON number"))?,
            )
        }
        Some(Form::StringValue(text)) => Value::String(text),
        Some(Form::ListValue(list)) => Value::Array(
            list.values
                .into_iter()
                .map(|value| value_from(value, unsure))
                .collect::<Result<_, _>>()?,
        ),
        Some(Form::StructValue(fields)) => Value::Object(fields_from(fields.fields, unsure)?),
    })
}

/// Puts whole numbers that gRPC made floats of back into `payload`; `exact` is the same payload
/// from REST. Everything else stays: floats are exact in gRPC, and JSON's reader may miss the last bit.
pub(super) fn mend(payload: &mut Map<String, Value>, exact: &Map<String, Value>) {
    for (key, value) in payload {
        if let Some(exact) = exact.get(key) {
            mend_value(value, exact);
        }
    }
}

fn mend_value(value: &mut Value, exact: &Value) {
    match (value, exact) {
        (Value::Object(map), Value::Object(exact)) => mend(map, exact),
        (Value::Array(values), Value::Array(exact)) => {
            for (value, exact) in values.iter_mut().zip(exact) {
                mend_value(value, exact);
            }
        }
        // Another number was written in between: that is another point already.
        (value @ Value::Number(_), Value::Number(whole))
            if whole.is_u64() && value.as_f64() == whole.as_f64() =>
        {
            *value = exact.clone();
        }
        _ => {}
    }
}

/// Our record for REST's point. A float of its payload may miss the last bit: the reader of JSON is
/// not exact for all of them.
pub(super) fn record_from_json(point: Value) -> Result<Record, String> {
    let Value::Object(mut point) = point else {
        return Err(format!("a point is an object, not {point}"));
    };
    let read = |part: &str, err: serde_json::Error| format!("the {part} of a point: {err}");
    let id: PointId = serde_json::from_value(point.remove("id").unwrap_or_default())
        .map_err(|err| read("id", err))?;
    let payload = match point.remove("payload") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(format!("point {id}: its payload is {other}")),
    };
    let wrong = || format!("point {id}: its vectors have no form that is known");
    let mut vectors = match point.remove("vector") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(named)) => named
            .into_iter()
            .map(|(name, vector)| Some((name, vector_from_json(vector)?)))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(wrong)?,
        Some(one) => vec![(String::new(), vector_from_json(one).ok_or_else(wrong)?)],
    };
    vectors.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let shard_key = match point.remove("shard_key") {
        None | Some(Value::Null) => None,
        Some(key) => Some(serde_json::from_value(key).map_err(|err| read("shard key", err))?),
    };
    Ok(Record {
        id,
        vectors,
        payload,
        shard_key,
    })
}

fn vector_from_json(vector: Value) -> Option<Vector> {
    match vector {
        Value::Array(values) if values.first().is_some_and(Value::is_array) => {
            let rows: Vec<Vec<f32>> = serde_json::from_value(Value::Array(values)).ok()?;
            let dim = rows.first().map_or(0, Vec::len);
            rows.iter()
                .all(|row| row.len() == dim)
                .then(|| Vector::Multi {
                    dim,
                    flat: rows.concat(),
                })
        }
        Value::Array(values) => serde_json::from_value(Value::Array(values))
            .ok()
            .map(Vector::Dense),
        Value::Object(mut sparse) => {
            let indices: Vec<u32> = serde_json::from_value(sparse.remove("indices")?).ok()?;
            let values: Vec<f32> = serde_json::from_value(sparse.remove("values")?).ok()?;
            (indices.len() == values.len()).then(|| Vector::sparse(indices, values))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
