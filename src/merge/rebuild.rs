//! The route `rebuild`: records are written into new shards offline, and indexed there.
//!
//! Keeps true: vectors are stored bit by bit as they were read (see
//! [`ShardConfig::for_writing`]); what is to be written is digested on its way, so that what was
//! written can be compared with it; the number of a new operation always lies above every
//! segment's version.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use super::graft::Carried;
use super::layout::Layout;
use super::ledger::Ledger;
use super::plan::{Plan, Settings};
use super::resolve::{Resolver, Tally};
use super::scan::{Lane, Scan};
use crate::engine::{Shard, ShardConfig, closed_segments, restore_distances};
use crate::error::{Error, Result};
use crate::point::{Digest, Record};
use crate::report::merge::StageReport;
use crate::report::progress::{Progress, Unit};
use crate::scratch::Scratch;
use crate::snapshot::{PackedShard, Packer};
use crate::source::{Settled, Source};

/// Bytes of records that are written at once, at about.
const BATCH_BYTES: usize = 1 << 20;
/// Records that are written at once, at the most.
const BATCH_RECORDS: usize = 1000;

/// Where the work is done and shown.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Scratch.
    pub scratch: &'a Scratch,
    /// Progress.
    pub progress: Progress,
}

/// A shard of the master, built.
#[derive(Debug, Clone)]
pub struct BuiltShard {
    /// Its number.
    pub number: u32,
    /// Its points.
    pub points: u64,
    /// Its segments.
    pub segments: u64,
    /// Vectors of it that lie in an index; approximate, as Qdrant's own.
    pub indexed_vectors: u64,
}

/// A master, built and packed, not yet proven.
#[derive(Debug)]
pub struct Built {
    /// Its shards.
    pub shards: Vec<BuiltShard>,
    /// The digest of everything that was to be written, if records were looked at.
    pub digest: Option<Digest>,
    /// The SHA-256 of what was written, if it was written front to back.
    pub sha256: Option<String>,
    /// How segments travelled, if they did.
    pub carried: Option<Carried>,
    /// What became of each source's points.
    pub tallies: Vec<Tally>,
    /// Points whose stamped field had another value before.
    pub restamped: u64,
    /// How long what took.
    pub stages: Vec<StageReport>,
}

/// Builds the master of `plan` from `sources` and packs it into `target`, a new file called
/// `target_path`.
pub fn rebuild(
    sources: &mut [Source],
    plan: &Plan,
    settings: &Settings,
    ledger: Ledger,
    target: std::fs::File,
    target_path: &Path,
    site: Site<'_>,
) -> Result<(Built, Ledger)> {
    let mut stages = Vec::new();
    let settled = settle(sources, site, &mut stages)?;
    let config = ShardConfig::new(&plan.united.config)?;
    let folder = site.scratch.folder("master")?;

    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let keeps_keys = !plan.layout.keys.is_empty();
    let mut resolver = Resolver::new(settings, names, keeps_keys, ledger);
    let started = Instant::now();
    let written = write(
        &settled,
        plan,
        settings,
        &config,
        &folder,
        &mut resolver,
        site,
    )?;
    stages.push(
        StageReport::new("merge", started)
            .points(written.scanned)
            .bytes(written.bytes),
    );

    // Their disk space is needed from here on.
    let started = Instant::now();
    drop(settled);
    for source in 0..sources.len() {
        remove(&site.scratch.path().join(source_folder(source)))?;
    }
    stages.push(StageReport::new("clean up", started));

    let started = Instant::now();
    let mut shards = Vec::new();
    let stage = site.progress.stage("index", None, Unit::None);
    for (number, points) in &written.points {
        shards.push(finish(&folder, *number, *points, plan, &config)?);
    }
    drop(stage);
    let points = written.digest.points();
    stages.push(StageReport::new("index", started).points(points));

    let started = Instant::now();
    let bytes = pack(&folder, plan, &shards, target, target_path, site)?;
    stages.push(StageReport::new("pack", started).bytes(bytes));
    remove(&folder)?;

    let Resolver {
        mut tallies,
        ledger,
        restamped,
        ..
    } = resolver;
    for (tally, (read, matching)) in tallies.iter_mut().zip(written.counts) {
        tally.read = read;
        tally.filtered = read - matching;
    }
    Ok((
        Built {
            shards,
            digest: Some(written.digest),
            sha256: None,
            carried: None,
            tallies,
            restamped,
            stages,
        },
        ledger,
    ))
}

fn source_folder(source: usize) -> String {
    format!("source-{source}")
}

fn remove(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder)
        .map_err(|err| Error::io("removing scratch folder", folder, &err))
}

fn settle(
    sources: &mut [Source],
    site: Site<'_>,
    stages: &mut Vec<StageReport>,
) -> Result<Vec<Settled>> {
    let total = sources
        .iter()
        .map(|source| source.snapshot.file_bytes)
        .sum();
    let started = Instant::now();
    let stage = site.progress.stage("settle", Some(total), Unit::Bytes);
    let mut settled = Vec::new();
    for (at, source) in sources.iter_mut().enumerate() {
        let folder = site.scratch.folder(&source_folder(at))?;
        settled.push(source.settle(&folder, Some(stage.counter()))?);
    }
    stages.push(StageReport::new("settle", started).bytes(total));
    Ok(settled)
}

/// What was written.
struct Written {
    /// Points by shard.
    points: BTreeMap<u32, u64>,
    digest: Digest,
    /// By source: its points, and those that match the filter.
    counts: Vec<(u64, u64)>,
    scanned: u64,
    bytes: u64,
}

fn write(
    settled: &[Settled],
    plan: &Plan,
    settings: &Settings,
    config: &ShardConfig,
    folder: &Path,
    resolver: &mut Resolver<'_>,
    site: Site<'_>,
) -> Result<Written> {
    let filter = settings.filter.as_ref();
    let mut lanes = Vec::new();
    let mut counts = Vec::new();
    for (source, settled) in settled.iter().enumerate() {
        let (mut read, mut matching) = (0, 0);
        for shard in &settled.shards {
            let points = shard.shard.count(None)?;
            read += points;
            matching += match filter {
                None => points,
                Some(_) => shard.shard.count(filter)?,
            };
            lanes.push(Lane {
                source,
                shard: &shard.shard,
                key: shard.key.clone(),
            });
        }
        counts.push((read, matching));
    }
    let total: u64 = counts.iter().map(|(_, matching)| matching).sum();
    let stage = site.progress.stage("merge", Some(total), Unit::Points);
    let writing = config.for_writing();

    std::thread::scope(|scope| {
        let mut writers = Writers::start(scope, &plan.layout, &writing, folder)?;
        let mut scan = Scan::start(scope, &lanes, filter)?;
        let mut digest = Digest::default();
        let mut buffer = Vec::new();
        let mut group = Vec::new();
        let mut scanned = 0;
        let mut bytes = 0;
        let mut by_lane = vec![0_u64; lanes.len()];
        while let Some(id) = scan.next_group(&mut group)? {
            for one in &group {
                if let Some(count) = by_lane.get_mut(one.lane) {
                    *count += 1;
                }
            }
            scanned += group.len() as u64;
            stage.add(group.len() as u64);
            resolver.take(id, &mut group, |record| {
                digest.add(&record, &mut buffer);
                bytes += buffer.len() as u64;
                writers.write(record)
            })?;
        }
        drop(scan);
        let points = writers.finish()?;
        all_scanned(&lanes, &by_lane, filter)?;
        Ok(Written {
            points,
            digest,
            counts,
            scanned,
            bytes,
        })
    })
}

/// A scan that ends early would look like a small source.
fn all_scanned(
    lanes: &[Lane<'_>],
    by_lane: &[u64],
    filter: Option<&crate::engine::Filter>,
) -> Result<()> {
    for (lane, scanned) in lanes.iter().zip(by_lane) {
        let expected = lane.shard.count(filter)?;
        if expected != *scanned {
            return Err(Error::damaged(
                format!("scanning {}", lane.shard.what()),
                format!("it says that it has {expected} points, but {scanned} came"),
            )
            .next("the snapshot is damaged: fetch or copy it again"));
        }
    }
    Ok(())
}

/// The threads that write the master's shards.
struct Writers<'layout, 'scope> {
    layout: &'layout Layout,
    lanes: BTreeMap<u32, Writer<'scope>>,
}

struct Writer<'scope> {
    batch: Vec<Record>,
    batch_bytes: usize,
    batches: SyncSender<Vec<Record>>,
    thread: std::thread::ScopedJoinHandle<'scope, Result<u64>>,
}

impl<'layout, 'scope> Writers<'layout, 'scope> {
    fn start<'env: 'scope>(
        scope: &'scope std::thread::Scope<'scope, 'env>,
        layout: &'layout Layout,
        config: &'env ShardConfig,
        folder: &Path,
    ) -> Result<Self> {
        let mut lanes = BTreeMap::new();
        for number in &layout.shards {
            let what = format!("shard {number} of the master");
            let shard = Shard::create(&folder.join(number.to_string()), config, what)?;
            let (batches, receiver) = sync_channel(1);
            let thread = scope.spawn(move || write_batches(shard, &receiver));
            lanes.insert(
                *number,
                Writer {
                    batch: Vec::new(),
                    batch_bytes: 0,
                    batches,
                    thread,
                },
            );
        }
        Ok(Self { layout, lanes })
    }

    fn write(&mut self, record: Record) -> Result<()> {
        let number = self.layout.shard(&record)?;
        let writer = self.lanes.get_mut(&number).ok_or_else(|| {
            Error::failed(
                format!("placing point {}", record.id),
                format!("the master has no shard {number}"),
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
        match self.lanes.remove(&number) {
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

    /// Writes what is left; returns the points by shard.
    fn finish(mut self) -> Result<BTreeMap<u32, u64>> {
        let numbers: Vec<u32> = self.lanes.keys().copied().collect();
        for number in numbers {
            let Some(writer) = self.lanes.get_mut(&number) else {
                continue;
            };
            let batch = std::mem::take(&mut writer.batch);
            if !batch.is_empty() && writer.batches.send(batch).is_err() {
                return Err(self.failure(number));
            }
        }
        let mut points = BTreeMap::new();
        for (number, writer) in self.lanes {
            drop(writer.batches);
            let count = writer.thread.join().unwrap_or_else(|_| {
                Err(Error::failed(
                    format!("writing shard {number}"),
                    "its thread panicked",
                ))
            })?;
            points.insert(number, count);
        }
        Ok(points)
    }
}

/// Writes batches until there are no more; returns the points that the shard has then.
fn write_batches(shard: Shard, batches: &Receiver<Vec<Record>>) -> Result<u64> {
    for batch in batches {
        shard.upsert(batch)?;
    }
    let points = shard.count(None)?;
    shard.close()?;
    Ok(points)
}

/// Gives a written shard its distances, payload indexes and indexes.
fn finish(
    folder: &Path,
    number: u32,
    points: u64,
    plan: &Plan,
    config: &ShardConfig,
) -> Result<BuiltShard> {
    let folder = folder.join(number.to_string());
    restore_distances(&folder, config)?;
    let what = format!("shard {number} of the master");
    let shard = Shard::reopen(&folder, &config.without_log(), what)?;
    for (field, schema) in plan.united.payload.fields() {
        shard.create_index(field, schema)?;
    }
    shard.optimize()?;
    let indexed_vectors = shard.indexed_vectors()?;
    let counted = shard.count(None)?;
    if counted != points {
        return Err(Error::failed(
            format!("indexing shard {number} of the master"),
            format!("it had {points} points before and {counted} after"),
        ));
    }
    shard.close()?;
    Ok(BuiltShard {
        number,
        points,
        segments: closed_segments(&folder)?.len() as u64,
        indexed_vectors,
    })
}

/// Packs the built shards; returns the bytes of the file.
fn pack(
    folder: &Path,
    plan: &Plan,
    shards: &[BuiltShard],
    target: std::fs::File,
    target_path: &Path,
    site: Site<'_>,
) -> Result<u64> {
    let stage = site.progress.stage("pack", None, Unit::None);
    let mut packer = Packer::new(target, target_path);
    for shard in shards {
        let mut version_max = 0;
        for segment in closed_segments(&folder.join(shard.number.to_string()))? {
            packer.segment(shard.number, segment.uuid, &segment.folder)?;
            version_max = version_max.max(segment.version);
        }
        packer.shard(PackedShard {
            number: shard.number,
            version_max,
        })?;
    }
    let schema: serde_json::Value = serde_json::from_slice(&plan.united.payload.to_bytes())
        .map_err(|err| Error::failed("packing the payload indexes", err))?;
    let file = packer.finish(plan.united.config.raw(), &plan.layout.keys, &schema)?;
    drop(stage);
    let meta = file
        .metadata()
        .map_err(|err| Error::io("looking at", target_path, &err))?;
    Ok(meta.len())
}
