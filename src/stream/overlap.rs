//! Which ids are in more than one point stream, found by merging sorted ids.
//!
//! Invariants: no vector and no payload is looked at; point streams whose ids do not interleave cost no
//! more than a look at their ends.

use std::collections::BTreeMap;

use crate::point::{PointId, ShardKey};

/// [`overlaps`] among the point streams whose points have the same shard key in their identities; `point_streams` come
/// with that key.
pub fn overlaps_by_key<E>(
    point_streams: &[(Option<ShardKey>, &[PointId])],
    mut meet: impl FnMut(PointId, Option<&ShardKey>, &[usize]) -> Result<(), E>,
) -> Result<(), E> {
    let mut groups: BTreeMap<Option<&ShardKey>, Vec<usize>> = BTreeMap::new();
    for (at, (key, _)) in point_streams.iter().enumerate() {
        groups.entry(key.as_ref()).or_default().push(at);
    }
    for (key, places) in groups {
        let ids = places.iter().filter_map(|at| point_streams.get(*at));
        let ids: Vec<&[PointId]> = ids.map(|(_, ids)| *ids).collect();
        overlaps(&ids, |id, having| {
            let having: Vec<usize> = having
                .iter()
                .filter_map(|point_stream| places.get(*point_stream).copied())
                .collect();
            meet(id, key, &having)
        })?;
    }
    Ok(())
}

/// Calls `meet` with each id that is in more than one of `point_streams` (ascending ids, each once), and
/// with the point streams that have it, ascending.
pub fn overlaps<E>(
    point_streams: &[&[PointId]],
    mut meet: impl FnMut(PointId, &[usize]) -> Result<(), E>,
) -> Result<(), E> {
    let mut rests: Vec<&[PointId]> = point_streams.to_vec();
    let mut having = Vec::new();
    loop {
        // The point streams whose next id is the lowest, and the next id of all others.
        having.clear();
        let mut lowest: Option<PointId> = None;
        let mut bound: Option<PointId> = None;
        for (point_stream, rest) in rests.iter().enumerate() {
            let Some(first) = rest.first().copied() else {
                continue;
            };
            match lowest {
                Some(id) if first > id => {
                    bound = Some(bound.map_or(first, |bound| bound.min(first)));
                }
                Some(id) if first == id => having.push(point_stream),
                _ => {
                    if let Some(id) = lowest {
                        bound = Some(bound.map_or(id, |bound| bound.min(id)));
                    }
                    lowest = Some(first);
                    having.clear();
                    having.push(point_stream);
                }
            }
        }
        let Some(id) = lowest else {
            return Ok(());
        };
        match having.as_slice() {
            // One point stream alone up to the next id of any other: all of that is passed at once.
            [point_stream] => {
                if let Some(rest) = rests.get_mut(*point_stream) {
                    let passed = match bound {
                        None => rest.len(),
                        Some(bound) => gallop(rest, bound),
                    };
                    *rest = rest.get(passed..).unwrap_or_default();
                }
            }
            point_streams => {
                meet(id, point_streams)?;
                for point_stream in point_streams {
                    if let Some(rest) = rests.get_mut(*point_stream) {
                        *rest = rest.get(1..).unwrap_or_default();
                    }
                }
            }
        }
    }
}

/// Counts the `ids` below `bound`, in steps that double, since they are often few.
fn gallop(ids: &[PointId], bound: PointId) -> usize {
    let mut high = 1;
    while ids.get(high).is_some_and(|id| *id < bound) {
        high *= 2;
    }
    let low = high / 2;
    let window = ids.get(low..high.min(ids.len())).unwrap_or_default();
    low + window.partition_point(|id| *id < bound)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn overlaps_are_those_that_a_map_finds() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for round in 0..300 {
            let point_streams: Vec<Vec<PointId>> = (0..random.random_range(0..6))
                .map(|_| {
                    let start = random.random_range(0..200);
                    let mut ids: Vec<PointId> = (0..random.random_range(0..60))
                        .map(|_| PointId::Num(start + random.random_range(0..80)))
                        .collect();
                    ids.sort_unstable();
                    ids.dedup();
                    ids
                })
                .collect();
            let mut expected: BTreeMap<PointId, Vec<usize>> = BTreeMap::new();
            for (point_stream, ids) in point_streams.iter().enumerate() {
                for id in ids {
                    expected.entry(*id).or_default().push(point_stream);
                }
            }
            expected.retain(|_, point_streams| point_streams.len() > 1);
            let mut found = Vec::new();
            let slices: Vec<&[PointId]> = point_streams.iter().map(Vec::as_slice).collect();
            overlaps(&slices, |id, point_streams| {
                found.push((id, point_streams.to_vec()));
                Ok::<(), ()>(())
            })
            .unwrap();
            let expected: Vec<(PointId, Vec<usize>)> = expected.into_iter().collect();
            assert_eq!(found, expected, "round {round}");
        }
    }

    #[test]
    fn an_error_ends_it() {
        let ids: Vec<PointId> = (0..10).map(PointId::Num).collect();
        let mut met = 0;
        let end = overlaps(&[&ids, &ids], |_, _| {
            met += 1;
            if met == 3 { Err("enough") } else { Ok(()) }
        });
        assert_eq!(end, Err("enough"));
        assert_eq!(met, 3);
    }
}
