//! Records in the order of ids, by their ids, and by nearness, wherever they come from: an opened shard
//! or a live collection.
//!
//! Invariants: every kind yields each of its records once, ascending by id, in pages of about the
//! size that was asked for.

use crate::base::error::{Error, Result};
use crate::engine::{Columns, Filter, Hit, Page, Search, Shard};
use crate::point::{PointId, Record, Sample};

/// Records of a first page, when nothing is known about their size.
const FIRST_PAGE: usize = 64;
/// Bounds of the later pages, in records.
const PAGE_RECORDS: std::ops::RangeInclusive<usize> = 16..=8192;
/// Ids that are read at once where only a sample of the records is.
const IDS_AT_ONCE: usize = 4096;

/// Selection of the records to be read from a stream.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Only records that match it.
    pub filter: Option<&'a Filter>,
    /// Only records that are in it.
    pub sample: Option<Sample>,
    /// Parts of the records.
    pub columns: Columns,
    /// True if records are hashed, each stream's by the thread that reads it.
    pub hashed: bool,
}

impl Default for Reading<'_> {
    fn default() -> Self {
        Self {
            filter: None,
            sample: None,
            columns: Columns::ALL,
            hashed: false,
        }
    }
}

/// Takes a page in; says whether it wants more.
pub type Take<'a> = dyn FnMut(Vec<Record>) -> bool + 'a;

/// Refuses records of `what` that were read to their end, of which `came` so many and not as many as it says:
/// reading that ends early would look like a small source.
pub fn refuse_missing(what: &str, expected: u64, came: u64) -> Result<()> {
    if came == expected {
        return Ok(());
    }
    Err(Error::damaged(
        format!("scanning {what}"),
        format!("it says that it has {expected} points, but {came} came"),
    )
    .next("the snapshot is damaged: fetch or copy it again"))
}

/// Gathers records into pages of about a size for who takes pages.
pub struct Pages<'a, 'b> {
    page: Vec<Record>,
    bytes: usize,
    page_bytes: usize,
    take: &'a mut Take<'b>,
    wants_more: bool,
}

impl<'a, 'b> Pages<'a, 'b> {
    /// Pages of about `page_bytes` bytes for `take`.
    pub fn new(page_bytes: usize, take: &'a mut Take<'b>) -> Self {
        Self {
            page: Vec::new(),
            bytes: 0,
            page_bytes,
            take,
            wants_more: true,
        }
    }

    /// Adds a record; returns false when no more is wanted.
    pub fn add(&mut self, record: Record) -> bool {
        self.bytes += record.weight_bytes();
        self.page.push(record);
        if self.bytes >= self.page_bytes || self.page.len() >= *PAGE_RECORDS.end() {
            self.bytes = 0;
            self.wants_more = (self.take)(std::mem::take(&mut self.page));
        }
        self.wants_more
    }

    /// Gives the last page, if more is wanted.
    pub fn finish(self) {
        if self.wants_more {
            (self.take)(self.page);
        }
    }
}

/// Something that yields records in the order of their ids.
pub trait Ordered: Sync {
    /// Returns the name for errors.
    fn what(&self) -> &str;

    /// The exact number of its points, or of those that match `filter`.
    fn count(&self, filter: Option<&Filter>) -> Result<u64>;

    /// Returns true if others may change it while it is read.
    fn may_change(&self) -> bool;

    /// Reads what `reading` says in pages of about `page_bytes` bytes, until the end or until `take`
    /// wants no more.
    fn read(&self, reading: Reading<'_>, page_bytes: usize, take: &mut Take<'_>) -> Result<()>;

    /// The records with `ids`, ascending by id; ids that are not there are left out.
    fn get(&self, ids: &[PointId], columns: Columns) -> Result<Vec<Record>>;

    /// The nearest points, the best first.
    fn nearest(&self, search: Search<'_>) -> Result<Vec<Hit>>;

    /// Records as `reading` says, one by one and without a thread, if they lie in a scratch file, of which
    /// `buffer_bytes` are read at once.
    fn in_place<'a>(
        &'a self,
        _reading: Reading<'a>,
        _buffer_bytes: usize,
    ) -> Result<Option<InPlace<'a>>> {
        Ok(None)
    }
}

/// Records that are read where they lie.
pub type InPlace<'a> = Box<dyn Iterator<Item = Result<Record>> + 'a>;

impl Ordered for Shard {
    fn what(&self) -> &str {
        Self::what(self)
    }

    fn count(&self, filter: Option<&Filter>) -> Result<u64> {
        Self::count(self, filter)
    }

    fn may_change(&self) -> bool {
        false
    }

    fn read(&self, reading: Reading<'_>, page_bytes: usize, take: &mut Take<'_>) -> Result<()> {
        let mut from = None;
        let mut limit = FIRST_PAGE;
        loop {
            let page = read_page(self, from, limit, reading)?;
            if !page.records.is_empty() {
                let bytes: usize = page.records.iter().map(Record::weight_bytes).sum();
                let mean = (bytes / page.records.len()).max(1);
                limit = (page_bytes / mean).clamp(*PAGE_RECORDS.start(), *PAGE_RECORDS.end());
            }
            if !take(page.records) {
                return Ok(());
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn get(&self, ids: &[PointId], columns: Columns) -> Result<Vec<Record>> {
        self.retrieve(ids, columns)
    }

    fn nearest(&self, search: Search<'_>) -> Result<Vec<Hit>> {
        Self::nearest(self, search)
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
        ..
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
