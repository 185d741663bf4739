//! Captured files put into an archive, where they are not kept as files.
//!
//! Invariants: what is stored has the SHA-256 that its manifest says; stored twice, it is there once.

use std::path::Path;

use super::manifest::Manifest;
use crate::archive::{Added, Adding, Archive};
use crate::base::durable;
use crate::base::error::Result;
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
        path: file.to_owned(),
        name: Some(name.to_owned()),
        time: Some(manifest.begun),
        tags: tags.to_vec(),
        require_checksum: true,
        ..Adding::default()
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
