//! Since which version servers can do what.
//!
//! Invariants: a line names the tag in which the feature first is, and where in Qdrant's source it was
//! looked up; a server whose version cannot be read is asked as if it could.

use super::answers::ServerVersion;

/// Something that only some servers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// A member of a cluster restores the snapshot of one shard.
    ShardsRestored,
    /// Telemetry tells which snapshots are being made and restored.
    SnapshotTelemetry,
    /// Names of vectors may not have the characters that names of collections may not have.
    VectorNamesChecked,
}

impl Feature {
    /// The first version that has it.
    pub fn since(self) -> ServerVersion {
        match self {
            // lib/collection/src/collection/snapshots.rs
            Self::ShardsRestored => (1, 14, 0),
            // lib/collection/src/telemetry.rs
            Self::SnapshotTelemetry => (1, 16, 0),
            // lib/common/common/src/validation.rs
            Self::VectorNamesChecked => (1, 18, 0),
        }
    }

    /// Returns true if a server of this version has it; one of unknown version is taken to have it.
    pub fn is_in(self, version: Option<ServerVersion>) -> bool {
        version.is_none_or(|version| version >= self.since())
    }
}
