//! Journal of an unfinished capture, so that the next run resumes it or clears it away.
//!
//! A killed process cannot remove the snapshot that it had a server make. So its name is written
//! down before a byte of it is downloaded; and before it is asked for, what was there already.
//!
//! Invariants: a snapshot is removed only if this journal names it, or if it appeared in the very
//! seconds in which it was asked for and is the only one that did; a finished capture leaves no
//! journal.

use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::observe::Members;
use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::base::scratch::KeptFolder;
use crate::server::{ServerSnapshot, check_name};

/// Prefix of the names of working folders.
pub const PREFIX: &str = ".capturing-";
/// The file in such a folder.
const FILE: &str = "journal.json";
/// Letters of a hash that tell working folders apart.
const HASH_LETTERS: usize = 16;
/// Maximum difference between the time in a snapshot's name and the time of the request, by the server's
/// clock.
const NAME_WITHIN: TimeDelta = TimeDelta::seconds(3);
/// Maximum age of an interrupted capture that is resumed: a later one would not be what was asked for.
pub const GO_ON_WITHIN: TimeDelta = TimeDelta::hours(1);

/// Journal of an unfinished capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The server that was asked.
    pub server: String,
    /// The collection.
    pub collection: String,
    /// When it started.
    // Its name on disk, where earlier versions wrote it, too.
    #[serde(rename = "begun")]
    pub started: DateTime<Utc>,
    /// Snapshots that were requested of the members.
    pub made: Vec<Made>,
    /// The file that is there, complete, once it has its name.
    #[serde(default)]
    pub published: Option<PathBuf>,
}

impl Journal {
    /// The journal of a capture of `collection` that begins now.
    pub fn begin(members: &Members, collection: &str) -> Self {
        Self {
            server: members.first.address().to_string(),
            collection: collection.into(),
            started: Utc::now(),
            made: Vec::new(),
            published: None,
        }
    }
}

/// A snapshot that was asked for on one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The member's address.
    pub address: String,
    /// When it was asked for, by the server's clock if that is known.
    pub asked: DateTime<Utc>,
    /// Snapshots of the collection that were there before.
    pub before: Vec<String>,
    /// The snapshot, once its name is known.
    #[serde(default)]
    pub snapshot: Option<ServerSnapshot>,
}

impl Made {
    /// Which of the snapshots that are there now was asked for here: the one with the name, or if
    /// that never came to be known, the only one of the moment that it was asked for.
    pub fn is<'a>(&self, there: &'a [ServerSnapshot]) -> Option<&'a str> {
        if let Some(made) = &self.snapshot {
            let same = there.iter().find(|one| one.name == made.name);
            return same.map(|one| one.name.as_str());
        }
        let mut new = there.iter().filter(|one| {
            let at = time_in(&one.name);
            !self.before.contains(&one.name)
                && at.is_some_and(|at| (at - self.asked).abs() <= NAME_WITHIN)
        });
        match (new.next(), new.next()) {
            (Some(one), None) => Some(one.name.as_str()),
            _ => None,
        }
    }
}

/// The time in a snapshot's name, by the server's clock: `NAME-PEER-2026-11-22-14-15-16.snapshot`.
fn time_in(name: &str) -> Option<DateTime<Utc>> {
    let stem = name.strip_suffix(".snapshot")?;
    let at = stem
        .char_indices()
        .rev()
        .nth("2026-11-22-14-15-16".len() - 1)?
        .0;
    let time = NaiveDateTime::parse_from_str(stem.get(at..)?, "%Y-%m-%d-%H-%M-%S").ok()?;
    Some(time.and_utc())
}

/// A working folder with its journal.
#[derive(Debug)]
pub struct Work {
    kept: KeptFolder,
    /// Journal of the unfinished capture; `None` in a new folder.
    pub journal: Option<Journal>,
}

impl Work {
    /// The name of the working folder for a collection of a server.
    pub fn name(server: &str, collection: &str) -> String {
        let hash = blake3::hash(format!("{server}\n{collection}").as_bytes()).to_hex();
        let letters: String = hash.chars().take(HASH_LETTERS).collect();
        format!("{PREFIX}{letters}")
    }

    /// Opens the working folder `name` in `parent`; none if another process has it open.
    pub fn open(parent: &Path, name: &str) -> Result<Option<Self>> {
        let Some(kept) = KeptFolder::open(parent, name)? else {
            return Ok(None);
        };
        let path = kept.path().join(FILE);
        let journal = durable::read_json(&path).map_err(|err| {
            err.next(format!(
                "see what is in it, and remove the folder {}",
                kept.path().display()
            ))
        })?;
        Ok(Some(Self { kept, journal }))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.kept.path()
    }

    /// Writes the journal down.
    pub fn write(&mut self, journal: Journal) -> Result<()> {
        let path = self.kept.path().join(FILE);
        durable::write_private_json(&path, &journal)?;
        self.journal = Some(journal);
        Ok(())
    }

    /// Removes the folder: nothing is left to be done.
    pub fn remove(self) -> Result<()> {
        self.kept.remove()
    }
}

/// The name of the file that a collection is captured to.
pub fn file_name(collection: &str, from: &str, at: DateTime<Utc>) -> Result<String> {
    check_name(collection)
        .map_err(|why| Error::usage(format!("naming a file for {collection}"), why))?;
    let time = at.format("%Y-%m-%d-%H-%M-%S");
    Ok(format!("{collection}-{from}-{time}.snapshot"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(names: &[&str]) -> Vec<ServerSnapshot> {
        let snapshot = |name: &&str| ServerSnapshot {
            name: (*name).to_owned(),
            size: 1,
            checksum: None,
            creation_time: None,
        };
        names.iter().map(snapshot).collect()
    }

    #[test]
    fn only_what_was_asked_for_is_ours() {
        let asked = "2026-11-22T14:15:16Z".parse().unwrap();
        let made = Made {
            address: "http://a:1".into(),
            asked,
            before: vec!["c-1-2026-11-22-14-15-15.snapshot".into()],
            snapshot: None,
        };
        let of = |names: &[&str]| made.is(&there(names)).map(str::to_owned);
        let ours = "c-1-2026-11-22-14-15-17.snapshot";
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["c-1-2026-11-22-14-15-15.snapshot"]), None);
        assert_eq!(
            of(&["c-1-2026-11-22-14-15-15.snapshot", ours]),
            Some(ours.into())
        );
        assert_eq!(
            of(&["c-1-2026-11-22-14-16-17.snapshot"]),
            None,
            "a minute later"
        );
        assert_eq!(of(&["c-1-2026-11-22-14-15-16.snapshot", ours]), None, "two");
        assert_eq!(of(&["mine.snapshot", "ä.snapshot"]), None);
        let named = Made {
            snapshot: there(&["x.snapshot"]).pop(),
            ..made
        };
        assert_eq!(named.is(&there(&[ours, "x.snapshot"])), Some("x.snapshot"));
        assert_eq!(named.is(&there(&[ours])), None);
    }

    #[test]
    fn a_journal_outlives_its_process() {
        let parent = tempfile::tempdir().unwrap();
        let name = Work::name("http://a:1", "c");
        assert_ne!(name, Work::name("http://a:1", "d"));
        let mut work = Work::open(parent.path(), &name).unwrap().unwrap();
        assert_eq!(work.journal, None);
        let journal = Journal {
            server: "http://a:1".into(),
            collection: "c".into(),
            started: Utc::now(),
            made: Vec::new(),
            published: None,
        };
        work.write(journal.clone()).unwrap();
        assert!(Work::open(parent.path(), &name).unwrap().is_none());
        drop(work);
        let again = Work::open(parent.path(), &name).unwrap().unwrap();
        assert_eq!(again.journal, Some(journal));
        again.remove().unwrap();
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
