//! The flow of records that every route but `graft` has: from the point streams of all sources, in the order
//! of ids, through conflicts and declared changes, into whatever writes the master.
//!
//! Invariants: every record of every point stream goes in, and is counted; everything that comes out is
//! digested on its way; the same sources and settings give the same records in the same order, so
//! that a flow that was broken off can be taken up where it was.

use std::collections::BTreeSet;

use super::newest::{DecidingField, deciding_field};
use super::options::UnionOptions;
use super::point_stream::{PointStream, in_master, point_streams};
use super::resolve::Resolver;
use super::scan::Scan;
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Stage;
use crate::engine::{Columns, Filter};
use crate::point::{Digest, Record, ShardKey};
use crate::source::{OpenedShards, Reading, Source, refuse_missing};

/// Most shards that the keys of a field may have, all of which are written at once.
const SHARDS_MAX: usize = 256;

/// Streams of all sources that are to be merged.
pub struct Flow<'a> {
    point_streams: Vec<PointStream<'a>>,
    filter: Option<&'a Filter>,
    /// By point stream: its points, and those that match the filter.
    counts: Vec<(u64, u64)>,
    sources: usize,
}

/// Totals of a flow.
#[derive(Debug)]
pub struct Flowed {
    /// The digest of what came out.
    pub digest: Digest,
    /// By source: its points, and those that match the filter.
    pub counts: Vec<(u64, u64)>,
    /// Records that went in.
    pub scanned: u64,
    /// Bytes that came out, in canonical form.
    pub bytes: u64,
}

impl<'a> Flow<'a> {
    /// The flow of `sources`, of which the snapshots were opened, into a master that has shard keys
    /// if it `keeps_keys`.
    pub fn new(
        sources: &'a [Source],
        open_shards: &'a [OpenedShards],
        options: &'a UnionOptions,
        keeps_keys: bool,
    ) -> Result<Self> {
        let (flow, deciding_field) = Self::of_part(sources, open_shards, options, keeps_keys)?;
        deciding_field.refuse_unknown()?;
        Ok(flow)
    }

    /// The same of a part of all records: whether any has the field that decides conflicts is told, and not
    /// refused, since another part may have it.
    pub fn of_part(
        sources: &'a [Source],
        open_shards: &'a [OpenedShards],
        options: &'a UnionOptions,
        keeps_keys: bool,
    ) -> Result<(Self, DecidingField)> {
        let both = sources.iter().zip(open_shards).enumerate();
        let point_streams: Vec<PointStream<'_>> = both
            .flat_map(|(at, (source, open_shards))| point_streams(at, source, open_shards))
            .collect();
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        let point_streams = in_master(point_streams, options, &names, keeps_keys);
        Self::of_streams(point_streams, sources.len(), options)
    }

    /// The same of `point_streams` of so many `sources`, which have the identities and the names of vectors that they
    /// have in the master.
    pub fn of_streams(
        point_streams: Vec<PointStream<'a>>,
        sources: usize,
        options: &'a UnionOptions,
    ) -> Result<(Self, DecidingField)> {
        let filter = options.filter.as_ref();
        let deciding_field = deciding_field(&point_streams, options)?;
        let mut counts = Vec::new();
        for point_stream in &point_streams {
            let points = point_stream.records.count(None)?;
            let matching = match filter {
                None => points,
                Some(_) => point_stream.records.count(filter)?,
            };
            counts.push((points, matching));
        }
        let flow = Self {
            point_streams,
            filter,
            counts,
            sources,
        };
        Ok((flow, deciding_field))
    }

    /// Points that are to be read.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, matching)| matching).sum()
    }

    /// The keys that the points have by the field by which the master is laid out, each with so many
    /// `shards`; `stage` counts points.
    pub fn keys_by_field(&self, shards: u32, stage: &Stage) -> Result<BTreeSet<ShardKey>> {
        let reading = Reading {
            filter: self.filter,
            columns: Columns::PAYLOADS,
            ..Reading::default()
        };
        std::thread::scope(|scope| {
            let mut scan = Scan::start_reading(scope, &self.point_streams, reading)?;
            let (mut keys, mut group) = (BTreeSet::new(), Vec::new());
            while let Some(id) = scan.next_group(&mut group)? {
                stage.add(group.len() as u64);
                keys.extend(id.shard_key);
                if keys.len().saturating_mul(shards as usize) > SHARDS_MAX {
                    return Err(Error::new(
                        Kind::Refused,
                        "giving each value a shard key",
                        format!(
                            "there are {} values or more, and each key has its own shards, {SHARDS_MAX} in all",
                            keys.len()
                        ),
                    )
                    .next(
                        "choose another field, or give that field a payload index with is_tenant",
                    ));
                }
            }
            Ok(keys)
        })
    }

    /// Lets all flow, and calls `sink` with every record that comes out and the digest of all
    /// up to it.
    pub fn run(
        &self,
        resolver: &mut Resolver<'_>,
        stage: &Stage,
        mut sink: impl FnMut(Record, &Digest) -> Result<()>,
    ) -> Result<Flowed> {
        let mut by_lane = vec![0_u64; self.point_streams.len()];
        let mut flowed = Flowed {
            digest: Digest::default(),
            counts: Vec::new(),
            scanned: 0,
            bytes: 0,
        };
        let reading = Reading {
            filter: self.filter,
            ..Reading::default()
        };
        std::thread::scope(|scope| {
            let mut scan = Scan::start_reading(scope, &self.point_streams, reading)?;
            let mut buffer = Vec::new();
            let mut group = Vec::new();
            while let Some(id) = scan.next_group(&mut group)? {
                for one in &group {
                    if let Some(count) = by_lane.get_mut(one.point_stream) {
                        *count += 1;
                    }
                }
                flowed.scanned += group.len() as u64;
                stage.add(group.len() as u64);
                resolver.take(&id, &mut group, |_, record| {
                    flowed.digest.add(&record, &mut buffer);
                    flowed.bytes += buffer.len() as u64;
                    sink(record, &flowed.digest)
                })?;
            }
            Ok::<(), Error>(())
        })?;
        self.all_scanned(&by_lane)?;
        flowed.counts = self.counted(&by_lane);
        Ok(flowed)
    }

    /// Refuses streams that ended early; of a live collection nobody knows.
    fn all_scanned(&self, by_lane: &[u64]) -> Result<()> {
        for (point_stream, scanned) in self.point_streams.iter().zip(by_lane) {
            if point_stream.records.may_change() {
                continue;
            }
            let expected = point_stream.records.count(self.filter)?;
            refuse_missing(point_stream.records.what(), expected, *scanned)?;
        }
        Ok(())
    }

    /// Returns the counts of each source. Of a live one the points that came count, and not those that it had
    /// before: what was written in between is told by the source itself.
    fn counted(&self, by_lane: &[u64]) -> Vec<(u64, u64)> {
        let mut counts = vec![(0, 0); self.sources];
        for ((point_stream, (points, matching)), scanned) in
            self.point_streams.iter().zip(&self.counts).zip(by_lane)
        {
            if let Some(count) = counts.get_mut(point_stream.source) {
                count.0 += points.saturating_sub(*matching) + scanned;
                count.1 += scanned;
            }
        }
        counts
    }
}
