//! The k-way merge: every settled shard yields its records in the order of ids, equal ids meet.
//!
//! Keeps true: memory is bounded by the number of shards times a page, whatever the number of
//! points; records of one id come together, in the order of their sources and shards; every record
//! of every shard is yielded exactly once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use crate::engine::{Columns, Filter, Page, Shard};
use crate::error::{Error, Result};
use crate::point::{PointId, Record, Sample};
use crate::schema::ShardKey;

/// Bytes of records that all pages together may take, at about.
const PAGES_BYTES: usize = 64 << 20;
/// Bounds of a page, in bytes.
const PAGE_BYTES: std::ops::RangeInclusive<usize> = (128 << 10)..=(4 << 20);
/// Records of a first page, when nothing is known about their size.
const FIRST_PAGE: usize = 64;
/// Bounds of the later pages, in records.
const PAGE_RECORDS: std::ops::RangeInclusive<usize> = 16..=8192;
/// Ids that are read at once where only a sample of the records is.
const IDS_AT_ONCE: usize = 4096;

/// One shard to scan.
#[derive(Debug, Clone)]
pub struct Lane<'a> {
    /// Which source it belongs to.
    pub source: usize,
    /// The shard.
    pub shard: &'a Shard,
    /// The key that its records lie under.
    pub key: Option<ShardKey>,
}

/// What a scan reads of its lanes.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Only records that match it.
    pub filter: Option<&'a Filter>,
    /// Only records that are in it.
    pub sample: Option<Sample>,
    /// Which part of the records.
    pub columns: Columns,
}

impl Default for Reading<'_> {
    fn default() -> Self {
        Self {
            filter: None,
            sample: None,
            columns: Columns::ALL,
        }
    }
}

/// Records in the order of ids, those of one id together: a scan, or what is made of one.
pub trait Groups {
    /// The records of the next id; none at the end. `group` is cleared and filled.
    fn next_group(&mut self, group: &mut Vec<Scanned>) -> Result<Option<PointId>>;
}

/// A record and where it came from.
#[derive(Debug)]
pub struct Scanned {
    /// Which lane.
    pub lane: usize,
    /// Which source.
    pub source: usize,
    /// The record.
    pub record: Record,
}

/// The merged scan over some lanes.
pub struct Scan {
    lanes: Vec<Running>,
    heap: BinaryHeap<Reverse<(PointId, usize)>>,
}

/// A lane whose pages come from a thread.
struct Running {
    source: usize,
    pages: Receiver<Result<Vec<Record>>>,
    page: std::vec::IntoIter<Record>,
    head: Option<Record>,
}

impl Scan {
    /// Starts to scan `lanes`, each in a thread of `scope`, whole or what matches `filter`.
    pub fn start<'scope, 'env: 'scope>(
        scope: &'scope Scope<'scope, 'env>,
        lanes: &[Lane<'env>],
        filter: Option<&'env Filter>,
    ) -> Result<Self> {
        let reading = Reading {
            filter,
            ..Reading::default()
        };
        Self::start_reading(scope, lanes, reading)
    }

    /// The same for what `reading` says.
    pub fn start_reading<'scope, 'env: 'scope>(
        scope: &'scope Scope<'scope, 'env>,
        lanes: &[Lane<'env>],
        reading: Reading<'env>,
    ) -> Result<Self> {
        // A page is read ahead while one is used.
        let page_bytes =
            (PAGES_BYTES / (2 * lanes.len().max(1))).clamp(*PAGE_BYTES.start(), *PAGE_BYTES.end());
        let mut running = Vec::new();
        for lane in lanes {
            let (sender, pages) = sync_channel(1);
            let (shard, key) = (lane.shard, lane.key.clone());
            scope.spawn(move || read_pages(shard, key.as_ref(), reading, page_bytes, &sender));
            running.push(Running {
                source: lane.source,
                pages,
                page: Vec::new().into_iter(),
                head: None,
            });
        }
        let mut scan = Self {
            lanes: running,
            heap: BinaryHeap::new(),
        };
        for lane in 0..scan.lanes.len() {
            scan.advance(lane)?;
        }
        Ok(scan)
    }

    /// The records of the next id, in the order of their lanes; none at the end. `group` is cleared
    /// and filled.
    pub fn next_group(&mut self, group: &mut Vec<Scanned>) -> Result<Option<PointId>> {
        group.clear();
        let Some(Reverse((id, _))) = self.heap.peek().copied() else {
            return Ok(None);
        };
        while let Some(Reverse((same, lane))) = self.heap.peek().copied() {
            if same != id {
                break;
            }
            self.heap.pop();
            if let Some(running) = self.lanes.get_mut(lane)
                && let Some(record) = running.head.take()
            {
                group.push(Scanned {
                    lane,
                    source: running.source,
                    record,
                });
            }
            self.advance(lane)?;
        }
        Ok(Some(id))
    }

    /// Puts the next record of `lane` at its head.
    fn advance(&mut self, lane: usize) -> Result<()> {
        let Some(running) = self.lanes.get_mut(lane) else {
            return Ok(());
        };
        let record = loop {
            if let Some(record) = running.page.next() {
                break Some(record);
            }
            match running.pages.recv() {
                Ok(page) => running.page = page?.into_iter(),
                // The thread is at its end.
                Err(_) => break None,
            }
        };
        if let Some(record) = record {
            self.heap.push(Reverse((record.id, lane)));
            running.head = Some(record);
        }
        Ok(())
    }
}

impl Groups for Scan {
    fn next_group(&mut self, group: &mut Vec<Scanned>) -> Result<Option<PointId>> {
        Self::next_group(self, group)
    }
}

/// Reads pages of `shard` and sends them, until the end, an error, or until nobody listens.
fn read_pages(
    shard: &Shard,
    key: Option<&ShardKey>,
    reading: Reading<'_>,
    page_bytes: usize,
    pages: &SyncSender<Result<Vec<Record>>>,
) {
    let mut from = None;
    let mut limit = FIRST_PAGE;
    let mut last: Option<PointId> = None;
    loop {
        let page = match read_page(shard, from, limit, reading) {
            Ok(page) => page,
            Err(err) => {
                // Nobody listens any more when the merge has failed elsewhere.
                let _ = pages.send(Err(err));
                return;
            }
        };
        let mut records = page.records;
        if let Some(key) = key {
            for record in &mut records {
                record.shard_key = Some(key.clone());
            }
        }
        if let Err(err) = ascending(shard, &mut last, &records) {
            let _ = pages.send(Err(err));
            return;
        }
        if !records.is_empty() {
            let bytes: usize = records.iter().map(Record::weight_bytes).sum();
            let mean = (bytes / records.len()).max(1);
            limit = (page_bytes / mean).clamp(*PAGE_RECORDS.start(), *PAGE_RECORDS.end());
        }
        if pages.send(Ok(records)).is_err() {
            return;
        }
        match page.next {
            Some(next) => from = Some(next),
            None => return,
        }
    }
}

fn read_page(
    shard: &Shard,
    from: Option<PointId>,
    limit: usize,
    reading: Reading<'_>,
) -> Result<Page> {
    let Reading {
        filter,
        sample,
        columns,
    } = reading;
    let Some(sample) = sample else {
        return shard.page(from, limit, columns, filter);
    };
    let page = shard.page(from, IDS_AT_ONCE, Columns::IDS, filter)?;
    let ids: Vec<PointId> = page
        .records
        .iter()
        .map(|record| record.id)
        .filter(|id| sample.keeps(*id))
        .collect();
    let records = shard.retrieve(&ids, columns)?;
    if records.len() != ids.len() {
        return Err(Error::damaged(
            format!("reading a sample of {}", shard.what()),
            format!("of {} points {} came", ids.len(), records.len()),
        ));
    }
    Ok(Page { records, ..page })
}

/// Everything after relies on the order, so it is not taken on trust.
fn ascending(shard: &Shard, last: &mut Option<PointId>, records: &[Record]) -> Result<()> {
    for record in records {
        if last.is_some_and(|last| last >= record.id) {
            return Err(Error::damaged(
                format!("scanning {}", shard.what()),
                format!("point {} came out of order", record.id),
            )
            .next("its id tracker is damaged: fetch or copy the snapshot again"));
        }
        *last = Some(record.id);
    }
    Ok(())
}
