//! Opening: from a snapshot to shards that the engine has open, their logs replayed.
//!
//! Invariants: the SHA-256 is compared before the engine, or RocksDB, opens anything; what lies in
//! RocksDB is converted before the engine opens its segment, and its log is replayed after that; a source
//! that cannot be read whole is refused with all the reasons at once, unless what is there can be read
//! and the user said that this is enough.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use uuid::Uuid;

use super::{Reading, RecordFiles, Source, StoredRecords, compare};
use crate::base::error::{Error, Result};
use crate::base::parallel::in_parallel;
use crate::base::scratch;
use crate::engine::{
    Filter, Shard, ShardConfig, closed_segments, forbid_additions, lighten, store_empty_vectors,
};
use crate::format::schema::CollectionConfig;
use crate::format::wal;
use crate::format::wal::{LogFiles, Op};
use crate::format::{PackedSegment, Unpacking, ids, layout, rocks, unpack, walk_segments};
use crate::point::ShardKey;

/// Purpose that shards are opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be changed and packed again: with everything that their segments have.
    Carrying,
    /// To be read by ids, never searched: without graphs, without payload indexes as far as the log
    /// allows, and with as few of the ids in memory as the engine allows.
    Reading,
    /// To be read through a filter, which may mean something else without payload indexes.
    Filtering,
    /// The same, and to be searched: it stays open.
    Searching,
}

impl Purpose {
    /// The purpose of who reads what matches `filter`, or all.
    pub fn to_read(filter: Option<&Filter>) -> Self {
        match filter {
            Some(_) => Self::Filtering,
            None => Self::Reading,
        }
    }

    /// Returns true if the records are all that is needed, so that they may be copied, and the shard closed.
    pub fn takes_records_only(self) -> bool {
        matches!(self, Self::Reading | Self::Filtering)
    }
}

/// An opened shard.
#[derive(Debug)]
pub struct OpenedShard {
    /// Number in its source.
    pub number: u32,
    /// The key that it belongs to, with custom sharding.
    pub key: Option<ShardKey>,
    /// The open scratch copy.
    pub shard: Shard,
}

/// The records of an opened shard that is closed again.
#[derive(Debug)]
pub struct CopiedShard {
    /// The key that it belongs to, with custom sharding.
    pub key: Option<ShardKey>,
    /// Its records.
    pub records: StoredRecords,
}

/// An opened source: its shards are open, or copied.
#[derive(Debug, Default)]
pub struct OpenedShards {
    /// Shards by number.
    pub shards: Vec<OpenedShard>,
    /// Shards that were copied, by number.
    pub copied: Vec<CopiedShard>,
    /// Amount that was written to scratch.
    pub cost: OpeningCost,
}

impl OpenedShards {
    /// Copies what `reading` says of each shard into one of `files`, in `folder`, and closes the shards.
    pub fn copied(self, files: &RecordFiles, folder: &Path, reading: Reading<'_>) -> Result<Self> {
        let Self {
            shards,
            mut copied,
            cost,
        } = self;
        for OpenedShard { key, shard, .. } in shards {
            let records = files.copy(folder, &shard, reading)?;
            shard.discard()?;
            copied.push(CopiedShard { key, records });
        }
        Ok(Self {
            shards: Vec::new(),
            copied,
            cost,
        })
    }

    /// Closes its shards without keeping anything.
    pub fn discard(self) -> Result<()> {
        self.shards
            .into_iter()
            .try_for_each(|shard| shard.shard.discard())
    }
}

/// A segment unpacked as a shard of its own: its shard's number, and its folder.
pub type ApartSegment = (u32, PathBuf);

/// Amount that opening wrote to scratch.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpeningCost {
    /// Bytes unpacked, holes not included.
    pub bytes: u64,
    /// Files unpacked.
    pub files: u64,
}

impl Source {
    /// Refuses the source if it cannot be read whole; with `allow_incomplete`, only if what is
    /// there cannot be read. Returns what is missing.
    pub fn refuse_unreadable(&self, allow_incomplete: bool) -> Result<Vec<String>> {
        let (missing, stopping): (Vec<_>, Vec<_>) = self
            .obstacles()
            .into_iter()
            .partition(|obstacle| obstacle.incomplete && allow_incomplete);
        if let Some(first) = stopping.first() {
            let mut reasons = Vec::new();
            for obstacle in &stopping {
                let place = match (obstacle.shard, obstacle.segment) {
                    (Some(shard), Some(segment)) => format!("segment {segment} of shard {shard}: "),
                    _ => String::new(),
                };
                reasons.push(format!("{place}{}", obstacle.why));
            }
            return Err(Error::damaged(
                format!("reading {}", self.snapshot.file),
                reasons.join("\n  and "),
            )
            .next(first.next.clone()));
        }
        Ok(missing.into_iter().map(|obstacle| obstacle.why).collect())
    }

    /// Unpacks the source under `folder`, compares its checksum, and opens its shards for
    /// `purpose`. `passed` counts the file's bytes for a progress bar. The caller has asked
    /// [`Self::refuse_unreadable`].
    pub fn open_all_shards(
        &mut self,
        folder: &Path,
        purpose: Purpose,
        passed: Option<Arc<AtomicU64>>,
    ) -> Result<OpenedShards> {
        self.open_shards(folder, None, purpose, passed)
    }

    /// The same for those shards only that are `wanted`, or for all.
    pub fn open_shards(
        &mut self,
        folder: &Path,
        wanted: Option<&BTreeSet<u32>>,
        purpose: Purpose,
        passed: Option<Arc<AtomicU64>>,
    ) -> Result<OpenedShards> {
        if self.live.is_some() {
            return Ok(OpenedShards::default());
        }
        let file = &self.snapshot.file;
        let unpacking = Unpacking {
            wanted,
            hash: self.to_hash(),
            ..Unpacking::default()
        };
        let unpacked = unpack(&self.snapshot, folder, unpacking, passed)?;
        if let Some(hashes) = &unpacked.hashes {
            self.checksum = compare(file, &self.expected, hashes)?;
        }
        let engine =
            ShardConfig::new(&self.config).map_err(|err| err.within(format!("reading {file}")))?;
        let open = |home: &Path, what: &str| open(home, purpose, &self.config, &engine, what);
        let mut shards = Vec::new();
        let is_wanted = |number: &u32| wanted.is_none_or(|wanted| wanted.contains(number));
        for number in self.snapshot.shards.keys().copied().filter(is_wanted) {
            let what = format!("shard {number} of {}", file);
            let home = folder.join(number.to_string());
            let mut shard = open(&home, &what)?;
            let refused = shard.passed_over().clone();
            if let Some(first) = refused.first() {
                // Some of an upsert may be written, and other points of it each time: it is taken for
                // nothing, as its sender was told.
                shard.discard()?;
                if home.exists() {
                    scratch::remove_folder(&home)?;
                }
                let again = BTreeSet::from([number]);
                let unpacking = Unpacking {
                    wanted: Some(&again),
                    ..Unpacking::default()
                };
                unpack(&self.snapshot, folder, unpacking, None)?;
                wal::without(
                    &home.join(layout::LOG),
                    &refused,
                    &format!("the log of {what}"),
                )?;
                shard = open(&home, &what)?;
                self.refused.insert(format!(
                    "{} entries of the log of {what}, from {first} on, were refused by the engine, as by \
                     the server that wrote them (a vector of a wrong size, as a rule): they count as \
                     nothing, but for what of them is in the segments already",
                    refused.len()
                ));
                if !shard.passed_over().is_empty() {
                    return Err(Error::damaged(
                        format!("reading the log of {what}"),
                        "other entries are refused each time that it is read",
                    )
                    .next("take the snapshot again"));
                }
            }
            shards.push(OpenedShard {
                number,
                key: self.shard_keys.key_of(number).cloned(),
                shard,
            });
        }
        Ok(OpenedShards {
            shards,
            copied: Vec::new(),
            cost: OpeningCost {
                bytes: unpacked.bytes,
                files: unpacked.files,
            },
        })
    }

    /// Makes shards under `folder` out of nothing but the logs of those that are `wanted`: they have
    /// the points that the logs write, numbered as in the logs.
    pub fn open_logs(&self, folder: &Path, wanted: &BTreeSet<u32>) -> Result<Vec<OpenedShard>> {
        let file = &self.snapshot.file;
        let unpacking = Unpacking {
            wanted: Some(wanted),
            logs_only: true,
            ..Unpacking::default()
        };
        unpack(&self.snapshot, folder, unpacking, None)?;
        let config =
            ShardConfig::new(&self.config).map_err(|err| err.within(format!("reading {file}")))?;
        let mut shards = Vec::new();
        for number in wanted {
            let what = format!("the log of shard {number} of {}", file);
            let folder = folder.join(number.to_string());
            shards.push(OpenedShard {
                number: *number,
                key: self.shard_keys.key_of(*number).cloned(),
                shard: Shard::open(&folder, &config.without_log(), what)?,
            });
        }
        Ok(shards)
    }

    /// Unpacks the segments `wanted`, by shard and UUID, each under `folder/SHARD/segments/UUID`, and compares
    /// the checksum if that is still to be done. They keep nothing in RocksDB. Payload indexes are left out if
    /// there is no use for them.
    pub fn unpack_segments(
        &mut self,
        folder: &Path,
        wanted: &BTreeSet<(u32, Uuid)>,
        no_payload_indexes: bool,
        passed: Option<Arc<AtomicU64>>,
    ) -> Result<()> {
        let unpacking = Unpacking {
            segments: Some(wanted),
            no_payload_indexes,
            hash: self.to_hash(),
            ..Unpacking::default()
        };
        let unpacked = unpack(&self.snapshot, folder, unpacking, passed)?;
        if let Some(hashes) = &unpacked.hashes {
            self.checksum = compare(&self.snapshot.file, &self.expected, hashes)?;
        }
        let shards: BTreeSet<u32> = wanted.iter().map(|(number, _)| *number).collect();
        for number in shards {
            store_empty_vectors(&folder.join(number.to_string()), &self.config)?;
        }
        Ok(())
    }

    /// Unpacks the shards `wanted` of the source under `folder`, each segment as a shard of its own, to be read
    /// and without its log. Returns each segment's shard number and folder.
    pub fn unpack_apart(&self, folder: &Path, wanted: &BTreeSet<u32>) -> Result<Vec<ApartSegment>> {
        let unpacking = Unpacking {
            wanted: Some(wanted),
            apart: true,
            ..Unpacking::default()
        };
        unpack(&self.snapshot, folder, unpacking, None)?;
        let mut segments = Vec::new();
        let shards = &self.snapshot.shards;
        for (number, shard) in shards.iter().filter(|(number, _)| wanted.contains(number)) {
            for uuid in shard.segments.keys() {
                let folder = folder.join(number.to_string()).join(uuid.to_string());
                convert(
                    &folder,
                    &format!("shard {number} of {}", self.snapshot.what()),
                )?;
                store_empty_vectors(&folder, &self.config)?;
                lighten(&folder, false)?;
                leave_ids_on_disk(&folder, false)?;
                segments.push((*number, folder));
            }
        }
        Ok(segments)
    }

    /// Calls `take` with the packed segments that are `wanted`, as [`walk_segments`] does, and compares the checksum
    /// if that is still to be done.
    pub fn walk_segments(
        &mut self,
        passed: Option<Arc<AtomicU64>>,
        wanted: impl Fn(u32, Uuid) -> bool,
        take: impl FnMut(PackedSegment<'_>, &mut dyn Read) -> Result<()>,
    ) -> Result<()> {
        let hash = self.to_hash();
        let hashes = walk_segments(&self.snapshot, hash, passed, wanted, take)?;
        if let Some(hashes) = &hashes {
            self.checksum = compare(&self.snapshot.file, &self.expected, hashes)?;
        }
        Ok(())
    }
}

/// Opens the unpacked shard in `folder`, called `what`, for `purpose`; `engine` is what the engine makes of
/// the collection's `config`.
fn open(
    folder: &Path,
    purpose: Purpose,
    config: &CollectionConfig,
    engine: &ShardConfig,
    what: &str,
) -> Result<Shard> {
    convert(folder, what)?;
    store_empty_vectors(folder, config)?;
    drop_blank_first_index(folder, what)?;
    // A log that cannot be read is for the engine to judge.
    let filters = matches!(purpose, Purpose::Filtering | Purpose::Searching)
        || has_filters(folder, what).unwrap_or(true);
    if purpose != Purpose::Carrying {
        lighten(folder, filters)?;
    }
    if filters {
        Shard::drop_older_copies(folder, engine, what)?;
    }
    if purpose == Purpose::Reading {
        leave_ids_on_disk(folder, filters)?;
    }
    match purpose {
        // The log is replayed all the same, but then put away, and changes get numbers above all that
        // the segments hold. Those of a log that is missing, or cut off, would begin below, and the
        // engine passes over what it takes for old.
        Purpose::Carrying => Shard::open(folder, &engine.without_log(), what),
        Purpose::Reading | Purpose::Filtering | Purpose::Searching => {
            Shard::open(folder, engine, what)
        }
    }
}

/// Segments that are converted at once; the ids of each take 16 bytes a point meanwhile.
const CONVERTED_AT_ONCE: usize = 2;

/// Converts what the segments of the unpacked shard in `folder`, called `what`, keep in RocksDB.
fn convert(folder: &Path, what: &str) -> Result<()> {
    let segments = folder.join(layout::SEGMENTS);
    let failed = |err: std::io::Error| Error::io("listing segments in", &segments, &err);
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(&segments).map_err(failed)? {
        folders.push(entry.map_err(failed)?.path());
    }
    in_parallel(folders, CONVERTED_AT_ONCE, |folder| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        rocks::convert(&folder, &format!("segment {name} of {what}"))
    })
    .map(drop)
}

/// Removes a `first-index` that says nothing from the log of the unpacked shard in `folder`: the engine
/// would not open it, and without one it applies all of the log again.
fn drop_blank_first_index(folder: &Path, what: &str) -> Result<()> {
    let path = folder.join(layout::LOG).join(wal::FIRST_INDEX);
    let text = match std::fs::read(&path) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        text => text.map_err(|err| Error::io("reading scratch", &path, &err))?,
    };
    if !wal::is_blank_first_index(&text) {
        return Ok(());
    }
    log::warn!(
        "the {} of {what} says nothing, as a server that crashed leaves it: all of its log was \
         applied again",
        wal::FIRST_INDEX
    );
    std::fs::remove_file(&path).map_err(|err| Error::io("removing scratch file", &path, &err))
}

/// Has the engine leave the ids of the closed shard in `folder`, which will only be read, on the disk,
/// where it can; those that its log adds are in memory all the same. One that has payload indexes keeps
/// its segments of the kind that they are: indexes that points are added to have another form. A segment
/// without ids stays one that is added to: without any the engine would make and sync another.
fn leave_ids_on_disk(folder: &Path, has_payload_indexes: bool) -> Result<()> {
    for segment in closed_segments(folder)? {
        if ids::are_none(&segment.folder)? {
            continue;
        }
        if !segment.kind.appendable || (!has_payload_indexes && forbid_additions(&segment)?) {
            ids::to_disk(&segment.folder)?;
        }
    }
    Ok(())
}

/// Returns true if the log of the unpacked shard in `folder`, called `what`, may hold an operation that
/// filters points.
fn has_filters(folder: &Path, what: &str) -> Result<bool> {
    let folder = folder.join(layout::LOG);
    let what = format!("the log of {what}");
    if !folder.exists() {
        return Ok(false);
    }
    let failed = |path: &Path, err: std::io::Error| Error::io("reading scratch", path, &err);
    let mut files = LogFiles::default();
    for entry in std::fs::read_dir(&folder).map_err(|err| failed(&folder, err))? {
        let path = entry.map_err(|err| failed(&folder, err))?.path();
        let file = File::open(&path).map_err(|err| failed(&path, err))?;
        let size = file.metadata().map_err(|err| failed(&path, err))?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        files.add(&name, size, file, &what)?;
    }
    let log = wal::read(files, &what)?;
    Ok(!log.entries.iter().all(|entry| match &entry.op {
        // Under another name there may be a condition to it.
        Op::Upsert(_) => entry.name == "upsert_points",
        Op::Delete(_) => entry.name == "delete_points",
        Op::Index { .. } => true,
        _ => false,
    }))
}
