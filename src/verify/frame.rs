//! The frame of a master: what lies around its points and settings in the file, and what a server makes of
//! it when the file is restored.
//!
//! Invariants: merge and verify ask the same questions; what is told here would stop a restore, or let it
//! say yes and lose something.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::difference::SettingDifference;
use crate::format::{Segment, Shard, layout};
use crate::source::Source;

/// Returns the differences in the frame of `master`, whose logs and id trackers were opened. Of a master that
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
    let segments = shard.segments.iter();
    let states: Vec<(&Uuid, &Segment, Value)> = segments
        .map(|(uuid, segment)| (uuid, segment, segment.state_json()))
        .collect();
    let versions = states
        .iter()
        .filter_map(|(.., state)| state["version"].as_u64());
    let next = shard.log.next();
    if let Some(version) = versions
        .max()
        .filter(|version| shard.has_log && *version >= next)
    {
        found.push(difference(
            format!("log of shard {number}"),
            &format!("it goes on after operation {version}, the newest of its segments"),
            format!("it goes on with {next}: what is written then counts as old, and is dropped"),
        ));
    }
    for name in &shard.left {
        if is_ours || name == layout::SEGMENT_MANIFEST {
            found.push(difference(
                format!("members of shard {number}"),
                "a whole shard, without clocks and manifests",
                name.clone(),
            ));
        }
    }
    for (uuid, segment, state) in &states {
        for lacking in graphs_lacking(segment, state) {
            found.push(difference(
                format!("graph of {lacking} in segment {uuid} of shard {number}"),
                "graph.bin and its links",
                "not all of its files".into(),
            ));
        }
        for file in &segment.linkless {
            found.push(difference(
                format!("{file} in segment {uuid} of shard {number}"),
                "the links of a graph",
                "none: a search finds next to nothing".into(),
            ));
        }
    }
    found
}

/// The vectors of which a segment's `state` says that they have a graph, without having one.
fn graphs_lacking(segment: &Segment, state: &Value) -> Vec<String> {
    let vectors = state["config"]["vector_data"].as_object();
    let has_graph = |name: &str| {
        let folder = layout::vector_index(name);
        let has = |file: &str| {
            segment.files.iter().any(|(path, size)| {
                let within = path.strip_prefix(&folder);
                let name = within.and_then(|path| path.strip_prefix('/'));
                name.is_some_and(|name| name.starts_with(file)) && size.bytes > 0
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

fn difference(about: String, expected: &str, found: String) -> SettingDifference {
    SettingDifference {
        about,
        expected: expected.into(),
        found,
    }
}
