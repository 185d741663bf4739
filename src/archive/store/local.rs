//! A folder as a store.
//!
//! Invariants: files get their names when they are whole, are synced when [`Store::sync`] has
//! returned, and are readable by their owner alone (see [`crate::base::durable::BatchWriter`]); staging folders
//! of runs that live are no part of it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::{Listed, RESERVE, Store};
use crate::base::durable::BatchWriter;
use crate::base::error::{Error, Result};
use crate::base::scratch;

/// Room for a record that gives up some 10,000 entries, the head, the lock and what a file system
/// needs to write them, in bytes.
const RESERVE_BYTES: usize = 2 << 20;

/// A local folder.
#[derive(Debug)]
pub struct Local {
    root: PathBuf,
    writer: BatchWriter,
}

impl Local {
    /// The store in the folder `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            writer: BatchWriter::new(root),
        }
    }

    fn open(&self, name: &str) -> Result<Option<(File, PathBuf)>> {
        let path = self.root.join(name);
        match File::open(&path) {
            Ok(file) => Ok(Some((file, path))),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            // A file where a folder should be.
            Err(err) if err.kind() == io::ErrorKind::NotADirectory => Ok(None),
            Err(err) => Err(Error::io("reading", &path, &err)),
        }
    }
}

impl Store for Local {
    fn what(&self) -> String {
        self.root.display().to_string()
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        self.writer.put(name, bytes, false)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.writer.put(name, bytes, true).map(|_| ())
    }

    fn get(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        Ok(self.get_into(name, bytes_max, &mut bytes)?.then_some(bytes))
    }

    fn get_into(&self, name: &str, bytes_max: u64, to: &mut Vec<u8>) -> Result<bool> {
        to.clear();
        let Some((file, path)) = self.open(name)? else {
            return Ok(false);
        };
        let failed = |err: &io::Error| Error::io("reading", &path, err);
        let length = file.metadata().map_err(|err| failed(&err))?.len();
        if length > bytes_max {
            return Err(Error::damaged(
                format!("reading {}", path.display()),
                format!("it has {length} bytes; no more than {bytes_max} are ever written"),
            )
            .next("see what is wrong: snapmerge archive check"));
        }
        // One byte more, so that the end is seen without growing.
        to.reserve(usize::try_from(length).unwrap_or(0).saturating_add(1));
        let mut limited = file.take(bytes_max);
        limited.read_to_end(to).map_err(|err| failed(&err))?;
        Ok(true)
    }

    fn head(&self, name: &str, bytes: u64) -> Result<Option<(Vec<u8>, u64)>> {
        let Some((file, path)) = self.open(name)? else {
            return Ok(None);
        };
        let failed = |err: io::Error| Error::io("reading", &path, &err);
        let size = file.metadata().map_err(failed)?.len();
        let mut head = Vec::new();
        file.take(bytes).read_to_end(&mut head).map_err(failed)?;
        Ok(Some((head, size)))
    }

    fn get_range(&self, name: &str, start: u64, bytes: u64) -> Result<Option<Vec<u8>>> {
        let Some((mut file, path)) = self.open(name)? else {
            return Ok(None);
        };
        let failed = |err: io::Error| Error::io("reading", &path, &err);
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        let mut range = Vec::new();
        file.take(bytes).read_to_end(&mut range).map_err(failed)?;
        Ok(Some(range))
    }

    fn remove(&self, name: &str) -> Result<bool> {
        self.writer.remove(name)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        let mut folders = vec![(self.root.join(folder), folder.to_owned())];
        while let Some((path, name)) = folders.pop() {
            let failed = |err: &io::Error| Error::io("listing", &path, err);
            let entries = match std::fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                Err(err) => return Err(failed(&err)),
            };
            for entry in entries {
                let entry = entry.map_err(|err| failed(&err))?;
                let file = entry.file_name().to_string_lossy().into_owned();
                if file.starts_with(scratch::PREFIX) {
                    continue;
                }
                let name = match name.as_str() {
                    "" => file,
                    name => format!("{name}/{file}"),
                };
                let meta = match entry.metadata() {
                    Ok(meta) => meta,
                    // Removed meanwhile.
                    Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                    Err(err) => return Err(failed(&err)),
                };
                if meta.is_dir() {
                    folders.push((entry.path(), name));
                    continue;
                }
                listed.push(Listed {
                    name,
                    bytes: meta.len(),
                    modified: meta.modified().map_err(|err| failed(&err))?,
                });
            }
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn prune(&self) -> Result<()> {
        self.writer.prune()
    }

    fn sync(&self) -> Result<()> {
        self.writer.sync()
    }

    fn at_once(&self) -> usize {
        // Two that work while others wait for the disk.
        4
    }

    fn take_reserve(&self) -> Result<bool> {
        self.writer.remove(RESERVE)
    }

    fn keep_reserve(&self) -> Result<()> {
        if self.root.join(RESERVE).exists() {
            return Ok(());
        }
        // Zeros take no room where the file system compresses or leaves holes.
        let mut bytes = vec![0; RESERVE_BYTES];
        let seed = blake3::hash(RESERVE.as_bytes());
        blake3::Hasher::new_keyed(seed.as_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        self.writer.put(RESERVE, &bytes, true)?;
        self.writer.sync()
    }
}
