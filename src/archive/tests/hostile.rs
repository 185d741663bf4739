//! Archives that somebody made who means no good: numbers and sizes that no archive has.

use super::*;

#[test]
fn a_head_or_a_record_that_claims_too_much_is_refused_at_once() {
    let (bed, _) = Bed::three_nights();
    let whole = files(&bed.root());
    let hash = Name::of(&whole["log/00000004.json"]);
    let findings = |about: &str| -> Vec<String> {
        let started = std::time::Instant::now();
        let verified = bed.archive.verify_chain(&Trust::default(), false).unwrap();
        assert!(
            started.elapsed().as_secs() < 5,
            "{about}: {:?}",
            started.elapsed()
        );
        assert!(bed.archive.chain().is_err(), "{about}");
        verified.findings.into_iter().map(|it| it.why).collect()
    };
    let put = |name: &str, bytes: &[u8]| std::fs::write(bed.root().join(name), bytes).unwrap();
    for seq in [1_000_000_u64, 1 << 40, u64::MAX] {
        let head = format!("{{\"hash\":\"{hash}\",\"seq\":{seq}}}\n");
        put(chain::HEAD, head.as_bytes());
        let alone = findings("a head");
        assert!(alone.len() <= 2, "{alone:?}");
        // With a record by that number, as if there were all those between.
        put(&chain::path(seq), b"{}\n");
        let found = findings("and a record");
        assert!(found.len() <= 5, "{found:?}");
        if seq == 1_000_000 {
            let range = "records 5 to 999999 are missing";
            assert!(found.iter().any(|why| why == range), "{found:?}");
        }
        std::fs::remove_file(bed.root().join(chain::path(seq))).unwrap();
    }
    put(chain::HEAD, &vec![b' '; 2 << 20]);
    assert_eq!(findings("a large head"), ["head.json cannot be read"]);
    put(chain::HEAD, &whole[chain::HEAD]);
    let large = std::fs::File::create(bed.root().join(chain::path(4))).unwrap();
    large.set_len(1 << 40).unwrap();
    let err = bed.archive.chain().unwrap_err();
    assert_eq!(err.kind(), Kind::Damaged);
    assert!(err.why().contains("no more than"), "{err}");
}

#[test]
fn a_record_that_nobody_would_read_is_not_written() {
    let (bed, _) = Bed::three_nights();
    let store = Local::new(&bed.root());
    let before = files(&bed.root());
    let mut chain = Chain::open(&store).unwrap();
    let forgot = (0..100_000)
        .map(|n| Forgotten {
            id: format!("a@{n}"),
            why: "x".repeat(100),
        })
        .collect();
    let event = Event::Forget { forgot };
    let err = chain
        .append(&store, event, None, Archive::now())
        .unwrap_err();
    assert!(err.why().contains("at most"), "{err}");
    assert_eq!(files(&bed.root()), before);
    bed.archive.chain().unwrap();
}

#[test]
fn a_recipe_is_read_only_as_large_as_its_record_says() {
    let (bed, _) = Bed::three_nights();
    let entry = bed.entry("a@2026-01-01");
    let path = bed.root().join(entry.recipe.path(RECIPES));
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    let err = bed.archive.recipe(&entry).unwrap_err();
    assert_eq!(err.kind(), Kind::Damaged);
    assert!(err.why().contains("no more than"), "{err}");
    assert!(bed.archive.check(None, None).unwrap().is_damaged());
}
