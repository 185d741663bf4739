//! Comparing two records, bit by bit.
//!
//! Invariants: two records are told to be the same here if and only if their canonical bytes are;
//! what differs is named by vector and by payload key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Record, Vector};

/// In what two records of one id differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Differing {
    /// Names of vectors that only one has, or that differ; the unnamed one has the empty name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vectors: Vec<String>,
    /// Top-level payload keys that only one has, or whose values differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payload: Vec<String>,
    /// True if the records lie under different shard keys.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shard_key: bool,
}

impl Differing {
    /// Between `a` and `b`.
    pub fn between(a: &Record, b: &Record) -> Self {
        Self {
            vectors: vectors(&a.vectors, &b.vectors),
            payload: payload(&a.payload, &b.payload),
            shard_key: a.shard_key != b.shard_key,
        }
    }

    /// Returns true if nothing differs.
    pub fn is_empty(&self) -> bool {
        self.vectors.is_empty() && self.payload.is_empty() && !self.shard_key
    }

    /// In words: "the vector 'image', the payload key 'year'".
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        for name in &self.vectors {
            words.push(match name.as_str() {
                "" => "the vector".to_owned(),
                name => format!("the vector '{name}'"),
            });
        }
        for key in &self.payload {
            words.push(format!("the payload key '{key}'"));
        }
        if self.shard_key {
            words.push("the shard key".to_owned());
        }
        words.join(", ")
    }
}

fn vectors(a: &[(String, Vector)], b: &[(String, Vector)]) -> Vec<String> {
    let find =
        |side: &[(String, Vector)], name: &String| side.iter().position(|(known, _)| known == name);
    let mut names: Vec<String> = Vec::new();
    for (name, vector) in a {
        let other = find(b, name).and_then(|at| b.get(at));
        if !other.is_some_and(|(_, other)| same_vector(vector, other)) {
            names.push(name.clone());
        }
    }
    for (name, _) in b {
        if find(a, name).is_none() {
            names.push(name.clone());
        }
    }
    names.sort_unstable();
    names
}

fn payload(a: &Map<String, Value>, b: &Map<String, Value>) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for (key, value) in a {
        if !b.get(key).is_some_and(|other| same_json(value, other)) {
            keys.push(key.clone());
        }
    }
    for key in b.keys() {
        if !a.contains_key(key) {
            keys.push(key.clone());
        }
    }
    keys.sort_unstable();
    keys
}

fn same_vector(a: &Vector, b: &Vector) -> bool {
    match (a, b) {
        (Vector::Dense(a), Vector::Dense(b)) => same_floats(a, b),
        (
            Vector::Sparse { indices, values },
            Vector::Sparse {
                indices: other_indices,
                values: other_values,
            },
        ) => indices == other_indices && same_floats(values, other_values),
        (
            Vector::Multi { dim, flat },
            Vector::Multi {
                dim: other_dim,
                flat: other_flat,
            },
        ) => dim == other_dim && same_floats(flat, other_flat),
        _ => false,
    }
}

/// By their bits.
fn same_floats(a: &[f32], b: &[f32]) -> bool {
    // Without a way out in the middle, so that many are compared at once.
    let differing = a
        .iter()
        .zip(b)
        .fold(0, |bits, (a, b)| bits | (a.to_bits() ^ b.to_bits()));
    a.len() == b.len() && differing == 0
}

fn same_json(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            // To serde_json -0.0 is 0.0.
            match (a.is_f64(), b.is_f64()) {
                (true, true) => a.as_f64().map(f64::to_bits) == b.as_f64().map(f64::to_bits),
                (false, false) => a == b,
                _ => false,
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, value)| b.get(key).is_some_and(|other| same_json(value, other)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::canonical;

    fn record(line: &str) -> Record {
        Record::from_scrolled(&serde_json::from_str(line).unwrap()).unwrap()
    }

    #[test]
    fn every_difference_is_named_and_none_is_made_up() {
        let line = r#"{"id":7,"payload":{"n":9007199254740993,"f":1.0,"z":0.0,"deep":{"a":[1,{"b":null}]}},"vector":{"dense":[0.1,-0.0],"multi":[[1.0],[2.0]],"words":{"indices":[3,16777217],"values":[0.5,1.0]}}}"#;
        let base = record(line);
        assert!(Differing::between(&base, &base.clone()).is_empty());
        for (from, to, words) in [
            ("0.1", "0.10000001", "the vector 'dense'"),
            ("-0.0", "0.0", "the vector 'dense'"),
            ("[0.1,-0.0]", "[0.1]", "the vector 'dense'"),
            (
                "\"dense\"",
                "\"dance\"",
                "the vector 'dance', the vector 'dense'",
            ),
            ("[[1.0],[2.0]]", "[[1.0,2.0]]", "the vector 'multi'"),
            ("[[1.0],[2.0]]", "[1.0,2.0]", "the vector 'multi'"),
            ("16777217", "16777216", "the vector 'words'"),
            ("0.5", "0.25", "the vector 'words'"),
            (
                "9007199254740993",
                "9007199254740992",
                "the payload key 'n'",
            ),
            ("\"f\":1.0", "\"f\":1", "the payload key 'f'"),
            ("\"z\":0.0", "\"z\":-0.0", "the payload key 'z'"),
            ("null", "false", "the payload key 'deep'"),
            ("\"z\"", "\"y\"", "the payload key 'y', the payload key 'z'"),
            (
                "{\"id\":7",
                "{\"shard_key\":\"a\",\"id\":7",
                "the shard key",
            ),
        ] {
            assert!(line.contains(from), "{from}");
            let other = record(&line.replacen(from, to, 1));
            let differing = Differing::between(&base, &other);
            assert_eq!(differing.words(), words, "{from} -> {to}");
            assert_eq!(
                differing,
                Differing::between(&other, &base),
                "{from} -> {to}"
            );
            // The canonical form sees the same.
            let hashes = |record: &Record| canonical::hashes(record, &mut Vec::new());
            assert_ne!(
                hashes(&base).record,
                hashes(&other).record,
                "{from} -> {to}"
            );
            assert_eq!(
                hashes(&base).payload != hashes(&other).payload,
                !differing.payload.is_empty()
            );
        }
    }
}
