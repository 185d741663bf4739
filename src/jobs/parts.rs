//! A part in the folder of its job.
//!
//! Invariants: it is the part of one job, one index and one shard; its members lie in its file one after the other,
//! and the file has nothing else.

use std::io::{BufRead as _, BufReader, Read as _};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::chunks::{ChunkCache, ChunkedFile, Chunks};
use super::folder::{JobPlan, PARTS, TaskOutput, prefix, refuse_attempt};
use super::index::Stage;
use crate::archive::Store;
use crate::base::error::{Error, Result};
use crate::format::SnapshotFile;
use crate::merge::{MadePart, Parts};
use crate::stream::Conflict;

/// Longest line of a file of conflicts that is read, in bytes: of a thousand sources it has some hundred kilobytes.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// The document of a part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredPart {
    /// Name of the job.
    pub job: String,
    /// Index of its task.
    pub index: u32,
    /// Name of the attempt that made it.
    pub attempt: String,
    /// When it was made.
    pub made: DateTime<Utc>,
    /// Wall-clock time that it took, in seconds.
    pub seconds: f64,
    /// Members of the tar, as chunks.
    pub members: Chunks,
    /// Conflicts as JSON lines, as chunks.
    pub conflicts: Chunks,
    /// Counts and digests.
    pub part: MadePart,
}

/// Kind of the chunks of members.
pub const MEMBERS: &str = "members";
/// Kind of the chunks of conflicts.
pub const CONFLICTS: &str = "conflicts";

impl TaskOutput for StoredPart {
    const FOLDER: &str = PARTS;
    const STAGE: Stage = Stage::Shard;

    fn index(&self) -> u32 {
        self.index
    }

    fn refuse_other(&self, plan: &JobPlan, index: u32) -> Result<(), String> {
        let shard = plan.tasks.get(index as usize).map(|task| task.shard);
        if self.job != plan.job {
            return Err(format!("it belongs to the job {}", self.job));
        }
        if self.index != index {
            return Err(format!("it is the part of task {}", self.index));
        }
        if Some(self.part.shard) != shard {
            return Err(format!("it is shard {} of the master", self.part.shard));
        }
        refuse_attempt(&self.attempt)?;
        if let Some(fault) = self.members.fault().or(self.conflicts.fault()) {
            return Err(fault.into());
        }
        let mut end = 0;
        for member in &self.part.members {
            if member.start != end {
                return Err("its members do not lie one after the other".into());
            }
            end = member.start.saturating_add(member.bytes);
        }
        match end == self.members.bytes() {
            true => Ok(()),
            false => Err("its members are not all of its bytes".into()),
        }
    }

    fn check(&self, store: &dyn Store) -> Result<()> {
        self.members.check(store, &self.prefix(MEMBERS))?;
        self.conflicts.check(store, &self.prefix(CONFLICTS))
    }

    fn remove(&self, store: &dyn Store) -> Result<()> {
        self.members.remove(store, &self.prefix(MEMBERS))?;
        self.conflicts.remove(store, &self.prefix(CONFLICTS))
    }

    fn bytes(&self) -> u64 {
        self.members.bytes() + self.conflicts.bytes()
    }
}

impl StoredPart {
    fn prefix(&self, kind: &str) -> String {
        prefix(PARTS, self.index, &self.attempt, kind)
    }
}

/// The parts of a job, to be joined.
pub struct StoredParts {
    parts: Vec<PartFiles>,
}

/// A part as two files that are read where their chunks lie.
struct PartFiles {
    members: SnapshotFile,
    conflicts: SnapshotFile,
}

impl StoredParts {
    /// `parts` that lie in `store`.
    pub fn new(store: &Arc<dyn Store>, parts: &[StoredPart]) -> Self {
        let cache = Arc::new(ChunkCache::new(Arc::clone(store)));
        let open = |part: &StoredPart, kind, chunks| {
            let reference = format!("part {} of {}", part.index, store.what());
            ChunkedFile::open(&cache, chunks, part.prefix(kind), reference)
        };
        let parts = parts.iter().map(|part| PartFiles {
            members: open(part, MEMBERS, &part.members),
            conflicts: open(part, CONFLICTS, &part.conflicts),
        });
        Self {
            parts: parts.collect(),
        }
    }

    fn part(&self, part: usize) -> Result<&PartFiles> {
        let part = self.parts.get(part);
        part.ok_or_else(|| Error::failed("joining the parts", "there is no such part"))
    }
}

impl Parts for StoredParts {
    fn members(&self, part: usize) -> Result<&SnapshotFile> {
        Ok(&self.part(part)?.members)
    }

    fn conflicts(&self, part: usize) -> Result<Box<dyn Iterator<Item = Result<Conflict>> + '_>> {
        let doing = "reading the conflicts of a part";
        let reader = self.part(part)?.conflicts.reader();
        let mut lines = BufReader::new(reader.map_err(|err| Error::reading(doing, &err))?);
        let mut line = Vec::new();
        let next = move || {
            line.clear();
            let read = lines
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line);
            match read {
                Err(err) => Some(Err(Error::reading(doing, &err))),
                Ok(0) => None,
                Ok(_) => {
                    let read = serde_json::from_slice(&line);
                    Some(read.map_err(|err| Error::damaged(doing, err)))
                }
            }
        };
        Ok(Box::new(std::iter::from_fn(next)))
    }
}
