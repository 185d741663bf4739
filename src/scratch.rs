//! Folders that go away: scratch for unpacking and building, and staging for what is not finished.
//!
//! Keeps true: a folder of ours is marked by its name and locked as long as its process lives, so
//! that the next run can tell what a killed one left, and removes that and nothing else; what is
//! needed is compared with what is free before the first byte is written.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::error::{Error, Kind, Result};
use crate::status;

/// How the names of our folders begin.
pub const PREFIX: &str = ".snapmerge-";
/// The file in each folder whose lock says that its process lives.
const LOCK: &str = "lock";

/// A folder of ours; removed when dropped, or by the next run if this one is killed.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    _lock: File,
}

impl Scratch {
    /// A new folder within `parent`, which is made if it is missing. Folders that killed runs left
    /// in `parent` are removed first.
    pub fn new(parent: &Path) -> Result<Self> {
        fs::create_dir_all(parent)
            .map_err(|err| Error::io("making scratch folder", parent, &err))?;
        remove_stale(parent);
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(parent)
            .map_err(|err| Error::io("making a scratch folder in", parent, &err))?;
        status::folder(folder.path());
        let path = folder.path().join(LOCK);
        let lock =
            File::create_new(&path).map_err(|err| Error::io("making scratch lock", &path, &err))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|err| Error::io("locking", &path, &err.into()))?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A new folder in it.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir(&path).map_err(|err| Error::io("making scratch folder", &path, &err))?;
        Ok(path)
    }
}

/// Removes what killed runs left in `parent`. A folder that cannot be looked at or removed stays:
/// it may be another user's, and is no obstacle.
pub fn remove_stale(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // Without write access there is nothing to remove; with a held lock its process lives.
        // A folder without a lock file was killed before it had one, or is this moment made: its
        // age tells.
        let free = match OpenOptions::new().write(true).open(entry.path().join(LOCK)) {
            Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
            Err(_) => is_old(&entry.path()),
        };
        if free {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_old(folder: &Path) -> bool {
    const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);
    fs::metadata(folder)
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|modified| modified.elapsed().ok())
        .is_some_and(|age| age > MINUTE)
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
    .next("free some room, or point --scratch DIR and -o at other disks"))
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
        let Scratch { folder, _lock } = dead;
        let _ = folder.keep();
        drop(_lock);
        let other = parent.path().join("mine");
        fs::create_dir(&other).unwrap();
        let next = Scratch::new(parent.path()).unwrap();
        assert!(live.path().exists());
        assert!(next.path().exists());
        assert!(other.exists());
        assert!(!dead_path.exists());
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
