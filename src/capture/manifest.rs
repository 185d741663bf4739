//! Manifest beside a captured file: its origin, its time, and what it must be.
//!
//! Invariants: it holds no key; its `sha256` is of exactly the file beside it, so that every reader of
//! snapshots here compares it; what was not known is absent, not guessed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::lineage::Lineage;
use crate::format::ShardManifest;
use crate::point::ShardKey;

/// The version of the manifest's form.
pub const VERSION: u32 = 1;

/// The manifest of one captured collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// [`VERSION`].
    pub manifest: u32,
    /// Which snapmerge wrote it.
    pub snapmerge: String,
    /// The server that was asked.
    pub server: String,
    /// Version of the server.
    pub server_version: String,
    /// The collection.
    pub collection: String,
    /// UUID of the collection, if the snapshot has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Form of the capture.
    pub form: Form,
    /// When it started.
    // Its name on disk, where earlier versions wrote it, too.
    #[serde(rename = "begun")]
    pub started: DateTime<Utc>,
    /// When the last byte was there.
    pub ended: DateTime<Utc>,
    /// The file's size in bytes.
    pub bytes: u64,
    /// The file's SHA-256.
    pub sha256: String,
    /// The file's BLAKE3.
    pub blake3: String,
    /// The members that it was taken from, with what each gave.
    pub peers: Vec<PeerPart>,
    /// The shards.
    pub shards: Vec<ShardPart>,
    /// Points, counted exactly before and after; none if points were written in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<u64>,
    /// Points before it was taken.
    pub points_before: u64,
    /// Points after it was taken.
    pub points_after: u64,
    /// Vectors in an index, as the server told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indexed_vectors: Option<u64>,
    /// The collection's status before: `green`, `yellow`, `grey` or `red`.
    pub status: String,
    /// Aliases that pointed to it.
    pub aliases: Vec<String>,
    /// The config.
    pub config: Map<String, Value>,
    /// The payload indexes by field.
    pub payload_schema: Value,
    /// State that the next capture can build on, to take only what is newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<PartialState>,
}

impl Manifest {
    /// Bytes that came from servers.
    pub fn moved_bytes(&self) -> u64 {
        self.peers.iter().map(|peer| peer.bytes).sum()
    }
}

/// State of a collection's shards, from which on a server tells what is newer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartialState {
    /// The history that it belongs to.
    pub lineage: Lineage,
    /// The segments of the shards, with the versions of all files that the snapshot has of them.
    pub shards: BTreeMap<u32, ShardManifest>,
    /// The archive's entry that this capture was built on; none if all of it was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Captures since the last one of which all was moved.
    pub increments: u32,
}

/// Form of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The snapshot of one member, as the server made it.
    Collection,
    /// The snapshots of several members, each shard from one.
    Assembled,
    /// Streamed shards.
    Streamed,
    /// Data newer than an entry of the archive, streamed, and the rest out of that entry.
    Incremental,
}

/// Part that one member gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerPart {
    /// The member.
    pub peer: u64,
    /// Address of the member.
    pub address: String,
    /// The snapshot that it made, which is removed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Size of the part in bytes.
    pub bytes: u64,
    /// The SHA-256 that the server gave for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShardPart {
    /// Number of the shard.
    pub shard: u32,
    /// Shard key, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ShardKey>,
    /// The member that it was taken from.
    pub peer: u64,
    /// Number of points, if the server counts by shard and nothing was written in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<u64>,
}
