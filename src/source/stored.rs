//! Records that were copied out of a shard: one after another in a file on the scratch disk, to be read
//! where they lie.
//!
//! Thousands of sources cannot be open at once: the engine keeps some twenty files, a thread and its log for each
//! shard. What was copied takes a place in a file that many share.
//!
//! Invariants: the records are those of the shard, ascending by id, each once; what is read is what was
//! written, or an error; memory is bounded by a block for each reader.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::ordered::{InPlace, Ordered, Pages, Reading, Take};
use crate::base::error::{Error, Result};
use crate::engine::{Columns, Filter, Hit, Search};
use crate::point::{FrameFault, PointId, Record, read_frame};

/// Bytes that are read at once where nothing else is said.
pub(super) const READ_BYTES: usize = 256 << 10;

/// The records of a shard, or those of them that matched a filter, in a file that others share.
#[derive(Debug)]
pub struct StoredRecords {
    pub(super) what: String,
    pub(super) file: Arc<File>,
    /// Where some of them begin, with their ids, ascending.
    pub(super) blocks: Vec<(PointId, u64)>,
    pub(super) start: u64,
    pub(super) end: u64,
    /// Number of records.
    pub(super) count: u64,
    /// Points of the shard.
    pub(super) points: u64,
    /// True if they are those that matched a filter.
    pub(super) is_filtered: bool,
}

impl StoredRecords {
    /// Records as `reading` says, in order; `buffer_bytes` are read at once.
    pub fn records<'a>(
        &'a self,
        reading: Reading<'a>,
        buffer_bytes: usize,
    ) -> Result<impl Iterator<Item = Result<Record>> + use<'a>> {
        self.refuse_other(reading.filter)?;
        let kept = move |record: &Result<Record>| {
            let keeps = |record: &Record| reading.sample.is_none_or(|s| s.keeps(record.id));
            record.as_ref().map_or(true, keeps)
        };
        let cut = move |record: Result<Record>| record.map(|record| reading.columns.of(record));
        Ok(self.from(self.start, buffer_bytes).filter(kept).map(cut))
    }

    /// All records from the place `at` on, where one begins.
    fn from(&self, at: u64, buffer_bytes: usize) -> impl Iterator<Item = Result<Record>> + use<'_> {
        let part = Part {
            file: &self.file,
            at,
            end: self.end,
        };
        let all = usize::try_from(self.end - at).unwrap_or(usize::MAX);
        let mut reader = BufReader::with_capacity(buffer_bytes.min(all), part);
        std::iter::from_fn(move || {
            let frame = read_frame(&mut reader, u64::MAX).map_err(|fault| match fault {
                FrameFault::Io(err) => Error::failed(self.reading(), err),
                FrameFault::Changed(why) => self.changed(why),
            });
            let record = |bytes: Vec<u8>| Record::restore(&bytes).map_err(|why| self.changed(&why));
            frame
                .and_then(|bytes| bytes.map(record).transpose())
                .transpose()
        })
    }

    fn reading(&self) -> String {
        format!("reading {} from scratch", self.what)
    }

    fn changed(&self, why: &str) -> Error {
        let why = format!("it is not what was written ({why}): the disk may be failing");
        Error::failed(self.reading(), why)
    }

    /// Another filter would be a question that they cannot answer.
    fn refuse_other(&self, filter: Option<&Filter>) -> Result<()> {
        match filter.is_some() == self.is_filtered {
            true => Ok(()),
            false => Err(Error::failed(
                self.reading(),
                "its records were copied with another filter: please report this",
            )),
        }
    }
}

impl Ordered for StoredRecords {
    fn what(&self) -> &str {
        &self.what
    }

    fn count(&self, filter: Option<&Filter>) -> Result<u64> {
        match filter {
            None => Ok(self.points),
            Some(_) => self.refuse_other(filter).map(|()| self.count),
        }
    }

    fn may_change(&self) -> bool {
        false
    }

    fn read(&self, reading: Reading<'_>, page_bytes: usize, take: &mut Take<'_>) -> Result<()> {
        let mut pages = Pages::new(page_bytes, take);
        for record in self.records(reading, READ_BYTES)? {
            if !pages.add(record?) {
                break;
            }
        }
        pages.finish();
        Ok(())
    }

    fn get(&self, ids: &[PointId], wanted: Columns) -> Result<Vec<Record>> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let mut found = Vec::new();
        let mut rest = ids.as_slice();
        while let Some(first) = rest.first() {
            let block = self.blocks.partition_point(|(id, _)| id <= first);
            let Some((_, at)) = block.checked_sub(1).and_then(|at| self.blocks.get(at)) else {
                // It is below all that are there.
                rest = rest.get(1..).unwrap_or_default();
                continue;
            };
            let next = self.blocks.get(block).map(|(id, _)| *id);
            let here = next.map_or(rest.len(), |next| rest.partition_point(|id| *id < next));
            let (mine, later) = rest.split_at(here);
            let last = mine.last().copied();
            for record in self.from(*at, READ_BYTES) {
                let record = record?;
                if last.is_none_or(|last| record.id > last) {
                    break;
                }
                if mine.binary_search(&record.id).is_ok() {
                    found.push(wanted.of(record));
                }
            }
            rest = later;
        }
        Ok(found)
    }

    fn nearest(&self, _search: Search<'_>) -> Result<Vec<Hit>> {
        Err(Error::failed(
            format!("searching {}", self.what),
            "its records were copied, and nothing can be searched there: please report this",
        ))
    }

    fn in_place<'a>(
        &'a self,
        reading: Reading<'a>,
        buffer_bytes: usize,
    ) -> Result<Option<InPlace<'a>>> {
        let records = self.records(reading, buffer_bytes)?;
        Ok(Some(Box::new(records)))
    }
}

/// A part of a file, as a stream.
struct Part<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let room = buffer.len().min(left);
        let count = self
            .file
            .read_at(buffer.get_mut(..room).unwrap_or_default(), self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
