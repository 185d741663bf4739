//! Runs: the records of one source's shard, sorted by the shard of the master that each belongs into, and by id.
//!
//! Where the sources' shards do not line up with the master's, each source shard is read once and becomes a run; each
//! of the master's shards is then made of its range of every run.
//!
//! Invariants: every record of the shard that the filter lets through is in one range of its run; a run depends on the
//! source and the settings alone; a range is compared with its SHA-256 before the last of its records is handed out, so
//! that no shard is made of another.

use std::collections::BTreeSet;
use std::io::{BufReader, BufWriter, Read, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::plan::Plan;
use super::settings::Settings;
use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::progress::Unit;
use crate::base::scratch;
use crate::base::stage::Stages;
use crate::build::Target;
use crate::engine::{Columns, Filter, Hit, Search, take_warnings};
use crate::point::{PointId, Record};
use crate::source::{Ordered, Pages, Purpose, Reading, Source, Take, refuse_missing};
use crate::stream::{
    Layout, PointStream, Scan, Sorted, Sorter, UnionOptions, identity_key, in_master,
    point_streams, read_placed, write_placed,
};

/// Bytes that are buffered for all runs that are read at once, at about.
const BUFFERS_BYTES: usize = 64 << 20;
/// Bounds of the buffer of one, in bytes.
const BUFFER_BYTES: std::ops::RangeInclusive<usize> = (128 << 10)..=(4 << 20);
/// Bytes of a run that are written at once.
const WRITE_BYTES: usize = 1 << 20;

/// A shard of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceShard {
    /// Index of the source.
    pub source: usize,
    /// Number of the shard in it.
    pub shard: u32,
}

/// A run that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeRun {
    /// The shard that it was made of.
    pub of: SourceShard,
    /// Points of that shard.
    pub points: u64,
    /// Points of it that the filter left out.
    pub filtered: u64,
    /// One range for each of the master's shards, in their order; they lie one after the other.
    pub ranges: Vec<RunRange>,
    /// Refused log entries.
    pub refused: BTreeSet<String>,
    /// Warnings of the storage engine.
    pub warnings: Vec<String>,
}

/// The records of a run that belong into one of the master's shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRange {
    /// Number of the master's shard.
    pub shard: u32,
    /// Where it begins, in bytes.
    pub start: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Number of records.
    pub points: u64,
    /// Bytes that the longest of them takes.
    pub longest_bytes: u64,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
}

/// Where runs are, in the order in which they were given.
pub trait StoredRuns: Sync {
    /// A reader of `range` of the run at the place `run`, which fetches about `buffer_bytes` bytes at once; errors of
    /// ours are carried by its own.
    fn range(&self, run: usize, range: &RunRange, buffer_bytes: usize)
    -> Box<dyn Read + Send + '_>;
}

/// The runs that a shard is made of.
#[derive(Clone, Copy)]
pub struct Runs<'a> {
    /// All that were made.
    pub made: &'a [MadeRun],
    /// Where they are.
    pub stored: &'a dyn StoredRuns,
}

impl MadeRun {
    /// Bytes of the run.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.bytes).sum()
    }

    /// Why it cannot be the run of `of` for a master with the shards `shards`.
    pub fn fault(&self, of: SourceShard, shards: impl Iterator<Item = u32>) -> Option<String> {
        if self.of != of {
            let SourceShard { source, shard } = self.of;
            return Some(format!("it is that of shard {shard} of source {source}"));
        }
        let own = self.ranges.iter().map(|range| range.shard);
        if !own.eq(shards) {
            return Some("it has ranges for other shards".into());
        }
        let mut end = 0;
        for range in &self.ranges {
            if range.start != end {
                return Some("its ranges do not lie one after the other".into());
            }
            end = range.start.saturating_add(range.bytes);
        }
        let in_ranges: u64 = self.ranges.iter().map(|range| range.points).sum();
        let expected = self.points.checked_sub(self.filtered);
        (expected != Some(in_ranges)).then(|| "its ranges do not have all of its points".into())
    }
}

/// Reads the shard `of` of `sources`, and writes it as a run into `target`.
pub fn make(
    sources: &mut [Source],
    of: SourceShard,
    plan: &Plan,
    settings: &Settings,
    target: Target,
    site: Workspace<'_>,
    stages: &mut Stages,
) -> Result<MadeRun> {
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let Some(source) = sources.get_mut(of.source) else {
        return Err(Error::failed("making a run", "there is no such source"));
    };
    let purpose = Purpose::to_read(settings.union.filter.as_ref());
    source.forget();
    let folder = site.scratch.folder("source")?;
    let wanted = BTreeSet::from([of.shard]);
    let total = source.snapshot.file_bytes;
    let stage = site.progress.stage("open shards", Some(total), Unit::Bytes);
    let open_shards = source.open_shards(&folder, Some(&wanted), purpose, Some(stage.counter()))?;
    drop(stage);
    stages.end("open shards");

    let streams = point_streams(of.source, source, &open_shards);
    let keeps_keys = !plan.layout.keys.is_empty();
    let streams = in_master(streams, &settings.union, &names, keeps_keys);
    let mut sorter = Sorter::new(site.scratch.path());
    let counts = sort(
        &streams,
        &plan.layout,
        settings.union.filter.as_ref(),
        &mut sorter,
        site,
    )?;
    drop(streams);
    open_shards.discard()?;
    scratch::remove_folder(&folder)?;
    stages.end("sort").points(counts.0).bytes(sorter.bytes());

    let ranges = write(&sorter.finish()?, &plan.layout, target)?;
    let run = MadeRun {
        of,
        points: counts.0,
        filtered: counts.0.saturating_sub(counts.1),
        ranges,
        refused: std::mem::take(&mut source.refused),
        warnings: take_warnings(),
    };
    stages.end("write").points(counts.1).bytes(run.bytes());
    match run.fault(of, plan.layout.shards.iter().copied()) {
        None => Ok(run),
        Some(why) => Err(Error::failed("making a run", why)
            .next("this is a fault of snapmerge: please report it; nothing was written")),
    }
}

/// Gives `sorter` what `filter` takes of `streams`, by the shards of `layout`. Returns how many points there are,
/// and how many of them it took.
fn sort(
    streams: &[PointStream<'_>],
    layout: &Layout,
    filter: Option<&Filter>,
    sorter: &mut Sorter,
    site: Workspace<'_>,
) -> Result<(u64, u64)> {
    let (mut points, mut matching) = (0, 0);
    for stream in streams {
        points += stream.records.count(None)?;
        matching += stream.records.count(filter)?;
    }
    let stage = site.progress.stage("sort", Some(matching), Unit::Points);
    let mut scanned = 0;
    std::thread::scope(|scope| {
        let mut scan = Scan::start(scope, streams, filter)?;
        let mut group = Vec::new();
        while let Some(id) = scan.next_group(&mut group)? {
            let Some(shard) = layout.shard_of(id.id, id.shard_key.as_ref()) else {
                return Err(Error::failed(
                    format!("placing point {id}"),
                    "the master has no shard for it",
                )
                .next("this is a fault of snapmerge: please report it; nothing was written"));
            };
            for one in group.drain(..) {
                sorter.push(shard, one.record)?;
                scanned += 1;
                stage.add(1);
            }
        }
        Ok(())
    })?;
    let what = streams
        .first()
        .map_or("a source", |stream| stream.records.what());
    refuse_missing(what, matching, scanned)?;
    Ok((points, matching))
}

/// Writes `sorted` into `target`; returns the ranges for the shards of `layout`.
fn write(sorted: &Sorted, layout: &Layout, target: Target) -> Result<Vec<RunRange>> {
    let failed = |err: std::io::Error| Error::io("writing", &target.path, &err);
    let mut out = Hashing {
        inner: BufWriter::with_capacity(WRITE_BYTES, target.file),
        sha256: Sha256::new(),
    };
    let mut buffer = Vec::new();
    let mut records = sorted.records()?.peekable();
    let mut ranges: Vec<RunRange> = Vec::new();
    for shard in layout.shards.iter().copied() {
        let start = ranges.last().map_or(0, |last| last.start + last.bytes);
        let (mut bytes, mut points, mut longest_bytes) = (0, 0, 0);
        while let Some(next) = records.next_if(|next| !matches!(next, Ok((to, _)) if *to != shard))
        {
            let written = write_placed(&next?, &mut out, &mut buffer, &failed)?;
            bytes += written;
            points += 1;
            longest_bytes = written.max(longest_bytes);
        }
        ranges.push(RunRange {
            shard,
            start,
            bytes,
            points,
            longest_bytes,
            sha256: hex::encode(out.sha256.finalize_reset()),
        });
    }
    out.inner.flush().map_err(failed)?;
    Ok(ranges)
}

/// Hashes what it is passed through.
struct Hashing<T> {
    inner: T,
    sha256: Sha256,
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.sha256.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.sha256.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// The records of a range of a run.
pub struct RunRecords<'a> {
    stored: &'a dyn StoredRuns,
    run: usize,
    of: SourceShard,
    range: &'a RunRange,
    /// Points of the source's shard that the filter left out, and that are told with this range.
    filtered: u64,
    what: String,
    buffer_bytes: usize,
}

impl<'a> Runs<'a> {
    /// Records of all runs for the shard `shard` of the master, in the order of their sources. What belongs into no
    /// shard, since the filter left it out, is told with the first of the master's.
    pub fn records(&self, shard: u32, layout: &Layout, sources: &[Source]) -> Vec<RunRecords<'a>> {
        let is_first = layout.shards.first() == Some(&shard);
        let mut records: Vec<RunRecords<'a>> = Vec::new();
        for (at, run) in self.made.iter().enumerate() {
            let filtered = if is_first { run.filtered } else { 0 };
            let ranges = run.ranges.iter().filter(|range| range.shard == shard);
            let ranges = ranges.filter(|range| range.points > 0 || filtered > 0);
            let source = sources.get(run.of.source);
            records.extend(ranges.map(|range| RunRecords {
                stored: self.stored,
                run: at,
                of: run.of,
                range,
                filtered,
                what: format!(
                    "the run of shard {} of {}",
                    run.of.shard,
                    source.map_or("a source", |source| source.name.as_str())
                ),
                buffer_bytes: 0,
            }));
        }
        records.sort_by_key(|one| (one.of.source, one.of.shard));
        let each = BUFFERS_BYTES / records.len().max(1);
        for one in &mut records {
            one.buffer_bytes = each.clamp(*BUFFER_BYTES.start(), *BUFFER_BYTES.end());
        }
        records
    }
}

impl RunRecords<'_> {
    /// It as a stream of points with the identities that they have in the master, which has shard keys if it
    /// `keeps_keys`. Their vectors have their names there already.
    pub fn stream<'r>(
        &'r self,
        sources: &[Source],
        options: &UnionOptions,
        keeps_keys: bool,
    ) -> PointStream<'r> {
        let source = sources.get(self.of.source);
        let key = source.and_then(|source| source.shard_keys.key_of(self.of.shard));
        let name = source.map_or("", |source| source.name.as_str());
        let mut stream = PointStream::new(self.of.source, self, key.cloned());
        stream.identity = identity_key(options, keeps_keys, name, key);
        stream
    }

    fn wrong(&self, why: &str) -> Error {
        Error::damaged(format!("reading {}", self.what), why).next(
            "remove the run and run its task again: snapmerge job rm JOB --run INDEX, then \
             snapmerge job task JOB --stage map --index INDEX",
        )
    }

    /// Calls `take` with every record until it wants no more.
    fn each(&self, mut take: impl FnMut(Record) -> Result<bool>) -> Result<()> {
        let doing = format!("reading {}", self.what);
        let failed = |err: std::io::Error| Error::reading(doing.clone(), &err);
        let wrong = |why: &str| self.wrong(why);
        let range = self.stored.range(self.run, self.range, self.buffer_bytes);
        let hashing = Hashing {
            inner: range,
            sha256: Sha256::new(),
        };
        let mut file = BufReader::with_capacity(*BUFFER_BYTES.start(), hashing);
        let mut points = 0;
        let longest = self.range.longest_bytes;
        while let Some((shard, record)) = read_placed(&mut file, longest, &failed, &wrong)? {
            points += 1;
            if shard != self.range.shard || points > self.range.points {
                return Err(self.wrong("it has other records than were written"));
            }
            // The last is not handed out before all that came is known to be right.
            if points == self.range.points {
                let mut rest = [0];
                let more = file.read(&mut rest).map_err(failed)?;
                let sha256 = hex::encode(file.get_mut().sha256.finalize_reset());
                if more > 0 || sha256 != self.range.sha256 {
                    return Err(self.wrong("its SHA-256 is not that of what was written"));
                }
            }
            if !take(record)? {
                return Ok(());
            }
        }
        match points == self.range.points {
            true => Ok(()),
            false => Err(self.wrong("it has fewer records than were written")),
        }
    }
}

impl Ordered for RunRecords<'_> {
    fn what(&self) -> &str {
        &self.what
    }

    fn count(&self, filter: Option<&Filter>) -> Result<u64> {
        // The filter was asked when the run was made.
        Ok(match filter {
            Some(_) => self.range.points,
            None => self.range.points + self.filtered,
        })
    }

    fn may_change(&self) -> bool {
        false
    }

    fn read(&self, reading: Reading<'_>, page_bytes: usize, take: &mut Take<'_>) -> Result<()> {
        let mut pages = Pages::new(page_bytes, take);
        self.each(|record| {
            let is_read = reading.sample.is_none_or(|sample| sample.keeps(record.id));
            Ok(!is_read || pages.add(record))
        })?;
        pages.finish();
        Ok(())
    }

    fn get(&self, ids: &[PointId], _columns: Columns) -> Result<Vec<Record>> {
        let mut found = Vec::new();
        self.each(|record| {
            if ids.contains(&record.id) {
                found.push(record);
            }
            Ok(found.len() < ids.len())
        })?;
        Ok(found)
    }

    fn nearest(&self, _search: Search<'_>) -> Result<Vec<Hit>> {
        Err(Error::failed(
            format!("searching {}", self.what),
            "a run has no index",
        ))
    }
}
