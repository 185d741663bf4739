//! Memory that the readers of one operation share.
//!
//! Invariants: nobody waits for memory, so that no two readers can wait for each other; whoever gets less
//! reads smaller blocks.

use std::sync::{Arc, Mutex};

use crate::base::parallel::lock;

/// Bytes of all blocks together, apart from the block that each reader needs at the least.
const BYTES: u64 = 40 << 20;

/// Memory for blocks.
pub(super) struct Memory {
    left: Mutex<u64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            left: Mutex::new(BYTES),
        }
    }
}

/// Memory that is taken until this is dropped.
pub(super) struct Share {
    of: Arc<Memory>,
    taken: u64,
}

impl Memory {
    /// Bytes that nobody has taken.
    pub fn left(&self) -> u64 {
        *lock(&self.left)
    }

    /// Takes `most` bytes, or what there is of them.
    pub fn take(self: &Arc<Self>, most: u64) -> Share {
        let mut left = lock(&self.left);
        let taken = most.min(*left);
        *left -= taken;
        Share {
            of: Arc::clone(self),
            taken,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *lock(&self.of.left) += self.taken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let memory = Arc::<Memory>::default();
        let first = memory.take(BYTES - 10);
        assert_eq!(memory.left(), 10);
        let second = memory.take(100);
        assert_eq!((memory.left(), second.taken), (0, 10));
        assert_eq!(memory.take(1).taken, 0);
        drop(first);
        assert_eq!(memory.left(), BYTES - 10);
        drop(second);
        assert_eq!(memory.left(), BYTES);
    }
}
