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
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::ordered::{InPlace, Ordered, Reading, Take};
use crate::base::error::{Error, Result};
use crate::base::parallel::lock;
use crate::base::scratch;
use crate::engine::{Columns, Filter, Hit, Search};
use crate::point::{FrameFault, PointId, Record, read_frame, write_frame};

/// Bytes of records from one whose place is known to the next.
const BLOCK_BYTES: u64 = 256 << 10;
/// Bytes that are read at once where nothing else is said.
const READ_BYTES: usize = 256 << 10;
/// Bytes of records that are written at once.
const WRITE_BYTES: usize = 256 << 10;

/// Files that records are copied into, each by one writer at a time.
#[derive(Debug, Default)]
pub struct RecordFiles {
    idle: Mutex<Vec<RecordFile>>,
    /// Number of files that were made.
    made: AtomicU64,
}

/// A file without a name, and the bytes that it has.
#[derive(Debug)]
struct RecordFile {
    file: Arc<File>,
    bytes: u64,
}

impl RecordFiles {
    /// Copies what `reading` says of `records` into a file in `folder`.
    pub fn copy(
        &self,
        folder: &Path,
        records: &dyn Ordered,
        reading: Reading<'_>,
    ) -> Result<StoredRecords> {
        let mut writer = self.writer(folder, records.what())?;
        let mut failed = None;
        records.read(reading, READ_BYTES, &mut |page| match page
            .iter()
            .try_for_each(|record| writer.write(record))
        {
            Ok(()) => true,
            Err(err) => {
                failed = Some(err);
                false
            }
        })?;
        if let Some(err) = failed {
            return Err(err);
        }
        let points = records.count(None)?;
        // The engine counts by other means than it reads.
        let expected = match reading.filter {
            None => points,
            Some(_) => records.count(reading.filter)?,
        };
        self.finish(writer, expected, points, reading.filter.is_some())
    }

    /// Writes `records`, the `points` of `what` in the order of their ids, into a file in `folder`.
    pub fn store(
        &self,
        folder: &Path,
        what: &str,
        points: u64,
        records: impl IntoIterator<Item = Result<Record>>,
    ) -> Result<StoredRecords> {
        let mut writer = self.writer(folder, what)?;
        for record in records {
            writer.write(&record?)?;
        }
        self.finish(writer, points, points, false)
    }

    /// A writer into one of the files that nobody writes into.
    fn writer(&self, folder: &Path, what: &str) -> Result<Writer> {
        let idle = lock(&self.idle).pop();
        let file = match idle {
            Some(file) => file,
            None => {
                let number = self.made.fetch_add(1, Ordering::Relaxed);
                let path = folder.join(format!("records-{number}"));
                RecordFile {
                    file: Arc::new(scratch::create_unnamed(&path)?),
                    bytes: 0,
                }
            }
        };
        Ok(Writer {
            what: what.to_owned(),
            start: file.bytes,
            file,
            waiting: Vec::new(),
            blocks: Vec::new(),
            count: 0,
        })
    }

    /// What was written, which must be `expected` of the `points` of a shard; others may go on in the file.
    fn finish(
        &self,
        writer: Writer,
        expected: u64,
        points: u64,
        is_filtered: bool,
    ) -> Result<StoredRecords> {
        let (stored, file) = writer.finish(points, is_filtered)?;
        lock(&self.idle).push(file);
        if stored.count != expected {
            return Err(Error::damaged(
                format!("scanning {}", stored.what),
                format!(
                    "it says that it has {expected} points, but {} came",
                    stored.count
                ),
            )
            .next("the snapshot is damaged: fetch or copy it again"));
        }
        Ok(stored)
    }
}

struct Writer {
    what: String,
    start: u64,
    file: RecordFile,
    waiting: Vec<u8>,
    blocks: Vec<(PointId, u64)>,
    count: u64,
}

impl Writer {
    fn write(&mut self, record: &Record) -> Result<()> {
        let at = self.file.bytes + self.waiting.len() as u64;
        let begins = (self.blocks.last()).is_none_or(|(_, last)| at - last >= BLOCK_BYTES);
        if begins {
            self.blocks.push((record.id, at));
        }
        let mut bytes = Vec::new();
        let stored = record.store(&mut bytes);
        stored.map_err(|why| {
            Error::failed(format!("copying point {} of {}", record.id, self.what), why)
        })?;
        let framed = write_frame(&bytes, &mut self.waiting);
        framed.map_err(|err| Error::failed(self.doing(), err))?;
        self.count += 1;
        match self.waiting.len() >= WRITE_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn doing(&self) -> String {
        format!("copying the records of {} to scratch", self.what)
    }

    fn flush(&mut self) -> Result<()> {
        let written = self.file.file.write_all_at(&self.waiting, self.file.bytes);
        written.map_err(|err| Error::failed(self.doing(), err))?;
        self.file.bytes += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    fn finish(mut self, points: u64, is_filtered: bool) -> Result<(StoredRecords, RecordFile)> {
        self.flush()?;
        let stored = StoredRecords {
            what: self.what,
            file: Arc::clone(&self.file.file),
            blocks: self.blocks,
            end: self.file.bytes,
            start: self.start,
            count: self.count,
            points,
            is_filtered,
        };
        Ok((stored, self.file))
    }
}

/// The records of a shard, or those of them that matched a filter, in a file that others share.
#[derive(Debug)]
pub struct StoredRecords {
    what: String,
    file: Arc<File>,
    /// Where some of them begin, with their ids, ascending.
    blocks: Vec<(PointId, u64)>,
    start: u64,
    end: u64,
    /// Number of records.
    count: u64,
    /// Points of the shard.
    points: u64,
    /// True if they are those that matched a filter.
    is_filtered: bool,
}

impl StoredRecords {
    /// What `reading` says of them, in order; `buffer_bytes` are read at once.
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
        let (mut page, mut bytes) = (Vec::new(), 0);
        for record in self.records(reading, READ_BYTES)? {
            let record = record?;
            bytes += record.weight_bytes();
            page.push(record);
            if bytes >= page_bytes {
                bytes = 0;
                if !take(std::mem::take(&mut page)) {
                    return Ok(());
                }
            }
        }
        take(page);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::point::{Sample, Vector};

    fn record(id: u64) -> Record {
        let mut record = Record::bare(PointId::Num(id));
        let values = vec![id as f32; 500];
        record.vectors.push((String::new(), Vector::Dense(values)));
        record.payload.insert("id".into(), json!(id));
        record
    }

    /// Every third number, of two shards in one file.
    fn stored(files: &RecordFiles, folder: &Path, from: u64) -> StoredRecords {
        let records = (0..1000).map(|n| Ok(record(from + 3 * n)));
        files.store(folder, "a shard", 1000, records).unwrap()
    }

    fn ids(records: &[Record]) -> Vec<u64> {
        let ids = records.iter().map(|record| match record.id {
            PointId::Num(id) => id,
            PointId::Uuid(_) => u64::MAX,
        });
        ids.collect()
    }

    #[test]
    fn records_are_read_and_found_where_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let files = RecordFiles::default();
        let (one, two) = (
            stored(&files, folder.path(), 6),
            stored(&files, folder.path(), 7),
        );
        assert!(two.start > 0 && two.blocks.len() > 5);
        for (from, stored) in [(6, &one), (7, &two)] {
            let mut all = Vec::new();
            stored
                .read(Reading::default(), 10_000, &mut |page| {
                    all.extend(page);
                    true
                })
                .unwrap();
            assert_eq!(all.len(), 1000);
            assert!(
                all.iter()
                    .zip(0..)
                    .all(|(one, n)| *one == record(from + 3 * n))
            );
            assert_eq!(stored.count(None).unwrap(), 1000);
        }
        // In no order, twice, below the first, between two, in the last block, and behind it.
        let wanted: Vec<PointId> = [3003, 6, 0, 7, 6, 1500, 2000, 5000]
            .map(PointId::Num)
            .into();
        let found = one.get(&wanted, Columns::ALL).unwrap();
        assert_eq!(ids(&found), [6, 1500, 3003]);
        assert_eq!(found[1], record(1500));
        let found = one.get(&wanted, Columns::IDS).unwrap();
        assert_eq!(found[0], Record::bare(PointId::Num(6)));
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
    }

    #[test]
    fn a_sample_is_a_part_and_a_filter_is_the_one_of_the_copy() {
        let folder = tempfile::tempdir().unwrap();
        let stored = stored(&RecordFiles::default(), folder.path(), 0);
        let reading = Reading {
            sample: Some(Sample::about(100, 1000)),
            ..Reading::default()
        };
        let some: Vec<Record> = (stored.records(reading, 100).unwrap())
            .collect::<Result<_>>()
            .unwrap();
        assert!((20..500).contains(&some.len()));
        assert!(
            some.iter()
                .all(|record| Sample::about(100, 1000).keeps(record.id))
        );
        let filter = Filter::parse(r#"{"must":[{"key":"id","match":{"value":3}}]}"#).unwrap();
        let reading = Reading {
            filter: Some(&filter),
            ..Reading::default()
        };
        assert!(stored.records(reading, 100).is_err() && stored.count(Some(&filter)).is_err());
    }

    #[test]
    fn many_write_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let files = RecordFiles::default();
        let store = &|from: u64| -> bool {
            let mut found = Vec::new();
            for _ in 0..20 {
                found.push(
                    stored(&files, folder.path(), from).get(&[PointId::Num(from)], Columns::ALL),
                );
            }
            found
                .into_iter()
                .all(|found| found.unwrap() == [record(from)])
        };
        let all = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|from| scope.spawn(move || store(from)))
                .collect();
            threads.into_iter().all(|thread| thread.join().unwrap())
        });
        assert!(all);
    }

    #[test]
    fn fewer_than_were_told_are_damage() {
        let folder = tempfile::tempdir().unwrap();
        let records = [Ok(record(1))];
        let files = RecordFiles::default();
        let failed = files
            .store(folder.path(), "a shard", 2, records)
            .unwrap_err();
        assert!(
            failed.to_string().contains("2 points, but 1 came"),
            "{failed}"
        );
    }
}
