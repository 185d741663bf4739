//! The frame of a master: what lies around its points and settings in the file, and what a server makes of
//! it when the file is restored.
//!
//! Invariants: merge and verify ask the same questions; what is told here would stop a restore, or let it
//! say yes and lose something.

use serde_json::{Map, Value};

use super::difference::SettingDifference;
use crate::format::{Segment, Shard};
use crate::source::Source;

/// The folder of a vector's index in a segment, followed by `-NAME` for a vector with a name
/// (`get_vector_index_path` of Qdrant's lib/segment/src/segment_constructor).
const VECTOR_INDEX: &str = "vector_index";
/// A segment's list of files in a partial snapshot, which is not restored as a whole one. The list of a
/// shard's segments, `segments_manifest.json`, is in every snapshot of 1.19.
const PARTIAL: &str = "segment_manifest.json";

/// What is wrong with the frame of `master`, whose logs and id trackers were opened. Of a master that
/// `is_ours` more is known: it has no clocks and nothing that merge does not write.
pub fn frame_differences(master: &Source, is_ours: bool) -> Vec<SettingDifference> {
    let mut found = Vec::new();
    if master.live.is_some() {
        return found;
    }
    let (count, names) = &master.snapshot.unknown;
    if *count > 0 {
        found.push(difference(
            "members of the file".into(),
            "those of a snapshot",
            format!("{count} more: {}", names.join(", ")),
        ));
    }
    for (number, shard) in &master.snapshot.shards {
        found.extend(of_shard(*number, shard, is_ours));
        let indexed = |field: &&str| master.payload.fields().contains_key(*field);
        for field in shard.log.dropped_indexes().into_iter().filter(indexed) {
            found.push(difference(
                format!("payload index of '{field}' in shard {number}"),
                "as payload_index.json says",
                "the log drops it, as soon as the master is restored".into(),
            ));
        }
    }
    found
}

fn of_shard(number: u32, shard: &Shard, is_ours: bool) -> Vec<SettingDifference> {
    let mut found = Vec::new();
    if !shard.has_log {
        // lib/collection/src/shards/local_shard: a shard without a log is skipped.
        found.push(difference(
            format!("log of shard {number}"),
            "a log",
            "none, so that a restore skips the shard and says that all went well".into(),
        ));
    }
    let version = (shard.segments.values())
        .filter_map(|segment| state(segment)["version"].as_u64())
        .max();
    let next = shard.log.next();
    if let Some(version) = version.filter(|version| shard.has_log && *version >= next) {
        found.push(difference(
            format!("log of shard {number}"),
            &format!("it goes on after operation {version}, the newest of its segments"),
            format!("it goes on with {next}: what is written then counts as old, and is dropped"),
        ));
    }
    for name in &shard.left {
        if is_ours || name == PARTIAL {
            found.push(difference(
                format!("members of shard {number}"),
                "a whole shard, without clocks and manifests",
                name.clone(),
            ));
        }
    }
    let strays = (shard.segments.values()).map(|segment| &segment.strays);
    for strays in strays
        .chain([&shard.strays])
        .filter(|strays| strays.count > 0)
    {
        found.push(difference(
            format!("members of shard {number}"),
            "those of a snapshot",
            format!("{} more, the first is {}", strays.count, strays.first),
        ));
    }
    for (uuid, segment) in &shard.segments {
        for lacking in graphs_lacking(segment) {
            found.push(difference(
                format!("graph of {lacking} in segment {uuid} of shard {number}"),
                "graph.bin and its links",
                "not all of its files".into(),
            ));
        }
    }
    found
}

/// The vectors of which a segment says that they have a graph, without having one.
fn graphs_lacking(segment: &Segment) -> Vec<String> {
    let state = state(segment);
    let vectors = state["config"]["vector_data"].as_object();
    let has_graph = |name: &str| {
        let folder = match name {
            "" => format!("{VECTOR_INDEX}/"),
            name => format!("{VECTOR_INDEX}-{name}/"),
        };
        let has = |file: &str| {
            segment.files.iter().any(|(path, size)| {
                path.strip_prefix(&folder)
                    .is_some_and(|name| name.starts_with(file))
                    && size.bytes > 0
            })
        };
        has("graph.bin") && has("links")
    };
    vectors
        .into_iter()
        .flat_map(Map::iter)
        .filter(|(name, vector)| vector["index"]["type"] == "hnsw" && !has_graph(name))
        .map(|(name, _)| match name.as_str() {
            "" => "the vector".into(),
            name => format!("vector '{name}'"),
        })
        .collect()
}

fn state(segment: &Segment) -> Value {
    (segment.state.as_deref())
        .and_then(|bytes| serde_json::from_slice(bytes).ok())
        .unwrap_or_default()
}

fn difference(about: String, expected: &str, found: String) -> SettingDifference {
    SettingDifference {
        about,
        expected: expected.into(),
        found,
    }
}
