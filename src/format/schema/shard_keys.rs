//! A collection's shard keys: `shard_key_mapping.json`, in every form that Qdrant has written.
//!
//! Invariants: no shard belongs to two keys, and no key is listed twice; a word that looks like a
//! number ("2019") and the number (2019) are two different keys, as in Qdrant; what is written is
//! the list form, which Qdrant 1.14 and later write and 1.17 and later insist on.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::error::{Error, Result};
use crate::point::ShardKey;

/// Which shards belong to which key; empty for a collection without keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<Listed>", into = "Vec<Listed>")]
pub struct ShardKeys {
    keys: BTreeMap<ShardKey, Vec<u32>>,
}

/// One entry of the list form.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Listed {
    key: ShardKey,
    shard_ids: Vec<u32>,
}

impl ShardKeys {
    /// Keys and the ids of their shards; the ids come out sorted.
    ///
    /// Fails if a shard belongs to two keys or is named twice.
    pub fn new(keys: impl IntoIterator<Item = (ShardKey, Vec<u32>)>) -> Result<Self> {
        Self::build(keys).map_err(|why| Error::failed("assigning shards to shard keys", why))
    }

    /// Reads the file's bytes; `source` is named in errors.
    pub fn parse(source: &str, bytes: &[u8]) -> Result<Self> {
        let damaged = |why: String| {
            Error::damaged(format!("reading shard_key_mapping.json of {source}"), why)
                .next("take the snapshot again, or restore this one and look at its shard keys")
        };
        let value: Value = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
        let listed: Vec<(ShardKey, Vec<u32>)> = match value {
            Value::Object(_) => serde_json::from_value::<BTreeMap<String, Vec<u32>>>(value)
                .map_err(|e| damaged(e.to_string()))?
                .into_iter()
                .map(|(word, ids)| (ShardKey::Word(word), ids))
                .collect(),
            Value::Array(_) => serde_json::from_value::<Vec<Listed>>(value)
                .map_err(|e| damaged(e.to_string()))?
                .into_iter()
                .map(|entry| (entry.key, entry.shard_ids))
                .collect(),
            other => {
                return Err(damaged(format!(
                    "neither a map nor a list of shard keys: {other}"
                )));
            }
        };
        Self::build(listed).map_err(damaged)
    }

    fn build(listed: impl IntoIterator<Item = (ShardKey, Vec<u32>)>) -> Result<Self, String> {
        let mut keys = BTreeMap::new();
        let mut owner: BTreeMap<u32, ShardKey> = BTreeMap::new();
        for (key, mut ids) in listed {
            for id in &ids {
                if let Some(other) = owner.insert(*id, key.clone()) {
                    return Err(format!(
                        "shard {id} belongs to key {other} and to key {key}"
                    ));
                }
            }
            ids.sort_unstable();
            match keys.entry(key) {
                Entry::Occupied(taken) => {
                    return Err(format!("key {} is listed twice", taken.key()));
                }
                Entry::Vacant(free) => free.insert(ids),
            };
        }
        Ok(Self { keys })
    }

    /// Each key with the ids of its shards, in the order of the keys.
    pub fn keys(&self) -> &BTreeMap<ShardKey, Vec<u32>> {
        &self.keys
    }

    /// Returns true if the collection has no shard keys.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key that `shard_id` belongs to.
    pub fn key_of(&self, shard_id: u32) -> Option<&ShardKey> {
        self.keys
            .iter()
            .find(|(_, ids)| ids.contains(&shard_id))
            .map(|(key, _)| key)
    }

    /// All shard ids, in rising order.
    pub fn shard_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.keys.values().flatten().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// The bytes of `shard_key_mapping.json`, in the list form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let listed: Vec<Value> = self
            .keys
            .iter()
            .map(|(key, ids)| {
                let key = match key {
                    ShardKey::Word(word) => Value::from(word.as_str()),
                    ShardKey::Number(number) => Value::from(*number),
                };
                serde_json::json!({ "key": key, "shard_ids": ids })
            })
            .collect();
        Value::from(listed).to_string().into_bytes()
    }
}

impl TryFrom<Vec<Listed>> for ShardKeys {
    type Error = String;

    fn try_from(listed: Vec<Listed>) -> Result<Self, String> {
        Self::build(listed.into_iter().map(|entry| (entry.key, entry.shard_ids)))
    }
}

/// The same list form as [`ShardKeys::to_bytes`]: a JSON map cannot hold number keys.
impl From<ShardKeys> for Vec<Listed> {
    fn from(keys: ShardKeys) -> Self {
        let listed = |(key, shard_ids)| Listed { key, shard_ids };
        keys.keys.into_iter().map(listed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;

    fn word(w: &str) -> ShardKey {
        ShardKey::Word(w.to_owned())
    }

    #[test]
    fn every_form_is_read() {
        type Case<'a> = (&'a str, &'a [(ShardKey, &'a [u32])]);
        let cases: &[Case<'_>] = &[
            ("{}", &[]),
            ("[]", &[]),
            (" [ ] \n", &[]),
            // the map form of 1.13 and before: keys are always words
            (
                r#"{"2017":[1],"2018":[3,2]}"#,
                &[(word("2017"), &[1]), (word("2018"), &[2, 3])],
            ),
            // as written by 1.19.0
            (
                r#"[{"key":"2018","shard_ids":[2]},{"key":2019,"shard_ids":[3]},{"key":"2017","shard_ids":[1]}]"#,
                &[
                    (ShardKey::Number(2019), &[3]),
                    (word("2017"), &[1]),
                    (word("2018"), &[2]),
                ],
            ),
            // a key without shards
            (r#"[{"key":"a","shard_ids":[]}]"#, &[(word("a"), &[])]),
        ];
        for (json, want) in cases {
            let read = ShardKeys::parse("x", json.as_bytes()).unwrap();
            let want: BTreeMap<_, _> = want
                .iter()
                .map(|(k, ids)| (k.clone(), ids.to_vec()))
                .collect();
            assert_eq!(read.keys(), &want, "{json}");
            assert_eq!(read.is_empty(), want.is_empty());
            let again = ShardKeys::parse("x", &read.to_bytes()).unwrap();
            assert_eq!(again, read, "{json}");
            assert_eq!(
                serde_json::to_value(&read).unwrap(),
                serde_json::from_slice::<Value>(&read.to_bytes()).unwrap()
            );
        }
    }

    #[test]
    fn number_and_word_stay_two_keys() {
        let json = br#"[{"key":"2019","shard_ids":[1]},{"key":2019,"shard_ids":[2]}]"#;
        let read = ShardKeys::parse("x", json).unwrap();
        assert_eq!(read.key_of(1), Some(&word("2019")));
        assert_eq!(read.key_of(2), Some(&ShardKey::Number(2019)));
        assert_eq!(read.key_of(3), None);
        assert_eq!(read.shard_ids(), vec![1, 2]);
        assert_eq!(read.key_of(1).unwrap().to_string(), "\"2019\"");
        assert_eq!(read.key_of(2).unwrap().to_string(), "2019");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (json, says) in [
            ("", "EOF"),
            ("null", "neither a map nor a list"),
            ("3", "neither a map nor a list"),
            (r#"{"a":[-1]}"#, "invalid value"),
            (r#"{"a":[4294967296]}"#, "invalid value"),
            (r#"{"a":1}"#, "invalid type"),
            (r#"[{"key":"a"}]"#, "shard_ids"),
            (r#"[{"key":1.5,"shard_ids":[]}]"#, "ShardKey"),
            (
                r#"{"a":[1],"b":[1]}"#,
                "shard 1 belongs to key \"a\" and to key \"b\"",
            ),
            (r#"{"a":[1,1]}"#, "shard 1 belongs"),
            (
                r#"[{"key":"a","shard_ids":[1]},{"key":"a","shard_ids":[2]}]"#,
                "key \"a\" is listed twice",
            ),
        ] {
            let err = ShardKeys::parse("a.snapshot", json.as_bytes()).unwrap_err();
            assert_eq!(err.kind(), Kind::Damaged, "{json}");
            assert_eq!(err.doing(), "reading shard_key_mapping.json of a.snapshot");
            assert!(err.why().contains(says), "{json}: {err}");
        }
        let err = ShardKeys::new([(word("a"), vec![1]), (word("b"), vec![1])]).unwrap_err();
        assert!(err.why().contains("shard 1"), "{err}");
    }
}
