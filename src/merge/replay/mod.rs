//! The route `replay`: records are upserted into a live collection, which indexes them at the end.
//!
//! Records come in the same order every time, so that a run that was killed is taken up at the last
//! mark that the journal has; that what lies before the mark is the same as then is proven by its
//! digest.
//!
//! Invariants: an existing collection is written to only if an earlier run of the same merge made
//! it, or if it was asked for with `--sync`; what the server has at the end is read back and
//! compared; a failed source never deletes anything.

mod decide;
mod journal;
mod orphans;
mod prove;
mod sync;
mod target;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

use self::decide::{Action, decide};
use self::journal::{Journal, Line, Mark};
use super::plan::Plan;
use super::rebuild::open_sources;
use super::settings::Settings;
use crate::base::Workspace;
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Unit;
use crate::base::stage::Stages;
use crate::base::status;
use crate::format::schema::ShardingMethod;
use crate::point::Digest;
use crate::server::points::{Sent, Upserts};
use crate::server::{CollectionInfo, Rate, Selection};
use crate::source::Source;
use crate::stream::Ledger;
use crate::stream::{Changed, Resolver, Tally};
use crate::stream::{Flow, Flowed};

pub use decide::ExistingTarget;
pub use prove::Checked;
pub use sync::Synced;
pub use target::Target;

/// Bytes of records between two marks, at about.
const MARK_BYTES: usize = 16 << 20;

/// Target of a replay, and the settings for writing to it.
#[derive(Debug)]
pub struct ReplayTarget {
    /// The collection.
    pub target: Target,
    /// Maximum sending rate; none for no limit.
    pub limit: Option<Rate>,
    /// Path of the journal.
    pub journal: PathBuf,
    /// Permitted use of an existing collection.
    pub asked: ExistingTarget,
}

/// Outcome of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// The collection was made.
    Made,
    /// An earlier run was taken up after so many points.
    WentOn(u64),
    /// It was all there; nothing was changed.
    Unchanged,
    /// The existing collection was brought to the sources' state.
    Synced(Synced),
}

/// A replay that came to its end.
#[derive(Debug)]
pub struct Replayed {
    /// Outcome of the replay.
    pub outcome: Done,
    /// Counts of the points and requests sent.
    pub sent: Sent,
    /// Counts of each source's points, in the order of the sources.
    pub tallies: Vec<Tally>,
    /// Counts of the points altered by declared changes.
    pub changes: Changed,
    /// The digest of what was to be there.
    pub digest: Digest,
    /// Result of the comparison.
    pub checked: Checked,
    /// State of the collection at the end, as the server reports it.
    pub info: CollectionInfo,
    /// Differences from the plan, in words; empty if there are none.
    pub differences: Vec<String>,
    /// Changes that others made to live sources in the meantime.
    pub changed: Vec<String>,
}

/// Everything that the steps of one replay share.
struct Work<'a> {
    sources: &'a [Source],
    plan: &'a Plan,
    settings: &'a Settings,
    onto: &'a ReplayTarget,
    site: Workspace<'a>,
}

impl<'a> Work<'a> {
    fn resolver(&self, ledger: Ledger) -> Resolver<'a> {
        let names = self.sources.iter().map(|source| source.name.as_str());
        Resolver::new(&self.settings.union, names.collect(), ledger)
    }

    fn keyed(&self) -> bool {
        has_keys(self.plan)
    }
}

/// Returns true if the points of the master have shard keys.
fn has_keys(plan: &Plan) -> bool {
    *plan.united.config.sharding_method() == ShardingMethod::Custom
}

/// Writes the master of `plan` into the collection that `onto` names.
pub fn replay(
    sources: &mut [Source],
    plan: &mut Plan,
    settings: &Settings,
    ledger: Ledger,
    onto: &ReplayTarget,
    site: Workspace<'_>,
    stages: &mut Stages,
) -> Result<(Replayed, Ledger)> {
    replayed(sources, plan, settings, ledger, onto, site, stages).map_err(|err| match err.kind() {
        Kind::Cancelled => err.next("run the same again to go on where it was"),
        _ => err,
    })
}

fn replayed(
    sources: &mut [Source],
    plan: &mut Plan,
    settings: &Settings,
    ledger: Ledger,
    onto: &ReplayTarget,
    site: Workspace<'_>,
    stages: &mut Stages,
) -> Result<(Replayed, Ledger)> {
    let target = &onto.target;
    let there = target.existing()?;
    let (mut journal, earlier) = Journal::open(&onto.journal)?;
    let address = target.address.to_string();
    let fingerprint = fingerprint(plan, settings);
    let ours = earlier.filter(|earlier| earlier.target == address && earlier.plan == fingerprint);
    let points = match &there {
        Some(_) => Some(target.connection.count(Selection::all(target.name()))?),
        None => None,
    };
    let action = decide(&address, points, ours.as_ref(), onto.asked)?;
    if let (Action::Sync, Some(info)) = (&action, &there) {
        sync::refuse(target, plan, settings, info)?;
    }
    let open_shards = open_sources(sources, plan, settings, site, stages)?;
    // All that can fail on this side is tried before the server is asked for anything.
    let keeps_keys = has_keys(plan);
    let flow = Flow::new(sources, &open_shards, &settings.union, keeps_keys)?;
    plan.lay_out_by_field(&flow, sources, settings, site)?;
    let plan = &*plan;
    let work = Work {
        sources,
        plan,
        settings,
        onto,
        site,
    };
    // From here on it is better to be asked to stop than to be killed.
    let _told = status::remote(&format!("{address}, which is not whole yet,"));
    match &action {
        Action::Make => {
            journal.begin(&address, &fingerprint)?;
            target.make(plan)?;
            journal.add(&Line::Made)?;
            target.furnish(plan.shape())?;
            stages.end("make");
        }
        Action::GoOn(_) => {
            journal.add(&Line::Made)?;
            target.furnish(plan.shape())?;
        }
        Action::Sync => target.furnish(plan.shape())?,
        Action::Compare(_) => {}
    }
    let mut resolver = work.resolver(ledger);
    let written = match &action {
        Action::Sync => sync::sync(&work, &flow, &mut resolver, stages)?,
        Action::Make => send(&work, &flow, &mut resolver, &mut journal, None, stages)?,
        Action::GoOn(mark) => send(
            &work,
            &flow,
            &mut resolver,
            &mut journal,
            Some(mark),
            stages,
        )?,
        Action::Compare(mark) => read_again(&work, &flow, &mut resolver, mark, stages)?,
    };
    let Written {
        flowed,
        sent,
        synced,
    } = written;
    let digest = flowed.digest;
    let (info, not_green) = if let Action::Compare(_) = action {
        (target.info()?, None)
    } else {
        let makes = !matches!(action, Action::Sync);
        if makes {
            target.release(plan)?;
        }
        let green = target.wait_green(site.progress)?;
        if makes {
            target.rest(plan)?;
        }
        stages.end("index").points(digest.points());
        green
    };
    let checked = prove::prove(&work, &flow, &digest)?;
    stages.end("prove").points(checked.points);
    let mut differences: Vec<String> = not_green.into_iter().collect();
    differences.extend(checked.differences());
    differences.extend(target.differences(plan, &info)?);
    if differences.is_empty() && !matches!(action, Action::Compare(_) | Action::Sync) {
        let digest = checked.digest.to_string();
        journal.add(&Line::Proven { digest })?;
    }
    let mut changed = Vec::new();
    for live in work
        .sources
        .iter()
        .filter_map(|source| source.live.as_ref())
    {
        changed.extend(live.changed("the master")?);
    }
    let (tallies, ledger, changes) = resolver.finish(flowed.counts);
    let outcome = match (action, synced) {
        (_, Some(synced)) => Done::Synced(synced),
        (Action::GoOn(mark), None) => Done::WentOn(mark.points),
        (Action::Compare(_), None) => Done::Unchanged,
        (Action::Make | Action::Sync, None) => Done::Made,
    };
    drop(flow);
    for open_shards in open_shards {
        open_shards.discard()?;
    }
    Ok((
        Replayed {
            outcome,
            sent,
            tallies,
            changes,
            digest,
            checked,
            info,
            differences,
            changed,
        },
        ledger,
    ))
}

struct Written {
    flowed: Flowed,
    sent: Sent,
    synced: Option<Synced>,
}

/// Sends everything after `from`; what lies before it must be what it was.
fn send(
    work: &Work<'_>,
    flow: &Flow<'_>,
    resolver: &mut Resolver<'_>,
    journal: &mut Journal,
    from: Option<&Mark>,
    stages: &mut Stages,
) -> Result<Written> {
    let stage = work
        .site
        .progress
        .stage("replay", Some(flow.total()), Unit::Points);
    let target = &work.onto.target;
    let points = crate::server::points::Points::new(&target.connection, target.name(), None)?;
    let skip = from.map_or(0, |mark| mark.points);
    let before = from.map_or(String::new(), |mark| mark.digest.clone());
    // Marks come from the threads that talk with the server; they are taken down as they come.
    let reached: Arc<Mutex<Vec<Mark>>> = Arc::default();
    let noted = Arc::clone(&reached);
    let mut upserts = Upserts::begin(&points, work.onto.limit, move |mark: Mark, _| {
        noted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(mark);
        Ok(())
    })?;
    let mut bytes = 0;
    let take_down = |journal: &mut Journal| {
        let marks = std::mem::take(&mut *reached.lock().unwrap_or_else(PoisonError::into_inner));
        // The last one says all.
        match marks.into_iter().last() {
            Some(mark) => journal.add(&Line::Reached(mark)),
            None => Ok(()),
        }
    };
    let flowed = flow.run(resolver, &stage, |record, digest| {
        let number = digest.points();
        if number <= skip {
            return match number == skip && digest.to_string() != before {
                true => Err(sources_changed(target)),
                false => Ok(()),
            };
        }
        bytes += record.weight_bytes();
        upserts.send(record)?;
        if bytes >= MARK_BYTES {
            bytes = 0;
            upserts.mark(Mark {
                points: number,
                digest: digest.to_string(),
            })?;
            take_down(journal)?;
        }
        Ok(())
    })?;
    if flowed.digest.points() < skip {
        return Err(sources_changed(target));
    }
    let all = Mark {
        points: flowed.digest.points(),
        digest: flowed.digest.to_string(),
    };
    if all.points > skip {
        upserts.mark(all.clone())?;
    }
    let sent = upserts.finish()?;
    if from != Some(&all) {
        journal.add(&Line::Sent(all))?;
    }
    stages
        .end("replay")
        .points(flowed.scanned)
        .bytes(flowed.bytes);
    Ok(Written {
        flowed,
        sent,
        synced: None,
    })
}

/// Reads the sources of a finished run again, and writes nothing: what is new in them is not what was
/// proven, and the collection may be published by now.
fn read_again(
    work: &Work<'_>,
    flow: &Flow<'_>,
    resolver: &mut Resolver<'_>,
    proven: &Mark,
    stages: &mut Stages,
) -> Result<Written> {
    let progress = work.site.progress;
    let stage = progress.stage("read again", Some(flow.total()), Unit::Points);
    let flowed = flow.run(resolver, &stage, |_, _| Ok(()))?;
    let is_proven = (flowed.digest.points(), flowed.digest.to_string())
        == (proven.points, proven.digest.clone());
    if !is_proven {
        return Err(sources_changed(&work.onto.target));
    }
    stages
        .end("read again")
        .points(flowed.scanned)
        .bytes(flowed.bytes);
    Ok(Written {
        flowed,
        sent: Sent::default(),
        synced: None,
    })
}

fn sources_changed(target: &Target) -> Error {
    Error::new(
        Kind::Differs,
        format!("going on with {}", target.address),
        "the sources are not what they were when it started: their points have another digest",
    )
    .next("bring the target to what they are now with --sync, or begin a new collection")
}

/// Returns the hash that identifies a merge: of everything that decides what its points are.
fn fingerprint(plan: &Plan, settings: &Settings) -> String {
    let names: Vec<&str> = plan
        .sources
        .iter()
        .map(|source| source.name.as_str())
        .collect();
    let mut said = json!({
        "sources": names,
        "policy": settings.union.on_conflict,
        "stamp": settings.union.stamp,
        "filter": settings.union.filter.as_ref().map(crate::engine::Filter::text),
        "drop": settings.union.drop_payload,
        "by_source": settings.union.layout.is_by_source(),
        "config": plan.united.config.raw(),
        "payload": plan.united.payload,
    });
    let vectors = &settings.union.vectors;
    if !vectors.is_none() {
        said["vectors"] = json!({"renamed": vectors.renamed(), "dropped": vectors.dropped()});
    }
    if let Some(field) = settings.union.layout.field() {
        said["by_field"] = json!(field);
    }
    blake3::hash(said.to_string().as_bytes())
        .to_hex()
        .to_string()
}
