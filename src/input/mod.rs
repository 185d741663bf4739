//! Inputs: snapshot files, entries of an archive and live collections, opened as sources.
//!
//! Invariants: an entry of an archive is read only with the SHA-256 that the archive's chain says, and where it
//! lies: nothing of it is copied.

mod options;
mod servers;

use std::path::{Path, PathBuf};

pub use self::options::{InputOptions, LiveInputOptions, members};
pub use self::servers::{Servers, connect};

use self::options::GivenChecksums;
use crate::archive::{EntryReader, EntryRef, SourceArchiveOptions};
use crate::base::error::Result;
use crate::base::operation::Context;
use crate::base::parallel::in_parallel;
use crate::base::progress::Unit;
use crate::format::SnapshotFile;
use crate::server::{CollectionAddress, is_address};
use crate::source::{Opening, Source};

/// Files that are looked into at once.
const AT_ONCE: usize = 4;

/// Sources that were found.
pub struct Inputs {
    given: GivenChecksums,
    /// What was given, in its order; of a live collection its address.
    files: Vec<SnapshotFile>,
}

impl Inputs {
    /// Finds `given`; of entries of an archive their recipes are read.
    pub fn find(given: &[PathBuf], options: &InputOptions) -> Result<Self> {
        let inputs = Self {
            given: GivenChecksums::new(options)?,
            files: find(given, &options.from_archive)?,
        };
        let files = inputs.files.iter().filter(|file| !is_live(file));
        inputs.given.all_used(files)?;
        Ok(inputs)
    }

    /// The files, in the order in which they were given; in place of live collections their addresses.
    pub fn files(&self) -> &[SnapshotFile] {
        &self.files
    }

    /// Returns the options with which `file` is to be opened.
    pub fn opening(&self, file: &SnapshotFile) -> Opening {
        self.given.opening(file)
    }

    /// Returns true if one of them is a live collection.
    pub fn has_live(&self) -> bool {
        self.files.iter().any(is_live)
    }

    /// Opens all of them; with `inside`, ids and logs of files are read, too.
    pub fn open(
        &self,
        inside: bool,
        servers: &mut Servers<'_>,
        context: &Context,
    ) -> Result<Vec<Source>> {
        let stage = context
            .progress
            .stage("look into sources", None, Unit::Bytes);
        let files: Vec<&SnapshotFile> = self.files.iter().filter(|file| !is_live(file)).collect();
        // Logs are read on the way, each from its beginning to its end.
        let opened = in_parallel(files, AT_ONCE, |file| {
            let opening = Opening {
                trackers: inside,
                log: inside,
                ..self.opening(file)
            };
            Source::open(file, &opening, Some(stage.counter()))
        })?;
        let mut opened = opened.into_iter();
        let mut sources = Vec::new();
        for file in &self.files {
            if is_live(file) {
                let address = CollectionAddress::parse(&file.to_string())?;
                let connection = servers.at(&address.server)?;
                let members = servers.members(&connection)?;
                sources.push(Source::live(&connection, &address, members)?);
            } else {
                sources.extend(opened.next());
            }
        }
        Ok(sources)
    }
}

/// Finds `given`; those that begin with `archive:` in the archive at `place`.
fn find(given: &[PathBuf], place: &SourceArchiveOptions) -> Result<Vec<SnapshotFile>> {
    let reference = |path: &Path| path.to_str().and_then(EntryRef::of_source);
    if !given.iter().any(|path| reference(path).is_some()) {
        return Ok(given.iter().map(|path| path.as_path().into()).collect());
    }
    let reader = EntryReader::new(place.open()?);
    let chain = reader.archive().chain()?;
    let found = given.iter().map(|path| match reference(path) {
        None => Ok(path.as_path().into()),
        Some(reference) => {
            let entry = reference.find(&chain)?;
            let stored = reader.open(&entry, &path.display().to_string())?;
            Ok(stored.into())
        }
    });
    found.collect()
}

/// Returns true if a source is a live collection: an address instead of a file.
pub fn is_live(source: &SnapshotFile) -> bool {
    source
        .path()
        .is_some_and(|path| is_address(&path.to_string_lossy()))
}
