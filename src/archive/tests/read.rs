//! Entries read where they lie: any range, by many at once, damaged, given up.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _};
use std::sync::{Arc, Mutex};

use super::concurrent::{Hooked, give_up};
use super::*;
use crate::base::error::Error;
use crate::format::{Algorithm, Input, SnapshotFile, Stream as _};

/// A reader of the archive of `bed`, and the objects that it reads; `hook` is done before the first.
fn hooked(
    bed: &Bed,
    hook: impl FnOnce() + Send + 'static,
) -> (EntryReader, Arc<Mutex<Vec<String>>>) {
    let (archive, read) = Hooked::watched(&bed.root(), hook);
    (EntryReader::new(archive), read)
}

fn watched(bed: &Bed) -> (EntryReader, Arc<Mutex<Vec<String>>>) {
    hooked(bed, || {})
}

fn open(reader: &EntryReader, bed: &Bed, text: &str) -> SnapshotFile {
    let entry = bed.entry(text);
    reader.open(&entry, text).unwrap().into()
}

/// The objects that `entry` is made of, as files.
fn objects(bed: &Bed, entry: &Entry) -> Vec<PathBuf> {
    let recipe = bed.archive.recipe(entry).unwrap();
    let path = |part: &recipe::PackRef| bed.root().join(part.name.path(OBJECTS));
    recipe.objects.iter().map(path).collect()
}

fn all(file: &SnapshotFile) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.reader()?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn every_range_of_every_night_is_as_in_the_file() {
    let (bed, nights) = Bed::three_nights();
    let (reader, _) = watched(&bed);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for (night, bytes) in nights.iter().enumerate() {
        let file = open(&reader, &bed, &format!("a@2026-01-0{}", night + 1));
        assert_eq!(file.bytes().unwrap(), bytes.len() as u64);
        assert!(all(&file).unwrap() == *bytes, "night {night}");
        for _ in 0..200 {
            let from = random.random_range(0..=bytes.len());
            let most = 1_usize << random.random_range(0..23);
            let length = random.random_range(0..=most);
            let to = from.saturating_add(length).min(bytes.len());
            let mut got = Vec::new();
            let mut range = file
                .read_range(from as u64..(from + length) as u64)
                .unwrap();
            range.read_to_end(&mut got).unwrap();
            assert!(got == bytes[from..to], "{from}..{to} of night {night}");
        }
        let mut beyond = Vec::new();
        let mut range = file.read_range(u64::MAX - 5..u64::MAX).unwrap();
        assert_eq!(range.read_to_end(&mut beyond).unwrap(), 0);
    }
}

#[test]
fn what_is_passed_over_and_read_comes_in_its_place() {
    let (bed, nights) = Bed::three_nights();
    let (reader, _) = watched(&bed);
    let mut random = ChaCha8Rng::seed_from_u64(8);
    for (night, bytes) in nights.iter().enumerate() {
        let file = open(&reader, &bed, &format!("a@2026-01-0{}", night + 1));
        for _ in 0..20 {
            let mut range = file.reader().unwrap();
            let mut at = 0;
            // Small steps and large ones, within blocks and out of them.
            while at < bytes.len() {
                let most = 1_usize << random.random_range(4..22);
                let step = random.random_range(0..=most).min(bytes.len() - at);
                if random.random_bool(0.5) {
                    range.skip(step as u64).unwrap();
                } else {
                    let mut got = vec![0; step];
                    range.read_exact(&mut got).unwrap();
                    assert!(got == bytes[at..at + step], "{at}+{step} of night {night}");
                }
                at += step;
            }
            let err = range.skip(1).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::UnexpectedEof);
        }
    }
}

#[test]
fn many_threads_read_all_nights_at_once() {
    let (bed, nights) = Bed::three_nights();
    let (reader, read) = watched(&bed);
    std::thread::scope(|scope| {
        for thread in 0..12 {
            let night = thread % nights.len();
            let file = open(&reader, &bed, &format!("a@2026-01-0{}", night + 1));
            let expected = &nights[night];
            scope.spawn(move || assert!(all(&file).unwrap() == *expected, "night {night}"));
        }
    });
    // All of it fits into what is kept, so that each object is read once, whoever needs it.
    let read = read.lock().unwrap();
    let different: BTreeSet<&String> = read.iter().collect();
    assert_eq!(different.len(), read.len());
}

#[test]
fn scattered_pieces_do_not_cost_an_object_each() {
    // More than what is kept of objects, and then in another order.
    let bed = Bed::new();
    let mut vectors = vectors(120_000, 5);
    for day in 1..=2 {
        if day == 2 {
            vectors.sort_unstable();
        }
        let path = snapshot(bed.dir.path(), "x.snapshot", &vectors, b"log");
        bed.archive.add(&adding(&path, day)).unwrap();
    }
    let (reader, read) = watched(&bed);
    let entry = bed.entry("a@2026-01-02");
    let file = open(&reader, &bed, "a@2026-01-02");
    assert!(all(&file).unwrap() == bed.get("a@2026-01-02").unwrap());
    let (objects, read) = (objects(&bed, &entry).len(), read.lock().unwrap().len());
    let pieces = bed.archive.recipe(&entry).unwrap().extents.len() / 3;
    assert!(objects > 12 && pieces > 50_000, "{objects} {pieces}");
    // A few blocks, each with all objects.
    assert!(read < objects * 10, "{read} reads of {objects} objects");
}

#[test]
fn what_is_passed_over_needs_no_object() {
    let bed = Bed::new();
    let path = snapshot(
        bed.dir.path(),
        "x.snapshot",
        &vectors(120_000, 9),
        &[1; 1000],
    );
    bed.archive.add(&adding(&path, 1)).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let (reader, read) = watched(&bed);
    let file = open(&reader, &bed, "a");
    let mut input = Input::open(&file, None, None).unwrap();
    let mut head = [0; 512];
    input.read_exact(&mut head).unwrap();
    assert_eq!(head, whole[..512]);
    let end = whole.len() - 1024;
    input.skip((end - 512) as u64).unwrap();
    let mut tail = Vec::new();
    input.read_to_end(&mut tail).unwrap();
    assert!(tail == whole[end..]);
    let read = read.lock().unwrap().len();
    let objects = objects(&bed, &bed.entry("a")).len();
    assert!(objects > 12 && read <= 2, "{read} of {objects}");
    // All of it, hashed.
    let hashes = Input::hash(&file, Algorithm::Sha256).unwrap().unwrap();
    assert_eq!(hashes.file, bed.entry("a").sha256);
}

#[test]
fn every_object_that_is_damaged_is_named_and_never_believed() {
    let (bed, nights) = Bed::three_nights();
    let entry = bed.entry("a@2026-01-03");
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for object in objects(&bed, &entry) {
        let whole = std::fs::read(&object).unwrap();
        let name = object.file_stem().unwrap().to_string_lossy().into_owned();
        for _ in 0..8 {
            let mut bytes = whole.clone();
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
            std::fs::write(&object, bytes).unwrap();
            let (reader, _) = watched(&bed);
            let file = open(&reader, &bed, "a@2026-01-03");
            let mut got = Vec::new();
            let err = file.reader().unwrap().read_to_end(&mut got).unwrap_err();
            // What came before it is right.
            assert!(nights[2].starts_with(&got), "byte {at} of {name}");
            let err = Error::carried(&err).unwrap();
            assert_eq!(err.kind(), Kind::Damaged);
            assert!(err.doing().contains(&name), "{err}");
            assert!(err.next_step().unwrap().contains("archive check"), "{err}");
        }
        std::fs::remove_file(&object).unwrap();
        let (reader, _) = watched(&bed);
        let file = open(&reader, &bed, "a@2026-01-03");
        let err = all(&file).unwrap_err();
        let told = Error::carried(&err).unwrap().to_string();
        assert!(
            told.contains(&name) && told.contains("it is missing"),
            "{told}"
        );
        // Others are waiting for it, and it is there again.
        std::fs::write(&object, whole).unwrap();
        assert!(all(&file).unwrap() == nights[2]);
    }
}

#[test]
fn another_object_in_its_place_is_seen() {
    let (bed, _) = Bed::three_nights();
    let objects = objects(&bed, &bed.entry("a@2026-01-01"));
    std::fs::copy(&objects[1], &objects[0]).unwrap();
    let (reader, _) = watched(&bed);
    let err = all(&open(&reader, &bed, "a@2026-01-01")).unwrap_err();
    let err = Error::carried(&err).unwrap();
    assert_eq!(err.kind(), Kind::Damaged);
    assert!(err.why().contains("its SHA-256 is"), "{err}");
}

#[test]
fn a_recipe_that_is_damaged_is_no_entry_to_read() {
    let (bed, _) = Bed::three_nights();
    let entry = bed.entry("a@2026-01-02");
    let path = bed.root().join(entry.recipe.path(RECIPES));
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 9) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        std::fs::write(&path, bytes).unwrap();
        let (reader, read) = watched(&bed);
        let err = reader.open(&entry, "a").unwrap_err();
        assert_eq!(err.kind(), Kind::Damaged, "{err}");
        assert_eq!(read.lock().unwrap().len(), 0);
    }
}

#[test]
fn what_is_given_up_while_it_is_read_is_not_there_any_more() {
    let (bed, _) = Bed::three_nights();
    let path = snapshot(bed.dir.path(), "x.snapshot", &vectors(9000, 3), b"x");
    let other = Adding {
        name: Some("b".into()),
        ..adding(&path, 4)
    };
    bed.archive.add(&other).unwrap();
    let root = bed.root();
    let (reader, _) = hooked(&bed, move || {
        give_up(&root, "b@2026-01-04T03:00:00Z");
    });
    let err = all(&open(&reader, &bed, "b")).unwrap_err();
    let err = Error::carried(&err).unwrap();
    assert_eq!(err.kind(), Kind::NotFound);
    assert!(err.why().contains("gave it up"), "{err}");
}
