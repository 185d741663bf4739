//! The changes of payloads that are declared: fields left out, a field that tells the source.
//!
//! Invariants: a payload changes as the options say and in no other way; only the members called by
//! [`PayloadChange::keys`] change.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::options::UnionOptions;
use crate::engine::PayloadField;

/// Counts of the points that declared changes altered.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Changed {
    /// Points whose stamped field had another value before.
    pub restamped: u64,
    /// Points that had a field that is left out, by the field's name.
    pub dropped: Vec<(String, u64)>,
}

impl Changed {
    /// Nothing is changed yet, under `options`.
    pub fn none(options: &UnionOptions) -> Self {
        Self {
            restamped: 0,
            dropped: (options.drop_payload.iter())
                .map(|field| (field.to_string(), 0))
                .collect(),
        }
    }

    /// Returns true if no point was altered.
    pub fn is_none(&self) -> bool {
        self.restamped == 0 && self.dropped.iter().all(|(_, count)| *count == 0)
    }

    /// Adds the counts of `other`, of the same options.
    pub fn add(&mut self, other: &Self) {
        self.restamped += other.restamped;
        for ((_, count), (_, more)) in self.dropped.iter_mut().zip(&other.dropped) {
            *count += more;
        }
    }
}

/// Changes to the payloads of one source.
#[derive(Debug, Clone)]
pub struct PayloadChange<'a> {
    dropped: &'a [PayloadField],
    /// The keys that lead to the stamped field, and its value.
    stamp: Option<(Vec<String>, Value)>,
}

impl<'a> PayloadChange<'a> {
    /// Of the source called `name`.
    pub fn new(options: &'a UnionOptions, name: &str) -> Self {
        Self {
            dropped: &options.drop_payload,
            stamp: (options.stamp.as_ref())
                .map(|stamp| (stamp.field.keys().unwrap_or_default(), stamp.value(name))),
        }
    }

    /// Makes the changes, and counts them.
    pub fn apply(&self, payload: &mut Map<String, Value>, changed: &mut Changed) {
        for (field, (_, count)) in self.dropped.iter().zip(&mut changed.dropped) {
            *count += u64::from(field.remove(payload));
        }
        if let Some((keys, value)) = &self.stamp {
            changed.restamped += u64::from(put(payload, keys, value));
        }
    }

    /// The keys of the members that may change; none if no payload does.
    pub fn keys(&self) -> BTreeSet<String> {
        // A key that has the whole path as its name goes first where a field is left out.
        let dropped = (self.dropped.iter())
            .flat_map(|field| [field.first_key().to_owned(), field.to_string()]);
        let stamped = self
            .stamp
            .iter()
            .filter_map(|(keys, _)| keys.first().cloned());
        dropped.chain(stamped).collect()
    }

    /// Returns true if the payload index of `field` may say something else after the changes.
    pub fn concerns(&self, field: &str) -> bool {
        let keys = self.keys();
        match field.parse::<PayloadField>() {
            Ok(path) => keys.contains(path.first_key()) || keys.contains(field),
            Err(_) => !keys.is_empty(),
        }
    }
}

/// Puts `value` under `keys`, each in the object of the one before, as Qdrant's `set_payload` does:
/// what is there and is no object becomes one. Whether another value was there.
fn put(payload: &mut Map<String, Value>, keys: &[String], value: &Value) -> bool {
    match keys {
        [] => false,
        [key] => {
            let before = payload.insert(key.clone(), value.clone());
            before.is_some_and(|before| before != *value)
        }
        [key, rest @ ..] => {
            let inner = payload.entry(key.as_str()).or_insert(Value::Null);
            let is_lost = !inner.is_object() && !inner.is_null();
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            let Some(inner) = inner.as_object_mut() else {
                return is_lost;
            };
            put(inner, rest, value) || is_lost
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::options::Stamp;
    use super::*;

    fn options(stamp: Option<&str>, dropped: &[&str]) -> UnionOptions {
        UnionOptions {
            stamp: stamp.map(|field| Stamp {
                field: field.parse().unwrap(),
                values: [("a".to_owned(), json!(2017))].into(),
            }),
            drop_payload: dropped.iter().map(|field| field.parse().unwrap()).collect(),
            ..UnionOptions::default()
        }
    }

    #[test]
    fn only_the_members_that_are_told_change() {
        let options = options(Some("meta.year"), &["exif.gps", "\"a b\".c", "list[].x"]);
        let change = PayloadChange::new(&options, "a");
        let mut payload = json!({
            "meta": 5, "exif": {"gps": 1, "taken": 2}, "exif.gps": 3, "a b": {"c": 1},
            "list": [{"x": 1, "y": 2}], "other": {"year": 1},
        });
        let before = payload.clone();
        let mut changed = Changed::none(&options);
        change.apply(payload.as_object_mut().unwrap(), &mut changed);
        let keys = change.keys();
        for (key, value) in before.as_object().unwrap() {
            if payload.get(key) != Some(value) {
                assert!(keys.contains(key), "{key}");
            }
        }
        assert_eq!(payload["meta"], json!({"year": 2017}));
        assert_eq!(payload["other"], before["other"]);
        assert_eq!(changed.restamped, 1);
        let counts: Vec<u64> = changed.dropped.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [1, 1, 1]);
        for (field, is) in [
            ("meta.year", true),
            ("meta[].city", true),
            ("exif.taken", true),
            ("\"exif.gps\"", true),
            ("other.year", false),
            ("year", false),
            ("a[", true),
        ] {
            assert_eq!(change.concerns(field), is, "{field}");
        }
        let nothing = UnionOptions::default();
        let none = PayloadChange::new(&nothing, "a");
        assert!(none.keys().is_empty() && !none.concerns("year") && !none.concerns("a["));
    }
}
