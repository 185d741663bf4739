//! Copying records out of shards into scratch files, of which each holds those of many shards.
//!
//! Invariants: the records of a shard lie one after the other, ascending by id, in the order in which they came;
//! what was copied has as many as the shard says; the files have no name, and go with the process.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::ordered::{Ordered, Reading, refuse_missing};
use super::stored::{READ_BYTES, StoredRecords};
use crate::base::error::{Error, Result};
use crate::base::parallel::lock;
use crate::base::scratch;
use crate::point::{PointId, Record, write_frame};

/// Bytes of records from one whose place is known to the next.
const BLOCK_BYTES: u64 = 256 << 10;
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
            buffer: Vec::new(),
            blocks: Vec::new(),
            count: 0,
        })
    }

    /// The records written, which must be `expected` of the `points` of a shard; others may go on in the file.
    fn finish(
        &self,
        writer: Writer,
        expected: u64,
        points: u64,
        is_filtered: bool,
    ) -> Result<StoredRecords> {
        let (stored, file) = writer.finish(points, is_filtered)?;
        lock(&self.idle).push(file);
        refuse_missing(&stored.what, expected, stored.count)?;
        Ok(stored)
    }
}

struct Writer {
    what: String,
    start: u64,
    file: RecordFile,
    waiting: Vec<u8>,
    /// Scratch for one record.
    buffer: Vec<u8>,
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
        self.buffer.clear();
        let stored = record.store(&mut self.buffer);
        stored.map_err(|why| {
            Error::failed(format!("copying point {} of {}", record.id, self.what), why)
        })?;
        let framed = write_frame(&self.buffer, &mut self.waiting);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::{Columns, Filter};
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
