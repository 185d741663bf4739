//! A limit to the bytes a second that are moved.
//!
//! Keeps true: over any time no more is moved than the limit says and one piece, however the pieces
//! come, and also after a pause.

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

    /// How long `bytes`, which come now, have to wait; they are taken as moved then.
    pub fn wait(&mut self, bytes: u64) -> Option<Duration> {
        self.wait_from(Instant::now(), bytes)
    }

    fn wait_from(&mut self, now: Instant, bytes: u64) -> Option<Duration> {
        let rate = self.rate?.bytes();
        let start = self.next.map_or(now, |next| next.max(now));
        #[expect(clippy::cast_precision_loss, reason = "a time to wait")]
        let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.next = Some(start + takes);
        Some(start.duration_since(now)).filter(|wait| !wait.is_zero())
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
    fn a_throttle_keeps_its_rate_and_saves_nothing_up() {
        let mut throttle = Throttle::new(Rate::new(1000));
        let start = Instant::now();
        let mut wait = |at: u64, bytes| {
            let wait = throttle.wait_from(start + Duration::from_millis(at), bytes);
            wait.map_or(0, |wait| wait.as_millis())
        };
        assert_eq!(wait(0, 500), 0);
        assert_eq!(wait(0, 500), 500);
        assert_eq!(wait(250, 1), 750);
        assert_eq!(wait(60_000, 1000), 0);
        assert_eq!(wait(60_000, 1), 1000);
        assert_eq!(Throttle::new(None).wait_from(start, u64::MAX), None);
    }
}
