//! Settling: from a snapshot to shards that the engine has open, their logs replayed.
//!
//! Keeps true: the SHA-256 is compared before the engine opens anything; a source that cannot be
//! read whole is refused with all the reasons at once, unless what is there can be read and the
//! user said that this is enough.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use uuid::Uuid;

use super::{Checksum, Source, checksum};
use crate::engine::{Shard, ShardConfig};
use crate::error::{Error, Result};
use crate::schema::ShardKey;
use crate::snapshot::{unpack, walk_segments};

/// A settled shard.
#[derive(Debug)]
pub struct SettledShard {
    /// Its number in its source.
    pub number: u32,
    /// The key that it belongs to, with custom sharding.
    pub key: Option<ShardKey>,
    /// The open scratch copy.
    pub shard: Shard,
}

/// A settled source.
#[derive(Debug)]
pub struct Settled {
    /// Its shards by number.
    pub shards: Vec<SettledShard>,
    /// What was written to scratch.
    pub cost: SettlingCost,
}

/// What settling wrote.
#[derive(Debug, Clone, Copy, Default)]
pub struct SettlingCost {
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
                format!("reading {}", self.snapshot.path.display()),
                reasons.join("\n  and "),
            )
            .next(first.next.clone()));
        }
        Ok(missing.into_iter().map(|obstacle| obstacle.why).collect())
    }

    /// Unpacks the source under `folder`, compares its checksum, and opens its shards. `passed`
    /// counts the file's bytes for a progress bar. The caller has asked
    /// [`Self::refuse_unreadable`].
    pub fn settle(&mut self, folder: &Path, passed: Option<Arc<AtomicU64>>) -> Result<Settled> {
        self.settle_some(folder, None, passed)
    }

    /// The same for those shards only that are `wanted`.
    pub fn settle_some(
        &mut self,
        folder: &Path,
        wanted: Option<&BTreeSet<u32>>,
        passed: Option<Arc<AtomicU64>>,
    ) -> Result<Settled> {
        let path = &self.snapshot.path;
        let hash = matches!(self.checksum, Checksum::Unchecked { .. });
        let unpacked = unpack(&self.snapshot, folder, wanted, hash, passed)?;
        if let Some(hashes) = &unpacked.hashes {
            self.checksum = checksum::compare(path, &self.expected, hashes)?;
        }
        let config = ShardConfig::new(&self.config)
            .map_err(|err| err.within(format!("reading {}", path.display())))?;
        let mut shards = Vec::new();
        let is_wanted = |number: &u32| wanted.is_none_or(|wanted| wanted.contains(number));
        for number in self.snapshot.shards.keys().copied().filter(is_wanted) {
            let what = format!("shard {number} of {}", path.display());
            let shard = Shard::open(&folder.join(number.to_string()), &config, what)?;
            shards.push(SettledShard {
                number,
                key: self.shard_keys.key_of(number).cloned(),
                shard,
            });
        }
        Ok(Settled {
            shards,
            cost: SettlingCost {
                bytes: unpacked.bytes,
                files: unpacked.files,
            },
        })
    }

    /// Calls `take` with every packed segment, as [`walk_segments`] does, and compares the checksum
    /// if that is still to be done.
    pub fn walk_segments(
        &mut self,
        passed: Option<Arc<AtomicU64>>,
        take: impl FnMut(u32, Uuid, u64, &mut dyn Read, &str) -> Result<()>,
    ) -> Result<()> {
        let hash = matches!(self.checksum, Checksum::Unchecked { .. });
        let hashes = walk_segments(&self.snapshot, hash, passed, take)?;
        if let Some(hashes) = &hashes {
            self.checksum = checksum::compare(&self.snapshot.path, &self.expected, hashes)?;
        }
        Ok(())
    }
}
