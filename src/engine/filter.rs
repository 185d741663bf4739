//! Qdrant's filter language.
//!
//! Keeps true: a filter is taken as it is meant or refused; a misspelled clause is not an empty
//! one, which would match everything.

use qdrant_edge::Filter as EngineFilter;
use serde_json::Value;

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

    /// The filter as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn inner(&self) -> EngineFilter {
        self.inner.clone()
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
