//! Points drawn from point streams, by the hashes of their ids.
//!
//! Invariants: the same point streams always give the same points, in the same order.

use super::{PointStream, Scan};
use crate::base::error::Result;
use crate::engine::{Columns, Filter};
use crate::point::{Record, Sample};
use crate::source::Reading;

/// About `wanted` points of `point_streams` that match `filter`, and some more, those with the lowest hashes
/// first: more than wanted, or chance might leave too few. Of an id in several point streams the last counts.
pub fn sampled(
    point_streams: &[PointStream<'_>],
    filter: Option<&Filter>,
    columns: Columns,
    wanted: usize,
) -> Result<Vec<Record>> {
    let mut all = 0;
    for point_stream in point_streams {
        all += point_stream.records.count(filter)?;
    }
    let mut points = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let reading = Reading {
            filter,
            sample: Some(Sample::about(2 * wanted as u64 + 20, all)),
            columns,
            hashed: false,
        };
        let mut scan = Scan::start_reading(scope, point_streams, reading)?;
        let mut group = Vec::new();
        while scan.next_group(&mut group)?.is_some() {
            points.extend(group.pop().map(|scanned| scanned.record));
        }
        Ok(())
    })?;
    points.sort_by_cached_key(|record| Sample::rank(record.id));
    Ok(points)
}
