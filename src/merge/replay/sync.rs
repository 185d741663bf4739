//! Bringing a collection that is there to the sources' state.
//!
//! Invariants: points that are right already are not written; nothing is deleted before all sources
//! were read to their end.

use super::orphans::OrphanScan;
use super::target::Target;
use super::{Work, Written};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Unit;
use crate::base::stage::Stages;
use crate::build::{LookupBatcher, Pair, by_key};
use crate::merge::plan::Plan;
use crate::merge::settings::Settings;
use crate::server::CollectionInfo;
use crate::server::points::{Points, Upserts};
use crate::stream::Flow;
use crate::stream::Policy;
use crate::stream::Resolver;
use crate::verify::{Likeness, Nearness};

/// Counts of points by what was done with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Synced {
    /// Points that were not there.
    pub added: u64,
    /// Points that were others.
    pub changed: u64,
    /// Points that no source has.
    pub deleted: u64,
    /// Points that were right already.
    pub same: u64,
}

/// Refuses what cannot be brought to the sources' state.
pub(super) fn refuse(
    target: &Target,
    plan: &Plan,
    settings: &Settings,
    info: &CollectionInfo,
) -> Result<()> {
    let doing = format!("bringing {} to the sources' state", target.address);
    if settings.union.on_conflict == Policy::Remap {
        return Err(Error::usage(
            doing,
            "with --on-conflict remap new ids come out of order, and it cannot be told what is gone",
        )
        .next("merge into a new collection, and move the alias with `snapmerge publish`"));
    }
    // Indexes can be made; vectors are what they are.
    let wrong: Vec<String> = target
        .differences(plan, info)?
        .into_iter()
        .filter(|what| !what.starts_with("there is no payload index"))
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, doing, wrong.join("; "))
        .next("merge into a new collection, and move the alias with `snapmerge publish`"))
}

/// Upserts what is not as it should be, and deletes what no source has.
pub(super) fn sync(
    work: &Work<'_>,
    flow: &Flow<'_>,
    resolver: &mut Resolver<'_>,
    stages: &mut Stages,
) -> Result<Written> {
    let target = &work.onto.target;
    let there = by_key(target, work.keyed())?;
    let nearness = Nearness::new(&work.plan.united.config);
    let stage = work
        .site
        .progress
        .stage("sync", Some(flow.total()), Unit::Points);
    let points = Points::new(&target.connection, target.name(), None)?;
    let mut upserts: Upserts<()> = Upserts::begin(&points, work.onto.limit, |(), _| Ok(()))?;
    let mut synced = Synced::default();
    let (flowed, not_given) = std::thread::scope(|scope| {
        let mut walk = OrphanScan::start(scope, &there, work.site.scratch.path())?;
        let mut lookups = LookupBatcher::new(&there);
        let mut on = |(given, own): Pair| {
            match own.as_ref().map(|own| nearness.compare(&given, own)) {
                Some(Likeness::Equal | Likeness::Near(_)) => {
                    synced.same += 1;
                    return Ok(());
                }
                Some(Likeness::Different) => synced.changed += 1,
                None => synced.added += 1,
            }
            upserts.send(given)
        };
        let flowed = flow.run(resolver, &stage, |record, _| {
            walk.given(&record.shard_key, record.id)?;
            lookups.add(record, &mut on)
        })?;
        lookups.flush(&mut on)?;
        Ok::<_, Error>((flowed, walk.end()?))
    })?;
    // A mark waits until all before it is applied.
    upserts.mark(())?;
    let sent = upserts.finish()?;
    not_given.delete(&there)?;
    synced.deleted = not_given.count;
    stages
        .end("sync")
        .points(flowed.scanned)
        .bytes(flowed.bytes);
    Ok(Written {
        flowed,
        sent,
        synced: Some(synced),
    })
}
