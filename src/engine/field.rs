//! A payload field as it is typed: a key, or a path of keys like `exif.taken`.
//!
//! Invariants: a path means what it means to Qdrant's filters and to its `set_payload`
//! (`lib/segment/src/json_path`); a key that is no path, as `taken at`, is taken as it is.

use std::fmt;
use std::str::FromStr;

use qdrant_edge::JsonPath;
use serde_json::{Map, Value};

use crate::base::text::serde_as_text;

/// A payload field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadField {
    text: String,
    path: JsonPath,
}

impl PayloadField {
    /// Reads a field of which every part is a key, as one that is written or compared has to be.
    pub fn of_keys(text: &str) -> Result<Self, String> {
        let field: Self = text.parse()?;
        match field.keys() {
            Some(_) => Ok(field),
            None => Err(format!(
                "'{field}' is a place in a list, which not every point has"
            )),
        }
    }

    /// The keys that lead to it; none if a part of it is a place in a list.
    pub fn keys(&self) -> Option<Vec<String>> {
        let mut keys = Vec::new();
        let mut path = self.path.clone();
        loop {
            let mut parent = path.clone();
            if parent.rest.pop().is_none() {
                keys.push(path.first_key);
                keys.reverse();
                return Some(keys);
            }
            // Without its parent, a path leaves one key, or it is no path.
            keys.push(path.strip_prefix(&parent)?.first_key);
            path = parent;
        }
    }

    /// The first key of it: the payload's member that it is, or is in.
    pub fn first_key(&self) -> &str {
        &self.path.first_key
    }

    /// The first value of it in a payload that is not null. A key that has the whole path as its name
    /// goes first.
    pub fn value<'a>(&self, payload: &'a Map<String, Value>) -> Option<&'a Value> {
        let at_path = self.path.value_get(payload);
        let mut values = payload.get(&self.text).into_iter().chain(at_path);
        values.find(|value| !value.is_null())
    }

    /// Removes it; whether it was there. A key that has the whole path as its name goes first.
    pub fn remove(&self, payload: &mut Map<String, Value>) -> bool {
        payload.remove(&self.text).is_some() || !self.path.value_remove(payload).is_empty()
    }
}

impl FromStr for PayloadField {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = match text.parse::<JsonPath>() {
            Ok(path) => path,
            Err(()) if text.is_empty() => return Err("a payload field has a name".into()),
            Err(()) if text.contains(['.', '[', ']', '"']) => {
                return Err(format!(
                    "'{text}' is no path of payload keys: give it as a.b, and a key with other \
                     characters in quotes, as a.\"b c\""
                ));
            }
            Err(()) => JsonPath {
                first_key: text.to_owned(),
                rest: Vec::new(),
            },
        };
        Ok(Self {
            text: text.to_owned(),
            path,
        })
    }
}

impl fmt::Display for PayloadField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

serde_as_text!(
    PayloadField,
    "PayloadField",
    "a payload key, or a path like exif.taken"
);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(text: &str) -> PayloadField {
        text.parse().unwrap()
    }

    #[test]
    fn a_path_is_its_keys() {
        let keys = |text| field(text).keys();
        let of = |keys: &[&str]| Some(keys.iter().map(ToString::to_string).collect());
        assert_eq!(keys("year"), of(&["year"]));
        assert_eq!(keys("exif.taken"), of(&["exif", "taken"]));
        assert_eq!(keys("a.\"b.c\".d"), of(&["a", "b.c", "d"]));
        assert_eq!(keys("taken at"), of(&["taken at"]));
        assert_eq!(keys("faces[0].name"), None);
        assert_eq!(keys("faces[].name"), None);
        for text in ["", "a..b", "a.", ".a", "a[", "\""] {
            assert!(text.parse::<PayloadField>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_removed_is_what_a_filter_finds() {
        let payload =
            json!({"a": {"b": 1, "c": 2}, "a.b": 3, "l": [{"x": 1}, {"x": 2}], "n": null});
        let payload = payload.as_object().unwrap();
        let without = |text: &str| {
            let mut left = payload.clone();
            let was_there = field(text).remove(&mut left);
            (was_there, Value::Object(left))
        };
        let l = json!([{"x": 1}, {"x": 2}]);
        let plain = json!({"a": {"b": 1, "c": 2}, "l": l, "n": null});
        assert_eq!(without("a.b"), (true, plain), "the key of that name first");
        let nested = json!({"a": {"b": 1}, "a.b": 3, "l": l, "n": null});
        assert_eq!(without("a.c"), (true, nested));
        let lists = json!({"a": {"b": 1, "c": 2}, "a.b": 3, "l": [{}, {}], "n": null});
        assert_eq!(without("l[].x"), (true, lists));
        assert!(!without("a.d").0);
        let value = |text: &str| field(text).value(payload);
        assert_eq!(value("l[1].x"), Some(&json!(2)));
        assert_eq!(value("a.b"), Some(&json!(3)));
        assert_eq!(value("a.c"), Some(&json!(2)));
        assert_eq!((value("n"), value("n.x")), (None, None));
    }
}
