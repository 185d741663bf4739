//! Answers of a server, as far as they are used; fields that a newer server adds are ignored.
//!
//! Invariants: what decides about data (states, ids, counts) has to be there and of the right type,
//! or the answer is refused; a word that this version does not know is never taken for a good one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::base::error::Result;
use crate::format::schema::{CollectionConfig, PayloadSchema, ShardKeys};
use crate::point::ShardKey;

/// `GET /`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// `qdrant - vector search engine`.
    #[serde(default)]
    pub title: String,
    /// `1.19.0`.
    pub version: String,
    /// The commit it was built from.
    #[serde(default)]
    pub commit: Option<String>,
}

/// Major, minor and patch.
pub type ServerVersion = (u32, u32, u32);

impl ServerInfo {
    /// Major, minor and patch; none for a version that is not written so.
    pub fn numbers(&self) -> Option<ServerVersion> {
        version_numbers(&self.version)
    }
}

/// The numbers of a `version`; none if it is not written in three of them.
pub fn version_numbers(version: &str) -> Option<ServerVersion> {
    let bare = version.split(['-', '+']).next()?;
    let mut parts = bare.split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some((next()?, next()?, next()?))
}

/// `GET /cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ClusterStatus {
    /// `enabled` or `disabled`.
    pub status: String,
    /// This member.
    #[serde(default)]
    pub peer_id: Option<u64>,
    /// All members, by id, with the address that they talk to each other on.
    #[serde(default)]
    pub peers: BTreeMap<String, Peer>,
}

/// A member of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Peer {
    /// The address of the members' own talk, which is not REST's.
    #[serde(default)]
    pub uri: String,
}

impl ClusterStatus {
    /// Returns true if clustering is enabled, also for a cluster of one.
    pub fn is_enabled(&self) -> bool {
        self.status == "enabled"
    }

    /// The ids of all members.
    pub fn peer_ids(&self) -> Vec<u64> {
        self.peers.keys().filter_map(|id| id.parse().ok()).collect()
    }
}

/// `GET /collections/NAME`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct CollectionInfo {
    /// `green`, `yellow`, `grey` or `red`.
    pub status: String,
    /// `"ok"` or what is wrong with the optimizers.
    #[serde(default)]
    pub optimizer_status: Value,
    /// Vectors in an index, of all shards and names; an estimate.
    #[serde(default)]
    pub indexed_vectors_count: Option<u64>,
    /// Points; an estimate.
    #[serde(default)]
    pub points_count: Option<u64>,
    /// Segments.
    #[serde(default)]
    pub segments_count: u64,
    /// The config, in the form of a snapshot's `config.json` but for the uuid.
    pub config: Map<String, Value>,
    /// Payload indexes by field.
    #[serde(default)]
    pub payload_schema: BTreeMap<String, PayloadIndex>,
    /// Queue of updates that wait to be applied.
    #[serde(default)]
    pub update_queue: Option<UpdateQueue>,
}

/// A payload index of a live collection.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct PayloadIndex {
    /// Type of the index.
    pub data_type: String,
    /// Parameters, type included, where any were given.
    #[serde(default)]
    pub params: Option<Value>,
    /// Points that have the field; an estimate.
    #[serde(default)]
    pub points: u64,
}

/// Queue of updates that wait to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct UpdateQueue {
    /// Number of operations.
    #[serde(default)]
    pub length: u64,
    /// Points that are stored and in the log, but hidden from reads until they are optimized
    /// (`prevent_unoptimized`); told since 1.17.1.
    #[serde(default)]
    pub deferred_points: Option<u64>,
}

impl CollectionInfo {
    /// Returns true if the status is green.
    pub fn is_green(&self) -> bool {
        self.status == "green"
    }

    /// Operations that wait to be applied, if the server tells.
    pub fn queued(&self) -> u64 {
        self.update_queue.map_or(0, |queue| queue.length)
    }

    /// Points that reads do not show yet, as far as the server tells.
    pub fn deferred(&self) -> u64 {
        let queue = self.update_queue;
        queue.and_then(|queue| queue.deferred_points).unwrap_or(0)
    }

    /// The config as it would lie in a snapshot; `source` is named in errors.
    pub fn config(&self, source: &str) -> Result<CollectionConfig> {
        let bytes = Value::from(self.config.clone()).to_string().into_bytes();
        CollectionConfig::parse(source, &bytes)
    }

    /// The payload indexes as they would lie in a snapshot; `source` is named in errors.
    pub fn payload_schema(&self, source: &str) -> Result<PayloadSchema> {
        let fields: Map<String, Value> = self
            .payload_schema
            .iter()
            .map(|(field, index)| {
                let bare = Value::from(index.data_type.as_str());
                (field.clone(), index.params.clone().unwrap_or(bare))
            })
            .collect();
        let bytes = serde_json::json!({ "schema": fields }).to_string();
        PayloadSchema::parse(source, bytes.as_bytes())
    }
}

/// `GET /collections/NAME/cluster`, as one member sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Topology {
    /// The member that answered.
    pub peer_id: u64,
    /// Shards that it holds.
    pub local_shards: Vec<LocalShard>,
    /// Shards that others hold.
    pub remote_shards: Vec<RemoteShard>,
    /// Shards on their way from one member to another.
    pub shard_transfers: Vec<Value>,
    /// Shards being split or joined.
    #[serde(default)]
    pub resharding_operations: Vec<Value>,
}

/// A shard that the answering member holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LocalShard {
    /// Number of the shard.
    pub shard_id: u32,
    /// Shard key, with custom sharding.
    #[serde(default)]
    pub shard_key: Option<ShardKey>,
    /// Points; an estimate.
    #[serde(default)]
    pub points_count: u64,
    /// `Active`, or something else.
    pub state: String,
}

/// A shard that another member holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RemoteShard {
    /// Number of the shard.
    pub shard_id: u32,
    /// Shard key, with custom sharding.
    #[serde(default)]
    pub shard_key: Option<ShardKey>,
    /// The member.
    pub peer_id: u64,
    /// `Active`, or something else.
    pub state: String,
}

/// The only state of a replica that its data can be taken from.
pub const ACTIVE: &str = "Active";

impl Topology {
    /// Describes the transfers and resharding under way; none if there are none.
    pub fn moves(&self) -> Option<String> {
        match (self.shard_transfers.len(), self.resharding_operations.len()) {
            (0, 0) => None,
            (transfers, 0) => Some(format!("{transfers} shards are being transferred")),
            (0, _) => Some("it is being resharded".into()),
            (transfers, _) => Some(format!(
                "it is being resharded, and {transfers} shards are being transferred"
            )),
        }
    }

    /// Every replica: shard, member and state.
    pub fn replicas(&self) -> impl Iterator<Item = (u32, u64, &str)> {
        let local = self
            .local_shards
            .iter()
            .map(|shard| (shard.shard_id, self.peer_id, shard.state.as_str()));
        let remote = self
            .remote_shards
            .iter()
            .map(|shard| (shard.shard_id, shard.peer_id, shard.state.as_str()));
        local.chain(remote)
    }

    /// The numbers of all shards, in rising order.
    pub fn shard_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.replicas().map(|(shard, _, _)| shard).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Which shards belong to which key.
    pub fn shard_keys(&self) -> Result<ShardKeys> {
        let mut keys: BTreeMap<ShardKey, Vec<u32>> = BTreeMap::new();
        let local = self.local_shards.iter().map(|s| (s.shard_id, &s.shard_key));
        let remote = self
            .remote_shards
            .iter()
            .map(|s| (s.shard_id, &s.shard_key));
        for (shard, key) in local.chain(remote) {
            if let Some(key) = key {
                let ids = keys.entry(key.clone()).or_default();
                if !ids.contains(&shard) {
                    ids.push(shard);
                }
            }
        }
        ShardKeys::new(keys)
    }
}

/// A snapshot that lies on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSnapshot {
    /// File name.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256; none where snapshots are kept in an object store.
    #[serde(default)]
    pub checksum: Option<String>,
    /// When it was made, by the server's clock.
    #[serde(default)]
    pub creation_time: Option<String>,
}

/// `GET /collections/NAME/optimizations`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Optimizations {
    /// Optimizations under way.
    #[serde(default)]
    pub running: Vec<Value>,
    /// Optimizations that wait.
    #[serde(default)]
    pub queued: Vec<Value>,
    /// Optimizations that ended, the last ones.
    #[serde(default)]
    pub completed: Vec<Value>,
}

impl Optimizations {
    /// Returns true if nothing is under way or waits.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.queued.is_empty()
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct CollectionsAnswer {
    pub collections: Vec<NamedCollection>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NamedCollection {
    pub name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct AliasesAnswer {
    pub aliases: Vec<AliasAnswer>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AliasAnswer {
    pub alias_name: String,
    pub collection_name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct CountAnswer {
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_are_read() {
        let numbers = |version: &str| {
            ServerInfo {
                title: String::new(),
                version: version.into(),
                commit: None,
            }
            .numbers()
        };
        assert_eq!(numbers("1.19.0"), Some((1, 19, 0)));
        assert_eq!(numbers("1.18.3-dev+x"), Some((1, 18, 3)));
        assert_eq!(numbers("1.19"), None);
        assert_eq!(numbers("main"), None);
    }

    #[test]
    fn a_topology_tells_replicas_keys_and_moves() {
        let topology: Topology = serde_json::from_value(json!({
            "peer_id": 7, "shard_count": 2,
            "local_shards": [{"shard_id": 1, "shard_key": "a", "points_count": 3, "state": "Active"}],
            "remote_shards": [
                {"shard_id": 1, "shard_key": "a", "peer_id": 8, "state": "Partial"},
                {"shard_id": 2, "shard_key": 2019, "peer_id": 8, "state": "Active"}],
            "shard_transfers": [],
        }))
        .unwrap();
        assert_eq!(topology.shard_ids(), [1, 2]);
        let replicas: Vec<_> = topology.replicas().collect();
        assert_eq!(
            replicas,
            [(1, 7, "Active"), (1, 8, "Partial"), (2, 8, "Active")]
        );
        let keys = topology.shard_keys().unwrap();
        assert_eq!(keys.key_of(2), Some(&ShardKey::Number(2019)));
        assert_eq!(topology.moves(), None);
        let moving = Topology {
            shard_transfers: vec![json!({})],
            ..topology
        };
        assert!(moving.moves().unwrap().contains("transferred"));
    }

    #[test]
    fn a_live_schema_is_as_a_snapshots() {
        let info: CollectionInfo = serde_json::from_value(json!({
            "status": "green", "config": {}, "segments_count": 1, "new": 1,
            "payload_schema": {
                "year": {"data_type": "integer", "points": 3},
                "text": {"data_type": "text", "params": {"type": "text", "tokenizer": "word"}, "points": 3}}
        }))
        .unwrap();
        let schema = info.payload_schema("x").unwrap();
        assert_eq!(schema.fields()["year"], json!("integer"));
        assert_eq!(schema.fields()["text"]["tokenizer"], json!("word"));
        assert!(info.is_green());
        assert_eq!(info.queued(), 0);
    }
}
