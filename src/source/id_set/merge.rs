//! Many runs as one, ascending.
//!
//! Invariants: every id of every run is yielded once, with all runs that have it, in their order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::InSegment;
use super::piece::Piece;
use super::spill::Pieces;
use crate::base::error::Result;
use crate::point::PointId;

/// A run of a segment.
pub(super) struct Cursor<'a> {
    pub set: usize,
    pub segment: usize,
    pub pieces: Pieces<'a>,
}

/// The first id of what is left of a run; in a heap the least is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    id: u128,
    is_uuid: bool,
    place: u32,
}

impl Head {
    fn new(piece: &Piece, place: usize) -> Self {
        let (is_uuid, id) = match piece.start {
            PointId::Num(number) => (false, u128::from(number)),
            PointId::Uuid(uuid) => (true, uuid.as_u128()),
        };
        Self {
            id,
            is_uuid,
            place: u32::try_from(place).unwrap_or(u32::MAX),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.is_uuid, self.id) == (other.is_uuid, other.id)
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |head: &Self| (head.is_uuid, head.id, head.place);
        key(other).cmp(&key(self))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Walks along runs; see [`Merge::next`].
pub(super) struct Merge<'a> {
    cursors: Vec<Cursor<'a>>,
    /// The rest of the piece that each run is at.
    pieces: Vec<Option<Piece>>,
    heap: BinaryHeap<Head>,
    /// Room for the runs that have the ids at hand.
    at_hand: Vec<usize>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(mut cursors: Vec<Cursor<'a>>) -> Result<Self> {
        let mut pieces = Vec::with_capacity(cursors.len());
        let mut heap = BinaryHeap::with_capacity(cursors.len());
        for (place, cursor) in cursors.iter_mut().enumerate() {
            let piece = cursor.pieces.next()?;
            heap.extend(piece.map(|piece| Head::new(&piece, place)));
            pieces.push(piece);
        }
        Ok(Self {
            cursors,
            pieces,
            heap,
            at_hand: Vec::new(),
        })
    }

    /// The next ids, as many as the same runs have: the first of them, and their number. `hits` gets
    /// these runs, in their order, each with what is left of the piece that begins there.
    pub(super) fn next(&mut self, hits: &mut Vec<InSegment>) -> Result<Option<(PointId, u32)>> {
        hits.clear();
        let Some(first) = self.heap.peek().copied() else {
            return Ok(None);
        };
        let Some(Some(piece)) = self.pieces.get(first.place as usize).copied() else {
            return Ok(None);
        };
        let len = match piece.len {
            1 => self.one(first, hits)?,
            _ => self.several(first, hits)?,
        };
        Ok(Some((piece.start, len)))
    }

    /// One id: the runs that have it go on in their places in the heap.
    fn one(&mut self, first: Head, hits: &mut Vec<InSegment>) -> Result<u32> {
        while let Some(mut head) = self.heap.peek_mut()
            && head.is_same(&first)
        {
            let place = head.place as usize;
            let (Some(cursor), Some(Some(piece))) =
                (self.cursors.get_mut(place), self.pieces.get_mut(place))
            else {
                PeekMut::pop(head);
                continue;
            };
            hits.push(InSegment {
                set: cursor.set,
                segment: cursor.segment,
                piece: *piece,
            });
            let next = match piece.len {
                1 => cursor.pieces.next()?,
                _ => Some(piece.without_first(1)),
            };
            match next {
                Some(next) => {
                    *piece = next;
                    *head = Head::new(&next, place);
                }
                None => {
                    PeekMut::pop(head);
                }
            }
        }
        Ok(1)
    }

    /// Consecutive ids; returns their number.
    fn several(&mut self, first: Head, hits: &mut Vec<InSegment>) -> Result<u32> {
        let mut len = u32::MAX;
        while let Some(head) = self.heap.peek_mut()
            && head.is_same(&first)
        {
            let place = PeekMut::pop(head).place as usize;
            if let (Some(cursor), Some(Some(piece))) =
                (self.cursors.get(place), self.pieces.get(place))
            {
                len = len.min(piece.len);
                hits.push(InSegment {
                    set: cursor.set,
                    segment: cursor.segment,
                    piece: *piece,
                });
                self.at_hand.push(place);
            }
        }
        // Up to where another run begins.
        if let Some(next) = self.heap.peek().filter(|next| !next.is_uuid) {
            len = len.min(u32::try_from(next.id - first.id).unwrap_or(u32::MAX));
        }
        for place in self.at_hand.drain(..) {
            if let (Some(cursor), Some(at)) =
                (self.cursors.get_mut(place), self.pieces.get_mut(place))
            {
                *at = match *at {
                    Some(piece) if piece.len > len => Some(piece.without_first(len)),
                    _ => cursor.pieces.next()?,
                };
                self.heap.extend(at.map(|piece| Head::new(&piece, place)));
            }
        }
        Ok(len)
    }
}
