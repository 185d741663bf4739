//! Which ids are in more than one point stream, found by merging sorted ids.
//!
//! Invariants: no vector and no payload is looked at; point streams under different shard keys never
//! meet, so each key is walked along by itself, and one that is alone under its key not at all.

use std::collections::BTreeMap;

use crate::base::error::Result;
use crate::point::{PointId, ShardKey};
use crate::source::{IdSet, walk};

/// Calls `meet` with each id that is in more than one of those of `point_streams` whose points have the
/// same shard key in their identities, and with the places of these point streams, ascending; they come
/// with that key.
pub fn overlaps_by_key(
    point_streams: &[(Option<ShardKey>, &IdSet)],
    mut meet: impl FnMut(PointId, Option<&ShardKey>, &[usize]) -> Result<()>,
) -> Result<()> {
    let mut groups: BTreeMap<Option<&ShardKey>, Vec<usize>> = BTreeMap::new();
    for (at, (key, _)) in point_streams.iter().enumerate() {
        groups.entry(key.as_ref()).or_default().push(at);
    }
    for (key, places) in groups {
        if places.len() < 2 {
            continue;
        }
        let sets = places.iter().filter_map(|at| point_streams.get(*at));
        let sets: Vec<&IdSet> = sets.map(|(_, ids)| *ids).collect();
        let mut having = Vec::new();
        walk(&sets, |span| {
            // One alone has most ids.
            if span.having().len() < 2 {
                return Ok(());
            }
            having.clear();
            let found = span.having().iter();
            having.extend(found.filter_map(|one| places.get(one.set).copied()));
            // A point stream may have it in several segments.
            having.dedup();
            if having.len() < 2 {
                return Ok(());
            }
            for (_, id) in span.ids() {
                meet(id, key, &having)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::base::error::Error;
    use crate::source::{IdSetBuilder, Spill};

    fn set(segments: &[Vec<u64>]) -> IdSet {
        let mut builder = IdSetBuilder::new(&Spill::within(&std::env::temp_dir()));
        for ids in segments {
            for id in ids {
                builder.add(PointId::Num(*id), Some(*id)).unwrap();
            }
            builder.end_segment(false).unwrap().unwrap();
        }
        builder.finish()
    }

    #[test]
    fn overlaps_are_those_that_a_map_finds() {
        type Met = BTreeMap<(Option<ShardKey>, PointId), Vec<usize>>;
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for round in 0..300 {
            let mut expected = Met::new();
            let mut streams = Vec::new();
            for at in 0..random.random_range(0..6) {
                let key = match random.random_range(0..3) {
                    0 => None,
                    key => Some(ShardKey::Number(key)),
                };
                let start = random.random_range(0..200);
                let segments: Vec<Vec<u64>> = (0..random.random_range(0..3))
                    .map(|_| {
                        let count = random.random_range(0..60);
                        let ids = (0..count).map(|_| start + random.random_range(0..80));
                        ids.collect()
                    })
                    .collect();
                for id in segments.iter().flatten() {
                    let met = expected
                        .entry((key.clone(), PointId::Num(*id)))
                        .or_default();
                    met.push(at);
                    met.dedup();
                }
                streams.push((key, set(&segments)));
            }
            expected.retain(|_, streams| streams.len() > 1);
            let streams: Vec<_> = streams
                .iter()
                .map(|(key, ids)| (key.clone(), ids))
                .collect();
            let mut found = Met::new();
            overlaps_by_key(&streams, |id, key, streams| {
                let again = found.insert((key.cloned(), id), streams.to_vec());
                assert_eq!(again, None, "round {round}: {id} twice");
                Ok(())
            })
            .unwrap();
            assert_eq!(found, expected, "round {round}");
        }
    }

    #[test]
    fn an_error_ends_it() {
        let ids = set(&[(0..10).collect()]);
        let mut met = 0;
        let end = overlaps_by_key(&[(None, &ids), (None, &ids)], |id, _, _| {
            assert_eq!(id, PointId::Num(met));
            met += 1;
            match met {
                3 => Err(Error::failed("meeting", "enough")),
                _ => Ok(()),
            }
        });
        assert_eq!(end.unwrap_err().why(), "enough");
        assert_eq!(met, 3);
    }
}
