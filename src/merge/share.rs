//! Disk space and memory of one shard of a master that is made by itself, and of joining all of them.
//!
//! Invariants: it depends on the sources' headers and the settings alone.

use super::plan::{BASE_BYTES, Plan};
use super::settings::{Route, Settings};
use crate::build::{Needs, engine_bytes};
use crate::source::{Source, Spill};

/// Memory of any part, in bytes: pages of records, objects of the archive, what waits to be written.
const BASE_MEMORY_BYTES: u64 = 256 << 20;
/// Memory of a point in a segment that is built, in bytes, and of each payload index that it is in.
const POINT_BYTES: u64 = 64;
const INDEXED_POINT_BYTES: u64 = 100;
/// Memory of a link of a graph that is built, in bytes; a point has twice `m` of them on the lowest level.
const LINK_BYTES: u64 = 8;
/// The file of an id tracker that has 8 bytes a point that ever was, in every form of it.
const VERSIONS: &str = "id_tracker.versions";
const VERSION_BYTES: u64 = 8;
/// Room of a stamp in a payload, in bytes, at the most that is usual: each may begin another block.
const STAMP_BYTES: u64 = 256;

/// What one shard of a master takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Share {
    /// Bytes of the sources' shards in the snapshots.
    pub stored_bytes: u64,
    /// Bytes of their segments.
    pub segment_bytes: u64,
    /// Disk space for scratch, with the packed shard, in bytes.
    pub scratch_bytes: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

impl Share {
    /// That of the shard `shard` of the master of `plan`.
    pub fn of(shard: u32, plan: &Plan, sources: &[Source], settings: &Settings) -> Self {
        let (mut segments, mut logs, mut unpacked, mut ids, mut points) = (0, 0, 0, 0, 0);
        let here = plan.targets.iter().filter(|(_, target)| **target == shard);
        for ((at, number), _) in here {
            let Some(source) = sources.get(*at) else {
                continue;
            };
            let snapshot = &source.snapshot;
            let Some(own) = snapshot.shards.get(number) else {
                continue;
            };
            let of_segments: u64 = own.segments.values().map(|segment| segment.bytes).sum();
            let bytes = of_segments + own.log_bytes;
            segments += of_segments;
            logs += own.log_bytes;
            // What is compressed in it grows when it is unpacked, in all of its shards alike.
            let grown = u128::from(snapshot.unpacked_bytes) * u128::from(bytes)
                / u128::from(snapshot.file_bytes.max(1));
            unpacked += u64::try_from(grown).unwrap_or(u64::MAX).max(bytes);
            for segment in own.segments.values() {
                ids += Spill::bytes_max(segment.files.iter());
                let versions = segment
                    .files
                    .iter()
                    .filter(|(name, _)| name.ends_with(VERSIONS));
                points += versions
                    .map(|(_, file)| file.bytes / VERSION_BYTES)
                    .sum::<u64>();
            }
        }
        let builds = plan.route != Route::Graft || settings.segments.merges();
        let config = &plan.united.config;
        let stamps = match settings.union.stamp {
            Some(_) => points * STAMP_BYTES,
            None => 0,
        };
        let (engine, building) = match builds {
            false => (0, 0),
            true => {
                let indexes = plan.united.payload.fields().len() as u64;
                let links = |name: &String| 2 * config.effective_hnsw(name).m * LINK_BYTES;
                let links: u64 = config.vectors().keys().map(links).sum();
                let each = POINT_BYTES + indexes * INDEXED_POINT_BYTES + links;
                let engine = engine_bytes(config, &plan.united.payload);
                (engine, points.saturating_mul(each))
            }
        };
        // Unpacked, built, and indexed beside; and packed.
        let scratch = BASE_BYTES + engine + unpacked + 4 * segments + 2 * ids + 3 * stamps;
        Self {
            stored_bytes: segments + logs,
            segment_bytes: segments + stamps,
            scratch_bytes: scratch,
            memory_bytes: BASE_MEMORY_BYTES + building,
        }
    }
}

impl Plan {
    /// Makes its needs those of joining packed shards of `bytes` bytes in all.
    pub fn need_for_joining(&mut self, bytes: u64, sources: &[Source]) {
        let ids: u64 = sources.iter().map(Source::ids_bytes_max).sum();
        let proof = match self.route {
            Route::Graft => 2 * ids,
            // It is unpacked again to be read.
            Route::Rebuild | Route::Replay => bytes + 2 * ids,
        };
        self.needs = Needs {
            scratch_bytes: BASE_BYTES + proof,
            // Packed, and for a .gz compressed beside it.
            output_bytes: BASE_BYTES + 2 * bytes,
        };
    }
}
