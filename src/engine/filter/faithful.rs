//! Checks that Qdrant reads a filter as it was typed.
//!
//! Qdrant's conditions are read by the first form that fits, and what that form does not know is dropped:
//! `{"key": "year", "rnage": …}` is a condition on nothing. What was read is therefore written again, and
//! everything that was typed must be in it.
//!
//! Invariants: a key that Qdrant's reader drops, a key that is given twice, and a condition without
//! content are refused.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::base::words::{did_you_mean, nearest};

/// Keys of Qdrant's filter language (lib/segment/src/types.rs).
const KNOWN: [&str; 40] = [
    "must",
    "should",
    "must_not",
    "min_should",
    "conditions",
    "min_count",
    "key",
    "match",
    "range",
    "geo_bounding_box",
    "geo_radius",
    "geo_polygon",
    "values_count",
    "is_empty",
    "is_null",
    "has_id",
    "has_vector",
    "nested",
    "filter",
    "slice",
    "value",
    "text",
    "text_any",
    "phrase",
    "prefix",
    "substring",
    "any",
    "except",
    "lt",
    "gt",
    "lte",
    "gte",
    "lat",
    "lon",
    "top_left",
    "bottom_right",
    "center",
    "radius",
    "exterior",
    "interiors",
];
/// Conditions that have nothing but a key.
const OF_A_KEY: [&str; 2] = ["is_empty", "is_null"];

/// Returns the first fault of the filter `typed`: a key that is missing in `read`, which is the
/// same filter as Qdrant reads it, or a condition without content.
pub fn fault(typed: &Value, read: &Value) -> Option<String> {
    within("", typed, read)
}

fn within(of: &str, typed: &Value, read: &Value) -> Option<String> {
    match (typed, read) {
        (Value::Object(typed), Value::Object(read)) => {
            if typed.is_empty() {
                return Some("a condition is empty, so it would match everything".into());
            }
            if let (Some(key), 1, false) = (typed.get("key"), typed.len(), OF_A_KEY.contains(&of)) {
                return Some(format!("the condition on {key} says nothing about it"));
            }
            let known = typed.iter().filter(|(_, value)| !value.is_null());
            for (key, value) in known {
                let Some(read) = read.get(key) else {
                    let near = nearest(key, &KNOWN).filter(|near| near != key);
                    let hint = did_you_mean(near);
                    return Some(format!("Qdrant knows no '{key}' there{hint}"));
                };
                if let Some(fault) = within(key, value, read) {
                    return Some(fault);
                }
            }
            None
        }
        // One condition is a list of one.
        (Value::Object(_), Value::Array(read)) => within(of, typed, read.first()?),
        (Value::Array(typed), Value::Array(read)) => {
            let mut pairs = typed.iter().zip(read);
            pairs.find_map(|(typed, read)| within(of, typed, read))
        }
        _ => None,
    }
}

/// JSON in which no object has a key twice: of two, readers take the last without a word.
pub struct KeysOnce;

impl<'de> Deserialize<'de> for KeysOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for KeysOnce {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<Self>()?;
            if let Some(key) = keys.replace(key) {
                return Err(A::Error::custom(format!("'{key}' is given twice")));
            }
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }
}
