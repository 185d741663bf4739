//! The snapshots of a set: entries of an archive, or members of a snapshot of a whole storage.
//!
//! Invariants: a member of a snapshot of a whole storage is a file of its own only while it is restored; a
//! snapshot in an archive is read where it lies, with the SHA-256 that the archive's chain says.

use std::path::Path;

use chrono::{DateTime, Utc};

use crate::archive::{Entry, EntryPattern, EntryReader};
use crate::base::error::{Error, Result};
use crate::base::scratch::{Scratch, require_free};
use crate::capture::Manifest;
use crate::format::{FullSnapshot, SnapshotFile};
use crate::input::Inputs;
use crate::restore::RestoreOptions;
use crate::source::{Checksum, check_file};

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
    entry: Option<Entry>,
}

/// Place of the snapshots.
enum Place {
    Archive(EntryReader),
    Full(FullSnapshot),
}

/// The snapshots of a set.
pub(super) struct Pieces {
    pub all: Vec<Piece>,
    /// Checksum of the snapshot of a whole storage, if it is one.
    pub checksum: Option<Checksum>,
    place: Place,
}

impl Pieces {
    /// Finds what `given` means.
    pub fn find(given: &Path, options: &RestoreOptions) -> Result<Self> {
        let reading = &options.reading;
        if let Some(pattern) = given.to_str().and_then(EntryPattern::of_source) {
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
                place: Place::Archive(reader),
            });
        }
        let full = FullSnapshot::open(given)?.ok_or_else(|| {
            Error::usage(
                format!("restoring {}", given.display()),
                "it is a snapshot of one collection, and --to names a server alone",
            )
            .next("name the collection to make of it: --to http://HOST:6333/NAME")
        })?;
        let inputs = Inputs::find(&[given.to_owned()], reading)?;
        let file = SnapshotFile::from(given);
        let checksum = check_file(&file, &inputs.opening(&file))?;
        let all = full.collections.iter().map(|(name, bytes)| Piece {
            source: name.clone(),
            name: name.clone(),
            bytes: *bytes,
            time: None,
            points: None,
            aliases: full
                .aliases
                .iter()
                .filter(|(_, collection)| *collection == name)
                .map(|(alias, _)| alias.clone())
                .collect(),
            entry: None,
        });
        Ok(Self {
            all: all.collect(),
            checksum: Some(checksum),
            place: Place::Full(full),
        })
    }

    /// Refuses to restore those of `sizes` bytes at once if `scratch` has no room for what is written there.
    pub fn require_room(&self, scratch: &Path, sizes: impl Iterator<Item = u64>) -> Result<()> {
        match self.place {
            Place::Archive(_) => Ok(()),
            Place::Full(_) => {
                require_free(scratch, sizes.sum(), "snapshots that are restored at once")
            }
        }
    }

    /// The snapshot of `piece`; that of a member of another is taken out into `scratch`.
    pub fn open(&self, piece: &Piece, scratch: &Scratch) -> Result<SnapshotFile> {
        const NAME: &str = "collection.snapshot";
        match (&self.place, &piece.entry) {
            (Place::Archive(reader), Some(entry)) => {
                Ok(reader.open(entry, &format!("archive:{}", entry.id))?.into())
            }
            (Place::Full(full), _) => {
                full.extract(&piece.name, scratch.path(), NAME)?;
                Ok(scratch.path().join(NAME).as_path().into())
            }
            (Place::Archive(_), None) => {
                let doing = format!("restoring {}", piece.source);
                Err(Error::failed(doing, "it is no entry of the archive"))
            }
        }
    }
}

fn of_entry(entry: Entry) -> Piece {
    let manifest = entry.manifest.clone();
    let manifest: Option<Manifest> = manifest.and_then(|text| serde_json::from_value(text).ok());
    Piece {
        source: entry.id.clone(),
        name: entry.name.clone(),
        bytes: entry.bytes,
        time: Some(entry.time),
        points: manifest.as_ref().and_then(|manifest| manifest.points),
        aliases: manifest
            .map(|manifest| manifest.aliases)
            .unwrap_or_default(),
        entry: Some(entry),
    }
}
