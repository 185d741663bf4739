//! Streams of ids against [`read`], which takes all files together.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::format::ids::{TrackerFiles, read};

/// A record: an id and whether it is there afterwards.
type Change = (PointId, bool);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let id = prop_oneof![
        3 => (0..40_u64).prop_map(PointId::Num),
        1 => (0..20_u128).prop_map(|id| PointId::Uuid(Uuid::from_u128(id << 100))),
    ];
    prop::collection::vec((id, prop::bool::weighted(0.8)), 0..80)
}

fn id_bytes(id: PointId, number: u8, uuid: u8) -> Vec<u8> {
    match id {
        PointId::Num(id) => [&[number][..], &id.to_le_bytes()].concat(),
        PointId::Uuid(id) => [&[uuid][..], id.as_bytes()].concat(),
    }
}

/// The files of a segment that was added to, with offsets that grow by `step`.
fn of_changes(changes: &[Change], step: u32) -> Vec<(&'static str, Vec<u8>)> {
    let (mut log, mut offset) = (Vec::new(), 0_u32);
    for (id, is_there) in changes {
        if *is_there {
            log.extend(id_bytes(*id, 1, 2));
            log.extend(offset.to_le_bytes());
            offset += step;
        } else {
            log.extend(id_bytes(*id, 3, 4));
        }
    }
    let versions = (0..u64::from(offset)).flat_map(|at| (at % 7 + 100).to_le_bytes());
    vec![
        (mutable::MAPPINGS, log),
        (mutable::VERSIONS, versions.collect()),
    ]
}

/// The files of an optimized segment.
fn of_points(points: &[Change]) -> Vec<(&'static str, Vec<u8>)> {
    let count = points.len() as u64;
    let mut mappings = count.to_le_bytes().to_vec();
    let mut deleted = vec![0; points.len().div_ceil(64) * 8];
    for (offset, (id, is_there)) in (0_u32..).zip(points) {
        mappings.extend(id_bytes(*id, 0, 1));
        mappings.extend(offset.to_le_bytes());
        if !is_there {
            deleted[offset as usize / 8] |= 1 << (offset % 8);
        }
    }
    let versions = (0..count).flat_map(|at| (at % 7 + 100).to_le_bytes());
    vec![
        (immutable::MAPPINGS, mappings),
        (immutable::VERSIONS, versions.collect()),
        (immutable::DELETED, deleted),
    ]
}

fn held(files: &[(&'static str, Vec<u8>)]) -> Trackers {
    let mut trackers = Trackers::default();
    for (name, bytes) in files {
        trackers.add(name, Content::Held(bytes.clone()));
    }
    trackers
}

/// Versions by id, as often as each comes.
type Versions = BTreeMap<PointId, Vec<Option<u64>>>;

/// Ids that a stream yields, if there is one.
fn streamed(trackers: &Trackers) -> Option<(Streamed, Versions)> {
    let mut found = Versions::new();
    let streamed = stream(trackers, "a test", &mut |id, version| {
        found.entry(id).or_default().push(version);
        Ok(())
    });
    streamed.expect("streams").map(|streamed| (streamed, found))
}

/// The stream, if there is one, must be what the files say together. Returns whether there is one.
fn agrees(files: &[(&'static str, Vec<u8>)]) -> bool {
    let Some((streamed, found)) = streamed(&held(files)) else {
        return false;
    };
    let mut all = TrackerFiles::default();
    for (name, bytes) in files {
        *all.from_name(name).expect("a tracker file") = Some(bytes.clone());
    }
    let again = found.values().any(|times| times.len() > 1);
    let read = match read(&all, "a test") {
        Ok(read) => read,
        // The only fault that is left to who collects the ids.
        Err(err) => {
            assert!(streamed.once && again, "{err}");
            return true;
        }
    };
    assert!(!(streamed.once && again), "an id twice was let through");
    let last = found
        .iter()
        .filter_map(|(id, times)| Some((*id, (*times.last()?)?)));
    let expected = read.entries.iter().map(|entry| (entry.id, entry.version));
    assert_eq!(last.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    assert_eq!(streamed.format, read.format);
    assert_eq!(streamed.total_offsets, read.total_offsets as u64);
    assert_eq!(read.unversioned + read.pending_deletes + read.torn_bytes, 0);
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_a_sound_writer_leaves_is_streamed(
        changes in changes(),
        step in 1..3_u32,
    ) {
        prop_assert!(agrees(&of_changes(&changes, step)));
        // Each id once among those that are there, as an optimizer writes them.
        let mut seen = std::collections::BTreeSet::new();
        let mut points = changes.clone();
        points.retain(|(id, is_there)| !is_there || seen.insert(*id));
        prop_assert!(agrees(&of_points(&points)));
        // Otherwise it is for read to refuse.
        agrees(&of_points(&changes));
    }

    #[test]
    fn damage_is_left_to_who_takes_all_files_together(
        changes in changes(),
        file in 0..3_usize,
        at in any::<prop::sample::Index>(),
        mask in 1..=255_u8,
        cut in any::<bool>(),
    ) {
        for mut files in [of_changes(&changes, 1), of_points(&changes)] {
            let file = file % files.len();
            let bytes = &mut files[file].1;
            if bytes.is_empty() {
                continue;
            }
            let at = at.index(bytes.len());
            match cut {
                true => bytes.truncate(at),
                false => bytes[at] ^= mask,
            }
            agrees(&files);
        }
    }
}

#[test]
fn offsets_that_are_given_twice_are_not_streamed() {
    let insert =
        |id: u64, offset: u32| [&[1][..], &id.to_le_bytes(), &offset.to_le_bytes()].concat();
    for log in [[insert(1, 0), insert(2, 0)], [insert(1, 1), insert(2, 0)]] {
        let files = [
            (mutable::MAPPINGS, log.concat()),
            (mutable::VERSIONS, vec![1; 16]),
        ];
        assert!(streamed(&held(&files)).is_none());
    }
}

#[test]
fn files_that_lie_in_a_snapshot_are_read_there() {
    // More than a buffer of records.
    let changes: Vec<Change> = (0..40_000).map(|id| (PointId::Num(id * 3), true)).collect();
    for files in [of_changes(&changes, 1), of_points(&changes)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all");
        let mut all = vec![7; 11];
        let mut trackers = Trackers::default();
        for (name, bytes) in &files {
            let content = Content::InFile {
                file: path.as_path().into(),
                from: all.len() as u64,
                bytes: bytes.len() as u64,
            };
            assert_eq!(content.len(), bytes.len() as u64);
            trackers.add(name, content);
            all.extend(bytes);
        }
        std::fs::write(&path, &all).unwrap();
        let (from_file, ids) = streamed(&trackers).expect("streams");
        assert_eq!((from_file.total_offsets, ids.len()), (40_000, 40_000));
        assert_eq!(streamed(&held(&files)), Some((from_file, ids)));
        assert_eq!(
            trackers.load("a test").unwrap(),
            held(&files).load("a test").unwrap()
        );
        // Cut off: neither way says anything else.
        std::fs::write(&path, &all[..all.len() - 1]).unwrap();
        assert!(streamed(&trackers).is_none());
        assert!(trackers.load("a test").is_err());
    }
}
