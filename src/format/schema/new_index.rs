//! A payload index that the master is to have, as a user states it.
//!
//! Invariants: a type or a word that is not known is an error; what is stated wins over what the sources
//! have for the field.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::payload::{INDEX_TYPES, index_type};
use crate::base::text::serde_as_text;

/// Words that mean `true` after the type. Others are stated in Qdrant's JSON.
const FLAGS: &[&str] = &[
    "is_tenant",
    "is_principal",
    "on_disk",
    "lookup",
    "range",
    "lowercase",
    "ascii_folding",
    "phrase_matching",
    "enable_hnsw",
];

/// An index: `year=integer`, `group_id=keyword,is_tenant`, `caption={"type": "text", …}`.
#[derive(Debug, Clone, PartialEq)]
pub struct NewIndex {
    text: String,
    field: String,
    index: Value,
}

impl NewIndex {
    /// The field, as Qdrant writes its path.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The index in Qdrant's own form.
    pub fn index(&self) -> &Value {
        &self.index
    }
}

impl FromStr for NewIndex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (field, what) = text
            .split_once('=')
            .filter(|(field, _)| !field.is_empty())
            .ok_or("give it as FIELD=TYPE, as year=integer or group_id=keyword,is_tenant")?;
        let index = match what.starts_with('{') {
            true => {
                serde_json::from_str(what).map_err(|err| format!("'{what}' is no JSON: {err}"))?
            }
            false => of_words(what)?,
        };
        match index_type(&index) {
            Some(kind) if INDEX_TYPES.contains(&kind) => Ok(Self {
                text: text.to_owned(),
                field: field.to_owned(),
                index,
            }),
            _ => Err(format!(
                "'{what}' names no type of index: one of {}",
                INDEX_TYPES.join(", ")
            )),
        }
    }
}

fn of_words(what: &str) -> Result<Value, String> {
    let mut words = what.split(',').map(str::trim);
    let kind = words.next().unwrap_or_default();
    let mut index = Map::new();
    index.insert("type".into(), kind.into());
    for word in words {
        if !FLAGS.contains(&word) {
            return Err(format!(
                "'{word}' is none of {}; give anything else as Qdrant's JSON: FIELD={{\"type\": …}}",
                FLAGS.join(", ")
            ));
        }
        index.insert(word.to_owned(), true.into());
    }
    Ok(match index.len() {
        1 => kind.into(),
        _ => index.into(),
    })
}

impl fmt::Display for NewIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

serde_as_text!(
    NewIndex,
    "NewIndex",
    "FIELD=TYPE[,is_tenant][,on_disk]…, or FIELD={\"type\": …} with Qdrant's own JSON"
);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_index_is_words_or_json() {
        for (text, field, index) in [
            ("year=integer", "year", json!("integer")),
            (
                "group_id=keyword,is_tenant,on_disk",
                "group_id",
                json!({"type": "keyword", "is_tenant": true, "on_disk": true}),
            ),
            (
                r#"meta.caption={"type":"text","tokenizer":"word"}"#,
                "meta.caption",
                json!({"type": "text", "tokenizer": "word"}),
            ),
        ] {
            let read: NewIndex = text.parse().unwrap();
            assert_eq!((read.field(), read.index()), (field, &index), "{text}");
            assert_eq!(read.to_string(), text);
        }
        for text in [
            "",
            "year",
            "=integer",
            "year=",
            "year=int",
            "year=integer,tenant",
            "year={}",
            "year={\"type\":7}",
            "year={",
        ] {
            assert!(text.parse::<NewIndex>().is_err(), "{text}");
        }
    }
}
