//! A limit to the bytes a second that are moved.
//!
//! Keeps true: over any time longer than a second no more is moved than the limit says, however
//! the pieces come.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

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
        write!(f, "{}/s", humansize::format_size(self.0, humansize::BINARY))
    }
}

/// Keeps to a rate.
#[derive(Debug)]
pub(super) struct Throttle {
    rate: Option<Rate>,
    started: Instant,
    moved: u64,
}

impl Throttle {
    pub fn new(rate: Option<Rate>) -> Self {
        Self {
            rate,
            started: Instant::now(),
            moved: 0,
        }
    }

    /// How long to wait now that `bytes` more were moved.
    pub fn after(&mut self, bytes: u64) -> Option<Duration> {
        self.wait(bytes, self.started.elapsed())
    }

    fn wait(&mut self, bytes: u64, elapsed: Duration) -> Option<Duration> {
        let rate = self.rate?.bytes();
        self.moved = self.moved.saturating_add(bytes);
        #[expect(clippy::cast_precision_loss, reason = "a time to wait")]
        let due = Duration::from_secs_f64(self.moved as f64 / rate as f64);
        due.checked_sub(elapsed).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_throttle_waits_for_what_is_too_fast() {
        let mut throttle = Throttle::new(Rate::new(1000));
        let second = Duration::from_secs(1);
        assert_eq!(throttle.wait(2000, second), Some(second));
        assert_eq!(throttle.wait(0, 2 * second), None);
        assert_eq!(throttle.wait(500, 2 * second), Some(second / 2));
        assert_eq!(Throttle::new(None).wait(u64::MAX, second), None);
    }
}
