//! Several collections of one shape, out of one stream of sorted records.
//!
//! Invariants: they are built one after the other, so that memory and open files do not grow with their
//! number; none gets its name before all are proven; those that an earlier run finished are not built again.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use super::resume::ResumeState;
use super::{Builder, PartReport, Pattern, Shape, Snapshot, allow_parts};
use crate::base::durable::Staged;
use crate::base::error::{Error, Kind, Result};
use crate::base::overwrite::ReadFiles;
use crate::base::sidecar::Sidecar;
use crate::format::schema::United;
use crate::point::{Digest, Record};
use crate::stream::{Layout, Placed, Records};

/// Bytes of a file's name, at the most.
const NAME_BYTES_MAX: usize = 255;

/// Collections that are told apart by a value, to be built.
#[derive(Debug)]
pub struct Staging {
    /// By their numbers: the value, about how many points, the path, and the file that gets it.
    parts: Vec<(String, u64, PathBuf, Staged)>,
    /// Those that are there already, since an earlier run was killed while it gave names.
    published: BTreeSet<PathBuf>,
    resume: Option<ResumeState>,
}

impl Staging {
    /// Of `values` with about their points, in the order of their numbers, under the names that `pattern` gives. Refuses
    /// outputs that exist, unless they are to be replaced, that are `read`, or that cannot have sidecars.
    pub fn new(
        pattern: &Pattern,
        values: Vec<(String, u64)>,
        read: &ReadFiles,
        replace: bool,
    ) -> Result<Self> {
        let outputs: BTreeSet<PathBuf> = values
            .iter()
            .map(|(value, _)| pattern.path(value))
            .collect();
        let mut parts: Vec<(String, u64, PathBuf, Staged)> = Vec::new();
        let mut published = BTreeSet::new();
        // One alone is published as soon as it is finished.
        let resume = (values.len() > 1).then(|| ResumeState::open(pattern));
        let resume = resume.transpose()?;
        for (value, points) in values {
            let output = pattern.path(&value);
            read.refuse(&output)?;
            refuse_sidecars(&output, &outputs)?;
            let mut replace = replace;
            if let Some(resume) = resume.as_ref().filter(|_| !replace)
                && resume.has_published(&value, &output)?
            {
                published.insert(output.clone());
                replace = true;
            }
            let staged = match parts.first() {
                None => Staged::new(&output, replace)?,
                Some((.., first)) => first.another(&output, replace)?,
            };
            parts.push((value, points, output, staged));
        }
        Ok(Self {
            parts,
            published,
            resume,
        })
    }

    /// Returns true if one of them is to be the file at `path`, or a sidecar of it.
    pub fn has(&self, path: &Path) -> bool {
        let names = |output: &PathBuf| Sidecar::ALL.map(|sidecar| sidecar.of(output));
        (self.parts.iter()).any(|(_, _, output, _)| {
            output == path || names(output).iter().any(|sidecar| sidecar == path)
        })
    }

    /// Bytes of those that an earlier run made, and that lie in the folder of the outputs.
    pub fn resumed_bytes(&self) -> u64 {
        let outputs = self.parts.iter();
        let outputs = outputs.map(|(value, _, output, _)| (value.as_str(), output.as_path()));
        let outputs = outputs.collect();
        (self.resume.as_ref()).map_or(0, |resume| resume.bytes(&outputs))
    }

    /// Builds them, each with the config and payload indexes of `united` and the shards of `layout`, out of what
    /// `records` gives each time that it is called: records by collection and identity, each identity once.
    pub fn build<'r>(
        mut self,
        builder: Builder<'_>,
        united: &United,
        layout: &Layout,
        records: &'r dyn Fn() -> Result<Records<'r>>,
    ) -> Result<Built> {
        let built = self.build_parts(builder, united, layout, records);
        built.map_err(
            |err| match self.resume.as_ref().and_then(ResumeState::next_step) {
                Some(next) if err.next_step().is_none() || err.kind() == Kind::Cancelled => {
                    err.next(next)
                }
                _ => err,
            },
        )
    }

    fn build_parts<'r>(
        &mut self,
        builder: Builder<'_>,
        united: &United,
        layout: &Layout,
        records: &'r dyn Fn() -> Result<Records<'r>>,
    ) -> Result<Built> {
        let digests = match &self.resume {
            Some(resume) if resume.has_some() => digests(records()?)?,
            _ => BTreeMap::new(),
        };
        let mut ready = Vec::new();
        for (number, (value, points, output, _)) in (0..).zip(&self.parts) {
            let mut united = united.clone();
            allow_parts(*points, layout.shards.len(), None, &mut united)?;
            let finished = match (&self.resume, digests.get(&number)) {
                (Some(resume), Some(digest)) => {
                    resume.part(value, shape(&united, layout), digest, output)?
                }
                _ => None,
            };
            if finished.is_none() && self.published.contains(output) {
                return Err(Error::usage(
                    format!("writing {}", output.display()),
                    "it exists, of an earlier run that was killed, and has other points than this one would",
                )
                .next("choose another name or give --force"));
            }
            ready.push((united, finished));
        }
        let mut records = records()?.peekable();
        let mut built = Built::default();
        let parts = std::mem::take(&mut self.parts).into_iter().zip(ready);
        for (number, ((value, points, output, staged), (united, finished))) in (0..).zip(parts) {
            let shape = shape(&united, layout);
            let mut next = || next_of(number, &mut records);
            let is_resumed = finished.is_some();
            let mut snapshot = match finished {
                Some((part, path)) => {
                    while next()?.is_some() {}
                    Snapshot::of_finished(part.finished, path, staged, &output)
                }
                None => builder.build(shape, points, &mut next, staged, &output)?,
            };
            if let Some(resume) = self.resume.as_mut().filter(|_| !is_resumed) {
                resume.add(&value, shape, &mut snapshot)?;
            }
            built.digest.join(&snapshot.finished.digest);
            built
                .reports
                .push(PartReport::new(value, &snapshot, is_resumed));
            built.snapshots.push(snapshot);
        }
        built.resume = self.resume.take();
        match records.next() {
            None => Ok(built),
            Some(Err(err)) => Err(err),
            Some(Ok((number, record))) => Err(Error::failed(
                format!("placing point {}", record.id),
                format!("there is no collection {number}"),
            )),
        }
    }
}

/// Collections that were built and proven, and have no names yet.
#[derive(Debug, Default)]
pub struct Built {
    snapshots: Vec<Snapshot>,
    /// Digest of the points of all of them.
    pub digest: Digest,
    reports: Vec<PartReport>,
    resume: Option<ResumeState>,
}

impl Built {
    /// Gives them their names, and then does what comes `last`, before which a run that is killed can be
    /// taken up; returns what is to be told of each, and how many bytes they have.
    pub fn publish(
        self,
        replace: bool,
        last: impl FnOnce() -> Result<()>,
    ) -> Result<(Vec<PartReport>, u64)> {
        let bytes = self
            .snapshots
            .iter()
            .map(|snapshot| snapshot.finished.file_bytes)
            .sum();
        for snapshot in self.snapshots {
            snapshot.publish(replace)?;
        }
        last()?;
        if let Some(resume) = self.resume {
            resume.remove();
        }
        Ok((self.reports, bytes))
    }
}

/// The shape of a collection.
fn shape<'a>(united: &'a United, layout: &'a Layout) -> Shape<'a> {
    Shape {
        config: &united.config,
        payload: &united.payload,
        layout,
    }
}

/// The digests of the collections by their numbers.
fn digests(records: impl Iterator<Item = Result<Placed>>) -> Result<BTreeMap<u32, Digest>> {
    let (mut digests, mut buffer) = (BTreeMap::<u32, Digest>::new(), Vec::new());
    for placed in records {
        let (number, record) = placed?;
        digests.entry(number).or_default().add(&record, &mut buffer);
    }
    Ok(digests)
}

/// Refuses an output whose sidecars would be one of the `outputs`, or have names that are too long.
fn refuse_sidecars(output: &Path, outputs: &BTreeSet<PathBuf>) -> Result<()> {
    let refuse = |why: String| {
        Err(Error::usage(format!("writing {}", output.display()), why)
            .next("choose another pattern, or another field"))
    };
    for sidecar in Sidecar::ALL.map(|sidecar| sidecar.of(output)) {
        if outputs.contains(&sidecar) {
            return refuse(format!("{} would be its sidecar", sidecar.display()));
        }
        if sidecar
            .file_name()
            .is_some_and(|name| name.len() > NAME_BYTES_MAX)
        {
            return refuse("its name is too long".into());
        }
    }
    Ok(())
}

/// The next record of the collection `number`; none if the next one is of another.
pub fn next_of<I: Iterator<Item = Result<Placed>>>(
    number: u32,
    records: &mut Peekable<I>,
) -> Result<Option<Record>> {
    let same = |placed: &Result<Placed>| placed.as_ref().map_or(true, |(of, _)| *of == number);
    let next = records.next_if(same).transpose()?;
    Ok(next.map(|(_, record)| record))
}
