//! The points of one live collection: counted, read in the order of ids, written.
//!
//! Vectors travel over gRPC; what gRPC cannot hold (see [`convert`]) and filters, which are typed in
//! the JSON of REST, go over REST, and so does everything where gRPC is not reached. Both ways give the
//! same bits: REST writes each number with as many digits as tell it from every other.
//!
//! Invariants: what is read is what the server has, bit by bit, each point once and by ascending
//! id; a call is repeated only where twice is the same as once.

mod content;
mod convert;
mod failure;
mod pace;
mod read;
mod search;
mod upsert;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

use qdrant_client::qdrant as proto;
use qdrant_client::qdrant::points_client::PointsClient;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tonic::{Response, Status};

pub use pace::BATCH_BYTES;
pub use upsert::{Sent, Upserts};

use self::convert::{id_to, record_from_json, selector};
use super::Connection;
use super::answers::ServerVersion;
use super::call::{Call, CallTimeout};
use super::connection::GrpcChannel;
use super::failure::Failure;
use super::rest::LONG;
use super::retry::{Retry, RetryOn};
use super::selection::{Selection, StrictMode};
use super::versions::Feature;
use crate::base::error::{Error, Result};
use crate::point::ShardKey;
use crate::point::{PointId, Record};

/// Largest answer that is taken over gRPC, in bytes; pages are far smaller.
const MESSAGE_BYTES_MAX: usize = 512 << 20;

/// The points of a collection, or those under one of its shard keys. Cheap to clone.
#[derive(Clone)]
pub struct Points {
    connection: Connection,
    client: PointsClient<GrpcChannel>,
    collection: String,
    key: Option<ShardKey>,
    strict: StrictMode,
    /// True if everything goes over REST.
    by_rest: bool,
    what: String,
}

impl fmt::Debug for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Points").field(&self.what).finish()
    }
}

impl Points {
    /// The points of `collection` on the server of `connection`; with `key`, those under it.
    pub fn new(connection: &Connection, collection: &str, key: Option<&ShardKey>) -> Result<Self> {
        let client = PointsClient::new(connection.grpc_channel()?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let address = connection.address().collection(collection);
        let what = match key {
            None => address.to_string(),
            Some(key) => format!("{address}, shard key {key}"),
        };
        Ok(Self {
            connection: connection.clone(),
            client,
            collection: collection.to_owned(),
            key: key.cloned(),
            strict: connection.strict_mode(collection)?,
            by_rest: connection.is_rest_alone()?,
            what,
        })
    }

    /// Returns true if a server of `version` keeps the payloads of the collection as JSON text (segments that an older
    /// one made may still have CBOR).
    fn stores_text(&self, version: Option<ServerVersion>) -> Result<bool> {
        if Feature::PayloadsAsText.is_in(version) || !Feature::PayloadsOnDiskAsText.is_in(version) {
            return Ok(Feature::PayloadsAsText.is_in(version));
        }
        let info = self.connection.collection(&self.collection)?;
        info.map_or(Ok(true), |info| {
            Ok(info.config(&self.what)?.on_disk_payload())
        })
    }

    /// Returns the description of these points for errors.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The shard key that they lie under, if they were chosen by it.
    pub fn key(&self) -> Option<&ShardKey> {
        self.key.as_ref()
    }

    /// The exact number of points, or of those that match `filter`.
    pub fn count(&self, filter: Option<&Value>) -> Result<u64> {
        Ok(self.connection.count(Selection {
            collection: &self.collection,
            shard: None,
            key: self.key.as_ref(),
            filter,
        })?)
    }

    /// The records with `ids`, ascending by id; ids that the collection lacks are left out.
    pub fn get(&self, ids: &[PointId]) -> Result<Vec<Record>> {
        let doing = format!("reading {} points of {}", ids.len(), self.what);
        let work = self.clone().get_some(ids.to_vec());
        self.connection.run(&doing, work)
    }

    /// Deletes the points with `ids`, and waits for it.
    pub fn delete(&self, ids: &[PointId]) -> Result<()> {
        let doing = format!("deleting points of {}", self.what);
        if self.by_rest {
            let mut body = json!({"points": ids});
            self.choose(&mut body, None);
            let call = self
                .call(Method::POST, "deleting points of", "delete")
                .query("wait", "true")
                .body(body)
                .patience(CallTimeout::For(LONG));
            let _: Value = self.connection.ask(&call)?;
            return Ok(());
        }
        let request = proto::DeletePoints {
            collection_name: self.collection.clone(),
            wait: Some(true),
            points: Some(proto::PointsSelector {
                points_selector_one_of: Some(proto::points_selector::PointsSelectorOneOf::Points(
                    proto::PointsIdsList {
                        ids: ids.iter().copied().map(id_to).collect(),
                    },
                )),
            }),
            shard_key_selector: selector(self.key.as_ref()),
            ..proto::DeletePoints::default()
        };
        let delete = self.again(&doing, RetryOn::Transient, || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.delete(request).await }
        });
        self.connection.run(&doing, delete)?;
        Ok(())
    }

    /// Adds to the body of a REST call which points are meant.
    fn choose(&self, body: &mut Value, filter: Option<&Value>) {
        if let Some(body) = body.as_object_mut() {
            if let Some(filter) = filter {
                body.insert("filter".into(), filter.clone());
            }
            if let Some(key) = &self.key {
                body.insert("shard_key".into(), json!(key));
            }
        }
    }

    fn call(&self, method: Method, act: &str, last: &str) -> Call {
        let mut segments = vec!["collections", self.collection.as_str(), "points"];
        if !last.is_empty() {
            segments.push(last);
        }
        Call::new(method, format!("{act} {}", self.what), &segments)
    }

    /// The records with `ids` over REST.
    async fn get_by_rest(&self, ids: &[PointId]) -> Result<Vec<Record>> {
        let mut body = json!({"ids": ids, "with_payload": true, "with_vector": true});
        self.choose(&mut body, None);
        let call = self
            .call(Method::POST, "reading points of", "")
            .body(body)
            .patience(CallTimeout::For(LONG));
        let points: Vec<Value> = self.connection.asked(&call).await?;
        self.records(points)
    }

    fn records(&self, points: Vec<Value>) -> Result<Vec<Record>> {
        let mut records = points
            .into_iter()
            .map(record_from_json)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|why| Error::failed(format!("reading points of {}", self.what), why))?;
        records.sort_by_key(|record| record.id);
        Ok(records)
    }

    /// Makes a call of gRPC, again as long as it fails of what `on` covers.
    async fn again<T, F>(
        &self,
        doing: &str,
        on: RetryOn,
        call: impl Fn() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let retry = Retry::new(on, self.connection.settings().retries);
        let attempt = || async {
            match tokio::time::timeout(LONG, call()).await {
                Ok(Ok(answer)) => Ok(answer.into_inner()),
                Ok(Err(status)) => Err(failure::of(doing, &self.connection, &status)),
                Err(_) => Err(failure::late(doing, &self.connection)),
            }
        };
        retry.run(attempt).await
    }
}

impl Connection {
    /// The number of the last operation in each shard of `collection` that this member holds, as
    /// far as the server tells (from 1.14.1 on): when a number grows, somebody has written.
    pub fn last_operations(&self, collection: &str) -> Vec<(u32, u64)> {
        #[derive(Deserialize)]
        struct Segment {
            #[serde(default)]
            segment_version: Option<u64>,
        }
        let Ok(topology) = self.topology(collection) else {
            return Vec::new();
        };
        let mut numbers = Vec::new();
        for shard in topology.local_shards {
            let number = shard.shard_id.to_string();
            let path = [
                "collections",
                collection,
                "shards",
                &number,
                "snapshot",
                "partial",
                "manifest",
            ];
            let call = Call::get(format!("asking for the state of shard {number}"), &path);
            let segments: Result<BTreeMap<String, Segment>, _> = self.ask(&call);
            if let Ok(segments) = segments {
                let last = segments.values().filter_map(|one| one.segment_version);
                numbers.push((shard.shard_id, last.max().unwrap_or(0)));
            }
        }
        numbers
    }
}
