//! A run in the folder of its job.
//!
//! Invariants: it is the run of one job and of one shard of a source; no more of it is read than a range, by requests for
//! ranges of its chunks; whoever reads a range compares it with its SHA-256.

use std::io::{self, Read};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::chunks::{self, CHUNK_BYTES};
use super::folder::{JobPlan, RUNS, TaskOutput, prefix, refuse_attempt};
use super::index::Stage;
use crate::archive::Store;
use crate::base::error::{Error, Result};
use crate::base::parallel::in_parallel;
use crate::merge::{MadeRun, RunRange, StoredRuns};

/// Kind of the chunks of a run.
pub const RUN: &str = "run";
/// Bytes that are read at once where a run is compared.
const CHECK_BYTES: usize = 1 << 20;

/// The document of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredRun {
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
    /// Ranges and counts.
    pub run: MadeRun,
}

impl TaskOutput for StoredRun {
    const FOLDER: &str = RUNS;
    const STAGE: Stage = Stage::Map;

    fn index(&self) -> u32 {
        self.index
    }

    fn refuse_other(&self, plan: &JobPlan, index: u32) -> Result<(), String> {
        let Some(planned) = plan.runs.get(index as usize) else {
            return Err("there is no such task".into());
        };
        if self.job != plan.job {
            return Err(format!("it belongs to the job {}", self.job));
        }
        if self.index != index {
            return Err(format!("it is the run of task {}", self.index));
        }
        refuse_attempt(&self.attempt)?;
        let shards = plan.tasks.iter().map(|task| task.shard);
        self.run.fault(planned.of, shards).map_or(Ok(()), Err)
    }

    fn check(&self, store: &dyn Store) -> Result<()> {
        in_parallel(&self.run.ranges, store.at_once(), |range| {
            let mut reader = RangeReader::new(self, store, range, CHECK_BYTES);
            let mut sha256 = Sha256::new();
            while reader.position < reader.end {
                reader.fetch()?;
                sha256.update(&reader.buffer);
            }
            match hex::encode(sha256.finalize()) == range.sha256 {
                true => Ok(()),
                false => Err(damaged(
                    store,
                    &self.prefix(),
                    format!(
                        "the SHA-256 of its range for shard {} is another",
                        range.shard
                    ),
                )),
            }
        })
        .map(drop)
    }

    fn remove(&self, store: &dyn Store) -> Result<()> {
        let count = self.bytes().div_ceil(CHUNK_BYTES);
        chunks::remove(store, &self.prefix(), count)
    }

    fn bytes(&self) -> u64 {
        self.run.bytes()
    }
}

impl StoredRun {
    fn prefix(&self) -> String {
        prefix(RUNS, self.index, &self.attempt, RUN)
    }
}

fn damaged(store: &dyn Store, name: &str, why: impl std::fmt::Display) -> Error {
    Error::damaged(format!("reading {name} of {}", store.what()), why)
        .next("remove the run and run its task again: snapmerge job rm JOB --run INDEX")
}

/// The runs of a job.
pub struct RunsInStore<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// The runs by their index.
    pub runs: &'a [StoredRun],
}

impl StoredRuns for RunsInStore<'_> {
    fn range(
        &self,
        run: usize,
        range: &RunRange,
        buffer_bytes: usize,
    ) -> Box<dyn Read + Send + '_> {
        match self.runs.get(run) {
            None => Box::new(io::empty()),
            Some(run) => Box::new(RangeReader::new(run, self.store, range, buffer_bytes)),
        }
    }
}

/// Reads a range of a run.
struct RangeReader<'a> {
    store: &'a dyn Store,
    prefix: String,
    position: u64,
    end: u64,
    buffer_bytes: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were given.
    given: usize,
}

impl<'a> RangeReader<'a> {
    fn new(run: &StoredRun, store: &'a dyn Store, range: &RunRange, buffer_bytes: usize) -> Self {
        Self {
            store,
            prefix: run.prefix(),
            position: range.start,
            end: range.start.saturating_add(range.bytes),
            buffer_bytes: (buffer_bytes as u64).max(1),
            buffer: Vec::new(),
            given: 0,
        }
    }

    /// Reads on, within one chunk.
    fn fetch(&mut self) -> Result<()> {
        let name = chunks::name(&self.prefix, self.position / CHUNK_BYTES);
        let start = self.position % CHUNK_BYTES;
        let bytes = (self.end - self.position)
            .min(self.buffer_bytes)
            .min(CHUNK_BYTES - start);
        let Some(buffer) = self.store.get_range(&name, start, bytes)? else {
            return Err(damaged(self.store, &name, "it is not there"));
        };
        if buffer.len() as u64 != bytes {
            return Err(damaged(
                self.store,
                &name,
                "it is shorter than what was written",
            ));
        }
        self.buffer = buffer;
        self.given = 0;
        self.position += bytes;
        Ok(())
    }
}

impl Read for RangeReader<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.given == self.buffer.len() && self.position < self.end {
            self.fetch().map_err(Error::into_io)?;
        }
        let mut rest = self.buffer.get(self.given..).unwrap_or_default();
        let count = rest.read(to)?;
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::chunks::Chunks;
    use super::*;
    use crate::archive::Local;
    use crate::base::error::Kind;
    use crate::merge::SourceShard;

    #[test]
    fn ranges_are_read_across_chunks_and_what_was_changed_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let store = Local::new(&folder.path().join("store"));
        let path = folder.path().join("run");
        let sizes = [CHUNK_BYTES - 7, 0, CHUNK_BYTES + 20, 13];
        let content: Vec<u8> = (0..sizes.iter().sum::<u64>())
            .map(|at| (at * at % 251) as u8)
            .collect();
        std::fs::write(&path, &content).unwrap();
        let mut start = 0;
        let mut ranges = Vec::new();
        for (shard, bytes) in (0..).zip(sizes) {
            let range = &content[start as usize..(start + bytes) as usize];
            ranges.push(RunRange {
                shard,
                start,
                bytes,
                points: 0,
                longest_bytes: 0,
                sha256: hex::encode(Sha256::digest(range)),
            });
            start += bytes;
        }
        let run = StoredRun {
            job: "job-a".into(),
            index: 3,
            attempt: "ab".into(),
            made: Utc::now(),
            seconds: 0.0,
            run: MadeRun {
                of: SourceShard {
                    source: 1,
                    shard: 2,
                },
                points: 0,
                filtered: 0,
                ranges,
                refused: BTreeSet::new(),
                warnings: Vec::new(),
            },
        };
        Chunks::put_unread(&store, &run.prefix(), &path).unwrap();
        run.check(&store).unwrap();
        let runs = std::slice::from_ref(&run);
        let in_store = RunsInStore {
            store: &store,
            runs,
        };
        for range in &run.run.ranges {
            let from = range.start as usize;
            let expected = &content[from..from + range.bytes as usize];
            for buffer_bytes in [1_000_003, usize::MAX] {
                let mut found = Vec::new();
                let mut reader = in_store.range(0, range, buffer_bytes);
                reader.read_to_end(&mut found).unwrap();
                assert!(found == expected, "{}", range.shard);
            }
        }
        let second = folder.path().join("store/runs/3/ab/run-00000001");
        let whole = std::fs::read(&second).unwrap();
        let mut flipped = whole.clone();
        flipped[99] ^= 1;
        for bytes in [flipped.as_slice(), &whole[..whole.len() - 1]] {
            std::fs::write(&second, bytes).unwrap();
            assert_eq!(run.check(&store).unwrap_err().kind(), Kind::Damaged);
        }
        std::fs::remove_file(&second).unwrap();
        assert_eq!(run.check(&store).unwrap_err().kind(), Kind::Damaged);
        run.remove(&store).unwrap();
        assert!(store.list("").unwrap().is_empty());
    }
}
