//! Inputs: snapshot files, entries of an archive and live collections, opened as sources.
//!
//! Invariants: an entry of an archive is read only with the SHA-256 that the archive's chain says;
//! copies of entries go away with the [`Inputs`] that hold them.

mod options;
mod servers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use self::options::{InputOptions, LiveInputOptions, members};
pub use self::servers::{Servers, connect};

use self::options::GivenChecksums;
use crate::archive::{EntryRef, SourceArchiveOptions};
use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::base::operation::Context;
use crate::base::parallel::in_parallel;
use crate::base::progress::Unit;
use crate::base::scratch::{Scratch, require_free};
use crate::server::{CollectionAddress, is_address};
use crate::source::{Opening, Source};

/// Files that are looked into at once.
const AT_ONCE: usize = 4;

/// Sources, and copies of those that lie in an archive, for as long as this lives.
pub struct Inputs {
    given: GivenChecksums,
    /// The files and addresses, in the order in which they were given.
    paths: Vec<PathBuf>,
    /// The reference that was given, by the copy that was made of the entry.
    references: BTreeMap<PathBuf, String>,
    _scratch: Option<Scratch>,
}

impl Inputs {
    /// Finds `given`; entries of an archive are copied into a folder in `scratch`.
    pub fn find(given: &[PathBuf], options: &InputOptions, scratch: &Path) -> Result<Self> {
        let mut inputs = Self {
            given: GivenChecksums::new(options)?,
            paths: given.to_vec(),
            references: BTreeMap::new(),
            _scratch: None,
        };
        inputs.fetch(&options.from_archive, scratch)?;
        let files = inputs.paths.iter().map(PathBuf::as_path);
        inputs.given.all_used(files.filter(|path| !is_live(path)))?;
        Ok(inputs)
    }

    /// The files and addresses, in the order in which they were given.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Returns the options with which the file at `path` is to be opened.
    pub fn opening(&self, path: &Path) -> Opening {
        self.given.opening(path)
    }

    /// Returns true if one of them is a live collection.
    pub fn has_live(&self) -> bool {
        self.paths.iter().any(|path| is_live(path))
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
        let files: Vec<&PathBuf> = self.paths.iter().filter(|path| !is_live(path)).collect();
        // Logs are read on the way, each from its beginning to its end.
        let opened = in_parallel(files, AT_ONCE, |path| {
            let opening = Opening {
                trackers: inside,
                log: inside,
                ..self.opening(path)
            };
            let mut source = Source::open(path, &opening, Some(stage.counter()))?;
            source.shown = self.references.get(path).cloned();
            Ok(source)
        })?;
        let mut opened = opened.into_iter();
        let mut sources = Vec::new();
        for path in &self.paths {
            if is_live(path) {
                let address = CollectionAddress::parse(&path.to_string_lossy())?;
                let connection = servers.at(&address.server)?;
                let members = servers.members(&connection)?;
                sources.push(Source::live(&connection, &address, members)?);
            } else {
                sources.extend(opened.next());
            }
        }
        Ok(sources)
    }

    /// Copies every entry of the archive at `place` that is given as `archive:…` into `parent`.
    fn fetch(&mut self, place: &SourceArchiveOptions, parent: &Path) -> Result<()> {
        let reference = |path: &Path| path.to_str().and_then(EntryRef::of_source);
        if !self.paths.iter().any(|path| reference(path).is_some()) {
            return Ok(());
        }
        let archive = place.open()?;
        let chain = archive.chain()?;
        let mut found = Vec::new();
        for path in &mut self.paths {
            if let Some(reference) = reference(path) {
                found.push((path, reference.find(&chain)?));
            }
        }
        let bytes = found.iter().map(|(_, entry)| entry.bytes).sum();
        require_free(parent, bytes, "what is in the archive")?;
        let scratch = Scratch::new(parent)?;
        for (path, entry) in found {
            // Two of one name are told apart by their folders.
            let time = entry.id.get(entry.name.len() + 1..).unwrap_or("entry");
            let folder = scratch.path().join(time);
            std::fs::create_dir_all(&folder)
                .map_err(|err| Error::io("making scratch folder", &folder, &err))?;
            let file = folder.join(format!("{}.snapshot", entry.name));
            if !file.exists() {
                archive.get(&entry, &file, false)?;
                let checksum = folder.join(format!("{}.snapshot.checksum", entry.name));
                durable::write_private(&checksum, entry.sha256.as_bytes(), false)?;
            }
            self.references
                .insert(file.clone(), path.display().to_string());
            *path = file;
        }
        self._scratch = Some(scratch);
        Ok(())
    }
}

/// Returns true if a source is a live collection: an address instead of a path.
pub fn is_live(source: &Path) -> bool {
    is_address(&source.to_string_lossy())
}
