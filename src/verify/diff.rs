//! Changes from one snapshot to another, point by point.
//!
//! Invariants: every point of either side is looked at, once, in the order of ids; memory does not
//! grow with their number.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Workspace;
use crate::base::error::Result;
use crate::base::progress::Unit;
use crate::point::{Differing, Digest, Identity, Record, Sample};
use crate::source::Reading;
use crate::stream::count;
use crate::stream::merge_join;
use crate::stream::{PointStream, Scan};

/// Payload keys and vector names that are counted one by one.
const COUNTED_MAX: usize = 1000;

/// A point that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The point.
    #[serde(flatten)]
    pub id: Identity,
    /// Kind of the change.
    #[serde(flatten)]
    pub what: Changed,
}

/// Kind of change of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Changed {
    /// It is there only afterwards.
    Added,
    /// It was there only before.
    Removed,
    /// It differs.
    Changed(Differing),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Changed::Added => write!(f, "+ {}", self.id),
            Changed::Removed => write!(f, "- {}", self.id),
            Changed::Changed(differing) => write!(f, "~ {}  {}", self.id, differing.words()),
        }
    }
}

/// A step that brings a collection to the state of the other: a line of a sync plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncStep {
    /// `upsert` or `delete`.
    #[serde(rename = "do")]
    pub act: &'static str,
    /// The point.
    #[serde(flatten)]
    pub id: Identity,
    /// Parts that changed, if it was there before.
    #[serde(flatten)]
    pub differing: Option<Differing>,
}

impl From<&Change> for SyncStep {
    fn from(change: &Change) -> Self {
        let (act, differing) = match &change.what {
            Changed::Added => ("upsert", None),
            Changed::Removed => ("delete", None),
            Changed::Changed(differing) => ("upsert", Some(differing.clone())),
        };
        Self {
            act,
            id: change.id.clone(),
            differing,
        }
    }
}

/// Counts of a comparison.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Diffed {
    /// Points before.
    pub before: u64,
    /// Points afterwards.
    pub after: u64,
    /// Points that are the same, bit by bit.
    pub same: u64,
    /// Points that are there only afterwards.
    pub added: u64,
    /// Points that were there only before.
    pub removed: u64,
    /// Points that differ.
    pub changed: u64,
    /// Of the changed, how many have another vector, by its name.
    pub changed_vectors: BTreeMap<String, u64>,
    /// Of the changed, how many have another value, by top-level payload key; of the first thousand
    /// keys.
    pub changed_payload: BTreeMap<String, u64>,
    /// Of the changed, how many lie under another shard key.
    pub changed_shard_keys: u64,
    /// Ids that are in more than one shard, or under more than one key, of a side, whose last copy was
    /// compared.
    pub twice: u64,
    /// The digest of what was there before.
    pub digest_before: Digest,
    /// The digest of what is there afterwards.
    pub digest_after: Digest,
}

impl Diffed {
    /// Returns the number of points that are not the same.
    pub fn changes(&self) -> u64 {
        self.added + self.removed + self.changed
    }

    fn take(
        &mut self,
        id: &Identity,
        before: Option<&Record>,
        after: Option<&Record>,
    ) -> Option<Change> {
        let what = match (before, after) {
            (Some(before), Some(after)) => {
                let differing = Differing::between(before, after);
                if differing.is_empty() {
                    self.same += 1;
                    return None;
                }
                self.changed += 1;
                bump(&mut self.changed_vectors, &differing.vectors);
                bump(&mut self.changed_payload, &differing.payload);
                self.changed_shard_keys += u64::from(differing.shard_key);
                Changed::Changed(differing)
            }
            (None, Some(_)) => {
                self.added += 1;
                Changed::Added
            }
            (Some(_), None) => {
                self.removed += 1;
                Changed::Removed
            }
            (None, None) => return None,
        };
        Some(Change {
            id: id.clone(),
            what,
        })
    }
}

fn bump(counts: &mut BTreeMap<String, u64>, names: &[String]) {
    for name in names {
        if counts.len() < COUNTED_MAX || counts.contains_key(name) {
            *counts.entry(name.clone()).or_default() += 1;
        }
    }
}

/// Compares what was `before` with what is there `after`wards, all of it or a `sample`; calls `tell`
/// with every change, in the order of ids.
pub fn diff_streams(
    before: &[PointStream<'_>],
    after: &[PointStream<'_>],
    sample: Option<Sample>,
    mut tell: impl FnMut(Change) -> Result<()>,
    site: Workspace<'_>,
) -> Result<Diffed> {
    let total = count(before)?.max(count(after)?);
    let stage = site
        .progress
        .stage("compare", sample.is_none().then_some(total), Unit::Points);
    let reading = Reading {
        sample,
        hashed: true,
        ..Reading::default()
    };
    let mut diffed = Diffed::default();
    let mut buffer = Vec::new();
    std::thread::scope(|scope| {
        let mut left = Scan::start_reading(scope, before, reading)?;
        let mut right = Scan::start_reading(scope, after, reading)?;
        merge_join(&mut left, &mut right, |id, before, after| {
            diffed.before += u64::from(!before.is_empty());
            diffed.after += u64::from(!after.is_empty());
            diffed.twice += u64::from(before.len() > 1 || after.len() > 1);
            stage.add(1);
            let (before, after) = (before.last(), after.last());
            if let Some(one) = before {
                one.digest(&mut diffed.digest_before, &mut buffer);
            }
            if let Some(one) = after {
                one.digest(&mut diffed.digest_after, &mut buffer);
            }
            let before = before.map(|one| &one.record);
            let after = after.map(|one| &one.record);
            match diffed.take(id, before, after) {
                None => Ok(()),
                Some(change) => tell(change),
            }
        })
    })?;
    Ok(diffed)
}
