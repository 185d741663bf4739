//! Decides from the tar alone if a snapshot can be read whole.
//!
//! Server 1.18 and this engine no longer read RocksDB. Some of what older servers left behind is
//! refused loudly, some is dropped without a word: a segment whose ids lie in RocksDB opens as an
//! empty one (lib/segment/src/id_tracker/mutable_id_tracker), a sparse vector without a
//! `storage_type` opens without vectors (lib/segment/src/types.rs). So such a segment is converted
//! first ([`rocks`]). Version numbers tell nothing: `version.info` is the same in every Qdrant since 1.6.
//!
//! Invariants: what cannot be read whole is found before the engine sees it, all of it at once,
//! each with its reason.

mod state;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use self::state::of_state;
use super::ids;
use super::kind::SegmentKind;
use super::layout;
use super::rocks::{self, InRocks};
use super::snapshot::{Segment, Shard, Snapshot, Strays};

const AGAIN: &str = "fetch or copy the snapshot again";

/// A reason why something of a snapshot cannot be read, or not be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// The shard that it is about.
    pub shard: Option<u32>,
    /// The segment that it is about.
    pub segment: Option<Uuid>,
    /// Cause.
    pub why: String,
    /// Remedy.
    pub next: String,
    /// True if points may be missing rather than unreadable: those that are there can be read.
    pub incomplete: bool,
}

/// `replica_state.json`.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
pub struct ReplicaState {
    /// True if this peer has the shard.
    #[serde(default)]
    pub is_local: bool,
    /// The peer that took the snapshot.
    #[serde(default)]
    pub this_peer_id: u64,
    /// The states of the replicas by peer.
    #[serde(default)]
    pub peers: BTreeMap<String, Value>,
}

impl ReplicaState {
    /// The state of the replica that the snapshot holds.
    pub fn own(&self) -> Option<String> {
        self.peers
            .get(&self.this_peer_id.to_string())
            .map(|state| match state {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
    }
}

impl Shard {
    /// The states of the replicas, as far as the snapshot has them.
    pub fn replicas(&self) -> Option<ReplicaState> {
        serde_json::from_slice(self.replica_state.as_deref()?).ok()
    }
}

/// Everything that stands in the way of reading `snapshot`. `shards` are the numbers that its
/// config says it has, if it has a config.
pub fn obstacles(snapshot: &Snapshot, shards: Option<&[u32]>) -> Vec<Obstacle> {
    let mut found = Vec::new();
    for number in shards.unwrap_or_default() {
        if !snapshot.shards.contains_key(number) {
            found.push(Obstacle {
                shard: Some(*number),
                segment: None,
                why: format!("shard {number} is missing"),
                next: "in a cluster each node's snapshot has only that node's shards: take one \
                       from a node that has this shard; else fetch the snapshot again"
                    .into(),
                incomplete: true,
            });
        }
    }
    for (number, shard) in &snapshot.shards {
        of_shard(*number, shard, &mut found);
        for (uuid, segment) in &shard.segments {
            for (why, next) in of_segment(segment) {
                found.push(Obstacle {
                    shard: Some(*number),
                    segment: Some(*uuid),
                    why,
                    next,
                    incomplete: false,
                });
            }
        }
    }
    found
}

/// Returns the obstacles for a server that reads no RocksDB.
pub fn in_rocks(snapshot: &Snapshot) -> Vec<Obstacle> {
    let segments = snapshot.shards.iter().flat_map(|(number, shard)| {
        let segments = shard.segments.iter();
        segments.map(move |(uuid, segment)| (*number, *uuid, InRocks::of(segment)))
    });
    segments
        .filter(|(_, _, inside)| !inside.is_nothing())
        .map(|(shard, segment, inside)| Obstacle {
            shard: Some(shard),
            segment: Some(segment),
            why: format!(
                "its {} lie in RocksDB, which Qdrant 1.18 and later do not read",
                inside.words()
            ),
            next:
                "take a Qdrant up to 1.17 for it, or let snapmerge read it itself (without --route \
                   scratch): `snapmerge merge` makes a master that today's servers read"
                    .into(),
            incomplete: false,
        })
        .collect()
}

fn of_shard(number: u32, shard: &Shard, found: &mut Vec<Obstacle>) {
    let mut add = |why: String, next: &str, incomplete| {
        found.push(Obstacle {
            shard: Some(number),
            segment: None,
            why,
            next: next.to_owned(),
            incomplete,
        });
    };
    if let Some(why) = strays(&shard.strays, "among the segments") {
        add(why, AGAIN, false);
    }
    for (why, next) in unlisted(number, shard) {
        add(why, next, true);
    }
    // It is the last file that Qdrant writes of a shard: without it the stream broke off.
    if shard.shard_config.is_none() {
        add(
            format!("{} of shard {number} is missing", layout::SHARD_CONFIG),
            "the snapshot was cut off when it was taken: take it again",
            false,
        );
    }
    let Some(replicas) = shard.replicas() else {
        let what = match &shard.replica_state {
            None => "is missing",
            Some(_) => "cannot be read",
        };
        add(
            format!("{} of shard {number} {what}", layout::REPLICA_STATE),
            "fetch or copy the snapshot again",
            false,
        );
        return;
    };
    if !replicas.is_local {
        add(
            format!("shard {number} has no data here: it lives on other nodes of the cluster"),
            "take a snapshot from a node that has this shard",
            true,
        );
        return;
    }
    match replicas.own() {
        Some(state) if state == "Active" => {}
        state => add(
            format!(
                "the replica of shard {number} was {} when the snapshot was taken, so it may lack \
                 points",
                state.as_deref().unwrap_or("in an unknown state")
            ),
            "take the snapshot from a node whose replica is Active, or give --allow-incomplete",
            true,
        ),
    }
}

/// Segments that the shard's own list says are its, and that are not there.
fn unlisted(number: u32, shard: &Shard) -> Vec<(String, &'static str)> {
    let Some(bytes) = &shard.segment_list else {
        return Vec::new();
    };
    let Ok(listed) = serde_json::from_slice::<BTreeMap<Uuid, Value>>(bytes) else {
        let why = format!("{} of shard {number} cannot be read", layout::SEGMENT_LIST);
        return vec![(why, AGAIN)];
    };
    // One that is still being built has no points that are not in another.
    let is_live = |state: &Value| state.as_str() != Some("under_construction");
    let missing = (listed.iter())
        .filter(|(uuid, state)| is_live(state) && !shard.segments.contains_key(*uuid));
    missing
        .map(|(uuid, _)| {
            let list = layout::SEGMENT_LIST;
            let why = format!("segment {uuid} of shard {number} is missing, which {list} names");
            (why, AGAIN)
        })
        .collect()
}

/// Members that a server would take for a part of a segment; `place` is where they are.
fn strays(strays: &Strays, place: &str) -> Option<String> {
    let more = match strays.count {
        0 => return None,
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let first = &strays.first;
    Some(format!(
        "member {first}{more} lies {place}, and no Qdrant is known to write that there"
    ))
}

/// Returns the obstacles to reading a segment: reasons, each with its way out.
fn of_segment(segment: &Segment) -> Vec<(String, String)> {
    let mut found = Vec::new();
    found.extend(strays(&segment.strays, "in the segment").map(|why| (why, AGAIN.to_owned())));
    // The engine deletes a segment without it, taking it for half-made.
    if segment.version.is_none() {
        found.push((format!("{} is missing", layout::VERSION), AGAIN.into()));
    }
    let is_there = |name: &str| segment.files.contains_key(name);
    let has_ids = is_there(ids::MUTABLE_MAPPINGS) || InRocks::has_fixed_ids(is_there);
    let has_vectors = segment.files.iter().any(|(name, size)| {
        name.starts_with("vector_storage")
            && (name.contains("/chunk_") || name.ends_with("/matrix.dat"))
            && size.stored_bytes > 0
    });
    let inside = InRocks::of(segment);
    if !has_ids && !inside.ids && has_vectors {
        found.push((
            "it has vectors but no ids, and would be taken for an empty segment".into(),
            AGAIN.into(),
        ));
    }
    if inside.needs_database() {
        of_database(segment, &inside, &mut found);
    }
    let Some(state) = &segment.state else {
        found.push((
            format!("{} is missing", layout::SEGMENT_STATE),
            AGAIN.into(),
        ));
        return found;
    };
    match serde_json::from_slice::<Value>(state) {
        Ok(state) => {
            // A server that finds it to take points looks for ids in other files, and makes these without a
            // word (lib/segment/src/id_tracker).
            if state["config"].is_object()
                && SegmentKind::of(&state).appendable
                && !inside.ids
                && InRocks::has_fixed_ids(is_there)
                && !is_there(ids::MUTABLE_MAPPINGS)
            {
                found.push((
                    format!(
                        "{} says that it takes points, and its ids are those of a segment that takes none: it \
                         would be taken for an empty one",
                        layout::SEGMENT_STATE
                    ),
                    AGAIN.into(),
                ));
            }
            of_state(&state, &mut found);
        }
        Err(err) => found.push((
            format!("{} cannot be read: {err}", layout::SEGMENT_STATE),
            AGAIN.into(),
        )),
    }
    found
}

/// Adds the obstacles to reading the RocksDB of a segment to `found`.
fn of_database(segment: &Segment, inside: &InRocks, found: &mut Vec<(String, String)>) {
    let words = inside.words();
    if !rocks::IS_BUILT_IN {
        found.push((format!("its {words} lie in RocksDB"), rocks::GET_IT.into()));
    }
    let is_there = |name: &str| segment.files.contains_key(name);
    let Some(list) = &segment.database_list else {
        if !is_there("CURRENT") {
            let why = format!("its {words} lie in RocksDB, and its database is missing");
            found.push((why, AGAIN.into()));
        }
        return;
    };
    let in_backup = |name: &str| is_there(&format!("{}/{name}", layout::DATABASE));
    match rocks::missing(list, in_backup) {
        Ok(missing) => {
            if let Some(first) = missing.first() {
                let count = missing.len();
                let why = format!("{count} files of its RocksDB are missing, such as {first}");
                found.push((why, AGAIN.into()));
            }
        }
        Err(why) => found.push((format!("its RocksDB cannot be read: {why}"), AGAIN.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot::FileSize;

    const STATE: &str = r#"{"version":3,"config":{
        "vector_data":{"":{"size":4,"distance":"Dot","storage_type":"Mmap","index":{"type":"plain","options":{}}}},
        "sparse_vector_data":{"words":{"index":{"index_type":"Mmap"},"storage_type":"mmap"}},
        "payload_storage_type":{"type":"mmap"}}}"#;

    fn segment(state: &str, files: &[&str]) -> Segment {
        Segment {
            state: Some(state.as_bytes().to_vec()),
            version: Some(b"0.6.0".to_vec()),
            files: files
                .iter()
                .map(|name| {
                    let size = FileSize {
                        bytes: 64,
                        stored_bytes: 64,
                    };
                    ((*name).to_owned(), size)
                })
                .collect(),
            ..Segment::default()
        }
    }

    #[test]
    fn what_would_be_lost_silently_is_refused_with_its_reason() {
        let ids = "id_tracker.mappings";
        let vectors = "vector_storage/matrix.dat";
        assert_eq!(of_segment(&segment(STATE, &[ids, vectors])), []);
        // A segment that never had a point has no ids and no vectors.
        assert_eq!(of_segment(&segment(STATE, &[])), []);
        let cases = [
            (STATE.to_owned(), vec![vectors], "no ids"),
            (
                STATE.replace("\"mmap\"}}}", "\"on_disk\"}}}"),
                vec![ids],
                "its payload lie in RocksDB, and its database is missing",
            ),
            (
                STATE.replace("\"Mmap\",\"index\"", "\"Memory\",\"index\""),
                vec![ids],
                "its vectors lie in RocksDB, and its database is missing",
            ),
            (
                STATE.replace("\"Mmap\",\"index\"", "\"Holographic\",\"index\""),
                vec![ids],
                "unknown",
            ),
            (
                STATE.replace(",\"storage_type\":\"mmap\"}", "}"),
                vec![ids],
                "its sparse vectors lie in RocksDB, and its database is missing",
            ),
            (STATE.replace("\"plain\"", "\"flat\""), vec![ids], "'flat'"),
            ("{".to_owned(), vec![ids], "cannot be read"),
            ("{}".to_owned(), vec![ids], "no config"),
        ];
        for (state, files, word) in cases {
            let mut found = of_segment(&segment(&state, &files));
            found.retain(|(_, next)| next != rocks::GET_IT);
            assert_eq!(found.len(), 1, "{word}: {found:?}");
            assert!(found[0].0.contains(word), "{word}: {found:?}");
        }
        // A database of the payload indexes alone is no obstacle: they are built again.
        let indexes = segment(STATE, &[ids, vectors, "payload_index_db_backup/CURRENT"]);
        assert_eq!(of_segment(&indexes), []);
    }

    #[test]
    fn a_database_must_have_all_that_its_list_names() {
        let list = "1\n2\n2\nprivate/1/CURRENT crc32 1\nshared_checksum/000012_sX_9.sst crc32 2\n";
        let files = [
            "db_backup/meta/1",
            "db_backup/private/1/CURRENT",
            "db_backup/shared_checksum/000012_sX_9.sst",
        ];
        let of = |list: &str, files: &[&str]| {
            let mut segment = segment(STATE, files);
            segment.database_list = Some(list.as_bytes().to_vec());
            let found = of_segment(&segment);
            let found = found.into_iter().filter(|(_, next)| next != rocks::GET_IT);
            found.map(|(why, _)| why).collect::<Vec<String>>()
        };
        assert_eq!(of(list, &files), [""; 0]);
        let found = of(list, &[files[0], files[2]]);
        assert_eq!(
            found,
            ["1 files of its RocksDB are missing, such as private/1/CURRENT"]
        );
        let found = of("nonsense", &files);
        assert!(found[0].contains("its RocksDB cannot be read"), "{found:?}");
        // Nothing says that its ids are anywhere else, and nothing is there of them.
        assert_eq!(of(list, &files[..2]), [""; 0]);
    }

    #[test]
    fn what_belongs_to_no_segment_is_in_the_way() {
        let strays = Strays {
            count: 3,
            first: "0/segments/x.tar".into(),
        };
        let shard = Shard {
            strays: strays.clone(),
            shard_config: Some(Vec::new()),
            replica_state: Some(br#"{"is_local":false}"#.to_vec()),
            ..Shard::default()
        };
        let mut found = Vec::new();
        of_shard(0, &shard, &mut found);
        assert!(
            found[0].why.contains("0/segments/x.tar (and 2 more)"),
            "{found:?}"
        );
        assert!(!found[0].incomplete);
        let mut segment = segment(STATE, &[]);
        segment.strays = strays;
        assert_eq!(of_segment(&segment).len(), 1);
    }

    #[test]
    fn replicas_that_may_lack_points_are_told() {
        let shard = |state: Option<&str>| Shard {
            replica_state: state.map(|text| text.as_bytes().to_vec()),
            shard_config: Some(br#"{"type":"ReplicaSet"}"#.to_vec()),
            ..Shard::default()
        };
        let of = |state: Option<&str>| {
            let mut found = Vec::new();
            of_shard(4, &shard(state), &mut found);
            found
        };
        let state = |own: &str, local: bool| {
            format!(
                r#"{{"is_local":{local},"this_peer_id":7,"peers":{{"7":"{own}","8":"Active"}}}}"#
            )
        };
        assert_eq!(of(Some(&state("Active", true))), []);
        for (text, word, incomplete) in [
            (Some(state("Partial", true)), "Partial", true),
            (Some(state("Dead", true)), "Dead", true),
            (Some(state("Active", false)), "other nodes", true),
            (Some("nonsense".into()), "cannot be read", false),
            (None, "is missing", false),
        ] {
            let found = of(text.as_deref());
            assert_eq!(found.len(), 1, "{word}: {found:?}");
            assert!(found[0].why.contains(word), "{word}: {found:?}");
            assert_eq!(found[0].incomplete, incomplete, "{word}");
            assert_eq!(found[0].shard, Some(4));
        }
    }
}
