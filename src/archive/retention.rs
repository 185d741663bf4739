//! Which entries are kept, and why.
//!
//! Keeps true: the decision is a pure function of the entries and the policy; every entry gets one,
//! with its reasons; entries of different names never compete; a policy that keeps nothing is
//! refused.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike as _, Utc};
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};

/// How many of what are kept, for each name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The newest entries.
    pub last: u32,
    /// The newest entry of each of the newest days that have one.
    pub daily: u32,
    /// Of weeks, from Monday on.
    pub weekly: u32,
    /// Of months.
    pub monthly: u32,
    /// Of years.
    pub yearly: u32,
    /// All entries that have one of these tags.
    pub tags: Vec<String>,
}

/// An entry that is decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What it is called.
    pub id: String,
    /// What it is a snapshot of.
    pub name: String,
    /// When it was taken.
    pub time: DateTime<Utc>,
    /// Its tags.
    pub tags: Vec<String>,
}

/// What becomes of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// It.
    pub id: String,
    /// Whether it is kept.
    pub keep: bool,
    /// Why.
    pub reasons: Vec<String>,
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

    /// Decides on all entries; in the order in which they are given.
    pub fn decide(&self, entries: &[Candidate]) -> Result<Vec<Decision>> {
        self.validate()?;
        let mut reasons: Vec<Vec<String>> = vec![Vec::new(); entries.len()];
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, entry) in entries.iter().enumerate() {
            by_name.entry(&entry.name).or_default().push(at);
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
                    let period = kind.period(entry.time, rank);
                    if periods.last() != Some(&period) {
                        periods.push(period);
                        if let Some(reasons) = reasons.get_mut(*at) {
                            reasons.push(kind.reason(entry.time, rank));
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

/// What only one entry is kept of.
type Period = (i64, u32, u32);

impl Kind {
    fn period(self, time: DateTime<Utc>, rank: usize) -> Period {
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

    fn reason(self, time: DateTime<Utc>, rank: usize) -> String {
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
