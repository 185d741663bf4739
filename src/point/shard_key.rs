//! The name of a group of shards, part of a point's identity with custom sharding.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The name of one group of shards, given by the user.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(untagged)]
pub enum ShardKey {
    /// A number.
    Number(u64),
    /// A word; it may look like a number and is still a word.
    Word(String),
}

impl ShardKey {
    /// The key that a table has: a number or a word, or in one of our own, JSON of either.
    pub fn of_table(value: &Value, is_json: bool) -> Result<Self, String> {
        let read = match value {
            Value::String(text) if is_json => serde_json::from_str(text),
            value => Self::deserialize(value),
        };
        read.map_err(|err| format!("its shard key {value}: {err}"))
    }
}

impl fmt::Display for ShardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The quotes tell the word "2019" from the number.
            Self::Word(word) => write!(f, "\"{word}\""),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}
