//! The canonical bytes of a record, and the digest of many.
//!
//! The bytes (version 1), all numbers little-endian:
//!
//! | part | bytes |
//! |---|---|
//! | id | `00` and a u64, or `01` and the 16 bytes of the UUID |
//! | shard key | `00` for none, `01` and a u64, or `02` and a text |
//! | vectors | u32 count, then each by name ascending: its name as a text, then a kind |
//! | kind dense | `00`, u32 length, that many f32 |
//! | kind sparse | `01`, u32 length, that many pairs of u32 index and f32 value, by index |
//! | kind multi | `02`, u32 dimensions, u32 number of values, that many f32 |
//! | payload | its canonical JSON as a text |
//!
//! A text is a u32 length in bytes and UTF-8. Canonical JSON has no white space and its objects'
//! keys in the order of their bytes; an integer is written as such, a float in the shortest form
//! that reads back as the same 64 bits; strings are escaped as `serde_json` does it. Floats of
//! vectors are their bits: -0.0 is not 0.0.
//!
//! Keeps true: equal records have equal bytes and different records different ones; the digest of a
//! set of records does not depend on their order, so that shards can be digested side by side and
//! added up.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{PointId, Record, Vector};
use crate::schema::ShardKey;

/// Appends the canonical bytes of `record` to `out`.
pub fn canonical(record: &Record, out: &mut Vec<u8>) {
    match record.id {
        PointId::Num(num) => {
            out.push(0);
            out.extend(num.to_le_bytes());
        }
        PointId::Uuid(uuid) => {
            out.push(1);
            out.extend(uuid.as_bytes());
        }
    }
    match &record.shard_key {
        None => out.push(0),
        Some(ShardKey::Number(number)) => {
            out.push(1);
            out.extend(number.to_le_bytes());
        }
        Some(ShardKey::Word(word)) => {
            out.push(2);
            text(word.as_bytes(), out);
        }
    }
    length(record.vectors.len(), out);
    for (name, vector) in &record.vectors {
        text(name.as_bytes(), out);
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
    let start = out.len();
    length(0, out);
    object(&record.payload, out);
    let bytes = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(slot) = out.get_mut(start..start + 4) {
        slot.copy_from_slice(&bytes.to_le_bytes());
    }
}

fn length(length: usize, out: &mut Vec<u8>) {
    // Qdrant's own limits (65 535 dimensions, 32 MiB a request) are far below.
    out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn text(bytes: &[u8], out: &mut Vec<u8>) {
    length(bytes.len(), out);
    out.extend(bytes);
}

fn floats(values: &[f32], out: &mut Vec<u8>) {
    out.reserve(values.len() * 4);
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn sparse(indices: &[u32], values: &[f32], out: &mut Vec<u8>) {
    let mut pairs: Vec<(u32, f32)> = indices
        .iter()
        .copied()
        .zip(values.iter().copied())
        .collect();
    pairs.sort_by_key(|(index, _)| *index);
    for (index, value) in pairs {
        out.extend(index.to_le_bytes());
        out.extend(value.to_le_bytes());
    }
}

fn object(map: &serde_json::Map<String, Value>, out: &mut Vec<u8>) {
    let mut keys: Vec<&String> = map.keys().collect();
    keys.sort_unstable();
    out.push(b'{');
    for (at, key) in keys.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        scalar(&Value::String(key.clone()), out);
        out.push(b':');
        json(map.get(key).unwrap_or(&Value::Null), out);
    }
    out.push(b'}');
}

fn json(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => object(map, out),
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
        scalar_value => scalar(scalar_value, out),
    }
}

fn scalar(value: &Value, out: &mut Vec<u8>) {
    // Writing a value without custom code into memory cannot fail.
    let _ = serde_json::to_writer(out, value);
}

/// The digest of a set of records: their number, and the sum of their canonical bytes' BLAKE3
/// hashes as 256-bit little-endian numbers, modulo 2^256.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    points: u64,
    sum: [u64; 4],
}

impl Digest {
    /// Takes in one record; `buffer` is scratch that is used again.
    pub fn add(&mut self, record: &Record, buffer: &mut Vec<u8>) {
        buffer.clear();
        canonical(record, buffer);
        self.points += 1;
        self.carry(lanes(blake3::hash(buffer).as_bytes()));
    }

    /// Takes in a set of other records.
    pub fn join(&mut self, other: &Self) {
        self.points += other.points;
        self.carry(other.sum);
    }

    /// How many records were taken in.
    pub fn points(&self) -> u64 {
        self.points
    }

    fn carry(&mut self, other: [u64; 4]) {
        let mut carry = false;
        for (lane, add) in self.sum.iter_mut().zip(other) {
            let (sum, over) = lane.overflowing_add(add);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            *lane = sum;
            carry = over || over_again;
        }
    }
}

fn lanes(hash: &[u8; 32]) -> [u64; 4] {
    let mut lanes = [0; 4];
    let (words, _) = hash.as_chunks::<8>();
    for (lane, word) in lanes.iter_mut().zip(words) {
        *lane = u64::from_le_bytes(*word);
    }
    lanes
}

impl fmt::Display for Digest {
    /// `v1:POINTS:SUM`, the sum as 64 hexadecimal digits, its lowest byte first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1:{}:", self.points)?;
        for byte in self.sum.iter().flat_map(|lane| lane.to_le_bytes()) {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64, payload: &str) -> Record {
        Record {
            id: PointId::Num(id),
            vectors: vec![(String::new(), Vector::Dense(vec![1.0, -0.0]))],
            payload: serde_json::from_str(payload).unwrap(),
            shard_key: None,
        }
    }

    fn digest(records: &[Record]) -> Digest {
        let mut digest = Digest::default();
        let mut buffer = Vec::new();
        for record in records {
            digest.add(record, &mut buffer);
        }
        digest
    }

    #[test]
    fn the_bytes_are_as_specified() {
        let mut out = Vec::new();
        canonical(&record(258, r#"{"b":1.5,"a":[null,"é"]}"#), &mut out);
        let mut expected = vec![0, 2, 1, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
        expected.extend([0, 0, 0x80, 0x3f, 0, 0, 0, 0x80]);
        let json = r#"{"a":[null,"é"],"b":1.5}"#.as_bytes();
        expected.extend([u8::try_from(json.len()).unwrap(), 0, 0, 0]);
        expected.extend(json);
        assert_eq!(out, expected);
    }

    #[test]
    fn order_does_not_matter_and_content_does() {
        let a = record(1, "{}");
        let b = record(2, r#"{"x":1}"#);
        let whole = digest(&[a.clone(), b.clone()]);
        assert_eq!(whole, digest(&[b.clone(), a.clone()]));
        let mut joined = digest(std::slice::from_ref(&a));
        joined.join(&digest(std::slice::from_ref(&b)));
        assert_eq!(whole, joined);
        for changed in [
            record(3, r#"{"x":1}"#),
            record(2, r#"{"x":1.0}"#),
            record(2, r#"{"x":"1"}"#),
            record(2, r#"{"y":1}"#),
            Record {
                vectors: vec![(String::new(), Vector::Dense(vec![1.0, 0.0]))],
                ..b.clone()
            },
            Record {
                vectors: vec![("v".into(), Vector::Dense(vec![1.0, -0.0]))],
                ..b.clone()
            },
            Record {
                vectors: vec![(
                    String::new(),
                    Vector::Multi {
                        dim: 2,
                        flat: vec![1.0, -0.0],
                    },
                )],
                ..b.clone()
            },
            Record {
                shard_key: Some(ShardKey::Number(1)),
                ..b.clone()
            },
        ] {
            assert_ne!(whole, digest(&[a.clone(), changed.clone()]), "{changed:?}");
        }
        assert_ne!(whole, digest(&[a.clone(), b.clone(), a.clone()]));
    }

    #[test]
    fn sums_carry() {
        let mut digest = Digest {
            points: 0,
            sum: [u64::MAX; 4],
        };
        digest.carry([1, 0, 0, 0]);
        assert_eq!(digest.sum, [0; 4]);
        digest.carry([u64::MAX, 0, 0, 0]);
        digest.carry([u64::MAX, 0, 0, 0]);
        assert_eq!(digest.sum, [u64::MAX - 1, 1, 0, 0]);
    }
}
