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
            .verify_chain(&Trust::default())
            .unwrap()
            .findings,
        []
    );
}

#[test]
fn a_lock_keeps_others_out_until_it_is_broken() {
    let (bed, _) = Bed::three_nights();
    let store = Local::new(&bed.root());
    let (lock, mut chain) = lock::Lock::take(&store, "testing", None).unwrap();
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
    let (second, _) = lock::Lock::take(&store, "testing again", None).unwrap();
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
        let verified = bed.archive.verify_chain(&Trust::default()).unwrap();
        assert!(!verified.findings.is_empty(), "{about}");
        assert_eq!(
            bed.archive.chain().unwrap_err().kind(),
            Kind::Damaged,
            "{about}"
        );
        restore();
        assert_eq!(
            bed.archive
                .verify_chain(&Trust::default())
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
            .verify_chain(&Trust::default())
            .unwrap()
            .findings,
        []
    );
    let trust = Trust {
        head: Some(Name::of(&all[3])),
        key: None,
    };
    assert_eq!(bed.archive.verify_chain(&trust).unwrap().findings.len(), 1);
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
        key: Some(read_public(&public).unwrap()),
        head: None,
    };
    let verified = open(None).verify_chain(&trust).unwrap();
    assert_eq!((verified.signed, verified.findings.len()), (1, 0));
    let path = snapshot(dir.path(), "1.snapshot", &vectors(10, 1), b"log");
    open(None).add(&adding(&path, 1)).unwrap();
    let verified = open(None).verify_chain(&trust).unwrap();
    assert_eq!((verified.signed, verified.findings.len()), (1, 1));
}
