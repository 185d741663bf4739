//! Sets of ids that do not fit into memory: sorted runs, merged as they are walked along.
//!
//! Invariants: memory is bounded by [`Spill`]'s limits and a block for each run that was written,
//! whatever the number of ids; numbers that follow each other cost next to nothing; a walk yields every
//! id once, ascending, with all that have it.

mod merge;
mod piece;
mod spill;

use self::merge::{Cursor, Merge};
use self::piece::{GONE, OneUuid, Piece, lay_out, lay_out_uuids};
use self::spill::Run;
pub use self::spill::Spill;
use crate::base::error::Result;
use crate::point::PointId;

/// The ids of some segments, or others.
#[derive(Debug, Clone, Default)]
pub struct IdSet {
    segments: Vec<Vec<Run>>,
}

/// Consecutive ids that the same segments have.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    first: PointId,
    len: u32,
    having: &'a [InSegment],
}

/// A segment that has some ids.
#[derive(Debug, Clone, Copy)]
pub struct InSegment {
    /// Which of the sets that are walked along.
    pub set: usize,
    /// Which segment of it.
    pub segment: usize,
    piece: Piece,
}

impl InSegment {
    /// The version of the id at `place` in the span.
    pub fn version(&self, place: u32) -> u64 {
        self.piece.version_at(place)
    }
}

impl<'a> Span<'a> {
    /// Number of ids; at least one.
    pub fn count(&self) -> u64 {
        u64::from(self.len)
    }

    /// The segments that have them, ascending by set and segment.
    pub fn having(&self) -> &'a [InSegment] {
        self.having
    }

    /// The first id.
    pub fn first(&self) -> PointId {
        self.first
    }

    /// The last id.
    pub fn last(&self) -> PointId {
        self.whole().last()
    }

    /// The place of `id` in the span, if it is there.
    pub fn place(&self, id: PointId) -> Option<u32> {
        match (self.first, id) {
            (PointId::Num(first), PointId::Num(id)) => {
                let place = u32::try_from(id.checked_sub(first)?).ok()?;
                (place < self.len).then_some(place)
            }
            (first, id) => (first == id).then_some(0),
        }
    }

    fn whole(&self) -> Piece {
        Piece {
            len: self.len,
            ..Piece::one(self.first, 0, 0)
        }
    }

    /// The ids, ascending, with their places.
    pub fn ids(&self) -> impl Iterator<Item = (u32, PointId)> + use<> {
        let whole = self.whole();
        (0..self.len).map(move |place| (place, whole.id_at(place)))
    }
}

/// Counts of one segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SegmentCount {
    /// Number of ids.
    pub ids: u64,
    /// Highest version.
    pub newest: Option<u64>,
}

impl SegmentCount {
    fn of(pieces: impl Iterator<Item = Piece>) -> Self {
        let mut count = Self::default();
        for piece in pieces {
            count.add(&piece, piece.len);
        }
        count
    }

    /// Adds the first `len` ids of `piece`.
    fn add(&mut self, piece: &Piece, len: u32) {
        if !piece.is_gone() {
            self.ids += u64::from(len);
            self.newest = self.newest.max(Some(piece.version_at(len - 1)));
        }
    }
}

/// Two points of one segment have one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twice(pub PointId);

impl IdSet {
    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Adds the segments of `other` behind its own.
    pub fn append(&mut self, other: Self) {
        self.segments.extend(other.segments);
    }

    /// Calls `take` with the ids, ascending, each once.
    pub fn walk(&self, take: impl FnMut(Span<'_>) -> Result<()>) -> Result<()> {
        walk(&[self], take)
    }

    /// Counts the ids, each once.
    pub fn count(&self) -> Result<u64> {
        let mut count = 0;
        self.walk(|span| {
            count += span.count();
            Ok(())
        })?;
        Ok(count)
    }

    /// Calls `take` with the ids in pieces of at most `most`, ascending.
    pub fn chunks(
        &self,
        most: usize,
        mut take: impl FnMut(&[PointId]) -> Result<()>,
    ) -> Result<()> {
        let mut chunk = Vec::new();
        self.walk(|span| {
            for (_, id) in span.ids() {
                chunk.push(id);
                if chunk.len() >= most {
                    take(&chunk)?;
                    chunk.clear();
                }
            }
            Ok(())
        })?;
        match chunk.as_slice() {
            [] => Ok(()),
            rest => take(rest),
        }
    }

    /// Counts the ids of one segment; also returns one that several of its runs have.
    fn count_segment(&self, segment: usize) -> Result<(SegmentCount, Option<PointId>)> {
        let mut count = SegmentCount::default();
        let mut again = None;
        let runs = self.segments.get(segment).map_or(&[][..], Vec::as_slice);
        let cursors = runs.iter().map(|run| Cursor {
            set: 0,
            segment,
            pieces: run.pieces(),
        });
        let mut merge = Merge::new(cursors.collect())?;
        let mut hits = Vec::new();
        while let Some((first, len)) = merge.next(&mut hits)? {
            if hits.len() > 1 {
                again.get_or_insert(first);
            }
            if let Some(last) = hits.last() {
                count.add(&last.piece, len);
            }
        }
        Ok((count, again))
    }
}

/// Calls `take` with the ids of all `sets`, ascending, each once.
pub fn walk(sets: &[&IdSet], mut take: impl FnMut(Span<'_>) -> Result<()>) -> Result<()> {
    let mut cursors = Vec::new();
    for (set, ids) in sets.iter().enumerate() {
        for (segment, runs) in ids.segments.iter().enumerate() {
            cursors.extend(runs.iter().map(|run| Cursor {
                set,
                segment,
                pieces: run.pieces(),
            }));
        }
    }
    let mut merge = Merge::new(cursors)?;
    let mut having: Vec<InSegment> = Vec::new();
    while let Some((first, len)) = merge.next(&mut having)? {
        // Of the runs of one segment the last one counts.
        having.dedup_by(|next, last| {
            let is_same = (next.set, next.segment) == (last.set, last.segment);
            if is_same {
                *last = *next;
            }
            is_same
        });
        having.retain(|one| !one.piece.is_gone());
        if !having.is_empty() {
            take(Span {
                first,
                len,
                having: &having,
            })?;
        }
    }
    Ok(())
}

/// Numbers with one version that are sorted at once: as many as a server takes in one operation, or so.
const GROUP_MAX: usize = 1 << 13;

/// A set that grows.
#[derive(Debug)]
pub struct IdSetBuilder {
    spill: Spill,
    set: IdSet,
    /// The last numbers, which have one version: a server takes those of an operation in any order.
    group: Vec<u64>,
    group_version: u64,
    /// Numbers of the segment that grows, as they come.
    pieces: Vec<Piece>,
    /// UUIDs of it.
    uuids: Vec<OneUuid>,
    runs: Vec<Run>,
    /// An id that came more than once in the segment.
    again: Option<PointId>,
}

impl IdSetBuilder {
    /// An empty one, which goes to `spill` when it is too large for memory.
    pub fn new(spill: &Spill) -> Self {
        Self {
            spill: spill.clone(),
            set: IdSet::default(),
            group: Vec::new(),
            group_version: 0,
            pieces: Vec::new(),
            uuids: Vec::new(),
            runs: Vec::new(),
            again: None,
        }
    }

    /// The segments that have ended.
    pub fn set(&self) -> &IdSet {
        &self.set
    }

    /// Forgets what was added since the last segment ended.
    pub fn restart(&mut self) {
        self.group.clear();
        self.pieces.clear();
        self.uuids.clear();
        self.runs.clear();
        self.again = None;
    }

    /// Adds an id with its version, or without one if the point is gone. Of one that comes more than
    /// once in a segment, the last time counts.
    pub fn add(&mut self, id: PointId, version: Option<u64>) -> Result<()> {
        let version = version.unwrap_or(GONE);
        match id {
            PointId::Num(number) => {
                if version != self.group_version || self.group.len() >= GROUP_MAX {
                    self.end_group()?;
                    self.group_version = version;
                }
                self.group.push(number);
            }
            PointId::Uuid(uuid) => {
                self.make_room()?;
                self.uuids.push(OneUuid {
                    id: uuid.as_u128(),
                    version,
                    order: u32::try_from(self.uuids.len()).unwrap_or(u32::MAX),
                });
            }
        }
        Ok(())
    }

    /// Makes pieces of the last numbers.
    fn end_group(&mut self) -> Result<()> {
        let mut group = std::mem::take(&mut self.group);
        if !group.is_sorted() {
            group.sort_unstable();
        }
        let again = group.array_windows().find(|[a, b]| a == b);
        if let Some([_, number]) = again {
            self.again.get_or_insert(PointId::Num(*number));
            group.dedup();
        }
        for numbers in group.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            if let ([first, ..], Ok(len)) = (numbers, u32::try_from(numbers.len())) {
                let one = Piece::one(PointId::Num(*first), self.group_version, 0);
                self.add_piece(Piece { len, ..one })?;
            }
        }
        // Its room is used again.
        group.clear();
        self.group = group;
        Ok(())
    }

    fn add_piece(&mut self, piece: Piece) -> Result<()> {
        if self.pieces.last_mut().is_some_and(|last| last.join(&piece)) {
            return Ok(());
        }
        self.make_room()?;
        let order = u32::try_from(self.pieces.len()).unwrap_or(u32::MAX);
        self.pieces.push(Piece { order, ..piece });
        Ok(())
    }

    /// Writes what was collected if it fills the memory that there is for it.
    fn make_room(&mut self) -> Result<()> {
        let bytes = |pieces: usize, uuids: usize| {
            pieces * size_of::<Piece>() + uuids * size_of::<OneUuid>()
        };
        if bytes(self.pieces.len(), self.uuids.len()) < bytes(self.spill.limits().pieces, 0) {
            return Ok(());
        }
        self.lay_out();
        let uuids = self.uuids.iter().map(OneUuid::piece);
        let run = self.spill.write(self.pieces.iter().copied().chain(uuids))?;
        self.runs.push(run);
        self.pieces.clear();
        self.uuids.clear();
        Ok(())
    }

    fn lay_out(&mut self) {
        let (pieces, again) = lay_out(std::mem::take(&mut self.pieces));
        self.pieces = pieces;
        let of_uuids = lay_out_uuids(&mut self.uuids);
        self.again = self.again.or(again).or(of_uuids);
    }

    /// Ends a segment: what is added next is another's. With `once`, an id that came twice is
    /// returned in place of the counts, and the segment is forgotten.
    pub fn end_segment(&mut self, once: bool) -> Result<std::result::Result<SegmentCount, Twice>> {
        self.end_group()?;
        self.lay_out();
        let laid = || {
            let uuids = self.uuids.iter().map(OneUuid::piece);
            self.pieces.iter().copied().chain(uuids)
        };
        // Pieces of one run do not overlap, so that no walk is needed.
        let of_one = self.runs.is_empty().then(|| SegmentCount::of(laid()));
        let count = self.pieces.len() + self.uuids.len();
        if count > 0 {
            let run = self.spill.keep(count, laid())?;
            self.runs.push(run);
        }
        self.pieces.clear();
        self.uuids.clear();
        let segment = self.set.segments();
        self.set.segments.push(std::mem::take(&mut self.runs));
        let (count, again) = match of_one {
            Some(count) => (count, None),
            None => self.set.count_segment(segment)?,
        };
        match self.again.take().or(again).filter(|_| once) {
            None => Ok(Ok(count)),
            Some(id) => {
                self.set.segments.pop();
                Ok(Err(Twice(id)))
            }
        }
    }

    /// The set.
    pub fn finish(self) -> IdSet {
        self.set
    }
}

#[cfg(test)]
mod tests;
