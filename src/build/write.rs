//! Writing records into a collection's shards, each in a thread of its own.
//!
//! A shard that stays as it is written is written as several parts, one after the other, each with
//! a segment of its own: what the engine holds in memory grows with the points of a segment.
//!
//! Invariants: every record is written once, in the order in which it came; records that come by
//! ascending id make parts whose ids are apart; how many parts there are depends on the points and
//! the collection's config, not on the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::parts::Parts;
use crate::base::error::{Error, Result};
use crate::engine::{Shard, ShardConfig};
use crate::format::schema::PayloadSchema;
use crate::point::Record;
use crate::stream::Layout;

/// Bytes of records that are written at once, at about.
const BATCH_BYTES: usize = 2 << 20;
/// Records that are written at once, at the most.
const BATCH_RECORDS: usize = 1000;
/// Points after which the engine must write down what it holds back in memory.
const FLUSH_POINTS: usize = 50_000;

/// Settings with which parts are made.
#[derive(Debug, Clone, Copy)]
pub struct Making<'a> {
    /// Folder in which each part gets a folder of its own.
    pub folder: &'a Path,
    /// The config for writing.
    pub config: &'a ShardConfig,
    /// The payload indexes. They are there before the points come: to build one afterwards, the
    /// engine holds all of it back in memory at once.
    pub indexes: &'a PayloadSchema,
    /// Division of a shard into parts.
    pub parts: Parts,
}

impl Making<'_> {
    fn part(self, number: u32, part: usize) -> Result<Shard> {
        let what = format!("shard {number} of the collection");
        let folder = self.folder.join(format!("{number}.{part}"));
        let shard = Shard::create(&folder, self.config, what)?;
        for (field, schema) in self.indexes.fields() {
            shard.create_index(field, schema)?;
        }
        Ok(shard)
    }
}

/// A part of a shard, written and closed.
#[derive(Debug, Clone)]
pub struct Part {
    /// The shard's number.
    pub number: u32,
    /// Folder of the part.
    pub folder: PathBuf,
    /// Number of points.
    pub points: u64,
}

/// The threads that write the shards.
pub struct Writers<'layout, 'scope> {
    layout: &'layout Layout,
    point_streams: BTreeMap<u32, Writer<'scope>>,
}

struct Writer<'scope> {
    batch: Vec<Record>,
    batch_bytes: usize,
    batches: SyncSender<Vec<Record>>,
    thread: std::thread::ScopedJoinHandle<'scope, Result<Vec<Part>>>,
}

impl<'layout, 'scope> Writers<'layout, 'scope> {
    /// Starts the threads in `scope`, one for each shard of `layout`.
    pub fn start<'env: 'scope>(
        scope: &'scope std::thread::Scope<'scope, 'env>,
        layout: &'layout Layout,
        making: Making<'env>,
    ) -> Result<Self> {
        let mut point_streams = BTreeMap::new();
        for number in &layout.shards {
            let mut writing = Writing::start(*number, making)?;
            let (batches, receiver) = sync_channel(1);
            let thread = scope.spawn(move || {
                writing.all(&receiver)?;
                writing.end()
            });
            point_streams.insert(
                *number,
                Writer {
                    batch: Vec::new(),
                    batch_bytes: 0,
                    batches,
                    thread,
                },
            );
        }
        Ok(Self {
            layout,
            point_streams,
        })
    }

    /// Writes a record to the shard that it belongs to.
    pub fn write(&mut self, record: Record) -> Result<()> {
        let number = self.layout.shard(&record)?;
        let writer = self.point_streams.get_mut(&number).ok_or_else(|| {
            Error::failed(
                format!("placing point {}", record.id),
                format!("the collection has no shard {number}"),
            )
        })?;
        writer.batch_bytes += record.weight_bytes();
        writer.batch.push(record);
        if writer.batch_bytes >= BATCH_BYTES || writer.batch.len() >= BATCH_RECORDS {
            writer.batch_bytes = 0;
            let batch = std::mem::take(&mut writer.batch);
            if writer.batches.send(batch).is_err() {
                return Err(self.failure(number));
            }
        }
        Ok(())
    }

    /// Why the writer of shard `number` stopped listening.
    fn failure(&mut self, number: u32) -> Error {
        let unknown = || Error::failed(format!("writing shard {number}"), "its thread ended");
        match self.point_streams.remove(&number) {
            None => unknown(),
            Some(writer) => {
                drop(writer.batches);
                match writer.thread.join() {
                    Ok(Err(err)) => err,
                    Ok(Ok(_)) | Err(_) => unknown(),
                }
            }
        }
    }

    /// Writes what is left; returns the parts, by their shards.
    pub fn finish(mut self) -> Result<Vec<Part>> {
        let numbers: Vec<u32> = self.point_streams.keys().copied().collect();
        for number in numbers {
            let Some(writer) = self.point_streams.get_mut(&number) else {
                continue;
            };
            let batch = std::mem::take(&mut writer.batch);
            if !batch.is_empty() && writer.batches.send(batch).is_err() {
                return Err(self.failure(number));
            }
        }
        let mut parts = Vec::new();
        for (number, writer) in self.point_streams {
            drop(writer.batches);
            let written = writer.thread.join().unwrap_or_else(|_| {
                Err(Error::failed(
                    format!("writing shard {number}"),
                    "its thread panicked",
                ))
            })?;
            parts.extend(written);
        }
        Ok(parts)
    }
}

/// A shard that is being written.
struct Writing<'env> {
    number: u32,
    making: Making<'env>,
    shard: Shard,
    written: Vec<Part>,
}

impl<'env> Writing<'env> {
    fn start(number: u32, making: Making<'env>) -> Result<Self> {
        Ok(Self {
            shard: making.part(number, 0)?,
            number,
            making,
            written: Vec::new(),
        })
    }

    fn all(&mut self, batches: &Receiver<Vec<Record>>) -> Result<()> {
        let (mut in_part, mut unflushed) = (0, 0);
        let Parts {
            at_most,
            points_each,
        } = self.making.parts;
        for batch in batches {
            if in_part >= points_each && self.written.len() + 1 < at_most {
                let next = self.making.part(self.number, self.written.len() + 1)?;
                let full = std::mem::replace(&mut self.shard, next);
                self.written.push(close(self.number, full)?);
                (in_part, unflushed) = (0, 0);
            }
            in_part += batch.len() as u64;
            unflushed += batch.len();
            self.shard.upsert(batch)?;
            if unflushed >= FLUSH_POINTS {
                self.shard.flush()?;
                unflushed = 0;
            }
        }
        Ok(())
    }

    fn end(self) -> Result<Vec<Part>> {
        let mut written = self.written;
        written.push(close(self.number, self.shard)?);
        Ok(written)
    }
}

fn close(number: u32, shard: Shard) -> Result<Part> {
    let part = Part {
        number,
        folder: shard.folder().to_owned(),
        points: shard.count(None)?,
    };
    shard.close()?;
    Ok(part)
}
