//! Folders that go away: scratch for unpacking and building, and staging for what is not finished.
//!
//! Invariants: a folder of ours is marked by its name and locked as long as its process lives, so
//! that the next run can tell what a killed one left, and removes that and nothing else; what is
//! needed is compared with what is free before the first byte is written.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use crate::base::error::{Error, Kind, Result};
use crate::base::own;
use crate::base::status;

/// Prefix of the names of our folders.
pub const PREFIX: &str = ".snapmerge-";
/// The file in each folder whose lock says that its process lives.
const LOCK: &str = "lock";

/// Tries to make a folder: another run may take one for a leftover before it is locked.
const TRIES_MAX: usize = 10;
/// A disk with less than this free is full for whoever writes page by page, in bytes.
const FULL_BYTES: u64 = 1 << 20;

/// The way out of a full disk.
pub const MORE_ROOM: &str = "free some room, or point --scratch DIR and -o at other disks";

/// A folder of ours; removed when dropped, or by the next run if this one is killed.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    _lock: File,
}

impl Scratch {
    /// A new folder within `parent`, which is made if it is missing. Folders that killed runs left
    /// in `parent` are removed first.
    pub fn new(parent: &Path) -> Result<Self> {
        own::parents(parent)?;
        remove_stale(parent);
        for _ in 0..TRIES_MAX {
            let folder = parent.join(format!("{PREFIX}{}", Uuid::new_v4().simple()));
            // Told before it is there: this process may be killed at any moment.
            status::folder(&folder);
            match lock(&folder) {
                Ok(Some(lock)) => {
                    return Ok(Self {
                        folder,
                        _lock: lock,
                    });
                }
                Ok(None) => {}
                Err(err) => {
                    let _ = remove(&folder);
                    let failed = Error::io("making a scratch folder in", parent, &err);
                    return Err(match err.kind() {
                        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                            failed.next(
                                "choose a folder that you may write to, with -o and --scratch",
                            )
                        }
                        _ => failed,
                    });
                }
            }
        }
        Err(Error::failed(
            format!("making a scratch folder in {}", parent.display()),
            "something removes it again and again",
        ))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// A new folder in it.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        let made = DirBuilder::new().mode(own::FOLDER_MODE).create(&path);
        made.map_err(|err| Error::io("making scratch folder", &path, &err))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder that cannot be removed now is removed by the next run.
        let _ = remove(&self.folder);
    }
}

/// A folder of ours with a name of its own, which outlives its process until it is removed, so that
/// the next run goes on from what is in it.
#[derive(Debug)]
pub struct KeptFolder {
    folder: PathBuf,
    _lock: File,
}

impl KeptFolder {
    /// Opens the folder `name` in `parent`, which is there, or makes it. None if another process
    /// has it open.
    pub fn open(parent: &Path, name: &str) -> Result<Option<Self>> {
        let folder = parent.join(name);
        for _ in 0..TRIES_MAX {
            let failed = |err: &io::Error| Error::io("opening working folder", &folder, err);
            own::folder(&folder)?;
            let path = folder.join(LOCK);
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false);
            let lock = match own::open(&path, &options) {
                Ok(lock) => lock,
                // Another process removes it at this moment.
                Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                Err(err) => return Err(failed(&err)),
            };
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(err) => return Err(failed(&err.into())),
            }
            // A lock on a file that is not there any more locks nothing.
            let held = lock.metadata().map_err(|err| failed(&err))?.ino();
            if fs::metadata(&path).is_ok_and(|meta| meta.ino() == held) {
                return Ok(Some(Self {
                    folder,
                    _lock: lock,
                }));
            }
        }
        Err(Error::failed(
            format!("opening working folder {}", folder.display()),
            "something removes it again and again",
        ))
    }

    /// The folders in `parent` whose names begin with `prefix`.
    pub fn names(parent: &Path, prefix: &str) -> Result<Vec<String>> {
        let failed = |err: &io::Error| Error::io("listing", parent, err);
        let mut names = Vec::new();
        for entry in fs::read_dir(parent).map_err(|err| failed(&err))? {
            let name = entry.map_err(|err| failed(&err))?.file_name();
            if let Some(name) = name.to_str()
                && name.starts_with(prefix)
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Removes it and what is in it.
    pub fn remove(self) -> Result<()> {
        remove(&self.folder).map_err(|err| Error::io("removing", &self.folder, &err))
    }
}

/// Makes `folder` and the lock in it; none if another run took it for a leftover and removed it.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    DirBuilder::new().mode(own::FOLDER_MODE).create(folder)?;
    let path = folder.join(LOCK);
    let lock = match File::create_new(&path) {
        Ok(lock) => lock,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err),
    };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(err) => return Err(err.into()),
    }
    // A lock on a file that is not there any more locks nothing.
    let held = lock.metadata()?.ino();
    let there = fs::metadata(&path).is_ok_and(|meta| meta.ino() == held);
    Ok(there.then_some(lock))
}

/// Removes a folder of ours and what is in it, its lock at the end: whatever is left when this is
/// interrupted is known for a leftover.
pub fn remove(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir_all(folder)
}

/// Removes a folder in scratch that nothing needs any more, so that its room is free.
pub fn remove_folder(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder)
        .map_err(|err| Error::io("removing scratch folder", folder, &err))
}

/// Moves a folder within scratch.
pub fn move_folder(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|err| Error::io("moving scratch folder", from, &err))
}

/// Creates a new file in a scratch folder.
pub fn create(path: &Path) -> Result<File> {
    File::create_new(path).map_err(|err| Error::io("creating scratch file", path, &err))
}

/// Creates a new file in a scratch folder and takes its name away, so that it is gone as soon as nobody
/// has it open.
pub fn create_unnamed(path: &Path) -> Result<File> {
    let failed = |err: io::Error| Error::io("creating scratch file", path, &err);
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true);
    let file = options.open(path).map_err(failed)?;
    fs::remove_file(path).map_err(failed)?;
    Ok(file)
}

/// Removes what killed runs left in `parent`. A folder that cannot be looked at or removed stays, and
/// so does whatever is not ours: another user's, or a link that somebody put there.
pub fn remove_stale(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with(PREFIX) || !own::is_folder(&entry.path()) {
            continue;
        }
        // Without write access there is nothing to remove; with a held lock its process lives.
        match own::open(&entry.path().join(LOCK), OpenOptions::new().write(true)) {
            Ok(lock) => {
                if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                    let _ = remove(&entry.path());
                }
            }
            // The process of that folder was killed before it had a lock, or makes it at this moment and will
            // see that its folder is gone. One that is not empty is none of ours.
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                let _ = fs::remove_dir(entry.path());
            }
            Err(_) => {}
        }
    }
}

/// Returns true if less than 1 MiB is free on the disk of `folder`; false if that cannot be told.
pub fn is_full(folder: &Path) -> bool {
    free_bytes(folder).is_ok_and(|free| free < FULL_BYTES)
}

/// Bytes that an unprivileged user can still write to the disk that `path` (or the nearest folder
/// above it that exists) lies on.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let mut existing = path;
    while !existing.exists() {
        match existing.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => existing = parent,
            _ => {
                existing = Path::new(".");
                break;
            }
        }
    }
    let stat = rustix::fs::statvfs(existing)
        .map_err(|err| Error::io("asking for the free space of", existing, &err.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// An error of [`Kind::NoSpace`] if the disk of `folder` has less than `bytes` free; `purpose` says
/// what they are for.
pub fn require_free(folder: &Path, bytes: u64, purpose: &str) -> Result<()> {
    let free = free_bytes(folder)?;
    if free >= bytes {
        return Ok(());
    }
    let size = |bytes| humansize::format_size(bytes, humansize::BINARY);
    Err(Error::new(
        Kind::NoSpace,
        format!("checking the disk of {}", folder.display()),
        format!(
            "{purpose} needs up to {} there, {} are free",
            size(bytes),
            size(free)
        ),
    )
    .next(MORE_ROOM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_runs_folder_is_removed_and_a_live_ones_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let live = Scratch::new(parent.path()).unwrap();
        let dead = Scratch::new(parent.path()).unwrap();
        let dead_path = dead.path().to_owned();
        // As SIGKILL leaves it: the folder there, the lock gone with its process.
        flock(&dead._lock, FlockOperation::Unlock).unwrap();
        std::mem::forget(dead);
        let halfway = parent.path().join(format!("{PREFIX}halfway"));
        DirBuilder::new().mode(0o700).create(&halfway).unwrap();
        let other = parent.path().join("mine");
        fs::create_dir(&other).unwrap();
        let next = Scratch::new(parent.path()).unwrap();
        assert!(live.path().exists());
        assert!(next.path().exists());
        assert!(other.exists());
        assert!(!dead_path.exists());
        assert!(!halfway.exists());
        let live_path = live.path().to_owned();
        drop(live);
        assert!(!live_path.exists());
    }

    #[test]
    fn what_somebody_planted_is_neither_emptied_nor_used() {
        let parent = tempfile::tempdir().unwrap();
        let victim = tempfile::tempdir().unwrap();
        fs::write(victim.path().join(LOCK), b"").unwrap();
        fs::write(victim.path().join("precious"), b"x").unwrap();
        for name in [".work-a", ".snapmerge-planted"] {
            std::os::unix::fs::symlink(victim.path(), parent.path().join(name)).unwrap();
        }
        // Of ours, but with a lock that is another file.
        let odd = parent.path().join(format!("{PREFIX}odd"));
        DirBuilder::new().mode(0o700).create(&odd).unwrap();
        std::os::unix::fs::symlink(victim.path().join("precious"), odd.join(LOCK)).unwrap();
        drop(Scratch::new(parent.path()).unwrap());
        let err = KeptFolder::open(parent.path(), ".work-a").unwrap_err();
        assert_eq!(err.kind(), Kind::Usage);
        let left: Vec<_> = fs::read_dir(victim.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(odd.exists());
    }

    #[test]
    fn a_kept_folder_is_for_one_at_a_time_and_stays_until_removed() {
        let parent = tempfile::tempdir().unwrap();
        let kept = KeptFolder::open(parent.path(), ".work-a").unwrap().unwrap();
        fs::write(kept.path().join("state"), b"half").unwrap();
        assert!(
            KeptFolder::open(parent.path(), ".work-a")
                .unwrap()
                .is_none()
        );
        drop(kept);
        let names = KeptFolder::names(parent.path(), ".work-").unwrap();
        assert_eq!(names, [".work-a"]);
        let again = KeptFolder::open(parent.path(), ".work-a").unwrap().unwrap();
        assert_eq!(fs::read(again.path().join("state")).unwrap(), b"half");
        again.remove().unwrap();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_need_beyond_the_disk_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let free = free_bytes(parent.path()).unwrap();
        assert!(free > 0);
        require_free(parent.path(), 0, "nothing").unwrap();
        let err = require_free(parent.path(), u64::MAX, "the whole world").unwrap_err();
        assert_eq!(err.kind(), Kind::NoSpace);
        assert!(err.why().contains("the whole world"), "{err}");
    }
}
