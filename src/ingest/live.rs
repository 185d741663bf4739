//! Rows into collections of a running server.
//!
//! Invariants: what can be told without the points that are there is refused before anything is written; a collection that is there is
//! not changed but for the points that are given; every point that was written is read back and compared; the same
//! ingest again writes nothing that is right already, so that a killed one is resumed by running it again.

use std::collections::BTreeSet;

use serde_json::Value;

use super::report::LiveCollectionReport;
use super::request::OnExisting;
use super::sending::{DOUBTED_BYTES, PATIENCE, POLLING, Resting, Sending};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::{Progress, Unit};
use crate::build::{LiveTarget, LookupBatcher, Pair, Shape, by_key};
use crate::format::schema::{CollectionConfig, ShardingMethod};
use crate::point::{Record, ShardKey};
use crate::server::points::Points;
use crate::server::{Connection, Rate, Selection, check_name, create_body, index_for};
use crate::verify::Likeness;

/// Target of points and the rules for writing them.
#[derive(Debug, Clone, Copy)]
pub struct Writing<'a> {
    /// Connection to the server.
    pub connection: &'a Connection,
    /// Config, payload indexes and shards of the collections.
    pub shape: Shape<'a>,
    /// Rule for points that exist.
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
    pub fn prepare(self, name: &str, value: String, keys: &BTreeSet<ShardKey>) -> Result<Ready> {
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
        let info = target.existing()?;
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
        let mut sending = Sending::begin(&target, &there, self.shape.config, self.limit, &stage)?;
        let mut lookups = LookupBatcher::new(&there);
        while let Some(record) = next()? {
            match report.made {
                true => {
                    report.added += 1;
                    sending.send(record, &mut report)?;
                }
                false => {
                    lookups.add(record, |pair| self.decide(pair, &mut sending, &mut report))?
                }
            }
        }
        lookups.flush(|pair| self.decide(pair, &mut sending, &mut report))?;
        self.look_again(&mut sending, &mut report)?;
        sending.finish(&mut report)?;
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
        if own.is_none() && self.rule != OnExisting::Replace {
            sending.unfound.add(given);
            return match sending.unfound.bytes > DOUBTED_BYTES {
                true => self.look_again(sending, report),
                false => Ok(()),
            };
        }
        self.decide_surely((given, own), sending, report)
    }

    /// Decides about points that were not found, and that may be there all the same: while a server optimizes, it does
    /// not always find a point by its id. Waits until it does not, for a minute at the most.
    fn look_again(
        self,
        sending: &mut Sending<'_>,
        report: &mut LiveCollectionReport,
    ) -> Result<()> {
        if sending.unfound.points.is_empty() {
            return Ok(());
        }
        // What was sent before is applied first: it would keep the server busy.
        sending.drain(report)?;
        let doing = format!("waiting for {} to be optimized", report.collection);
        let mut resting = Resting::default();
        let is_sure =
            self.connection
                .wait_until::<_, Error>(&doing, POLLING.within(PATIENCE), || {
                    Ok(resting.is_over(&sending.target.info()?).then_some(()))
                })?;
        if is_sure.is_none() && self.rule == OnExisting::Fail {
            return Err(Error::new(
                Kind::Refused,
                doing,
                format!(
                    "it still is after {} s, and until then a point that is there may not be found",
                    PATIENCE.as_secs()
                ),
            )
            .next("run it again when the collection's status is green"));
        }
        let mut lookup = LookupBatcher::new(sending.there);
        let unfound = sending.unfound.take();
        // Nothing is written until all are looked for: that would have the server optimize again.
        let mut pairs: Vec<Pair> = Vec::new();
        let mut found = |pair: Pair| {
            pairs.push(pair);
            Ok(())
        };
        for record in unfound {
            lookup.add(record, &mut found)?;
        }
        lookup.flush(found)?;
        for pair in pairs {
            report.unsure += u64::from(is_sure.is_none() && pair.1.is_none());
            self.decide_surely(pair, sending, report)?;
        }
        Ok(())
    }

    fn decide_surely(
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
