//! Which records of the sources make the master, and how they are changed on the way.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::conflict::Policy;
use crate::engine::Filter;

/// Everything that decides which records the union of some sources has.
#[derive(Debug, Clone, Default)]
pub struct UnionOptions {
    /// Who wins conflicts.
    pub on_conflict: Policy,
    /// What is written into each payload.
    pub stamp: Option<Stamp>,
    /// Which points are read.
    pub filter: Option<Filter>,
    /// Top-level payload keys that are left out.
    pub drop_payload: Vec<String>,
    /// Whether the master has a shard key for each source.
    pub by_source: bool,
}

/// A payload field that tells each point's source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stamp {
    /// The field.
    pub field: String,
    /// What it is given, by the source's name; the name itself where there is nothing.
    pub values: BTreeMap<String, Value>,
}

impl Stamp {
    /// What the points of the source called `name` are given.
    pub fn value(&self, name: &str) -> Value {
        self.values
            .get(name)
            .cloned()
            .unwrap_or_else(|| Value::String(name.to_owned()))
    }
}
