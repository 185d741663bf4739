//! Which ids are in more than one lane, found by merging sorted ids.
//!
//! Invariants: no vector and no payload is looked at; lanes whose ids do not interleave cost no
//! more than a look at their ends.

use std::collections::BTreeMap;

use crate::point::{PointId, ShardKey};

/// [`overlaps`] among the lanes whose points have the same shard key in their identities; `lanes` come
/// with that key.
pub fn overlaps_by_key<E>(
    lanes: &[(Option<ShardKey>, &[PointId])],
    mut meet: impl FnMut(PointId, Option<&ShardKey>, &[usize]) -> Result<(), E>,
) -> Result<(), E> {
    let mut groups: BTreeMap<Option<&ShardKey>, Vec<usize>> = BTreeMap::new();
    for (at, (key, _)) in lanes.iter().enumerate() {
        groups.entry(key.as_ref()).or_default().push(at);
    }
    for (key, places) in groups {
        let ids = places.iter().filter_map(|at| lanes.get(*at));
        let ids: Vec<&[PointId]> = ids.map(|(_, ids)| *ids).collect();
        overlaps(&ids, |id, having| {
            let having: Vec<usize> = having
                .iter()
                .filter_map(|lane| places.get(*lane).copied())
                .collect();
            meet(id, key, &having)
        })?;
    }
    Ok(())
}

/// Calls `meet` with each id that is in more than one of `lanes` (ascending ids, each once), and
/// with the lanes that have it, ascending.
pub fn overlaps<E>(
    lanes: &[&[PointId]],
    mut meet: impl FnMut(PointId, &[usize]) -> Result<(), E>,
) -> Result<(), E> {
    let mut rests: Vec<&[PointId]> = lanes.to_vec();
    let mut having = Vec::new();
    loop {
        // The lanes whose next id is the lowest, and the next id of all others.
        having.clear();
        let mut lowest: Option<PointId> = None;
        let mut bound: Option<PointId> = None;
        for (lane, rest) in rests.iter().enumerate() {
            let Some(first) = rest.first().copied() else {
                continue;
            };
            match lowest {
                Some(id) if first > id => {
                    bound = Some(bound.map_or(first, |bound| bound.min(first)));
                }
                Some(id) if first == id => having.push(lane),
                _ => {
                    if let Some(id) = lowest {
                        bound = Some(bound.map_or(id, |bound| bound.min(id)));
                    }
                    lowest = Some(first);
                    having.clear();
                    having.push(lane);
                }
            }
        }
        let Some(id) = lowest else {
            return Ok(());
        };
        match having.as_slice() {
            // One lane alone up to the next id of any other: all of that is passed at once.
            [lane] => {
                if let Some(rest) = rests.get_mut(*lane) {
                    let passed = match bound {
                        None => rest.len(),
                        Some(bound) => gallop(rest, bound),
                    };
                    *rest = rest.get(passed..).unwrap_or_default();
                }
            }
            lanes => {
                meet(id, lanes)?;
                for lane in lanes {
                    if let Some(rest) = rests.get_mut(*lane) {
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
            let lanes: Vec<Vec<PointId>> = (0..random.random_range(0..6))
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
            for (lane, ids) in lanes.iter().enumerate() {
                for id in ids {
                    expected.entry(*id).or_default().push(lane);
                }
            }
            expected.retain(|_, lanes| lanes.len() > 1);
            let mut found = Vec::new();
            let slices: Vec<&[PointId]> = lanes.iter().map(Vec::as_slice).collect();
            overlaps(&slices, |id, lanes| {
                found.push((id, lanes.to_vec()));
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
