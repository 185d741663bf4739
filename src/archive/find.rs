//! Finding an entry by what is typed: `album_2017@2026-11-01`, `album_2017@latest`, `album_2017`.
//!
//! Invariants: what is typed means one entry or none; none says what there is instead; a whole id
//! means that entry, whatever else begins with it; an entry whose time is in the future is not the
//! newest while there is another.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use super::chain::{Chain, Entry, Event};
use crate::base::error::{Error, Kind, Result};

/// Prefix of a source in an archive, where files can be given too.
pub const ENTRY_PREFIX: &str = "archive:";
/// Entries that are named when none is found.
const NAMED_MAX: usize = 3;

/// Which entry is meant, as it was typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntryRef(String);

/// The newest of `entries` at the time `now`; of several of one time the one that was stored last.
pub fn newest<'e>(
    entries: impl IntoIterator<Item = &'e Entry>,
    now: DateTime<Utc>,
) -> Option<&'e Entry> {
    entries
        .into_iter()
        .max_by_key(|entry| (!entry.is_in_future(now), entry.time))
}

impl EntryRef {
    /// Reads a source that may be in an archive: none if it does not begin with `archive:`.
    pub fn of_source(given: impl AsRef<Path>) -> Option<Self> {
        let text = given.as_ref().to_str()?;
        text.starts_with(ENTRY_PREFIX).then(|| Self::new(text))
    }

    fn new(text: &str) -> Self {
        Self(text.strip_prefix(ENTRY_PREFIX).unwrap_or(text).to_owned())
    }

    /// The name, and the beginning of the time; none for the newest. A name may have an '@' itself:
    /// what follows the last is a time only if it looks like one.
    fn parts(&self) -> (&str, Option<&str>) {
        match self.0.rsplit_once('@') {
            Some((name, "latest" | "")) => (name, None),
            Some((name, time)) if time.starts_with(|c: char| c.is_ascii_digit()) => {
                (name, Some(time))
            }
            _ => (&self.0, None),
        }
    }

    /// The entry that is meant now; of several that begin so, the newest.
    pub fn find(&self, chain: &Chain) -> Result<Entry> {
        self.find_at(chain, Utc::now())
    }

    fn find_at(&self, chain: &Chain, now: DateTime<Utc>) -> Result<Entry> {
        let entries = chain.entries();
        let found = newest(self.candidates(&entries), now).cloned();
        found.ok_or_else(|| self.not_found(chain, &entries))
    }

    /// The entry that is meant, for whoever gives it up: several that begin so are refused, unless the
    /// newest was asked for.
    pub fn find_one(&self, chain: &Chain) -> Result<Entry> {
        let entries = chain.entries();
        let candidates = self.candidates(&entries);
        if candidates.len() > 1 && !self.0.ends_with("@latest") {
            let ids = candidates.iter().rev().take(NAMED_MAX);
            let ids: Vec<&str> = ids.map(|entry| entry.id.as_str()).collect();
            return Err(Error::usage(
                format!("looking for {self}"),
                format!(
                    "it may mean {} entries, among them {}",
                    candidates.len(),
                    ids.join(", ")
                ),
            )
            .next("give the whole id, or NAME@latest"));
        }
        self.find(chain)
    }

    fn candidates<'e>(&self, entries: &'e [Entry]) -> Vec<&'e Entry> {
        if let Some(entry) = entries.iter().find(|entry| entry.id == self.0) {
            return vec![entry];
        }
        let of_name = |name: &str| -> Vec<&Entry> {
            entries.iter().filter(|entry| entry.name == name).collect()
        };
        let whole = of_name(&self.0);
        if !whole.is_empty() {
            return whole;
        }
        let (name, time) = self.parts();
        let mut candidates = of_name(name);
        if let Some(time) = time {
            candidates.retain(|entry| entry.id_time().starts_with(time));
        }
        candidates
    }

    fn not_found(&self, chain: &Chain, all: &[Entry]) -> Error {
        let (name, _) = self.parts();
        let of_name: Vec<&Entry> = all.iter().filter(|entry| entry.name == name).collect();
        let mut why = match (of_name.last(), self.forgotten(chain)) {
            (_, Some(forgotten)) => forgotten,
            (Some(_), None) => format!("{name} was not stored then"),
            (None, None) => format!("nothing called {name} is in the archive"),
        };
        let (kind, mut others): (_, Vec<&str>) = match of_name.as_slice() {
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
        let (name, time) = self.parts();
        let begins = format!("{name}@{}", time?);
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

/// Which entries are meant: of every name that fits a pattern, the newest at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPattern {
    names: String,
    /// The beginning of the last time that counts; none for now.
    until: Option<String>,
}

impl EntryPattern {
    /// Reads `archive:PATTERN@WHEN`, where `*` and `?` stand for any letters and WHEN is the beginning
    /// of a time, `latest` or left out: none if it does not begin with `archive:`.
    pub fn of_source(given: impl AsRef<Path>) -> Option<Self> {
        let reference = EntryRef::of_source(given)?;
        let (names, until) = reference.parts();
        Some(Self {
            names: names.to_owned(),
            until: until.map(str::to_owned),
        })
    }

    /// Reads `archive:PATTERN@WHEN` as [`Self::of_source`], but none if there is neither `*` nor `?` in it.
    pub fn of_sources(given: impl AsRef<Path>) -> Option<Self> {
        Self::of_source(given).filter(|pattern| pattern.names.contains(['*', '?']))
    }

    /// The entries that are meant, by name; that there is none is an error.
    pub fn find(&self, chain: &Chain) -> Result<Vec<Entry>> {
        if let Some(until) = self.until.as_ref().filter(|until| !begins_a_time(until)) {
            return Err(Error::usage(
                format!("looking for {}@{until}", self.names),
                format!("{until} does not begin a time"),
            )
            .next("give it as 2026-11-01, or as 2026-11-01T03:00:00Z"));
        }
        let names = WildMatch::new(&self.names);
        let now = Utc::now();
        let mut by_name: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for entry in chain.entries() {
            // Times are written alike, so that their beginnings are in order, too.
            let is_early = self.until.as_ref().is_none_or(|until| {
                let time = entry.id_time();
                time.get(..until.len()).unwrap_or(time) <= until.as_str()
            });
            if is_early && names.matches(&entry.name) {
                by_name.entry(entry.name.clone()).or_default().push(entry);
            }
        }
        if by_name.is_empty() {
            let until = self.until.as_deref().unwrap_or("latest");
            return Err(Error::new(
                Kind::NotFound,
                format!("looking for {}@{until}", self.names),
                "nothing of such a name was in the archive then",
            )
            .next("see all of them: snapmerge archive ls"));
        }
        let newest_of = |entries: &Vec<Entry>| newest(entries, now).cloned();
        Ok(by_name.values().filter_map(newest_of).collect())
    }
}

/// Returns true if `text` is the beginning of a time as ids have it, up to the end of one of its parts; a
/// number may follow a whole one.
fn begins_a_time(text: &str) -> bool {
    const LIKE: &[u8] = b"0000-00-00T00:00:00Z";
    const PARTS: [usize; 6] = [4, 7, 10, 13, 16, 19];
    let is_part = PARTS.contains(&text.len()) || text.len() >= LIKE.len();
    is_part
        && text.bytes().zip(LIKE).all(|(is, like)| match like {
            b'0' => is.is_ascii_digit(),
            like => is == *like,
        })
}

impl FromStr for EntryRef {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

impl fmt::Display for EntryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, time) = self.parts();
        write!(f, "{name}@{}", time.unwrap_or("latest"))
    }
}
