//! The k-way merge: every opened shard and every live collection yields its records in the order of
//! ids, equal ids meet.
//!
//! Invariants: memory is bounded by the number of streams times a page, whatever the number of
//! points; records of one id come together, in the order of their sources and shards; every record
//! of every stream is yielded exactly once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use super::point_stream::{PointStream, rename};
use crate::base::error::{Error, Result};
use crate::base::progress::Stage;
use crate::engine::Filter;
use crate::point::{Digest, Hash, Identity, PointId, Record, RecordHashes, ShardKey, hashes};
use crate::source::{InPlace, Reading};

/// Bytes of records that all pages together may take, at about.
const PAGES_BYTES: usize = 64 << 20;
/// Bounds of what is read at once of records that lie in a scratch file, in bytes; one has no page ahead.
const STORED_BYTES: std::ops::RangeInclusive<usize> = (8 << 10)..=(256 << 10);
/// Bounds of a page, in bytes.
const PAGE_BYTES: std::ops::RangeInclusive<usize> = (128 << 10)..=(4 << 20);

/// The digest of all records of `point_streams`, which `stage` counts.
pub fn digest(point_streams: &[PointStream<'_>], stage: &Stage) -> Result<Digest> {
    std::thread::scope(|scope| {
        let mut scan = Scan::start(scope, point_streams, None)?;
        let (mut digest, mut group, mut buffer) = (Digest::default(), Vec::new(), Vec::new());
        while scan.next_group(&mut group)?.is_some() {
            for scanned in &group {
                digest.add(&scanned.record, &mut buffer);
                stage.add(1);
            }
        }
        Ok(digest)
    })
}

/// Records in the order of identities, those of one identity together: a scan, or what is made of one.
pub trait Groups {
    /// The records of the next identity; none at the end. `group` is cleared and filled.
    fn next_group(&mut self, group: &mut Vec<Scanned>) -> Result<Option<Identity>>;
}

/// A record and where it came from.
#[derive(Debug)]
pub struct Scanned {
    /// Which point stream.
    pub point_stream: usize,
    /// Which source.
    pub source: usize,
    /// The record.
    pub record: Record,
    /// Hashes of the record, where it was hashed.
    pub hashed: Option<Box<Hashed>>,
}

impl Scanned {
    /// Adds the record to `digest`, by the hashes that it came with, or by hashing it now with
    /// `buffer` as scratch. Returns its hash, and how many bytes were hashed.
    pub fn digest(&self, digest: &mut Digest, buffer: &mut Vec<u8>) -> (Hash, u64) {
        match &self.hashed {
            Some(hashed) => {
                digest.add_hashed(&self.record, &hashed.hashes);
                (hashed.hashes.record, hashed.bytes)
            }
            None => {
                let hash = digest.add(&self.record, buffer);
                (hash, buffer.len() as u64)
            }
        }
    }
}

/// The hashes of a record, as it was read.
#[derive(Debug)]
pub struct Hashed {
    /// The hashes.
    pub hashes: RecordHashes,
    /// Number of bytes that were hashed.
    pub bytes: u64,
}

/// A record as it comes from a point stream.
#[derive(Debug)]
struct Read {
    record: Record,
    hashed: Option<Box<Hashed>>,
    /// The key of its identity, where that is by a field.
    key: Option<ShardKey>,
}

/// The merged scan over some point streams.
pub struct Scan<'a> {
    point_streams: Vec<Running<'a>>,
    /// The keys of identities, ascending; none first.
    keys: Vec<Option<ShardKey>>,
    /// The next id of each point stream, with the place of its key and the point stream's.
    heap: BinaryHeap<Reverse<(PointId, usize, usize)>>,
    /// Groups of one id under several keys by a field, of which the first was yielded.
    waiting: VecDeque<(Identity, Vec<Scanned>)>,
}

/// A point stream that is being read.
struct Running<'a> {
    source: usize,
    /// The place of its identity's key among the scan's.
    key: usize,
    records: Coming<'a>,
    head: Option<Read>,
}

/// Records that are still to come.
enum Coming<'a> {
    /// In pages from a thread.
    Paged {
        pages: Receiver<Result<Vec<Read>>>,
        page: std::vec::IntoIter<Read>,
    },
    /// Out of a scratch file.
    Stored {
        records: InPlace<'a>,
        checked: Box<Checked<'a>>,
    },
}

impl Coming<'_> {
    fn next(&mut self) -> Result<Option<Read>> {
        match self {
            Self::Stored { records, checked } => match records.next() {
                Some(record) => checked.take(record?).map(Some),
                None => Ok(None),
            },
            Self::Paged { pages, page } => loop {
                if let Some(read) = page.next() {
                    return Ok(Some(read));
                }
                match pages.recv() {
                    Ok(next) => *page = next?.into_iter(),
                    // The thread is at its end.
                    Err(_) => return Ok(None),
                }
            },
        }
    }
}

impl<'a> Scan<'a> {
    /// Starts to scan `point_streams`, each in a thread of `scope` if it does not lie in a scratch file, whole
    /// or what matches `filter`.
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, 'a>,
        point_streams: &[PointStream<'a>],
        filter: Option<&'a Filter>,
    ) -> Result<Self>
    where
        'a: 'scope,
    {
        let reading = Reading {
            filter,
            ..Reading::default()
        };
        Self::start_reading(scope, point_streams, reading)
    }

    /// The same for what `reading` says.
    pub fn start_reading<'scope>(
        scope: &'scope Scope<'scope, 'a>,
        point_streams: &[PointStream<'a>],
        reading: Reading<'a>,
    ) -> Result<Self>
    where
        'a: 'scope,
    {
        let share = PAGES_BYTES / point_streams.len().max(1);
        // A page is read ahead while one is used.
        let page_bytes = (share / 2).clamp(*PAGE_BYTES.start(), *PAGE_BYTES.end());
        let stored_bytes = share.clamp(*STORED_BYTES.start(), *STORED_BYTES.end());
        let mut keys: Vec<Option<ShardKey>> = point_streams
            .iter()
            .map(|point_stream| point_stream.identity.clone())
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let mut running = Vec::new();
        for point_stream in point_streams {
            let checked = Checked::new(point_stream.clone(), reading);
            let records = match point_stream.records.in_place(reading, stored_bytes)? {
                Some(records) => Coming::Stored {
                    records,
                    checked: Box::new(checked),
                },
                None => {
                    let (sender, pages) = sync_channel(1);
                    scope.spawn(move || read_pages(checked, page_bytes, &sender));
                    let page = Vec::new().into_iter();
                    Coming::Paged { pages, page }
                }
            };
            running.push(Running {
                source: point_stream.source,
                key: keys.binary_search(&point_stream.identity).unwrap_or(0),
                records,
                head: None,
            });
        }
        let mut scan = Self {
            point_streams: running,
            keys,
            heap: BinaryHeap::new(),
            waiting: VecDeque::new(),
        };
        for point_stream in 0..scan.point_streams.len() {
            scan.advance(point_stream)?;
        }
        Ok(scan)
    }

    /// The records of the next identity, in the order of their point streams; none at the end. `group` is
    /// cleared and filled.
    pub fn next_group(&mut self, group: &mut Vec<Scanned>) -> Result<Option<Identity>> {
        group.clear();
        if let Some((id, next)) = self.waiting.pop_front() {
            *group = next;
            return Ok(Some(id));
        }
        let mut by_key: BTreeMap<ShardKey, Vec<Scanned>> = BTreeMap::new();
        let Some(Reverse((id, key, _))) = self.heap.peek().copied() else {
            return Ok(None);
        };
        while let Some(Reverse((same_id, same_key, point_stream))) = self.heap.peek().copied() {
            if (same_id, same_key) != (id, key) {
                break;
            }
            self.heap.pop();
            if let Some(running) = self.point_streams.get_mut(point_stream)
                && let Some(read) = running.head.take()
            {
                let scanned = Scanned {
                    point_stream,
                    source: running.source,
                    record: read.record,
                    hashed: read.hashed,
                };
                match read.key {
                    None => group.push(scanned),
                    Some(key) => by_key.entry(key).or_default().push(scanned),
                }
            }
            self.advance(point_stream)?;
        }
        let under = |(key, group): (ShardKey, Vec<Scanned>)| {
            let shard_key = Some(key);
            (Identity { id, shard_key }, group)
        };
        self.waiting.extend(by_key.into_iter().map(under));
        if let Some((id, first)) = self.waiting.pop_front() {
            *group = first;
            return Ok(Some(id));
        }
        let shard_key = self.keys.get(key).cloned().flatten();
        Ok(Some(Identity { id, shard_key }))
    }

    /// Puts the next record of `point_stream` at its head.
    fn advance(&mut self, point_stream: usize) -> Result<()> {
        let Some(running) = self.point_streams.get_mut(point_stream) else {
            return Ok(());
        };
        if let Some(read) = running.records.next()? {
            self.heap
                .push(Reverse((read.record.id, running.key, point_stream)));
            running.head = Some(read);
        }
        Ok(())
    }
}

impl Groups for Scan<'_> {
    fn next_group(&mut self, group: &mut Vec<Scanned>) -> Result<Option<Identity>> {
        Self::next_group(self, group)
    }
}

/// Records of a point stream as they are taken in: in order, under their names, hashed.
struct Checked<'a> {
    point_stream: PointStream<'a>,
    reading: Reading<'a>,
    last: Option<PointId>,
    /// Scratch to hash in.
    buffer: Vec<u8>,
}

impl<'a> Checked<'a> {
    fn new(point_stream: PointStream<'a>, reading: Reading<'a>) -> Self {
        Self {
            point_stream,
            reading,
            last: None,
            buffer: Vec::new(),
        }
    }

    /// Takes the next record in.
    fn take(&mut self, mut record: Record) -> Result<Read> {
        let PointStream {
            records,
            key,
            vectors,
            by_field,
            ..
        } = &self.point_stream;
        // Everything after relies on the order, so it is not taken on trust.
        if self.last.is_some_and(|last| last >= record.id) {
            return Err(Error::damaged(
                format!("scanning {}", records.what()),
                format!("point {} came out of order", record.id),
            )
            .next("its id tracker is damaged: fetch or copy the snapshot again"));
        }
        self.last = Some(record.id);
        rename(&mut record, *vectors);
        if let Some(key) = key {
            record.shard_key = Some(key.clone());
        }
        let hashed = self.reading.hashed.then(|| {
            let hashes = hashes(&record, &mut self.buffer);
            let bytes = self.buffer.len() as u64;
            Box::new(Hashed { hashes, bytes })
        });
        // Who reads no payloads does not ask for keys by them.
        let by_field = by_field.as_ref().filter(|_| self.reading.columns.payload);
        let key = by_field.map(|field| field.key(&record, records.what()));
        Ok(Read {
            key: key.transpose()?,
            record,
            hashed,
        })
    }
}

/// Reads pages of records and sends them, until the end, an error, or until nobody listens.
fn read_pages(mut checked: Checked<'_>, page_bytes: usize, pages: &SyncSender<Result<Vec<Read>>>) {
    let (records, reading) = (checked.point_stream.records, checked.reading);
    let mut failed = None;
    let read = records.read(reading, page_bytes, &mut |page| match page
        .into_iter()
        .map(|record| checked.take(record))
        .collect()
    {
        Ok(page) => pages.send(Ok(page)).is_ok(),
        Err(err) => {
            failed = Some(err);
            false
        }
    });
    if let Err(err) = failed.map_or(read, Err) {
        // Nobody listens any more when the merge has failed elsewhere.
        let _ = pages.send(Err(err));
    }
}
