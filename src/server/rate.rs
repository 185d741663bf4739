//! A limit to the bytes a second that are moved.
//!
//! Invariants: over any time no more is moved than the limit says and one piece, however the pieces
//! come, and also after a pause.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::base::text::serde_as_text;

/// Bytes a second, as `10M` or `500k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u64);

impl Rate {
    /// So many bytes a second; none at all cannot be meant.
    pub fn new(bytes: u64) -> Option<Self> {
        (bytes > 0).then_some(Self(bytes))
    }

    /// Bytes a second.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "give bytes a second, as 500k, 10M or 1G";
        let text = text.trim();
        let (digits, unit) = match text.char_indices().last() {
            Some((at, last)) if last.is_ascii_alphabetic() => {
                let factor = match last.to_ascii_lowercase() {
                    'k' => 1 << 10,
                    'm' => 1 << 20,
                    'g' => 1 << 30,
                    _ => return Err(form.into()),
                };
                (text.split_at(at).0, factor)
            }
            _ => (text, 1),
        };
        let number: u64 = digits.parse().map_err(|_| form.to_owned())?;
        number
            .checked_mul(unit)
            .and_then(Self::new)
            .ok_or_else(|| form.to_owned())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

serde_as_text!(Rate, "Rate", "bytes a second, as 500k, 20M or 1G");

/// Keeps to a rate. What was not used is not saved up.
#[derive(Debug)]
pub(super) struct Throttle {
    rate: Option<Rate>,
    /// When the next bytes may go.
    next: Option<Instant>,
}

impl Throttle {
    pub fn new(rate: Option<Rate>) -> Self {
        Self { rate, next: None }
    }

    /// Returns the wait before `bytes` are moved.
    pub fn before(&mut self, bytes: u64) -> Option<Duration> {
        let now = Instant::now();
        let (begin, _) = self.take(now, bytes)?;
        Some(begin.duration_since(now))
    }

    /// Returns the wait after `bytes` were moved.
    pub fn after(&mut self, bytes: u64) -> Option<Duration> {
        let now = Instant::now();
        let (_, end) = self.take(now, bytes)?;
        Some(end.duration_since(now))
    }

    /// From when until when `bytes` that come `now` are on their way, if there is a limit.
    fn take(&mut self, now: Instant, bytes: u64) -> Option<(Instant, Instant)> {
        let rate = self.rate?.bytes();
        let begin = self.next.map_or(now, |next| next.max(now));
        #[expect(clippy::cast_precision_loss, reason = "a time to wait")]
        let end = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.next = Some(end);
        Some((begin, end))
    }
}

/// Bytes a second that count as getting on, unless the user's own limit is near that.
const FLOOR: u64 = 1 << 10;

/// Tells when so little comes that it might as well be nothing.
#[derive(Debug)]
pub(super) struct Floor {
    window: Duration,
    /// Bytes of a window, at the least.
    least: u64,
    waited: Duration,
    bytes: u64,
}

impl Floor {
    /// Over each `window` of waiting.
    pub fn new(window: Duration, rate: Option<Rate>) -> Self {
        let per_second = rate.map_or(FLOOR, |rate| FLOOR.min(rate.bytes() / 2));
        Self {
            window,
            least: per_second.saturating_mul(window.as_secs()),
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Counts `bytes` that were `waited` for; says how few they were, if they were too few.
    pub fn moved(&mut self, bytes: u64, waited: Duration) -> Option<String> {
        self.bytes += bytes;
        self.waited += waited;
        if self.waited < self.window {
            return None;
        }
        let few = self.bytes < self.least;
        let told = few.then(|| format!("{} bytes in {} s", self.bytes, self.waited.as_secs()));
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_trickles_is_told_from_what_is_slow() {
        let second = Duration::from_secs(1);
        let mut floor = Floor::new(second * 60, None);
        for _ in 1..60 {
            assert_eq!(floor.moved(1, second), None);
        }
        assert_eq!(floor.moved(1, second).unwrap(), "60 bytes in 60 s");
        // The next window is another one.
        assert_eq!(floor.moved(60 << 10, second * 60), None);
        assert!(floor.moved((60 << 10) - 1, second * 60).is_some());
        // The user's own limit is lower.
        let mut floor = Floor::new(second * 60, Rate::new(100));
        assert_eq!(floor.moved(3000, second * 60), None);
        assert!(floor.moved(2999, second * 60).is_some());
    }

    #[test]
    fn rates_are_read() {
        for (text, bytes) in [
            ("500", 500),
            ("500k", 512_000),
            ("10M", 10 << 20),
            ("1g", 1 << 30),
        ] {
            assert_eq!(text.parse::<Rate>().unwrap().bytes(), bytes, "{text}");
        }
        for text in ["", "0", "M", "-1", "1.5M", "10T", "99999999999999G"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_throttle_keeps_its_rate_and_saves_nothing_up() {
        let mut throttle = Throttle::new(Rate::new(1000));
        let start = Instant::now();
        let mut took = |at: u64, bytes| {
            let now = start + Duration::from_millis(at);
            let (begin, end) = throttle.take(now, bytes).unwrap();
            (begin - start, end - start)
        };
        let millis = |from, to| (Duration::from_millis(from), Duration::from_millis(to));
        assert_eq!(took(0, 500), millis(0, 500));
        assert_eq!(took(0, 500), millis(500, 1000));
        assert_eq!(took(250, 1), millis(1000, 1001));
        assert_eq!(took(60_000, 1000), millis(60_000, 61_000));
        assert_eq!(took(60_000, 1), millis(61_000, 61_001));
        assert_eq!(Throttle::new(None).take(start, u64::MAX), None);
    }
}
