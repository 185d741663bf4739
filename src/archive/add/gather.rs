//! Metadata of a snapshot, gathered before its data is read.
//!
//! Invariants: of a collection in the snapshot of a whole storage its aliases are recorded, which are nowhere else.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::metadata::{named_time, read_sidecar, refuse_word, taken};
use super::{Adding, Stored};
use crate::archive::Archive;
use crate::base::error::{Error, Result};
use crate::base::sidecar::Sidecar;
use crate::format::{FullMember, SnapshotFile, TarExtents};
use crate::source::{Expectation, expected_of, file_name, given_alone, of_provenance};

/// Metadata of a snapshot.
pub(super) struct Gathered {
    pub name: String,
    pub time: DateTime<Utc>,
    pub expected: Vec<Expectation>,
    pub manifest: Option<Value>,
    pub provenance: Option<Value>,
    pub runs: TarExtents,
}

impl Gathered {
    pub fn of(adding: &Adding) -> Result<Self> {
        let name = adding.name.clone();
        let name = name.unwrap_or_else(|| adding.file.source_name());
        refuse_word("name", &name)?;
        for tag in &adding.tags {
            refuse_word("tag", tag)?;
        }
        let runs = TarExtents::of(&adding.file)?;
        let (manifest, provenance, time) = match &adding.file {
            SnapshotFile::Disk(path) => {
                let manifest = read_sidecar(path, Sidecar::Manifest)?;
                let time = match adding.time {
                    Some(time) => time,
                    None => taken(path, manifest.as_ref())?,
                };
                (manifest, read_sidecar(path, Sidecar::Provenance)?, time)
            }
            SnapshotFile::Member(member) => {
                let time = match adding.time.or_else(|| named_time(&member.place.file)) {
                    Some(time) => time,
                    None => taken(&member.full.path, None)?,
                };
                (None, None, time)
            }
            SnapshotFile::Stored(_) => {
                let time = adding.time.unwrap_or_else(Archive::now);
                (None, adding.provenance.clone(), time)
            }
        };
        Ok(Self {
            name,
            time,
            expected: expected(adding)?,
            manifest,
            provenance,
            runs,
        })
    }
}

/// The checksums that a snapshot must have.
pub(super) fn expected(adding: &Adding) -> Result<Vec<Expectation>> {
    let given = adding.sha256.as_deref();
    let is_required = adding.require_checksum;
    match &adding.file {
        // It was given for the file.
        file @ SnapshotFile::Member(_) => expected_of(file, None, given, is_required, "--sha256"),
        file @ SnapshotFile::Disk(_) => expected_of(file, given, None, is_required, "--sha256"),
        SnapshotFile::Stored(_) => {
            let made = adding.provenance.as_ref().and_then(of_provenance);
            Ok(given_alone(given).into_iter().chain(made).collect())
        }
    }
}

/// Manifest of a collection that was stored out of the snapshot of a whole storage, in place of the
/// manifest of a capture.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct MemberManifest {
    /// Name of the snapshot of the whole storage.
    pub full_snapshot: String,
    /// Which snapmerge stored it.
    pub snapmerge: String,
    /// The collection.
    pub collection: String,
    /// When its snapshot was taken, as far as its name or the file's age tells.
    // Its name on disk, where earlier versions wrote it, too.
    #[serde(rename = "begun")]
    pub started: DateTime<Utc>,
    /// The size of its snapshot in bytes.
    pub bytes: u64,
    /// The SHA-256 of its snapshot.
    pub sha256: String,
    /// The BLAKE3 of its snapshot.
    pub blake3: String,
    /// Aliases that pointed to it.
    pub aliases: Vec<String>,
}

impl MemberManifest {
    /// That of `member`, which was `stored`.
    pub(super) fn of(
        member: &FullMember,
        started: DateTime<Utc>,
        stored: Stored<'_>,
    ) -> Result<Value> {
        let manifest = Self {
            full_snapshot: file_name(&member.full.path),
            snapmerge: env!("CARGO_PKG_VERSION").to_owned(),
            collection: member.collection.clone(),
            started,
            bytes: stored.bytes,
            sha256: stored.sha256.to_owned(),
            blake3: stored.blake3.to_owned(),
            aliases: member.aliases(),
        };
        serde_json::to_value(manifest)
            .map_err(|err| Error::failed(format!("describing {}", member.collection), err))
    }
}
