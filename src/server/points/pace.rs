//! Rate at which points are sent, adapted to what the server takes.
//!
//! Invariants: a batch never grows beyond what was too large once; pressure slows at once, and
//! speed comes back slowly; the limit of the user is kept whatever the server can take.

use std::time::Duration;

use crate::server::rate::{Rate, Throttle};

/// Bytes of a batch, at about: beyond this a larger one is not faster.
pub const BATCH_BYTES: usize = 1 << 20;
/// A batch is not made smaller than this.
const BATCH_BYTES_MIN: usize = 16 << 10;
/// Batches that a server may take at once.
const AT_ONCE: usize = 4;
/// Batches that must go well before one more is sent at once.
const GOOD_RUN: u32 = 16;

/// The speed at this moment.
#[derive(Debug)]
pub(super) struct RateController {
    batch_bytes: usize,
    at_once: usize,
    good: u32,
    throttle: Throttle,
}

impl RateController {
    /// The fastest; `limit` is what the user wants at the most.
    pub fn new(limit: Option<Rate>) -> Self {
        Self {
            batch_bytes: BATCH_BYTES,
            at_once: AT_ONCE,
            good: 0,
            throttle: Throttle::new(limit),
        }
    }

    /// Bytes of a batch.
    pub fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    /// Batches that may be under way at once.
    pub fn at_once(&self) -> usize {
        self.at_once
    }

    /// A batch went well.
    pub fn well(&mut self) {
        self.good += 1;
        if self.good >= GOOD_RUN && self.at_once < AT_ONCE {
            self.at_once += 1;
            self.good = 0;
        }
    }

    /// The server is under pressure.
    pub fn slower(&mut self) {
        self.at_once = (self.at_once / 2).max(1);
        self.good = 0;
    }

    /// A batch of `bytes` was too large.
    pub fn smaller(&mut self, bytes: usize) {
        self.batch_bytes = self
            .batch_bytes
            .min(bytes / 2)
            .clamp(BATCH_BYTES_MIN, BATCH_BYTES);
        self.good = 0;
    }

    /// Returns the time that `bytes` have to wait; they are counted as sent then.
    pub fn wait(&mut self, bytes: usize) -> Option<Duration> {
        self.throttle.before(bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_slows_at_once_and_speed_comes_back_slowly() {
        let mut pace = RateController::new(None);
        assert_eq!(pace.at_once(), AT_ONCE);
        pace.slower();
        pace.slower();
        pace.slower();
        assert_eq!(pace.at_once(), 1);
        for _ in 0..GOOD_RUN - 1 {
            pace.well();
        }
        assert_eq!(pace.at_once(), 1);
        pace.well();
        assert_eq!(pace.at_once(), 2);
        for _ in 0..10 * GOOD_RUN {
            pace.well();
        }
        assert_eq!(pace.at_once(), AT_ONCE);
    }

    #[test]
    fn a_batch_gets_smaller_than_what_was_too_large_and_never_grows() {
        let mut pace = RateController::new(None);
        pace.smaller(BATCH_BYTES);
        assert_eq!(pace.batch_bytes(), BATCH_BYTES / 2);
        // One that was sent before is no reason to halve again.
        pace.smaller(BATCH_BYTES);
        assert_eq!(pace.batch_bytes(), BATCH_BYTES / 2);
        pace.smaller(BATCH_BYTES / 8);
        assert_eq!(pace.batch_bytes(), BATCH_BYTES / 16);
        pace.smaller(100);
        assert_eq!(pace.batch_bytes(), BATCH_BYTES_MIN);
    }
}
