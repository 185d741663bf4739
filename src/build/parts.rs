//! Division of a collection's shards into segments while they are written.
//!
//! To a segment that points are added to, the engine holds some 60 bytes a point in memory, and
//! some 100 more for each payload index. So a shard that stays as it is written, because it gets no
//! graph, is written as several parts, one after the other, each with a segment of its own.
//!
//! Invariants: a shard has no more parts than segments that a server leaves alone by the collection's
//! config; how many there are depends on the points and the config, not on the machine.

use serde_json::Value;

use crate::base::error::Result;
use crate::engine::ShardConfig;
use crate::format::schema::{CollectionConfig, United};

/// A part with fewer points than this is not worth its segment.
const POINTS_MIN: u64 = 50_000;
/// A part with more points than this takes too much memory, ...
const POINTS_MAX: u64 = 1 << 17;
/// ... but with more segments than this, searching would take too long.
const PARTS_MAX: u64 = 16;

/// Division of shards into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Maximum number of parts of a shard.
    pub at_most: usize,
    /// Number of points with which a part is full, unless it is the last.
    pub points_each: u64,
}

impl Parts {
    /// Division of about `points` points of a collection with `config` in `shards` shards: what gets graphs is written
    /// as one.
    pub fn of(config: &CollectionConfig, points: u64, shards: usize) -> Result<Self> {
        let config = ShardConfig::new(config)?;
        let at_most = match config.stays_plain() {
            true => config.segments_max(),
            false => 1,
        };
        Ok(Self::new(points / shards.max(1) as u64, at_most))
    }

    /// The same, as one whatever it is.
    pub fn whole(self) -> Self {
        Self { at_most: 1, ..self }
    }

    /// Shards of about `points` points in `at_most` parts.
    fn new(points: u64, at_most: usize) -> Self {
        let at_most = at_most.max(1);
        let parts = points.div_ceil(POINTS_MIN).clamp(1, at_most as u64);
        Self {
            at_most,
            points_each: points.div_ceil(parts).max(1),
        }
    }
}

/// A `default_segment_number` that was raised, so that memory does not grow with points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised {
    /// The number before.
    pub stated: u64,
    /// The number now.
    pub wanted: u64,
}

/// Has the config of a collection of about `points` points in `shards` shards allow as many segments as
/// these are to be written in, but at most `segments_max`.
pub fn allow_parts(
    points: u64,
    shards: usize,
    segments_max: Option<u64>,
    united: &mut United,
) -> Result<Option<Raised>> {
    let config = ShardConfig::new(&united.config)?;
    if !config.stays_plain() {
        return Ok(None);
    }
    let wanted = wanted(points / shards.max(1) as u64);
    let wanted = wanted.min(segments_max.unwrap_or(u64::MAX));
    let stated = config.segments_max() as u64;
    if wanted <= stated {
        return Ok(None);
    }
    let number = [("default_segment_number", Value::from(wanted))];
    united.set("optimizer_config", &number)?;
    Ok(Some(Raised { stated, wanted }))
}

fn wanted(points: u64) -> u64 {
    points.div_ceil(POINTS_MAX).min(PARTS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_as_many_parts_as_it_may_and_as_are_worth_it() {
        let each = |points, at_most| Parts::new(points, at_most).points_each;
        assert_eq!(each(0, 2), 1);
        assert_eq!(each(1, 1), 1);
        assert_eq!(each(49_999, 8), 49_999);
        assert_eq!(each(100_001, 2), 50_001);
        assert_eq!(each(1_000_000, 2), 500_000);
        assert_eq!(each(1_000_000, 8), 125_000);
        assert_eq!(each(1_000_000, 1), 1_000_000);
    }

    #[test]
    fn more_parts_are_wanted_for_more_points_up_to_a_bound() {
        let cases = [0, 1, 131_072, 131_073, 1_000_000, 2_097_152, u64::MAX];
        assert_eq!(cases.map(wanted), [0, 1, 1, 2, 8, 16, 16]);
    }
}
