//! Proving a master against its sources, now or later.
//!
//! Keeps true: the union of the sources is computed anew under the declared policy and changes, and
//! nothing else is taken into account; nothing looked at is never a pass; how much was looked at,
//! and how, is part of the answer.

mod bytes;
mod walk;

use std::path::Path;

use serde::Serialize;

pub use self::bytes::{ByBytes, by_bytes};
pub use self::walk::{Placement, Walked, walk};

use super::difference::{Difference, SettingDifference};
use super::settings::{Wanted, setting_differences};
use super::settled::{count, discard_all, lanes, settle_all};
use crate::error::{Error, Result};
use crate::merge::{Lane, Layout, Ledger, Reading, Resolver, Scan, Settings, Site, Union};
use crate::point::Sample;
use crate::report::progress::Unit;
use crate::schema::ShardKey;
use crate::snapshot::ids;
use crate::source::{Purpose, Settled, Source};

/// What is to be proven, and how.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What the master was made with.
    pub settings: &'a Settings,
    /// What its config must be.
    pub wanted: &'a Wanted,
    /// Whether points are looked at even where bytes could show it.
    pub deep: bool,
    /// Only these points.
    pub sample: Option<Sample>,
}

/// How the points were proven.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Points {
    /// The segments are the sources', byte for byte.
    Bytes(ByBytes),
    /// They were compared one by one.
    Walk(Box<Walked>),
}

/// A shard of the master as it lies in its file.
#[derive(Debug, Clone, Serialize)]
pub struct ShardShape {
    /// Its number.
    pub shard: u32,
    /// Its key, with custom sharding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<ShardKey>,
    /// The points of each of its segments, older copies included, the largest first.
    pub segments: Vec<u64>,
}

/// What a verification found.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// How the points were proven, and what of them.
    pub points: Points,
    /// Why they were not proven by bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_by_bytes: Option<String>,
    /// The master's shards and segments.
    pub shards: Vec<ShardShape>,
    /// Settings that are not what they should be.
    pub settings: Vec<SettingDifference>,
    /// Bytes of the files that were read.
    pub bytes: u64,
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
        match &self.points {
            Points::Bytes(_) => 0,
            Points::Walk(walked) => {
                walked.missing
                    + walked.extra
                    + walked.differing
                    + walked.misplaced
                    + walked.twice
                    + walked.ambiguous
            }
        }
    }

    /// Whether the master is what it should be.
    pub fn is_proven(&self) -> bool {
        self.looked_at() > 0 && self.differences() == 0 && self.settings.is_empty()
    }
}

/// Compares `master` with the union of `sources`; all were opened with id trackers and logs, and
/// can be read. `room` makes sure that there is room to unpack all of them, if that is needed.
pub fn verify(
    master: &mut Source,
    sources: &mut [Source],
    asked: Asked<'_>,
    ledger: &mut Ledger<Difference>,
    room: &dyn Fn() -> Result<()>,
    site: Site<'_>,
) -> Result<Verified> {
    let bytes = std::iter::once(&*master)
        .chain(sources.iter())
        .map(|source| source.snapshot.file_bytes)
        .sum();
    let settings = setting_differences(asked.wanted, master);
    let shards = shapes(master)?;
    let layout = Layout::of(master.shard_keys.clone(), master.config.shard_number());
    let not_by_bytes = if asked.deep || asked.sample.is_some() {
        None
    } else {
        let stage = site.progress.stage("compare bytes", None, Unit::None);
        let wanted = &asked.wanted.payload;
        let shown = by_bytes(master, sources, asked.settings, &layout, wanted)?;
        drop(stage);
        match shown {
            Ok(shown) => {
                return Ok(Verified {
                    points: Points::Bytes(shown),
                    not_by_bytes: None,
                    shards,
                    settings,
                    bytes,
                });
            }
            Err(reason) => Some(reason),
        }
    };
    room()?;
    let all = std::iter::once(&mut *master).chain(sources.iter_mut());
    let purpose = |at: usize| match at > 0 && asked.settings.filter.is_some() {
        true => Purpose::Filtering,
        false => Purpose::Reading,
    };
    let mut of_sources = settle_all(all.collect(), "settled", purpose, site)?;
    if of_sources.is_empty() {
        return Err(Error::failed("settling the master", "it did not come back"));
    }
    let of_master = of_sources.remove(0);
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let walked = compare_settled(&of_master, &of_sources, &names, layout, asked, ledger, site)?;
    discard_all(of_sources.into_iter().chain([of_master]))?;
    Ok(Verified {
        points: Points::Walk(Box::new(walked)),
        not_by_bytes,
        shards,
        settings,
        bytes,
    })
}

/// The shards of `master`, which was opened with its id trackers.
fn shapes(master: &Source) -> Result<Vec<ShardShape>> {
    let mut shapes = Vec::new();
    for (number, shard) in &master.snapshot.shards {
        let mut segments = Vec::new();
        for (uuid, segment) in &shard.segments {
            let what = format!("segment {uuid} of {}", master.snapshot.what());
            segments.push(ids::read(&segment.trackers, &what)?.entries.len() as u64);
        }
        segments.sort_unstable_by(|a, b| b.cmp(a));
        shapes.push(ShardShape {
            shard: *number,
            key: master.shard_keys.key_of(*number).cloned(),
            segments,
        });
    }
    Ok(shapes)
}

/// Compares settled shards point by point; `names` are the sources'.
pub fn compare_settled(
    master: &Settled,
    sources: &[Settled],
    names: &[String],
    layout: Layout,
    asked: Asked<'_>,
    ledger: &mut Ledger<Difference>,
    site: Site<'_>,
) -> Result<Walked> {
    let found = lanes(0, master);
    let expected: Vec<Lane<'_>> = sources
        .iter()
        .enumerate()
        .flat_map(|(at, settled)| lanes(at, settled))
        .collect();
    let total = count(&expected)?.max(count(&found)?);
    let placement = Placement {
        shards: master.shards.iter().map(|shard| shard.number).collect(),
        layout: Some(layout.clone()),
    };
    let stage = site.progress.stage(
        "compare",
        asked.sample.is_none().then_some(total),
        Unit::Points,
    );
    std::thread::scope(|scope| {
        let words: Vec<&str> = names.iter().map(String::as_str).collect();
        // Its conflicts are the merge's business, and told there.
        let conflicts = Ledger::new(None::<&Path>, false)?;
        let keeps_keys = !layout.keys.is_empty();
        let resolver = Resolver::new(asked.settings, words, keeps_keys, conflicts);
        let mut union = Union::start(scope, &expected, asked.settings, resolver, asked.sample)?;
        let reading = Reading {
            sample: asked.sample,
            ..Reading::default()
        };
        let mut scan = Scan::start_reading(scope, &found, reading)?;
        walk(&mut union, &mut scan, names, &placement, ledger, &stage)
    })
}
