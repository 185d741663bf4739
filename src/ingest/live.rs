//! Rows into collections of a running server.
//!
//! Invariants: what can be told without the points that are there is refused before anything is written; a collection that is there is
//! not changed but for the points that are given; every point that was written is read back and compared; the same
//! ingest again writes nothing that is right already, so that a killed one is gone on with by running it again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::request::OnExisting;
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::{Progress, Stage, Unit};
use crate::build::{ByKey, LiveTarget, LookupBatcher, Pair, Shape, by_key};
use crate::format::schema::{CollectionConfig, ShardingMethod};
use crate::point::{PointId, Record, ShardKey};
use crate::server::points::{Points, Upserts};
use crate::server::{Connection, Polling, Rate, Selection, check_name, create_body, index_for};
use crate::verify::{Likeness, Nearness};

/// Bytes of points that are written before they are read back, at about.
const WINDOW_BYTES: usize = 16 << 20;
/// Windows that wait to be read back.
const WINDOWS: usize = 2;
/// Ids of points that differ which are told.
const SHOWN: usize = 10;
/// How often points that seemed to differ are read again.
const POLLING: Polling = Polling::every(Duration::from_millis(200));
/// Times in a row that the server has nothing left to do before a point that still differs does.
const RESTS: u32 = 5;
/// For how long, unless the server says before that it has nothing left to do: while it optimizes, a point that moves
/// from one segment to another is not always found.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of points that seemed to differ, at the most; more are not read again.
const DOUBTED_BYTES: usize = 64 << 20;

/// A live collection in the report.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct LiveCollectionReport {
    /// Value of the field that its points have in common; empty if there is none.
    pub value: String,
    /// Address of the collection.
    pub collection: String,
    /// True if it was made.
    pub made: bool,
    /// Points that were not there and were written.
    pub added: u64,
    /// Points that were there with another content and were replaced.
    pub changed: u64,
    /// Points that were right already.
    pub same: u64,
    /// Points that were there and stayed as they were, with `--on-existing skip`.
    pub skipped: u64,
    /// Points that were read back after they were written, and are what was given.
    pub proven: u64,
    /// Of those, points whose vectors differ in the last bits because the server normalized them.
    pub near: u64,
    /// Points that are not what was given, when they were read back.
    pub differing: u64,
    /// The first of them.
    pub differing_ids: Vec<PointId>,
    /// Number of its points at the end, those of others among them.
    pub points: u64,
    /// Status as the server reports it: yellow, while it indexes.
    pub status: String,
    /// What is not as the config says, in words.
    pub notes: Vec<String>,
}

/// What is written where and how.
#[derive(Debug, Clone, Copy)]
pub struct Writing<'a> {
    /// Connection to the server.
    pub connection: &'a Connection,
    /// Config, payload indexes and shards of the collections.
    pub shape: Shape<'a>,
    /// What is done with points that are there.
    pub rule: OnExisting,
    /// Bytes a second, at the most.
    pub limit: Option<Rate>,
    /// Display of progress.
    pub progress: Progress,
}

/// A collection that was looked at and can be written.
pub struct Ready {
    target: LiveTarget,
    is_there: bool,
    report: LiveCollectionReport,
}

impl Writing<'_> {
    /// Looks at the collection `name` of the points with `value`, which lie under `keys`.
    pub fn look(self, name: &str, value: String, keys: &BTreeSet<ShardKey>) -> Result<Ready> {
        check_name(name).map_err(|why| {
            Error::usage(format!("writing to the collection {name}"), why)
                .next("choose another --collection, or another field")
        })?;
        let target = LiveTarget {
            connection: self.connection.clone(),
            address: self.connection.address().collection(name),
        };
        let mut report = LiveCollectionReport {
            value,
            collection: target.address.to_string(),
            ..LiveCollectionReport::default()
        };
        let info = target.look()?;
        if let Some(info) = &info {
            let refuse = |why: String| {
                Error::new(Kind::Refused, format!("writing to {}", target.address), why)
                    .next("choose another --collection, or the config of this one with --like or --config")
            };
            let wrong = target.vector_differences(self.shape.config, info)?;
            if !wrong.is_empty() {
                return Err(refuse(wrong.join("; ")));
            }
            let own = info.config(&target.address.to_string())?;
            let custom =
                |config: &CollectionConfig| *config.sharding_method() == ShardingMethod::Custom;
            if custom(&own) != custom(self.shape.config) {
                return Err(refuse(
                    "it has shard keys and the points have none, or the other way round".into(),
                ));
            }
            if custom(&own) {
                let there = self.connection.topology(name)?.shard_keys()?;
                let lacking = keys.iter().find(|key| !there.keys().contains_key(*key));
                // An empty one may be what a killed run made, and gets them.
                if let Some(key) = lacking
                    && self.connection.count(Selection::all(name))? > 0
                {
                    return Err(refuse(format!("it has no shard key {key}")));
                }
            }
            report.notes =
                self.lacking_indexes(info.payload_schema(&report.collection)?.fields().keys())?;
        }
        Ok(Ready {
            is_there: info.is_some(),
            target,
            report,
        })
    }

    /// Payload indexes that a collection with indexes on `there` lacks.
    fn lacking_indexes<'k>(self, there: impl Iterator<Item = &'k String>) -> Result<Vec<String>> {
        let there: BTreeSet<&String> = there.collect();
        let version = self.connection.server_info()?.numbers();
        let lacking = (self.shape.payload.fields().iter())
            .filter(|(field, index)| !there.contains(field) && index_for(version, index).is_some());
        Ok(lacking
            .map(|(field, _)| {
                format!("there is no payload index on {field}; collections that are there get none")
            })
            .collect())
    }

    /// Writes the records that `next` gives, about `points` of them, to the collection.
    pub fn write(
        self,
        ready: Ready,
        points: u64,
        next: &mut dyn FnMut() -> Result<Option<Record>>,
    ) -> Result<LiveCollectionReport> {
        let Ready {
            target,
            is_there,
            mut report,
        } = ready;
        let name = target.name();
        if !is_there {
            target.create(self.shape, Value::Object(create_body(self.shape.config)))?;
            report.made = true;
        }
        // An empty one may be what a killed run made.
        if !is_there || Points::new(self.connection, name, None)?.count(None)? == 0 {
            target.furnish(self.shape)?;
            report.notes.clear();
        }
        let there = by_key(&target, !self.shape.layout.keys.is_empty())?;
        let stage = self.progress.stage("write", Some(points), Unit::Points);
        let (reached, windows) = channel();
        let mut sending = Sending {
            upserts: Upserts::begin(
                &Points::new(self.connection, name, None)?,
                self.limit,
                move |(), _| {
                    // Nobody waits for it any more when the work has failed elsewhere.
                    let _ = reached.send(());
                    Ok(())
                },
            )?,
            windows,
            open: Vec::new(),
            bytes: 0,
            waiting: VecDeque::new(),
            doubted: Vec::new(),
            doubted_bytes: 0,
            there: &there,
            nearness: Nearness::new(self.shape.config),
            stage: &stage,
        };
        let mut beside = LookupBatcher::new(&there);
        while let Some(record) = next()? {
            match report.made {
                true => {
                    report.added += 1;
                    sending.send(record, &mut report)?;
                }
                false => beside.add(record, |pair| self.decide(pair, &mut sending, &mut report))?,
            }
        }
        beside.flush(|pair| self.decide(pair, &mut sending, &mut report))?;
        sending.finish(&target, &mut report)?;
        drop(stage);
        report.points = Points::new(self.connection, name, None)?.count(None)?;
        report.status = target.info()?.status;
        Ok(report)
    }

    /// Decides about a point that is given, beside the one that is there.
    fn decide(
        self,
        (given, own): Pair,
        sending: &mut Sending<'_>,
        report: &mut LiveCollectionReport,
    ) -> Result<()> {
        let likeness = own
            .as_ref()
            .map(|own| sending.nearness.compare(&given, own));
        match (likeness, self.rule) {
            (None, _) => report.added += 1,
            (Some(Likeness::Equal | Likeness::Near(_)), _) => {
                report.same += 1;
                sending.stage.add(1);
                return Ok(());
            }
            (Some(Likeness::Different), OnExisting::Replace) => report.changed += 1,
            (Some(Likeness::Different), OnExisting::Skip) => {
                report.skipped += 1;
                sending.stage.add(1);
                return Ok(());
            }
            (Some(Likeness::Different), OnExisting::Fail) => {
                return Err(Error::new(
                    Kind::Refused,
                    format!("writing point {} to {}", given.id, report.collection),
                    "it is there with another content",
                )
                .next("give --on-existing replace or --on-existing skip"));
            }
        }
        sending.send(given, report)
    }
}

/// Points on their way, in windows that are read back when they are applied.
struct Sending<'a> {
    upserts: Upserts<()>,
    /// Told of each window that is applied, in their order.
    windows: Receiver<()>,
    open: Vec<Record>,
    bytes: usize,
    waiting: VecDeque<Vec<Record>>,
    /// Points that seemed to differ, to be read again.
    doubted: Vec<Record>,
    doubted_bytes: usize,
    there: &'a ByKey,
    nearness: Nearness,
    stage: &'a Stage,
}

impl Sending<'_> {
    fn send(&mut self, record: Record, report: &mut LiveCollectionReport) -> Result<()> {
        self.bytes += record.weight_bytes();
        self.upserts.send(record.clone())?;
        self.open.push(record);
        match self.bytes >= WINDOW_BYTES {
            true => self.close_window(report),
            false => Ok(()),
        }
    }

    fn close_window(&mut self, report: &mut LiveCollectionReport) -> Result<()> {
        self.bytes = 0;
        let window = std::mem::take(&mut self.open);
        if window.is_empty() {
            return Ok(());
        }
        self.upserts.mark(())?;
        self.waiting.push_back(window);
        if self.waiting.len() > WINDOWS {
            // If it does not come, the end tells why.
            self.read_back(report)?;
        }
        Ok(())
    }

    /// Reads the oldest window back; false if it will not come.
    fn read_back(&mut self, report: &mut LiveCollectionReport) -> Result<bool> {
        if self.windows.recv().is_err() {
            return Ok(false);
        }
        let window = self.waiting.pop_front().unwrap_or_default();
        self.stage.add(window.len() as u64);
        let differing = self.compare(window, report)?;
        for record in differing {
            self.doubted_bytes += record.weight_bytes();
            match self.doubted_bytes <= DOUBTED_BYTES {
                true => self.doubted.push(record),
                false => report.differs(record.id),
            }
        }
        Ok(true)
    }

    /// Compares `given` with what is there; returns those that differ.
    fn compare(
        &self,
        given: Vec<Record>,
        report: &mut LiveCollectionReport,
    ) -> Result<Vec<Record>> {
        let mut differing = Vec::new();
        let mut lookup = LookupBatcher::new(self.there);
        let mut on = |(given, own): Pair| {
            match own.map(|own| self.nearness.compare(&given, &own)) {
                Some(Likeness::Equal) => report.proven += 1,
                Some(Likeness::Near(_)) => {
                    report.proven += 1;
                    report.near += 1;
                }
                Some(Likeness::Different) | None => differing.push(given),
            }
            Ok(())
        };
        for record in given {
            lookup.add(record, &mut on)?;
        }
        lookup.flush(&mut on)?;
        Ok(differing)
    }

    /// Reads points that seemed to differ again, until they do not or the server has nothing left to do.
    fn settle(&mut self, target: &LiveTarget, report: &mut LiveCollectionReport) -> Result<()> {
        let doing = format!("reading points of {} again", target.address);
        let started = Instant::now();
        let mut rests = 0;
        target
            .connection
            .wait_until::<_, Error>(&doing, POLLING, || {
                if self.doubted.is_empty() {
                    return Ok(Some(()));
                }
                let info = target.info()?;
                // What is still in the queue is not told by the first green.
                rests = if info.is_green() && info.queued() == 0 && info.deferred() == 0 {
                    rests + 1
                } else {
                    0
                };
                let is_last = rests >= RESTS || started.elapsed() > PATIENCE;
                let doubted = std::mem::take(&mut self.doubted);
                self.doubted = self.compare(doubted, report)?;
                Ok(is_last.then_some(()))
            })?;
        std::mem::take(&mut self.doubted)
            .iter()
            .for_each(|record| report.differs(record.id));
        Ok(())
    }

    fn finish(mut self, target: &LiveTarget, report: &mut LiveCollectionReport) -> Result<()> {
        self.close_window(report)?;
        let mut comes = true;
        while comes && !self.waiting.is_empty() {
            comes = self.read_back(report)?;
        }
        if self.waiting.is_empty() {
            self.settle(target, report)?;
        }
        // What ended it early is told here.
        self.upserts.finish()?;
        match self.waiting.is_empty() {
            true => Ok(()),
            false => Err(Error::failed(
                format!("writing points to {}", report.collection),
                "the server did not say that it has them",
            )),
        }
    }
}

impl LiveCollectionReport {
    /// Takes in a point that is not what was given.
    fn differs(&mut self, id: PointId) {
        self.differing += 1;
        if self.differing_ids.len() < SHOWN {
            self.differing_ids.push(id);
        }
    }
}
