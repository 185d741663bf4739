//! Files that are read, which nothing may overwrite.
//!
//! Invariants: a file is known by its device and inode, whatever its name: a hard link to it is the same file.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::error::{Error, Result};

/// Files that are read.
#[derive(Debug, Default)]
pub struct ReadFiles {
    known: BTreeSet<(u64, u64)>,
}

impl ReadFiles {
    /// Those at `paths`, as far as they are there.
    pub fn new<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Self {
        let known = paths.into_iter().filter_map(|path| inode(path.as_ref()));
        Self {
            known: known.collect(),
        }
    }

    /// Returns true if the file at `path` is one of them.
    pub fn has(&self, path: &Path) -> bool {
        inode(path).is_some_and(|file| self.known.contains(&file))
    }

    /// Refuses to write `output` if it is one of them.
    pub fn refuse(&self, output: &Path) -> Result<()> {
        match self.has(output) {
            false => Ok(()),
            true => Err(Error::usage(
                format!("writing {}", output.display()),
                "it is read, and would be lost",
            )
            .next("choose another name")),
        }
    }
}

/// Device and inode of the file at `path`, if it is there.
fn inode(path: &Path) -> Option<(u64, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}
