//! Sources: snapshot files, looked into, checked, and opened; live collections, scrolled.
//!
//! Invariants: a source is only read; the engine, and RocksDB, see it only as a scratch copy, and only
//! after everything that can be checked without them was checked: the tar, the checksum, the segments'
//! form.

mod checksum;
mod derive;
mod full;
mod id_set;
mod live;
mod open_shards;
mod ordered;
mod plain;
mod record_files;
mod shard_ids;
mod stored;
mod together;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use checksum::{Checksum, Expectation, file_name, given_alone, of_provenance, parse_sha256};
pub use full::{check_full, compare, expected_of, file_of, files_of, path_of};
pub use id_set::{IdSet, IdSetBuilder, InSegment, SegmentCount, Span, Spill, Twice, walk};
pub use live::{Live, LivePoints};
pub use open_shards::{CopiedShard, OpenedShard, OpenedShards, OpeningCost, Purpose};
pub use ordered::{InPlace, Ordered, Pages, Reading, Take, refuse_missing};
pub use plain::SMALL_BYTES;
pub use record_files::RecordFiles;
pub use shard_ids::{Lacking, SegmentCounts, ShardIds, Survey, lacking_indexes, not_taken_in};
pub use stored::StoredRecords;
pub use together::{join_nodes, refuse_twice, tell_apart};

use crate::base::error::Result;
use crate::base::path::is_gz;
use crate::format::readable::{Obstacle, in_rocks, obstacles};
use crate::format::rocks::InRocks;
use crate::format::schema::{CollectionConfig, PayloadSchema, ShardKeys, ShardingMethod};
use crate::format::{Algorithm, Servers, Snapshot, SnapshotFile, Want};
use crate::server::ServerVersion;

/// The first server that cannot read RocksDB any more.
const WITHOUT_ROCKSDB: ServerVersion = (1, 18, 0);

/// Options of opening a source.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// The SHA-256 that the user gave for it.
    pub sha256: Option<String>,
    /// The SHA-256 that the user gave for the snapshot of a whole storage that it lies in.
    pub full_sha256: Option<String>,
    /// True to refuse a source without any checksum.
    pub require_checksum: bool,
    /// True to hash the whole file now, rather than when it is opened.
    pub hash_now: bool,
    /// True to read the id trackers.
    pub trackers: bool,
    /// True to read the log.
    pub log: bool,
}

/// A snapshot file, or a live collection, as a source.
#[derive(Debug)]
pub struct Source {
    /// Name: the collection's, as far as the file's name tells it.
    pub name: String,
    /// The file, looked into; of a live collection, one with nothing in it.
    pub snapshot: Snapshot,
    /// The collection's config.
    pub config: CollectionConfig,
    /// The collection's payload indexes.
    pub payload: PayloadSchema,
    /// Shard keys; empty without custom sharding.
    pub shard_keys: ShardKeys,
    /// True if config and payload indexes were derived from segments, for lack of a config.
    pub config_is_derived: bool,
    /// Integrity, as far as it is known.
    pub checksum: Checksum,
    /// The collection that its records are read from, where that is not the file.
    pub live: Option<Live>,
    /// The version of the server that is to read the file in place of the engine here, if one is.
    pub by_server: Option<ServerVersion>,
    /// Descriptions of what was refused of its logs when it was opened.
    pub refused: BTreeSet<String>,
    /// True if no more of it is read than is needed, each part compared with its own hash.
    in_parts: bool,
    /// Shards of its collection that another source has: these are not read here.
    elsewhere: BTreeSet<u32>,
    /// Checksums that it must have.
    expected: Vec<Expectation>,
}

/// Description of a source, for reports.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SourceLabel {
    /// Name of the source.
    pub name: String,
    /// Path of the file, or the name that is shown in its place.
    pub file: String,
    /// The file's size in bytes.
    pub file_bytes: u64,
    /// Integrity, as far as it is known.
    pub checksum: Checksum,
}

impl Opening {
    /// The checksums that `file` must have.
    fn expected(&self, file: &SnapshotFile) -> Result<Vec<Expectation>> {
        let (given, full) = (self.sha256.as_deref(), self.full_sha256.as_deref());
        expected_of(
            file,
            given,
            full,
            self.require_checksum,
            "--sha256 FILE=HEX",
        )
    }
}

impl Source {
    /// Opens the snapshot in `file`; `passed` counts its bytes for a progress bar. A .gz with a
    /// checksum is compared with it at once, since all of it is read anyway.
    pub fn open(
        file: &SnapshotFile,
        opening: &Opening,
        passed: Option<Arc<AtomicU64>>,
    ) -> Result<Self> {
        let expected = opening.expected(file)?;
        let is_gz = file.path().is_some_and(is_gz);
        let want = Want {
            trackers: opening.trackers,
            log: opening.log,
            hash: (opening.hash_now || (is_gz && !expected.is_empty()))
                .then_some(Algorithm::Sha256),
        };
        let snapshot = Snapshot::open(file, want, passed)?;
        let checksum = match &snapshot.hashes {
            Some(hashes) => compare(file, &expected, hashes)?,
            None if expected.is_empty() => Checksum::Unverified,
            None => {
                let by = expected.iter().map(|wanted| wanted.by.clone()).collect();
                match file {
                    SnapshotFile::Disk(_) | SnapshotFile::Member(_) => Checksum::Unchecked { by },
                    SnapshotFile::Stored(_) => Checksum::PartsVerified { by },
                }
            }
        };
        let what = snapshot.what();
        let (config, payload, config_is_derived) = match &snapshot.config {
            Some(bytes) => {
                let told = match &snapshot.payload_index {
                    Some(bytes) => PayloadSchema::parse(&what, bytes)?,
                    None => PayloadSchema::default(),
                };
                // A server before 1.14.1 restores a collection with its indexes and forgets to write
                // down which (qdrant: lib/collection/src/collection/snapshots.rs).
                let payload = match told.fields().is_empty() {
                    true => derive::segment_indexes(&snapshot)?,
                    false => told,
                };
                (CollectionConfig::parse(&what, bytes)?, payload, false)
            }
            None => {
                let (config, payload) = derive::derive(&snapshot)?;
                (config, payload, true)
            }
        };
        let shard_keys = match &snapshot.shard_keys {
            Some(bytes) => ShardKeys::parse(&what, bytes)?,
            None => ShardKeys::default(),
        };
        Ok(Self {
            name: file.source_name(),
            snapshot,
            config,
            payload,
            shard_keys,
            config_is_derived,
            checksum,
            live: None,
            by_server: None,
            refused: BTreeSet::new(),
            in_parts: false,
            elsewhere: BTreeSet::new(),
            expected,
        })
    }

    /// Has no more of it read than is needed: it lies in an archive, where every part is compared with its own
    /// SHA-256 when it is read, so that of the whole need not be.
    pub fn read_in_parts(&mut self) {
        self.in_parts = matches!(self.checksum, Checksum::PartsVerified { .. });
    }

    /// Reads the id trackers and logs of the shards that are `wanted`, after it was opened without.
    pub fn look_inside(&mut self, wanted: &BTreeSet<u32>) -> Result<()> {
        match wanted.is_empty() {
            true => Ok(()),
            false => self.snapshot.look_inside(wanted),
        }
    }

    /// The SHA-256 that was compared; of one that is read in parts, the one that the archive's chain states
    /// for the list of these parts.
    pub fn sha256(&self) -> Option<&str> {
        match (&self.checksum, &self.snapshot.file) {
            (Checksum::Verified { sha256, .. }, _) => Some(sha256),
            (Checksum::PartsVerified { .. }, SnapshotFile::Stored(stored)) if self.in_parts => {
                Some(&stored.sha256)
            }
            _ => None,
        }
    }

    /// Returns true if it has a checksum that is still to be compared.
    pub fn is_unchecked(&self) -> bool {
        match self.checksum {
            _ if self.in_parts => false,
            Checksum::Unchecked { .. } | Checksum::PartsVerified { .. } => true,
            Checksum::Verified { .. } | Checksum::Unverified | Checksum::Live => false,
        }
    }

    /// Returns the algorithm to hash it with, if it has a checksum that is still to be compared.
    fn to_hash(&self) -> Option<Algorithm> {
        self.is_unchecked()
            .then(|| checksum::algorithm(&self.expected))
    }

    /// Compares the checksum now, if that is still to be done.
    pub fn verify(&mut self) -> Result<()> {
        if let Some(algorithm) = self.to_hash()
            && let Some(hashes) = self.snapshot.hash(algorithm)?
        {
            self.checksum = compare(&self.snapshot.file, &self.expected, &hashes)?;
        }
        Ok(())
    }

    /// The shards that the snapshot must have by its own config; none if it does not say.
    pub fn shards_wanted(&self) -> Option<Vec<u32>> {
        let mut wanted = self.shards_stated()?;
        wanted.retain(|number| !self.elsewhere.contains(number));
        Some(wanted)
    }

    /// Returns true if it is one node's part of a collection of which another source has the rest.
    pub fn is_part(&self) -> bool {
        !self.elsewhere.is_empty()
    }

    /// The shards of its collection, as its config says them.
    fn shards_stated(&self) -> Option<Vec<u32>> {
        if self.config_is_derived {
            return None;
        }
        if self.shard_keys.is_empty() {
            // Custom sharding without a key has no shard at all yet.
            return (*self.config.sharding_method() != ShardingMethod::Custom)
                .then(|| (0..self.config.shard_number()).collect());
        }
        Some(self.shard_keys.shard_ids())
    }

    /// Gives back what was kept of ids and logs, which takes memory, once it is of no more use.
    pub fn forget(&mut self) {
        for shard in self.snapshot.shards.values_mut() {
            shard.log = Default::default();
            for segment in shard.segments.values_mut() {
                segment.trackers = Default::default();
            }
        }
    }

    /// Bytes that its ids may take in scratch where they are too many for memory, at the most.
    pub fn ids_bytes_max(&self) -> u64 {
        let shards = self.snapshot.shards.values();
        let segments = shards.flat_map(|shard| shard.segments.values());
        segments
            .map(|segment| Spill::bytes_max(segment.files.iter()))
            .sum()
    }

    /// Everything that stands in the way of reading it.
    pub fn obstacles(&self) -> Vec<Obstacle> {
        match self.by_server {
            _ if self.live.is_some() => Vec::new(),
            Some(version) => self.obstacles_at(version),
            None => obstacles(&self.snapshot, self.shards_wanted().as_deref()),
        }
    }

    /// Everything that keeps a server of `version` from reading it. A server without RocksDB reads
    /// no more than the engine here, and takes some of what it cannot read for empty, without a word.
    pub fn obstacles_at(&self, version: ServerVersion) -> Vec<Obstacle> {
        let mut found = obstacles(&self.snapshot, self.shards_wanted().as_deref());
        if version < WITHOUT_ROCKSDB {
            found.retain(|obstacle| obstacle.incomplete);
            return found;
        }
        found.extend(in_rocks(&self.snapshot));
        found
    }

    /// The servers that restore it as it is.
    pub fn servers(&self) -> Servers {
        let custom = *self.config.sharding_method() == ShardingMethod::Custom;
        Servers::of(&self.snapshot, custom)
    }

    /// Says which shard keys may have been numbers. A server before 1.13.1 wrote all keys as text
    /// (lib/collection/src/shards/shard_holder/shard_mapping.rs), and any server that loads that takes
    /// them for text, as is done here.
    pub fn keys_once_numbers(&self) -> Option<String> {
        let bytes = self.snapshot.shard_keys.as_deref()?;
        let map: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(bytes).ok()?;
        let keys = map.keys().filter(|key| key.parse::<u64>().is_ok());
        let keys: Vec<&str> = keys.map(String::as_str).collect();
        (!keys.is_empty()).then(|| {
            format!(
                "the shard keys {} may have been numbers: servers before 1.13.1 wrote numbers as text, and \
                 they are taken as text, as a server that loads the snapshot does",
                keys.join(", ")
            )
        })
    }

    /// Returns what its segments keep in RocksDB, all together; how many of them do; and how many there are.
    pub fn in_rocks(&self) -> (InRocks, usize, usize) {
        let segments = (self.snapshot.shards.values()).flat_map(|shard| shard.segments.values());
        let all: Vec<InRocks> = segments.map(InRocks::of).collect();
        let count = all.iter().filter(|inside| !inside.is_nothing()).count();
        (InRocks::all(&all), count, all.len())
    }

    /// The source for a report.
    pub fn label(&self) -> SourceLabel {
        SourceLabel {
            name: self.name.clone(),
            file: self.snapshot.what(),
            file_bytes: self.snapshot.file_bytes,
            checksum: self.checksum.clone(),
        }
    }
}
