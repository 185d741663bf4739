//! An encrypted archive: what is read with the key, what works without it, and what nobody sees.

use super::*;
use crate::base::progress::Progress;

/// Keys that were made by age-keygen for these tests alone, and their public halves.
const KEY: &str = "AGE-SECRET-KEY-1JEG6ECZTDXSV5MD7GGAMKJYCW2HAWLWX044PZXZADGUFDNY6H0LQWKURLW";
const PUBLIC: &str = "age1lgce8577e00nrlll9nphqnd05m8cgga3e8urcauw8ysu2jv9a5hs9myer5";
const SECOND: &str = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0";
const SECOND_PUBLIC: &str = "age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryef";
/// Of nobody here.
const OTHER: &str = "AGE-SECRET-KEY-1L27NYJDYRNDSCCELNZE8C6JTSH22TLQJVPGD7289KDLMZA5HWN6SZPEHGF";

/// A word that is in the snapshots as it is.
const WORD: &[u8] = b"the word that nobody may see";

struct Vault {
    bed: Bed,
    nights: Vec<Vec<u8>>,
}

/// The archive in `root`, to be opened with `keys`; none without any.
fn open(root: &Path, keys: &[&str]) -> Archive {
    let identity = match keys {
        [] => IdentityOptions::default(),
        keys => IdentityOptions {
            identity_command: Some(format!("printf '%s\\n' {}", keys.join(" "))),
            ..IdentityOptions::default()
        },
    };
    Archive::opened_by(Box::new(Local::new(root)), None, identity)
}

impl Vault {
    /// Three nights that differ little.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let recipients = parse_recipients(&[PUBLIC.into(), SECOND_PUBLIC.into()]).unwrap();
        let archive = open(&dir.path().join("archive"), &[KEY]);
        archive.init_for(&recipients).unwrap();
        let bed = Bed { dir, archive };
        let mut vectors = vectors(12_000, 1);
        let mut nights = Vec::new();
        for day in 1..=3 {
            vectors[usize::try_from(day).unwrap() * 1000] = [u8::try_from(day).unwrap(); 512];
            let log = WORD.repeat(100);
            let path = snapshot(bed.dir.path(), &format!("{day}.snapshot"), &vectors, &log);
            let adding = Adding {
                tags: vec!["secret-tag".into()],
                ..adding(&path, day)
            };
            bed.archive.add(&adding).unwrap();
            nights.push(std::fs::read(path).unwrap());
        }
        Self { bed, nights }
    }

    fn with(&self, keys: &[&str]) -> Archive {
        open(&self.bed.root(), keys)
    }
}

#[test]
fn every_recipient_gets_what_was_stored_and_nights_cost_what_changed() {
    let vault = Vault::new();
    for keys in [&[KEY][..], &[SECOND], &[OTHER, SECOND]] {
        let archive = vault.with(keys);
        let entries = archive.chain().unwrap().entries();
        assert_eq!(entries.len(), 3);
        for (entry, night) in entries.iter().zip(&vault.nights) {
            let out = vault.bed.dir.path().join("got");
            archive.get(entry, &out, true).unwrap();
            assert!(std::fs::read(out).unwrap() == *night);
        }
        assert!(entries[1].new_bytes < entries[0].new_bytes / 50);
        assert!(entries[2].new_bytes < entries[0].new_bytes / 50);
        let checked = archive.check(None, None).unwrap();
        assert_eq!(checked.findings, []);
        assert!(!checked.without_key && checked.entries == 3 && checked.objects > 2);
    }
}

#[test]
fn nothing_that_is_stored_shows_what_is_in_it() {
    let vault = Vault::new();
    let plain = Bed::three_nights().0;
    let shows = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|part| part == what);
    let words: [&[u8]; 6] = [
        WORD,
        b"secret-tag",
        b"a@2026-01",
        b".snapshot",
        b"matrix.dat",
        b"SMO1",
    ];
    for (name, bytes) in files(&vault.bed.root()) {
        for word in words {
            assert!(
                !shows(&bytes, word),
                "{name} shows {}",
                String::from_utf8_lossy(word)
            );
        }
        // What zstd compressed would show it, too, and is a frame of zstd.
        assert!(!bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]), "{name}");
        if !name.ends_with(".json") {
            assert!(bytes.starts_with(b"age-encryption.org/v1\n"), "{name}");
        }
    }
    // The words are looked for as they stand in an archive that is not encrypted.
    let all: Vec<u8> = files(&plain.root()).into_values().flatten().collect();
    assert!(
        words
            .iter()
            .skip(2)
            .filter(|word| shows(&all, word))
            .count()
            >= 3
    );
    let first = std::fs::read_to_string(vault.bed.root().join("log/00000001.json")).unwrap();
    assert!(first.contains("\"format\":2"), "{first}");
    assert!(!first.contains("AGE-SECRET-KEY"), "{first}");
}

#[test]
fn without_the_key_it_is_checked_and_copied_and_nothing_else() {
    let vault = Vault::new();
    let closed = vault.with(&[]);
    let need_key = [
        closed.chain().map(|_| ()),
        closed.forget(&Forgetting::Nothing, false).map(|_| ()),
        closed.forget(&Forgetting::Nothing, true).map(|_| ()),
        closed.note_proven(Vec::new()).map(|_| ()),
    ];
    for (n, done) in need_key.into_iter().enumerate() {
        let err = done.unwrap_err();
        assert_eq!(err.kind(), Kind::Usage, "{n}: {err}");
        let next = err.next_step().unwrap();
        assert!(
            err.why().contains(PUBLIC) && err.why().contains(SECOND_PUBLIC),
            "{err}"
        );
        assert!(
            next.contains("--identity") && next.contains("archive check"),
            "{next}"
        );
    }
    let checked = closed.check(None, None).unwrap();
    assert_eq!(checked.findings, []);
    assert!(
        checked.without_key && checked.records == 4 && checked.recipes == 3,
        "{checked:?}"
    );
    let verified = closed.verify_chain(&Trust::default(), false).unwrap();
    assert!(verified.without_key && verified.findings.is_empty() && verified.records == 4);
    assert!(closed.holder().unwrap().is_none());
    // Shares are the whole.
    let shares: u64 = (1..=7)
        .map(|which| Subset { which, of: 7 })
        .map(|subset| closed.check(Some(subset), None).unwrap().objects)
        .sum();
    assert_eq!(shares, checked.objects_all);
    let place = vault.bed.dir.path().join("copy");
    let copied = closed.copy_to(&open(&place, &[]), Progress::Quiet).unwrap();
    assert!(copied.without_key && copied.records == 4, "{copied:?}");
    assert_eq!(files(&place), files(&vault.bed.root()));
    let again = closed.copy_to(&open(&place, &[]), Progress::Quiet).unwrap();
    assert_eq!((again.new_objects, again.removed), (0, 0));
    // What was given up with the key stays in the copy without it, and goes with it.
    let id = "a@2026-01-01T03:00:00Z".to_owned();
    vault
        .bed
        .archive
        .forget(&Forgetting::These(vec![id]), false)
        .unwrap();
    let again = closed.copy_to(&open(&place, &[]), Progress::Quiet).unwrap();
    assert!(again.removed == 0 && again.only_there > 0, "{again:?}");
    let kept = open(&place, &[]);
    let again = vault.bed.archive.copy_to(&kept, Progress::Quiet).unwrap();
    assert!(again.removed > 0 && again.only_there == 0, "{again:?}");
    assert_eq!(files(&place), files(&vault.bed.root()));
    // What is lost here is not removed there, and comes back.
    let lost = files(&vault.bed.root());
    let is_object = |path: &&String| path.starts_with("objects/");
    let lost = lost.keys().find(is_object).unwrap().clone();
    std::fs::remove_file(vault.bed.root().join(&lost)).unwrap();
    let again = closed.copy_to(&open(&place, &[]), Progress::Quiet).unwrap();
    assert_eq!((again.removed, again.only_there), (0, 1));
    let checked = closed.check(None, Some(&open(&place, &[]))).unwrap();
    assert_eq!(checked.repaired.len(), 1, "{checked:?}");
    assert_eq!(files(&place), files(&vault.bed.root()));
    let copy = open(&place, &[SECOND]);
    assert_eq!(copy.check(None, None).unwrap().findings, []);
    assert_eq!(copy.chain().unwrap().entries().len(), 2);
}

#[test]
fn without_the_key_snapshots_are_stored_whole_and_never_under_one_id() {
    let vault = Vault::new();
    let closed = vault.with(&[]);
    let path = vault.bed.dir.path().join("3.snapshot");
    let added: Vec<Added> = (0..2)
        .map(|_| closed.add(&adding(&path, 3)).unwrap())
        .collect();
    let ids: Vec<&str> = added.iter().map(|added| added.entry.id.as_str()).collect();
    assert_eq!(
        ids,
        ["a@2026-01-03T03:00:00Z.5", "a@2026-01-03T03:00:00Z.6"]
    );
    let entries = vault.bed.archive.chain().unwrap().entries();
    assert_eq!(entries.len(), 5);
    for (added, entry) in added.iter().zip(&entries[3..]) {
        assert!(added.without_key && !added.already && added.entry == *entry);
        assert!(entry.new_bytes > entries[0].new_bytes / 2, "{entry:?}");
        let out = vault.bed.dir.path().join("got");
        vault.bed.archive.get(entry, &out, true).unwrap();
        assert!(std::fs::read(out).unwrap() == vault.nights[2]);
    }
    // With the key it is known again.
    let again = vault.bed.archive.add(&adding(&path, 3)).unwrap();
    assert!(again.already && !again.without_key);
    assert_eq!(vault.bed.archive.check(None, None).unwrap().findings, []);
}

#[test]
fn another_key_is_told_from_a_damaged_archive() {
    let vault = Vault::new();
    let wrong = vault.with(&[OTHER]);
    for err in [
        wrong.chain().unwrap_err(),
        wrong.check(None, None).unwrap_err(),
        wrong
            .add(&adding(&vault.bed.dir.path().join("1.snapshot"), 9))
            .unwrap_err(),
    ] {
        assert_eq!(err.kind(), Kind::Usage, "{err}");
        assert!(
            err.why().contains(PUBLIC) && err.why().contains("does not open it"),
            "{err}"
        );
        assert!(!err.to_string().contains("SECRET"), "{err}");
    }
    // A first record that was altered opens with no key, and is damaged.
    let path = vault.bed.root().join("log/00000001.json");
    let first = std::fs::read_to_string(&path).unwrap();
    let at = first.find("\"key\":\"").unwrap() + 120;
    let (start, rest) = first.split_at(at);
    let other = if rest.starts_with('A') { "B" } else { "A" };
    std::fs::write(&path, format!("{start}{other}{}", &rest[1..])).unwrap();
    for archive in [vault.with(&[KEY]), vault.with(&[])] {
        assert_eq!(archive.chain().unwrap_err().kind(), Kind::Damaged);
        assert!(archive.check(None, None).unwrap().is_damaged());
    }
}

#[test]
fn an_archive_for_others_or_for_nobody_is_told() {
    let vault = Vault::new();
    let recipients = |texts: &[&str]| {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        parse_recipients(&texts).unwrap()
    };
    let both = recipients(&[SECOND_PUBLIC, PUBLIC, PUBLIC]);
    assert_eq!(both.len(), 2);
    vault.bed.archive.chain_for(&both).unwrap();
    let other = recipients(&["age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"]);
    let err = vault.bed.archive.chain_for(&other).unwrap_err();
    assert!(err.why().contains("not encrypted for age1zvk"), "{err}");
    let bed = Bed::new();
    let plain = &bed.archive;
    let err = plain.chain_for(&both).unwrap_err();
    assert!(err.why().contains("it is not encrypted"), "{err}");
    plain.chain_for(&[]).unwrap();
    let err = parse_recipients(&[KEY.to_owned()]).unwrap_err();
    assert!(!err.to_string().contains(KEY), "{err}");
}

#[test]
fn flipped_bits_are_found_with_and_without_the_key() {
    let vault = Vault::new();
    let files = files(&vault.bed.root());
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let (with, without) = (vault.with(&[KEY]), vault.with(&[]));
    for round in 0..300 {
        let (name, bytes) = files.iter().nth(round % files.len()).unwrap();
        let mut flipped = bytes.clone();
        let at = random.random_range(0..bytes.len());
        flipped[at] ^= 1 << random.random_range(0..8);
        std::fs::write(vault.bed.root().join(name), &flipped).unwrap();
        for archive in [&without, &with] {
            let checked = archive.check(None, None).unwrap();
            assert!(checked.is_damaged(), "{name} byte {at}: {checked:?}");
        }
        if round % 20 == 0 {
            let out = vault.bed.dir.path().join("got");
            let got = with.chain().and_then(|chain| {
                let entry = chain.entries().pop().unwrap();
                with.get(&entry, &out, true)
            });
            assert!(got.is_err() || std::fs::read(&out).unwrap() == vault.nights[2]);
        }
        std::fs::write(vault.bed.root().join(name), bytes).unwrap();
    }
    for archive in [&without, &with] {
        assert_eq!(archive.check(None, None).unwrap().findings, []);
    }
}

#[test]
fn a_copy_repairs_it_without_the_key() {
    let vault = Vault::new();
    let place = vault.bed.dir.path().join("copy");
    let closed = vault.with(&[]);
    let copy = open(&place, &[]);
    closed.copy_to(&copy, Progress::Quiet).unwrap();
    let before = files(&vault.bed.root());
    for (name, bytes) in &before {
        let mut wrong = bytes.clone();
        wrong[bytes.len() / 2] ^= 1;
        std::fs::write(vault.bed.root().join(name), wrong).unwrap();
        let checked = closed.check(None, Some(&copy)).unwrap();
        assert!(
            !checked.is_damaged() && checked.repaired.len() == 1,
            "{name}: {checked:?}"
        );
    }
    assert_eq!(files(&vault.bed.root()), before);
}

#[test]
fn what_is_missing_is_known_with_the_key() {
    let vault = Vault::new();
    let names: Vec<String> = files(&vault.bed.root()).into_keys().collect();
    let object = names
        .iter()
        .find(|name| name.starts_with("objects/"))
        .unwrap();
    std::fs::remove_file(vault.bed.root().join(object)).unwrap();
    assert!(!vault.with(&[]).check(None, None).unwrap().is_damaged());
    let checked = vault.with(&[KEY]).check(None, None).unwrap();
    assert!(
        checked.is_damaged() && !checked.losses.is_empty(),
        "{checked:?}"
    );
}

#[test]
fn a_record_that_is_not_encrypted_does_not_count() {
    let vault = Vault::new();
    let plain = Bed::three_nights().0;
    // A record of another archive's, made to fit: somebody who can write, and has no key to sign with.
    let chain = vault.bed.archive.chain().unwrap();
    let head = chain.head().unwrap();
    let record = std::fs::read_to_string(plain.root().join("log/00000004.json")).unwrap();
    let theirs = plain.archive.chain().unwrap();
    let (their_first, our_first) = (&theirs.records[0].record, &chain.records[0].record);
    let record = record
        .replace(
            &their_first.archive.to_string(),
            &our_first.archive.to_string(),
        )
        .replace(&theirs.records[2].hash.to_string(), &head.hash.to_string())
        .replace("\"seq\":4", "\"seq\":5");
    std::fs::write(vault.bed.root().join("log/00000005.json"), record).unwrap();
    for keys in [&[KEY][..], &[]] {
        let err = vault.with(keys).chain().unwrap_err();
        assert_eq!(err.kind(), Kind::Damaged);
        assert!(err.why().contains("record 5 is not encrypted"), "{err}");
    }
}

#[test]
fn signed_records_are_encrypted_and_held_to_their_keys() {
    use crate::archive::sign::tests::{KEY as SIGNING, PUBLIC as VERIFYING};
    let dir = tempfile::tempdir().unwrap();
    let (key, public) = (dir.path().join("key.pem"), dir.path().join("key.pub"));
    std::fs::write(&key, SIGNING).unwrap();
    std::fs::write(&public, VERIFYING).unwrap();
    let root = dir.path().join("archive");
    let signed = Archive {
        signer: Some(Signer::read(&key).unwrap()),
        ..open(&root, &[])
    };
    signed
        .init_for(&parse_recipients(&[PUBLIC.into()]).unwrap())
        .unwrap();
    let path = snapshot(dir.path(), "1.snapshot", &vectors(100, 1), b"log");
    // Whoever writes has the key to sign with, and none to read with.
    signed.add(&adding(&path, 1)).unwrap();
    let trust = Trust {
        keys: vec![read_public(&public).unwrap()],
        head: None,
    };
    let verified = open(&root, &[]).verify_chain(&trust, false).unwrap();
    assert_eq!((verified.signed, verified.findings.len()), (2, 0));
    let reader = open(&root, &[KEY]).trusting(trust.clone());
    assert_eq!(reader.chain().unwrap().entries().len(), 1);
    // Without the key to sign with nothing is added.
    let err = open(&root, &[KEY]).add(&Adding {
        name: Some("b".into()),
        ..adding(&path, 2)
    });
    assert_eq!(err.unwrap_err().kind(), Kind::Usage);
}
