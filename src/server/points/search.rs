//! Searching a live collection for the nearest points to a vector.
//!
//! A filter that asks for values goes over gRPC with the vector; any other, which is typed in the JSON
//! of REST, takes the vector along over REST.
//!
//! Invariants: an exact search looks at every vector as it was stored, not at its quantized form; the
//! best comes first, whatever the distance.

use qdrant_client::qdrant as proto;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::{condition, query, vector_input, with_payload_selector};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::convert::{id_from, selector};
use super::{LONG, Points};
use crate::base::error::{Error, Result};
use crate::engine::{Hit, Search};
use crate::point::{PointId, Vector};
use crate::server::call::CallTimeout;
use crate::server::retry::RetryOn;

impl Points {
    /// The nearest points, the best first.
    pub fn nearest(&self, search: Search<'_>) -> Result<Vec<Hit>> {
        let filter: Option<Value> = search
            .filter
            .map(|filter| serde_json::from_str(filter.text()))
            .transpose()
            .map_err(|err| Error::usage("reading the filter", err))?;
        match filter {
            filter if self.by_rest => self.nearest_by_rest(search, filter.as_ref()),
            None => self.nearest_by_grpc(search, None),
            Some(filter) => match filter_to(&filter) {
                Some(filter) => self.nearest_by_grpc(search, Some(filter)),
                None => self.nearest_by_rest(search, Some(&filter)),
            },
        }
    }

    fn nearest_by_grpc(
        &self,
        search: Search<'_>,
        filter: Option<proto::Filter>,
    ) -> Result<Vec<Hit>> {
        let doing = format!("searching {}", self.what);
        let nothing = with_payload_selector::SelectorOptions::Enable(false);
        let request = proto::QueryPoints {
            collection_name: self.collection.clone(),
            query: Some(proto::Query {
                variant: Some(query::Variant::Nearest(vector_to(search.vector))),
            }),
            using: (!search.name.is_empty()).then(|| search.name.to_owned()),
            filter,
            params: Some(proto::SearchParams {
                exact: Some(search.exact),
                quantization: search.exact.then(|| proto::QuantizationSearchParams {
                    ignore: Some(true),
                    ..proto::QuantizationSearchParams::default()
                }),
                ..proto::SearchParams::default()
            }),
            limit: Some(search.top as u64),
            with_payload: Some(proto::WithPayloadSelector {
                selector_options: Some(nothing),
            }),
            shard_key_selector: selector(self.key.as_ref()),
            ..proto::QueryPoints::default()
        };
        let query = self.again(&doing, RetryOn::Transient, || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.query(request).await }
        });
        let answer = self.connection.run(&doing, query)?;
        answer
            .result
            .into_iter()
            .map(|point| {
                let id = id_from(point.id).map_err(|why| self.unreadable(why))?;
                Ok(Hit {
                    id,
                    score: point.score,
                })
            })
            .collect()
    }

    fn nearest_by_rest(&self, search: Search<'_>, filter: Option<&Value>) -> Result<Vec<Hit>> {
        #[derive(Deserialize)]
        struct Answer {
            points: Vec<Scored>,
        }
        #[derive(Deserialize)]
        struct Scored {
            id: PointId,
            score: f32,
        }
        let mut body = json!({
            "query": search.vector, "limit": search.top, "with_payload": false,
            "params": {"exact": search.exact},
        });
        if search.exact {
            body["params"]["quantization"] = json!({"ignore": true});
        }
        if !search.name.is_empty() {
            body["using"] = json!(search.name);
        }
        self.choose(&mut body, filter);
        let call = self
            .call(Method::POST, "searching", "query")
            .body(body)
            .patience(CallTimeout::For(LONG));
        let answer: Answer = self.connection.ask(&call)?;
        let hits = answer.points.into_iter().map(|point| Hit {
            id: point.id,
            score: point.score,
        });
        Ok(hits.collect())
    }
}

fn vector_to(vector: &Vector) -> proto::VectorInput {
    let dense = |data: &[f32]| proto::DenseVector {
        data: data.to_vec(),
    };
    let variant = match vector {
        Vector::Dense(values) => vector_input::Variant::Dense(dense(values)),
        Vector::Sparse { indices, values } => vector_input::Variant::Sparse(proto::SparseVector {
            values: values.clone(),
            indices: indices.clone(),
        }),
        Vector::Multi { dim, flat } => {
            let vectors = flat.chunks((*dim).max(1)).map(dense).collect();
            vector_input::Variant::MultiDense(proto::MultiDenseVector { vectors })
        }
    };
    proto::VectorInput {
        variant: Some(variant),
    }
}

/// gRPC's filter for one that asks for nothing but values of fields; none for any other.
fn filter_to(filter: &Value) -> Option<proto::Filter> {
    let filter = filter.as_object().filter(|filter| filter.len() == 1)?;
    let must = filter.get("must")?.as_array()?;
    let conditions: Option<Vec<proto::Condition>> = must.iter().map(condition_to).collect();
    Some(proto::Filter {
        must: conditions?,
        ..proto::Filter::default()
    })
}

fn condition_to(condition: &Value) -> Option<proto::Condition> {
    let condition = condition.as_object().filter(|map| map.len() == 2)?;
    let key = condition.get("key")?.as_str()?;
    let wanted = condition.get("match")?.as_object()?;
    let value = match wanted.get("value").filter(|_| wanted.len() == 1)? {
        Value::String(word) => MatchValue::Keyword(word.clone()),
        Value::Bool(flag) => MatchValue::Boolean(*flag),
        Value::Number(number) => MatchValue::Integer(number.as_i64()?),
        _ => return None,
    };
    Some(proto::Condition {
        condition_one_of: Some(condition::ConditionOneOf::Field(proto::FieldCondition {
            key: key.to_owned(),
            r#match: Some(proto::Match {
                match_value: Some(value),
            }),
            ..proto::FieldCondition::default()
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_filters_that_ask_for_values_go_over_grpc() {
        let field = |key: &str, value: Value| json!({"key": key, "match": {"value": value}});
        let plain = json!({"must": [field("a", json!("x")), field("b", json!(7))]});
        assert_eq!(filter_to(&plain).unwrap().must.len(), 2);
        assert!(filter_to(&json!({"must": [field("a", json!(true))]})).is_some());
        for other in [
            json!({"must": [field("a", json!(u64::MAX))]}),
            json!({"must": [field("a", json!(0.5))]}),
            json!({"must": [{"key": "a", "match": {"value": 1, "x": 1}}]}),
            json!({"must": [{"key": "a", "range": {"gte": 1}}]}),
            json!({"must": [{"has_id": [1]}]}),
            json!({"must": field("a", json!(1))}),
            json!({"must": [], "must_not": [field("a", json!(1))]}),
            json!({"should": [field("a", json!(1))]}),
        ] {
            assert_eq!(filter_to(&other), None, "{other}");
        }
    }
}
