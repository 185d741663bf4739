//! Another run at the same time, and stores that do not do what they are asked to.

use std::sync::{Arc, Mutex};

use super::*;
use crate::base::error::{Error, Result};

/// A folder in which something happens when the first object is read, and which notes what is read.
pub(super) struct Hooked {
    inner: Local,
    hook: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Name that cannot be removed.
    stuck: Option<&'static str>,
    /// The objects that were read.
    read: Arc<Mutex<Vec<String>>>,
}

impl Hooked {
    fn archive(root: &Path, hook: impl FnOnce() + Send + 'static) -> Archive {
        Self::watched(root, hook).0
    }

    /// The archive, and what is read of it.
    pub(super) fn watched(
        root: &Path,
        hook: impl FnOnce() + Send + 'static,
    ) -> (Archive, Arc<Mutex<Vec<String>>>) {
        let hooked = Self {
            inner: Local::new(root),
            hook: Mutex::new(Some(Box::new(hook))),
            stuck: None,
            read: Arc::default(),
        };
        let read = Arc::clone(&hooked.read);
        (Archive::new(Box::new(hooked), None), read)
    }
}

impl Store for Hooked {
    fn what(&self) -> String {
        self.inner.what()
    }
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        self.inner.put_new(name, bytes)
    }
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.inner.replace(name, bytes)
    }
    fn get(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        if name.starts_with(OBJECTS) {
            if let Some(hook) = self.hook.lock().unwrap().take() {
                hook();
            }
            self.read.lock().unwrap().push(name.to_owned());
        }
        self.inner.get(name, bytes_max)
    }
    fn head(&self, name: &str, bytes: u64) -> Result<Option<(Vec<u8>, u64)>> {
        self.inner.head(name, bytes)
    }
    fn get_range(&self, name: &str, start: u64, bytes: u64) -> Result<Option<Vec<u8>>> {
        self.inner.get_range(name, start, bytes)
    }
    fn remove(&self, name: &str) -> Result<bool> {
        match self.stuck == Some(name) {
            true => Err(Error::failed(format!("removing {name}"), "it is stuck")),
            false => self.inner.remove(name),
        }
    }
    fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        self.inner.list(folder)
    }
    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }
    fn at_once(&self) -> usize {
        2
    }
}

pub(super) fn give_up(root: &Path, id: &str) -> PruneReport {
    let archive = Archive::new(Box::new(Local::new(root)), None);
    archive
        .forget(&Forgetting::These(vec![id.into()]), false)
        .unwrap()
}

#[test]
fn what_is_given_up_while_it_is_checked_is_no_damage() {
    let (bed, _) = Bed::three_nights();
    let path = snapshot(bed.dir.path(), "x.snapshot", &vectors(9000, 3), b"x");
    let mut other = adding(&path, 4);
    other.name = Some("b".into());
    bed.archive.add(&other).unwrap();
    let root = bed.root();
    let archive = Hooked::archive(&root, {
        let root = root.clone();
        move || drop(give_up(&root, "b@2026-01-04T03:00:00Z"))
    });
    let checked = archive.check(None, None).unwrap();
    assert_eq!(checked.findings, []);
    assert_eq!(checked.losses, []);
    assert_eq!((checked.entries, checked.records_meanwhile), (3, 1));
    // Real damage is reported all the same.
    bed.archive.add(&other).unwrap();
    let used = bed.archive.recipe(&bed.entry("a@2026-01-03")).unwrap();
    std::fs::remove_file(root.join(used.objects[0].name.path(OBJECTS))).unwrap();
    let archive = Hooked::archive(&root, {
        let root = root.clone();
        move || drop(give_up(&root, "b@2026-01-04T03:00:00Z.2"))
    });
    let checked = archive.check(None, None).unwrap();
    assert_eq!(checked.findings.len(), 1, "{:?}", checked.findings);
    assert!(
        checked
            .losses
            .iter()
            .all(|loss| loss.entry.starts_with("a@"))
    );
}

#[test]
fn what_is_stored_while_it_is_checked_is_no_leftover() {
    let (bed, _) = Bed::three_nights();
    let path = snapshot(bed.dir.path(), "x.snapshot", &vectors(9000, 3), b"x");
    let root = bed.root();
    let archive = Hooked::archive(&root, {
        let root = root.clone();
        move || {
            let archive = Archive::new(Box::new(Local::new(&root)), None);
            archive.add(&adding(&path, 4)).unwrap();
        }
    });
    let checked = archive.check(None, None).unwrap();
    assert_eq!(checked.findings, []);
    assert!(checked.unsettled > 0);
    assert_eq!(checked.records_meanwhile, 1);
    // Objects of a run that is at work are nobody's leftovers yet.
    let (lock, _) = lock::Lock::take(&bed.archive, "archive add").unwrap();
    let object = Name::of(b"being put");
    let local = Local::new(&root);
    local.put_new(&object.path(OBJECTS), b"being put").unwrap();
    let checked = bed.archive.check(None, None).unwrap();
    assert_eq!((checked.findings.len(), checked.unsettled), (0, 1));
    lock.release().unwrap();
    let checked = bed.archive.check(None, None).unwrap();
    assert_eq!((checked.findings.len(), checked.unsettled), (1, 0));
}

#[test]
fn what_is_given_up_while_it_is_got_is_not_there_any_more() {
    let (bed, _) = Bed::three_nights();
    let path = snapshot(bed.dir.path(), "x.snapshot", &vectors(9000, 3), b"x");
    let mut other = adding(&path, 4);
    other.name = Some("b".into());
    bed.archive.add(&other).unwrap();
    let root = bed.root();
    let entry = bed.entry("b");
    let archive = Hooked::archive(&root, {
        let root = root.clone();
        move || drop(give_up(&root, "b@2026-01-04T03:00:00Z"))
    });
    let out = bed.dir.path().join("out");
    let err = archive.get(&entry, &out, false).unwrap_err();
    assert_eq!(err.kind(), Kind::NotFound);
    assert!(err.why().contains("gave it up"), "{err}");
    assert!(!out.exists());
}

#[test]
fn a_lock_that_cannot_be_given_back_is_told() {
    let (bed, nights) = Bed::three_nights();
    let stuck = Hooked {
        inner: Local::new(&bed.root()),
        hook: Mutex::new(None),
        stuck: Some(lock::LOCK),
        read: Arc::default(),
    };
    let archive = Archive::new(Box::new(stuck), None);
    let path = snapshot(bed.dir.path(), "x.snapshot", &vectors(20, 3), b"x");
    let added = archive.add(&adding(&path, 4)).unwrap();
    let left = added.lock_left.unwrap();
    assert!(
        left.contains("could not be given back") && left.contains("stuck"),
        "{left}"
    );
    // It is stored all the same, and this process, which lives, still has the lock.
    assert!(bed.get("a@latest").unwrap() == std::fs::read(&path).unwrap());
    assert!(bed.get("a@2026-01-01").unwrap() == nights[0]);
    let by = Forgetting::Nothing;
    assert_eq!(
        bed.archive.forget(&by, false).unwrap_err().kind(),
        Kind::Locked
    );
}
