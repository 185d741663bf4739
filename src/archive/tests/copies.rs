//! Copies: brought up to date, refused, interrupted.

use super::*;
use crate::archive::lock::LOCK;
use crate::base::progress::Progress;

fn copy_of(bed: &Bed) -> (PathBuf, Archive) {
    let place = bed.dir.path().join("copy");
    let archive = Archive::new(Box::new(Local::new(&place)), None);
    (place, archive)
}

fn copy(bed: &Bed, to: &Archive) -> Result<Copied> {
    bed.archive.copy_to(to, Progress::Quiet)
}

/// Everything in it is as in the original, and it is whole.
fn ensure_same(bed: &Bed, copy: &Archive) {
    let (ours, theirs) = (bed.archive.chain().unwrap(), copy.chain().unwrap());
    assert_eq!(ours.records, theirs.records);
    let checked = copy.check(None, None).unwrap();
    assert_eq!(checked.findings, []);
    for entry in ours.entries() {
        let (one, two) = (bed.dir.path().join("one"), bed.dir.path().join("two"));
        bed.archive.get(&entry, &one, true).unwrap();
        copy.get(&entry, &two, true).unwrap();
        assert!(std::fs::read(one).unwrap() == std::fs::read(two).unwrap());
    }
}

#[test]
fn a_copy_gets_what_is_missing_and_gives_up_what_was_given_up() {
    let (bed, _) = Bed::three_nights();
    let (_, to) = copy_of(&bed);
    let first = copy(&bed, &to).unwrap();
    assert_eq!((first.entries, first.records, first.new_records), (3, 4, 3));
    assert_eq!(first.objects, first.new_objects);
    ensure_same(&bed, &to);
    let again = copy(&bed, &to).unwrap();
    assert_eq!(
        (again.new_records, again.new_objects, again.removed),
        (0, 0, 0)
    );

    let path = snapshot(bed.dir.path(), "4.snapshot", &vectors(500, 9), b"log");
    bed.archive.add(&adding(&path, 4)).unwrap();
    let gone = Forgetting::These(vec![bed.entry("a@2026-01-01").id]);
    bed.archive.forget(&gone, false).unwrap();
    let next = copy(&bed, &to).unwrap();
    assert_eq!((next.entries, next.new_records), (3, 2));
    assert!(
        next.new_objects < first.objects && next.removed > 0,
        "{next:?}"
    );
    ensure_same(&bed, &to);
}

#[test]
fn what_is_no_copy_is_refused_and_left_as_it_is() {
    let (bed, _) = Bed::three_nights();
    let (place, to) = copy_of(&bed);
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("mine"), "x").unwrap();
    assert!(copy(&bed, &to).unwrap_err().why().contains("mine"));
    let itself = bed.archive.copy_to(&bed.archive, Progress::Quiet);
    assert!(itself.unwrap_err().why().contains("the same place"));
    std::fs::remove_file(place.join("mine")).unwrap();
    to.init().unwrap();
    assert!(
        copy(&bed, &to)
            .unwrap_err()
            .why()
            .contains("another archive")
    );
    std::fs::remove_dir_all(&place).unwrap();

    let (_, to) = copy_of(&bed);
    copy(&bed, &to).unwrap();
    let gone = Forgetting::These(vec![bed.entry("a@2026-01-01").id]);
    to.forget(&gone, false).unwrap();
    let there = to.chain().unwrap();
    let err = copy(&bed, &to).unwrap_err();
    assert!(err.why().contains("1 records that are not here"), "{err}");
    // Not the same entry: the same record in the same second is the same one.
    let gone = Forgetting::These(vec![bed.entry("a@2026-01-02").id]);
    bed.archive.forget(&gone, false).unwrap();
    let err = copy(&bed, &to).unwrap_err();
    assert!(err.why().contains("record 5 is another one"), "{err}");
    assert_eq!(to.chain().unwrap(), there);
}

#[test]
fn damage_does_not_travel_and_a_broken_off_copy_is_gone_on_with() {
    let (bed, _) = Bed::three_nights();
    let (place, to) = copy_of(&bed);
    let recipe = bed.archive.recipe(&bed.entry("a@2026-01-01")).unwrap();
    let object = bed.root().join(recipe.objects[0].name.path(OBJECTS));
    let whole = std::fs::read(&object).unwrap();
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    std::fs::write(&object, damaged).unwrap();
    assert_eq!(copy(&bed, &to).unwrap_err().kind(), Kind::Damaged);
    assert_eq!(to.chain().unwrap().entries(), []);
    std::fs::write(&object, whole).unwrap();

    // A killed copy left its lock, and the first of its records.
    let mut holder = Holder::this("archive copy");
    holder.pid = 999_999_999;
    let value = serde_json::to_string(&holder).unwrap();
    std::fs::write(place.join(LOCK), value).unwrap();
    let record = chain::path(2);
    std::fs::copy(bed.root().join(&record), place.join(&record)).unwrap();
    copy(&bed, &to).unwrap();
    ensure_same(&bed, &to);
    assert!(!place.join(LOCK).exists());
}
