//! Small sources whose records are read and copied without the engine.
//!
//! Invariants: the checksum is compared before anything is believed; a source is read here only if its logs can
//! change no point of its segments, no point lies twice, and every segment is of the one form that is
//! known; all others are left to the engine, whole.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use uuid::Uuid;

use super::open_shards::{CopiedShard, OpenedShards};
use super::{RecordFiles, ShardIds, Source, Spill, not_taken_in};
use crate::base::error::Result;
use crate::format::ids::{self, IdEntry};
use crate::format::records::{SegmentReader, is_plain};
use crate::format::rocks::InRocks;
use crate::format::{Shard, layout, wal};
use crate::point::PointId;

/// Largest snapshot that is a small one, in bytes: it is read here, where its ids are held in memory, and does not stay
/// open if not all can. The larger one is, the less what the engine takes to open it counts.
pub const SMALL_BYTES: u64 = 64 << 20;

/// A segment, and its points.
type SegmentPoints = (Uuid, Vec<IdEntry>);

/// The points of a shard, by segment.
struct Points {
    number: u32,
    segments: Vec<SegmentPoints>,
}

/// A point, the place of its segment among those that are read, and its offset there.
type Place = (PointId, usize, u32);

impl Source {
    /// Copies the records of the shards that are `wanted`, or of all, into one of `files` in `into`, without the
    /// engine; none if that takes the engine. What is unpacked lies in `folder`, which the caller removes;
    /// `passed` counts the file's bytes.
    pub fn copy_plain(
        &mut self,
        folder: &Path,
        wanted: Option<&BTreeSet<u32>>,
        (files, into): (&RecordFiles, &Path),
        passed: Option<Arc<AtomicU64>>,
    ) -> Result<Option<OpenedShards>> {
        if self.live.is_some() || self.snapshot.file_bytes > SMALL_BYTES {
            return Ok(None);
        }
        let shards = self.snapshot.shards.keys().copied();
        let wanted: BTreeSet<u32> = shards
            .filter(|number| wanted.is_none_or(|wanted| wanted.contains(number)))
            .collect();
        let Some(points) = self.plain_points(&wanted, folder)? else {
            return Ok(None);
        };
        let segments = points.iter().flat_map(|shard| {
            let uuids = shard.segments.iter().map(|(uuid, _)| *uuid);
            uuids.map(|uuid| (shard.number, uuid))
        });
        self.unpack_segments(folder, &segments.collect(), true, passed)?;
        let mut opened = OpenedShards::default();
        for shard in points {
            match self.copy_shard(folder, shard, (files, into))? {
                Some(copied) => opened.copied.push(copied),
                // What was copied of other shards is not used.
                None => return Ok(None),
            }
        }
        Ok(Some(opened))
    }

    /// The points of the shards that are `wanted`; none if not all of them can be read here.
    fn plain_points(
        &mut self,
        wanted: &BTreeSet<u32>,
        folder: &Path,
    ) -> Result<Option<Vec<Points>>> {
        let is_plain = |shard: &Shard| {
            let mut segments = shard.segments.values();
            segments.all(|segment| {
                InRocks::of(segment).is_nothing() && is_plain(&segment.state_json(), &self.config)
            })
        };
        let mut shards = wanted.iter().map(|number| self.snapshot.shards.get(number));
        if !shards.all(|shard| shard.is_some_and(is_plain)) {
            return Ok(None);
        }
        let shards = &self.snapshot.shards;
        if !wanted
            .iter()
            .all(|one| shards.get(one).is_some_and(Shard::is_looked_inside))
        {
            self.look_inside(wanted)?;
        }
        let spill = Spill::within(folder);
        let mut all = Vec::new();
        for number in wanted {
            let Some(shard) = self.snapshot.shards.get_mut(number) else {
                return Ok(None);
            };
            let what = format!("shard {number} of {}", self.snapshot.file);
            match points_of(shard, &what, &spill)? {
                Some(segments) => all.push(Points {
                    number: *number,
                    segments,
                }),
                None => return Ok(None),
            }
        }
        self.forget();
        Ok(Some(all))
    }

    /// Copies the records of an unpacked shard; none if its files are not what `segment.json` says.
    fn copy_shard(
        &self,
        folder: &Path,
        points: Points,
        (files, into): (&RecordFiles, &Path),
    ) -> Result<Option<CopiedShard>> {
        let Points { number, segments } = points;
        let what = format!("shard {number} of {}", self.snapshot.file);
        let home = folder.join(number.to_string()).join(layout::SEGMENTS);
        let Some(shard) = self.snapshot.shards.get(&number) else {
            return Ok(None);
        };
        let mut readers = Vec::new();
        let mut places: Vec<Place> = Vec::new();
        for (uuid, entries) in segments {
            let Some(last) = entries.iter().map(|entry| entry.offset).max() else {
                continue;
            };
            let state = shard
                .segments
                .get(&uuid)
                .map(|segment| segment.state_json());
            let folder = home.join(uuid.to_string());
            let what = format!("segment {uuid} of {what}");
            let reader = SegmentReader::open(&folder, &state.unwrap_or_default(), last, &what)?;
            let Some(reader) = reader else {
                return Ok(None);
            };
            let at = readers.len();
            readers.push(reader);
            places.extend(entries.iter().map(|entry| (entry.id, at, entry.offset)));
        }
        places.sort_unstable();
        let records = places.iter().filter_map(|(id, at, offset)| {
            let reader = readers.get_mut(*at)?;
            Some(reader.record(*id, *offset))
        });
        let records = files.store(into, &what, places.len() as u64, records)?;
        Ok(Some(CopiedShard {
            key: self.shard_keys.key_of(number).cloned(),
            records,
        }))
    }
}

/// The points of each segment of `shard`, which was opened with its id trackers and log; none if its log may change
/// any, one lies in two segments, or changes lie beside a segment.
fn points_of(shard: &mut Shard, what: &str, spill: &Spill) -> Result<Option<Vec<SegmentPoints>>> {
    let mut held = ShardIds::new(spill);
    let mut segments = Vec::new();
    for (uuid, segment) in &shard.segments {
        let what = format!("segment {uuid} of {what}");
        let read = ids::read(&segment.trackers.load(&what)?, &what)?;
        let rest = read.unversioned + read.pending_deletes + read.pending_others + read.torn_bytes;
        if rest > 0 {
            return Ok(None);
        }
        held.add_read(&read)?;
        segments.push((*uuid, read.entries));
    }
    let log = wal::read(
        std::mem::take(&mut shard.log),
        &format!("the log of {what}"),
    )?;
    let survey = held.survey(Some(&log))?;
    let is_taken_in = log.torn.is_empty() && not_taken_in(&log, &survey).is_empty();
    Ok((is_taken_in && survey.in_several == 0).then_some(segments))
}
