//! Collections made of records: written into new shards, indexed there, packed, proven and published.
//!
//! Invariants: vectors are stored bit by bit as they were given (see [`ShardConfig::for_writing`]); what
//! is to be written is digested on its way, so that what was written can be compared with it; the
//! number of a new operation always lies above every segment's version; a snapshot gets its name last,
//! with its sidecars beside it.

mod collection;
mod live;
mod lookup;
mod many;
mod needs;
mod parts;
mod pattern;
mod publish;
mod resume;
mod values;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use self::collection::Snapshot;
pub use self::collection::{Builder, PartReport};
pub use self::live::LiveTarget;
pub use self::lookup::{ByKey, LookupBatcher, Pair, by_key};
pub use self::many::{Staging, next_of};
pub use self::needs::{Needs, engine_bytes, lossy, refuse_lossy};
pub use self::parts::{Parts, Raised, allow_parts};
pub use self::pattern::Pattern;
pub use self::publish::{Sealed, publish, seal};
pub use self::values::Values;
pub use self::write::Part;

use self::write::{Making, Writers};
use serde::{Deserialize, Serialize};

use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::progress::Unit;
use crate::engine::{Shard, ShardConfig, closed_segments, restore_distances};
use crate::format::schema::{CollectionConfig, PayloadSchema};
use crate::format::{PackedShard, SnapshotWriter, ToPack, Written, layout};
use crate::point::Record;
use crate::stream::Layout;

/// Config, payload indexes and shards of a collection.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// The config.
    pub config: &'a CollectionConfig,
    /// The payload indexes.
    pub payload: &'a PayloadSchema,
    /// The shards.
    pub layout: &'a Layout,
}

/// The new file that a collection is packed into.
#[derive(Debug)]
pub struct Target {
    /// The file.
    pub file: File,
    /// Where it is.
    pub path: PathBuf,
}

/// A shard, built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltShard {
    /// Number of the shard.
    pub number: u32,
    /// Number of points.
    pub points: u64,
    /// Number of segments.
    pub segments: u64,
    /// Vectors of it that lie in an index; approximate, as Qdrant's own.
    pub indexed_vectors: u64,
}

/// Writes the records that `flow` gives to the function that it is called with into new shards in
/// `folder`; returns what was written, by shards, and what `flow` returned.
pub fn write<T>(
    shape: Shape<'_>,
    parts: Parts,
    folder: &Path,
    flow: impl FnOnce(&mut dyn FnMut(Record) -> Result<()>) -> Result<T>,
) -> Result<(Vec<Part>, T)> {
    let config = ShardConfig::new(shape.config)?.for_writing();
    let making = Making {
        folder,
        config: &config,
        indexes: shape.payload,
        parts,
    };
    std::thread::scope(|scope| {
        let mut writers = Writers::start(scope, shape.layout, making)?;
        let flowed = flow(&mut |record| writers.write(record))?;
        Ok((writers.finish()?, flowed))
    })
}

/// Indexes every part; returns the shards that they make.
pub fn finish(parts: &[Part], config: &CollectionConfig) -> Result<Vec<BuiltShard>> {
    let mut shards: BTreeMap<u32, BuiltShard> = BTreeMap::new();
    for part in parts {
        let indexed_vectors = finish_part(part, config)?;
        let shard = shards.entry(part.number).or_insert_with(|| BuiltShard {
            number: part.number,
            points: 0,
            segments: 0,
            indexed_vectors: 0,
        });
        shard.points += part.points;
        shard.segments += closed_segments(&part.folder)?.len() as u64;
        shard.indexed_vectors += indexed_vectors;
    }
    Ok(shards.into_values().collect())
}

/// Gives a written part its distances and indexes; returns how many vectors lie in one.
fn finish_part(part: &Part, config: &CollectionConfig) -> Result<u64> {
    let Part {
        number,
        folder,
        points,
    } = part;
    let config = ShardConfig::for_points(config, *points)?;
    restore_distances(folder, &config)?;
    if config.stays_plain() {
        return Ok(0);
    }
    let what = format!("shard {number} of the collection");
    let shard = Shard::reopen(folder, &config.without_log(), what)?;
    shard.optimize()?;
    let indexed_vectors = shard.indexed_vectors()?;
    let counted = shard.count(None)?;
    if counted != *points {
        return Err(Error::failed(
            format!("indexing shard {number} of the collection"),
            format!("it had {points} points before and {counted} after"),
        ));
    }
    shard.close()?;
    Ok(indexed_vectors)
}

/// Form that a finished shard is packed in.
#[derive(Debug)]
pub enum Packing {
    /// A segment.
    Segment {
        /// Number of its shard.
        shard: u32,
        /// Path in the snapshot.
        path: String,
        /// It.
        segment: ToPack,
    },
    /// Files of a shard besides its segments, which come before.
    Shard(PackedShard),
}

/// Calls `take` with everything that the finished `parts`, which come by their shards, are packed as, in the
/// order of the snapshot.
pub fn each_packed(parts: &[Part], mut take: impl FnMut(Packing) -> Result<()>) -> Result<()> {
    for parts in parts.chunk_by(|a, b| a.number == b.number) {
        let mut version_max = 0;
        for part in parts {
            for segment in closed_segments(&part.folder)? {
                version_max = version_max.max(segment.version);
                take(Packing::Segment {
                    shard: part.number,
                    path: layout::segment_tar(part.number, segment.uuid),
                    segment: ToPack::measure(segment.folder)?,
                })?;
            }
        }
        if let Some(part) = parts.first() {
            take(Packing::Shard(PackedShard {
                number: part.number,
                version_max,
            }))?;
        }
    }
    Ok(())
}

/// Packs the finished parts, which come by their shards.
fn pack(shape: Shape<'_>, parts: &[Part], target: Target, site: Workspace<'_>) -> Result<Written> {
    let _stage = site.progress.stage("pack", None, Unit::None);
    let mut carrier = SnapshotWriter::new(target.file, &target.path)?;
    each_packed(parts, |packing| match packing {
        Packing::Segment { path, segment, .. } => carrier.segment(&path, &segment),
        Packing::Shard(shard) => carrier.shard(shard),
    })?;
    carrier.finish(
        shape.config.raw(),
        &shape.layout.keys,
        &shape.payload.to_json(),
    )
}
