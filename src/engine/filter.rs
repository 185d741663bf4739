//! Qdrant's filter language.
//!
//! Keeps true: a filter is taken as it is meant or refused; a misspelled clause is not an empty
//! one, which would match everything.

use std::str::FromStr;

use qdrant_edge::Filter as EngineFilter;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::base::error::{Error, Result};

/// A filter, as `POST /collections/NAME/points/scroll` takes it.
#[derive(Debug, Clone)]
pub struct Filter {
    inner: EngineFilter,
    text: String,
}

impl Filter {
    /// Reads a filter from its JSON.
    pub fn parse(text: &str) -> Result<Self> {
        const EXAMPLE: &str =
            r#"write it as in Qdrant: {"must":[{"key":"year","match":{"value":2017}}]}"#;
        let refuse = |why: String| Error::usage("reading the filter", why).next(EXAMPLE);
        let value: Value = serde_json::from_str(text).map_err(|err| refuse(err.to_string()))?;
        let Value::Object(map) = &value else {
            return Err(refuse("it is not a JSON object".into()));
        };
        if map.is_empty() {
            return Err(refuse(
                "it has no clause, so it would match everything".into(),
            ));
        }
        let inner = serde_json::from_value(value).map_err(|err| refuse(err.to_string()))?;
        Ok(Self {
            inner,
            text: text.to_owned(),
        })
    }

    /// Its JSON.
    pub fn to_json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The filter as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn inner(&self) -> EngineFilter {
        self.inner.clone()
    }
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Map::deserialize(deserializer)?;
        let refuse =
            |err: Error| serde::de::Error::custom(format!("{}: {}", err.doing(), err.why()));
        Self::parse(&Value::Object(map).to_string()).map_err(refuse)
    }
}

impl schemars::JsonSchema for Filter {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Filter".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "object" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_meant_or_refused() {
        Filter::parse(r#"{"must":[{"key":"year","match":{"value":2017}}]}"#).unwrap();
        Filter::parse(r#"{"must":{"has_id":[1,2]},"must_not":[{"is_empty":{"key":"a"}}]}"#)
            .unwrap();
        for (text, word) in [
            (r#"{"mst":[]}"#, "mst"),
            ("{}", "no clause"),
            ("[]", "not a JSON object"),
            ("{", "EOF"),
            (r#"{"must":[{"key":"year","match":{"valu":2017}}]}"#, ""),
            (r#"{"must":[{"year":2017}]}"#, ""),
        ] {
            let err = Filter::parse(text).unwrap_err();
            assert!(err.to_string().contains(word), "{text}: {err}");
            assert_eq!(err.kind(), crate::base::error::Kind::Usage, "{text}");
        }
    }
}
