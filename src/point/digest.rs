//! The digests of many records; `canonical.rs` has the specification.
//!
//! Invariants: a [`Digest`] does not depend on the order of records, so that shards and sources can
//! be digested side by side and added up; a [`StreamDigest`] does; neither depends on batches,
//! threads or the machine.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Record;
use super::canonical::{Hash, RecordHashes, hashes};
use crate::base::text::serde_as_text;

/// A number of hashes and their sum as 256-bit little-endian numbers, modulo 2^256.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    count: u64,
    lanes: [u64; 4],
}

impl Sum {
    fn add(&mut self, hash: &Hash) {
        self.count += 1;
        self.carry(lanes(hash));
    }

    fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.carry(other.lanes);
    }

    fn carry(&mut self, other: [u64; 4]) {
        let mut carry = false;
        for (lane, add) in self.lanes.iter_mut().zip(other) {
            let (sum, over) = lane.overflowing_add(add);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            *lane = sum;
            carry = over || over_again;
        }
    }
}

fn lanes(hash: &Hash) -> [u64; 4] {
    let mut lanes = [0; 4];
    let (words, _) = hash.as_chunks::<8>();
    for (lane, word) in lanes.iter_mut().zip(words) {
        *lane = u64::from_le_bytes(*word);
    }
    lanes
}

impl fmt::Display for Sum {
    /// `v2:COUNT:SUM`, the sum as 64 hexadecimal digits, its lowest byte first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v2:{}:", self.count)?;
        for byte in self.lanes.iter().flat_map(|lane| lane.to_le_bytes()) {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Sum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sum = |text: &str| {
            let (count, sum) = text.strip_prefix("v2:")?.split_once(':')?;
            let mut bytes = [0; 32];
            hex::decode_to_slice(sum, &mut bytes).ok()?;
            Some(Self {
                count: count.parse().ok()?,
                lanes: lanes(&bytes),
            })
        };
        sum(text).ok_or_else(|| format!("'{text}' is no digest of points"))
    }
}

serde_as_text!(Sum, "Sum", "v2:COUNT:SUM");

/// The digest of a set of records: of all of them, and of each part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Digest {
    /// Of whole records.
    points: Sum,
    /// Of the vectors by name.
    vectors: BTreeMap<String, Sum>,
    /// Of the payloads.
    payload: Sum,
}

impl Digest {
    /// Takes in one record; `buffer` is scratch that is used again, and holds the bytes that were
    /// hashed afterwards. Returns the record's hash.
    pub fn add(&mut self, record: &Record, buffer: &mut Vec<u8>) -> Hash {
        let hashes = hashes(record, buffer);
        self.add_hashed(record, &hashes);
        hashes.record
    }

    /// Takes in one record whose hashes are known.
    pub fn add_hashed(&mut self, record: &Record, hashes: &RecordHashes) {
        self.points.add(&hashes.record);
        self.payload.add(&hashes.payload);
        for ((name, _), hash) in record.vectors.iter().zip(&hashes.vectors) {
            match self.vectors.get_mut(name) {
                Some(sum) => sum.add(hash),
                None => self.vectors.entry(name.clone()).or_default().add(hash),
            }
        }
    }

    /// Takes in a set of other records.
    pub fn join(&mut self, other: &Self) {
        self.points.join(&other.points);
        self.payload.join(&other.payload);
        for (name, sum) in &other.vectors {
            self.vectors.entry(name.clone()).or_default().join(sum);
        }
    }

    /// Returns the number of records that were added.
    pub fn points(&self) -> u64 {
        self.points.count
    }

    /// In which parts it differs from another digest, in words; nothing if it is the same.
    pub fn differing(&self, other: &Self) -> Vec<String> {
        let mut parts = Vec::new();
        if self.points.count != other.points.count {
            parts.push(format!(
                "the number of points ({} and {})",
                self.points.count, other.points.count
            ));
        }
        let mut names: Vec<&String> = self.vectors.keys().chain(other.vectors.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            if self.vectors.get(name) != other.vectors.get(name) {
                parts.push(match name.as_str() {
                    "" => "the vectors".to_owned(),
                    name => format!("the vectors '{name}'"),
                });
            }
        }
        if self.payload != other.payload {
            parts.push("the payloads".to_owned());
        }
        if parts.is_empty() && self.points != other.points {
            parts.push("the shard keys of points".to_owned());
        }
        parts
    }
}

impl fmt::Display for Digest {
    /// The digest of whole records alone: `v2:POINTS:SUM`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.points.fmt(f)
    }
}

/// The digest of records that come in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct StreamDigest {
    hasher: blake3::Hasher,
    points: u64,
}

impl StreamDigest {
    /// Takes in the hash of the next record.
    pub fn add(&mut self, record: &Hash) {
        self.hasher.update(record);
        self.points += 1;
    }
}

impl fmt::Display for StreamDigest {
    /// `v2s:POINTS:HASH`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v2s:{}:{}", self.points, self.hasher.finalize().to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::ShardKey;
    use crate::point::{PointId, Vector};

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

    /// The test vectors of the specification, which other implementations are held to.
    #[test]
    fn the_test_vectors_hold() {
        let (mut whole, mut stream, mut buffer) =
            (Digest::default(), StreamDigest::default(), Vec::new());
        let mut lines = include_str!("DIGEST.md")
            .split("```jsonl\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .unwrap()
            .lines();
        let expected: Vec<&str> = include_str!("DIGEST.md")
            .split("```text\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .unwrap()
            .lines()
            .collect();
        let mut found = Vec::new();
        for line in lines.by_ref() {
            let record = Record::from_scrolled(&serde_json::from_str(line).unwrap()).unwrap();
            let hash = whole.add(&record, &mut buffer);
            stream.add(&hash);
            let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            found.push(hex);
        }
        assert_eq!(found.len(), 10);
        found.push(whole.to_string());
        found.push(stream.to_string());
        found.push(format!("payload {}", whole.payload));
        for (name, sum) in &whole.vectors {
            found.push(format!(
                "vector {} {sum}",
                serde_json::to_string(name).unwrap()
            ));
        }
        assert_eq!(found, expected, "{}", found.join("\n"));
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
        assert!(whole.differing(&joined).is_empty());
        let vector = |name: &str, vector: Vector| Record {
            vectors: vec![(name.into(), vector)],
            ..b.clone()
        };
        for (changed, parts) in [
            (record(3, r#"{"x":1}"#), "the vectors, the payloads"),
            (record(2, r#"{"x":1.0}"#), "the payloads"),
            (record(2, r#"{"x":"1"}"#), "the payloads"),
            (record(2, r#"{"y":1}"#), "the payloads"),
            (vector("", Vector::Dense(vec![1.0, 0.0])), "the vectors"),
            (
                vector("v", Vector::Dense(vec![1.0, -0.0])),
                "the vectors, the vectors 'v'",
            ),
            (
                vector(
                    "",
                    Vector::Multi {
                        dim: 2,
                        flat: vec![1.0, -0.0],
                    },
                ),
                "the vectors",
            ),
            (
                Record {
                    shard_key: Some(ShardKey::Number(1)),
                    ..b.clone()
                },
                "the shard keys of points",
            ),
        ] {
            let other = digest(&[a.clone(), changed.clone()]);
            assert_ne!(whole, other, "{changed:?}");
            assert_ne!(whole.to_string(), other.to_string(), "{changed:?}");
            assert_eq!(whole.differing(&other).join(", "), parts, "{changed:?}");
        }
        let twice = digest(&[a.clone(), b.clone(), a.clone()]);
        assert!(whole.differing(&twice)[0].contains("(2 and 3)"));
    }

    #[test]
    fn sums_carry() {
        let mut sum = Sum {
            count: 0,
            lanes: [u64::MAX; 4],
        };
        sum.carry([1, 0, 0, 0]);
        assert_eq!(sum.lanes, [0; 4]);
        sum.carry([u64::MAX, 0, 0, 0]);
        sum.carry([u64::MAX, 0, 0, 0]);
        assert_eq!(sum.lanes, [u64::MAX - 1, 1, 0, 0]);
    }
}
