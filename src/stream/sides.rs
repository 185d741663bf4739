//! Two sides open to be compared: one collection, and those that it is held against.
//!
//! Invariants: what was kept of snapshots for other ends is given back first; nothing of them is left
//! when the comparison is done.

use super::opening::{Opened, Reads, open_all};
use super::{PointStream, point_streams};
use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::progress::Unit;
use crate::engine::Filter;
use crate::source::{OpenedShards, Purpose, Source};

/// Both sides, their shards open; a live collection has none.
#[derive(Debug)]
pub struct Sides {
    /// The first that were given: the master, or what was before.
    pub first: OpenedShards,
    /// The others, in their order.
    pub others: Vec<OpenedShards>,
}

impl Sides {
    /// Opens `first` and `others`; `purpose` tells by the place what each is for, `first` at 0. Of the others
    /// what matches `filter` will be read.
    pub fn open(
        first: &mut Source,
        others: &mut [Source],
        purpose: impl Fn(usize) -> Purpose + Sync,
        filter: Option<&Filter>,
        site: Workspace<'_>,
    ) -> Result<Self> {
        let all: Vec<&mut Source> = std::iter::once(first).chain(others).collect();
        let total = all.iter().map(|source| source.snapshot.file_bytes).sum();
        let stage = site.progress.stage("open shards", Some(total), Unit::Bytes);
        let what_for = |at| Opened {
            purpose: purpose(at),
            shards: None,
            filter: filter.filter(|_| at > 0),
        };
        let mut open_shards = open_all(
            all,
            what_for,
            Reads::ByEngine,
            "opened",
            site,
            &stage.counter(),
        )?;
        if open_shards.is_empty() {
            return Err(Error::failed("opening snapshots", "none came back"));
        }
        Ok(Self {
            first: open_shards.remove(0),
            others: open_shards,
        })
    }

    /// The point streams of the first, which is `source`.
    pub fn of_first<'a>(&'a self, source: &'a Source) -> Vec<PointStream<'a>> {
        point_streams(0, source, &self.first)
    }

    /// The point streams of the others, which are `sources`.
    pub fn of_others<'a>(&'a self, sources: &'a [Source]) -> Vec<PointStream<'a>> {
        let both = sources.iter().zip(&self.others).enumerate();
        both.flat_map(|(at, (source, open_shards))| point_streams(at, source, open_shards))
            .collect()
    }

    /// Closes everything, and removes it.
    pub fn discard(self) -> Result<()> {
        let mut all = std::iter::once(self.first).chain(self.others);
        all.try_for_each(OpenedShards::discard)
    }
}

/// The points of all `point_streams`.
pub fn count(point_streams: &[PointStream<'_>]) -> Result<u64> {
    point_streams
        .iter()
        .map(|point_stream| point_stream.records.count(None))
        .sum()
}
