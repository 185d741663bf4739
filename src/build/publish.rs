//! From a packed and proven file to a snapshot with its name and sidecars.
//!
//! Invariants: the file that was read back is the one that is published: it is not written again, only
//! renamed, or compressed and compared once more.

use std::path::Path;

use crate::base::durable::{self, Staged};
use crate::base::error::{Error, Result};
use crate::base::path::is_gz;
use crate::base::progress::{Progress, Unit};
use crate::base::sidecar::Sidecar;
use crate::verify::Provenance;

/// A snapshot file that lacks nothing but its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The SHA-256 of the file.
    pub sha256: String,
    /// The file's size in bytes.
    pub file_bytes: u64,
    /// True if it is compressed.
    pub compressed: bool,
}

/// Puts the file `packed` beside `staged`, whose content has the SHA-256 `content`, in its place;
/// compressed, if `output` ends in .gz.
pub fn seal(
    staged: &Staged,
    packed: &Path,
    content: &str,
    output: &Path,
    progress: Progress,
) -> Result<Sealed> {
    let compressed = is_gz(output);
    let sha256 = if compressed {
        let _stage = progress.stage("compress", None, Unit::None);
        staged.compress(packed, content)?
    } else {
        staged.take(packed)?;
        content.to_owned()
    };
    let file_bytes = std::fs::metadata(staged.path())
        .map_err(|err| Error::io("looking at", staged.path(), &err))?
        .len();
    Ok(Sealed {
        sha256,
        file_bytes,
        compressed,
    })
}

/// Gives a snapshot its name `output`, with its sidecars.
pub fn publish(
    output: &Path,
    replace: bool,
    staged: Staged,
    sha256: &str,
    provenance: Option<&Provenance>,
) -> Result<()> {
    // Sidecars of another file would make the snapshot look damaged, or made otherwise.
    if replace || output.symlink_metadata().is_err() {
        for old in Sidecar::ALL.map(|sidecar| sidecar.of(output)) {
            durable::remove(&old)?;
        }
    }
    staged.publish(replace)?;
    if let Some(provenance) = provenance {
        let mut bytes = serde_json::to_vec_pretty(provenance)
            .map_err(|err| Error::failed("writing the provenance", err))?;
        bytes.push(b'\n');
        durable::write(&Sidecar::Provenance.of(output), &bytes, true)?;
    }
    durable::write(&Sidecar::Checksum.of(output), sha256.as_bytes(), true)
}
