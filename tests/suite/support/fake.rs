//! What [`super::scripted`] answers when nothing goes wrong: as much of Qdrant as snapmerge talks to.
//!
//! Keeps true: it knows nothing of vectors; counts are what a test says they are, and an upload is
//! kept as it came.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::partial::PartialShard;
use super::scripted::{Answer, Seen};

/// A collection.
#[derive(Debug, Clone)]
pub struct Collection {
    /// As `GET /collections/NAME` answers.
    pub info: Value,
    /// Points of each shard.
    pub shards: BTreeMap<u32, u64>,
    /// The state of its replicas.
    pub state: String,
    /// Snapshots that lie there, by name.
    pub snapshots: BTreeMap<String, Vec<u8>>,
    /// Transfers that are going on.
    pub transfers: Vec<Value>,
}

impl Collection {
    /// So many points in a shard.
    pub fn set_points(&mut self, shard: u32, points: u64) {
        self.shards.insert(shard, points);
    }
}

/// A server.
#[derive(Debug, Clone)]
pub struct Fake {
    pub version: String,
    pub collections: BTreeMap<String, Collection>,
    pub aliases: BTreeMap<String, String>,
    /// What a snapshot of any collection is.
    pub snapshot: Vec<u8>,
    /// What the server says is its SHA-256: as it is, wrong, or nothing.
    pub checksum: Checksum,
    /// The same for some, by collection.
    pub own: BTreeMap<String, Vec<u8>>,
    /// The last operation of each collection, if the server tells how far logs are.
    pub operations: Option<BTreeMap<String, u64>>,
    /// Uploads so far.
    pub uploads: u64,
    /// What an uploaded collection is like.
    pub restored: Option<Collection>,
    /// The key that is asked for.
    pub key: Option<String>,
    /// Whether the key is for collections alone, and not for what is said of the whole server.
    pub restricted: bool,
    /// What the next snapshots are called, the first one last; others by the second.
    pub names: Vec<String>,
    /// What streams of shards are.
    pub stream: Vec<u8>,
    /// Shard 0 of each collection, where the server has partial snapshots.
    pub partial: BTreeMap<String, PartialShard>,
    /// Whether part of a file can be asked for.
    pub ranges: bool,
    /// An alias that somebody moves when it was looked at so many times.
    pub mover: Option<(usize, String, String)>,
    made: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    Right,
    Wrong,
    None,
}

const PEER: u64 = 7;

impl Fake {
    /// A server with one collection that has `points` in one shard; its snapshot is `snapshot`.
    pub fn new(name: &str, collection: Collection, snapshot: Vec<u8>) -> Self {
        Self {
            version: "1.19.0".into(),
            collections: BTreeMap::from([(name.to_owned(), collection)]),
            aliases: BTreeMap::new(),
            snapshot,
            own: BTreeMap::new(),
            operations: None,
            uploads: 0,
            checksum: Checksum::Right,
            restored: None,
            key: None,
            restricted: false,
            names: Vec::new(),
            stream: Vec::new(),
            partial: BTreeMap::new(),
            ranges: true,
            mover: None,
            made: 0,
        }
    }

    /// Every snapshot that lies there.
    pub fn snapshots_left(&self) -> Vec<String> {
        let of = |collection: &Collection| collection.snapshots.keys().cloned().collect::<Vec<_>>();
        self.collections.values().flat_map(of).collect()
    }

    pub fn answer(&mut self, seen: &Seen) -> Answer {
        if let Some(key) = &self.key
            && seen.headers.get("api-key") != Some(key)
        {
            return Answer::error(401, "Must provide an API key");
        }
        let path: Vec<&str> = seen
            .path
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        match (seen.method.as_str(), path.as_slice()) {
            ("GET", []) => Answer::json(
                200,
                json!({"title": "qdrant", "version": self.version, "commit": "c"}),
            ),
            ("GET", ["cluster" | "telemetry"]) if self.restricted => {
                Answer::error(403, "Global access is required")
            }
            ("GET", ["cluster"]) => Answer::ok(json!({"status": "disabled"})),
            ("GET", ["telemetry"]) => Answer::ok(self.telemetry()),
            ("GET", ["collections"]) => {
                let names: Vec<Value> = self
                    .collections
                    .keys()
                    .map(|name| json!({"name": name}))
                    .collect();
                Answer::ok(json!({"collections": names}))
            }
            ("GET", ["aliases"]) => {
                if let Some((left, alias, target)) = &mut self.mover {
                    match left {
                        0 => {
                            self.aliases.insert(alias.clone(), target.clone());
                        }
                        _ => *left -= 1,
                    }
                }
                let aliases: Vec<Value> = self
                    .aliases
                    .iter()
                    .map(|(alias, name)| json!({"alias_name": alias, "collection_name": name}))
                    .collect();
                Answer::ok(json!({"aliases": aliases}))
            }
            ("POST", ["collections", "aliases"]) => self.move_alias(&seen.body),
            (method, ["collections", name, rest @ ..]) => {
                let (name, rest) = ((*name).to_owned(), rest.to_vec());
                self.of_collection(method, &name, &rest, seen)
            }
            _ => Answer::error(404, "no such path"),
        }
    }

    /// As `GET /telemetry` answers.
    pub fn telemetry(&self) -> Value {
        let Some(operations) = &self.operations else {
            return json!({"collections": {"snapshots": []}});
        };
        let shards = |last: &u64| {
            json!([{"id": 0, "local": {"update_queue": {"length": 0, "op_num": last},
                "vectors_size_bytes": 100_000, "payloads_size_bytes": 1000}}])
        };
        let collections: Vec<Value> = operations
            .iter()
            .map(|(name, last)| json!({"id": name, "shards": shards(last)}))
            .collect();
        let upload = "POST /collections/{collection_name}/snapshots/upload";
        json!({
            "id": "life", "app": {"startup": "2026-11-22T03:00:00Z"},
            "collections": {"collections": collections, "snapshots": []},
            "requests": {"rest": {"responses": {upload: {"200": {"count": self.uploads}}}},
                "grpc": {"responses": {}}},
        })
    }

    fn move_alias(&mut self, body: &[u8]) -> Answer {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        for action in body["actions"].as_array().into_iter().flatten() {
            let create = &action["create_alias"];
            let word = |key: &str| create[key].as_str().unwrap_or_default().to_owned();
            let (alias, name) = (word("alias_name"), word("collection_name"));
            if !self.collections.contains_key(&name) {
                return Answer::error(404, "no such collection");
            }
            self.aliases.insert(alias, name);
        }
        Answer::ok(json!(true))
    }

    fn of_collection(&mut self, method: &str, name: &str, rest: &[&str], seen: &Seen) -> Answer {
        if (method, rest) == ("POST", &["snapshots", "upload"][..]) {
            return self.upload(name, seen);
        }
        let snapshot = self.own.get(name).unwrap_or(&self.snapshot);
        let last = self.operations.as_ref().and_then(|all| all.get(name));
        let (checksum, stream) = (self.checksum, &self.stream);
        let partial = self.partial.get(name);
        let Some(collection) = self.collections.get_mut(name) else {
            return Answer::error(404, &format!("Collection `{name}` doesn't exist!"));
        };
        match (method, rest) {
            ("GET", []) => Answer::ok(collection.info.clone()),
            ("DELETE", []) => {
                self.collections.remove(name);
                Answer::ok(json!(true))
            }
            ("PATCH", []) => Answer::ok(json!(true)),
            ("GET", ["optimizations"]) if last.is_some() => {
                Answer::ok(json!({"running": [], "queued": [], "completed": []}))
            }
            ("GET", ["shards", _, "snapshot", "partial", "manifest"]) if last.is_some() => {
                let segment =
                    json!({"segment_id": "a", "segment_version": last, "file_versions": {}});
                Answer::ok(json!({ "a": segment }))
            }
            ("POST", ["shards", "0", "snapshot", "partial", "create"]) if partial.is_some() => {
                let have = serde_json::from_slice(&seen.body).unwrap_or_default();
                match partial.and_then(|shard| shard.newer(&have)) {
                    Some(body) => Answer {
                        status: 200,
                        headers: Vec::new(),
                        body,
                        chunked: true,
                    },
                    None => Answer {
                        status: 304,
                        headers: Vec::new(),
                        body: Vec::new(),
                        chunked: false,
                    },
                }
            }
            ("GET", ["cluster"]) => {
                let local: Vec<Value> = collection
                    .shards
                    .iter()
                    .map(|(shard, points)| {
                        json!({"shard_id": shard, "points_count": points, "state": collection.state})
                    })
                    .collect();
                Answer::ok(json!({"peer_id": PEER, "shard_count": local.len(),
                    "local_shards": local, "remote_shards": [],
                    "shard_transfers": collection.transfers}))
            }
            ("POST", ["points", "count"]) => {
                Answer::ok(json!({"count": collection.shards.values().sum::<u64>()}))
            }
            ("POST", ["shards", shard, "points", "count"]) => {
                let shard = shard.parse().unwrap_or(u32::MAX);
                match collection.shards.get(&shard) {
                    Some(points) => Answer::ok(json!({"count": points})),
                    None => Answer::error(404, "no such shard"),
                }
            }
            ("GET", ["shards", _, "snapshot"]) => Answer {
                status: 200,
                headers: Vec::new(),
                body: stream.clone(),
                chunked: true,
            },
            ("GET", ["snapshots"]) => {
                let listed: Vec<Value> = collection
                    .snapshots
                    .iter()
                    .map(|(name, bytes)| describe(name, bytes, checksum))
                    .collect();
                Answer::ok(json!(listed))
            }
            ("POST", ["snapshots"]) => {
                self.made += 1;
                let time = chrono::Utc::now().format("%Y-%m-%d-%H-%M-%S");
                let by_time = format!("{name}-{PEER}-{time}.snapshot");
                let made = self.names.pop().unwrap_or(by_time);
                collection.snapshots.insert(made.clone(), snapshot.clone());
                Answer::ok(describe(&made, snapshot, checksum))
            }
            ("GET", ["snapshots", file]) => match collection.snapshots.get(*file) {
                None => Answer::error(404, "no such snapshot"),
                Some(bytes) => ranged(bytes, seen.headers.get("range").filter(|_| self.ranges)),
            },
            ("DELETE", ["snapshots", file]) => match collection.snapshots.remove(*file) {
                None => Answer::error(404, "no such snapshot"),
                Some(_) => Answer::ok(json!(true)),
            },
            _ => Answer::error(404, "no such path"),
        }
    }

    fn upload(&mut self, name: &str, seen: &Seen) -> Answer {
        let body = &seen.body;
        let find = |what: &[u8], from: usize| {
            let rest = body.get(from..)?;
            Some(from + rest.windows(what.len()).position(|some| some == what)?)
        };
        let Some(begin) = find(b"\r\n\r\n", 0) else {
            return Answer::error(400, "no multipart");
        };
        let head = String::from_utf8_lossy(&body[..begin]).into_owned();
        let boundary = head.lines().next().unwrap_or_default().to_owned();
        let end = body.len().saturating_sub(boundary.len() + 6);
        let sent = body.get(begin + 4..end).unwrap_or_default().to_vec();
        let file = head
            .split("filename=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap_or("unnamed")
            .to_owned();
        let digest = hex(&sent);
        if !seen.query.contains(&format!("checksum={digest}")) {
            return Answer::error(400, &format!("checksum mismatch: {digest}"));
        }
        let Some(mut restored) = self.restored.clone() else {
            return Answer::error(500, "the script has nothing to restore");
        };
        restored.snapshots.insert(file, sent);
        self.uploads += 1;
        self.collections.insert(name.to_owned(), restored);
        Answer::ok(json!(true))
    }
}

fn ranged(bytes: &[u8], range: Option<&String>) -> Answer {
    let from = range
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .unwrap_or(0_usize);
    let mut answer = Answer {
        status: 200,
        headers: Vec::new(),
        body: bytes.get(from..).unwrap_or_default().to_vec(),
        chunked: false,
    };
    if range.is_some() {
        answer.status = 206;
        let told = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        answer.headers.push(("content-range".into(), told));
    }
    answer
}

fn describe(name: &str, bytes: &[u8], checksum: Checksum) -> Value {
    let checksum = match checksum {
        Checksum::Right => json!(hex(bytes)),
        Checksum::Wrong => json!(hex(b"something else")),
        Checksum::None => Value::Null,
    };
    json!({"name": name, "size": bytes.len(), "checksum": checksum, "creation_time": null})
}

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
