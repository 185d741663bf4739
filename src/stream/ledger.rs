//! The ledger of conflicts, and others like it: every one in a file, the first ones in the report.
//!
//! Invariants: each conflict is in it with all its sources and what became of each; it has its
//! final name only when the merge is done.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::durable::Staged;
use crate::base::error::{Error, Result};
use crate::point::{Identity, PointId, ShardKey};

/// Conflicts that a report lists.
const LISTED: usize = 20;

/// One conflict.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Conflict {
    /// The identity in the master.
    #[serde(flatten)]
    pub id: Identity,
    /// The sources that have it, in their order.
    pub sources: Vec<String>,
    /// The shard keys that it has there, in the same order, if the master does not keep them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shard_keys: Vec<Option<ShardKey>>,
    /// The source whose record has the id in the master.
    pub winner: String,
    /// The sources whose record lacks the field that decides, by the policy newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacking: Vec<String>,
    /// The new ids of the other records, in the order of their sources, if they were remapped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remapped: Vec<PointId>,
}

impl Conflict {
    /// One of the identity `id`, whose records come from `homes` (the source's name, and the shard key
    /// there if the master does not keep it); that at the place `winner` has the id.
    pub fn new(id: Identity, homes: Vec<(String, Option<ShardKey>)>, winner: usize) -> Self {
        let (sources, shard_keys): (Vec<String>, Vec<Option<ShardKey>>) = homes.into_iter().unzip();
        Self {
            id,
            winner: sources.get(winner).cloned().unwrap_or_default(),
            sources,
            shard_keys: match shard_keys.iter().any(Option::is_some) {
                true => shard_keys,
                false => Vec::new(),
            },
            lacking: Vec::new(),
            remapped: Vec::new(),
        }
    }

    /// The same, where the records of the sources at the places `lacking` lack the field that decides.
    #[must_use]
    pub fn lacking(self, lacking: &[usize]) -> Self {
        let names = lacking.iter().filter_map(|at| self.sources.get(*at));
        let lacking = names.cloned().collect();
        Self { lacking, ..self }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |(at, source): (usize, &String)| match self.shard_keys.get(at) {
            Some(Some(key)) => format!("{source} under {key}"),
            _ => source.clone(),
        };
        let sources: Vec<String> = self.sources.iter().enumerate().map(named).collect();
        write!(
            f,
            "{} in {}: {} wins",
            self.id,
            sources.join(", "),
            self.winner
        )?;
        if !self.lacking.is_empty() {
            write!(f, " (without the field: {})", self.lacking.join(", "))?;
        }
        for (source, id) in self.sources.iter().skip(1).zip(&self.remapped) {
            write!(f, ", {source} becomes {id}")?;
        }
        Ok(())
    }
}

/// Conflicts that a field was to decide which records lack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lacking {
    /// Conflicts of which a record lacks it, and loses.
    pub some: u64,
    /// Conflicts of which every record lacks it: the last source wins.
    pub all: u64,
}

/// Conflicts, or other things worth a line each, as they come.
pub struct Ledger<T = Conflict> {
    count: u64,
    lacking: Lacking,
    first: Vec<T>,
    file: Option<(Staged, BufWriter<File>, PathBuf)>,
    replace: bool,
}

impl Ledger {
    /// Takes a conflict in.
    pub fn conflict(&mut self, conflict: Conflict) -> Result<()> {
        match conflict.lacking.len() {
            0 => {}
            some if some < conflict.sources.len() => self.lacking.some += 1,
            _ => self.lacking.all += 1,
        }
        self.add(conflict)
    }

    /// Conflicts that lacked the field which was to decide them.
    pub fn lacking(&self) -> Lacking {
        self.lacking
    }
}

impl<T: Serialize> Ledger<T> {
    /// A ledger, written to `path` if there is one; with `replace` an existing file is replaced.
    pub fn new(path: Option<&Path>, replace: bool) -> Result<Self> {
        let file = match path {
            None => None,
            Some(path) => {
                let staged = Staged::new(path, replace)?;
                let file = staged.create()?;
                Some((staged, BufWriter::new(file), path.to_owned()))
            }
        };
        Ok(Self {
            count: 0,
            lacking: Lacking::default(),
            first: Vec::new(),
            file,
            replace,
        })
    }

    /// Takes one in.
    pub fn add(&mut self, entry: T) -> Result<()> {
        self.count += 1;
        if let Some((_, file, path)) = &mut self.file {
            serde_json::to_writer(&mut *file, &entry)
                .map_err(std::io::Error::from)
                .and_then(|()| file.write_all(b"\n"))
                .map_err(|err| Error::io("writing ledger", path, &err))?;
        }
        if self.first.len() < LISTED {
            self.first.push(entry);
        }
        Ok(())
    }

    /// Returns the number of entries.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the first entries, as many as a report lists.
    pub fn first(&self) -> &[T] {
        &self.first
    }

    /// Returns the path of the file with all entries, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(_, _, path)| path.as_path())
    }

    /// Gives the file its final name.
    pub fn publish(self) -> Result<()> {
        if let Some((staged, file, path)) = self.file {
            file.into_inner()
                .map_err(|err| Error::io("writing ledger", &path, err.error()))?;
            staged.publish(self.replace)?;
        }
        Ok(())
    }
}
