//! Some points of a collection, counted and listed over REST as far as its strict mode allows.
//!
//! A collection in strict mode may refuse exact counts (`search_allow_exact`) and pages above
//! `max_query_limit`, with status 400 (lib/collection/src/operations/verification of Qdrant). Pages
//! are then as large as it allows, and counts are of the ids that it lists.
//!
//! Invariants: a count is exact or an error; ids come ascending and each once.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Connection;
use super::answers::CountAnswer;
use super::call::Call;
use super::failure::{Cause, Failure};
use super::rest::{LONG, not_found_as_none};
use crate::base::error::Result;
use crate::point::{PointId, ShardKey};

/// Ids that are asked for at once.
const IDS_PAGE: usize = 20_000;

/// Limits of a collection's strict mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrictMode {
    /// True if exact counts and searches are answered.
    pub exact: bool,
    /// Points of one page, at the most.
    pub page_max: usize,
    /// Points of one upsert, at the most.
    pub upsert_max: usize,
}

impl StrictMode {
    /// The limits in a live collection's `config`.
    pub fn of(config: &Map<String, Value>) -> Self {
        let strict = config.get("strict_mode_config");
        let strict = strict.filter(|strict| strict["enabled"] == json!(true));
        let limit = |key: &str| {
            let limit = strict.and_then(|strict| strict[key].as_u64());
            let limit = limit.and_then(|limit| usize::try_from(limit).ok());
            limit.map_or(usize::MAX, |limit| limit.max(1))
        };
        Self {
            exact: strict.is_none_or(|strict| strict["search_allow_exact"] != json!(false)),
            page_max: limit("max_query_limit"),
            upsert_max: limit("upsert_max_batchsize"),
        }
    }
}

/// Some points of a collection.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// The collection.
    pub collection: &'a str,
    /// Only those in this shard, which the member that is asked must hold.
    pub shard: Option<u32>,
    /// Only those under this shard key.
    pub key: Option<&'a ShardKey>,
    /// Only those that match this filter.
    pub filter: Option<&'a Value>,
}

impl<'a> Selection<'a> {
    /// All points of `collection`.
    pub fn all(collection: &'a str) -> Self {
        Self {
            collection,
            shard: None,
            key: None,
            filter: None,
        }
    }

    /// Selects the points of one shard.
    pub fn shard(collection: &'a str, shard: u32) -> Self {
        Self {
            shard: Some(shard),
            ..Self::all(collection)
        }
    }

    fn call(&self, connection: &Connection, act: &str, last: &[&str], body: Value) -> Call {
        let address = connection.address().collection(self.collection);
        let shard = self.shard.map(|shard| shard.to_string());
        let what = match &shard {
            Some(shard) => format!("shard {shard} of {address}"),
            None => address.to_string(),
        };
        let mut segments = vec!["collections", self.collection];
        segments.extend(shard.iter().flat_map(|shard| ["shards", shard.as_str()]));
        segments.push("points");
        segments.extend(last);
        let mut body = body;
        if let Some(body) = body.as_object_mut() {
            if let Some(filter) = self.filter {
                body.insert("filter".into(), filter.clone());
            }
            if let Some(key) = self.key {
                body.insert("shard_key".into(), json!(key));
            }
        }
        Call::new(Method::POST, format!("{act} {what}"), &segments)
            .body(body)
            .patience(connection.at_least(LONG))
    }
}

#[derive(Deserialize)]
struct Page {
    points: Vec<Bare>,
    next_page_offset: Option<PointId>,
}

#[derive(Deserialize)]
struct Bare {
    id: PointId,
}

impl Connection {
    /// The limits of the collection's strict mode; none of a collection that is not there.
    pub fn strict_mode(&self, collection: &str) -> Result<StrictMode, Failure> {
        let info = self.collection(collection)?;
        Ok(StrictMode::of(
            &info.map(|info| info.config).unwrap_or_default(),
        ))
    }

    /// The exact number of these points.
    pub fn count(&self, selection: Selection<'_>) -> Result<u64, Failure> {
        let body = json!({ "exact": true });
        let call = selection.call(self, "counting the points of", &["count"], body);
        let counted: Result<CountAnswer, Failure> = self.ask(&call);
        match counted {
            Ok(answer) => Ok(answer.count),
            Err(failure) if failure.cause == Cause::Status(400) => {
                let strict = self.strict_mode(selection.collection)?;
                match strict.exact {
                    true => Err(failure),
                    false => self.count_ids(selection),
                }
            }
            Err(failure) => Err(failure),
        }
    }

    /// The exact number of points in one shard that this member holds; none if the server does not
    /// count by shard (before 1.11.1) and there are others, whose points it would count too.
    pub fn count_shard(&self, name: &str, shard: u32) -> Result<Option<u64>, Failure> {
        if let Some(count) = not_found_as_none(self.count(Selection::shard(name, shard)))? {
            return Ok(Some(count));
        }
        let is_only = self.topology(name)?.shard_ids() == [shard];
        is_only
            .then(|| self.count(Selection::all(name)))
            .transpose()
    }

    /// Counts the ids that are listed. One id under two shard keys is two points, and listed without a key it
    /// comes once: so each key is listed.
    fn count_ids(&self, selection: Selection<'_>) -> Result<u64, Failure> {
        let mut count = 0;
        let mut add = |ids: Vec<PointId>| {
            count += ids.len() as u64;
            Ok(true)
        };
        let keys = match (selection.shard, selection.key) {
            (None, None) => self.topology(selection.collection)?.shard_keys()?,
            _ => Default::default(),
        };
        if keys.is_empty() {
            self.ids(selection, &mut add)?;
        }
        for key in keys.keys().keys() {
            let key = Some(key);
            self.ids(Selection { key, ..selection }, &mut add)?;
        }
        Ok(count)
    }

    /// Calls `take` with the ids of these points, ascending, until it wants no more.
    pub fn ids(
        &self,
        selection: Selection<'_>,
        mut take: impl FnMut(Vec<PointId>) -> Result<bool>,
    ) -> Result<(), Failure> {
        let strict = self.strict_mode(selection.collection)?;
        let limit = IDS_PAGE.min(strict.page_max);
        let mut from = None;
        loop {
            let body = json!({
                "limit": limit, "offset": from, "with_payload": false, "with_vector": false,
            });
            let call = selection.call(self, "reading the ids of", &["scroll"], body);
            let page: Page = self.ask(&call)?;
            let wants_more = take(page.points.into_iter().map(|point| point.id).collect())?;
            match page.next_page_offset {
                Some(next) if wants_more => from = Some(next),
                _ => return Ok(()),
            }
        }
    }

    /// Which of `ids` are among these points.
    pub fn which(
        &self,
        selection: Selection<'_>,
        ids: &[PointId],
    ) -> Result<Vec<PointId>, Failure> {
        let body = json!({"ids": ids, "with_payload": false, "with_vector": false});
        let call = selection.call(self, "reading points of", &[], body);
        let there: Vec<Bare> = self.ask(&call)?;
        Ok(there.into_iter().map(|point| point.id).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_mode_counts_only_if_it_is_enabled() {
        let of = |strict: Value| {
            let config = json!({ "strict_mode_config": strict });
            StrictMode::of(config.as_object().unwrap())
        };
        let free = StrictMode {
            exact: true,
            page_max: usize::MAX,
            upsert_max: usize::MAX,
        };
        assert_eq!(StrictMode::of(&Map::new()), free);
        for (strict, limits) in [
            (json!(null), free),
            (json!({"enabled": false, "search_allow_exact": false}), free),
            (json!({"enabled": true, "max_query_limit": null}), free),
            (
                json!({"enabled": true, "search_allow_exact": false, "max_query_limit": 0,
                    "upsert_max_batchsize": 7}),
                StrictMode {
                    exact: false,
                    page_max: 1,
                    upsert_max: 7,
                },
            ),
        ] {
            assert_eq!(of(strict.clone()), limits, "{strict}");
        }
    }
}
