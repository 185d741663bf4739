//! The proof of a live master: everything that the server has, read back.
//!
//! Invariants: equal digests mean equal points, bit by bit; where they are not equal, every point is
//! compared, and what is only near is counted; the exact count must be that of the points in any case.

use super::Work;
use crate::base::error::Result;
use crate::base::progress::Unit;
use crate::build::{ByKey, LookupBatcher, Pair, by_key};
use crate::point::Digest;
use crate::stream::Flow;
use crate::stream::Ledger;
use crate::verify::{Likeness, Nearness};

/// Bytes of records that are read at once.
const PAGE_BYTES: usize = 4 << 20;
/// Points that are named, of those that differ.
const NAMED: usize = 5;

/// Result of the comparison.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checked {
    /// Points that the server has, read back.
    pub points: u64,
    /// Points that were to be there.
    pub wanted: u64,
    /// The digest of what the server has.
    pub digest: Digest,
    /// Points that are equal but for the last bits of vectors that a server normalizes again.
    pub near: u64,
    /// The largest difference of two values of such vectors.
    pub apart_max: f32,
    /// Points that are there and are others.
    pub different: u64,
    /// Points that are not there.
    pub missing: u64,
    /// The first of both.
    pub named: Vec<String>,
}

impl Checked {
    /// Returns the differences in words; empty if there are none.
    pub fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.different + self.missing > 0 {
            differences.push(format!(
                "{} points are not what was sent and {} are not there, among them {}",
                self.different,
                self.missing,
                self.named.join(", ")
            ));
        }
        if self.points != self.wanted {
            differences.push(format!(
                "the server has {} points instead of {}",
                self.points, self.wanted
            ));
        }
        differences
    }

    /// Returns the result of the comparison in words.
    pub fn words(&self) -> String {
        match self.near {
            0 => "ids, vectors and payloads are bit by bit what was to be there".into(),
            near => format!(
                "ids and payloads are what was to be there; vectors of {near} points differ in the \
                 last bits, by {:e} at the most, since the server normalized them again",
                self.apart_max
            ),
        }
    }
}

/// Compares what the server has with what the flow gives, whose digest is `wanted`.
pub(super) fn prove(work: &Work<'_>, flow: &Flow<'_>, wanted: &Digest) -> Result<Checked> {
    let there = by_key(&work.onto.target, work.keyed())?;
    let mut checked = Checked {
        digest: digest(work, &there)?,
        wanted: wanted.points(),
        ..Checked::default()
    };
    checked.points = checked.digest.points();
    if checked.digest != *wanted {
        compare(work, flow, &there, &mut checked)?;
    }
    Ok(checked)
}

/// The digest of everything that is there.
fn digest(work: &Work<'_>, there: &ByKey) -> Result<Digest> {
    let mut total = 0;
    for points in there.values() {
        total += points.count(None)?;
    }
    let stage = work.site.progress.stage("prove", Some(total), Unit::Points);
    let mut digest = Digest::default();
    let mut buffer = Vec::new();
    for (key, points) in there {
        points.read(None, None, PAGE_BYTES, |records| {
            stage.add(records.len() as u64);
            for mut record in records {
                record.shard_key.clone_from(key);
                digest.add(&record, &mut buffer);
            }
            true
        })?;
    }
    Ok(digest)
}

/// Asks for every point that is to be there.
fn compare(work: &Work<'_>, flow: &Flow<'_>, there: &ByKey, checked: &mut Checked) -> Result<()> {
    let nearness = Nearness::new(&work.plan.united.config);
    let stage = work
        .site
        .progress
        .stage("compare", Some(flow.total()), Unit::Points);
    let mut resolver = work.resolver(Ledger::new(None, false)?);
    let mut lookups = LookupBatcher::new(there);
    let mut on = |(given, own): Pair| {
        let like = own.as_ref().map(|own| nearness.compare(&given, own));
        match like {
            Some(Likeness::Equal) => return Ok(()),
            Some(Likeness::Near(apart)) => {
                checked.near += 1;
                checked.apart_max = checked.apart_max.max(apart);
                return Ok(());
            }
            Some(Likeness::Different) => checked.different += 1,
            None => checked.missing += 1,
        }
        if checked.named.len() < NAMED {
            checked.named.push(given.id.to_string());
        }
        Ok(())
    };
    flow.run(&mut resolver, &stage, |record, _| {
        lookups.add(record, &mut on)
    })?;
    lookups.flush(&mut on)
}
