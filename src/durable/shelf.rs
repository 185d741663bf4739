//! Many small files that belong together, put one by one and made lasting all at once.
//!
//! Keeps true: a file is whole or absent under its name, and is readable by its owner alone; what was
//! put or removed stays so once [`Shelf::sync`] has returned.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, RenameFlags};

use super::folder_of;
use crate::error::{Error, Result};
use crate::scratch::Scratch;

/// Many small files under one folder, each whole or absent, readable by their owner alone.
///
/// A file's content is synced before it gets its name; the folders are synced all at once, by
/// [`Self::sync`], before whoever wrote them says anywhere that they are there.
#[derive(Debug)]
pub struct Shelf {
    root: PathBuf,
    staging: Mutex<Option<Scratch>>,
    /// Folders with names that are not synced yet.
    touched: Mutex<BTreeSet<PathBuf>>,
}

impl Shelf {
    /// A shelf over the folder `root`, which is there or is made when something is put.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            staging: Mutex::default(),
            touched: Mutex::default(),
        }
    }

    /// Puts `bytes` under `name`, a relative path. With `replace` over whatever is there; without,
    /// nothing is changed and the answer is false if there is something.
    pub fn put(&self, name: &str, bytes: &[u8], replace: bool) -> Result<bool> {
        let target = self.root.join(name);
        let failed = |err: &io::Error| Error::io("writing", &target, err);
        if !replace && target.symlink_metadata().is_ok() {
            return Ok(false);
        }
        let staged = self.staged()?;
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&staged)
            .map_err(|err| failed(&err))?;
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        drop(file);
        let folder = folder_of(&target);
        let moved = written.and_then(|()| {
            self.make(folder)?;
            let flags = match replace {
                true => RenameFlags::empty(),
                false => RenameFlags::NOREPLACE,
            };
            match rustix::fs::renameat_with(CWD, &staged, CWD, &target, flags) {
                Ok(()) => Ok(true),
                Err(rustix::io::Errno::EXIST) => Ok(false),
                // Where there is no such rename, a link does not replace either.
                Err(rustix::io::Errno::INVAL) if !replace => {
                    match std::fs::hard_link(&staged, &target) {
                        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                        linked => linked.map(|()| true),
                    }
                }
                Err(err) => Err(err.into()),
            }
        });
        if !matches!(moved, Ok(true)) || staged.exists() {
            // It goes with the staging folder in any case.
            let _ = std::fs::remove_file(&staged);
        }
        let put = moved.map_err(|err| failed(&err))?;
        lock(&self.touched).insert(folder.to_owned());
        Ok(put)
    }

    /// Removes `name`; false if it is not there.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let target = self.root.join(name);
        match std::fs::remove_file(&target) {
            Ok(()) => {
                lock(&self.touched).insert(folder_of(&target).to_owned());
                Ok(true)
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(err) => Err(Error::io("removing", &target, &err)),
        }
    }

    /// Syncs every folder in which a name came or went.
    pub fn sync(&self) -> Result<()> {
        let folders = std::mem::take(&mut *lock(&self.touched));
        for folder in folders {
            let failed = |err: &io::Error| Error::io("syncing folder", &folder, err);
            let open = File::open(&folder).map_err(|err| failed(&err))?;
            open.sync_all().map_err(|err| failed(&err))?;
        }
        Ok(())
    }

    /// A new name in the staging folder.
    fn staged(&self) -> Result<PathBuf> {
        let mut staging = lock(&self.staging);
        if staging.is_none() {
            *staging = Some(Scratch::new(&self.root)?);
        }
        let folder = staging.as_ref().map(|s| s.path().to_owned());
        Ok(folder
            .unwrap_or_default()
            .join(uuid::Uuid::new_v4().simple().to_string()))
    }

    /// Makes `folder` and those above it up to the root; their names are to be synced too.
    fn make(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        if let Some(parent) = folder.parent()
            && folder != self.root
        {
            self.make(parent)?;
            lock(&self.touched).insert(parent.to_owned());
        }
        match std::fs::create_dir(folder) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => Err(err),
            _ => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shelf_puts_whole_files_and_replaces_only_when_asked() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("archive");
        let shelf = Shelf::new(&root);
        assert!(shelf.put("a/b/c", b"first", false).unwrap());
        assert!(!shelf.put("a/b/c", b"second", false).unwrap());
        assert_eq!(std::fs::read(root.join("a/b/c")).unwrap(), b"first");
        assert!(shelf.put("a/b/c", b"third", true).unwrap());
        assert_eq!(std::fs::read(root.join("a/b/c")).unwrap(), b"third");
        let mode = std::fs::metadata(root.join("a/b/c")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        shelf.sync().unwrap();
        assert!(shelf.remove("a/b/c").unwrap());
        assert!(!shelf.remove("a/b/c").unwrap());
        shelf.sync().unwrap();
        drop(shelf);
        let left: Vec<_> = std::fs::read_dir(&root).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
