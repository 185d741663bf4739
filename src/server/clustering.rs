//! A service that finds clusters among vectors, asked for them.
//!
//! It is sent `{"data": [[…], …], "algorithm": "hdbscan"}` and answers `{"labels": [0, 1, -1, …]}`, the
//! cluster of each vector in their order, with -1 or null for none; what else it answers is passed
//! over.
//!
//! Invariants: an answer counts only if it has a label for each vector; no key of a Qdrant is sent.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::address::Address;
use super::call::Call;
use super::connection::{Connection, ConnectionSettings};
use super::keys::Keys;
use super::rest::LONG;
use crate::base::error::{Error, Result};

/// The service.
#[derive(Debug)]
pub struct Clustering {
    connection: Connection,
}

#[derive(Deserialize)]
struct Answer {
    labels: Vec<Option<i64>>,
}

impl Clustering {
    /// The one at `url`, which has its whole path; spoken to as `settings` say, without their keys.
    pub fn new(url: &str, settings: &ConnectionSettings) -> Result<Self> {
        let settings = ConnectionSettings {
            keys: Keys::default(),
            ..settings.clone()
        };
        let connection = Connection::open(&Address::parse(url)?, &settings)?;
        Ok(Self { connection })
    }

    /// Returns the address of the service.
    pub fn url(&self) -> String {
        self.connection.address().to_string()
    }

    /// The cluster of each of `rows`; none for noise.
    pub fn labels(&self, rows: &[Vec<f32>]) -> Result<Vec<Option<usize>>> {
        let doing = format!(
            "asking {} for clusters of {} vectors",
            self.url(),
            rows.len()
        );
        let call = Call::new(Method::POST, doing.clone(), &[])
            .body(json!({ "data": rows, "algorithm": "hdbscan" }))
            .patience(self.connection.at_least(LONG));
        let answer: Value = self.connection.run(&doing, async {
            let answer = self.connection.asked_raw(&call).await;
            answer.map_err(|failure| {
                failure.error.next(
                    "look at the service, or leave --cluster-url out: the clusters are then looked \
                     for here",
                )
            })
        })?;
        let refuse = |why: String| {
            Err(Error::failed(doing.clone(), why).next(
                "it has to answer {\"labels\": [0, 1, -1]}, a whole number for each vector; without \
                 --cluster-url the clusters are looked for here",
            ))
        };
        let keys: Vec<&String> = answer
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys())
            .collect();
        let keys = format!("{keys:?}");
        let labels = match serde_json::from_value::<Answer>(answer) {
            Ok(answer) => answer.labels,
            Err(err) => return refuse(format!("its answer has {keys}, but no labels: {err}")),
        };
        if labels.len() != rows.len() {
            return refuse(format!("{} labels came", labels.len()));
        }
        let label = |label: Option<i64>| label.and_then(|label| usize::try_from(label).ok());
        Ok(labels.into_iter().map(label).collect())
    }
}
