//! Payloads, payload indexes and names of vectors that are to be other than the sources', of segments that
//! are carried.
//!
//! Invariants: a segment changes once, before it is packed or while it is carried; its ids, vectors and
//! graphs stay as they are; a payload index that a change may concern is left to be built by
//! who loads the master, never carried.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use uuid::Uuid;

use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::parallel::in_parallel;
use crate::base::progress::Unit;
use crate::base::scratch;
use crate::format::payloads::{
    Declared, STORAGE, SegmentRewrite, renamed_state, rewrite_storage, splice, take_out,
};
use crate::format::schema::{PayloadSchema, VectorChanges};
use crate::merge::settings::Settings;
use crate::source::Source;
use crate::stream::{Changed, PayloadChange, ShardPlan};

/// Sources whose segments are rewritten at once.
const AT_ONCE: usize = 4;

/// Changes to make in segments, and the files made for them.
pub struct SegmentRewriter<'a> {
    site: Workspace<'a>,
    settings: &'a Settings,
    rewrite: SegmentRewrite<'a>,
    changes: Vec<PayloadChange<'a>>,
    changed: Mutex<Changed>,
}

impl<'a> SegmentRewriter<'a> {
    /// Of a master with the payload indexes `wanted`, made under `settings` of sources called `names`.
    pub fn new(
        site: Workspace<'a>,
        wanted: &'a PayloadSchema,
        settings: &'a Settings,
        names: &[String],
    ) -> Self {
        let changes: Vec<PayloadChange<'a>> = (names.iter())
            .map(|name| PayloadChange::new(&settings.union, name))
            .collect();
        let is_rebuilt = |field: &&String| {
            let given = &settings.overrides.payload_index;
            settings.rebuild_payload_indexes
                || given.iter().any(|given| given.field() == field.as_str())
                || changes.iter().any(|change| change.concerns(field))
        };
        Self {
            rewrite: SegmentRewrite {
                keys: changes.iter().flat_map(PayloadChange::keys).collect(),
                wanted,
                rebuilt: wanted.fields().keys().filter(is_rebuilt).cloned().collect(),
                vectors: &settings.union.vectors,
            },
            site,
            settings,
            changes,
            changed: Mutex::new(Changed::none(&settings.union)),
        }
    }

    /// Returns true if payloads change.
    pub fn changes_payloads(&self) -> bool {
        !self.rewrite.keys.is_empty()
    }

    /// Returns true if anything changes.
    pub fn is_needed(&self) -> bool {
        self.changes_payloads() || !self.rewrite.rebuilt.is_empty() || self.renames()
    }

    /// Returns true if vectors get other names, or are left out.
    fn renames(&self) -> bool {
        !self.rewrite.vectors.is_none()
    }

    /// Vectors that get another name, and those that are left out.
    pub fn vectors(&self) -> &VectorChanges {
        self.rewrite.vectors
    }

    /// Fields whose index is built by who loads the master.
    pub fn rebuilt(&self) -> &BTreeSet<String> {
        &self.rewrite.rebuilt
    }

    /// Changes the unpacked segment in `folder`, called `what`, of the source at the place `source`.
    pub fn in_folder(&self, source: usize, folder: &Path, what: &str) -> Result<()> {
        if !self.is_needed() {
            return Ok(());
        }
        let mut changed = Changed::none(&self.settings.union);
        self.rewrite.in_folder(
            folder,
            &mut |payload| {
                if let Some(change) = self.changes.get(source) {
                    change.apply(payload, &mut changed);
                }
            },
            what,
        )?;
        self.count(&changed);
        Ok(())
    }

    /// Makes what takes the place of payloads and payload indexes in the segments that are not repacked;
    /// returns its bytes.
    pub fn splice(&self, sources: &[Source], shard_plans: &mut [ShardPlan]) -> Result<u64> {
        let stage = self.site.progress.stage("rewrite", None, Unit::None);
        let mut waiting: BTreeMap<usize, Vec<&mut ShardPlan>> = BTreeMap::new();
        for shard_plan in shard_plans.iter_mut().filter(|one| one.reasons.is_empty()) {
            let of_source = waiting.entry(shard_plan.source).or_default();
            of_source.push(shard_plan);
        }
        let waiting: Vec<_> = (waiting.into_iter())
            .filter_map(|(at, shard_plans)| Some((at, sources.get(at)?, shard_plans)))
            .collect();
        let bytes = in_parallel(waiting, AT_ONCE, |(at, source, shard_plans)| {
            self.splice_source(at, source, shard_plans)
        })?;
        drop(stage);
        Ok(bytes.into_iter().sum())
    }

    fn splice_source(
        &self,
        at: usize,
        source: &Source,
        shard_plans: Vec<&mut ShardPlan>,
    ) -> Result<u64> {
        let mut replaced: BTreeMap<(u32, Uuid), Declared> = BTreeMap::new();
        let mut states: BTreeMap<(u32, Uuid), Value> = BTreeMap::new();
        for shard_plan in &shard_plans {
            let shard = source.snapshot.shards.get(&shard_plan.number);
            for segment in shard_plan
                .segments
                .iter()
                .filter(|one| one.repacked.is_none())
            {
                let held = shard.and_then(|shard| shard.segments.get(&segment.uuid));
                let config = held.map(|held| held.payload_index_json());
                let declared = self.rewrite.declared(&config.unwrap_or_default());
                let key = (shard_plan.number, segment.uuid);
                replaced.insert(key, declared);
                if let Some(held) = held.filter(|_| self.renames()) {
                    let state = renamed_state(self.rewrite.vectors, held.state_json());
                    let doing = || format!("renaming vectors of {}", source.name);
                    states.insert(key, state.map_err(|why| Error::failed(doing(), why))?);
                }
            }
        }
        if replaced.is_empty() {
            return Ok(0);
        }
        let payloads = self.changes_payloads();
        let folder = self.site.scratch.folder(&format!("payloads-{at}"))?;
        let taken = take_out(&source.snapshot, &replaced, &self.rewrite, &folder)?;
        let mut bytes = 0;
        let mut changed = Changed::none(&self.settings.union);
        for shard_plan in shard_plans {
            for segment in &mut shard_plan.segments {
                let key = (shard_plan.number, segment.uuid);
                let (Some(taken), Some(declared)) = (taken.get(&key), replaced.get(&key)) else {
                    continue;
                };
                let new = taken.folder.join("new");
                if payloads {
                    let old = taken.folder.join(STORAGE);
                    let what = format!(
                        "segment {} of shard {} of {}",
                        segment.uuid,
                        shard_plan.number,
                        source.snapshot.what()
                    );
                    let mut change = |payload: &mut serde_json::Map<_, _>| {
                        if let Some(change) = self.changes.get(at) {
                            change.apply(payload, &mut changed);
                        }
                    };
                    let keys = &self.rewrite.keys;
                    rewrite_storage(&old, &new, &segment.live, keys, &mut change, &what)?;
                    scratch::remove_folder(&old)?;
                }
                let storage = payloads.then_some(&*new);
                let made = splice(taken, declared, states.get(&key), storage)?;
                bytes += made.added_bytes();
                segment.splice = Some(made);
            }
        }
        self.count(&changed);
        Ok(bytes)
    }

    fn count(&self, changed: &Changed) {
        let mut all = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(changed);
    }

    /// Returns what was changed, and the fields whose index is built by who loads the master.
    pub fn finish(self) -> (Changed, Vec<String>) {
        let changed = self.changed.into_inner();
        (
            changed.unwrap_or_else(PoisonError::into_inner),
            self.rewrite.rebuilt.into_iter().collect(),
        )
    }
}
