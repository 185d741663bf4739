//! The calls of REST that ask and change small things: collections, aliases, counts, indexes.
//!
//! Invariants: each says in an error what it was for and which server it asked; what may be done
//! twice is repeated by itself, and nothing else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use super::Connection;
use super::answers::{
    AliasesAnswer, ClusterStatus, CollectionInfo, CollectionsAnswer, Optimizations, ServerInfo,
    Topology, version_numbers,
};
use super::call::{Call, CallTimeout};
use super::failure::{Cause, Failure};
use super::retry::Polling;
use super::telemetry::{Answer, Telemetry};
use super::versions::Feature;
use crate::base::error::{Error, Result};
use crate::format::ShardManifest;
use crate::point::ShardKey;

/// Shortest timeout of an exact count, a filter or a change of the cluster.
pub(super) const LONG: Duration = Duration::from_secs(600);
/// Shortest timeout of telemetry, which a server collects from one collection after the other.
const TELEMETRY: Duration = Duration::from_secs(60);
/// Polling for the effect of a call whose answer was lost.
const LOOKING: Polling = Polling::every(Duration::from_millis(100)).up_to(Duration::from_secs(1));

impl Connection {
    /// Returns the server's version and build.
    pub fn server_info(&self) -> Result<ServerInfo, Failure> {
        let call = Call::get(format!("asking {} for its version", self.who()), &[]);
        // Without an envelope, unlike all others.
        self.run(&call.doing, self.asked_raw(&call))
    }

    /// The cluster that it is part of.
    pub fn cluster(&self) -> Result<ClusterStatus, Failure> {
        let doing = format!("asking {} for its cluster", self.who());
        self.ask(&Call::get(doing, &["cluster"]))
    }

    /// The same; none if the server does not tell this key.
    pub fn cluster_if_told(&self) -> Result<Option<ClusterStatus>, Failure> {
        unsupported_as_none(self.cluster())
    }

    /// The names of all collections.
    pub fn collections(&self) -> Result<Vec<String>, Failure> {
        let doing = format!("asking {} for its collections", self.who());
        let answer: CollectionsAnswer = self.ask(&Call::get(doing, &["collections"]))?;
        let mut names: Vec<String> = answer.collections.into_iter().map(|one| one.name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Returns true if there is a collection of this name; works also after the user asked to stop.
    pub fn exists_putting_away(&self, name: &str) -> Result<bool, Failure> {
        let doing = format!("asking {} for its collections", self.who());
        let answer: CollectionsAnswer =
            self.ask_putting_away(&Call::get(doing, &["collections"]))?;
        Ok(answer.collections.iter().any(|one| one.name == name))
    }

    /// All aliases, each with its collection.
    pub fn aliases(&self) -> Result<BTreeMap<String, String>, Failure> {
        let doing = format!("asking {} for its aliases", self.who());
        let answer: AliasesAnswer = self.ask(&Call::get(doing, &["aliases"]))?;
        let pairs = answer.aliases.into_iter();
        Ok(pairs
            .map(|one| (one.alias_name, one.collection_name))
            .collect())
    }

    /// Returns the state of a collection; none if there is none. A name that is an alias is answered with its
    /// collection.
    pub fn collection(&self, name: &str) -> Result<Option<CollectionInfo>, Failure> {
        let doing = format!("asking {} for collection {name}", self.who());
        not_found_as_none(self.ask(&Call::get(doing, &["collections", name])))
    }

    /// The shards of a collection, as this member sees them.
    pub fn topology(&self, name: &str) -> Result<Topology, Failure> {
        let doing = format!("asking {} for the shards of {name}", self.who());
        self.ask(&Call::get(doing, &["collections", name, "cluster"]))
    }

    /// Returns what the optimizers of this member do and did; none if the server is too old to tell.
    pub fn optimizations(&self, name: &str) -> Result<Option<Optimizations>, Failure> {
        let doing = format!("asking {} what its optimizers do with {name}", self.who());
        let call = Call::get(doing, &["collections", name, "optimizations"])
            .query("with", "queued,completed");
        not_found_as_none(self.ask(&call))
    }

    /// Returns the number of snapshots that this member is restoring to a collection at this moment; none if
    /// it does not tell.
    pub fn recoveries(&self, name: &str) -> Result<Option<u64>, Failure> {
        self.running(name, "running_snapshot_recovery")
    }

    /// Returns the number of snapshots of a collection that this member is making at this moment; none if it
    /// does not tell.
    pub fn makings(&self, name: &str) -> Result<Option<u64>, Failure> {
        self.running(name, "running_snapshots")
    }

    /// Returns what the server tells of itself and of all its collections; parts that it does not tell are
    /// none.
    pub fn telemetry(&self) -> Result<Telemetry, Failure> {
        let asked = Instant::now();
        let doing = format!("asking {} what it has done so far", self.who());
        // Shards with their logs are told from this level on (lib/collection/src/collection/telemetry.rs);
        // the next one locks every segment.
        let call = Call::get(doing, &["telemetry"])
            .query("details_level", "3")
            .patience(self.at_least(TELEMETRY));
        // Not every key may ask for it.
        let told: Option<Answer> = unsupported_as_none(self.ask(&call))?;
        Ok(match told {
            Some(told) => Telemetry::new(told, asked),
            None => Telemetry::untold(asked),
        })
    }

    /// The segments of a shard with the versions of their files; none if the server does not tell.
    pub fn segments(&self, name: &str, shard: u32) -> Result<Option<ShardManifest>, Failure> {
        let doing = format!("asking {} for the segments of {name}", self.who());
        let shard = shard.to_string();
        let segments = [
            "collections",
            name,
            "shards",
            &shard,
            "snapshot",
            "partial",
            "manifest",
        ];
        unsupported_as_none(self.ask(&Call::get(doing, &segments)))
    }

    fn running(&self, name: &str, what: &str) -> Result<Option<u64>, Failure> {
        let doing = format!("asking {} what it is at work on", self.who());
        let call = Call::get(doing, &["telemetry"]).query("details_level", "2");
        // Not every key may ask for it.
        let told: Option<Value> = unsupported_as_none(self.ask_putting_away(&call))?;
        let Some(told) = told else {
            return Ok(None);
        };
        let version = told.pointer("/app/version").and_then(Value::as_str);
        if !Feature::SnapshotTelemetry.is_in(version.and_then(version_numbers)) {
            return Ok(None);
        }
        let snapshots = told
            .pointer("/collections/snapshots")
            .and_then(Value::as_array);
        // Nothing is told of a collection that nothing was done with.
        let running = snapshots
            .into_iter()
            .flatten()
            .filter(|one| one.get("id").and_then(Value::as_str) == Some(name))
            .filter_map(|one| one.get(what)?.as_u64());
        Ok(Some(running.sum()))
    }

    /// Returns the time of the server's clock, if the server sends it.
    pub fn server_time(&self) -> Result<Option<DateTime<Utc>>, Failure> {
        let doing = format!("asking {} for its clock", self.who());
        let request = self.request(&Call::get(doing.as_str(), &[]));
        let request = request.timeout(self.settings().timeout);
        let response = self.run(&doing, self.send(&doing, request))?;
        let date = response.headers().get(reqwest::header::DATE);
        let date = date.and_then(|value| DateTime::parse_from_rfc2822(value.to_str().ok()?).ok());
        Ok(date.map(|date| date.to_utc()))
    }

    /// Creates a collection; `body` is what `PUT /collections/NAME` takes.
    pub fn create_collection(&self, name: &str, body: Value) -> Result<(), Failure> {
        let doing = format!("creating collection {name} on {}", self.who());
        let call = Call::new(Method::PUT, doing, &["collections", name])
            .query("timeout", self.seconds(LONG))
            .body(body)
            .once()
            .patience(self.at_least(LONG));
        let asked = self.ask::<bool>(&call).map(|_| ());
        self.or_done(asked, || Ok(self.collection(name)?.is_some()))
    }

    /// Changes the settings of a collection; `body` is what `PATCH /collections/NAME` takes. `{}` is
    /// no change, and wakes optimizers that wait for one.
    pub fn patch_collection(&self, name: &str, body: Value) -> Result<(), Failure> {
        let doing = format!("changing collection {name} on {}", self.who());
        let call = Call::new(Method::PATCH, doing, &["collections", name])
            .body(body)
            .patience(self.at_least(LONG));
        self.ask::<bool>(&call).map(|_| ())
    }

    /// Removes a collection, also when the user asked to stop; one that is not there is no failure.
    pub fn delete_collection(&self, name: &str) -> Result<(), Failure> {
        let doing = format!("removing collection {name} from {}", self.who());
        let call = Call::new(Method::DELETE, doing, &["collections", name])
            .query("timeout", self.seconds(LONG))
            .patience(self.at_least(LONG));
        not_found_as_none(self.ask_putting_away::<bool>(&call)).map(|_| ())
    }

    /// Creates a shard key with so many shards, on members that the cluster chooses.
    pub fn create_shard_key(&self, name: &str, key: &ShardKey, shards: u32) -> Result<(), Failure> {
        let doing = format!("creating shard key {key} of {name} on {}", self.who());
        let body = json!({ "shard_key": key, "shards_number": shards });
        let call = Call::new(Method::PUT, doing, &["collections", name, "shards"])
            .query("timeout", self.seconds(LONG))
            .body(body)
            .once()
            .patience(self.at_least(LONG));
        let asked = self.ask::<bool>(&call).map(|_| ());
        self.or_done(asked, || {
            Ok(self.topology(name)?.shard_keys()?.keys().contains_key(key))
        })
    }

    /// Removes a shard key with its shards.
    pub fn delete_shard_key(&self, name: &str, key: &ShardKey) -> Result<(), Failure> {
        let doing = format!("removing shard key {key} of {name} on {}", self.who());
        let segments = ["collections", name, "shards", "delete"];
        let call = Call::new(Method::POST, doing, &segments)
            .body(json!({ "shard_key": key }))
            .once()
            .patience(self.at_least(LONG));
        self.ask::<bool>(&call).map(|_| ())
    }

    /// Creates a payload index and waits until it is there; `index` is `"integer"` or
    /// `{"type": "text", …}`.
    pub fn create_payload_index(
        &self,
        name: &str,
        field: &str,
        index: &Value,
    ) -> Result<(), Failure> {
        let doing = format!("creating the index on {field} of {name} on {}", self.who());
        let call = Call::new(Method::PUT, doing, &["collections", name, "index"])
            .query("wait", "true")
            .body(json!({ "field_name": field, "field_schema": index }))
            .patience(self.at_least(LONG));
        self.ask::<Value>(&call).map(|_| ())
    }

    /// Points `alias` to `collection`, in one call and wherever it pointed to before.
    pub fn point_alias(&self, alias: &str, collection: &str) -> Result<(), Failure> {
        let doing = format!("pointing alias {alias} to {collection} on {}", self.who());
        self.point(doing, &[(alias, collection)])
    }

    /// Points each alias to its collection, all of them in one call and wherever they pointed to before.
    pub fn point_aliases(&self, pairs: &[(&str, &str)]) -> Result<(), Failure> {
        let doing = format!("pointing {} aliases on {}", pairs.len(), self.who());
        self.point(doing, pairs)
    }

    fn point(&self, doing: String, pairs: &[(&str, &str)]) -> Result<(), Failure> {
        let pairs = pairs.iter();
        let actions = pairs.map(|(alias, collection)| {
            json!({ "create_alias": { "alias_name": alias, "collection_name": collection } })
        });
        let actions: Vec<Value> = actions.collect();
        let call = Call::new(Method::POST, doing, &["collections", "aliases"])
            .body(json!({ "actions": actions }));
        self.ask::<bool>(&call).map(|_| ())
    }

    /// Handles a lost answer (a proxy that gave up, a connection that ended): the server may have done what
    /// was `asked` all the same, and what was not there before is polled for with `is_done`.
    fn or_done(
        &self,
        asked: Result<(), Failure>,
        is_done: impl Fn() -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let Err(failure) = asked else {
            return Ok(());
        };
        if !failure.cause.leaves_open() {
            return Err(failure);
        }
        let polling = LOOKING.within(self.settings().timeout);
        let done = self.wait_until(failure.error.doing(), polling, || {
            Ok::<_, Failure>(is_done()?.then_some(()))
        })?;
        done.ok_or(failure)
    }

    /// As long as `--timeout` says, but at least this long.
    pub(super) fn at_least(&self, least: Duration) -> CallTimeout {
        CallTimeout::For(self.settings().timeout.max(least))
    }

    /// The same for the server's own limit, in seconds.
    fn seconds(&self, least: Duration) -> String {
        self.settings().timeout.max(least).as_secs().to_string()
    }
}

/// None in place of status 404.
pub fn not_found_as_none<T>(asked: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(failure) if failure.is_not_found() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// A collection that has to be there.
pub fn require(
    address: &super::CollectionAddress,
    info: Option<CollectionInfo>,
) -> Result<CollectionInfo> {
    info.ok_or_else(|| {
        Error::new(
            crate::base::error::Kind::Refused,
            format!("looking for {address}"),
            "there is no such collection",
        )
        .next(format!(
            "`curl {}/collections` lists what is there",
            address.server
        ))
    })
}

/// None in place of a server's no: one that is too old to tell, or that does not tell this key.
fn unsupported_as_none<T>(asked: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match asked {
        Ok(told) => Ok(Some(told)),
        Err(failure) if matches!(failure.cause, Cause::Status(400..500)) => Ok(None),
        Err(failure) => Err(failure),
    }
}
