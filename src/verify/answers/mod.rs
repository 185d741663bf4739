//! Equality of answers: does the master find what the sources find?
//!
//! The queries are vectors of the sources' own points, drawn by the hashes of their ids. What is
//! nearest in the sources, by a look at every vector and after conflicts are decided, must be what is
//! nearest in the master; and what the master's indexes find is held against that.
//!
//! Invariants: points that are equally near count as the same answer; what cannot be compared is
//! named with its reason; the sources are asked as they are, not as the master has them.

mod expected;
mod questions;
mod structure;

use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::expected::Expected;
use self::questions::Question;
use self::structure::structure;
pub use self::structure::{SetStructure, Structure};
use crate::base::Workspace;
use crate::base::error::Result;
use crate::base::progress::Unit;
use crate::engine::{Hit, Search};
use crate::format::schema::Distance;
use crate::point::PointId;
use crate::server::Clustering;
use crate::source::Source;
use crate::stream::{PointStream, UnionOptions};

/// Differing answers that are listed.
const LISTED: usize = 20;

/// Settings of the comparison of answers.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Queries for each vector; 0 for none.
    pub queries: usize,
    /// Number of nearest points that are asked for.
    pub top: usize,
    /// Points of the sources and of the master whose structure is looked at; 0 for none.
    pub structure: usize,
    /// Largest drop of the master's silhouette against the sources' that is no finding.
    pub drop_max: f64,
    /// The service that looks for clusters, if that is not done here.
    pub clusters: Option<&'a Clustering>,
}

/// Result of comparing answers.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Answers {
    /// Number of nearest points that were asked for.
    pub top: usize,
    /// Results by kind of question.
    pub kinds: Vec<KindAnswers>,
    /// Questions that were not asked, and why.
    pub skipped: Vec<String>,
    /// The structure of the sources and of the master, if that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structure: Option<Structure>,
}

impl Answers {
    /// Questions that were asked.
    pub fn asked(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.queries).sum()
    }

    /// Questions to which master and sources have different answers.
    pub fn differing(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.differing).sum()
    }
}

/// Result of one kind of question.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct KindAnswers {
    /// The vector that was searched; empty for the unnamed one.
    pub vector: String,
    /// The payload field that it was filtered by, each question by its own point's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filtered_by: Option<FilteredBy>,
    /// Questions.
    pub queries: u64,
    /// Questions to which the master's exact answer is not the sources'.
    pub differing: u64,
    /// The first of them.
    pub first: Vec<DifferentAnswer>,
    /// Mean share of the exact answer that the master's indexes found.
    pub recall_mean: f64,
    /// Smallest of these shares.
    pub recall_min: f64,
    /// Latency of the master's exact search.
    pub exact: Latency,
    /// Latency of the master's search as a server would search.
    pub indexed: Latency,
}

/// A payload field to filter by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FilteredBy {
    /// The field.
    pub field: String,
    /// True if the master has an index on it.
    pub indexed: bool,
}

/// A question to which master and sources have different answers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DifferentAnswer {
    /// The point whose vector was searched.
    pub of: PointId,
    /// Points that the sources find and the master does not.
    pub missing: Vec<PointId>,
    /// Points that the master finds and the sources do not.
    pub extra: Vec<PointId>,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Half of the questions took no longer.
    pub p50_ms: f64,
    /// 95 of 100 took no longer.
    pub p95_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
}

impl Latency {
    fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let place = (seconds.len() * percent).div_ceil(100).saturating_sub(1);
            seconds.get(place).copied().unwrap_or(0.0) * 1000.0
        };
        Self {
            p50_ms: at(50),
            p95_ms: at(95),
            p99_ms: at(99),
        }
    }
}

/// Asks `found`, the point streams of `master`, and `expected`, those of the sources called `names`, of which it
/// was made under `settings`.
pub fn answers(
    master: &Source,
    found: &[PointStream<'_>],
    expected: &[PointStream<'_>],
    names: &[String],
    settings: &UnionOptions,
    asking: Asking<'_>,
    site: Workspace<'_>,
) -> Result<Answers> {
    let (questions, skipped) = match asking.queries {
        0 => (Vec::new(), Vec::new()),
        queries => questions::draw(master, expected, settings, queries)?,
    };
    let stage = site.progress.stage(
        "query",
        Some(questions.iter().map(|(_, some)| some.len() as u64).sum()),
        Unit::Points,
    );
    let mut answers = Answers {
        top: asking.top,
        kinds: Vec::new(),
        skipped,
        structure: None,
    };
    let mut sources_say = Expected::new(expected, settings, names)?;
    for (filtered_by, some) in questions {
        let Some(first) = some.first() else {
            continue;
        };
        let vector = first.name.clone();
        let params = master.config.vectors().get(&vector);
        let ascending = params.is_some_and(|params| {
            matches!(params.distance, Distance::Euclid | Distance::Manhattan)
        });
        let order = Order { ascending };
        let mut tally = Tally::default();
        for question in &some {
            let wanted = sources_say.answer(question, asking.top, order)?;
            tally.take(found, question, &wanted, asking.top, order)?;
            stage.add(1);
        }
        answers.kinds.push(tally.into_answers(vector, filtered_by));
    }
    drop(stage);
    if asking.structure > 0 {
        let stage = site.progress.stage("look for clusters", None, Unit::None);
        answers.structure = structure(found, expected, names, asking)?;
        if answers.structure.is_none() {
            let why = "there is no dense vector whose clusters could be looked for";
            answers.skipped.push(why.into());
        }
        drop(stage);
    }
    Ok(answers)
}

/// Order of scores by nearness: a low score or a high one first.
#[derive(Debug, Clone, Copy)]
struct Order {
    ascending: bool,
}

impl Order {
    /// The best first; of equals the lower id.
    fn sort(self, hits: &mut [Hit]) {
        hits.sort_by(|a, b| {
            let by_score = a.score.total_cmp(&b.score);
            let by_score = match self.ascending {
                true => by_score,
                false => by_score.reverse(),
            };
            by_score.then(a.id.cmp(&b.id))
        });
    }

    /// Returns true if `score` is better than `than`, by more than rounding.
    fn better(self, score: f32, than: f32) -> bool {
        let slack = than.abs().max(score.abs()) * 1e-5;
        match self.ascending {
            true => score < than - slack,
            false => score > than + slack,
        }
    }
}

/// The master's nearest of `question` out of all its shards.
fn ask(
    point_streams: &[PointStream<'_>],
    question: &Question,
    top: usize,
    exact: bool,
    order: Order,
) -> Result<Vec<Hit>> {
    let mut hits = Vec::new();
    for point_stream in point_streams {
        hits.extend(point_stream.nearest(Search {
            name: &question.name,
            vector: &question.vector,
            top,
            exact,
            oversampling: None,
            filter: question.filter.as_ref(),
        })?);
    }
    order.sort(&mut hits);
    hits.truncate(top);
    Ok(hits)
}

#[derive(Default)]
struct Tally {
    recalls: Vec<f64>,
    exact_seconds: Vec<f64>,
    indexed_seconds: Vec<f64>,
    differing: u64,
    first: Vec<DifferentAnswer>,
}

impl Tally {
    fn take(
        &mut self,
        master: &[PointStream<'_>],
        question: &Question,
        wanted: &[Hit],
        top: usize,
        order: Order,
    ) -> Result<()> {
        let started = Instant::now();
        let exact = ask(master, question, top, true, order)?;
        self.exact_seconds.push(started.elapsed().as_secs_f64());
        let started = Instant::now();
        let indexed = ask(master, question, top, false, order)?;
        self.indexed_seconds.push(started.elapsed().as_secs_f64());
        if let Some((missing, extra)) = unlike(wanted, &exact, order) {
            self.differing += 1;
            if self.first.len() < LISTED {
                self.first.push(DifferentAnswer {
                    of: question.of,
                    missing,
                    extra,
                });
            }
        }
        self.recalls.push(recall(&exact, &indexed, order));
        Ok(())
    }

    fn into_answers(self, vector: String, filtered_by: Option<FilteredBy>) -> KindAnswers {
        #[expect(clippy::cast_precision_loss, reason = "a mean of some hundreds")]
        let count = self.recalls.len().max(1) as f64;
        KindAnswers {
            vector,
            filtered_by,
            queries: self.recalls.len() as u64,
            differing: self.differing,
            first: self.first,
            recall_mean: self.recalls.iter().sum::<f64>() / count,
            recall_min: self.recalls.iter().copied().fold(1.0, f64::min),
            exact: Latency::of(self.exact_seconds),
            indexed: Latency::of(self.indexed_seconds),
        }
    }
}

/// In which points two answers differ beyond ties: what only the first has and what only the second.
fn unlike(wanted: &[Hit], found: &[Hit], order: Order) -> Option<(Vec<PointId>, Vec<PointId>)> {
    let only = |a: &[Hit], b: &[Hit]| -> Vec<PointId> {
        let last = b.last().map(|hit| hit.score);
        a.iter()
            .filter(|hit| !b.iter().any(|other| other.id == hit.id))
            // As near as the last of the others: which of them is named is nobody's fault.
            .filter(|hit| match last {
                Some(last) => order.better(hit.score, last),
                None => true,
            })
            .map(|hit| hit.id)
            .collect()
    };
    let (missing, extra) = (only(wanted, found), only(found, wanted));
    let same = missing.is_empty() && extra.is_empty() && wanted.len() == found.len();
    (!same).then_some((missing, extra))
}

/// The part of `exact` that is in `indexed`, ties counted.
fn recall(exact: &[Hit], indexed: &[Hit], order: Order) -> f64 {
    let Some(last) = exact.last() else {
        return 1.0;
    };
    let hits = indexed
        .iter()
        .filter(|hit| !order.better(last.score, hit.score))
        .count();
    #[expect(clippy::cast_precision_loss, reason = "some tens")]
    {
        hits.min(exact.len()) as f64 / exact.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(scores: &[(u64, f32)]) -> Vec<Hit> {
        scores
            .iter()
            .map(|(id, score)| Hit {
                id: PointId::Num(*id),
                score: *score,
            })
            .collect()
    }

    #[test]
    fn ties_are_no_difference_and_anything_else_is() {
        let near = Order { ascending: false };
        let wanted = hits(&[(1, 0.9), (2, 0.8), (3, 0.5)]);
        assert_eq!(unlike(&wanted, &wanted, near), None);
        assert_eq!(
            unlike(&wanted, &hits(&[(1, 0.9), (2, 0.8), (4, 0.5)]), near),
            None
        );
        for (found, missing, extra) in [
            (hits(&[(1, 0.9), (3, 0.5), (4, 0.4)]), vec![2, 3], vec![]),
            (hits(&[(1, 0.9), (5, 0.85), (2, 0.8)]), vec![], vec![5]),
            (hits(&[(1, 0.9)]), vec![], vec![]),
            (hits(&[]), vec![1, 2, 3], vec![]),
        ] {
            let ids = |ids: Vec<u64>| ids.into_iter().map(PointId::Num).collect::<Vec<_>>();
            let (only_wanted, only_found) = unlike(&wanted, &found, near).unwrap();
            // Points as near as the last one found may be left out of the list, not of the verdict.
            assert!(
                ids(missing).iter().any(|id| only_wanted.contains(id)) || only_wanted.is_empty()
            );
            assert_eq!(only_found, ids(extra));
        }
        let far = Order { ascending: true };
        let wanted = hits(&[(1, 0.1), (2, 0.2)]);
        assert_eq!(unlike(&wanted, &hits(&[(1, 0.1), (9, 0.2)]), far), None);
        assert!(unlike(&wanted, &hits(&[(9, 0.05), (1, 0.1)]), far).is_some());
    }

    #[test]
    fn recall_is_the_part_that_was_found() {
        let near = Order { ascending: false };
        let exact = hits(&[(1, 0.9), (2, 0.8), (3, 0.5), (4, 0.4)]);
        assert!((recall(&exact, &exact, near) - 1.0).abs() < 1e-9);
        let half = hits(&[(1, 0.9), (4, 0.4), (5, 0.3), (6, 0.2)]);
        assert!((recall(&exact, &half, near) - 0.5).abs() < 1e-9);
        assert!((recall(&exact, &[], near)).abs() < 1e-9);
        assert!((recall(&[], &[], near) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let seconds = (1..=100).map(|ms| f64::from(ms) / 1000.0).collect();
        let latency = Latency::of(seconds);
        assert!((latency.p50_ms - 50.0).abs() < 1e-6, "{latency:?}");
        assert!((latency.p95_ms - 95.0).abs() < 1e-6, "{latency:?}");
        assert!((latency.p99_ms - 99.0).abs() < 1e-6, "{latency:?}");
        assert_eq!(Latency::of(vec![]), Latency::default());
    }
}
