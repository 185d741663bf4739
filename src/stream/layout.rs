//! The shards of a master, and which of them a record goes to.
//!
//! Invariants: with keys, a record stays under its key; within a key, and without keys, Qdrant's
//! own ring decides.

use std::collections::BTreeMap;

use super::ring::ShardRing;
use crate::base::error::{Error, Result};
use crate::format::schema::ShardKeys;
use crate::point::ShardKey;
use crate::point::{PointId, Record};
use crate::source::IdSet;

/// The shards of a master.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Their numbers, ascending.
    pub shards: Vec<u32>,
    /// Their keys; empty without custom sharding.
    pub keys: ShardKeys,
    rings: BTreeMap<Option<ShardKey>, ShardRing>,
}

impl Layout {
    /// `shards` shards without keys.
    pub fn automatic(shards: u32) -> Self {
        let shards: Vec<u32> = (0..shards.max(1)).collect();
        Self {
            rings: BTreeMap::from([(None, ShardRing::new(&shards))]),
            keys: ShardKeys::default(),
            shards,
        }
    }

    /// One group of shards for each key of `keys`, which come with their numbers of shards. Shards
    /// are numbered from 1 on in this order, as a server numbers them when keys are created in it.
    pub fn by_key(keys: &[(ShardKey, u32)]) -> Result<Self> {
        let mut next = 1;
        let mut groups = Vec::new();
        for (key, shards) in keys {
            let numbers: Vec<u32> = (next..next + shards).collect();
            next += shards;
            groups.push((key.clone(), numbers));
        }
        let keys = ShardKeys::new(groups)?;
        Ok(Self {
            shards: keys.shard_ids(),
            rings: rings(&keys),
            keys,
        })
    }

    /// The layout that a snapshot with these `keys` and `shards` has.
    pub fn of(keys: ShardKeys, shards: u32) -> Self {
        if keys.is_empty() {
            return Self::automatic(shards);
        }
        Self {
            shards: keys.shard_ids(),
            rings: rings(&keys),
            keys,
        }
    }

    /// The same, of which only `shards` are made: where a point belongs does not change.
    #[must_use]
    pub fn only(&self, shards: Vec<u32>) -> Self {
        Self {
            shards,
            ..self.clone()
        }
    }

    /// The shard that a point belongs to; none if there is no shard for its `key`.
    pub fn shard_of(&self, id: PointId, key: Option<&ShardKey>) -> Option<u32> {
        // Without keys there is one ring, and nothing to clone for it.
        let ring = match key {
            None => self.rings.get(&None),
            Some(key) => self.rings.get(&Some(key.clone())),
        };
        ring.map(|ring| ring.shard(id))
    }

    /// Counts the `ids` that do not belong to `shard`, and tells the first of them.
    pub fn strangers(
        &self,
        ids: &IdSet,
        shard: u32,
        key: Option<&ShardKey>,
    ) -> Result<(u64, Option<PointId>)> {
        let of_key = match key {
            None if self.keys.is_empty() => Some(self.shards.as_slice()),
            None => None,
            Some(key) => self.keys.keys().get(key).map(Vec::as_slice),
        };
        // Where there is one shard only, all points are in it.
        if of_key == Some(&[shard]) {
            return Ok((0, None));
        }
        let (mut count, mut first) = (0, None);
        ids.walk(|span| {
            for (_, id) in span.ids() {
                if self.shard_of(id, key) != Some(shard) {
                    count += 1;
                    first.get_or_insert(id);
                }
            }
            Ok(())
        })?;
        Ok((count, first))
    }

    /// The shard that `record` belongs to.
    pub fn shard(&self, record: &Record) -> Result<u32> {
        self.shard_of(record.id, record.shard_key.as_ref())
            .ok_or_else(|| {
                let key = record
                    .shard_key
                    .as_ref()
                    .map_or_else(|| "no key".to_owned(), ToString::to_string);
                Error::failed(
                    format!("placing point {}", record.id),
                    format!("the master has no shard for {key}"),
                )
                .next("a source changed while it was read: run the same again")
            })
    }
}

fn rings(keys: &ShardKeys) -> BTreeMap<Option<ShardKey>, ShardRing> {
    keys.keys()
        .iter()
        .map(|(key, shards)| (Some(key.clone()), ShardRing::new(shards)))
        .collect()
}
