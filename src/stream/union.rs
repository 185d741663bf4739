//! The union of sources under a policy, as a stream of records in the order of ids.
//!
//! It is what `rebuild` writes, but for one thing: records that `remap` gave new ids come where
//! their new ids belong, not where the old ones were.
//!
//! Invariants: memory does not grow with the number of points; by `remap` it grows with the number
//! of points that got a new id, by some 60 bytes each.

use std::collections::VecDeque;

use super::conflict::Policy;
use super::options::UnionOptions;
use super::point_stream::PointStream;
use super::resolve::{Fate, Resolver, remapped_fates};
use super::scan::{Groups, Scan, Scanned};
use crate::base::error::{Error, Result};
use crate::engine::Columns;
use crate::point::{Identity, PointId, Sample};
use crate::source::Reading;

/// Remapped records that are read at once.
const READ_AT_ONCE: usize = 256;

/// A point that has a new id in the master.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Moved {
    new: Identity,
    point_stream: usize,
    old: PointId,
}

/// The stream.
pub struct Union<'a, 'env> {
    scan: Scan<'env>,
    resolver: Resolver<'a>,
    point_streams: &'env [PointStream<'env>],
    /// Resolved records of the next group of the scan.
    head: Vec<Scanned>,
    /// Remapped points by their new ids, and the next of them, read.
    moved: VecDeque<Moved>,
    read: VecDeque<Scanned>,
}

impl<'a, 'env> Union<'a, 'env> {
    /// The union of `point_streams` as `resolver` makes it under `settings`, all of it or a `sample`.
    pub fn start<'scope>(
        scope: &'scope std::thread::Scope<'scope, 'env>,
        point_streams: &'env [PointStream<'env>],
        settings: &'env UnionOptions,
        resolver: Resolver<'a>,
        sample: Option<Sample>,
    ) -> Result<Self>
    where
        'env: 'scope,
    {
        let moved = match settings.on_conflict {
            Policy::Remap => find_moved(point_streams, settings, resolver.names(), sample)?,
            _ => VecDeque::new(),
        };
        let reading = Reading {
            filter: settings.filter.as_ref(),
            sample,
            ..Reading::default()
        };
        let mut union = Self {
            scan: Scan::start_reading(scope, point_streams, reading)?,
            resolver,
            point_streams,
            head: Vec::new(),
            moved,
            read: VecDeque::new(),
        };
        union.advance()?;
        Ok(union)
    }

    /// Returns the resolver, when the stream is at its end.
    pub fn into_resolver(self) -> Resolver<'a> {
        self.resolver
    }

    /// Resolves the next group of the scan into the head.
    fn advance(&mut self) -> Result<()> {
        let mut group = Vec::new();
        let Some(id) = self.scan.next_group(&mut group)? else {
            return Ok(());
        };
        let point_stream = group.first().map_or(0, |scanned| scanned.point_stream);
        let head = &mut self.head;
        self.resolver.take(&id, &mut group, |source, record| {
            // The others come by their new ids.
            if record.id == id.id {
                head.push(Scanned {
                    point_stream,
                    source,
                    record,
                    hashed: None,
                });
            }
            Ok(())
        })
    }

    /// Reads the next remapped records, if none is read.
    fn read_moved(&mut self) -> Result<()> {
        if !self.read.is_empty() || self.moved.is_empty() {
            return Ok(());
        }
        let some: Vec<Moved> = self
            .moved
            .drain(..READ_AT_ONCE.min(self.moved.len()))
            .collect();
        for (number, point_stream) in self.point_streams.iter().enumerate() {
            let mine: Vec<&Moved> = some
                .iter()
                .filter(|moved| moved.point_stream == number)
                .collect();
            let ids: Vec<PointId> = mine.iter().map(|moved| moved.old).collect();
            if ids.is_empty() {
                continue;
            }
            let records = point_stream.get(&ids, Columns::ALL)?;
            for mut record in records {
                let Some(moved) = mine.iter().find(|moved| moved.old == record.id) else {
                    continue;
                };
                record.id = moved.new.id;
                let key = moved.new.shard_key.as_ref();
                self.resolver.change(&mut record, point_stream.source, key);
                self.read.push_back(Scanned {
                    point_stream: number,
                    source: point_stream.source,
                    record,
                    hashed: None,
                });
            }
        }
        self.read.make_contiguous().sort_by_cached_key(identity);
        if self.read.len() != some.len() {
            return Err(Error::damaged(
                "reading points that get new ids",
                format!("of {} points {} came", some.len(), self.read.len()),
            ));
        }
        Ok(())
    }
}

impl Groups for Union<'_, '_> {
    fn next_group(&mut self, group: &mut Vec<Scanned>) -> Result<Option<Identity>> {
        group.clear();
        self.read_moved()?;
        let own = self.head.first().map(identity);
        let new = self.read.front().map(identity);
        let Some(id) = own.iter().chain(&new).min().cloned() else {
            return Ok(None);
        };
        if own.as_ref() == Some(&id) {
            group.append(&mut self.head);
            self.advance()?;
        }
        while self.read.front().is_some_and(|next| identity(next) == id) {
            group.extend(self.read.pop_front());
            self.read_moved()?;
        }
        Ok(Some(id))
    }
}

/// The identity of a record as the master has it.
fn identity(scanned: &Scanned) -> Identity {
    Identity {
        id: scanned.record.id,
        shard_key: scanned.record.shard_key.clone(),
    }
}

/// The points that `remap` gives new ids, by these.
fn find_moved(
    point_streams: &[PointStream<'_>],
    settings: &UnionOptions,
    names: &[&str],
    sample: Option<Sample>,
) -> Result<VecDeque<Moved>> {
    let mut found = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let reading = Reading {
            filter: settings.filter.as_ref(),
            sample: None,
            columns: Columns::IDS,
            hashed: false,
        };
        let mut scan = Scan::start_reading(scope, point_streams, reading)?;
        let mut group = Vec::new();
        while let Some(old) = scan.next_group(&mut group)? {
            for (scanned, fate) in group.iter().zip(remapped_fates(&old, &group, names)) {
                if let Fate::Becomes(new) = fate
                    && sample.is_none_or(|sample| sample.keeps(new))
                {
                    found.push(Moved {
                        new: Identity {
                            id: new,
                            shard_key: old.shard_key.clone(),
                        },
                        point_stream: scanned.point_stream,
                        old: old.id,
                    });
                }
            }
        }
        Ok(())
    })?;
    found.sort_unstable();
    Ok(found.into())
}
