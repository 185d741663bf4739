//! Sources in an archive: got out of it into scratch, and used as files from there on.
//!
//! Keeps true: a source that is named `archive:…` is used only with the SHA-256 that its entry has;
//! what was got goes away with the command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::args::archive::FromArchive;
use crate::archive::{Archive, EntryRef};
use crate::base::error::{Error, Kind, Result};
use crate::base::scratch::{Scratch, require_free};
use crate::source::Source;

/// What was got; it is there as long as this is.
#[derive(Default)]
pub struct Fetched {
    _scratch: Option<Scratch>,
    /// What was typed, by the file that was got for it.
    typed: BTreeMap<PathBuf, String>,
}

impl Fetched {
    /// Has those of `sources` that were got shown as they were typed.
    pub fn name(&self, sources: &mut [Source]) {
        for source in sources {
            source.shown = self.typed.get(&source.snapshot.path).cloned();
        }
    }
}

/// Gets every source of `paths` that begins with `archive:`, and puts the file's path in its place.
/// Files are unpacked in `parent`.
pub fn fetch(
    paths: &mut [PathBuf],
    place: &FromArchive,
    parent: impl FnOnce() -> PathBuf,
) -> Result<Fetched> {
    let reference = |path: &Path| path.to_str().and_then(EntryRef::of_source);
    if !paths.iter().any(|path| reference(path).is_some()) {
        return Ok(Fetched::default());
    }
    let Some(place) = &place.archive else {
        return Err(Error::new(
            Kind::Usage,
            "looking for sources in an archive",
            "nobody said where it is",
        )
        .next("give --archive PLACE, or set SNAPMERGE_ARCHIVE"));
    };
    let archive = Archive::at(place, None)?;
    let chain = archive.chain()?;
    let parent = parent();
    let mut found = Vec::new();
    for path in paths.iter_mut() {
        if let Some(reference) = reference(path) {
            found.push((path, reference.find(&chain)?));
        }
    }
    let bytes = found.iter().map(|(_, entry)| entry.bytes).sum();
    require_free(&parent, bytes, "what is in the archive")?;
    let scratch = Scratch::new(&parent)?;
    let mut typed = BTreeMap::new();
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
            crate::base::durable::write(&checksum, entry.sha256.as_bytes(), false)?;
        }
        typed.insert(file.clone(), path.display().to_string());
        *path = file;
    }
    Ok(Fetched {
        _scratch: Some(scratch),
        typed,
    })
}
