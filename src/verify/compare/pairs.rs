//! Comparing the segments of a grafted master with those that they were carried over from, byte by
//! byte.
//!
//! A segment keeps its UUID when it is carried over, so that what it must equal is known before
//! anything is read; then to look at both is cheaper than to hash them, and says more.
//!
//! Invariants: segments are one only if every byte of both was read and is the same; whatever does not
//! pair up is left to be found by its hash.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _};

use uuid::Uuid;

use crate::base::error::{Error, Result};
use crate::base::parallel::in_parallel;
use crate::format::{RangeReader, SnapshotFile};
use crate::point::Hash;
use crate::source::Source;

/// Files, or pairs of segments, that are read at once.
pub(super) const AT_ONCE: usize = 2;

/// Identity of the bytes of a segment's tar, as far as it matters which are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    /// The bytes of this pair, the same in both.
    Pair(usize),
    /// Bytes with this hash.
    Hashed(Hash),
}

/// A segment's tar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub shard: u32,
    pub uuid: Uuid,
    pub bytes: u64,
    pub content: Content,
}

/// Bytes read at once, of each of two segments: both fit into a processor's own cache.
const BUFFER_BYTES: usize = 256 << 10;
/// Location of a segment's tar.
#[derive(Debug, Clone)]
struct Lying {
    /// The place of its snapshot: the master, and then the sources.
    of: usize,
    shard: u32,
    uuid: Uuid,
    file: SnapshotFile,
    from: u64,
    bytes: u64,
}

/// Something to be read.
enum Work<'a> {
    /// Two segments.
    Pair(&'a [Lying; 2]),
    /// A file whose checksum is still to be compared.
    Checksum(&'a mut Source),
}

/// Compares every segment of `master` with the one of `sources` that has its UUID, and what checksums
/// there are meanwhile; returns those of the master and of each source, in this order. None, with
/// nothing read, if they do not pair up; and none if any pair differs.
pub fn compare(master: &mut Source, sources: &mut [Source]) -> Result<Option<Vec<Vec<Read>>>> {
    let Some(pairs) = pairs(master, sources) else {
        return Ok(None);
    };
    let mut found = vec![Vec::new(); 1 + sources.len()];
    // A checksum takes longest, since one thread computes it.
    let all = std::iter::once(master).chain(sources.iter_mut());
    let work: Vec<Work<'_>> = all
        .filter(|source| source.is_unchecked())
        .map(Work::Checksum)
        .chain(pairs.iter().map(Work::Pair))
        .collect();
    let equal = in_parallel(work, AT_ONCE, |work| match work {
        Work::Pair(pair) => are_equal(pair),
        Work::Checksum(source) => source.verify().map(|()| true),
    })?;
    if equal.contains(&false) {
        return Ok(None);
    }
    for (pair, twins) in pairs.iter().enumerate() {
        for one in twins {
            if let Some(found) = found.get_mut(one.of) {
                found.push(Read {
                    shard: one.shard,
                    uuid: one.uuid,
                    bytes: one.bytes,
                    content: Content::Pair(pair),
                });
            }
        }
    }
    Ok(Some(found))
}

/// The segments of the master, each with its twin; none if one has none, or one is left.
fn pairs(master: &Source, sources: &[Source]) -> Option<Vec<[Lying; 2]>> {
    let mut of_sources: BTreeMap<(Uuid, u64), Vec<Lying>> = BTreeMap::new();
    for (at, source) in sources.iter().enumerate() {
        for lying in lying(at + 1, source)? {
            let twins = of_sources.entry((lying.uuid, lying.bytes)).or_default();
            twins.push(lying);
        }
    }
    let mut pairs = Vec::new();
    for mine in lying(0, master)? {
        let twin = of_sources.get_mut(&(mine.uuid, mine.bytes))?.pop()?;
        pairs.push([mine, twin]);
    }
    of_sources.values().all(Vec::is_empty).then_some(pairs)
}

/// The segments of a snapshot; none if it is compressed.
fn lying(of: usize, source: &Source) -> Option<Vec<Lying>> {
    let snapshot = &source.snapshot;
    if snapshot.compressed {
        return None;
    }
    let mut all = Vec::new();
    for (shard, held) in &snapshot.shards {
        for (uuid, segment) in &held.segments {
            let (from, bytes) = segment.tar?;
            all.push(Lying {
                of,
                shard: *shard,
                uuid: *uuid,
                file: snapshot.file.clone(),
                from,
                bytes,
            });
        }
    }
    Some(all)
}

fn are_equal([one, other]: &[Lying; 2]) -> Result<bool> {
    let (mut one, mut other) = (Reading::of(one)?, Reading::of(other)?);
    loop {
        let (here, there) = (one.next()?, other.next()?);
        if here != there {
            return Ok(false);
        }
        if here.is_empty() {
            return Ok(true);
        }
    }
}

/// A segment being read.
struct Reading<'a> {
    file: &'a SnapshotFile,
    reader: RangeReader,
    left: u64,
    buffer: Vec<u8>,
}

impl<'a> Reading<'a> {
    fn of(lying: &'a Lying) -> Result<Self> {
        let file = &lying.file;
        let range = lying.from..lying.from.saturating_add(lying.bytes);
        let reader = file.read_range(range);
        Ok(Self {
            file,
            reader: reader.map_err(|err| Error::reading(format!("opening {file}"), &err))?,
            left: lying.bytes,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// The bytes that come next; none at the end.
    fn next(&mut self) -> Result<&[u8]> {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let length = left.min(self.buffer.len());
        let room = self.buffer.get_mut(..length).unwrap_or_default();
        self.reader.read_exact(room).map_err(|err| {
            // It was whole when it was looked into.
            let doing = format!("reading {}", self.file);
            match err.kind() {
                ErrorKind::UnexpectedEof => Error::damaged(doing, "it has become shorter"),
                _ => Error::reading(doing, &err),
            }
        })?;
        self.left -= length as u64;
        Ok(room)
    }
}
