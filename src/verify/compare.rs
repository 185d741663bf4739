//! Proving a master against its sources, now or later.
//!
//! Invariants: the union of the sources is computed anew under the declared policy and changes, and
//! nothing else is taken into account; an empty sample is never a pass; how much was looked at,
//! and how, is part of the answer.

mod bytes;
mod live;
mod pairs;
mod shapes;
mod walk;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::bytes::{ByBytes, by_bytes};
pub use self::shapes::ShardShape;
pub use self::walk::{Placement, Rules, Walked, walk};

use super::answers::{Answers, Asking, answers};
use super::difference::{Difference, SettingDifference};
use super::graphs::graph_differences;
use super::near::Nearness;
use super::settings::{ExpectedConfig, setting_differences};
use crate::base::Workspace;
use crate::base::error::Result;
use crate::base::progress::Unit;
use crate::base::stage::Stages;
use crate::point::Sample;
use crate::source::Reading;
use crate::source::{Purpose, Source, Spill};
use crate::stream::{Layout, Ledger, PointStream, Resolver, Scan, Union, UnionOptions, in_master};
use crate::stream::{Sides, count, refuse_unknown_field};

/// Request to prove a master.
#[derive(Debug, Clone, Copy)]
pub struct ProofRequest<'a> {
    /// Settings that the master was made with.
    pub settings: &'a UnionOptions,
    /// Config, payload indexes and shard keys that it must have.
    pub wanted: &'a ExpectedConfig,
    /// Differences found in the frame.
    pub frame: &'a [SettingDifference],
    /// True to look at points even where bytes could show that they are right, and to try graphs.
    pub deep: bool,
    /// Only these points.
    pub sample: Option<Sample>,
    /// True if vectors that a server normalized again may differ in their last bits.
    pub near: bool,
    /// Settings of the comparison of answers, if there is to be one.
    pub asking: Option<Asking<'a>>,
}

/// Proof of the points.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Points {
    /// The segments are the sources', byte for byte.
    Bytes(ByBytes),
    /// The points were compared one by one.
    Walk(Box<Walked>),
}

/// Findings of a verification.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// Proof of the points, with its counts.
    pub points: Points,
    /// Why they were not proven by bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_by_bytes: Option<String>,
    /// The master's shards and segments, as far as they are known.
    pub shards: Vec<ShardShape>,
    /// Points that lie in two segments of one shard, both as if they were the newer one.
    pub doubled: u64,
    /// Settings that are not what they should be.
    pub settings: Vec<SettingDifference>,
    /// True if all points were looked at, and no sample of them.
    #[serde(default)]
    pub whole: bool,
    /// Bytes of the files that were read.
    pub bytes: u64,
    /// Changes that others made to live collections in the meantime.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Things that could not be looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

impl Verified {
    /// Points that were shown to be what they should be, or not to be.
    pub fn looked_at(&self) -> u64 {
        match &self.points {
            Points::Bytes(shown) => shown.points,
            Points::Walk(walked) => walked.compared + walked.missing + walked.extra,
        }
    }

    /// Points that are not what they should be; one may be wrong in several ways.
    pub fn differences(&self) -> u64 {
        let by_walk = match &self.points {
            Points::Bytes(_) => 0,
            Points::Walk(walked) => walked.wrong().iter().sum(),
        };
        by_walk + self.doubled
    }

    /// Returns true if the master is what it should be. A master without points is proven if all points were
    /// looked at and its sources have none either; a sample without points shows nothing.
    pub fn is_proven(&self) -> bool {
        (self.whole || self.looked_at() > 0) && self.differences() == 0 && self.settings.is_empty()
    }
}

/// Result of [`verify`]: the findings, and the comparison of answers, if one was asked for.
pub type Proven = (Verified, Option<Answers>);

/// Compares `master` with the union of `sources`; snapshots were opened with id trackers and logs, and
/// can be read. `room` makes sure that there is room to unpack all of them, if that is needed.
pub fn verify(
    master: &mut Source,
    sources: &mut [Source],
    asked: ProofRequest<'_>,
    ledger: &mut Ledger<Difference>,
    room: &dyn Fn() -> Result<()>,
    site: Workspace<'_>,
    stages: &mut Stages,
) -> Result<Proven> {
    let bytes = std::iter::once(&*master)
        .chain(sources.iter())
        .map(|source| source.snapshot.file_bytes)
        .sum();
    let mut verified = Verified {
        points: Points::Walk(Box::default()),
        not_by_bytes: None,
        shards: Vec::new(),
        doubled: 0,
        settings: [
            setting_differences(asked.wanted, master),
            asked.frame.to_vec(),
        ]
        .concat(),
        whole: asked.sample.is_none(),
        bytes,
        changed: Vec::new(),
        unknown: Vec::new(),
    };
    (verified.shards, verified.doubled) = shapes::shapes(
        master,
        asked.sample,
        ledger,
        &Spill::into_scratch(site.scratch),
    )?;
    let layout = Layout::of(master.shard_keys.clone(), master.config.shard_number());
    let mut shown = None;
    if !asked.deep && asked.sample.is_none() {
        let stage = site.progress.stage("compare bytes", None, Unit::None);
        let wanted = &asked.wanted.payload;
        match by_bytes(
            master,
            sources,
            asked.settings,
            &layout,
            wanted,
            site.scratch,
        )? {
            Ok(by_bytes) => shown = Some(by_bytes),
            Err(reason) => verified.not_by_bytes = Some(reason),
        }
        drop(stage);
    }
    let done = |stages: &mut Stages, verified: &Verified| {
        let stage = stages.end("compare");
        stage.points(verified.looked_at()).bytes(bytes);
    };
    if let (Some(shown), None) = (&shown, asked.asking) {
        verified.points = Points::Bytes(shown.clone());
        done(stages, &verified);
        return Ok((verified, None));
    }
    room()?;
    let questions = asked.asking.is_some_and(|asking| asking.queries > 0);
    // Graphs that are not all there are told already, and would not open.
    let asks_graphs = asked.deep && asked.frame.is_empty() && master.live.is_none();
    let filter = asked.settings.filter.as_ref();
    let purpose = |at: usize| match at {
        // The master as a server has it, with its graphs.
        0 if questions || asks_graphs => Purpose::Carrying,
        0 => Purpose::Reading,
        _ if questions => Purpose::Searching,
        _ => Purpose::to_read(filter),
    };
    let sides = Sides::open(master, sources, purpose, filter, site)?;
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let words: Vec<&str> = names.iter().map(String::as_str).collect();
    let keeps_keys = !layout.keys.is_empty();
    let expected = in_master(sides.of_others(sources), asked.settings, &words, keeps_keys);
    let found = sides.of_first(master);
    verified.points = match shown {
        Some(shown) => Points::Bytes(shown),
        None => {
            let rules = Rules {
                names: &names,
                placement: Placement::of(master, &layout),
                near: asked.near.then(|| Nearness::new(&master.config)),
            };
            let walked = compare_lanes(&found, &expected, &rules, asked, ledger, site)?;
            Points::Walk(Box::new(walked))
        }
    };
    if asks_graphs {
        verified.settings.extend(graph_differences(&found)?);
    }
    live::check(master, &layout, asked.sample, &mut verified, ledger, site)?;
    done(stages, &verified);
    let told = match asked.asking {
        None => None,
        Some(asking) => {
            let (found, expected) = (&found, &expected);
            let told = answers(
                master,
                found,
                expected,
                &names,
                asked.settings,
                asking,
                site,
            )?;
            stages.end("query");
            Some(told)
        }
    };
    sides.discard()?;
    for source in std::iter::once(&*master).chain(&*sources) {
        if let Some(live) = &source.live {
            verified.changed.extend(live.changed("this comparison")?);
        }
    }
    Ok((verified, told))
}

/// Compares the master's point streams, `found`, with those of the sources, `expected`, point by point.
pub fn compare_lanes(
    found: &[PointStream<'_>],
    expected: &[PointStream<'_>],
    rules: &Rules<'_>,
    asked: ProofRequest<'_>,
    ledger: &mut Ledger<Difference>,
    site: Workspace<'_>,
) -> Result<Walked> {
    let total = match asked.sample {
        None => Some(count(expected)?.max(count(found)?)),
        Some(_) => None,
    };
    refuse_unknown_field(expected, asked.settings)?;
    let stage = site.progress.stage("compare", total, Unit::Points);
    std::thread::scope(|scope| {
        let words: Vec<&str> = rules.names.iter().map(String::as_str).collect();
        // Conflicts of this union are the merge's business, and told there.
        let conflicts = Ledger::new(None::<&Path>, false)?;
        let resolver = Resolver::new(asked.settings, words, conflicts);
        let mut union = Union::start(scope, expected, asked.settings, resolver, asked.sample)?;
        let reading = Reading {
            sample: asked.sample,
            hashed: true,
            ..Reading::default()
        };
        let mut scan = Scan::start_reading(scope, found, reading)?;
        walk(&mut union, &mut scan, rules, ledger, &stage)
    })
}
