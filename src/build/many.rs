//! Several collections of one shape, out of one stream of sorted records.
//!
//! Invariants: they are built one after the other, so that memory and open files do not grow with their
//! number; none gets its name before all are proven.

use std::iter::Peekable;
use std::path::PathBuf;

use super::{Builder, Shape, Snapshot, allow_parts};
use crate::base::durable::Staged;
use crate::base::error::{Error, Result};
use crate::base::overwrite;
use crate::base::sidecar::Sidecar;
use crate::format::schema::United;
use crate::point::Record;
use crate::stream::{Layout, Placed};

/// A collection that is to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Path of its snapshot.
    pub output: PathBuf,
    /// Number of its points, at about.
    pub points: u64,
}

/// Bytes of a file's name, at the most.
const NAME_BYTES_MAX: usize = 255;

/// Refuses outputs that exist, unless they are to be replaced, that are one of `inputs`, or that cannot have sidecars.
pub fn stage(wanted: &[Wanted], inputs: &[PathBuf], replace: bool) -> Result<Vec<Staged>> {
    let mut staged: Vec<Staged> = Vec::new();
    for Wanted { output, .. } in wanted {
        overwrite::refuse(output, inputs)?;
        let refuse = |why: String| {
            Error::usage(format!("writing {}", output.display()), why)
                .next("choose another pattern, or another field")
        };
        for sidecar in Sidecar::ALL.map(|sidecar| sidecar.of(output)) {
            if wanted.iter().any(|other| other.output == sidecar) {
                return Err(refuse(format!(
                    "{} would be its sidecar",
                    sidecar.display()
                )));
            }
            if sidecar
                .file_name()
                .is_some_and(|name| name.len() > NAME_BYTES_MAX)
            {
                return Err(refuse("its name is too long".into()));
            }
        }
        staged.push(match staged.first() {
            None => Staged::new(output, replace)?,
            Some(first) => first.another(output, replace)?,
        });
    }
    Ok(staged)
}

/// Builds the collections `wanted`, each of which has the config and payload indexes of `united` and the
/// shards of `layout`, out of `records`, which come by collection and identity, each identity once.
pub fn build_all(
    builder: Builder<'_>,
    united: &United,
    layout: &Layout,
    wanted: &[Wanted],
    staged: Vec<Staged>,
    records: impl Iterator<Item = Result<Placed>>,
) -> Result<Vec<Snapshot>> {
    let mut records = records.peekable();
    let mut built = Vec::new();
    for ((number, wanted), staged) in (0..).zip(wanted).zip(staged) {
        let mut united = united.clone();
        allow_parts(wanted.points, layout.shards.len(), None, &mut united)?;
        let shape = Shape {
            config: &united.config,
            payload: &united.payload,
            layout,
        };
        let mut next = || next_of(number, &mut records);
        built.push(builder.build(shape, wanted.points, &mut next, staged, &wanted.output)?);
    }
    match records.next() {
        None => Ok(built),
        Some(Err(err)) => Err(err),
        Some(Ok((number, record))) => Err(Error::failed(
            format!("placing point {}", record.id),
            format!("there is no collection {number}"),
        )),
    }
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
