//! Pieces of ids: consecutive numbers, or one UUID, with their versions.
//!
//! Ids that are given out in order, as most are, come to one piece for thousands of points.
//! Invariants: a piece has at least one id, none beyond the last number; a UUID is a piece by itself;
//! pieces that were laid out ascend and do not overlap.

use std::collections::BinaryHeap;

use uuid::Uuid;

use crate::point::PointId;

/// In place of a version: the point is deleted.
pub(super) const GONE: u64 = u64::MAX;

/// A UUID on its way into a run, in two thirds of the room of a piece.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneUuid {
    pub id: u128,
    pub version: u64,
    /// As [`Piece::order`].
    pub order: u32,
}

impl OneUuid {
    pub(super) fn piece(&self) -> Piece {
        Piece::one(
            PointId::Uuid(Uuid::from_u128(self.id)),
            self.version,
            self.order,
        )
    }
}

/// Ids from `start` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub start: PointId,
    /// Number of ids.
    pub len: u32,
    /// Place in the order in which pieces were added; of two with one id, the later counts.
    pub order: u32,
    /// True if the version grows by one with each id.
    pub steps: bool,
    /// Version of the first id.
    pub version: u64,
}

/// The number of the id after all of a piece, wider than a number so that there always is one.
fn end(piece: &Piece) -> u128 {
    at(piece.start).saturating_add(u128::from(piece.len))
}

fn at(id: PointId) -> u128 {
    match id {
        PointId::Num(number) => u128::from(number),
        PointId::Uuid(uuid) => uuid.as_u128(),
    }
}

impl Piece {
    pub(super) fn one(id: PointId, version: u64, order: u32) -> Self {
        Self {
            start: id,
            len: 1,
            order,
            steps: false,
            version,
        }
    }

    /// Returns true if no point of it is there.
    pub(super) fn is_gone(&self) -> bool {
        self.version == GONE
    }

    /// The version of the id at `place` in it.
    pub(super) fn version_at(&self, place: u32) -> u64 {
        match self.steps {
            true => self.version.saturating_add(u64::from(place)),
            false => self.version,
        }
    }

    /// The last id.
    pub(super) fn last(&self) -> PointId {
        self.id_at(self.len - 1)
    }

    /// The id at `place` in it.
    pub(super) fn id_at(&self, place: u32) -> PointId {
        match self.start {
            PointId::Num(number) => PointId::Num(number.saturating_add(u64::from(place))),
            uuid @ PointId::Uuid(_) => uuid,
        }
    }

    /// The rest after its first `count` ids, of which it has more.
    pub(super) fn without_first(&self, count: u32) -> Self {
        Self {
            start: self.id_at(count),
            len: self.len - count,
            version: self.version_at(count),
            ..*self
        }
    }

    /// Takes `next` in, if that goes on where this ends; returns whether it does.
    pub(super) fn join(&mut self, next: &Self) -> bool {
        let (PointId::Num(_), PointId::Num(_)) = (self.start, next.start) else {
            return false;
        };
        let Some(len) = self.len.checked_add(next.len) else {
            return false;
        };
        if end(self) != at(next.start) {
            return false;
        }
        let one_more = self.version != GONE && self.version.checked_add(1) == Some(next.version);
        let steps = match (self.len, next.len) {
            (1, 1) => one_more,
            (1, _) => next.steps,
            (_, 1) => self.steps,
            _ if self.steps == next.steps => self.steps,
            _ => return false,
        };
        let joined = Self { steps, ..*self };
        let fits = next.version == joined.version_at(self.len)
            && (next.version == GONE) == (self.version == GONE);
        if fits {
            *self = Self { len, ..joined };
        }
        fits
    }
}

/// Lays out `pieces` of numbers: ascending, without overlaps, and as few as that takes. Of an id that comes
/// more than once, what was added last counts; one of those ids is returned too.
pub(super) fn lay_out(mut pieces: Vec<Piece>) -> (Vec<Piece>, Option<PointId>) {
    if !pieces.is_sorted_by_key(|piece| at(piece.start)) {
        pieces.sort_unstable_by_key(|piece| at(piece.start));
    }
    let overlaps = |a: &Piece, b: &Piece| end(a) > at(b.start);
    let mut clashes = pieces.array_windows().filter(|[a, b]| overlaps(a, b));
    let clash = clashes.next().map(|[_, later]| later.start);
    if clash.is_some() {
        pieces = without_overlaps(&pieces);
    }
    pieces.dedup_by(|next, last| last.join(next));
    (pieces, clash)
}

fn without_overlaps(pieces: &[Piece]) -> Vec<Piece> {
    let mut laid: Vec<Piece> = Vec::with_capacity(pieces.len());
    let mut rest = pieces;
    while let Some(first) = rest.first() {
        // Pieces that hang together.
        let (mut count, mut reach) = (1, end(first));
        while let Some(next) = rest.get(count).filter(|next| at(next.start) < reach) {
            reach = reach.max(end(next));
            count += 1;
        }
        let (cluster, others) = rest.split_at(count);
        rest = others;
        sweep(cluster, &mut laid);
    }
    laid
}

/// Lays out UUIDs as [`lay_out`] does numbers.
pub(super) fn lay_out_uuids(uuids: &mut Vec<OneUuid>) -> Option<PointId> {
    if !uuids.is_sorted_by_key(|one| one.id) {
        uuids.sort_unstable_by_key(|one| one.id);
    }
    let mut again = None;
    uuids.dedup_by(|next, last| {
        let is_again = next.id == last.id;
        if is_again {
            again = Some(next.piece().start);
            if next.order > last.order {
                *last = *next;
            }
        }
        is_again
    });
    again
}

/// Lays out pieces of numbers, sorted by their starts, that overlap.
fn sweep(cluster: &[Piece], laid: &mut Vec<Piece>) {
    let mut waiting = cluster.iter().peekable();
    // The latest of those that reach beyond `here`.
    let mut open: BinaryHeap<(u32, usize)> = BinaryHeap::new();
    let mut opened = 0;
    let mut here = 0;
    loop {
        while waiting.next_if(|next| at(next.start) <= here).is_some() {
            let order = cluster.get(opened).map_or(0, |piece| piece.order);
            open.push((order, opened));
            opened += 1;
        }
        while let Some((_, top)) = open.peek()
            && cluster.get(*top).is_none_or(|piece| end(piece) <= here)
        {
            open.pop();
        }
        let next = waiting.peek().map(|next| at(next.start));
        let top = open.peek().and_then(|(_, top)| cluster.get(*top));
        let until = match (top, next) {
            (None, None) => return,
            (None, Some(next)) => {
                here = next;
                continue;
            }
            (Some(top), None) => end(top),
            (Some(top), Some(next)) => end(top).min(next),
        };
        if let Some(top) = top {
            let narrow = |wide: u128| u32::try_from(wide).unwrap_or(u32::MAX);
            let skipped = narrow(here - at(top.start));
            let mut part = match skipped {
                0 => *top,
                skipped => top.without_first(skipped),
            };
            part.len = narrow(until - here);
            if !laid.last_mut().is_some_and(|last| last.join(&part)) {
                laid.push(part);
            }
        }
        here = until;
    }
}

/// Bits of the byte that a written piece begins with.
const UUID: u8 = 1;
const STEPS: u8 = 2;

/// Most bytes that a written piece has.
pub(super) const WRITTEN_BYTES_MAX: usize = 1 + 16 + 8;

/// Appends a piece as it is written to a file; its order is not.
pub(super) fn write(piece: &Piece, to: &mut Vec<u8>) {
    let steps = if piece.steps { STEPS } else { 0 };
    let mut bytes = [0; WRITTEN_BYTES_MAX];
    let mut rest = bytes.as_mut_slice();
    let mut put = |part: &[u8]| {
        if let Some((to, left)) = std::mem::take(&mut rest).split_at_mut_checked(part.len()) {
            to.copy_from_slice(part);
            rest = left;
        }
    };
    match piece.start {
        PointId::Num(number) => {
            put(&[steps]);
            put(&number.to_le_bytes());
            put(&piece.len.to_le_bytes());
        }
        PointId::Uuid(uuid) => {
            put(&[steps | UUID]);
            put(uuid.as_bytes());
        }
    }
    put(&piece.version.to_le_bytes());
    let length = WRITTEN_BYTES_MAX - rest.len();
    to.extend_from_slice(bytes.get(..length).unwrap_or_default());
}

/// Takes a written piece off `rest`; none if there is no whole one that could have been written.
pub(super) fn read(rest: &mut &[u8]) -> Option<Piece> {
    fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
        let (head, tail) = rest.split_first_chunk()?;
        *rest = tail;
        Some(*head)
    }
    let [kind] = take(rest)?;
    let (start, len) = match kind & UUID {
        0 => (
            PointId::Num(u64::from_le_bytes(take(rest)?)),
            u32::from_le_bytes(take(rest)?),
        ),
        _ => (PointId::Uuid(Uuid::from_bytes(take(rest)?)), 1),
    };
    let piece = Piece {
        start,
        len,
        order: 0,
        steps: kind & STEPS != 0,
        version: u64::from_le_bytes(take(rest)?),
    };
    let is_sound = kind <= UUID | STEPS
        && len > 0
        && (end(&piece) <= 1 << 64 || matches!(start, PointId::Uuid(_)));
    is_sound.then_some(piece)
}
