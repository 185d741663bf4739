//! Claims that are not believed: checksums of files that were not read, objects of another size, times in the
//! future, beginnings of ids.

use super::*;

/// The objects of an archive, largest first.
fn objects(bed: &Bed) -> Vec<PathBuf> {
    let mut objects: Vec<(usize, PathBuf)> = files(&bed.root())
        .into_iter()
        .filter(|(name, _)| name.starts_with(OBJECTS))
        .map(|(name, bytes)| (bytes.len(), bed.root().join(name)))
        .collect();
    objects.sort_unstable();
    objects.into_iter().rev().map(|(_, path)| path).collect()
}

#[test]
fn other_bytes_under_a_stale_checksum_are_not_stored_already() {
    let (bed, nights) = Bed::three_nights();
    let before = files(&bed.root());
    let old = bed.entry("a@2026-01-03").sha256;
    let path = snapshot(bed.dir.path(), "new.snapshot", &vectors(50, 7), b"new");
    let sidecar = bed.dir.path().join("new.snapshot.checksum");
    std::fs::write(&sidecar, &old).unwrap();
    let err = bed.archive.add(&adding(&path, 9)).unwrap_err();
    assert_eq!(err.kind(), Kind::Damaged);
    assert!(err.why().contains("new.snapshot.checksum says"), "{err}");
    // The right hash beside the wrong one: all must agree, whichever is asked first.
    let new = crate::format::hash_file(&path).unwrap();
    for given in [&new, &old] {
        let mut both = adding(&path, 9);
        both.sha256 = Some(given.clone());
        assert_eq!(bed.archive.add(&both).unwrap_err().kind(), Kind::Damaged);
    }
    assert_eq!(files(&bed.root()), before);
    std::fs::write(&sidecar, &new).unwrap();
    let added = bed.archive.add(&adding(&path, 9)).unwrap();
    assert!(!added.already);
    // The old bytes under the new checksum, where both are stored.
    std::fs::write(&path, &nights[2]).unwrap();
    assert_eq!(
        bed.archive.add(&adding(&path, 9)).unwrap_err().kind(),
        Kind::Damaged
    );
    std::fs::remove_file(&sidecar).unwrap();
    assert!(bed.archive.add(&adding(&path, 9)).unwrap().already);
}

#[test]
fn what_is_damaged_is_stored_again_by_the_same_snapshot() {
    for (with_checksum, with_recipe) in [(true, false), (false, false), (true, true)] {
        let (bed, nights) = Bed::three_nights();
        let path = bed.dir.path().join("1.snapshot");
        let first = bed.entry("a@2026-01-01");
        if with_checksum {
            let sidecar = bed.dir.path().join("1.snapshot.checksum");
            std::fs::write(sidecar, &first.sha256).unwrap();
        }
        // The same bytes under another name need the same objects.
        let mut other = adding(&path, 4);
        other.name = Some("b".into());
        bed.archive.add(&other).unwrap();
        let damaged = match with_recipe {
            true => bed.root().join(first.recipe.path(RECIPES)),
            false => objects(&bed)[0].clone(),
        };
        let mut bytes = std::fs::read(&damaged).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&damaged, &bytes).unwrap();
        assert!(bed.get("a@2026-01-01").is_err());
        let added = bed.archive.add(&adding(&path, 9)).unwrap();
        assert!(added.already);
        assert_eq!(added.entry.id, first.id);
        let all: &[&str] = match with_recipe {
            true => &["a@2026-01-01T03:00:00Z"],
            false => &["a@2026-01-01T03:00:00Z", "b@2026-01-04T03:00:00Z"],
        };
        assert_eq!(added.repaired, all);
        assert_eq!(added.lost.len(), 1);
        for id in ["a@2026-01-01", "b@2026-01-04"] {
            assert!(bed.get(id).unwrap() == nights[0], "{id}");
        }
        // Once more: nothing is wrong, and nothing is written.
        let before = files(&bed.root());
        assert!(
            bed.archive
                .add(&adding(&path, 9))
                .unwrap()
                .repaired
                .is_empty()
        );
        assert_eq!(files(&bed.root()), before);
        // The remaining damage is in what the other nights had there.
        let lost = bed.archive.check(None, None).unwrap().losses;
        assert_eq!(lost.is_empty(), with_recipe, "{lost:?}");
        assert!(lost.iter().all(|loss| !all.contains(&loss.entry.as_str())));
    }
}

#[test]
fn an_object_of_another_size_is_not_built_on() {
    let (bed, nights) = Bed::three_nights();
    let object = objects(&bed)[0].clone();
    let bytes = std::fs::read(&object).unwrap();
    for spoiled in [
        &bytes[..bytes.len() - 1],
        &[bytes.as_slice(), b"x"].concat(),
    ] {
        std::fs::write(&object, spoiled).unwrap();
        let path = bed.dir.path().join("3.snapshot");
        let mut other = adding(&path, 5);
        other.name = Some(format!("of {}", spoiled.len()));
        // Another process: this one has read the object's table when it was whole.
        let archive = Archive::at(&bed.root().display().to_string(), None).unwrap();
        let added = archive.add(&other).unwrap();
        assert!(!added.lost.is_empty());
        assert!(bed.get(&added.entry.id).unwrap() == nights[2]);
    }
}

#[test]
fn a_whole_id_means_that_entry_and_no_other() {
    let (bed, nights) = Bed::three_nights();
    // Two of the same time: X, and X.2.
    let path = snapshot(bed.dir.path(), "x.snapshot", &vectors(20, 3), b"x");
    let second = bed.archive.add(&adding(&path, 1)).unwrap().entry;
    assert_eq!(second.id, "a@2026-01-01T03:00:00Z.2");
    let first = "a@2026-01-01T03:00:00Z";
    assert!(bed.get(first).unwrap() == nights[0]);
    assert!(bed.get("a@2026-01-01").unwrap() == std::fs::read(&path).unwrap());
    let chain = bed.archive.chain().unwrap();
    let one = |text: &str| {
        let reference: EntryRef = text.parse().unwrap();
        reference.find_one(&chain).map(|entry| entry.id)
    };
    // An entry to be forgotten is never guessed.
    assert_eq!(one(first).unwrap(), first);
    assert_eq!(one(&second.id).unwrap(), second.id);
    assert_eq!(one("a@2026-01-02").unwrap(), "a@2026-01-02T03:00:00Z");
    assert_eq!(one("a@latest").unwrap(), "a@2026-01-03T03:00:00Z");
    for text in [
        "a",
        "a@",
        "a@2026",
        "a@2026-01-01",
        "archive:a@2026-01-01T03",
    ] {
        let err = one(text).unwrap_err();
        assert_eq!(err.kind(), Kind::Usage, "{text}");
        assert!(err.why().contains("it may mean"), "{err}");
    }
    assert_eq!(one("a@2027").unwrap_err().kind(), Kind::NotFound);
    // A name that looks like one with a time.
    let mut odd = adding(&path, 2);
    odd.name = Some("a@2026".into());
    bed.archive.add(&odd).unwrap();
    assert_eq!(bed.entry("a@2026").name, "a@2026");
    assert_eq!(bed.entry("a@2026@2026-01").name, "a@2026");
    assert_eq!(bed.entry("a@2026-01-03").name, "a");
}

#[test]
fn an_entry_of_the_future_is_the_newest_only_if_there_is_no_other() {
    let bed = Bed::new();
    let add = |file: &str, time: &str| {
        let path = snapshot(bed.dir.path(), file, &vectors(20, file.len() as u64), b"x");
        let mut adding = adding(&path, 1);
        adding.time = Some(time.parse().unwrap());
        bed.archive.add(&adding).unwrap().entry.id
    };
    let future = add("1.snapshot", "2099-01-01T00:00:00Z");
    assert_eq!(bed.entry("a@latest").id, future);
    let past = add("22.snapshot", "2026-01-01T00:00:00Z");
    let newest = add("333.snapshot", "2026-01-02T00:00:00Z");
    assert_eq!(bed.entry("a@latest").id, newest);
    assert_eq!(bed.entry("a").id, newest);
    assert_eq!(bed.entry("a@2099").id, future);
    let policy = Policy {
        last: 1,
        daily: 1,
        ..Policy::default()
    };
    let by = Forgetting::By(policy, Vec::new());
    let swept = bed.archive.forget(&by, false).unwrap();
    assert_eq!((swept.forgotten, swept.left), (1, 2));
    let told: Vec<(&str, bool, bool)> = swept
        .decisions
        .iter()
        .map(|one| (one.id.as_str(), one.keep, one.is_in_future))
        .collect();
    let expected = [
        (future.as_str(), true, true),
        (past.as_str(), false, false),
        (newest.as_str(), true, false),
    ];
    assert_eq!(told, expected);
}

#[test]
fn names_and_tags_have_no_control_characters() {
    let bed = Bed::new();
    let path = snapshot(bed.dir.path(), "1.snapshot", &vectors(10, 1), b"x");
    for word in [
        "",
        "a\u{1b}[2J",
        "a\nb",
        "a/b",
        "\u{202e}a",
        &"x".repeat(256),
    ] {
        let mut named = adding(&path, 1);
        named.name = Some(word.into());
        assert_eq!(
            bed.archive.add(&named).unwrap_err().kind(),
            Kind::Usage,
            "{word:?}"
        );
        let mut tagged = adding(&path, 1);
        tagged.tags = vec![word.into()];
        assert_eq!(
            bed.archive.add(&tagged).unwrap_err().kind(),
            Kind::Usage,
            "{word:?}"
        );
    }
}
