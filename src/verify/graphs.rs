//! Checks that a master's graphs lead to near points: some points are looked for by index, and by a look at
//! every vector.
//!
//! Invariants: points that are equally near count as the same answer; a graph is told only where it finds
//! less than half, which no server's does.

use std::collections::BTreeMap;

use super::difference::SettingDifference;
use crate::base::error::{Kind, Result};
use crate::engine::Search;
use crate::point::{Record, Vector};
use crate::source::Reading;
use crate::stream::PointStream;

/// Points of each shard that are looked for.
const ASKED: usize = 8;
/// Points of a shard that these are drawn from.
const DRAWN_FROM: usize = 64;
/// Nearest points that are wanted of each.
const TOP: usize = 10;
/// Of quantized vectors, times as many as are wanted that are found by their codes: a graph may lead to what is near
/// although the codes of few dimensions tell little apart.
const OVERSAMPLING: f64 = 10.0;
/// Bytes of a page that is read for them.
const PAGE_BYTES: usize = 1 << 20;

/// Returns the faults of the graphs of the master with these point streams, which were opened with their graphs.
pub fn graph_differences(point_streams: &[PointStream<'_>]) -> Result<Vec<SettingDifference>> {
    let mut found = Vec::new();
    for point_stream in point_streams {
        let mut by_vector: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        // The engine does not expect such a graph.
        let mut broken: BTreeMap<String, String> = BTreeMap::new();
        for record in some_points(point_stream)? {
            for (name, vector) in &record.vectors {
                // A sparse vector has an index of another kind, which looks at all that share a word.
                if matches!(vector, Vector::Sparse { .. }) {
                    continue;
                }
                let (found, wanted) = match look_for(point_stream, name, vector) {
                    Err(err) if err.kind() == Kind::Damaged => {
                        broken.insert(name.clone(), err.why().to_owned());
                        continue;
                    }
                    looked => looked?,
                };
                let sum = by_vector.entry(name.clone()).or_default();
                sum.0 += found;
                sum.1 += wanted;
            }
        }
        let poor = by_vector
            .into_iter()
            .filter(|(_, (near, wanted))| near * 2 < *wanted)
            .map(|(name, (near, wanted))| {
                (
                    name,
                    format!("it leads to {near} of {wanted} nearest points"),
                )
            });
        found.extend(
            broken
                .into_iter()
                .chain(poor)
                .map(|(name, why)| SettingDifference {
                    about: format!(
                        "graph of the vector '{name}' of {}",
                        point_stream.records.what()
                    ),
                    expected: "it leads to what is near".into(),
                    found: why,
                }),
        );
    }
    Ok(found)
}

/// Returns how many of the nearest points the index finds, and how many there are.
fn look_for(point_stream: &PointStream<'_>, name: &str, vector: &Vector) -> Result<(usize, usize)> {
    let search = |exact| Search {
        name,
        vector,
        top: TOP,
        exact,
        oversampling: Some(OVERSAMPLING),
        filter: None,
    };
    let nearest = point_stream.nearest(search(true))?;
    let by_index = point_stream.nearest(search(false))?;
    let is_near = |hit: &&crate::engine::Hit| {
        (nearest.iter()).any(|near| near.id == hit.id || near.score.total_cmp(&hit.score).is_eq())
    };
    Ok((by_index.iter().filter(is_near).count(), nearest.len()))
}

fn some_points(point_stream: &PointStream<'_>) -> Result<Vec<Record>> {
    let mut some = Vec::new();
    point_stream
        .records
        .read(Reading::default(), PAGE_BYTES, &mut |page| {
            some.extend(page);
            some.len() < DRAWN_FROM
        })?;
    some.truncate(DRAWN_FROM);
    let step = (some.len() / ASKED).max(1);
    Ok(some.into_iter().step_by(step).collect())
}
