//! Small files that lie beside a snapshot and say something of it.
//!
//! Invariants: their names are made here and nowhere else.

use std::path::{Path, PathBuf};

/// A file beside a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sidecar {
    /// The SHA-256 in hexadecimal digits, as Qdrant writes it.
    Checksum,
    /// Place and time of the capture.
    Manifest,
    /// Provenance of a master.
    Provenance,
}

impl Sidecar {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Checksum, Self::Manifest, Self::Provenance];

    /// The end of its name.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Checksum => ".checksum",
            Self::Manifest => ".manifest.json",
            Self::Provenance => ".provenance.json",
        }
    }

    /// Returns the path of this sidecar of `snapshot`.
    pub fn of(self, snapshot: &Path) -> PathBuf {
        let mut name = snapshot.as_os_str().to_owned();
        name.push(self.ending());
        PathBuf::from(name)
    }
}
