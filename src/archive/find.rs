//! Finding an entry by what is typed: `album_2017@2026-11-01`, `album_2017@latest`, `album_2017`.
//!
//! Keeps true: what is typed means one entry or none; none says what there is instead.

use std::fmt;
use std::str::FromStr;

use super::chain::{Chain, Entry, Event};
use crate::base::error::{Error, Kind, Result};

/// How a source in an archive begins, where files can be given too.
pub const PREFIX: &str = "archive:";
/// Entries that are named when none is found.
const NAMED_MAX: usize = 3;

/// Which entry is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRef {
    name: String,
    /// The beginning of its time; none for the newest.
    time: Option<String>,
}

impl EntryRef {
    /// Reads a source that may be in an archive: none if it does not begin with `archive:`.
    pub fn of_source(text: &str) -> Option<Self> {
        let reference = text.strip_prefix(PREFIX)?;
        // Every text means something.
        reference.parse().ok()
    }

    /// The entry that is meant; of several that begin so, the newest.
    pub fn find(&self, chain: &Chain) -> Result<Entry> {
        let entries = chain.entries();
        let of_name: Vec<&Entry> = entries
            .iter()
            .filter(|entry| entry.name == self.name)
            .collect();

        let found = match &self.time {
            None => of_name.iter().max_by_key(|entry| entry.time),
            Some(time) => of_name
                .iter()
                .filter(|entry| {
                    let own = entry.id.get(entry.name.len() + 1..).unwrap_or_default();
                    own.starts_with(time.as_str())
                })
                .max_by_key(|entry| entry.time),
        };
        match found {
            Some(entry) => Ok((*entry).clone()),
            None => Err(self.not_found(chain, &entries, &of_name)),
        }
    }

    fn not_found(&self, chain: &Chain, all: &[Entry], of_name: &[&Entry]) -> Error {
        let mut why = match (of_name.last(), self.forgotten(chain)) {
            (_, Some(forgotten)) => forgotten,
            (Some(_), None) => format!("{} was not stored then", self.name),
            (None, None) => format!("nothing called {} is in the archive", self.name),
        };
        let (kind, mut others): (_, Vec<&str>) = match of_name {
            [] => (
                "there are",
                all.iter().map(|entry| entry.name.as_str()).collect(),
            ),
            some => (
                "the newest of it are",
                some.iter().map(|entry| entry.id.as_str()).collect(),
            ),
        };
        if of_name.is_empty() {
            others.sort_unstable();
            others.dedup();
        }
        let skip = others.len().saturating_sub(NAMED_MAX);
        let others: Vec<&str> = others.into_iter().skip(skip).collect();
        if !others.is_empty() {
            why += &format!("; {kind} {}", others.join(", "));
        }
        Error::new(Kind::NotFound, format!("looking for {self}"), why)
            .next("see all of them: snapmerge archive ls")
    }

    /// That what is meant was there, and why it is not any more.
    fn forgotten(&self, chain: &Chain) -> Option<String> {
        let time = self.time.as_deref()?;
        let begins = format!("{}@{time}", self.name);
        chain.records.iter().rev().find_map(|kept| {
            let Event::Forget { forgot } = &kept.record.event else {
                return None;
            };
            let found = forgot.iter().find(|one| one.id.starts_with(&begins))?;
            Some(format!(
                "{} was given up on {} ({})",
                found.id,
                kept.record.time.format("%Y-%m-%d"),
                found.why
            ))
        })
    }
}

impl FromStr for EntryRef {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.strip_prefix(PREFIX).unwrap_or(text);
        // A name may have an '@' itself: what follows the last is a time only if it looks like one.
        let (name, time) = match text.rsplit_once('@') {
            Some((name, "latest" | "")) => (name, None),
            Some((name, time)) if time.starts_with(|c: char| c.is_ascii_digit()) => {
                (name, Some(time.to_owned()))
            }
            _ => (text, None),
        };
        Ok(Self {
            name: name.to_owned(),
            time,
        })
    }
}

impl fmt::Display for EntryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.time.as_deref().unwrap_or("latest");
        write!(f, "{}@{time}", self.name)
    }
}
