//! An archive as a whole, in memory and in a folder: stored, got, damaged, repaired, given up.

mod chains;
mod concurrent;
mod copies;
mod encrypted;
mod hostile;
mod read;
mod suspicion;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rand::{Rng as _, RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::base::error::Kind;

/// A snapshot of one shard with a segment whose vectors are `vectors` (of 512 bytes each), and a log.
fn snapshot(folder: &Path, name: &str, vectors: &[[u8; 512]], log: &[u8]) -> PathBuf {
    let mut inner = tar::Builder::new(Vec::new());
    let add = |tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes).unwrap();
    };
    let mut matrix = b"data".to_vec();
    matrix.extend(vectors.concat());
    let state = br#"{"version":1,"config":{"vector_data":{"":{"size":128,"distance":"Dot"}}}}"#;
    let files = "snapshot/files";
    add(
        &mut inner,
        &format!("{files}/vector_storage/matrix.dat"),
        &matrix,
    );
    add(&mut inner, &format!("{files}/segment.json"), state);
    let inner = inner.into_inner().unwrap();
    let mut outer = tar::Builder::new(Vec::new());
    let segment = "0/segments/060daf26-a2ab-4dbf-82c1-bfdc3a20127f.tar";
    add(&mut outer, segment, &inner);
    add(&mut outer, "0/wal/open-1", log);
    add(&mut outer, "config.json", b"{}");
    let path = folder.join(name);
    std::fs::write(&path, outer.into_inner().unwrap()).unwrap();
    path
}

fn vectors(count: usize, seed: u64) -> Vec<[u8; 512]> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count)
        .map(|_| {
            let mut vector = [0; 512];
            random.fill_bytes(&mut vector);
            vector
        })
        .collect()
}

fn adding(path: &Path, day: u32) -> Adding {
    Adding {
        name: Some("a".into()),
        time: Some(format!("2026-01-{day:02}T03:00:00Z").parse().unwrap()),
        ..Adding::of(path)
    }
}

struct Bed {
    dir: tempfile::TempDir,
    archive: Archive,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::new(Box::new(Local::new(&dir.path().join("archive"))), None);
        archive.init().unwrap();
        Self { dir, archive }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    fn entry(&self, text: &str) -> Entry {
        let reference: EntryRef = text.parse().unwrap();
        reference.find(&self.archive.chain().unwrap()).unwrap()
    }

    fn get(&self, text: &str) -> crate::base::error::Result<Vec<u8>> {
        let out = self.dir.path().join("got");
        self.archive.get(&self.entry(text), &out, true)?;
        Ok(std::fs::read(out).unwrap())
    }

    /// Three nights: the second with a few vectors replaced, the third with all in another order.
    fn three_nights() -> (Self, Vec<Vec<u8>>) {
        let bed = Self::new();
        let mut vectors = vectors(12_000, 1);
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let mut nights = Vec::new();
        for day in 1..=3 {
            if day == 2 {
                for vector in vectors.iter_mut().step_by(100) {
                    random.fill_bytes(vector);
                }
            }
            if day == 3 {
                vectors.sort_unstable();
            }
            let log = vec![u8::try_from(day).unwrap(); 100_000];
            let path = snapshot(bed.dir.path(), &format!("{day}.snapshot"), &vectors, &log);
            let added = bed.archive.add(&adding(&path, day)).unwrap();
            assert!(!added.already && added.lost.is_empty());
            nights.push(std::fs::read(path).unwrap());
        }
        (bed, nights)
    }
}

#[test]
fn every_night_comes_out_as_it_was_and_costs_what_changed() {
    let (bed, nights) = Bed::three_nights();
    for (night, bytes) in nights.iter().enumerate() {
        let got = bed.get(&format!("a@2026-01-0{}", night + 1)).unwrap();
        assert!(got == *bytes, "night {night}");
    }
    let new: Vec<u64> = (1..=3)
        .map(|day| bed.entry(&format!("a@2026-01-0{day}")).new_bytes)
        .collect();
    assert!(new[1] < new[0] / 50, "{new:?}");
    assert!(new[2] < new[0] / 50, "{new:?}");
    let checked = bed.archive.check(None, None).unwrap();
    assert_eq!(checked.findings, []);
    assert_eq!((checked.entries, checked.records), (3, 4));
    assert!(checked.objects > 3 && checked.objects == checked.objects_all);
    // Shares are the whole.
    let shares: u64 = (1..=7)
        .map(|which| Subset { which, of: 7 })
        .map(|subset| bed.archive.check(Some(subset), None).unwrap().objects)
        .sum();
    assert_eq!(shares, checked.objects_all);
}

#[test]
fn the_same_again_changes_nothing() {
    let (bed, _) = Bed::three_nights();
    let before = files(&bed.root());
    let path = bed.dir.path().join("3.snapshot");
    let added = bed.archive.add(&adding(&path, 9)).unwrap();
    assert!(added.already);
    assert_eq!(added.entry.id, "a@2026-01-03T03:00:00Z");
    assert_eq!(files(&bed.root()), before);
    // A wrong checksum leaves nothing either.
    std::fs::write(bed.dir.path().join("1.snapshot.checksum"), "0".repeat(64)).unwrap();
    let mut wrong = adding(&bed.dir.path().join("1.snapshot"), 9);
    wrong.name = Some("b".into());
    assert_eq!(bed.archive.add(&wrong).unwrap_err().kind(), Kind::Damaged);
    assert_eq!(files(&bed.root()), before);
}

fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let store = Local::new(root);
    let listed = store.list("").unwrap();
    listed
        .into_iter()
        // It holds nothing, so nothing of it can be wrong.
        .filter(|listed| listed.name != RESERVE)
        .map(|listed| {
            let bytes = std::fs::read(root.join(&listed.name)).unwrap();
            (listed.name, bytes)
        })
        .collect()
}

#[test]
fn every_flipped_bit_is_found_and_none_comes_out() {
    let (bed, nights) = Bed::three_nights();
    let files = files(&bed.root());
    let total: usize = files.values().map(Vec::len).sum();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    for round in 0..1000 {
        // Every file has its turn; most bits are in objects.
        let (name, bytes, at) = if round < files.len() * 3 {
            let (name, bytes) = files.iter().nth(round % files.len()).unwrap();
            (name, bytes, random.random_range(0..bytes.len()))
        } else {
            let mut at = random.random_range(0..total);
            let mut found = None;
            for (name, bytes) in &files {
                if at < bytes.len() {
                    found = Some((name, bytes, at));
                    break;
                }
                at -= bytes.len();
            }
            found.unwrap()
        };
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << random.random_range(0..8);
        std::fs::write(bed.root().join(name), &flipped).unwrap();
        let folder = name.split('/').next().unwrap().to_owned();
        *kinds.entry(folder).or_default() += 1;
        // The check finds every flipped bit; getting an entry is tried now and then.
        let checked = bed.archive.check(None, None).unwrap();
        assert!(checked.is_damaged(), "{name} byte {at}: {checked:?}");
        if round % 50 == 0 {
            let reference: EntryRef = "a@2026-01-03".parse().unwrap();
            let got = bed
                .archive
                .chain()
                .and_then(|chain| reference.find(&chain))
                .and_then(|_| bed.get("a@2026-01-03"));
            assert!(got.is_err() || got.unwrap() == nights[2]);
        }
        std::fs::write(bed.root().join(name), bytes).unwrap();
    }
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    assert_eq!(bed.archive.check(None, None).unwrap().findings, []);
}

#[test]
fn every_missing_file_is_named_and_a_copy_repairs_it() {
    let (bed, nights) = Bed::three_nights();
    let files = files(&bed.root());
    let copy = bed.dir.path().join("copy");
    for (name, bytes) in &files {
        let path = copy.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let copy = Archive::new(Box::new(Local::new(&copy)), None);
    let mut random = ChaCha8Rng::seed_from_u64(6);
    for round in 0..100 {
        let (name, _) = files
            .iter()
            .nth(random.random_range(0..files.len()))
            .unwrap();
        std::fs::remove_file(bed.root().join(name)).unwrap();
        let checked = bed.archive.check(None, None).unwrap();
        assert!(checked.is_damaged(), "{name}");
        let named = match name.rsplit_once('/') {
            Some((_, file)) => file.split('.').next().unwrap().trim_start_matches('0'),
            None => name,
        };
        let told = format!("{:?}", checked.findings);
        assert!(told.contains(named), "{name}: {told}");
        if name.starts_with("objects") {
            assert!(!checked.losses.is_empty());
            assert!(checked.losses.iter().all(|loss| loss.bytes > 0));
        }
        let repaired = bed.archive.check(None, Some(&copy)).unwrap();
        assert_eq!(repaired.findings, [], "round {round}: {name}");
        assert_eq!(repaired.repaired.len(), 1, "{:?}", repaired.repaired);
    }
    assert_eq!(self::files(&bed.root()), files);
    assert!(bed.get("a@latest").unwrap() == nights[2]);
    // A file that no entry needs is named too.
    std::fs::write(bed.root().join("objects/notes.txt"), "x").unwrap();
    let checked = bed.archive.check(None, None).unwrap();
    assert!(!checked.is_damaged());
    assert!(
        matches!(&checked.findings[..], [Finding::Extra { path, .. }] if path.ends_with("notes.txt"))
    );
}

#[test]
fn another_archive_with_the_same_snapshots_repairs_it() {
    let (bed, nights) = Bed::three_nights();
    let (other, _) = Bed::three_nights();
    // Not a copy: no object is called the same.
    let objects = |bed: &Bed| -> Vec<String> {
        let names = files(&bed.root()).into_keys();
        names.filter(|name| name.starts_with("objects")).collect()
    };
    let ours = objects(&bed);
    assert!(objects(&other).iter().all(|name| !ours.contains(name)));
    for name in &ours {
        std::fs::remove_file(bed.root().join(name)).unwrap();
    }
    std::fs::remove_file(other.root().join(&objects(&other)[0])).unwrap();
    let lost = other.archive.check(None, None).unwrap().losses;
    let checked = bed.archive.check(None, Some(&other.archive)).unwrap();
    // Data that the other archive lost as well stays lost.
    assert_eq!(checked.losses.len(), lost.len(), "{checked:?}");
    assert_eq!(checked.repaired.len(), 3 - lost.len(), "{checked:?}");
    for night in 1..=3 {
        let id = format!("a@2026-01-0{night}");
        let is_lost = lost.iter().any(|loss| loss.entry.starts_with(&id));
        let got = bed.get(&id);
        assert_eq!(got.is_err(), is_lost, "{id}");
        assert!(is_lost || got.unwrap() == nights[night - 1]);
    }
}

#[test]
fn what_is_given_up_goes_and_the_rest_stays() {
    let (bed, nights) = Bed::three_nights();
    let policy = Policy {
        last: 1,
        ..Policy::default()
    };
    let before = files(&bed.root()).len();
    let dry = bed
        .archive
        .forget(&Forgetting::By(policy.clone(), Vec::new()), true)
        .unwrap();
    assert_eq!((dry.forgotten, dry.left), (2, 1));
    assert_eq!(files(&bed.root()).len(), before);
    let swept = bed
        .archive
        .forget(&Forgetting::By(policy.clone(), Vec::new()), false)
        .unwrap();
    assert_eq!((swept.forgotten, swept.left), (2, 1));
    assert_eq!(swept.removed, dry.removed);
    assert!(swept.removed >= 2);
    assert!(bed.get("a@latest").unwrap() == nights[2]);
    assert_eq!(bed.archive.check(None, None).unwrap().findings, []);
    let chain = bed.archive.chain().unwrap();
    let gone: EntryRef = "a@2026-01-01".parse().unwrap();
    let err = gone.find(&chain).unwrap_err();
    assert_eq!(err.kind(), Kind::NotFound);
    assert!(err.why().contains("given up"), "{err}");
    // Nothing is left to do: nothing is written.
    let again = bed
        .archive
        .forget(&Forgetting::By(policy, Vec::new()), false)
        .unwrap();
    assert_eq!((again.forgotten, again.removed), (0, 0));
    assert_eq!(
        bed.archive.chain().unwrap().records.len(),
        chain.records.len()
    );
    // An entry's name is never used again.
    let path = bed.dir.path().join("1.snapshot");
    let added = bed.archive.add(&adding(&path, 1)).unwrap();
    assert_eq!(added.entry.id, "a@2026-01-01T03:00:00Z.2");
    assert!(bed.get("a@2026-01-01").unwrap() == nights[0]);
}

#[test]
fn leftovers_are_removed_and_nothing_else() {
    let (bed, _) = Bed::three_nights();
    let before = files(&bed.root());
    let name = Name::of(b"what a killed run left");
    for folder in [OBJECTS, RECIPES] {
        let path = bed.root().join(name.path(folder));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"what a killed run left").unwrap();
    }
    std::fs::write(bed.root().join("objects/README"), b"not ours").unwrap();
    let swept = bed.archive.forget(&Forgetting::Nothing, false).unwrap();
    assert_eq!((swept.forgotten, swept.removed), (0, 2));
    let mut after = files(&bed.root());
    assert!(after.remove("objects/README").is_some());
    let objects = |files: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
        files
            .keys()
            .filter(|name| name.starts_with("o"))
            .cloned()
            .collect()
    };
    assert_eq!(objects(&after), objects(&before));
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let archive = Archive::new(Box::new(Local::new(dir.path())), None);
    assert_eq!(archive.chain().unwrap_err().kind(), Kind::NotFound);
    let path = snapshot(dir.path(), "1.snapshot", &vectors(10, 1), b"log");
    assert_eq!(
        archive.add(&adding(&path, 1)).unwrap_err().kind(),
        Kind::NotFound
    );
    // A folder with something in it is not taken for one's own.
    assert_eq!(archive.init().unwrap_err().kind(), Kind::Usage);
    let mut file = std::fs::File::create(dir.path().join("cut.snapshot")).unwrap();
    file.write_all(&std::fs::read(&path).unwrap()[..9000])
        .unwrap();
    let bed = Bed::new();
    let err = bed
        .archive
        .add(&adding(&dir.path().join("cut.snapshot"), 1));
    assert_eq!(err.unwrap_err().kind(), Kind::Damaged);
    assert_eq!(files(&bed.root()).len(), 2);
}
