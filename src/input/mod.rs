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
use crate::archive::{
    Chain, ENTRY_PREFIX, EntryPattern, EntryReader, EntryRef, SourceArchiveOptions,
};
use crate::base::error::{Error, Result};
use crate::base::operation::Context;
use crate::base::parallel::in_parallel;
use crate::base::progress::Unit;
use crate::format::SnapshotFile;
use crate::server::{CollectionAddress, is_address};
use crate::source::{Opening, Source, file_of, files_of};

/// Files that are looked into at once.
const AT_ONCE: usize = 4;

/// Sources that were found.
pub struct Inputs {
    given: GivenChecksums,
    /// Files in the order given; of a live collection its address.
    files: Vec<SnapshotFile>,
}

impl Inputs {
    /// Finds `given`; of entries of an archive their recipes are read. `archive:PATTERN` is the newest entry of
    /// each name, in the order of the names; the snapshot of a whole storage is every collection in it.
    pub fn find(given: &[PathBuf], options: &InputOptions) -> Result<Self> {
        Self::find_all(&[], given, options)
    }

    /// Finds `given`, each of which is to be one snapshot.
    pub fn find_each(given: &[PathBuf], options: &InputOptions) -> Result<Self> {
        Self::find_all(given, &[], options)
    }

    /// Finds `one`, which is to be one snapshot, and after it the `others`.
    pub fn find_against(one: &Path, others: &[PathBuf], options: &InputOptions) -> Result<Self> {
        Self::find_all(&[one.to_owned()], others, options)
    }

    /// Finds the one snapshot that is `given`, and the options with which it is to be opened.
    pub fn find_one(given: &Path, options: &InputOptions) -> Result<(SnapshotFile, Opening)> {
        let inputs = Self::find_each(&[given.to_owned()], options)?;
        match inputs.files.first() {
            Some(file) => Ok((file.clone(), inputs.opening(file))),
            None => Err(Error::usage("opening the snapshot", "there is none")),
        }
    }

    fn find_all(single: &[PathBuf], several: &[PathBuf], options: &InputOptions) -> Result<Self> {
        let mut finder = Finder::new(&options.from_archive);
        let mut files = Vec::new();
        let single = single.iter().map(|path| (path, true));
        let several = several.iter().map(|path| (path, false));
        for (path, is_single) in single.chain(several) {
            match finder.entries(path, is_single)? {
                Some(entries) => files.extend(entries),
                None if is_single => files.push(file_of(path)?),
                None => files.extend(files_of(path)?),
            }
        }
        let inputs = Self {
            given: GivenChecksums::new(options)?,
            files,
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

/// Finds entries of an archive, which is opened for the first.
struct Finder<'a> {
    place: &'a SourceArchiveOptions,
    opened: Option<(EntryReader, Chain)>,
}

impl<'a> Finder<'a> {
    fn new(place: &'a SourceArchiveOptions) -> Self {
        Self {
            place,
            opened: None,
        }
    }

    /// The entries that `given` means, of which there is one if it `is_single`; none if it does not begin with
    /// `archive:`.
    fn entries(&mut self, given: &Path, is_single: bool) -> Result<Option<Vec<SnapshotFile>>> {
        let Some(reference) = EntryRef::of_source(given) else {
            return Ok(None);
        };
        let (reader, chain) = match &mut self.opened {
            Some(opened) => opened,
            none => {
                let reader = EntryReader::new(self.place.open()?);
                let chain = reader.archive().chain()?;
                none.insert((reader, chain))
            }
        };
        let pattern = EntryPattern::of_sources(given).filter(|_| !is_single);
        let Some(pattern) = pattern else {
            let entry = reference.find(chain)?;
            let stored = reader.open(&entry, &given.display().to_string())?;
            return Ok(Some(vec![stored.into()]));
        };
        let entries = pattern.find(chain)?;
        // Among its own sources a master would decide conflicts by what is older.
        if let Some(master) = entries.iter().find(|entry| entry.provenance.is_some())
            && entries.len() > 1
        {
            return Err(Error::usage(
                format!("looking for {}", given.display()),
                format!("{} is a master that was merged of others", master.id),
            )
            .next("choose a pattern that leaves it out, or give the entries one by one"));
        }
        let entries = entries.into_iter().map(|entry| {
            let stored = reader.open(&entry, &format!("{ENTRY_PREFIX}{}", entry.id))?;
            Ok(stored.into())
        });
        entries.collect::<Result<_>>().map(Some)
    }
}

/// Returns true if a source is a live collection: an address instead of a file.
pub fn is_live(source: &SnapshotFile) -> bool {
    source
        .path()
        .is_some_and(|path| is_address(&path.to_string_lossy()))
}
