//! Operations on entries: storing, listing, showing and getting them.
//!
//! Invariants: of several snapshots those are reported that were stored before one failed.

use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, Utc};
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{envelope, no_such_name};
use crate::archive::{
    Added, Adding, ArchiveOptions, Entry, EntryRef, FileEntry, Proven, Retrieved,
    WritableArchiveOptions,
};
use crate::base::error::{Error, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::source::{files_of, parse_sha256};

/// Stores snapshots.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct AddRequest {
    /// Snapshot files, plain or .gz; of the snapshot of a whole storage every collection, or those of
    /// FILE#PATTERN
    #[arg(required = true, value_name = "SNAPSHOT")]
    pub snapshots: Vec<PathBuf>,
    /// Collection that it is a snapshot of [default: told from the file's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// When it was taken [default: told from its manifest, the file's name, or the file's age]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub time: Option<DateTime<Utc>>,
    /// A word to keep it by; repeat it for more
    #[arg(long, value_name = "WORD")]
    pub tag: Vec<String>,
    /// The SHA-256 that the file must have
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,
    /// Refuse snapshots that have no checksum
    #[arg(long)]
    pub require_checksum: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub archive: WritableArchiveOptions,
}

/// Snapshots that were stored.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AddReport {
    /// Header of the report.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// The archive.
    pub archive: String,
    /// Result for each stored snapshot.
    pub added: Vec<Added>,
    /// The snapshot that could not be stored; those after it were not tried.
    pub failed: Option<AddFailure>,
}

/// A snapshot that could not be stored.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "said by their names")]
pub struct AddFailure {
    pub snapshot: PathBuf,
    pub error: Error,
}

impl Operation for AddRequest {
    const NAME: &'static str = "archive add";
    type Report = AddReport;

    fn run(self, _: &Context) -> Result<AddReport> {
        if self.snapshots.len() > 1 && self.sha256.is_some() {
            return Err(Error::usage(
                "reading --sha256",
                "it is of one file, and several are given",
            )
            .next("store them one by one"));
        }
        let files = self.snapshots.iter().map(|given| files_of(given));
        let files = files.collect::<Result<Vec<_>>>()?.concat();
        if files.len() > 1 && (self.time.is_some() || self.name.is_some()) {
            return Err(Error::usage(
                "reading --name and --time",
                format!("they are of one snapshot, and there are {}", files.len()),
            )
            .next("store them one by one; one collection of a whole storage is FILE#COLLECTION"));
        }
        let sha256 = match &self.sha256 {
            None => None,
            Some(text) => Some(parse_sha256(text).ok_or_else(|| {
                Error::usage("reading --sha256", "it is not 64 hexadecimal digits")
            })?),
        };
        let archive = self.archive.open()?;
        let mut added = Vec::new();
        let mut failed = None;
        for file in files {
            let snapshot = PathBuf::from(file.to_string());
            let adding = Adding {
                name: self.name.clone(),
                time: self.time,
                tags: self.tag.clone(),
                sha256: sha256.clone(),
                require_checksum: self.require_checksum,
                ..Adding::of(file)
            };
            match archive.add(&adding) {
                Ok(one) => added.push(one),
                // There is nothing to report yet.
                Err(err) if added.is_empty() => return Err(err),
                Err(error) => {
                    failed = Some(AddFailure { snapshot, error });
                    break;
                }
            }
        }
        let outcome = match &failed {
            Some(failed) => failed.error.kind().into(),
            None => Outcome::differs_if(added.iter().any(Added::differs)),
        };
        Ok(AddReport {
            envelope: envelope::<Self>(outcome),
            archive: archive.what(),
            added,
            failed,
        })
    }
}

/// Lists what is stored.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct ListRequest {
    /// Only snapshots of these
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub archive: ArchiveOptions,
}

/// Entries of an archive.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "said by their names")]
pub struct ListReport {
    #[serde(flatten)]
    pub envelope: Envelope,
    pub archive: String,
    pub entries: Vec<Entry>,
    /// Entries whose times are in the future, so that some clock was wrong.
    pub in_future: Vec<String>,
    /// When a restore of any entry was last proven.
    pub last_proven: Option<DateTime<Utc>>,
}

impl Operation for ListRequest {
    const NAME: &'static str = "archive ls";
    type Report = ListReport;

    fn run(self, _: &Context) -> Result<ListReport> {
        let archive = self.archive.open()?;
        let chain = archive.chain()?;
        let mut entries = chain.entries();
        if !self.names.is_empty() {
            entries.retain(|entry| self.names.contains(&entry.name));
            if entries.is_empty() {
                return Err(no_such_name(&self.names.join(", ")));
            }
        }
        let now = Utc::now();
        let in_future = entries.iter().filter(|entry| entry.is_in_future(now));
        Ok(ListReport {
            envelope: envelope::<Self>(Outcome::DONE),
            archive: archive.what(),
            in_future: in_future.map(|entry| entry.id.clone()).collect(),
            last_proven: chain.last_proven(),
            entries,
        })
    }
}

/// Says all that is known of an entry.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct ShowRequest {
    /// NAME, NAME@latest, or NAME@ and the beginning of its time
    #[arg(value_name = "ENTRY")]
    pub entry: EntryRef,
    /// List the files in it, with the hashes of what is stored of them
    #[arg(long)]
    pub files: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub archive: ArchiveOptions,
}

/// All that is known of an entry.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "said by their names")]
pub struct ShowReport {
    #[serde(flatten)]
    pub envelope: Envelope,
    pub entry: Entry,
    /// When it was last restored and compared.
    pub proven_at: Option<DateTime<Utc>>,
    /// Result of that restore.
    pub proven: Option<Proven>,
    /// Number of objects that the entry needs, and their size as stored, in bytes.
    pub objects: u64,
    pub stored_bytes: u64,
    pub files_count: u64,
    /// If they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<FileEntry>>,
}

impl Operation for ShowRequest {
    const NAME: &'static str = "archive show";
    type Report = ShowReport;

    fn run(self, _: &Context) -> Result<ShowReport> {
        let archive = self.archive.open()?;
        let chain = archive.chain()?;
        let entry = self.entry.find(&chain)?;
        let recipe = archive.recipe(&entry)?;
        let proven = chain.proven().get(entry.id.as_str()).copied();
        Ok(ShowReport {
            envelope: envelope::<Self>(Outcome::DONE),
            proven_at: proven.map(|(time, _)| time),
            proven: proven.map(|(_, proven)| proven.clone()),
            objects: recipe.objects.len() as u64,
            stored_bytes: recipe.objects.iter().map(|part| part.stored).sum(),
            files_count: recipe.files.len() as u64,
            files: self.files.then_some(recipe.files),
            entry,
        })
    }
}

/// Gets a snapshot, byte by byte as it was.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct GetRequest {
    /// NAME, NAME@latest, or NAME@ and the beginning of its time
    #[arg(value_name = "ENTRY")]
    pub entry: EntryRef,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub archive: ArchiveOptions,
}

/// A snapshot that was got.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "said by their names")]
pub struct GetReport {
    #[serde(flatten)]
    pub envelope: Envelope,
    pub output: PathBuf,
    #[serde(flatten)]
    pub got: Retrieved,
}

impl Operation for GetRequest {
    const NAME: &'static str = "archive get";
    type Report = GetReport;

    fn run(self, _: &Context) -> Result<GetReport> {
        let archive = self.archive.open()?;
        let entry = self.entry.find(&archive.chain()?)?;
        let got = archive.get(&entry, &self.output, self.force)?;
        Ok(GetReport {
            envelope: envelope::<Self>(Outcome::DONE),
            output: self.output,
            got,
        })
    }
}

/// A time: RFC 3339, or a day.
fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = text.parse::<DateTime<Utc>>() {
        return Ok(time);
    }
    let day = text.parse::<NaiveDate>().ok();
    day.and_then(|day| day.and_hms_opt(0, 0, 0))
        .map(|time| time.and_utc())
        .ok_or_else(|| "give it as 2026-11-01T03:00:00Z or 2026-11-01, in UTC".to_owned())
}
