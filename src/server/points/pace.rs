//! How fast points are sent: what a server can take is found out by sending.
//!
//! Keeps true: a batch never grows beyond what was too large once; pressure slows at once, and
//! speed comes back slowly; the limit of the user is kept whatever the server can take.

use std::time::{Duration, Instant};

/// Bytes of a batch, at about: beyond this a larger one is not faster.
pub const BATCH_BYTES: usize = 1 << 20;
/// A batch is not made smaller than this.
const BATCH_BYTES_MIN: usize = 16 << 10;
/// Batches that a server may take at once.
const AT_ONCE: usize = 4;
/// Batches that must go well before one more is sent at once.
const GOOD_RUN: u32 = 16;

/// What the user wants of the speed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pacing {
    /// Bytes a second, at the most.
    pub bytes_per_second: Option<u64>,
}

/// The speed at this moment.
#[derive(Debug)]
pub(super) struct Pace {
    batch_bytes: usize,
    at_once: usize,
    good: u32,
    bytes_per_second: Option<u64>,
    /// When the next bytes may go.
    next: Option<Instant>,
}

impl Pace {
    pub fn new(pacing: Pacing) -> Self {
        Self {
            batch_bytes: BATCH_BYTES,
            at_once: AT_ONCE,
            good: 0,
            bytes_per_second: pacing.bytes_per_second,
            next: None,
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

    /// How long `bytes` have to wait from `now` on; they are taken as sent then.
    pub fn wait(&mut self, bytes: usize, now: Instant) -> Duration {
        let Some(rate) = self.bytes_per_second else {
            return Duration::ZERO;
        };
        let start = self.next.map_or(now, |next| next.max(now));
        #[expect(clippy::cast_precision_loss, reason = "a time to wait")]
        let takes = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        self.next = Some(start + takes);
        start.duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_slows_at_once_and_speed_comes_back_slowly() {
        let mut pace = Pace::new(Pacing::default());
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
        let mut pace = Pace::new(Pacing::default());
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

    #[test]
    fn the_limit_is_kept() {
        let limited = |bytes_per_second| {
            Pace::new(Pacing {
                bytes_per_second: Some(bytes_per_second),
            })
        };
        let mut pace = limited(1000);
        let start = Instant::now();
        assert_eq!(pace.wait(500, start), Duration::ZERO);
        assert_eq!(pace.wait(500, start), Duration::from_millis(500));
        assert_eq!(pace.wait(1, start), Duration::from_secs(1));
        // What was not used is not saved up.
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.wait(1000, later), Duration::ZERO);
        assert_eq!(pace.wait(1, later), Duration::from_secs(1));
        assert_eq!(limited(0).wait(5, start), Duration::ZERO);
    }
}
