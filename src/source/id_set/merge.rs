//! Many runs as one, ascending.
//!
//! Invariants: every id of every run is yielded once, with all runs that have it, in their order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

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

/// A run that has the ids that are at hand; its piece begins with them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit {
    pub set: usize,
    pub segment: usize,
    pub piece: Piece,
}

/// Walks along runs; see [`Merge::next`].
pub(super) struct Merge<'a> {
    cursors: Vec<Cursor<'a>>,
    /// What is left of the piece that each run is at.
    heads: Vec<Option<Piece>>,
    heap: BinaryHeap<Reverse<(PointId, usize)>>,
    /// The runs that have the ids at hand, by their places.
    at_hand: Vec<usize>,
    len: u32,
}

impl<'a> Merge<'a> {
    pub(super) fn new(mut cursors: Vec<Cursor<'a>>) -> Result<Self> {
        let mut heads = Vec::with_capacity(cursors.len());
        let mut heap = BinaryHeap::with_capacity(cursors.len());
        for (place, cursor) in cursors.iter_mut().enumerate() {
            let head = cursor.pieces.next()?;
            heap.extend(head.map(|piece| Reverse((piece.start, place))));
            heads.push(head);
        }
        Ok(Self {
            cursors,
            heads,
            heap,
            at_hand: Vec::new(),
            len: 0,
        })
    }

    /// The next ids, as many as the same runs have: the first of them, and their number. `hits` gets
    /// these runs.
    pub(super) fn next(&mut self, hits: &mut Vec<Hit>) -> Result<Option<(PointId, u32)>> {
        self.pass()?;
        hits.clear();
        let Some(Reverse((start, first))) = self.heap.pop() else {
            return Ok(None);
        };
        self.at_hand.push(first);
        while let Some(Reverse((id, place))) = self.heap.peek().copied()
            && id == start
        {
            self.heap.pop();
            self.at_hand.push(place);
        }
        let mut len = u32::MAX;
        for place in &self.at_hand {
            if let (Some(cursor), Some(Some(piece))) =
                (self.cursors.get(*place), self.heads.get(*place))
            {
                len = len.min(piece.len);
                hits.push(Hit {
                    set: cursor.set,
                    segment: cursor.segment,
                    piece: *piece,
                });
            }
        }
        if let (PointId::Num(start), Some(Reverse((PointId::Num(next), _)))) =
            (start, self.heap.peek())
        {
            len = len.min(u32::try_from(next - start).unwrap_or(u32::MAX));
        }
        self.len = len;
        Ok(Some((start, len)))
    }

    /// Passes over the ids that were yielded last.
    fn pass(&mut self) -> Result<()> {
        for place in self.at_hand.drain(..) {
            let (Some(cursor), Some(head)) =
                (self.cursors.get_mut(place), self.heads.get_mut(place))
            else {
                continue;
            };
            *head = match *head {
                Some(piece) if piece.len > self.len => Some(piece.without_first(self.len)),
                _ => cursor.pieces.next()?,
            };
            self.heap
                .extend(head.map(|piece| Reverse((piece.start, place))));
        }
        Ok(())
    }
}
