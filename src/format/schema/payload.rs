//! A collection's payload indexes: `payload_index.json`.
//!
//! Invariants: what was read is written back as it was; comparison looks at what an index does,
//! not at how it was written down: `"keyword"` and `{"type": "keyword"}` are one, and so are a
//! setting left out and the same setting stated with its default.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::config::UnknownValue;
use super::enums::Memory;
use crate::base::error::{Error, Result};

/// Every type of payload index that this version knows.
pub const INDEX_TYPES: &[&str] = &[
    "keyword", "integer", "float", "geo", "text", "bool", "datetime", "uuid",
];

/// Values of an index's settings that are not stated. `memory` and `on_disk` are one setting in two
/// spellings and are resolved before these are looked up.
const DEFAULTS: &[(&str, Unstated)] = &[
    ("is_tenant", Unstated::Is(false)),
    ("is_principal", Unstated::Is(false)),
    ("lookup", Unstated::Is(true)),
    ("range", Unstated::Is(true)),
    ("enable_hnsw", Unstated::Is(true)),
    ("prefix", Unstated::Is(false)),
    ("lowercase", Unstated::Is(true)),
    ("ascii_folding", Unstated::Is(false)),
    ("phrase_matching", Unstated::Is(false)),
    ("scoring", Unstated::Is(false)),
    ("tokenizer", Unstated::Word("word")),
    ("memory", Unstated::Word("pinned")),
];

enum Unstated {
    Is(bool),
    Word(&'static str),
}

impl Unstated {
    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Is(flag) => value.as_bool() == Some(*flag),
            Self::Word(word) => value.as_str() == Some(word),
        }
    }
}

/// The payload indexes of a collection, by field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PayloadSchema {
    fields: BTreeMap<String, Value>,
    /// Keys of the file beside `schema`: a newer server's, kept.
    #[serde(skip)]
    other_keys: Map<String, Value>,
}

impl PayloadSchema {
    /// Reads the bytes of a `payload_index.json`; `source` is named in errors. A snapshot without
    /// the file has no indexes: [`PayloadSchema::default`].
    pub fn parse(source: &str, bytes: &[u8]) -> Result<Self> {
        Self::read(bytes).map_err(|why| {
            Error::damaged(format!("reading payload_index.json of {source}"), why)
                .next("check the snapshot against its checksum; if that fits, take it again")
        })
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let Value::Object(mut other_keys) = value else {
            return Err(format!("wants an object, has {value}"));
        };
        let mut fields = BTreeMap::new();
        let mut problems = Vec::new();
        match other_keys.remove("schema") {
            None | Some(Value::Null) => {}
            Some(Value::Object(schema)) => {
                for (field, index) in schema {
                    if index_type(&index).is_none() {
                        problems.push(format!("field '{field}': no type of index in {index}"));
                    }
                    fields.insert(field, index);
                }
            }
            Some(other) => problems.push(format!("schema: wants an object, has {other}")),
        }
        if problems.is_empty() {
            Ok(Self { fields, other_keys })
        } else {
            Err(problems.join("; "))
        }
    }

    /// The indexes as Qdrant writes them (`"integer"` or `{"type": "text", …}`), by field.
    pub fn fields(&self) -> &BTreeMap<String, Value> {
        &self.fields
    }

    /// Returns true if there are no indexes.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Adds the index of a field that has none yet; says whether it did.
    pub fn add(&mut self, field: &str, index: &Value) -> bool {
        let absent = !self.fields.contains_key(field);
        if absent {
            self.fields.insert(field.to_owned(), index.clone());
        }
        absent
    }

    /// Gives a field this index, whichever it had; says whether that is another one.
    pub fn set(&mut self, field: &str, index: &Value) -> bool {
        let before = self.fields.insert(field.to_owned(), index.clone());
        !before.is_some_and(|before| same_index(&before, index))
    }

    /// A `payload_index.json` that holds these indexes.
    pub fn to_json(&self) -> Value {
        let mut file = self.other_keys.clone();
        let schema: Map<String, Value> = self.fields.clone().into_iter().collect();
        file.insert("schema".to_owned(), schema.into());
        file.into()
    }

    /// Every index of a type that this version does not know: made by a newer server.
    pub fn unknown_values(&self) -> Vec<UnknownValue> {
        self.fields
            .iter()
            .filter_map(|(field, index)| {
                let kind = index_type(index)?;
                (!INDEX_TYPES.contains(&kind)).then(|| UnknownValue {
                    about: format!("payload index of '{field}'"),
                    value: kind.to_owned(),
                })
            })
            .collect()
    }
}

/// The type of an index, in either way of writing it down; `None` if there is none.
pub fn index_type(index: &Value) -> Option<&str> {
    match index {
        Value::String(kind) => Some(kind),
        Value::Object(params) => params.get("type").and_then(Value::as_str),
        _ => None,
    }
}

/// Returns true if two indexes do the same, however they are written down.
pub fn same_index(a: &Value, b: &Value) -> bool {
    index_type(a) == index_type(b) && stated(a) == stated(b)
}

/// Returns the settings of an index beyond its type and the defaults, sorted by key.
fn stated(index: &Value) -> BTreeMap<&str, Value> {
    let Value::Object(params) = index else {
        return BTreeMap::new();
    };
    let mut out: BTreeMap<&str, Value> = params
        .iter()
        .filter(|(key, value)| key.as_str() != "type" && !value.is_null())
        .map(|(key, value)| (key.as_str(), value.clone()))
        .collect();
    if let Some(on_disk) = out.remove("on_disk").and_then(|flag| flag.as_bool()) {
        let memory = Memory::from_on_disk_or_pinned(on_disk);
        out.entry("memory")
            .or_insert_with(|| memory.as_word().into());
    }
    // `true` is the short form of the only scoring there is.
    if out.get("scoring").and_then(Value::as_bool) == Some(true) {
        out.insert("scoring", serde_json::json!({ "type": "bm25" }));
    }
    out.retain(|key, value| {
        !DEFAULTS
            .iter()
            .any(|(name, default)| name == key && default.is(value))
    });
    out
}

/// An index as a reader wants it: "keyword", "text(word, lowercase)", "integer(lookup false)".
pub fn show_index(index: &Value) -> String {
    let kind = index_type(index).unwrap_or("unknown");
    let stated = stated(index);
    let mut parts = Vec::new();
    if kind == "text" {
        // A text index is known by how it cuts words, even where that is the default.
        let tokenizer = stated.get("tokenizer").and_then(Value::as_str);
        parts.push(tokenizer.unwrap_or("word").to_owned());
        if !stated.contains_key("lowercase") {
            parts.push("lowercase".to_owned());
        }
    }
    for (key, value) in &stated {
        let name = key.trim_start_matches("is_").replace('_', " ");
        match (*key, value) {
            ("tokenizer", _) if kind == "text" => {}
            ("memory", Value::String(word)) if word == "cold" => parts.push("on disk".to_owned()),
            (_, Value::Bool(true)) => parts.push(name),
            (_, Value::String(word)) => parts.push(format!("{name} {word}")),
            (_, value) => parts.push(format!("{name} {value}")),
        }
    }
    let mut out = kind.to_owned();
    if !parts.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(out, "({})", parts.join(", "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;
    use serde_json::json;

    #[test]
    fn a_real_schema_is_read_and_written_back() {
        let json = json!({"schema": {"exif.gps": "geo", "taken": "datetime", "score": "float",
            "caption": {"type": "text", "tokenizer": "word", "lowercase": true},
            "camera": "keyword", "asset": "uuid", "fav": "bool", "year": "integer"},
            "newer": 1});
        let read = PayloadSchema::parse("x", json.to_string().as_bytes()).unwrap();
        assert_eq!(read.fields().len(), 8);
        assert_eq!(index_type(&read.fields()["caption"]), Some("text"));
        assert!(read.unknown_values().is_empty());
        assert_eq!(read.to_json(), json);
    }

    #[test]
    fn no_indexes() {
        for text in ["{}", r#"{"schema":{}}"#, r#"{"schema":null}"#] {
            let read = PayloadSchema::parse("x", text.as_bytes()).unwrap();
            assert!(read.is_empty());
            assert_eq!(read.to_json().to_string(), r#"{"schema":{}}"#);
        }
        assert!(PayloadSchema::default().is_empty());
    }

    #[test]
    fn damage_and_newer_types() {
        for (text, says) in [
            ("", "EOF"),
            ("7", "wants an object"),
            (r#"{"schema":[]}"#, "schema: wants an object"),
            (r#"{"schema":{"a":1}}"#, "field 'a': no type"),
            (
                r#"{"schema":{"a":{"tokenizer":"word"}}}"#,
                "field 'a': no type",
            ),
        ] {
            let err = PayloadSchema::parse("a.snapshot", text.as_bytes()).unwrap_err();
            assert_eq!(err.kind(), Kind::Damaged);
            assert!(err.why().contains(says), "{text}: {err}");
        }
        let read = PayloadSchema::parse("x", br#"{"schema":{"a":"h3","b":"bool"}}"#).unwrap();
        let unknown = read.unknown_values();
        assert_eq!(unknown.len(), 1);
        assert_eq!(
            (unknown[0].about.as_str(), unknown[0].value.as_str()),
            ("payload index of 'a'", "h3")
        );
    }

    #[test]
    fn what_an_index_does_is_compared() {
        let cases = [
            (json!("keyword"), json!({"type": "keyword"}), true),
            (json!("keyword"), json!("integer"), false),
            (
                json!("keyword"),
                json!({"type": "keyword", "on_disk": null, "is_tenant": false}),
                true,
            ),
            (
                json!("keyword"),
                json!({"type": "keyword", "is_tenant": true}),
                false,
            ),
            (
                json!({"type": "keyword", "on_disk": true}),
                json!({"type": "keyword", "memory": "cold"}),
                true,
            ),
            (
                json!({"type": "keyword", "on_disk": true, "memory": "pinned"}),
                json!("keyword"),
                true,
            ),
            (
                json!({"type": "keyword", "memory": "cached"}),
                json!("keyword"),
                false,
            ),
            (
                json!("integer"),
                json!({"type": "integer", "lookup": true, "range": true}),
                true,
            ),
            (
                json!("integer"),
                json!({"type": "integer", "range": false}),
                false,
            ),
            (
                json!("text"),
                json!({"type": "text", "tokenizer": "word", "lowercase": true}),
                true,
            ),
            (
                json!("text"),
                json!({"type": "text", "lowercase": false}),
                false,
            ),
            (
                json!({"type": "text", "scoring": true}),
                json!({"type": "text", "scoring": {"type": "bm25"}}),
                true,
            ),
            // No stemming asked for, and nothing said about stemming, are not the same.
            (
                json!("text"),
                json!({"type": "text", "stemmer": {"type": "none"}}),
                false,
            ),
        ];
        for (a, b, same) in cases {
            assert_eq!(same_index(&a, &b), same, "{a} {b}");
            assert_eq!(same_index(&b, &a), same, "{b} {a}");
        }
    }

    #[test]
    fn an_index_is_shown_as_a_reader_wants_it() {
        for (index, want) in [
            (json!("keyword"), "keyword"),
            (json!({"type": "geo"}), "geo"),
            (json!("text"), "text(word, lowercase)"),
            (
                json!({"type": "text", "tokenizer": "word", "lowercase": true}),
                "text(word, lowercase)",
            ),
            (
                json!({"type": "text", "tokenizer": "prefix", "lowercase": false,
                    "min_token_len": 2, "phrase_matching": true}),
                "text(prefix, lowercase false, min token len 2, phrase matching)",
            ),
            (
                json!({"type": "keyword", "is_tenant": true, "on_disk": true}),
                "keyword(tenant, on disk)",
            ),
            (
                json!({"type": "integer", "range": false}),
                "integer(range false)",
            ),
        ] {
            assert_eq!(show_index(&index), want);
        }
    }

    #[test]
    fn adding_never_replaces() {
        let mut schema = PayloadSchema::default();
        assert!(schema.add("year", &json!("integer")));
        assert!(!schema.add("year", &json!("float")));
        assert_eq!(schema.fields()["year"], json!("integer"));
    }
}
