//! The extents of a recipe, found by where they are in the snapshot.
//!
//! Invariants: they take 12 bytes of memory each, as in the recipe, and little more: a thousandth of a
//! snapshot's size at the most that is usual.

use crate::archive::recipe::Extent;

/// Of so many extents one position is kept.
const STEP: usize = 64;

/// Extents by position.
pub(super) struct Extents {
    /// As a recipe has them: object, start, length, and again.
    all: Vec<u32>,
    /// The position of every [`STEP`]th.
    positions: Vec<u64>,
}

impl Extents {
    /// Of a recipe's `extents`.
    pub fn new(extents: Vec<u32>) -> Self {
        let (threes, _) = extents.as_chunks::<3>();
        let mut positions = Vec::with_capacity(threes.len() / STEP + 1);
        let mut position = 0;
        for (at, [_, _, bytes]) in threes.iter().enumerate() {
            if at % STEP == 0 {
                positions.push(position);
            }
            position += u64::from(*bytes);
        }
        Self {
            all: extents,
            positions,
        }
    }

    /// Extents from byte `position` on; of the extent that it is in, the rest.
    pub fn from(&self, position: u64) -> impl Iterator<Item = Extent> + '_ {
        let step = self.positions.partition_point(|start| *start <= position);
        let step = step.saturating_sub(1);
        let mut before = position - self.positions.get(step).copied().unwrap_or(position);
        let (threes, _) = self.all.as_chunks::<3>();
        let rest = threes.get(step * STEP..).unwrap_or_default();
        rest.iter().filter_map(move |[object, start, bytes]| {
            let passed = u32::try_from(before).unwrap_or(u32::MAX).min(*bytes);
            before -= u64::from(passed);
            (passed < *bytes).then(|| Extent {
                object: *object,
                start: start + passed,
                bytes: bytes - passed,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_is_found() {
        let mut extents = Vec::new();
        let mut whole = Vec::new();
        for n in 0..300_u32 {
            let (start, bytes) = (n * 7 % 50, n % 5 + 1);
            extents.extend([n, start, bytes]);
            whole.extend((0..bytes).map(|at| (n, start + at)));
        }
        let extents = Extents::new(extents);
        for position in 0..whole.len() {
            let found: Vec<(u32, u32)> = extents
                .from(position as u64)
                .flat_map(|one| (0..one.bytes).map(move |at| (one.object, one.start + at)))
                .collect();
            assert_eq!(found, whole[position..], "{position}");
        }
        assert_eq!(extents.from(whole.len() as u64).count(), 0);
        assert_eq!(extents.from(u64::MAX).count(), 0);
        assert_eq!(Extents::new(Vec::new()).from(0).count(), 0);
    }
}
