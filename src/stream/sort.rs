//! Records of many collections in any order, sorted by collection and identity on the scratch disk.
//!
//! Invariants: memory is bounded, whatever the number of records and collections; every record that goes in
//! comes out once; those of one identity come out in the order in which they went in; a file that is not
//! what was written is an error, never other records.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek as _};
use std::path::{Path, PathBuf};

use super::frames::{Placed, read_placed, write_placed};
use crate::base::error::{Error, Result};
use crate::base::scratch;
use crate::point::{Identity, Record};

/// Bytes of records that are sorted at once, at about.
const RUN_BYTES: usize = 96 << 20;
/// Runs that are merged at once.
const RUNS_MAX: usize = 64;
/// Bytes of a run that are read, or written, at once.
const BUFFER_BYTES: usize = 256 << 10;
const READING: &str = "reading records back from scratch";

/// Place of a record in the order.
type Key = (u32, Identity);

/// Takes records.
#[derive(Debug)]
pub struct Sorter {
    folder: PathBuf,
    records: Vec<Placed>,
    bytes: usize,
    all_bytes: u64,
    run_bytes: usize,
    /// In the order in which their records went in.
    runs: Vec<File>,
    made: u64,
}

impl Sorter {
    /// Sorts in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            records: Vec::new(),
            bytes: 0,
            all_bytes: 0,
            run_bytes: RUN_BYTES,
            runs: Vec::new(),
            made: 0,
        }
    }

    /// Takes in the next record, which goes to the collection `collection`.
    pub fn push(&mut self, collection: u32, record: Record) -> Result<()> {
        let bytes = record.weight_bytes() + size_of::<u32>();
        self.bytes += bytes;
        self.all_bytes += bytes as u64;
        self.records.push((collection, record));
        if self.bytes >= self.run_bytes {
            self.spill()?;
        }
        Ok(())
    }

    /// Bytes of all records that came, at about.
    pub fn bytes(&self) -> u64 {
        self.all_bytes
    }

    /// Gives them back in order.
    pub fn finish(mut self) -> Result<Sorted> {
        if self.runs.is_empty() {
            sort(&mut self.records);
            return Ok(Sorted::InMemory(self.records));
        }
        self.spill()?;
        Ok(Sorted::Merged(self.runs))
    }

    fn spill(&mut self) -> Result<()> {
        let mut records = std::mem::take(&mut self.records);
        self.bytes = 0;
        sort(&mut records);
        let run = self.write(records.into_iter().map(Ok))?;
        self.runs.push(run);
        if self.runs.len() >= RUNS_MAX {
            let runs = std::mem::take(&mut self.runs);
            let merged = self.write(Merge::new(runs)?)?;
            self.runs.push(merged);
        }
        Ok(())
    }

    fn write(&mut self, records: impl Iterator<Item = Result<Placed>>) -> Result<File> {
        self.made += 1;
        let path = self.folder.join(format!("run-{}", self.made));
        let failed = |err: std::io::Error| Error::io("writing", &path, &err);
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, scratch::create_unnamed(&path)?);
        let mut buffer = Vec::new();
        for placed in records {
            write_placed(&placed?, &mut out, &mut buffer, &failed)?;
        }
        let mut file = out.into_inner().map_err(|err| failed(err.into_error()))?;
        file.rewind().map_err(failed)?;
        Ok(file)
    }
}

fn key((collection, record): &Placed) -> Key {
    (*collection, identity(record))
}

/// Identity of a record.
fn identity(record: &Record) -> Identity {
    Identity {
        id: record.id,
        shard_key: record.shard_key.clone(),
    }
}

fn sort(records: &mut [Placed]) {
    records.sort_by(|(collection, record), (other_collection, other)| {
        let order = (collection, record.id, &record.shard_key);
        order.cmp(&(other_collection, other.id, &other.shard_key))
    });
}

/// Records in order.
pub type Records<'a> = Box<dyn Iterator<Item = Result<Placed>> + 'a>;

/// The records in order, to be read as often as is wanted, but once at a time.
#[derive(Debug)]
pub enum Sorted {
    /// There were few.
    InMemory(Vec<Placed>),
    /// They come from runs.
    Merged(Vec<File>),
}

impl Sorted {
    /// The records from the first on.
    pub fn records(&self) -> Result<Records<'_>> {
        Ok(match self {
            Self::InMemory(records) => Box::new(records.iter().cloned().map(Ok)),
            Self::Merged(runs) => {
                let again = |mut run: &File| run.rewind().and_then(|()| run.try_clone());
                let runs: std::io::Result<Vec<File>> = runs.iter().map(again).collect();
                let runs = runs.map_err(|err| Error::failed(READING, err))?;
                Box::new(Merge::new(runs)?)
            }
        })
    }
}

/// Runs that are merged.
pub struct Merge {
    runs: Vec<Run>,
    /// Next record of each run, with the run's number: of equal ones the earlier run's comes first.
    heads: BinaryHeap<Reverse<(Key, usize)>>,
}

struct Run {
    file: BufReader<File>,
    head: Option<Record>,
}

impl Merge {
    fn new(files: Vec<File>) -> Result<Self> {
        let mut merge = Self {
            runs: Vec::new(),
            heads: BinaryHeap::new(),
        };
        for file in files {
            merge.runs.push(Run {
                file: BufReader::with_capacity(BUFFER_BYTES, file),
                head: None,
            });
            merge.advance(merge.runs.len() - 1)?;
        }
        Ok(merge)
    }

    fn advance(&mut self, at: usize) -> Result<()> {
        if let Some(run) = self.runs.get_mut(at)
            && let Some(placed) = run.read()?
        {
            self.heads.push(Reverse((key(&placed), at)));
            run.head = Some(placed.1);
        }
        Ok(())
    }
}

impl Iterator for Merge {
    type Item = Result<Placed>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse(((collection, _), at)) = self.heads.pop()?;
        let record = self.runs.get_mut(at)?.head.take()?;
        Some(self.advance(at).map(|()| (collection, record)))
    }
}

impl Run {
    fn read(&mut self) -> Result<Option<Placed>> {
        let failed = |err: std::io::Error| Error::failed(READING, err);
        let wrong = |why: &str| {
            Error::failed(
                READING,
                format!("they are not what was written ({why}): the disk may be failing"),
            )
        };
        read_placed(&mut self.file, u64::MAX, &failed, &wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::{PointId, Vector};

    fn record(id: u64, mark: f32) -> Record {
        Record {
            vectors: vec![(String::new(), Vector::Dense(vec![mark]))],
            ..Record::bare(PointId::Num(id))
        }
    }

    #[test]
    fn records_come_out_in_order_and_equal_ones_as_they_went_in() {
        // In memory; in a few runs; and in so many that they are merged on the way.
        for run_bytes in [usize::MAX, 20_000, 1] {
            let folder = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(folder.path());
            sorter.run_bytes = run_bytes;
            let mut wanted = Vec::new();
            for n in 0..1000_u64 {
                let (collection, id, mark) = (n % 3, n * 7919 % 250, n as f32);
                let collection = u32::try_from(collection).unwrap();
                sorter.push(collection, record(id, mark)).unwrap();
                wanted.push((collection, id, mark));
            }
            wanted.sort_by_key(|(collection, id, _)| (*collection, *id));
            let sorted = sorter.finish().unwrap();
            let told = |placed: Result<Placed>| {
                let (collection, found) = placed.unwrap();
                let (PointId::Num(id), Some((_, Vector::Dense(values)))) =
                    (found.id, found.vectors.first())
                else {
                    unreachable!("another record");
                };
                (collection, id, values[0])
            };
            // Not all of them at first, then all, twice.
            assert_eq!(sorted.records().unwrap().take(7).count(), 7);
            for _ in 0..2 {
                let found: Vec<_> = sorted.records().unwrap().map(told).collect();
                assert_eq!(found, wanted, "{run_bytes}");
            }
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
