//! The ids of a segment as a stream, in the order of its files and in bounded memory.
//!
//! Invariants: what comes out is what [`super::read`] finds in the same files; files that are not as a
//! sound writer leaves them give no stream, and are for [`super::read`] to judge.

use std::io::{ErrorKind, Read};

use super::mutable::{self, Change};
use super::trackers::{Content, Plain, Trackers};
use super::{Format, immutable};
use crate::base::error::{Error, Result};
use crate::format::layout;
use crate::point::PointId;

/// Largest bitmap of deleted points that is held, in bytes: for a thousand million points.
const DELETED_BYTES_MAX: u64 = 128 << 20;
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// The longest record: a kind, a UUID, an offset.
const RECORD_BYTES_MAX: usize = 1 + 16 + 4;

/// A segment whose ids were streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streamed {
    /// Form in which the segment keeps its ids.
    pub format: Format,
    /// Number of offsets that the segment has given out.
    pub total_offsets: u64,
    /// True if no id may have come twice; else the last time counts.
    pub once: bool,
}

/// Calls `take` with every id and its version, or without one if the point is deleted. Returns nothing
/// if it takes all files together to tell; what was taken until then is to be forgotten.
///
/// # Errors
/// Those of `take`, and if a file cannot be read.
pub fn stream(
    trackers: &Trackers,
    what: &str,
    take: &mut dyn FnMut(PointId, Option<u64>) -> Result<()>,
) -> Result<Option<Streamed>> {
    let streamed = match trackers.plain() {
        None => return Ok(None),
        Some(Plain::Mutable { mappings, versions }) => of_mutable(mappings, versions, take),
        Some(Plain::Immutable {
            mappings,
            versions,
            deleted,
        }) => of_immutable(mappings, versions, deleted, take),
    };
    match streamed {
        Ok(streamed) => Ok(Some(streamed)),
        Err(Stop::Unusual) => Ok(None),
        Err(Stop::Io(err)) if err.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(Stop::Io(err)) => Err(Error::reading(format!("reading the ids of {what}"), &err)),
        Err(Stop::Taking(err)) => Err(err),
    }
}

enum Stop {
    Unusual,
    Io(std::io::Error),
    Taking(Error),
}

impl From<std::io::Error> for Stop {
    fn from(err: std::io::Error) -> Self {
        Self::Io(err)
    }
}

impl From<Error> for Stop {
    fn from(err: Error) -> Self {
        Self::Taking(err)
    }
}

/// Every offset is given out once and in order, as a sound writer does, so the last record of an id
/// says all of it.
fn of_mutable(
    mappings: &Content,
    versions: &Content,
    take: &mut dyn FnMut(PointId, Option<u64>) -> Result<()>,
) -> std::result::Result<Streamed, Stop> {
    let mut versions = Versions::new(versions)?;
    let mut records = Records::new(mappings)?;
    let mut next_offset = 0_u64;
    while let Some(change) = records.next(|rest| mutable::next(rest).ok().flatten())? {
        match change {
            Change::Insert(id, offset) => {
                let offset = u64::from(offset);
                if offset < next_offset {
                    return Err(Stop::Unusual);
                }
                next_offset = offset + 1;
                take(id, Some(versions.at(offset)?))?;
            }
            Change::Delete(id) => take(id, None)?,
        }
    }
    Ok(Streamed {
        format: Format::Mutable,
        total_offsets: next_offset,
        once: false,
    })
}

fn of_immutable(
    mappings: &Content,
    versions: &Content,
    deleted: &Content,
    take: &mut dyn FnMut(PointId, Option<u64>) -> Result<()>,
) -> std::result::Result<Streamed, Stop> {
    let mut records = Records::new(mappings)?;
    let total = records.next(super::take)?.map(u64::from_le_bytes);
    let total = total.ok_or(Stop::Unusual)?;
    let fits = u32::try_from(total).is_ok()
        && versions.len() / 8 >= total
        && deleted.len() >= total.div_ceil(8)
        && deleted.len() <= DELETED_BYTES_MAX;
    if !fits {
        return Err(Stop::Unusual);
    }
    let mut versions = Versions::new(versions)?;
    let mut bits = Vec::new();
    deleted.reader()?.read_to_end(&mut bits)?;
    let bits = immutable::Deleted::new(&bits, usize::try_from(total).unwrap_or(usize::MAX))
        .map_err(|_| Stop::Unusual)?;
    for at in 0..total {
        let Some((id, offset)) = records.next(immutable::record)? else {
            return Err(Stop::Unusual);
        };
        if u64::from(offset) != at {
            return Err(Stop::Unusual);
        }
        if !bits.contains(offset as usize) {
            take(id, Some(versions.at(at)?))?;
        }
    }
    match records.next(immutable::record)? {
        None => Ok(Streamed {
            format: Format::Immutable,
            total_offsets: total,
            once: true,
        }),
        Some(_) => Err(Stop::Unusual),
    }
}

/// The records of a file, of which none is longer than [`RECORD_BYTES_MAX`].
struct Records<'a> {
    reader: Box<dyn Read + 'a>,
    buffer: Vec<u8>,
    at: usize,
    left: u64,
}

impl<'a> Records<'a> {
    fn new(content: &'a Content) -> std::io::Result<Self> {
        Ok(Self {
            reader: content.reader()?,
            buffer: Vec::new(),
            at: 0,
            left: content.len(),
        })
    }

    /// Next value that `parse` takes off the front; none at the end.
    fn next<T>(
        &mut self,
        parse: impl FnOnce(&mut &[u8]) -> Option<T>,
    ) -> std::result::Result<Option<T>, Stop> {
        let there = self.buffer.len() - self.at;
        if there < RECORD_BYTES_MAX && self.left > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
            let more = usize::try_from(self.left)
                .unwrap_or(CHUNK_BYTES)
                .min(CHUNK_BYTES);
            self.buffer.resize(there + more, 0);
            let space = self.buffer.get_mut(there..).unwrap_or_default();
            self.reader.read_exact(space)?;
            self.left -= more as u64;
        }
        let mut rest = self.buffer.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let parsed = parse(&mut rest).ok_or(Stop::Unusual)?;
        self.at = self.buffer.len() - rest.len();
        Ok(Some(parsed))
    }
}

/// Versions, asked for in the order of offsets.
struct Versions<'a> {
    records: Records<'a>,
    next: u64,
}

impl<'a> Versions<'a> {
    fn new(content: &'a Content) -> std::result::Result<Self, Stop> {
        if !content.len().is_multiple_of(8) {
            return Err(Stop::Unusual);
        }
        let records = Records::new(content)?;
        Ok(Self { records, next: 0 })
    }

    /// The version of `offset`, above all that were asked for before.
    fn at(&mut self, offset: u64) -> std::result::Result<u64, Stop> {
        loop {
            let version = self.records.next(super::take)?.map(u64::from_le_bytes);
            let version = version.ok_or(Stop::Unusual)?;
            let at = self.next;
            self.next += 1;
            if at == offset {
                return match version {
                    ..=layout::OPERATION_MAX => Ok(version),
                    _ => Err(Stop::Unusual),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests;
