//! Points that are given, beside those of the same ids in a live collection.
//!
//! Invariants: every point that is given is asked for, by its id and under its shard key; memory is bounded by a
//! batch.

use std::collections::BTreeMap;

use super::LiveTarget;
use crate::base::error::Result;
use crate::point::{PointId, Record, ShardKey};
use crate::server::points::Points;

/// Records that are asked for at once.
const BATCH_RECORDS: usize = 1000;
/// Bytes of them, at about.
const BATCH_BYTES: usize = 4 << 20;

/// The points of a collection by shard key; without keys, all of them.
pub type ByKey = BTreeMap<Option<ShardKey>, Points>;

/// The points of `target`, each shard key by itself.
pub fn by_key(target: &LiveTarget, keyed: bool) -> Result<ByKey> {
    let connection = &target.connection;
    let name = target.name();
    if !keyed {
        return Ok([(None, Points::new(connection, name, None)?)].into());
    }
    let topology = connection.topology(name)?;
    topology
        .shard_keys()?
        .keys()
        .keys()
        .map(|key| Ok((Some(key.clone()), Points::new(connection, name, Some(key))?)))
        .collect()
}

/// A point that was given, and the one that is there.
pub type Pair = (Record, Option<Record>);

/// Asks for points in batches.
pub struct LookupBatcher<'a> {
    there: &'a ByKey,
    batch: BTreeMap<Option<ShardKey>, Vec<Record>>,
    records: usize,
    bytes: usize,
}

impl<'a> LookupBatcher<'a> {
    /// Asks for what is `there`.
    pub fn new(there: &'a ByKey) -> Self {
        Self {
            there,
            batch: BTreeMap::new(),
            records: 0,
            bytes: 0,
        }
    }

    /// Takes a record in; calls `on` with all that were taken in, when they are enough.
    pub fn add(&mut self, record: Record, on: impl FnMut(Pair) -> Result<()>) -> Result<()> {
        self.records += 1;
        self.bytes += record.weight_bytes();
        let key = record.shard_key.clone();
        self.batch.entry(key).or_default().push(record);
        if self.records < BATCH_RECORDS && self.bytes < BATCH_BYTES {
            return Ok(());
        }
        self.flush(on)
    }

    /// Calls `on` with those that are left.
    pub fn flush(&mut self, mut on: impl FnMut(Pair) -> Result<()>) -> Result<()> {
        (self.records, self.bytes) = (0, 0);
        for (key, mut given) in std::mem::take(&mut self.batch) {
            given.sort_by_key(|record| record.id);
            let ids: Vec<PointId> = given.iter().map(|record| record.id).collect();
            let mut there = match self.there.get(&key) {
                Some(points) => points.get(&ids)?,
                None => Vec::new(),
            }
            .into_iter()
            .peekable();
            for record in given {
                let own = there.next_if(|own| own.id == record.id).map(|mut own| {
                    own.shard_key.clone_from(&key);
                    own
                });
                on((record, own))?;
            }
        }
        Ok(())
    }
}
