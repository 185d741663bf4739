//! Which entries are kept, and why.
//!
//! Invariants: the decision is a pure function of the entries, the policy and the time; every entry
//! gets one, with its reasons; entries of different names never compete; a policy that keeps nothing
//! is refused; an entry whose time is in the future is kept and takes nobody's place. Days begin at
//! midnight in the policy's time zone, also where one has 23 or 25 hours.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike as _, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chain::is_in_future;
use crate::base::error::{Error, Result};

/// Retention: number of entries that each rule keeps, for each name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize, JsonSchema)]
#[command(next_help_heading = "What is kept, for each name")]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The newest N
    #[arg(
        long = "keep-last",
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub last: u32,
    /// The newest of each of N days
    #[arg(
        long = "keep-daily",
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub daily: u32,
    /// The newest of each of N weeks
    #[arg(
        long = "keep-weekly",
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub weekly: u32,
    /// The newest of each of N months
    #[arg(
        long = "keep-monthly",
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub monthly: u32,
    /// The newest of each of N years
    #[arg(
        long = "keep-yearly",
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub yearly: u32,
    /// All that have this tag; repeat it for more
    #[arg(long = "keep-tag", value_name = "WORD")]
    pub tags: Vec<String>,
    /// Where days begin at midnight, as Europe/Rome [default: UTC]
    #[arg(long = "keep-timezone", value_name = "ZONE", value_parser = parse_timezone)]
    #[serde(with = "zone", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub timezone: Option<Tz>,
}

/// A time zone by its IANA name.
pub fn parse_timezone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| {
        let hint = TZ_VARIANTS
            .iter()
            .map(|zone| (strsim::levenshtein(zone.name(), name), zone.name()))
            .min()
            .filter(|(distance, _)| *distance <= 3)
            .map_or("Europe/Rome", |(_, zone)| zone);
        format!("there is no such time zone; give an IANA name, such as {hint}")
    })
}

mod zone {
    use chrono_tz::Tz;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub fn serialize<S: Serializer>(zone: &Option<Tz>, to: S) -> Result<S::Ok, S::Error> {
        zone.map(|zone| zone.name()).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Tz>, D::Error> {
        let name = Option::<String>::deserialize(from)?;
        let zone = name.map(|name| super::parse_timezone(&name)).transpose();
        zone.map_err(|why| D::Error::custom(format!("timezone: {why}")))
    }
}

/// An entry that is decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Id of the entry.
    pub id: String,
    /// Name of the source that the entry is a snapshot of.
    pub name: String,
    /// When it was taken.
    pub time: DateTime<Utc>,
    /// Tags of the entry.
    pub tags: Vec<String>,
}

/// Decision on one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// It.
    pub id: String,
    /// True if the entry is kept.
    pub keep: bool,
    /// Why.
    pub reasons: Vec<String>,
    /// True if the entry's time is in the future, so that some clock was wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_in_future: bool,
}

impl Policy {
    /// Refuses a policy that keeps nothing.
    pub fn validate(&self) -> Result<()> {
        let counts = [
            self.last,
            self.daily,
            self.weekly,
            self.monthly,
            self.yearly,
        ];
        if counts.iter().all(|count| *count == 0) && self.tags.is_empty() {
            return Err(Error::usage(
                "reading the retention policy",
                "it is empty, and would give up every entry",
            )
            .next("say what to keep: --keep-last 7 --keep-daily 30 --keep-monthly 12"));
        }
        Ok(())
    }

    /// Decides on all entries at the time `now`; in the order in which they are given.
    pub fn decide(&self, entries: &[Candidate], now: DateTime<Utc>) -> Result<Vec<Decision>> {
        self.validate()?;
        let zone = self.timezone.unwrap_or(Tz::UTC);
        let is_in_future = |entry: &Candidate| is_in_future(entry.time, now);
        let mut reasons: Vec<Vec<String>> = vec![Vec::new(); entries.len()];
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, (entry, reasons)) in entries.iter().zip(&mut reasons).enumerate() {
            match is_in_future(entry) {
                true => reasons.push("its time is in the future, so no rule counts it".into()),
                false => by_name.entry(&entry.name).or_default().push(at),
            }
        }
        for mut group in by_name.into_values() {
            // Of two with the same time the later in the list is the newer.
            group.sort_by_key(|at| {
                std::cmp::Reverse((entries.get(*at).map(|entry| entry.time), *at))
            });
            for (kind, count) in [
                (Kind::Last, self.last),
                (Kind::Daily, self.daily),
                (Kind::Weekly, self.weekly),
                (Kind::Monthly, self.monthly),
                (Kind::Yearly, self.yearly),
            ] {
                let mut periods: Vec<Period> = Vec::new();
                for (rank, at) in group.iter().enumerate() {
                    let Some(entry) = entries.get(*at) else {
                        continue;
                    };
                    if periods.len() >= count as usize {
                        break;
                    }
                    let time = entry.time.with_timezone(&zone);
                    let period = kind.period(time, rank);
                    if periods.last() != Some(&period) {
                        periods.push(period);
                        if let Some(reasons) = reasons.get_mut(*at) {
                            reasons.push(kind.reason(time, rank));
                        }
                    }
                }
            }
        }
        for (entry, reasons) in entries.iter().zip(&mut reasons) {
            for tag in self.tags.iter().filter(|tag| entry.tags.contains(tag)) {
                reasons.push(format!("tag {tag}"));
            }
        }
        Ok(entries
            .iter()
            .zip(reasons)
            .map(|(entry, reasons)| Decision {
                id: entry.id.clone(),
                is_in_future: is_in_future(entry),
                keep: !reasons.is_empty(),
                reasons: match reasons.is_empty() {
                    true => vec!["no rule keeps it".into()],
                    false => reasons,
                },
            })
            .collect())
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Last,
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// Key of a period; only one entry is kept of each.
type Period = (i64, u32, u32);

impl Kind {
    fn period(self, time: DateTime<Tz>, rank: usize) -> Period {
        let year = i64::from(time.year());
        match self {
            Self::Last => (rank as i64, 0, 0),
            Self::Daily => (year, time.month(), time.day()),
            // The first days of January may be in a week of the year before.
            Self::Weekly => {
                let week = time.iso_week();
                (i64::from(week.year()), week.week(), 0)
            }
            Self::Monthly => (year, time.month(), 0),
            Self::Yearly => (year, 0, 0),
        }
    }

    fn reason(self, time: DateTime<Tz>, rank: usize) -> String {
        match self {
            Self::Last if rank == 0 => "the newest".into(),
            Self::Last => format!("among the newest {}", rank + 1),
            Self::Daily => format!("the newest of day {}", time.format("%Y-%m-%d")),
            Self::Weekly => format!("the newest of week {}", time.format("%G-W%V")),
            Self::Monthly => format!("the newest of month {}", time.format("%Y-%m")),
            Self::Yearly => format!("the newest of year {}", time.format("%Y")),
        }
    }
}

#[cfg(test)]
#[path = "retention/tests.rs"]
mod tests;
