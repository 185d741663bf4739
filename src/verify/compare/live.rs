//! Checks of a live master besides its points: its shards, what lies in each, how many points there are.
//!
//! Invariants: where points lie is taken from the members that hold them, shard by shard, never from
//! where they should lie; what nobody could be asked for is named, and passes for nothing.

use std::collections::BTreeMap;

use super::{Points, ShardShape, Verified};
use crate::base::Workspace;
use crate::base::error::Result;
use crate::base::progress::Unit;
use crate::point::{Identity, PointId, Sample, ShardKey};
use crate::server::{ACTIVE, Connection};
use crate::source::{Live, Source};
use crate::stream::{Layout, Ledger};
use crate::verify::difference::{Difference, SettingDifference, Wrong};

/// Looks at `master`, if it is live, whose points should lie where `layout` says, and adds to what was
/// `verified` what it finds.
pub fn check(
    master: &Source,
    layout: &Layout,
    sample: Option<Sample>,
    verified: &mut Verified,
    ledger: &mut Ledger<Difference>,
    site: Workspace<'_>,
) -> Result<()> {
    let Some(live) = &master.live else {
        return Ok(());
    };
    let topology = live.topology()?;
    let there = topology.shard_ids();
    if there != layout.shards {
        verified.settings.push(SettingDifference {
            about: "shards".into(),
            expected: format!("{:?}", layout.shards),
            found: format!("{there:?}"),
        });
    }
    for (shard, member, state) in topology.replicas() {
        if state != ACTIVE {
            verified.settings.push(SettingDifference {
                about: format!("shard {shard} on member {member}"),
                expected: ACTIVE.into(),
                found: state.into(),
            });
        }
    }
    let holders = live.holders(&topology)?;
    for shard in there.iter().filter(|shard| !holders.contains_key(shard)) {
        verified.unknown.push(format!(
            "where the points of shard {shard} belong was not looked at: another member holds it \
             (--peer ID=URL says where it answers)"
        ));
    }
    let keys = topology.shard_keys()?;
    let stage = site.progress.stage("look at shards", None, Unit::Points);
    for (number, holder) in &holders {
        let number = *number;
        let key = keys.key_of(number).cloned();
        let mut seen = ObservedShard {
            live,
            layout,
            holders: &holders,
            number,
            key: key.as_ref(),
            points: 0,
        };
        let told = live.ids_in_shard(holder, number, |ids| {
            stage.add(ids.len() as u64);
            seen.take(ids, sample, verified, ledger)
        })?;
        let points = seen.points;
        if told {
            verified.shards.push(ShardShape {
                shard: number,
                key,
                points,
                segments: Vec::new(),
            });
        } else {
            verified.unknown.push(format!(
                "where the points of shard {number} belong was not looked at: the server cannot say \
                 what lies in a shard"
            ));
        }
    }
    drop(stage);
    if let (Points::Walk(walked), None) = (&verified.points, sample)
        && walked.twice == 0
        && live.points() != walked.found
    {
        verified.settings.push(SettingDifference {
            about: "points that the server counts".into(),
            expected: walked.found.to_string(),
            found: live.points().to_string(),
        });
    }
    Ok(())
}

/// A shard that is looked at.
struct ObservedShard<'a> {
    live: &'a Live,
    layout: &'a Layout,
    /// Member that is asked for each shard.
    holders: &'a BTreeMap<u32, Connection>,
    number: u32,
    key: Option<&'a ShardKey>,
    points: u64,
}

impl ObservedShard<'_> {
    /// Takes in some `ids` of it.
    fn take(
        &mut self,
        ids: &[PointId],
        sample: Option<Sample>,
        verified: &mut Verified,
        ledger: &mut Ledger<Difference>,
    ) -> Result<()> {
        self.points += ids.len() as u64;
        let Points::Walk(walked) = &mut verified.points else {
            return Ok(());
        };
        let mut strays: BTreeMap<Option<u32>, Vec<PointId>> = BTreeMap::new();
        for id in ids {
            let belongs = self.layout.shard_of(*id, self.key);
            if belongs != Some(self.number) && sample.is_none_or(|sample| sample.keeps(*id)) {
                strays.entry(belongs).or_default().push(*id);
            }
        }
        let shard = self.number;
        for (belongs, ids) in strays {
            // A stray beside the right one is a point that is there twice.
            let right = belongs.and_then(|right| Some((right, self.holders.get(&right)?)));
            let beside = match right {
                Some((right, holder)) => self.live.which_in_shard(holder, right, &ids)?,
                None => Vec::new(),
            };
            for id in ids {
                let what = match belongs {
                    Some(right) if beside.contains(&id) => {
                        walked.twice += 1;
                        let mut shards = vec![right, shard];
                        shards.sort_unstable();
                        Wrong::Twice { shards }
                    }
                    belongs => {
                        walked.misplaced += 1;
                        Wrong::Misplaced { shard, belongs }
                    }
                };
                let id = Identity {
                    id,
                    shard_key: self.key.cloned(),
                };
                ledger.add(Difference { id, what })?;
            }
        }
        Ok(())
    }
}
