//! The walk along both sides: what the master should have, and what it has.
//!
//! Invariants: every point of either side is looked at, once; a point that is told to be wrong is
//! told with everything that is wrong with it; what was compared is counted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::error::Result;
use crate::base::progress::Stage;
use crate::point::{Differing, Digest, Identity, Record, StreamDigest};
use crate::source::Source;
use crate::stream::merge_join;
use crate::stream::{Groups, Layout, Ledger, Scanned};
use crate::verify::difference::{Difference, Wrong};
use crate::verify::near::{Likeness, Nearness};

/// Shards that the master's records lie in, and the layout that they should have.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The shard of each point stream, where it is one.
    pub shards: Vec<Option<u32>>,
    /// Layout that records belong to; none where that is checked otherwise.
    pub layout: Option<Layout>,
}

/// Settings of a walk.
#[derive(Debug)]
pub struct Rules<'a> {
    /// The sources' names.
    pub names: &'a [String],
    /// Placement of the master's records.
    pub placement: Placement,
    /// Tolerances for vectors that a server normalized again, if any are allowed.
    pub near: Option<Nearness>,
}

impl Placement {
    /// Of the point streams of `master`, whose points belong where `layout` says.
    pub fn of(master: &Source, layout: &Layout) -> Self {
        let point_streams = master.live_lanes();
        if point_streams.is_empty() {
            return Self {
                shards: master.snapshot.shards.keys().copied().map(Some).collect(),
                layout: Some(layout.clone()),
            };
        }
        // A point stream is all that lies under a key, be it in one shard or in many.
        let one = |shards: &[u32]| match shards {
            [one] => Some(*one),
            _ => None,
        };
        let shards = point_streams
            .iter()
            .map(|point_stream| match point_stream.key() {
                None => one(&layout.shards),
                Some(key) => layout.keys.keys().get(key).and_then(|ids| one(ids)),
            });
        Self {
            shards: shards.collect(),
            layout: None,
        }
    }

    fn shard_of(&self, scanned: &Scanned) -> Option<u32> {
        self.shards.get(scanned.point_stream).copied().flatten()
    }

    /// The shard that a record belongs to, if it is not the one that it lies in.
    fn misplaced(&self, scanned: &Scanned) -> Option<Wrong> {
        let layout = self.layout.as_ref()?;
        let shard = self.shard_of(scanned)?;
        let belongs = layout.shard(&scanned.record).ok();
        (belongs != Some(shard)).then_some(Wrong::Misplaced { shard, belongs })
    }
}

/// Counts of what a walk found.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Walked {
    /// Points that both sides have, compared bit by bit.
    pub compared: u64,
    /// Bytes of vectors and payloads that were compared, in their canonical form.
    pub compared_bytes: u64,
    /// Points that the master should have.
    pub expected: u64,
    /// The same by source, in their order.
    pub expected_of: Vec<u64>,
    /// Points that it has.
    pub found: u64,
    /// Of the expected, those that it lacks.
    pub missing: u64,
    /// Of the found, those that no source has.
    pub extra: u64,
    /// Points that differ from their source's.
    pub differing: u64,
    /// Points that are their source's but for the last bits of vectors that a server normalized again.
    pub near: u64,
    /// The largest difference of two values of such vectors.
    pub apart_max: f32,
    /// Points in the wrong shard.
    pub misplaced: u64,
    /// Points in more than one shard.
    pub twice: u64,
    /// Ids that two points of the sources end up with.
    pub ambiguous: u64,
    /// The digest of what was found.
    pub digest: Digest,
    /// The digest of the same in the order of ids ([`StreamDigest`]).
    pub stream_digest: String,
}

impl Walked {
    /// Returns the numbers of points that are missing, extra, differing, misplaced, twice and ambiguous; one
    /// may be wrong in several ways.
    pub fn wrong(&self) -> [u64; 6] {
        let Self {
            missing,
            extra,
            differing,
            misplaced,
            twice,
            ambiguous,
            ..
        } = *self;
        [missing, extra, differing, misplaced, twice, ambiguous]
    }
}

/// Walks along what is `expected` and what is `found`.
pub fn walk(
    expected: &mut dyn Groups,
    found: &mut dyn Groups,
    rules: &Rules<'_>,
    ledger: &mut Ledger<Difference>,
    stage: &Stage,
) -> Result<Walked> {
    let Rules {
        names,
        placement,
        near,
    } = rules;
    let mut walked = Walked {
        expected_of: vec![0; names.len()],
        ..Walked::default()
    };
    let mut buffer = Vec::new();
    let mut in_order = StreamDigest::default();
    merge_join(expected, found, |id, wanted, there| {
        walked.expected += wanted.len() as u64;
        walked.found += there.len() as u64;
        for scanned in wanted {
            if let Some(count) = walked.expected_of.get_mut(scanned.source) {
                *count += 1;
            }
        }
        for scanned in there {
            let (hash, bytes) = scanned.digest(&mut walked.digest, &mut buffer);
            in_order.add(&hash);
            if !wanted.is_empty() {
                walked.compared_bytes += bytes;
            }
        }
        stage.add(there.len().max(wanted.len()) as u64);
        let mut tell = |what: Wrong| {
            ledger.add(Difference {
                id: id.clone(),
                what,
            })
        };
        if wanted.len() > 1 {
            walked.ambiguous += 1;
            let sources = wanted.iter().map(|scanned| name(names, scanned)).collect();
            tell(Wrong::Ambiguous { sources })?;
        }
        if let [_, _, ..] = there {
            walked.twice += 1;
            let shards = there
                .iter()
                .filter_map(|scanned| placement.shard_of(scanned))
                .collect();
            tell(Wrong::Twice { shards })?;
        } else if let Some(wrong) = there.first().and_then(|one| placement.misplaced(one)) {
            walked.misplaced += 1;
            tell(wrong)?;
        }
        match (wanted.first(), there) {
            (Some(wanted), []) => {
                walked.missing += 1;
                tell(Wrong::Missing {
                    source: name(names, wanted),
                })
            }
            (None, [there, ..]) => {
                walked.extra += 1;
                tell(Wrong::Extra {
                    shard: placement.shard_of(there),
                })
            }
            (Some(wanted), there) => {
                walked.compared += 1;
                let near = near.as_ref();
                match differing(id, &wanted.record, there) {
                    None => Ok(()),
                    Some(_) if let Some(apart) = nearly(near, &wanted.record, there) => {
                        walked.near += 1;
                        walked.apart_max = walked.apart_max.max(apart);
                        Ok(())
                    }
                    Some(differing) => {
                        walked.differing += 1;
                        tell(Wrong::Differs {
                            source: name(names, wanted),
                            differing,
                        })
                    }
                }
            }
            (None, []) => Ok(()),
        }
    })?;
    walked.stream_digest = in_order.to_string();
    Ok(walked)
}

fn name(names: &[String], scanned: &Scanned) -> String {
    names.get(scanned.source).cloned().unwrap_or_default()
}

/// Returns the largest difference between the `wanted` record and the one that is `there`, if it is near
/// enough.
fn nearly(near: Option<&Nearness>, wanted: &Record, there: &[Scanned]) -> Option<f32> {
    let [one] = there else {
        return None;
    };
    match near?.compare(wanted, &one.record) {
        Likeness::Near(apart) => Some(apart),
        Likeness::Equal | Likeness::Different => None,
    }
}

/// In what any of the records that are `there` differs from the `wanted` one.
fn differing(id: &Identity, wanted: &Record, there: &[Scanned]) -> Option<Differing> {
    there.iter().find_map(|scanned| {
        debug_assert_eq!(id.id, scanned.record.id);
        let mut differing = Differing::between(wanted, &scanned.record);
        // Of several copies all but one lie under a wrong key, which was told already.
        differing.shard_key &= there.len() == 1;
        (!differing.is_empty()).then_some(differing)
    })
}
