//! The chain of a whole archive: two writers, locks, records removed and altered, signatures.

use super::*;

#[test]
fn of_two_writers_one_wins_and_the_other_has_changed_nothing() {
    let (bed, _) = Bed::three_nights();
    let store = Local::new(&bed.root());
    let mut stale = Chain::open(&store).unwrap();
    let before = stale.clone();
    bed.archive
        .forget(
            &Forgetting::These(vec!["a@2026-01-01T03:00:00Z".into()]),
            false,
        )
        .unwrap();
    let event = Event::Forget { forgot: Vec::new() };
    let err = stale
        .append(&store, event, None, Archive::now())
        .unwrap_err();
    assert_eq!(err.kind(), Kind::Locked);
    assert_eq!(stale, before);
    assert_eq!(
        bed.archive
            .verify_chain(&Trust::default(), false)
            .unwrap()
            .findings,
        []
    );
}

#[test]
fn a_lock_keeps_others_out_until_it_is_broken() {
    let (bed, _) = Bed::three_nights();
    let store = Local::new(&bed.root());
    let (lock, mut chain) = lock::Lock::take(&bed.archive, "testing").unwrap();
    let path = bed.dir.path().join("1.snapshot");
    let mut other = adding(&path, 9);
    other.name = Some("b".into());
    let err = bed.archive.add(&other).unwrap_err();
    assert_eq!(err.kind(), Kind::Locked);
    assert!(err.why().contains("testing"), "{err}");
    let holder = bed.archive.holder().unwrap().unwrap();
    bed.archive.unlock(holder).unwrap();
    assert!(bed.archive.holder().unwrap().is_none());
    // Whoever held it can write nothing any more, and takes away nobody else's.
    let event = Event::Forget { forgot: Vec::new() };
    let late = chain.append(&store, event, None, Archive::now());
    assert_eq!(late.unwrap_err().kind(), Kind::Locked);
    let (second, _) = lock::Lock::take(&bed.archive, "testing again").unwrap();
    drop(lock);
    assert!(bed.archive.holder().unwrap().is_some());
    drop(second);
    assert!(bed.archive.holder().unwrap().is_none());
    assert!(!bed.archive.add(&other).unwrap().already);
    // One of a process that is gone is broken without being asked.
    let mut gone = Holder::this("dying");
    gone.started += 1;
    std::fs::write(
        bed.root().join(lock::LOCK),
        serde_json::to_vec(&gone).unwrap(),
    )
    .unwrap();
    bed.archive
        .forget(
            &Forgetting::These(vec!["a@2026-01-01T03:00:00Z".into()]),
            false,
        )
        .unwrap();
    assert_eq!(bed.archive.check(None, None).unwrap().findings, []);
}

#[test]
fn removed_reordered_and_altered_records_are_found() {
    let (bed, _) = Bed::three_nights();
    let log = |seq: u64| bed.root().join(chain::path(seq));
    let read = |seq| std::fs::read(log(seq)).unwrap();
    let all: Vec<Vec<u8>> = (1..=4).map(read).collect();
    let head = std::fs::read(bed.root().join(chain::HEAD)).unwrap();
    let restore = || {
        for (seq, bytes) in (1..).zip(&all) {
            std::fs::write(log(seq), bytes).unwrap();
        }
        std::fs::write(bed.root().join(chain::HEAD), &head).unwrap();
    };
    let findings = |about: &str| {
        let verified = bed.archive.verify_chain(&Trust::default(), false).unwrap();
        assert!(!verified.findings.is_empty(), "{about}");
        assert_eq!(
            bed.archive.chain().unwrap_err().kind(),
            Kind::Damaged,
            "{about}"
        );
        restore();
        assert_eq!(
            bed.archive
                .verify_chain(&Trust::default(), false)
                .unwrap()
                .findings,
            []
        );
        verified.findings
    };
    for seq in 1..=4 {
        std::fs::remove_file(log(seq)).unwrap();
        let found = findings("removed");
        assert!(
            found.iter().any(|finding| finding.seq == Some(seq)),
            "{seq}: {found:?}"
        );
        let text = String::from_utf8(read(seq)).unwrap();
        std::fs::write(log(seq), text.replace("2026", "2027").replace("0.1", "0.2")).unwrap();
        findings("altered");
    }
    std::fs::write(log(2), &all[2]).unwrap();
    std::fs::write(log(3), &all[1]).unwrap();
    findings("reordered");
    std::fs::remove_file(bed.root().join(chain::HEAD)).unwrap();
    findings("without its head");
    // One record more than the head knows is what a kill leaves.
    let older = format!("{{\"hash\":\"{}\",\"seq\":3}}\n", Name::of(&all[2]));
    std::fs::write(bed.root().join(chain::HEAD), older).unwrap();
    assert_eq!(bed.archive.chain().unwrap().entries().len(), 3);
    restore();
    // A chain that was shortened and given a head of its own is found by who noted the last.
    std::fs::remove_file(log(4)).unwrap();
    let shorter = format!("{{\"hash\":\"{}\",\"seq\":3}}\n", Name::of(&all[2]));
    std::fs::write(bed.root().join(chain::HEAD), shorter).unwrap();
    assert_eq!(
        bed.archive
            .verify_chain(&Trust::default(), false)
            .unwrap()
            .findings,
        []
    );
    let trust = Trust {
        head: Some(Name::of(&all[3])),
        keys: Vec::new(),
    };
    assert_eq!(
        bed.archive
            .verify_chain(&trust, false)
            .unwrap()
            .findings
            .len(),
        1
    );
}

#[test]
fn signed_records_are_told_from_others() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key.pem");
    let public = dir.path().join("key.pub");
    std::fs::write(&key, sign::tests::KEY).unwrap();
    std::fs::write(&public, sign::tests::PUBLIC).unwrap();
    let root = dir.path().join("archive");
    let open = |signer| Archive::new(Box::new(Local::new(&root)), signer);
    open(Some(Signer::read(&key).unwrap())).init().unwrap();
    let trust = Trust {
        keys: vec![read_public(&public).unwrap()],
        head: None,
    };
    let verified = open(None).verify_chain(&trust, false).unwrap();
    assert_eq!((verified.signed, verified.findings.len()), (1, 0));
    let path = snapshot(dir.path(), "1.snapshot", &vectors(10, 1), b"log");
    // Whoever has no key writes nothing.
    let err = open(None).add(&adding(&path, 1)).unwrap_err();
    assert_eq!(err.kind(), Kind::Usage);
    assert!(err.why().contains("signed"), "{err}");
    let left = |folder: &str| files(&root).keys().any(|name| name.starts_with(folder));
    assert!(!left(OBJECTS) && !left(RECIPES) && !left(lock::LOCK));
    let signer = || Some(Signer::read(&key).unwrap());
    open(signer()).add(&adding(&path, 1)).unwrap();
    // Nor is a record believed that was put there all the same.
    let good = files(&root);
    let forged = String::from_utf8(good["log/00000002.json"].clone()).unwrap();
    let unsigned = format!("{}\n", forged.lines().next().unwrap());
    std::fs::write(root.join("log/00000002.json"), &unsigned).unwrap();
    let head = format!(
        "{{\"hash\":\"{}\",\"seq\":2}}\n",
        Name::of(unsigned.as_bytes())
    );
    std::fs::write(root.join(chain::HEAD), head).unwrap();
    for archive in [open(None), open(signer())] {
        let err = archive.chain().unwrap_err();
        assert_eq!(err.kind(), Kind::Damaged);
        assert!(err.why().contains("record 2 is not signed"), "{err}");
    }
    for (name, bytes) in &good {
        std::fs::write(root.join(name), bytes).unwrap();
    }
    // With a key that is known every reader holds all records to it; another signer is another.
    let other = dir.path().join("other.pem");
    std::fs::write(&other, sign::tests::KEY.replace("IJgz", "IJgy")).unwrap();
    let stranger = Signer::read(&other).unwrap().public();
    let known = |key: &str| {
        open(None).trusting(Trust {
            keys: vec![key.to_owned()],
            head: None,
        })
    };
    let ours = trust.keys[0].clone();
    assert_eq!(known(&ours).chain().unwrap().entries().len(), 1);
    let err = known(&stranger).chain().unwrap_err();
    assert!(err.why().contains("another key"), "{err}");
    assert!(known(&stranger).check(None, None).unwrap().is_damaged());
}

#[test]
fn a_chain_that_was_shortened_is_known_by_whoever_has_seen_it() {
    let (bed, _) = Bed::three_nights();
    let state = tempfile::tempdir().unwrap();
    let options = ArchiveOptions {
        key: IdentityOptions::default(),
        archive: bed.root().display().to_string(),
        trust: TrustOptions {
            trust: Vec::new(),
            state: Some(state.path().to_owned()),
        },
    };
    let open = || options.open().unwrap();
    assert_eq!(open().seen().unwrap(), None);
    assert_eq!(open().chain().unwrap().records.len(), 4);
    let whole = files(&bed.root());
    // Shortened, with a head of its own: whole for whoever comes anew.
    let third = &whole["log/00000003.json"];
    std::fs::remove_file(bed.root().join("log/00000004.json")).unwrap();
    let head = format!("{{\"hash\":\"{}\",\"seq\":3}}\n", Name::of(third));
    std::fs::write(bed.root().join(chain::HEAD), head).unwrap();
    assert_eq!(bed.archive.chain().unwrap().entries().len(), 2);
    let err = open().chain().unwrap_err();
    assert_eq!(err.kind(), Kind::Damaged);
    assert!(
        err.why().contains("record 4") && err.why().contains("shortened"),
        "{err}"
    );
    let path = bed.dir.path().join("1.snapshot");
    assert_eq!(
        open().add(&adding(&path, 7)).unwrap_err().kind(),
        Kind::Damaged
    );
    assert!(open().check(None, None).unwrap().is_damaged());
    // A copy that has it gives it back.
    let copy = bed.dir.path().join("copy");
    for (name, bytes) in &whole {
        std::fs::create_dir_all(copy.join(name).parent().unwrap()).unwrap();
        std::fs::write(copy.join(name), bytes).unwrap();
    }
    let copy = Archive::new(Box::new(Local::new(&copy)), None);
    let checked = open().check(None, Some(&copy)).unwrap();
    assert_eq!(checked.repaired, ["record 4", chain::HEAD]);
    assert_eq!(checked.findings, []);
    assert_eq!(files(&bed.root()), whole);
    // Set back on purpose, it is accepted only when that is said.
    std::fs::remove_file(bed.root().join("log/00000004.json")).unwrap();
    let head = format!("{{\"hash\":\"{}\",\"seq\":3}}\n", Name::of(third));
    std::fs::write(bed.root().join(chain::HEAD), head).unwrap();
    let verified = open().verify_chain(&Trust::default(), false).unwrap();
    assert_eq!(verified.findings.len(), 1);
    assert_eq!(verified.seen.unwrap().head.seq, 4);
    let verified = open().verify_chain(&Trust::default(), true).unwrap();
    assert_eq!(
        (verified.findings, verified.not_remembered),
        (Vec::new(), None)
    );
    assert_eq!(open().chain().unwrap().records.len(), 3);
    // Written records are remembered, too.
    let mut other = adding(&path, 7);
    other.name = Some("b".into());
    assert!(!open().add(&other).unwrap().already);
    assert_eq!(open().seen().unwrap().unwrap().head.seq, 4);
    // Another archive in its place, or none.
    std::fs::remove_dir_all(bed.root()).unwrap();
    let err = open().init().unwrap_err();
    assert!(err.why().contains("is gone"), "{err}");
    Archive::new(Box::new(Local::new(&bed.root())), None)
        .init()
        .unwrap();
    let err = open().chain().unwrap_err();
    assert!(err.why().contains("another archive"), "{err}");
    open().forget_seen().unwrap();
    open().chain().unwrap();
}

#[test]
fn a_copy_that_was_written_to_repairs_nothing() {
    let (bed, nights) = Bed::three_nights();
    let copy_root = bed.dir.path().join("copy");
    for (name, bytes) in &files(&bed.root()) {
        std::fs::create_dir_all(copy_root.join(name).parent().unwrap()).unwrap();
        std::fs::write(copy_root.join(name), bytes).unwrap();
    }
    let copy = Archive::new(Box::new(Local::new(&copy_root)), None);
    let path = bed.dir.path().join("1.snapshot");
    let mut other = adding(&path, 8);
    other.name = Some("b".into());
    copy.add(&other).unwrap();
    // A copy that is ahead is one all the same; what it has more stays there.
    let object = files(&bed.root())
        .into_keys()
        .find(|name| name.starts_with("o"));
    let object = bed.root().join(object.unwrap());
    let bytes = std::fs::read(&object).unwrap();
    std::fs::remove_file(&object).unwrap();
    let checked = bed.archive.check(None, Some(&copy)).unwrap();
    assert_eq!((checked.findings.len(), checked.repaired.len()), (0, 1));
    assert_eq!(checked.records, 4);
    // Now both were written to.
    other.name = Some("c".into());
    bed.archive.add(&other).unwrap();
    let before = files(&bed.root());
    for spoil in [
        "objects",
        "recipes",
        "log/00000005.json",
        "log/00000002.json",
        "head.json",
    ] {
        let name = before.keys().find(|name| name.starts_with(spoil)).unwrap();
        std::fs::remove_file(bed.root().join(name)).unwrap();
        let spoiled = files(&bed.root());
        let err = bed.archive.check(None, Some(&copy)).unwrap_err();
        assert_eq!(err.kind(), Kind::Usage, "{spoil}: {err}");
        assert!(err.why().contains("record 5"), "{spoil}: {err}");
        assert!(
            files(&bed.root()) == spoiled,
            "{spoil}: something was changed"
        );
        std::fs::write(bed.root().join(name), &before[name]).unwrap();
    }
    assert_eq!(bytes, std::fs::read(&object).unwrap());
    assert!(bed.get("a@latest").unwrap() == nights[2]);
}

#[test]
fn a_damaged_record_or_head_is_fetched_from_a_copy() {
    let (bed, _) = Bed::three_nights();
    let whole = files(&bed.root());
    let copy_root = bed.dir.path().join("copy");
    for (name, bytes) in &whole {
        std::fs::create_dir_all(copy_root.join(name).parent().unwrap()).unwrap();
        std::fs::write(copy_root.join(name), bytes).unwrap();
    }
    let copy = Archive::new(Box::new(Local::new(&copy_root)), None);
    for (name, bytes) in whole.iter().filter(|(name, _)| name.ends_with(".json")) {
        for at in [0, 9, 20, bytes.len() / 2, bytes.len() - 4] {
            let mut flipped = bytes.clone();
            // Still a digit where it was one: a head that names another record.
            flipped[at] ^= 1;
            std::fs::write(bed.root().join(name), &flipped).unwrap();
            assert!(bed.archive.check(None, None).unwrap().is_damaged());
            let checked = bed.archive.check(None, Some(&copy)).unwrap();
            assert_eq!(checked.findings, [], "{name} {at}: {:?}", checked.repaired);
            assert_eq!(checked.repaired.len(), 1, "{name} {at}");
            assert!(files(&bed.root()) == whole, "{name} {at}");
        }
    }
}
