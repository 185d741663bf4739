//! The number of segments that a rebuilt master is written in.

use super::settings::Segments;
use crate::base::error::Result;
use crate::build::{Raised, allow_parts};
use crate::format::schema::United;
use crate::source::Source;

/// The file of an id tracker that has 8 bytes a point, in every form of it.
const VERSIONS: &str = "id_tracker.versions";

/// Has the master's config allow as many segments as `shards` shards are to be written in, so that
/// memory does not grow with the points of `sources`. Returns what to tell.
pub fn keep_parts(
    sources: &[Source],
    shards: usize,
    segments: Segments,
    united: &mut United,
) -> Result<Option<String>> {
    let points: u64 = sources
        .iter()
        .flat_map(|source| source.snapshot.shards.values())
        .flat_map(|shard| shard.segments.values())
        .flat_map(|segment| &segment.files)
        .filter(|(name, _)| name.ends_with(VERSIONS))
        .map(|(_, file)| file.bytes / 8)
        .sum();
    let segments_max = match segments {
        Segments::AtMost(most) => Some(most.get().into()),
        Segments::By(_) => None,
    };
    let raised = allow_parts(points, shards, segments_max, united)?;
    Ok(raised.map(|Raised { stated, wanted }| {
        format!(
            "the master's default_segment_number is {wanted} instead of {stated}: without graphs it is \
             written in that many segments, for memory not to grow with its points; --segments server \
             keeps {stated}, at the cost of memory"
        )
    }))
}
