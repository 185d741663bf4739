//! Expected state of a restored collection, read from its snapshot before anything is transferred.
//!
//! Invariants: points are counted from id trackers and log alone, without the engine; where the log
//! leaves that open, the number is unknown and said to be, not guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::base::error::{Error, Result};
use crate::base::sidecar::Sidecar;
use crate::capture::{Manifest, read_manifest};
use crate::format::rocks::InRocks;
use crate::format::schema::{CollectionConfig, PayloadSchema, ShardKeys};
use crate::format::wal::{Op, Touches};
use crate::format::{Form, Segment, Servers, Shard, SnapshotFile, wal};
use crate::point::PointId;
use crate::source::{Checksum, Opening, ShardIds, Source, Spill, not_taken_in};

/// Expected state of a restored collection.
#[derive(Debug)]
pub struct Expected {
    /// The file.
    pub source: Source,
    /// The SHA-256 of the tar, decompressed.
    pub sha256: String,
    /// The size of the tar in bytes, decompressed.
    pub bytes: u64,
    /// The points of each shard; none where its log leaves that open.
    pub shards: BTreeMap<u32, Option<u64>>,
    /// Vectors that lie in a graph, at the least.
    pub indexed_min: u64,
    /// The servers that can read all of it.
    pub servers: Servers,
    /// Points of all shards together, where its manifest tells; none otherwise.
    pub total: Option<u64>,
    /// The version of the server that took it, where its manifest tells.
    pub taken_by: Option<String>,
}

/// Number of points, as far as it is known, for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Points {
    /// Points of all shards whose number is known.
    pub known: u64,
    /// Shards whose number is open.
    pub open_shards: usize,
}

impl Expected {
    /// Reads the snapshot in `file`: every byte is hashed, and compared where there is a checksum.
    /// Ids that are too many for memory go to scratch in the folder `parent`.
    pub fn read(file: &SnapshotFile, opening: &Opening, parent: &Path) -> Result<Self> {
        let manifest = manifest_of(file);
        let counted = manifest.as_ref().and_then(counts);
        let opening = Opening {
            hash_now: true,
            trackers: counted.is_none(),
            log: counted.is_none(),
            ..opening.clone()
        };
        let mut source = Source::open(file, &opening, None)?;
        if source.snapshot.form != Form::Collection {
            return Err(Error::usage(
                format!("restoring {file}"),
                format!("it is a {}", source.snapshot.form.words()),
            )
            .next("make a collection snapshot of it first: snapmerge merge FILE -o MASTER"));
        }
        let hashes = source.snapshot.hashes.clone();
        let hashes =
            hashes.ok_or_else(|| Error::failed(format!("hashing {file}"), "there is no hash"))?;
        let servers = source.servers();
        let mut shards = BTreeMap::new();
        let mut indexed_min = 0;
        let what = file.to_string();
        let spill = Spill::within(parent);
        for (number, shard) in &mut source.snapshot.shards {
            let points = match &counted {
                Some(counted) => counted.get(number).copied(),
                None => {
                    let (points, indexed) =
                        count(shard, &format!("shard {number} of {what}"), &spill)?;
                    indexed_min += indexed;
                    points
                }
            };
            shards.insert(*number, points);
        }
        Ok(Self {
            source,
            sha256: hashes.content,
            bytes: hashes.content_bytes,
            shards,
            indexed_min,
            servers,
            total: manifest.as_ref().and_then(|manifest| manifest.points),
            taken_by: manifest.map(|manifest| manifest.server_version),
        })
    }

    /// The config.
    pub fn config(&self) -> &CollectionConfig {
        &self.source.config
    }

    /// The payload indexes.
    pub fn payload(&self) -> &PayloadSchema {
        &self.source.payload
    }

    /// The shard keys.
    pub fn keys(&self) -> &ShardKeys {
        &self.source.shard_keys
    }

    /// Returns the state of the file's checksum.
    pub fn checksum(&self) -> &Checksum {
        &self.source.checksum
    }

    /// Returns the number of points of all shards together; none if neither the snapshot nor its manifest
    /// tells.
    pub fn all_points(&self) -> Option<u64> {
        let points = self.points();
        match points.open_shards {
            0 => Some(points.known),
            _ => self.total,
        }
    }

    /// Returns the number of points, as far as it is known.
    pub fn points(&self) -> Points {
        Points {
            known: self.shards.values().flatten().sum(),
            open_shards: self.shards.values().filter(|one| one.is_none()).count(),
        }
    }
}

/// The manifest of `file`, as far as there is one of ours: others write manifests of another form, whose
/// checksum is compared all the same.
fn manifest_of(file: &SnapshotFile) -> Option<Manifest> {
    match file {
        SnapshotFile::Disk(path) if Sidecar::Manifest.of(path).exists() => read_manifest(path).ok(),
        SnapshotFile::Disk(_) | SnapshotFile::Member(_) => None,
        SnapshotFile::Stored(stored) => serde_json::from_value(stored.manifest.clone()?).ok(),
    }
}

/// The points of each shard by a manifest that knows all of them.
fn counts(manifest: &Manifest) -> Option<BTreeMap<u32, u64>> {
    manifest
        .shards
        .iter()
        .map(|part| Some((part.shard, part.points?)))
        .collect()
}

/// The points of a shard, and how many of them lie in a graph of its one vector.
fn count(shard: &mut Shard, what: &str, spill: &Spill) -> Result<(Option<u64>, u64)> {
    let mut held = ShardIds::new(spill);
    let mut indexed = 0;
    for (uuid, segment) in &mut shard.segments {
        let trackers = std::mem::take(&mut segment.trackers);
        // Counting would need a database to be opened: the server is asked instead.
        if InRocks::of(segment).ids {
            return Ok((None, 0));
        }
        let counts = held.add(&trackers, &format!("segment {uuid} of {what}"))?;
        if has_one_graph(segment) {
            indexed += counts.points;
        }
    }
    let read = wal::read(
        std::mem::take(&mut shard.log),
        &format!("the log of {what}"),
    )?;
    let survey = held.survey(Some(&read))?;
    let open = not_taken_in(&read, &survey);
    if open.is_empty() && read.torn.is_empty() {
        return Ok((Some(survey.ids), indexed));
    }
    // Entries that are not taken in yet may move points out of graphs.
    if !read.torn.is_empty() {
        return Ok((None, 0));
    }
    // Of all points only those that the log names can come or go.
    let mut all: BTreeSet<PointId> = survey.versions.keys().copied().collect();
    let others = survey.ids.saturating_sub(all.len() as u64);
    for entry in open {
        match (&entry.op, entry.op.touches()) {
            (_, Touches::Nothing)
            | (Op::Payload { .. } | Op::Vectors { .. } | Op::VectorName { .. }, _) => {}
            (Op::Upsert(ids), _) if entry.name.ends_with("conditional") => {
                // Which of them are written depends on what they hold.
                if ids.iter().any(|id| !all.contains(id)) {
                    return Ok((None, 0));
                }
            }
            (Op::Upsert(ids), _) => all.extend(ids.iter().copied()),
            (Op::Delete(ids), _) => {
                for id in ids {
                    all.remove(id);
                }
            }
            (Op::DeleteByFilter | Op::Sync(_) | Op::Other(_) | Op::Index { .. }, _) => {
                return Ok((None, 0));
            }
        }
    }
    Ok((Some(others + all.len() as u64), 0))
}

/// Returns true if a segment has only the unnamed vector, with an HNSW index: then each of its points is in
/// the graph.
fn has_one_graph(segment: &Segment) -> bool {
    let state = state(segment);
    let vectors = state["config"]["vector_data"].as_object();
    vectors.is_some_and(|vectors| {
        vectors.len() == 1
            && vectors
                .get("")
                .is_some_and(|vector| vector["index"]["type"] == "hnsw")
    })
}

fn state(segment: &Segment) -> Value {
    let bytes = segment.state.as_deref();
    bytes
        .and_then(|bytes| serde_json::from_slice(bytes).ok())
        .unwrap_or_default()
}
