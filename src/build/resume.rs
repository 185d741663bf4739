//! Finished snapshots of a run that makes several, kept until all have their names, so that an interrupted run is
//! resumed.
//!
//! Invariants: a snapshot of an earlier run is used only if it has the very points, config and shards that
//! this run would give it, by their digests, and its file is the one that was proven, by its SHA-256; two
//! runs do not write the same outputs at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::collection::{Finished, Snapshot};
use super::{Pattern, Shape};
use crate::base::durable;
use crate::base::error::{Error, Kind, Result};
use crate::base::path::folder_of;
use crate::base::scratch::KeptFolder;
use crate::format::hash_file;
use crate::point::Digest;

/// Begin of the name of a folder that is kept; what begins otherwise is removed by the next run.
const PREFIX: &str = ".building-";
/// The file that says what is kept.
const LIST: &str = "parts.json";

/// The snapshots that are kept, in a folder beside the outputs.
#[derive(Debug)]
pub(super) struct ResumeState {
    /// None when it is removed.
    folder: Option<KeptFolder>,
    parts: BTreeMap<String, FinishedPart>,
}

/// A snapshot that was built and proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FinishedPart {
    /// Name of the file in the folder, until it is published.
    file: String,
    /// Hash of config, payload indexes and shards.
    shape: String,
    #[serde(flatten)]
    pub finished: Finished,
}

impl ResumeState {
    /// Opens the folder for outputs of `pattern`.
    ///
    /// # Errors
    /// [`Kind::Locked`] if another run writes outputs of the same pattern.
    pub fn open(pattern: &Pattern) -> Result<Self> {
        let parent = folder_of(&pattern.path("x")).to_owned();
        // However the folder is spelled.
        let failed = |err: std::io::Error| Error::io("looking at", &parent, &err);
        let real = std::fs::canonicalize(&parent).map_err(failed)?;
        let text = pattern.to_string();
        let name = text
            .rsplit_once('/')
            .map_or(text.as_str(), |(_, name)| name);
        let place = real.join(name);
        let id = blake3::hash(place.as_os_str().as_encoded_bytes()).to_hex();
        let name = format!("{PREFIX}{}", id.get(..16).unwrap_or_default());
        let Some(folder) = KeptFolder::open(&parent, &name)? else {
            return Err(Error::new(
                Kind::Locked,
                format!("writing {pattern}"),
                format!(
                    "another run writes it, and has {} open",
                    parent.join(name).display()
                ),
            )
            .next("wait for it, or choose another pattern"));
        };
        let list = folder.path().join(LIST);
        let parts = match std::fs::read(&list) {
            // What another version wrote is made anew.
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(err) => return Err(Error::io("reading", &list, &err)),
        };
        Ok(Self {
            folder: Some(folder),
            parts,
        })
    }

    /// Returns true if there are snapshots of an earlier run.
    pub fn has_some(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Returns true if `output` is the snapshot of `value` that an earlier run made and gave its name.
    pub fn has_published(&self, value: &str, output: &Path) -> Result<bool> {
        match self.parts.get(value) {
            Some(part) => part.is_at(output),
            None => Ok(false),
        }
    }

    /// The snapshot of `value` if it has the shape and the points that are wanted, and where it is: in the
    /// folder, or under its name `output`.
    pub fn part(
        &self,
        value: &str,
        shape: Shape<'_>,
        digest: &Digest,
        output: &Path,
    ) -> Result<Option<(FinishedPart, PathBuf)>> {
        let Some(part) = self.parts.get(value) else {
            return Ok(None);
        };
        if part.finished.digest != *digest || part.shape != shape_hash(shape) {
            return Ok(None);
        }
        for path in [self.path(&part.file), output.to_owned()] {
            if part.is_at(&path)? {
                return Ok(Some((part.clone(), path)));
            }
        }
        Ok(None)
    }

    /// Keeps the snapshot of `value`, of this `shape`.
    pub fn add(&mut self, value: &str, shape: Shape<'_>, snapshot: &mut Snapshot) -> Result<()> {
        let name = blake3::hash(value.as_bytes()).to_hex();
        let file = format!("{}.part", name.get(..32).unwrap_or_default());
        snapshot.put_aside(self.path(&file))?;
        let part = FinishedPart {
            file,
            shape: shape_hash(shape),
            finished: snapshot.finished.clone(),
        };
        self.parts.insert(value.to_owned(), part);
        durable::write_private_json(&self.path(LIST), &self.parts)
    }

    /// Bytes of the snapshots of an earlier run that are there, by `outputs`.
    pub fn bytes(&self, outputs: &BTreeMap<&str, &Path>) -> u64 {
        let is_there = |(value, part): &(&String, &FinishedPart)| {
            let output = outputs.get(value.as_str());
            self.path(&part.file).exists() || output.is_some_and(|output| output.exists())
        };
        let there = self.parts.iter().filter(is_there);
        there.map(|(_, part)| part.finished.file_bytes).sum()
    }

    /// Hint for a run that ends before all snapshots have their names; none if nothing is kept.
    pub fn next_step(&self) -> Option<String> {
        let count = self.parts.len();
        let folder = self.folder.as_ref().filter(|_| count > 0)?;
        Some(format!(
            "run the same again to resume: {count} finished snapshots are kept in {}",
            folder.path().display()
        ))
    }

    /// Removes the folder, when all snapshots have their names.
    pub fn remove(mut self) {
        if let Some(folder) = self.folder.take() {
            // All is done; what cannot be removed now, the next run of the same outputs removes.
            let _ = folder.remove();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        let folder = self.folder.as_ref().map(KeptFolder::path);
        folder.unwrap_or(Path::new("")).join(name)
    }
}

impl Drop for ResumeState {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take()
            && self.parts.is_empty()
            && KeptFolder::names(folder.path(), "").is_ok_and(|names| names.len() <= 1)
        {
            // A folder that cannot be removed now is used, and removed, by the next run.
            let _ = folder.remove();
        }
    }
}

impl FinishedPart {
    /// Returns true if the file at `path` is it.
    fn is_at(&self, path: &Path) -> Result<bool> {
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_file() && meta.len() == self.finished.file_bytes => {
                Ok(hash_file(path)? == self.finished.sha256)
            }
            Ok(_) => Ok(false),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(err) => Err(Error::io("looking at", path, &err)),
        }
    }
}

/// Hash of everything of a snapshot but its points.
fn shape_hash(shape: Shape<'_>) -> String {
    let said = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "config": shape.config.raw(),
        "payload": shape.payload.to_json(),
        "keys": shape.layout.keys,
        "shards": shape.layout.shards,
    });
    blake3::hash(said.to_string().as_bytes())
        .to_hex()
        .to_string()
}
