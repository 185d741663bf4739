//! Which points lie in one shard of a live collection, as the member that holds it says.
//!
//! Keeps true: only ids are read; a server that cannot say so by shard is told from a shard without
//! points.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::read::IDS_AT_ONCE;
use crate::base::error::Result;
use crate::point::PointId;
use crate::server::Connection;
use crate::server::call::Call;
use crate::server::rest::found;

#[derive(Deserialize)]
struct Page {
    points: Vec<Bare>,
    next_page_offset: Option<PointId>,
}

#[derive(Deserialize)]
struct Bare {
    id: PointId,
}

/// The points of one shard that the member behind the connection holds.
#[derive(Debug)]
pub struct ShardPoints<'a> {
    /// The member.
    pub connection: &'a Connection,
    /// The collection.
    pub collection: &'a str,
    /// The shard.
    pub shard: u32,
}

impl ShardPoints<'_> {
    /// Calls `take` with all ids, ascending, some at a time. False if the server cannot say what lies
    /// in a shard.
    pub fn ids(&self, mut take: impl FnMut(Vec<PointId>) -> Result<()>) -> Result<bool> {
        let mut from = None;
        loop {
            let body = json!({
                "limit": IDS_AT_ONCE, "offset": from, "with_payload": false, "with_vector": false,
            });
            let Some(page) = self.ask::<Page>(&["scroll"], body)? else {
                return Ok(false);
            };
            take(page.points.into_iter().map(|point| point.id).collect())?;
            match page.next_page_offset {
                Some(next) => from = Some(next),
                None => return Ok(true),
            }
        }
    }

    /// Which of `ids` lie in it.
    pub fn which(&self, ids: &[PointId]) -> Result<Vec<PointId>> {
        let body = json!({"ids": ids, "with_payload": false, "with_vector": false});
        let there: Option<Vec<Bare>> = self.ask(&[], body)?;
        let there = there.into_iter().flatten();
        Ok(there.map(|point| point.id).collect())
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, last: &[&str], body: Value) -> Result<Option<T>> {
        let Self {
            connection,
            collection,
            shard,
        } = self;
        let doing = format!(
            "reading the ids of shard {shard} of {}",
            connection.address().collection(collection)
        );
        let shard = shard.to_string();
        let mut segments = vec!["collections", collection, "shards", &shard, "points"];
        segments.extend(last);
        let call = Call::new(Method::POST, doing, &segments)
            .body(body)
            .patience(connection.at_least(super::LONG));
        Ok(found(connection.ask(&call))?)
    }
}
