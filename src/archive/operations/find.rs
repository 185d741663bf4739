//! Finding a point in the entries of an archive: where it is, and when it changed.
//!
//! Invariants: of an entry only its id trackers and its log are read; what cannot be known from these is
//! told, and counts neither as there nor as gone.

use chrono::{DateTime, Utc};
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::envelope;
use crate::archive::{ArchiveOptions, Entry, EntryReader};
use crate::base::error::{Error, Kind, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::format::rocks::InRocks;
use crate::format::schema::ShardKeys;
use crate::format::wal::{self, Op, Touches};
use crate::format::{Shard, Snapshot, SnapshotFile, Want, ids};
use crate::point::{PointId, ShardKey};

/// Finds a point.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct FindRequest {
    /// The point's id: a number or a UUID
    #[arg(long, value_name = "ID")]
    pub id: PointId,
    /// Only in snapshots of this name; repeat it for more
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub archive: ArchiveOptions,
}

/// A point in the entries of an archive, the oldest first within each name.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "said by their names")]
pub struct FindReport {
    #[serde(flatten)]
    pub envelope: Envelope,
    pub archive: String,
    pub id: PointId,
    pub entries: Vec<FoundIn>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FoundIn {
    /// Id of the entry.
    pub entry: String,
    /// When it was taken.
    pub time: DateTime<Utc>,
    /// Where the point is; nothing if it is not there.
    pub places: Vec<PointPlace>,
    /// Changes in the log beside the segments that may concern it, in words of the log; a restore applies that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<String>,
    /// Why it is not known whether the point is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// True if it is otherwise than in the entry of this name before; none for the first, and where one of
    /// both is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<bool>,
}

/// A point in a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PointPlace {
    /// Number of the shard.
    pub shard: u32,
    /// Shard key, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ShardKey>,
    /// Number of the operation that changed the point last.
    pub version: u64,
}

impl FoundIn {
    fn is_certain(&self) -> bool {
        self.unknown.is_none() && self.pending.is_empty()
    }
}

impl Operation for FindRequest {
    const NAME: &'static str = "archive find";
    type Report = FindReport;

    fn run(self, _: &Context) -> Result<FindReport> {
        let archive = self.archive.open()?;
        let mut entries = archive.chain()?.entries();
        for name in &self.names {
            if !entries.iter().any(|entry| entry.name == *name) {
                return Err(super::no_such_name(name));
            }
        }
        entries.retain(|entry| self.names.is_empty() || self.names.contains(&entry.name));
        entries.sort_by(|a, b| (&a.name, a.time).cmp(&(&b.name, b.time)));
        let what = archive.what();
        let reader = EntryReader::new(archive);
        let mut found: Vec<FoundIn> = Vec::new();
        let mut before: Option<&Entry> = None;
        for entry in &entries {
            let mut one = find(&reader, entry, self.id)?;
            if before.is_some_and(|before| before.name == entry.name)
                && let Some(last) = found.last()
                && last.is_certain()
                && one.is_certain()
            {
                one.changed = Some(last.places != one.places);
            }
            before = Some(entry);
            found.push(one);
        }
        let is_anywhere = found
            .iter()
            .any(|one| !one.places.is_empty() || !one.is_certain());
        let outcome = match is_anywhere {
            true => Outcome::DONE,
            false => Outcome::from(Kind::NotFound),
        };
        Ok(FindReport {
            envelope: envelope::<Self>(outcome),
            archive: what,
            id: self.id,
            entries: found,
        })
    }
}

/// Looks for the point in one entry.
fn find(reader: &EntryReader, entry: &Entry, id: PointId) -> Result<FoundIn> {
    let within = |err: Error| err.within(format!("looking into {}", entry.id));
    let file = SnapshotFile::from(reader.open(entry, &entry.id)?);
    let want = Want {
        trackers: true,
        log: true,
        ..Want::default()
    };
    let mut snapshot = Snapshot::open(&file, want, None).map_err(within)?;
    let keys = match &snapshot.shard_keys {
        Some(bytes) => ShardKeys::parse(&entry.id, bytes)?,
        None => ShardKeys::default(),
    };
    let mut found = FoundIn {
        entry: entry.id.clone(),
        time: entry.time,
        places: Vec::new(),
        pending: Vec::new(),
        unknown: None,
        changed: None,
    };
    for (number, shard) in &mut snapshot.shards {
        match newest(shard, &entry.id, id).map_err(within)? {
            Ok(None) => {}
            Ok(Some(version)) => found.places.push(PointPlace {
                shard: *number,
                key: keys.key_of(*number).cloned(),
                version,
            }),
            Err(why) => found.unknown = Some(format!("shard {number}: {why}")),
        }
        let held = found.places.iter().find(|place| place.shard == *number);
        let held = held.map(|place| place.version);
        let log = shard.has_log.then(|| std::mem::take(&mut shard.log));
        let log =
            log.map(|log| wal::read(log, &format!("the log of shard {number} of {}", entry.id)));
        let log = log.transpose().map_err(within)?;
        for operation in log.iter().flat_map(|log| &log.entries) {
            let may_touch = match operation.op.touches() {
                Touches::Nothing => false,
                Touches::Ids(named) => named.contains(&id),
                Touches::Unbounded => true,
            };
            // A delete that was done leaves nothing that says so.
            let is_done = match &operation.op {
                Op::Delete(_) => held.is_none(),
                _ => held.is_some_and(|version| version >= operation.index),
            };
            if may_touch && !is_done {
                let name = &operation.name;
                found.pending.push(format!("{name} ({})", operation.index));
            }
        }
    }
    Ok(found)
}

/// The highest version of the point in a shard's segments; none if it is in none, or why that is not known.
fn newest(shard: &Shard, what: &str, id: PointId) -> Result<Result<Option<u64>, String>> {
    let mut newest = None;
    for (uuid, segment) in &shard.segments {
        if InRocks::of(segment).ids {
            return Ok(Err(
                "its ids are in RocksDB; get the entry, and export it".into()
            ));
        }
        let what = format!("segment {uuid} of {what}");
        let read = ids::read(&segment.trackers.load(&what)?, &what)?;
        let here = read.entries.iter().find(|entry| entry.id == id);
        newest = newest.max(here.map(|entry| entry.version));
    }
    Ok(Ok(newest))
}
