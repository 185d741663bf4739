//! The snapshots of a set: entries of an archive, or members of a snapshot of a whole storage.
//!
//! Invariants: a snapshot is there as a file only while it is restored; one of an archive has the SHA-256
//! that the archive's chain says.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::archive::{Archive, Entry, EntryPattern};
use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::base::scratch::Scratch;
use crate::base::sidecar::Sidecar;
use crate::capture::Manifest;
use crate::format::FullSnapshot;
use crate::input::Inputs;
use crate::restore::RestoreOptions;
use crate::source::{Checksum, Opening, check_file};

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
    Archive(Box<Archive>),
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
            let archive = reading.from_archive.open()?;
            let entries = pattern.find(&archive.chain()?)?;
            return Ok(Self {
                all: entries.into_iter().map(of_entry).collect(),
                checksum: None,
                place: Place::Archive(Box::new(archive)),
            });
        }
        let full = FullSnapshot::open(given)?.ok_or_else(|| {
            Error::usage(
                format!("restoring {}", given.display()),
                "it is a snapshot of one collection, and --to names a server alone",
            )
            .next("name the collection to make of it: --to http://HOST:6333/NAME")
        })?;
        let inputs = Inputs::find(&[given.to_owned()], reading, &options.parent())?;
        let checksum = check_file(given, &inputs.opening(given))?;
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

    /// Puts the snapshot of `piece` together in `scratch`; says how it is to be opened.
    pub fn fetch(&self, piece: &Piece, scratch: &Scratch) -> Result<(PathBuf, Opening)> {
        const NAME: &str = "collection.snapshot";
        let path = scratch.path().join(NAME);
        let mut opening = Opening::default();
        match (&self.place, &piece.entry) {
            (Place::Archive(archive), Some(entry)) => {
                archive.get(entry, &path, false)?;
                opening.sha256 = Some(entry.sha256.clone());
                if let Some(manifest) = &entry.manifest {
                    let beside = Sidecar::Manifest.of(&path);
                    durable::write_private(&beside, manifest.to_string().as_bytes(), false)?;
                }
            }
            (Place::Full(full), _) => full.extract(&piece.name, scratch.path(), NAME)?,
            (Place::Archive(_), None) => {
                let doing = format!("restoring {}", piece.source);
                return Err(Error::failed(doing, "it is no entry of the archive"));
            }
        }
        Ok((path, opening))
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
