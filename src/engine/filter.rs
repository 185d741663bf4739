//! Qdrant's filter language.
//!
//! Invariants: a filter is taken as it is meant or refused; a misspelled clause is not an empty
//! one, which would match everything.

mod faithful;

use std::str::FromStr;

use qdrant_edge::Filter as EngineFilter;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use self::faithful::KeysOnce;
use crate::base::error::{Error, Result};

/// Lists of conditions.
const CLAUSES: [&str; 3] = ["must", "should", "must_not"];

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
        serde_json::from_str::<KeysOnce>(text).map_err(|err| refuse(err.to_string()))?;
        let Value::Object(map) = &value else {
            return Err(refuse("it is not a JSON object".into()));
        };
        let is_empty = |(key, clause): (&String, &Value)| {
            CLAUSES.contains(&key.as_str()) && clause.as_array().is_some_and(Vec::is_empty)
        };
        if map.iter().all(is_empty) {
            return Err(refuse(
                "it has no clause, so it would match everything".into(),
            ));
        }
        let inner: EngineFilter =
            serde_json::from_value(value.clone()).map_err(|err| refuse(err.to_string()))?;
        let read = serde_json::to_value(&inner).map_err(|err| refuse(err.to_string()))?;
        if let Some(fault) = faithful::fault(&value, &read) {
            return Err(refuse(fault));
        }
        Ok(Self {
            inner,
            text: text.to_owned(),
        })
    }

    /// Returns the filter as JSON.
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
        for text in [
            r#"{"must":[{"key":"at","range":{"gte":"2017-01-01T00:00:00Z","lt":null}}]}"#,
            r#"{"must":{"key":"a","values_count":{"gt":1}},"should":[]}"#,
            r#"{"min_should":{"conditions":[{"key":"a","is_empty":true}],"min_count":1}}"#,
            r#"{"must":[{"key":"a","geo_radius":{"center":{"lon":1.5,"lat":2},"radius":3}}]}"#,
            r#"{"must":[{"nested":{"key":"a[]","filter":{"must":[{"key":"b","match":{"any":["x"]}}]}}}]}"#,
            r#"{"must":[{"is_null":{"key":"a"}},{"has_vector":"v"},{"must_not":{"has_id":[1]}}]}"#,
            r#"{"must":[{"key":"a","match":{"except":[1,2]}},{"key":"b","match":{"text":"x"}}]}"#,
        ] {
            Filter::parse(text).unwrap();
        }
        for (text, word) in [
            (r#"{"mst":[]}"#, "mst"),
            ("{}", "no clause"),
            ("[]", "not a JSON object"),
            ("{", "EOF"),
            (r#"{"must":[{"key":"year","match":{"valu":2017}}]}"#, ""),
            (r#"{"must":[{"year":2017}]}"#, ""),
            (r#"{"must":[]}"#, "no clause"),
            (r#"{"must":[{}]}"#, "empty"),
            (r#"{"must":{"must_not":[{}]}}"#, "empty"),
            (
                r#"{"must":[{"key":"year","rnage":{"gt":1}}]}"#,
                "no 'rnage' there; did you mean range?",
            ),
            (
                r#"{"should":{"key":"year","mtach":{"value":1}}}"#,
                "no 'mtach' there; did you mean match?",
            ),
            (
                r#"{"must":[{"nested":{"key":"a","filter":{"must":[{"key":"b","range":{"gt":1,"let":2}}]}}}]}"#,
                "no 'let' there",
            ),
            (r#"{"must":[{"key":"year"}]}"#, "says nothing"),
            (
                r#"{"must":[{"key":"a","is_null":true}],"must":[{"key":"b","is_null":true}]}"#,
                "'must' is given twice",
            ),
        ] {
            let err = Filter::parse(text).unwrap_err();
            assert!(err.to_string().contains(word), "{text}: {err}");
            assert_eq!(err.kind(), crate::base::error::Kind::Usage, "{text}");
        }
    }
}
