//! Names and forms of files, read off their paths.
//!
//! Invariants: nothing here looks at the disk.

use std::path::Path;

/// The folder that the file at `path` lies in.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Returns true if the name says that the file is compressed by gzip.
pub fn is_gz(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "gz")
}
