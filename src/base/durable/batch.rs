//! Many small files that belong together, put one by one and made lasting all at once.
//!
//! Invariants: a file is whole or absent under its name as long as the machine runs, and is readable
//! by its owner alone; what was put or removed stays so, whatever happens to the machine, once
//! [`BatchWriter::sync`] has returned.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::OFlags;

use super::{folder_of, place};
use crate::base::error::{Error, Result};
use crate::base::own;
use crate::base::parallel::{in_parallel, lock};
use crate::base::scratch::{self, Scratch};

/// Minimum size in bytes of a write that bypasses the page cache: a smaller one is not worth another call.
const DIRECT_BYTES_MIN: usize = 256 << 10;
/// Syncs at once: they then wait for the same flush of the disk, and not each for one of its own.
const SYNCS: usize = 8;
/// Files that wait to be synced.
const UNSYNCED_MAX: usize = 1024;

/// Many small files under one folder, each whole or absent, readable by their owner alone.
///
/// Small files are synced before they get their names. Large ones are written past the page cache,
/// which costs no copy and leaves the cache to whoever serves from this machine; they are synced,
/// as the folders are, all at once by [`Self::sync`], before whoever wrote them says anywhere that
/// they are there.
#[derive(Debug)]
pub struct BatchWriter {
    root: PathBuf,
    staging: Mutex<Option<Scratch>>,
    /// Folders with names that are not synced yet.
    touched: Mutex<BTreeSet<PathBuf>>,
    /// Files that are not synced yet.
    unsynced: Mutex<Vec<PathBuf>>,
}

impl BatchWriter {
    /// A writer over the folder `root`, which is there or is made when something is put.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            staging: Mutex::default(),
            touched: Mutex::default(),
            unsynced: Mutex::default(),
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
        let written = write(&staged, bytes);
        let folder = folder_of(&target);
        let synced = written.as_ref().is_ok_and(|synced| *synced);
        let moved = written.and_then(|_| {
            self.make(folder)?;
            place(&staged, &target, replace)
        });
        if !matches!(moved, Ok(true)) || staged.exists() {
            // It goes with the staging folder in any case.
            let _ = std::fs::remove_file(&staged);
        }
        let put = moved.map_err(|err| failed(&err))?;
        lock(&self.touched).insert(folder.to_owned());
        if put && !synced {
            let mut unsynced = lock(&self.unsynced);
            unsynced.push(target);
            if unsynced.len() >= UNSYNCED_MAX {
                let files = std::mem::take(&mut *unsynced);
                drop(unsynced);
                sync_files(&files)?;
            }
        }
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

    /// Removes what dead runs left staged, and every folder that nothing is in, up to the root.
    pub fn prune(&self) -> Result<()> {
        *lock(&self.staging) = None;
        if self.root.is_dir() {
            scratch::remove_stale(&self.root);
        }
        lock(&self.touched).clear();
        prune(&self.root).map_err(|err| Error::io("removing empty folders in", &self.root, &err))
    }

    /// Syncs every file that is not yet, and every folder in which a name came or went.
    pub fn sync(&self) -> Result<()> {
        sync_files(&std::mem::take(&mut *lock(&self.unsynced)))?;
        let folders = std::mem::take(&mut *lock(&self.touched));
        in_parallel(folders, SYNCS, |folder| {
            File::open(&folder)
                .and_then(|open| open.sync_all())
                .map_err(|err| Error::io("syncing folder", &folder, &err))
        })?;
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
        match DirBuilder::new().mode(own::FOLDER_MODE).create(folder) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => Err(err),
            _ => Ok(()),
        }
    }
}

/// Removes `folder` and those in it as far as nothing is in them.
fn prune(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        // Another run stages there.
        let is_staging = entry
            .file_name()
            .to_string_lossy()
            .starts_with(scratch::PREFIX);
        if entry.file_type()?.is_dir() && !is_staging {
            prune(&entry.path())?;
        }
    }
    use io::ErrorKind::{DirectoryNotEmpty, NotFound};
    match std::fs::remove_dir(folder) {
        Err(err) if matches!(err.kind(), DirectoryNotEmpty | NotFound) => Ok(()),
        removed => removed,
    }
}

/// Writes a new file; whether it is synced.
fn write(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let mut options = File::options();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(own::FILE_MODE);
    let is_even = bytes.as_ptr().align_offset(Block::ALIGN) == 0;
    if is_even && bytes.len() >= DIRECT_BYTES_MIN {
        match write_direct(path, bytes, &options) {
            // This file system has no such way, or wants other blocks.
            Err(err) if err.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {}
            written => return written.map(|()| false),
        }
    }
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_data().map(|()| true)
}

/// Writes a new file past the page cache.
fn write_direct(path: &Path, bytes: &[u8], options: &std::fs::OpenOptions) -> io::Result<()> {
    let flag = i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?;
    let mut file = options.clone().custom_flags(flag).open(path)?;
    let (blocks, rest) = bytes.split_at(bytes.len() / Block::ALIGN * Block::ALIGN);
    file.write_all(blocks)?;
    if !rest.is_empty() {
        // A page of the cache would be one more that every file's sync has to write.
        let mut last = Block::default();
        last.begin(Block::ALIGN);
        last.push(rest);
        last.filled(Block::ALIGN - rest.len());
        file.write_all(last.bytes())?;
        file.set_len(bytes.len() as u64)?;
    }
    Ok(())
}

fn sync_files(files: &[PathBuf]) -> Result<()> {
    in_parallel(files, SYNCS, |path| {
        match File::open(path).and_then(|file| file.sync_data()) {
            // Taken back before it was ever needed.
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced.map_err(|err| Error::io("syncing", path, &err)),
        }
    })?;
    Ok(())
}

/// Bytes that lie in memory as a disk takes them without copying.
#[derive(Debug, Default)]
pub struct Block {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Block {
    /// Addresses are multiples of this, in bytes.
    const ALIGN: usize = 4096;

    /// Empties it, and makes room for `bytes` bytes.
    pub fn begin(&mut self, bytes: usize) {
        if self.memory.len() < bytes.saturating_add(Self::ALIGN) {
            self.memory = vec![0; bytes.saturating_add(Self::ALIGN)];
            // If the alignment cannot be told, it is written as any other.
            self.start = match self.memory.as_ptr().align_offset(Self::ALIGN) {
                start if start < Self::ALIGN => start,
                _ => 0,
            };
        }
        self.bytes = 0;
    }

    /// Adds `bytes`, for which there is room.
    pub fn push(&mut self, bytes: &[u8]) {
        if let Some(room) = self.room().get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
            self.bytes += bytes.len();
        }
    }

    /// The room after what is in it, to be written to.
    pub fn room(&mut self) -> &mut [u8] {
        let from = self.start + self.bytes;
        self.memory.get_mut(from..).unwrap_or_default()
    }

    /// `bytes` bytes were written to its room.
    pub fn filled(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Returns the bytes in it.
    pub fn bytes(&self) -> &[u8] {
        let end = self.start + self.bytes;
        self.memory.get(self.start..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_is_written_whole_too() {
        let folder = tempfile::tempdir().unwrap();
        let writer = BatchWriter::new(folder.path());
        for bytes in [
            DIRECT_BYTES_MIN,
            DIRECT_BYTES_MIN + 1,
            3 * DIRECT_BYTES_MIN + 4095,
        ] {
            let content: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
            let mut block = Block::default();
            block.begin(10);
            block.begin(bytes);
            block.push(&content);
            assert_eq!(block.bytes(), content);
            let name = format!("even/{bytes}");
            assert!(writer.put(&name, block.bytes(), false).unwrap());
            assert!(!writer.put(&name, block.bytes(), false).unwrap());
            assert_eq!(std::fs::read(folder.path().join(&name)).unwrap(), content);
            let name = format!("odd/{bytes}");
            assert!(writer.put(&name, &content, false).unwrap());
            assert_eq!(std::fs::read(folder.path().join(&name)).unwrap(), content);
        }
        assert!(writer.put("even/gone", &[0; 10], false).unwrap());
        // One that was taken back before it was synced is no error.
        let mut block = Block::default();
        block.begin(DIRECT_BYTES_MIN);
        block.filled(DIRECT_BYTES_MIN);
        assert!(writer.put("even/back", block.bytes(), false).unwrap());
        assert!(writer.remove("even/back").unwrap());
        writer.sync().unwrap();
    }

    #[test]
    fn a_shelf_puts_whole_files_and_replaces_only_when_asked() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("archive");
        let writer = BatchWriter::new(&root);
        assert!(writer.put("a/b/c", b"first", false).unwrap());
        assert!(!writer.put("a/b/c", b"second", false).unwrap());
        assert_eq!(std::fs::read(root.join("a/b/c")).unwrap(), b"first");
        assert!(writer.put("a/b/c", b"third", true).unwrap());
        assert_eq!(std::fs::read(root.join("a/b/c")).unwrap(), b"third");
        let mode = std::fs::metadata(root.join("a/b/c")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        for folder in ["", "a", "a/b"] {
            let mode = std::fs::metadata(root.join(folder)).unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o700, "{folder}");
        }
        writer.sync().unwrap();
        assert!(writer.remove("a/b/c").unwrap());
        assert!(!writer.remove("a/b/c").unwrap());
        writer.sync().unwrap();
        drop(writer);
        let left: Vec<_> = std::fs::read_dir(&root).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        // Empty folders go; what is in one stays.
        let writer = BatchWriter::new(&root);
        assert!(writer.put("d/e", b"x", false).unwrap());
        let other = Scratch::new(&root).unwrap();
        writer.prune().unwrap();
        assert!(!root.join("a").exists() && root.join("d/e").exists());
        assert!(writer.remove("d/e").unwrap());
        writer.prune().unwrap();
        assert!(!root.join("d").exists() && other.path().exists());
        drop(other);
        writer.prune().unwrap();
        writer.prune().unwrap();
        assert!(!root.exists());
    }
}
