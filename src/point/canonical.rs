//! The canonical bytes of a record and their hashes, as `DIGEST.md` specifies them.
//!
//! Invariants: equal records have equal bytes and different records different ones, whatever
//! library or machine wrote them.
//!
#![doc = include_str!("DIGEST.md")]

use std::io::Write as _;

use serde_json::{Map, Number, Value};

use super::{PointId, Record, Vector};
use crate::point::ShardKey;

/// The first byte of a vector's bytes.
const VECTOR: u8 = 1;
/// The first byte of a payload's bytes.
const PAYLOAD: u8 = 2;
/// The first byte of a record's bytes.
const RECORD: u8 = 3;

/// The hash of one part of a record, or of the whole.
pub type Hash = [u8; 32];

/// The hashes of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHashes {
    /// Of each vector, in the order of their names.
    pub vectors: Vec<Hash>,
    /// Of the payload.
    pub payload: Hash,
    /// Of all of it.
    pub record: Hash,
}

/// The hashes of `record`; `buffer` is scratch that is used again, and holds the bytes that were
/// hashed afterwards.
pub fn hashes(record: &Record, buffer: &mut Vec<u8>) -> RecordHashes {
    buffer.clear();
    let mut vectors = Vec::with_capacity(record.vectors.len());
    for (name, vector) in &record.vectors {
        let start = buffer.len();
        vector_bytes(record.id, name, vector, buffer);
        vectors.push(hash_from(buffer, start));
    }
    let start = buffer.len();
    buffer.push(PAYLOAD);
    id_bytes(record.id, buffer);
    object(&record.payload, buffer);
    let payload = hash_from(buffer, start);

    let start = buffer.len();
    buffer.push(RECORD);
    id_bytes(record.id, buffer);
    key_bytes(record.shard_key.as_ref(), buffer);
    length(record.vectors.len(), buffer);
    for ((name, _), hash) in record.vectors.iter().zip(&vectors) {
        text(name, buffer);
        buffer.extend_from_slice(hash);
    }
    buffer.extend_from_slice(&payload);
    let whole = hash_from(buffer, start);
    RecordHashes {
        vectors,
        payload,
        record: whole,
    }
}

fn hash_from(buffer: &[u8], start: usize) -> Hash {
    *blake3::hash(buffer.get(start..).unwrap_or_default()).as_bytes()
}

pub(super) fn id_bytes(id: PointId, out: &mut Vec<u8>) {
    match id {
        PointId::Num(num) => {
            out.push(0);
            out.extend_from_slice(&num.to_le_bytes());
        }
        PointId::Uuid(uuid) => {
            out.push(1);
            out.extend_from_slice(uuid.as_bytes());
        }
    }
}

fn key_bytes(key: Option<&ShardKey>, out: &mut Vec<u8>) {
    match key {
        None => out.push(0),
        Some(ShardKey::Number(number)) => {
            out.push(1);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Some(ShardKey::Word(word)) => {
            out.push(2);
            text(word, out);
        }
    }
}

fn vector_bytes(id: PointId, name: &str, vector: &Vector, out: &mut Vec<u8>) {
    out.push(VECTOR);
    id_bytes(id, out);
    text(name, out);
    match vector {
        Vector::Dense(values) => {
            out.push(0);
            length(values.len(), out);
            floats(values, out);
        }
        Vector::Sparse { indices, values } => {
            out.push(1);
            length(values.len(), out);
            sparse(indices, values, out);
        }
        Vector::Multi { dim, flat } => {
            out.push(2);
            length(*dim, out);
            length(flat.len(), out);
            floats(flat, out);
        }
    }
}

fn length(length: usize, out: &mut Vec<u8>) {
    // Qdrant's own limits (65 535 dimensions, 32 MiB a request) are far below.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn text(text: &str, out: &mut Vec<u8>) {
    length(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

fn floats(values: &[f32], out: &mut Vec<u8>) {
    out.reserve(values.len() * 4);
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn sparse(indices: &[u32], values: &[f32], out: &mut Vec<u8>) {
    let mut put = |(index, value): (&u32, &f32)| {
        out.extend_from_slice(&index.to_le_bytes());
        out.extend_from_slice(&value.to_le_bytes());
    };
    let pairs = indices.iter().zip(values);
    if indices.is_sorted() {
        pairs.for_each(put);
    } else {
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_by_key(|(index, _)| **index);
        pairs.into_iter().for_each(&mut put);
    }
}

/// Appends the canonical JSON of an object.
pub fn object(map: &Map<String, Value>, out: &mut Vec<u8>) {
    let mut entries: Vec<(&String, &Value)> = map.iter().collect();
    // In order already, unless some crate asks serde_json to keep the order of insertion.
    entries.sort_unstable_by_key(|(key, _)| *key);
    out.push(b'{');
    for (at, (key, value)) in entries.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        string(key, out);
        out.push(b':');
        json(value, out);
    }
    out.push(b'}');
}

fn json(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => numeral(number, out),
        Value::String(text) => string(text, out),
        Value::Array(values) => {
            out.push(b'[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                json(value, out);
            }
            out.push(b']');
        }
        Value::Object(map) => object(map, out),
    }
}

fn numeral(number: &Number, out: &mut Vec<u8>) {
    // Writing into memory cannot fail.
    let _ = match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(whole), _, _) => write!(out, "{whole}"),
        (None, Some(whole), _) => write!(out, "{whole}"),
        (None, None, Some(float)) => write!(out, "{float:e}"),
        (None, None, None) => write!(out, "{number}"),
    };
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            0x00..=0x1f => {
                let _ = write!(out, "\\u{byte:04x}");
            }
            other => out.push(other),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(json: &str) -> String {
        let mut out = Vec::new();
        object(&serde_json::from_str(json).unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn payloads_are_written_as_specified() {
        for (json, want) in [
            ("{}", "{}"),
            (r#"{ "b" : 1, "a" : [ ] }"#, r#"{"a":[],"b":1}"#),
            (r#"{"é":1,"z":2,"Z":3}"#, r#"{"Z":3,"z":2,"é":1}"#),
            (
                r#"{"n":[18446744073709551615,-9223372036854775808,9007199254740993]}"#,
                r#"{"n":[18446744073709551615,-9223372036854775808,9007199254740993]}"#,
            ),
            (
                r#"{"f":[1.0,1.5,-0.0,0.1,100.0,1e-7,1e300,123456.789]}"#,
                r#"{"f":[1e0,1.5e0,-0e0,1e-1,1e2,1e-7,1e300,1.23456789e5]}"#,
            ),
            (
                r#"{"s":"a\"\\\/\b\f\n\r\t\u0001\u007f\u00e9\ud83d\ude00"}"#,
                "{\"s\":\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\u{7f}é😀\"}",
            ),
            (
                r#"{"x":{"d":null,"c":[true,false,{"k":1}]}}"#,
                r#"{"x":{"c":[true,false,{"k":1}],"d":null}}"#,
            ),
        ] {
            assert_eq!(canonical(json), want, "{json}");
        }
    }

    #[test]
    fn the_bytes_are_as_specified() {
        let record = Record {
            id: PointId::Num(258),
            vectors: vec![
                (String::new(), Vector::Dense(vec![1.0, -0.0])),
                (
                    "s".into(),
                    Vector::Sparse {
                        indices: vec![7, 2],
                        values: vec![1.0, 2.0],
                    },
                ),
            ],
            payload: serde_json::from_str(r#"{"a":1}"#).unwrap(),
            shard_key: Some(ShardKey::Word("k".into())),
        };
        let mut bytes = Vec::new();
        let found = hashes(&record, &mut bytes);
        let id = [0, 2, 1, 0, 0, 0, 0, 0, 0];
        let mut dense = vec![1];
        dense.extend(id);
        dense.extend([0, 0, 0, 0, 0, 2, 0, 0, 0]);
        dense.extend([0, 0, 0x80, 0x3f, 0, 0, 0, 0x80]);
        let mut sparse = vec![1];
        sparse.extend(id);
        sparse.extend([1, 0, 0, 0, b's', 1, 2, 0, 0, 0]);
        sparse.extend([2, 0, 0, 0, 0, 0, 0, 0x40, 7, 0, 0, 0, 0, 0, 0x80, 0x3f]);
        let mut payload = vec![2];
        payload.extend(id);
        payload.extend(br#"{"a":1}"#);
        let hash = |bytes: &[u8]| *blake3::hash(bytes).as_bytes();
        let mut whole = vec![3];
        whole.extend(id);
        whole.extend([2, 1, 0, 0, 0, b'k', 2, 0, 0, 0]);
        whole.extend([0, 0, 0, 0]);
        whole.extend(hash(&dense));
        whole.extend([1, 0, 0, 0, b's']);
        whole.extend(hash(&sparse));
        whole.extend(hash(&payload));
        assert_eq!(
            bytes,
            [
                dense.clone(),
                sparse.clone(),
                payload.clone(),
                whole.clone()
            ]
            .concat()
        );
        assert_eq!(
            found,
            RecordHashes {
                vectors: vec![hash(&dense), hash(&sparse)],
                payload: hash(&payload),
                record: hash(&whole),
            }
        );
    }
}
