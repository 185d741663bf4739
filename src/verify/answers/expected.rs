//! Answers that the master should give, found in its sources together.
//!
//! Invariants: every source is asked by itself, and only then is decided which of its points are in
//! the master, and under which id; so many are asked for that the nearest of those that are left are
//! certain.

use std::path::Path;

use super::Order;
use super::questions::Question;
use crate::base::error::{Error, Result};
use crate::engine::{Columns, Filter, Hit, Search};
use crate::point::{Identity, PointId, ShardKey};
use crate::stream::{Ledger, PointStream, Resolver, Scanned, UnionOptions, Verdict};

/// Points beyond those wanted that are asked for at first, for losers among them.
const SPARE: usize = 16;
/// No question asks a shard for more.
const ASKED_MAX: usize = 1 << 20;

/// The sources, to be asked.
pub struct Expected<'a, 'env> {
    point_streams: &'a [PointStream<'env>],
    settings: &'a UnionOptions,
    resolver: Resolver<'a>,
}

impl<'a, 'env> Expected<'a, 'env> {
    /// Over `point_streams` of sources called `names`.
    pub fn new(
        point_streams: &'a [PointStream<'env>],
        settings: &'a UnionOptions,
        names: &'a [String],
    ) -> Result<Self> {
        let words: Vec<&str> = names.iter().map(String::as_str).collect();
        let conflicts = Ledger::new(None::<&Path>, false)?;
        Ok(Self {
            point_streams,
            settings,
            resolver: Resolver::new(settings, words, conflicts),
        })
    }

    /// The `top` nearest to `question` that are in the master, under their ids there.
    pub fn answer(&mut self, question: &Question, top: usize, order: Order) -> Result<Vec<Hit>> {
        let filter = self.both(question)?;
        let mut asked = top + SPARE;
        loop {
            let mut kept: Vec<Hit> = Vec::new();
            // The worst that a shard told which may have more.
            let mut bounds: Vec<f32> = Vec::new();
            for at in 0..self.point_streams.len() {
                let Some(point_stream) = self.point_streams.get(at) else {
                    continue;
                };
                let hits = point_stream.nearest(Search {
                    name: &question.name,
                    vector: &question.vector,
                    top: asked,
                    exact: true,
                    oversampling: None,
                    filter: filter.as_ref(),
                })?;
                if hits.len() == asked {
                    bounds.extend(hits.last().map(|hit| hit.score));
                }
                for hit in hits {
                    if let Some(id) = self.in_master(hit.id, at)? {
                        kept.push(Hit { id, ..hit });
                    }
                }
            }
            order.sort(&mut kept);
            kept.truncate(top);
            let certain = match kept.get(top.saturating_sub(1)) {
                Some(last) => bounds.iter().all(|bound| order.better(last.score, *bound)),
                None => bounds.is_empty(),
            };
            if certain || asked >= ASKED_MAX {
                return Ok(kept);
            }
            asked *= 4;
        }
    }

    /// The question's filter and the merge's own, together.
    fn both(&self, question: &Question) -> Result<Option<Filter>> {
        match (&self.settings.filter, &question.filter) {
            (None, other) => Ok(other.clone()),
            (own, None) => Ok(own.clone()),
            (Some(own), Some(other)) => {
                Filter::parse(&format!(r#"{{"must":[{},{}]}}"#, own.text(), other.text())).map(Some)
            }
        }
    }

    /// The id that the point `id` of the point stream `at` has in the master, if it is there.
    fn in_master(&mut self, id: PointId, at: usize) -> Result<Option<PointId>> {
        let mut all: Vec<(Option<ShardKey>, Scanned)> = Vec::new();
        let mut own_key = None;
        let identity = self
            .point_streams
            .get(at)
            .and_then(|point_stream| point_stream.identity.clone());
        for (number, point_stream) in self.point_streams.iter().enumerate() {
            if point_stream.identity != identity {
                continue;
            }
            let here = number == at;
            let Some(mut record) = point_stream.get(&[id], Columns::PAYLOADS)?.pop() else {
                if here {
                    return Err(Error::damaged(
                        format!("reading point {id} of {}", point_stream.records.what()),
                        "it was found, and is not there",
                    ));
                }
                continue;
            };
            // A point that was filtered out loses to nobody, and beats nobody. Where it was found,
            // it was found by that filter.
            if let (Some(filter), false) = (&self.settings.filter, here) {
                let only = Filter::parse(&format!(
                    r#"{{"must":[{},{{"has_id":[{}]}}]}}"#,
                    filter.text(),
                    serde_json::to_string(&id).unwrap_or_default()
                ))?;
                if point_stream.records.count(Some(&only))? == 0 {
                    continue;
                }
            }
            record.shard_key.clone_from(&point_stream.key);
            let key = point_stream.identity_of(&record)?;
            if here {
                own_key.clone_from(&key);
            }
            let scanned = Scanned {
                point_stream: number,
                source: point_stream.source,
                record,
                hashed: None,
            };
            all.push((key, scanned));
        }
        // By a field, points of one id may be several of the master's.
        let same = all.into_iter().filter(|(key, _)| *key == own_key);
        let group: Vec<Scanned> = same.map(|(_, scanned)| scanned).collect();
        let identity = Identity {
            id,
            shard_key: own_key,
        };
        if group.len() < 2 {
            return Ok(Some(id));
        }
        let verdict = self.resolver.judge(&identity, &group)?;
        let place = group.iter().position(|scanned| scanned.point_stream == at);
        Ok(match (verdict, place) {
            (Verdict::Wins(winner), Some(place)) => (winner == place).then_some(id),
            (Verdict::Remapped, Some(place)) => self.resolver.remapped(&identity, &group, place),
            (_, None) => None,
        })
    }
}
