//! The snapshots of a set: entries of an archive, or members of a snapshot of a whole storage.
//!
//! Invariants: every snapshot is read where it lies; one in an archive with the SHA-256 that the archive's chain
//! says, and of a whole storage's the checksum is compared before anything is restored.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::archive::{Entry, EntryPattern, EntryReader};
use crate::base::error::{Error, Result};
use crate::format::SnapshotFile;
use crate::input::Inputs;
use crate::restore::RestoreOptions;
use crate::source::{Checksum, check_full};

/// One snapshot.
#[derive(Debug)]
pub(super) struct Piece {
    /// The archive entry, or the collection in the snapshot of a storage.
    pub source: String,
    /// The name that the collection had.
    pub name: String,
    /// Size of the snapshot in bytes.
    pub bytes: u64,
    /// When it was taken.
    pub time: Option<DateTime<Utc>>,
    /// Points, as its manifest tells.
    pub points: Option<u64>,
    /// Aliases that pointed to it.
    pub aliases: Vec<String>,
    place: Place,
}

/// Place of a snapshot.
#[derive(Debug)]
enum Place {
    Archive(Box<Entry>),
    Full(SnapshotFile),
}

/// Fields read of the manifest of an entry, whoever wrote it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ManifestSummary {
    points: Option<u64>,
    aliases: Vec<String>,
}

/// The snapshots of a set.
pub(super) struct Pieces {
    pub all: Vec<Piece>,
    /// Checksum of the snapshot of a whole storage, if it is one.
    pub checksum: Option<Checksum>,
    archive: Option<EntryReader>,
}

impl Pieces {
    /// Finds what `given` means.
    pub fn find(given: &Path, options: &RestoreOptions) -> Result<Self> {
        let reading = &options.reading;
        if let Some(pattern) = EntryPattern::of_source(given) {
            if let Some(sha256) = reading.sha256.first() {
                return Err(Error::usage(
                    format!("reading --sha256 {sha256}"),
                    "entries of an archive have the SHA-256 that its chain says",
                )
                .next("leave it out"));
            }
            let reader = EntryReader::new(reading.from_archive.open()?);
            let entries = pattern.find(&reader.archive().chain()?)?;
            return Ok(Self {
                all: entries.into_iter().map(of_entry).collect(),
                checksum: None,
                archive: Some(reader),
            });
        }
        let inputs = Inputs::find(&[given.to_owned()], reading)?;
        let mut all = Vec::new();
        let mut full = None;
        for file in inputs.files() {
            let SnapshotFile::Member(member) = file else {
                return Err(Error::usage(
                    format!("restoring {}", given.display()),
                    "it is a snapshot of one collection, and --to names a server alone",
                )
                .next("name the collection to make of it: --to http://HOST:6333/NAME"));
            };
            full = Some((Arc::clone(&member.full), inputs.opening(file).full_sha256));
            all.push(Piece {
                source: member.collection.clone(),
                name: member.collection.clone(),
                bytes: file.bytes()?,
                time: None,
                points: None,
                aliases: member.aliases(),
                place: Place::Full(file.clone()),
            });
        }
        let checksum =
            full.map(|(full, given)| check_full(&full, given.as_deref(), reading.require_checksum));
        Ok(Self {
            all,
            checksum: checksum.transpose()?,
            archive: None,
        })
    }

    /// The snapshot of `piece`.
    pub fn open(&self, piece: &Piece) -> Result<SnapshotFile> {
        match (&piece.place, &self.archive) {
            (Place::Full(file), _) => Ok(file.clone()),
            (Place::Archive(entry), Some(reader)) => {
                Ok(reader.open(entry, &format!("archive:{}", entry.id))?.into())
            }
            (Place::Archive(_), None) => {
                let doing = format!("restoring {}", piece.source);
                Err(Error::failed(doing, "its archive is not open"))
            }
        }
    }
}

fn of_entry(entry: Entry) -> Piece {
    // A manifest of another form tells nothing here.
    let manifest = entry.manifest.as_ref();
    let summary = manifest.and_then(|manifest| ManifestSummary::deserialize(manifest).ok());
    let summary = summary.unwrap_or_default();
    Piece {
        source: entry.id.clone(),
        name: entry.name.clone(),
        bytes: entry.bytes,
        time: Some(entry.time),
        points: summary.points,
        aliases: summary.aliases,
        place: Place::Archive(Box::new(entry)),
    }
}
