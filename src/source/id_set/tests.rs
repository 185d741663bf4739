//! Sets of ids against plain maps, with little memory, so that they go to scratch.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;

use proptest::prelude::*;
use uuid::Uuid;

use super::spill::Run;
use super::*;

/// An addition: an id, and a version or none.
type Added = (PointId, Option<u64>);

/// Ids that often follow each other, come again, and lie at the ends of their kinds.
fn added() -> impl Strategy<Value = Vec<Added>> {
    let number = prop_oneof![
        4 => 0..60_u64,
        1 => u64::MAX - 5..=u64::MAX,
        1 => any::<u64>(),
    ];
    let run = (
        number,
        1..9_u64,
        prop::option::weighted(0.9, 0..50_u64),
        any::<bool>(),
    )
        .prop_map(|(start, len, version, steps)| {
            let ids = (0..len).filter_map(|at| Some((at, start.checked_add(at)?)));
            ids.map(|(at, id)| {
                let version = version.map(|version| if steps { version + at } else { version });
                (PointId::Num(id), version)
            })
            .collect::<Vec<_>>()
        });
    let uuid = (
        prop_oneof![0..20_u128, Just(u128::MAX), any::<u128>()],
        prop::option::weighted(0.8, 0..50_u64),
    );
    let uuid = uuid.prop_map(|(id, version)| vec![(PointId::Uuid(Uuid::from_u128(id)), version)]);
    prop::collection::vec(prop_oneof![run, uuid], 0..25).prop_map(|runs| runs.concat())
}

/// Segments, each with what is added in order.
fn shard() -> impl Strategy<Value = Vec<Vec<Added>>> {
    prop::collection::vec(added(), 0..4)
}

/// Expected contents of a set: by id, the segments that have it with their versions.
type Model = BTreeMap<PointId, Vec<(usize, u64)>>;

fn model(segments: &[Vec<Added>]) -> Model {
    let mut model = Model::new();
    for (segment, added) in segments.iter().enumerate() {
        let last: BTreeMap<PointId, Option<u64>> = added.iter().copied().collect();
        for (id, version) in last {
            if let Some(version) = version {
                model.entry(id).or_default().push((segment, version));
            }
        }
    }
    model
}

/// The set, and how many runs of it lie in scratch.
fn build(segments: &[Vec<Added>], spill: &Spill) -> (IdSet, usize) {
    let mut builder = IdSetBuilder::new(spill);
    for added in segments {
        // What is forgotten leaves nothing behind.
        builder.add(PointId::Num(7), Some(1)).unwrap();
        builder.restart();
        for (id, version) in added {
            builder.add(*id, *version).unwrap();
        }
        let count = builder.end_segment(false).unwrap().unwrap();
        let alone = model(std::slice::from_ref(added));
        assert_eq!(count.ids, alone.len() as u64);
        let newest = alone.values().flatten().map(|(_, version)| *version).max();
        assert_eq!(count.newest, newest);
    }
    let set = builder.finish();
    let runs = set.segments.iter().flatten();
    let written = runs.filter(|run| matches!(run, Run::Written { .. }));
    let written = written.count();
    (set, written)
}

/// A set, a segment of it, and a version.
type Place = (usize, usize, u64);

/// Result of a walk, by id: the sets, segments and versions; each id must come once, ascending.
fn walked(sets: &[&IdSet]) -> Vec<(PointId, Vec<Place>)> {
    let mut found = Vec::new();
    walk(sets, |span| {
        assert!(span.count() > 0 && !span.having().is_empty());
        assert_eq!(span.ids().next(), Some((0, span.first())));
        for (place, id) in span.ids() {
            let having = span.having().iter();
            let having = having.map(|one| (one.set, one.segment, one.version(place)));
            found.push((id, having.collect()));
        }
        Ok(())
    })
    .unwrap();
    assert!(found.is_sorted_by(|(a, _), (b, _)| a < b));
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the memory, a set is what a map would be.
    #[test]
    fn a_set_is_what_was_added(
        segments in shard(),
        pieces in 1..12_usize,
        kept in prop_oneof![Just(0_usize), 0..10_usize],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let spill = Spill::tiny(folder.path(), pieces, kept);
        let (set, _) = build(&segments, &spill);
        let model = model(&segments);
        let found: Model = walked(&[&set])
            .into_iter()
            .map(|(id, having)| (id, having.into_iter().map(|(_, at, v)| (at, v)).collect()))
            .collect();
        prop_assert_eq!(&found, &model);
        prop_assert_eq!(set.count().unwrap(), model.len() as u64);
        let mut ids = Vec::new();
        set.chunks(3, |chunk| {
            assert!((1..=3).contains(&chunk.len()));
            ids.extend_from_slice(chunk);
            Ok(())
        })
        .unwrap();
        prop_assert_eq!(ids, model.into_keys().collect::<Vec<_>>());
        // The scratch file has no name.
        prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// Several sets meet where they have the same ids, and only there.
    #[test]
    fn sets_meet_where_their_ids_are_the_same(
        shards in prop::collection::vec(shard(), 0..4),
        pieces in 1..6_usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let spill = Spill::tiny(folder.path(), pieces, 4);
        let sets: Vec<IdSet> = shards.iter().map(|one| build(one, &spill).0).collect();
        let sets: Vec<&IdSet> = sets.iter().collect();
        let mut expected: BTreeMap<PointId, Vec<Place>> = BTreeMap::new();
        for (set, segments) in shards.iter().enumerate() {
            for (id, having) in model(segments) {
                let having = having.into_iter().map(|(segment, version)| (set, segment, version));
                expected.entry(id).or_default().extend(having);
            }
        }
        prop_assert_eq!(walked(&sets), expected.into_iter().collect::<Vec<_>>());
    }

    /// Where an id may be there once, it is found if it is there twice, in whatever runs.
    #[test]
    fn an_id_that_comes_twice_is_found(
        ids in prop::collection::vec(0..400_u64, 0..60),
        pieces in 1..8_usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut builder = IdSetBuilder::new(&Spill::tiny(folder.path(), pieces, 2));
        for id in &ids {
            builder.add(PointId::Num(*id), Some(1)).unwrap();
        }
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        let mut pairs = sorted.array_windows().filter(|[a, b]| a == b);
        let twice: Vec<u64> = pairs.by_ref().map(|[a, _]| *a).collect();
        match builder.end_segment(true).unwrap() {
            Ok(count) => prop_assert!(twice.is_empty() && count.ids == ids.len() as u64),
            Err(Twice(PointId::Num(id))) => prop_assert!(twice.contains(&id)),
            Err(Twice(other)) => prop_assert!(false, "{other}"),
        }
        prop_assert_eq!(builder.finish().segments(), usize::from(twice.is_empty()));
    }

    /// A scratch file with any byte changed, or cut, is an error or the same ids.
    #[test]
    fn damage_in_scratch_is_an_error(
        segments in prop::collection::vec(added(), 1..3),
        at in any::<prop::sample::Index>(),
        mask in 1..=255_u8,
        cut in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let spill = Spill::tiny(folder.path(), 4, 0);
        let (set, _) = build(&segments, &spill);
        let before = walked(&[&set]);
        let runs = set.segments.iter().flatten();
        let file = runs.clone().find_map(|run| match run {
            Run::Written { file, .. } => Some(file.clone()),
            Run::Kept(_) => None,
        });
        if let Some(file) = file {
            let at = at.index(usize::try_from(file.metadata().unwrap().len()).unwrap()) as u64;
            if cut {
                file.set_len(at).unwrap();
            } else {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ mask], at).unwrap();
            }
            let err = set.walk(|_| Ok(())).expect_err("damage is found");
            prop_assert!(err.doing().contains("scratch"), "{}", err);
        } else {
            prop_assert!(before.is_empty());
        }
    }
}

#[test]
fn numbers_in_order_cost_next_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let spill = Spill::tiny(folder.path(), 64, 64);
    let mut builder = IdSetBuilder::new(&spill);
    // As batches of a thousand write them; then one by one.
    for id in 0..100_000_u64 {
        let version = if id < 50_000 { id / 1000 } else { id };
        builder.add(PointId::Num(id), Some(version)).unwrap();
    }
    let count = builder.end_segment(true).unwrap().unwrap();
    assert_eq!((count.ids, count.newest), (100_000, Some(99_999)));
    let set = builder.finish();
    let runs: Vec<&Run> = set.segments.iter().flatten().collect();
    let [Run::Kept(pieces)] = runs.as_slice() else {
        panic!("{runs:?}");
    };
    assert!(pieces.len() <= 52, "{} pieces", pieces.len());
    for (id, having) in walked(&[&set]).into_iter().step_by(997) {
        let PointId::Num(id) = id else { panic!("{id}") };
        let version = if id < 50_000 { id / 1000 } else { id };
        assert_eq!(having, [(0, 0, version)], "{id}");
    }
}

#[test]
fn a_set_that_is_too_large_goes_to_scratch_and_nothing_is_left() {
    let parent = tempfile::tempdir().unwrap();
    let spill = Spill::within(parent.path());
    let mut builder = IdSetBuilder::new(&spill);
    builder.add(PointId::Num(1), Some(1)).unwrap();
    builder.end_segment(true).unwrap().unwrap();
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    // Every other number is a piece by itself.
    for id in 0..1_200_000_u64 {
        builder.add(PointId::Num(id * 2), Some(3)).unwrap();
    }
    let count = builder.end_segment(true).unwrap().unwrap();
    assert_eq!(count.ids, 1_200_000);
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
    let set = builder.finish();
    assert_eq!(set.count().unwrap(), 1_200_001);
    drop((set, spill));
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
}
