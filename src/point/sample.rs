//! A sample of points by the hashes of their ids.
//!
//! Invariants: whether a point is in a sample depends on its id and the share alone, so that the
//! same points are taken on both sides of a comparison, whatever they lie in.

use std::fmt;
use std::str::FromStr;

use crate::base::text::serde_as_text;

use super::PointId;
use super::canonical::id_bytes;

/// Prefix hashed before each id, so that this choice is independent of every other hash of ids.
const SALT: &[u8] = b"snapmerge sample";

/// A share of all points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    percent: f64,
    below: u64,
}

impl Sample {
    /// About `wanted` of `all` points.
    pub fn about(wanted: u64, all: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "it is about as many")]
        let share = wanted as f64 / all.max(1) as f64;
        Self::of(share.min(1.0) * 100.0)
    }

    fn of(percent: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of the numbers there are; to a float's precision is enough"
        )]
        let below = (percent / 100.0 * u64::MAX as f64) as u64;
        Self { percent, below }
    }

    /// Returns true if the point `id` is in the sample.
    pub fn keeps(&self, id: PointId) -> bool {
        Self::rank(id) <= self.below
    }

    /// A number that depends on the id alone, and on nothing that people give ids by: the points
    /// with the lowest are a sample, too.
    pub fn rank(id: PointId) -> u64 {
        let mut bytes = SALT.to_vec();
        id_bytes(id, &mut bytes);
        let hash = blake3::hash(&bytes);
        hash.as_bytes()
            .first_chunk::<8>()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Of how many points about `wanted` are in it.
    pub fn among(&self, wanted: usize) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "it is about as many"
        )]
        let among = (wanted as f64 / self.share()) as usize;
        among
    }

    /// The share as a number between 0 and 1.
    pub fn share(&self) -> f64 {
        self.percent / 100.0
    }
}

impl FromStr for Sample {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let percent: f64 = text
            .strip_suffix('%')
            .and_then(|number| number.trim().parse().ok())
            .filter(|percent| *percent > 0.0 && *percent <= 100.0)
            .ok_or_else(|| format!("'{text}' is no share such as 1% or 0.5%"))?;
        Ok(Self::of(percent))
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent)
    }
}

serde_as_text!(Sample, "Sample", "a share of the points, as 1% or 0.5%");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_about_its_share_and_part_of_larger_ones() {
        let count = |text: &str| {
            let sample: Sample = text.parse().unwrap();
            (0..20_000)
                .filter(|id| sample.keeps(PointId::Num(*id)))
                .count()
        };
        assert_eq!(count("100%"), 20_000);
        assert!((900..1_100).contains(&count("5%")), "{}", count("5%"));
        let (one, five): (Sample, Sample) = ("1%".parse().unwrap(), "5 %".parse().unwrap());
        let ids: Vec<PointId> = (0..20_000).map(PointId::Num).collect();
        assert!(ids.iter().any(|id| one.keeps(*id)));
        assert!(ids.iter().all(|id| !one.keeps(*id) || five.keeps(*id)));
        assert_eq!(one.to_string(), "1%");
        for text in ["", "1", "0%", "-1%", "101%", "x%", "nan%"] {
            assert!(text.parse::<Sample>().is_err(), "{text}");
        }
    }
}
