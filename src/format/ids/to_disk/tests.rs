//! Ids brought into the form for the disk, compared with what they were read as before.
//!
//! Invariants: every conversion is compared whole; what is refused is seen not to have changed.

use super::super::tests::{assert_adds_up, versions};
use super::super::{Format, SegmentIds, TrackerFiles, is_tracker_file, read};
use super::*;

/// Returns the ids of the tracker files in `folder`; none if they are refused.
fn ids_in(folder: &Path) -> Option<SegmentIds> {
    let mut files = TrackerFiles::default();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(is_tracker_file(name), "{name} was left");
        *files.from_name(name).unwrap() = Some(std::fs::read(&path).unwrap());
    }
    read(&files, "a test").ok()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().to_str().unwrap().to_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// Converts files of these contents: what comes out says the same, or nothing was changed.
/// Returns whether they were converted.
fn converts(contents: &[(&str, &[u8])]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in contents {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let (names, before) = (names_in(folder.path()), ids_in(folder.path()));
    let converted = to_disk(folder.path()).unwrap();
    let after = ids_in(folder.path());
    if converted {
        let before = before.expect("only what can be read is converted");
        let after = after.expect("what was written can be read");
        assert_adds_up(&after);
        assert_eq!((after.format, before.torn_bytes), (Format::Disk, 0));
        assert_eq!(after.total_offsets, before.total_offsets);
        assert_eq!(after.entries, before.entries);
    } else {
        assert_eq!(names_in(folder.path()), names);
        assert_eq!(after, before);
    }
    converted
}

/// Numbers that look random and are the same in each run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn id(&mut self, bound: u64) -> PointId {
        let number = self.below(bound);
        if self.below(3) == 0 {
            PointId::Uuid(Uuid::from_u128(u128::from(number) << 60))
        } else {
            PointId::Num(number)
        }
    }
}

fn change(id: PointId, offset: Option<u32>) -> Vec<u8> {
    let (kind, mut bytes) = match id {
        PointId::Num(num) => (1, num.to_le_bytes().to_vec()),
        PointId::Uuid(uuid) => (2, uuid.as_bytes().to_vec()),
    };
    bytes.insert(0, if offset.is_some() { kind } else { kind + 2 });
    bytes.extend(offset.iter().flat_map(|offset| offset.to_le_bytes()));
    bytes
}

/// A log of `records` changes of few ids, and how many offsets it gave away. A `wild` one gives
/// away offsets that are taken.
fn log(numbers: &mut Numbers, records: u64, wild: bool) -> (Vec<u8>, u64) {
    let (mut log, mut total) = (Vec::new(), 0);
    for _ in 0..records {
        let id = numbers.id(records / 2 + 1);
        let offset = match numbers.below(4) {
            0 => None,
            1 if wild => Some(numbers.below(total + 1)),
            _ => Some(total),
        };
        total = total.max(offset.map_or(0, |offset| offset + 1));
        log.extend(change(
            id,
            offset.map(|offset| u32::try_from(offset).unwrap()),
        ));
    }
    (log, total)
}

#[test]
fn logs_of_changes_say_the_same_on_the_disk() {
    let mut numbers = Numbers(1);
    for at in 0..400 {
        let records = 1 + numbers.below(300);
        let (log, total) = log(&mut numbers, records, at % 2 == 0);
        let files = [
            (mutable::MAPPINGS, log.as_slice()),
            (mutable::VERSIONS, &versions(total)),
        ];
        assert_eq!(converts(&files), total > 0, "log {at}");
    }
}

#[test]
fn a_log_longer_than_what_is_read_at_once_is_read_whole() {
    let (log, total) = log(&mut Numbers(2), 100_000, false);
    assert!(log.len() as u64 > 4 * CHUNK_BYTES);
    let files = [
        (mutable::MAPPINGS, log.as_slice()),
        (mutable::VERSIONS, &versions(total)),
    ];
    assert!(converts(&files));
}

#[test]
fn an_optimized_segment_keeps_its_versions_and_deletes() {
    let mut numbers = Numbers(3);
    for at in 0..100 {
        let total = 1 + numbers.below(200);
        let mut mappings = total.to_le_bytes().to_vec();
        let mut deleted = vec![0_u8; usize::try_from(total).unwrap().div_ceil(64) * 8];
        for offset in 0..total {
            // Each id once.
            let id = match numbers.id(1) {
                PointId::Num(_) => PointId::Num(offset * 7919 % 211),
                PointId::Uuid(_) => PointId::Uuid(Uuid::from_u128((offset * 7919 % 211).into())),
            };
            let record = change(id, Some(u32::try_from(offset).unwrap()));
            mappings.push(record[0] - 1);
            mappings.extend(&record[1..]);
            if numbers.below(5) == 0 {
                flip(&mut deleted, u32::try_from(offset).unwrap());
            }
        }
        let files = [
            (immutable::MAPPINGS, mappings.as_slice()),
            (immutable::VERSIONS, &versions(total)),
            (immutable::DELETED, &deleted),
        ];
        assert!(converts(&files), "segment {at}");
        // Cut short anywhere, it is for the engine to judge.
        let cut = usize::try_from(numbers.below(mappings.len() as u64)).unwrap();
        let files = [(immutable::MAPPINGS, &mappings[..cut]), files[1], files[2]];
        assert!(!converts(&files), "segment {at} cut at {cut}");
        let twice = [mappings.as_slice(), &[0]].concat();
        assert!(!converts(&[
            (immutable::MAPPINGS, &twice),
            files[1],
            files[2]
        ]));
    }
}

#[test]
fn what_no_sound_writer_leaves_is_not_touched() {
    let log = [
        change(PointId::Num(7), Some(0)),
        change(PointId::Uuid(Uuid::from_u128(9)), Some(1)),
        change(PointId::Num(7), None),
        change(PointId::Num(8), Some(2)),
    ]
    .concat();
    let three = versions(3);
    let sound = [
        (mutable::MAPPINGS, log.as_slice()),
        (mutable::VERSIONS, three.as_slice()),
    ];
    assert!(converts(&sound));
    let with = |mappings: &[u8], versions: &[u8]| {
        converts(&[(mutable::MAPPINGS, mappings), (mutable::VERSIONS, versions)])
    };
    for count in [0, 1, 2, 4, 300] {
        assert!(!with(&log, &versions(count)), "{count} versions");
    }
    assert!(!with(&log, &three[..20]));
    assert!(!converts(&sound[..1]), "without versions");
    assert!(!converts(&[
        sound[0],
        sound[1],
        (immutable::VERSIONS, &three)
    ]));
    assert!(!converts(&[]));
    for len in 0..log.len() {
        with(&log[..len], &three);
    }
    let mut changed = log.clone();
    for at in 0..log.len() {
        for mask in [0x01, 0x80, 0xff] {
            changed[at] ^= mask;
            with(&changed, &three);
            changed[at] ^= mask;
        }
    }
    // The highest offset does not reserve as much.
    let far = change(PointId::Num(1), Some(u32::MAX - 1));
    assert!(!with(&far, &versions(1)));
}
