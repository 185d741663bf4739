//! Disk space and memory of one shard of a master that is made by itself, of a run, and of joining all shards.
//!
//! Invariants: it depends on the sources' headers and the settings alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::{BASE_BYTES, Plan};
use super::settings::{Route, Settings};
use crate::build::{Needs, engine_bytes};
use crate::source::{Source, Spill};
use crate::stream::identity_key;

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

/// Memory and disk that one shard of a master, or a run, takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskNeeds {
    /// Bytes of the sources' shards in the archive's snapshots: what is read at the most, but for headers. Of runs, at
    /// about.
    pub read_bytes: u64,
    /// Bytes that are written to the store, at about.
    pub written_bytes: u64,
    /// Disk space for scratch in bytes, with the packed shard or the run.
    pub scratch_bytes: u64,
    /// Memory in bytes, at about.
    pub memory_bytes: u64,
}

/// Sums over some shards of the sources.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    segments: u64,
    logs: u64,
    unpacked: u64,
    ids: u64,
    points: u64,
}

impl Load {
    /// That of the shard `number` of `source`.
    fn of(source: &Source, number: u32) -> Self {
        let snapshot = &source.snapshot;
        let Some(own) = snapshot.shards.get(&number) else {
            return Self::default();
        };
        let bytes = own.bytes();
        let segments = bytes - own.log_bytes;
        // What is compressed in it grows when it is unpacked, in all of its shards alike.
        let grown = u128::from(snapshot.unpacked_bytes) * u128::from(bytes)
            / u128::from(snapshot.file_bytes.max(1));
        let mut load = Self {
            segments,
            logs: own.log_bytes,
            unpacked: u64::try_from(grown).unwrap_or(u64::MAX).max(bytes),
            ids: 0,
            points: 0,
        };
        for segment in own.segments.values() {
            load.ids += Spill::bytes_max(segment.files.iter());
            let versions = segment
                .files
                .iter()
                .filter(|(name, _)| name.ends_with(VERSIONS));
            load.points += versions
                .map(|(_, file)| file.bytes / VERSION_BYTES)
                .sum::<u64>();
        }
        load
    }

    fn add(&mut self, other: Self) {
        self.segments += other.segments;
        self.logs += other.logs;
        self.unpacked += other.unpacked;
        self.ids += other.ids;
        self.points += other.points;
    }

    /// The largest of `shares` shares of it, at about: the hash ring does not divide points evenly.
    fn share(self, shares: u64) -> Self {
        let share = |all: u64| all.min(all.div_ceil(shares.max(1)).saturating_mul(5).div_ceil(4));
        Self {
            segments: share(self.segments),
            logs: share(self.logs),
            unpacked: share(self.unpacked),
            ids: share(self.ids),
            points: share(self.points),
        }
    }

    /// Bytes that stamps add to it.
    fn stamps(self, settings: &Settings) -> u64 {
        match settings.union.stamp {
            Some(_) => self.points * STAMP_BYTES,
            None => 0,
        }
    }
}

impl TaskNeeds {
    /// That of the shard `shard` of the master of `plan`, made of the source shards that become it.
    pub fn of(shard: u32, plan: &Plan, sources: &[Source], settings: &Settings) -> Self {
        let mut load = Load::default();
        let here = plan.targets.iter().filter(|(_, target)| **target == shard);
        for ((at, number), _) in here {
            if let Some(source) = sources.get(*at) {
                load.add(Load::of(source, *number));
            }
        }
        let builds = plan.route != Route::Graft || settings.segments.merges();
        let (engine, building) = match builds {
            false => (0, 0),
            true => building(load.points, plan),
        };
        let stamps = load.stamps(settings);
        // Unpacked, built, and indexed beside; and packed.
        let scratch =
            BASE_BYTES + engine + load.unpacked + 4 * load.segments + 2 * load.ids + 3 * stamps;
        Self {
            read_bytes: load.segments + load.logs,
            written_bytes: load.segments + stamps,
            scratch_bytes: scratch,
            memory_bytes: BASE_MEMORY_BYTES + building,
        }
    }

    /// That of the shard `shard` of the master of `plan`, made of runs: of each source shard, its share by the number of
    /// the master's shards that it is spread over, at about.
    pub fn of_runs(shard: u32, plan: &Plan, sources: &[Source], settings: &Settings) -> Self {
        let keys = &plan.layout.keys;
        let mut load = Load::default();
        for source in sources {
            for number in source.snapshot.shards.keys() {
                let of = source.shard_keys.key_of(*number);
                let key = identity_key(&settings.union, !keys.is_empty(), &source.name, of);
                if key.as_ref() != keys.key_of(shard) {
                    continue;
                }
                let over = match &key {
                    None => plan.layout.shards.len(),
                    Some(key) => keys.keys().get(key).map_or(1, Vec::len),
                };
                load.add(Load::of(source, *number).share(over as u64));
            }
        }
        let (engine, building) = building(load.points, plan);
        let stamps = load.stamps(settings);
        Self {
            read_bytes: load.segments,
            written_bytes: load.segments + stamps,
            // Built, and indexed beside; and packed.
            scratch_bytes: BASE_BYTES + engine + 4 * (load.segments + stamps),
            memory_bytes: BASE_MEMORY_BYTES + building,
        }
    }

    /// That of the run of the shard `number` of `source`.
    pub fn of_run(source: &Source, number: u32) -> Self {
        let load = Load::of(source, number);
        Self {
            read_bytes: load.segments + load.logs,
            written_bytes: load.segments,
            // Unpacked; sorted, and merged; and the run.
            scratch_bytes: BASE_BYTES + load.unpacked + 3 * load.segments + 2 * load.ids,
            memory_bytes: 2 * BASE_MEMORY_BYTES,
        }
    }
}

/// Disk space of the engine, and memory, in bytes, that building and indexing `points` points takes.
fn building(points: u64, plan: &Plan) -> (u64, u64) {
    let config = &plan.united.config;
    let indexes = plan.united.payload.fields().len() as u64;
    let links = |name: &String| 2 * config.effective_hnsw(name).m * LINK_BYTES;
    let links: u64 = config.vectors().keys().map(links).sum();
    let each = POINT_BYTES + indexes * INDEXED_POINT_BYTES + links;
    let engine = engine_bytes(config, &plan.united.payload);
    (engine, points.saturating_mul(each))
}

impl Plan {
    /// Makes its needs those of joining packed shards of `bytes` bytes each, into a file or where they lie.
    pub fn need_for_joining(&mut self, bytes: &[u64], into_file: bool, sources: &[Source]) {
        let ids: u64 = sources.iter().map(Source::ids_bytes_max).sum();
        let proof = match self.route {
            Route::Graft => 2 * ids,
            // Its shards are unpacked again to be read, two at a time.
            Route::Rebuild | Route::Replay => {
                let largest = bytes.iter().max().copied().unwrap_or(0);
                2 * largest + 2 * ids
            }
        };
        self.needs = Needs {
            changing_bytes: 0,
            scratch_bytes: BASE_BYTES + proof,
            output_bytes: match into_file {
                // Packed, and for a .gz compressed beside it.
                true => BASE_BYTES + 2 * bytes.iter().sum::<u64>(),
                false => 0,
            },
        };
    }
}
