//! Files that are read, which nothing may overwrite.
//!
//! Invariants: a file is known by its device and inode, whatever its name: a link to it is the same file.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};

/// Refuses to write `output` if it is one of the files `read`.
pub fn refuse(output: &Path, read: &[PathBuf]) -> Result<()> {
    let real = |path: &Path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    let Some(own) = real(output) else {
        return Ok(());
    };
    match read.iter().any(|path| real(path) == Some(own)) {
        false => Ok(()),
        true => Err(Error::usage(
            format!("writing {}", output.display()),
            "it is read, and would be lost",
        )
        .next("choose another name")),
    }
}
