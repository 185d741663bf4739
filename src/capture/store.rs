//! Captured files put into an archive, where they are not kept as files.
//!
//! Invariants: what is stored has the SHA-256 that its manifest says; stored twice, it is there once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use super::read_manifest;
use crate::archive::{Added, Adding, Archive};
use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::base::sidecar::Sidecar;

/// Stores the captured `file` under `name`.
pub fn store(
    archive: &Archive,
    file: &Path,
    manifest: &Manifest,
    name: &str,
    tags: &[String],
) -> Result<Added> {
    let adding = Adding {
        name: Some(name.to_owned()),
        time: Some(manifest.started),
        tags: tags.to_vec(),
        require_checksum: true,
        is_capture: true,
        ..Adding::of(file)
    };
    archive.add(&adding).map_err(|err| {
        err.within(format!(
            "storing {}, which stays where it is",
            file.display()
        ))
    })
}

/// Removes the captured `file` with what lies beside it.
pub fn discard(file: &Path) -> Result<()> {
    durable::remove(file)?;
    for sidecar in [Sidecar::Checksum, Sidecar::Manifest] {
        durable::remove(&sidecar.of(file))?;
    }
    Ok(())
}

/// Captured files in `folder` that are whole.
pub fn captured_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |err: &std::io::Error| Error::io("listing", folder, err);
    let entries = match std::fs::read_dir(folder) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|err| failed(&err))?,
    };
    let mut files = BTreeSet::new();
    for entry in entries {
        let path = entry.map_err(|err| failed(&err))?.path();
        if path.extension().is_some_and(|ending| ending == "snapshot") && path.is_file() {
            files.insert(path);
        }
    }
    Ok(files.into_iter().collect())
}

/// A file in `folder` that was captured whole from `collection`, with its manifest.
pub fn captured_earlier(folder: &Path, collection: &str) -> Result<Option<(PathBuf, Manifest)>> {
    for file in captured_in(folder)? {
        if !Sidecar::Manifest.of(&file).exists() {
            continue;
        }
        let manifest = read_manifest(&file)?;
        if manifest.collection == collection {
            return Ok(Some((file, manifest)));
        }
    }
    Ok(None)
}
