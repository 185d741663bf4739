//! One collection, from records to a snapshot that waits for its name.
//!
//! Invariants: the snapshot was read back and has the records that came, bit by bit, and nothing else.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BuiltShard, Parts, Shape, Target, finish, pack, publish, seal, write};
use crate::base::Workspace;
use crate::base::durable::{self, Staged};
use crate::base::error::Result;
use crate::base::progress::{Progress, Unit};
use crate::base::scratch::{self, Scratch};
use crate::base::sidecar::Sidecar;
use crate::point::{Digest, Record};
use crate::verify::{Expected, Packed, read_back};

/// Builds collections, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Builder<'a> {
    /// Folder in which scratch is made.
    pub scratch: &'a Path,
    /// Display of progress.
    pub progress: Progress,
}

/// A snapshot that was built and proven, and has no name yet.
#[derive(Debug)]
pub struct Snapshot {
    staged: Staged,
    /// Place of the file until it is published.
    waits: Waits,
    /// Path that it is to have.
    pub output: PathBuf,
    /// Content and hash.
    pub finished: Finished,
}

/// Content of a snapshot that was built and proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Digest of its points.
    pub digest: Digest,
    /// Shards.
    pub shards: Vec<BuiltShard>,
    /// The SHA-256 of the file.
    pub sha256: String,
    /// The file's size in bytes.
    pub file_bytes: u64,
}

/// Place of a snapshot that is not published.
#[derive(Debug)]
enum Waits {
    /// Where it was built.
    Staged,
    /// Somewhere else.
    Aside(PathBuf),
    /// It has its name already.
    Published,
}

impl Builder<'_> {
    /// Builds the collection of `shape` out of the records that `next` gives, about `points` of them,
    /// each identity once, ascending by id; `staged` is to become `output`.
    pub fn build(
        self,
        shape: Shape<'_>,
        points: u64,
        next: &mut dyn FnMut() -> Result<Option<Record>>,
        staged: Staged,
        output: &Path,
    ) -> Result<Snapshot> {
        let scratch = Scratch::new(self.scratch)?;
        let folder = scratch.folder("collection")?;
        let parts = Parts::of(shape.config, points, shape.layout.shards.len())?;
        let stage = self.progress.stage("write", Some(points), Unit::Points);
        let (parts, digest) = write(shape, parts, &folder, |write| {
            let (mut digest, mut buffer) = (Digest::default(), Vec::new());
            while let Some(record) = next()? {
                digest.add(&record, &mut buffer);
                stage.add(1);
                write(record)?;
            }
            Ok(digest)
        })?;
        drop(stage);
        let stage = self.progress.stage("index", None, Unit::None);
        let shards = finish(&parts, shape.config)?;
        drop(stage);

        let (packed, file) = staged.create_beside("packed")?;
        let site = Workspace {
            scratch: &scratch,
            progress: self.progress,
        };
        let target = Target {
            file,
            path: packed.clone(),
        };
        let written = pack(shape, &parts, target, site)?;
        scratch::remove_folder(&folder)?;
        let syncing = durable::sync_in_background(&packed)?;
        let expected = Expected {
            digest: Some(digest.clone()),
            shards: (shards.iter())
                .map(|shard| (shard.number, shard.points))
                .collect(),
            layout: shape.layout,
            config: shape.config.raw(),
        };
        let proof = read_back(
            Packed::File(&packed, written),
            &expected,
            &scratch,
            self.progress,
        )?;
        syncing.wait()?;
        let sealed = seal(&staged, &packed, &proof.sha256, output, self.progress)?;
        Ok(Snapshot {
            staged,
            waits: Waits::Staged,
            output: output.to_owned(),
            finished: Finished {
                digest,
                shards,
                sha256: sealed.sha256,
                file_bytes: sealed.file_bytes,
            },
        })
    }
}

impl Snapshot {
    /// One that an earlier run finished, whose file is at `path`.
    pub(super) fn of_finished(
        finished: Finished,
        path: PathBuf,
        staged: Staged,
        output: &Path,
    ) -> Self {
        Self {
            staged,
            waits: match path == output {
                true => Waits::Published,
                false => Waits::Aside(path),
            },
            output: output.to_owned(),
            finished,
        }
    }

    /// Moves its file to `path`.
    pub(super) fn put_aside(&mut self, path: PathBuf) -> Result<()> {
        self.staged.put_aside(&path)?;
        self.waits = Waits::Aside(path);
        Ok(())
    }

    /// Gives it its name, with its checksum beside it.
    pub fn publish(self, replace: bool) -> Result<()> {
        match &self.waits {
            Waits::Staged => {}
            Waits::Aside(path) => self.staged.take(path)?,
            // The run may have been killed before it wrote the checksum.
            Waits::Published => {
                let checksum = Sidecar::Checksum.of(&self.output);
                return durable::write(&checksum, self.finished.sha256.as_bytes(), true);
            }
        }
        publish(
            &self.output,
            replace,
            self.staged,
            &self.finished.sha256,
            None,
        )
    }
}

/// A built snapshot in a report.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PartReport {
    /// Value of the field that the points have in common; empty if there is none.
    pub value: String,
    /// The file.
    pub file: String,
    /// The file's size in bytes.
    pub file_bytes: u64,
    /// The file's SHA-256, also in FILE.checksum.
    pub sha256: String,
    /// Number of points, read back from the file.
    pub points: u64,
    /// Digest of them.
    pub digest: String,
    /// Number of segments.
    pub segments: u64,
    /// Vectors that lie in an index; approximate, as Qdrant's own.
    pub indexed_vectors: u64,
    /// True if an interrupted run had finished it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
}

impl PartReport {
    /// Of the snapshot of the points with `value`.
    pub fn new(value: String, built: &Snapshot, resumed: bool) -> Self {
        let Finished {
            digest,
            shards,
            sha256,
            file_bytes,
        } = &built.finished;
        Self {
            value,
            resumed,
            file: built.output.display().to_string(),
            file_bytes: *file_bytes,
            sha256: sha256.clone(),
            points: digest.points(),
            digest: digest.to_string(),
            segments: shards.iter().map(|shard| shard.segments).sum(),
            indexed_vectors: shards.iter().map(|shard| shard.indexed_vectors).sum(),
        }
    }
}
