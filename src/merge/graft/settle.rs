//! The shards that cannot travel as they are: settled in scratch, changed, packed again.
//!
//! Keeps true: a shard is unpacked once; its losers are deleted and its missing indexes made by the
//! engine; what is packed is what the engine flushed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::look::{Carriage, Lane};
use crate::engine::{ClosedSegment, Columns, Shard, ShardConfig, closed_segments};
use crate::error::{Error, Result};
use crate::merge::plan::Plan;
use crate::merge::rebuild::Site;
use crate::point::PointId;
use crate::scratch;
use crate::snapshot::{layout, write_segment};
use crate::source::Source;

/// Ids that are read or deleted at once.
const IDS_AT_ONCE: usize = 4096;

/// Where shards are settled.
pub struct Workshop<'a> {
    site: Site<'a>,
    plan: &'a Plan,
    open: BTreeMap<(usize, u32), Shard>,
    rounds: u32,
}

impl<'a> Workshop<'a> {
    /// An empty one.
    pub fn new(site: Site<'a>, plan: &'a Plan) -> Self {
        Self {
            site,
            plan,
            open: BTreeMap::new(),
            rounds: 0,
        }
    }

    /// Whether any shard was settled.
    pub fn was_used(&self) -> bool {
        self.rounds > 0
    }

    /// The settled shard of `lane`.
    pub fn shard(&self, lane: &Lane) -> Option<&Shard> {
        self.open.get(&(lane.source, lane.number))
    }

    /// Settles every lane that has a reason and is not settled yet, and reads its ids again.
    pub fn settle(&mut self, sources: &mut [Source], lanes: &mut [Lane]) -> Result<()> {
        for (at, source) in sources.iter_mut().enumerate() {
            let wanted: BTreeSet<u32> = lanes
                .iter()
                .filter(|lane| lane.source == at && !lane.reasons.is_empty())
                .map(|lane| lane.number)
                .filter(|number| !self.open.contains_key(&(at, *number)))
                .collect();
            if wanted.is_empty() {
                continue;
            }
            self.rounds += 1;
            let folder = self
                .site
                .scratch
                .folder(&format!("settle-{}", self.rounds))?;
            let settled = source.settle_some(&folder, Some(&wanted), None)?;
            for shard in settled.shards {
                let lane = lanes
                    .iter_mut()
                    .find(|lane| lane.source == at && lane.number == shard.number);
                if let Some(lane) = lane {
                    lane.ids = ids(&shard.shard)?;
                }
                self.open.insert((at, shard.number), shard.shard);
            }
        }
        Ok(())
    }

    /// Deletes the losers, makes the missing payload indexes, closes and packs every settled shard;
    /// returns the bytes that were packed.
    pub fn finish(&mut self, lanes: &mut [Lane]) -> Result<u64> {
        let mut bytes = 0;
        for lane in lanes {
            if let Some(closed) = self.close(lane)? {
                lane.segments = Vec::new();
                bytes += self.pack(lane, closed)?;
            }
        }
        Ok(bytes)
    }

    /// The same, with the segments of each of the master's shards merged until there are no more
    /// than its config wants, and indexed as it wants; every lane was settled. Returns the bytes
    /// that were packed, and the segments before and after.
    pub fn consolidate(&mut self, lanes: &mut [Lane]) -> Result<(u64, u64, u64)> {
        let config = ShardConfig::new(&self.plan.united.config)?.without_log();
        let (mut bytes, mut before, mut after) = (0, 0, 0);
        for target in &self.plan.layout.shards {
            let home = self.site.scratch.path().join(format!("whole-{target}"));
            let segments = home.join(layout::SEGMENTS);
            std::fs::create_dir_all(&segments)
                .map_err(|err| Error::io("making scratch folder", &segments, &err))?;
            let mut first = None;
            for (at, lane) in lanes.iter_mut().enumerate() {
                if lane.target != *target {
                    continue;
                }
                let Some(closed) = self.close(lane)? else {
                    continue;
                };
                lane.segments = Vec::new();
                first.get_or_insert(at);
                for segment in closed.segments {
                    // Two sources may have segments with one UUID.
                    let to = segments.join(uuid::Uuid::new_v4().to_string());
                    scratch::move_folder(&segment.folder, &to)?;
                    before += 1;
                }
                remove(&closed.folder)?;
            }
            let Some(lane) = first.and_then(|at| lanes.get_mut(at)) else {
                continue;
            };
            let what = format!("shard {target} of the master");
            let shard = Shard::reopen(&home, &config, what)?;
            shard.optimize()?;
            let indexed_vectors = shard.indexed_vectors()?;
            shard.close()?;
            let closed = Closed {
                segments: closed_segments(&home)?,
                folder: home,
                indexed_vectors,
            };
            after += closed.segments.len() as u64;
            bytes += self.pack(lane, closed)?;
        }
        Ok((bytes, before, after))
    }

    /// Makes a settled shard what it is to be in the master, and closes it.
    fn close(&mut self, lane: &Lane) -> Result<Option<Closed>> {
        let Some(shard) = self.open.remove(&(lane.source, lane.number)) else {
            return Ok(None);
        };
        for losers in lane.losers.chunks(IDS_AT_ONCE) {
            shard.delete(losers)?;
        }
        for (field, schema) in self.plan.united.payload.fields() {
            shard.create_index(field, schema)?;
        }
        let left = shard.count(None)?;
        let expected = (lane.ids.len() - lane.losers.len()) as u64;
        if left != expected {
            return Err(Error::failed(
                format!("deleting what lost from {}", shard.what()),
                format!("{left} points are left where {expected} should be"),
            )
            .next("use --route rebuild, and please report this"));
        }
        // The engine tells it of the whole shard only.
        let indexed_vectors = shard.indexed_vectors()?;
        let folder = shard.folder().to_owned();
        shard.close()?;
        Ok(Some(Closed {
            segments: closed_segments(&folder)?,
            folder,
            indexed_vectors,
        }))
    }

    fn pack(&self, lane: &mut Lane, closed: Closed) -> Result<u64> {
        let mut bytes = 0;
        let mut indexed_vectors = closed.indexed_vectors;
        for segment in closed.segments {
            let path = self.packed_path(lane, segment.uuid)?;
            let mut file = scratch::create(&path)?;
            write_segment(&segment.folder, &mut file, &path)?;
            bytes += file.metadata().map(|meta| meta.len()).unwrap_or(0);
            lane.segments.push(Carriage {
                uuid: segment.uuid,
                version: segment.version,
                indexed_vectors: std::mem::take(&mut indexed_vectors),
                packed: Some(path),
            });
        }
        remove(&closed.folder)?;
        Ok(bytes)
    }

    fn packed_path(&self, lane: &Lane, uuid: uuid::Uuid) -> Result<PathBuf> {
        let folder = self
            .site
            .scratch
            .path()
            .join(format!("packed-{}-{}", lane.source, lane.number));
        std::fs::create_dir_all(&folder)
            .map_err(|err| Error::io("making scratch folder", &folder, &err))?;
        Ok(folder.join(format!("{uuid}.tar")))
    }
}

/// A settled shard, closed.
struct Closed {
    segments: Vec<ClosedSegment>,
    folder: PathBuf,
    indexed_vectors: u64,
}

fn remove(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder)
        .map_err(|err| Error::io("removing scratch folder", folder, &err))
}

/// All ids of a settled shard, ascending.
fn ids(shard: &Shard) -> Result<Vec<PointId>> {
    let mut ids = Vec::new();
    let mut from = None;
    loop {
        let page = shard.page(from, IDS_AT_ONCE, Columns::IDS, None)?;
        ids.extend(page.records.iter().map(|record| record.id));
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(ids),
        }
    }
}
