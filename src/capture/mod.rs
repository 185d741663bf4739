//! Taking snapshots off running servers without leaving a trace.
//!
//! Invariants: every shard is in the file exactly once, from a replica that was Active before and
//! after; the file gets its name only when its hash is the server's and its tar is whole to the end,
//! and its manifest and checksum lie beside it then; what was made on a server is removed, also after
//! a failure, and nothing else is.

mod ahead;
mod assemble;
mod check;
mod compose;
mod increment;
mod journal;
mod leftovers;
mod lineage;
mod looks;
mod manifest;
mod observe;
mod options;
mod part;
mod plan;
mod proof;
mod request;
mod store;
mod stream;
mod take;
mod unchanged;
mod unfit;
mod whole;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use chrono::Utc;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

pub use self::ahead::{Ahead, TOGETHER_MAX, stream_ahead};
pub use self::increment::{Storing, capture_into};
use self::journal::{GO_ON_WITHIN, Work};
pub use self::leftovers::clear_leftovers;
use self::leftovers::{and_left, clear, finish};
pub use self::lineage::{Lineage, OwnRestores};
pub use self::manifest::{Form, Manifest, PartialState, PeerPart, ShardPart};
pub use self::observe::Members;
pub use self::options::{Checked, Increment, Incremental, IncrementalOptions};
pub use self::part::{Hashes, hashes};
pub use self::request::{CaptureFailure, CaptureReport, CaptureRequest};
pub use self::store::{captured_earlier, captured_in, discard, store};
pub use self::unchanged::{ChangeToken, change_token, change_token_after};
use self::whole::captured;
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Progress;
use crate::base::sidecar::Sidecar;
use crate::server::{Connection, Rate};

/// Parameters of a capture.
#[derive(Clone, Copy)]
pub struct CaptureOptions<'a> {
    /// The server, with the members of its cluster.
    pub members: &'a Members,
    /// The collection.
    pub collection: &'a str,
    /// Folder in which the file is put.
    pub folder: &'a Path,
    /// True if shards are streamed, which needs no disk on the server.
    pub stream: bool,
    /// Restores that the caller did itself.
    pub own_restores: &'a OwnRestores,
    /// Maximum rate of the transfer, if it is limited.
    pub rate: Option<Rate>,
    /// True if a server that gives no checksum is refused.
    pub require_checksum: bool,
    /// Display of progress.
    pub progress: Progress,
}

/// Result of a capture.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Captured {
    /// The file.
    pub file: PathBuf,
    /// Manifest that lies beside the file.
    pub manifest: Manifest,
    /// Notes for anyone who relies on the snapshot.
    pub notes: Vec<String>,
    /// Snapshots that could not be removed from a server; the next run tries again.
    pub left: Vec<String>,
    /// True if an earlier run had already published the file.
    pub finished_earlier: bool,
    /// Part of it that was moved, if it was captured into an archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub increment: Option<Increment>,
    /// When all of it had been read, if that was in this process.
    #[serde(skip)]
    pub(crate) read_until: Option<Instant>,
}

impl Captured {
    /// Returns true if something was left on a server, or if captures of what changed turned out not to
    /// be what the collection is.
    pub fn differs(&self) -> bool {
        let checked = self.increment.as_ref().and_then(|one| one.checked.as_ref());
        !self.left.is_empty() || matches!(checked, Some(Checked::Differs { .. }))
    }
}

/// Prefix of the names of scratch collections, which are made to be read and removed.
pub const SCRATCH_PREFIX: &str = "snapmerge-scratch-";
/// Collection in which Qdrant's migration tool keeps its progress.
const MIGRATION: &str = "_migration_offsets";

/// Collections that patterns mean.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// Their names, sorted.
    pub names: Vec<String>,
    /// Names that match, too, and are tools' own: only a whole name means them.
    pub left_out: Vec<String>,
}

impl Matching {
    /// Returns a note on the collections that were left out; `None` if there are none.
    pub fn note(&self) -> Option<String> {
        (!self.left_out.is_empty()).then(|| {
            format!(
                "{} left out: tools keep them for themselves; to take one, give its whole name",
                self.left_out.join(", ")
            )
        })
    }
}

fn is_a_tools_own(name: &str) -> bool {
    name == MIGRATION || name.starts_with(SCRATCH_PREFIX)
}

/// The collections on the server whose names match one of `patterns` (`*`, `?`).
pub fn matching(connection: &Connection, patterns: &[String]) -> Result<Matching> {
    let there = connection.collections()?;
    let mut named = BTreeSet::new();
    let mut left_out = BTreeSet::new();
    for pattern in patterns {
        let is_plain = !pattern.contains(['*', '?']);
        let wild = WildMatch::new(pattern);
        let before = named.len();
        let found = there.iter().filter(|name| match is_plain {
            true => *name == pattern,
            false => wild.matches(name),
        });
        let (own, found): (Vec<&String>, Vec<&String>) =
            found.partition(|name| !is_plain && is_a_tools_own(name));
        left_out.extend(own.into_iter().cloned());
        if found.is_empty() && before == named.len() {
            let doing = format!("looking for {pattern} on {}", connection.address());
            let why = match is_plain {
                true => "there is no such collection",
                false => "no collection's name matches",
            };
            let mut err = Error::new(Kind::Refused, doing, why);
            err = match connection.aliases()?.get(pattern) {
                Some(target) => err.next(format!("it is an alias of {target}: give that name")),
                None => err.next(format!(
                    "`curl {}/collections` lists what is there",
                    connection.address()
                )),
            };
            return Err(err);
        }
        named.extend(found.into_iter().cloned());
    }
    Ok(Matching {
        left_out: left_out.difference(&named).cloned().collect(),
        names: named.into_iter().collect(),
    })
}

/// Captures one collection.
pub fn capture(request: &CaptureOptions<'_>) -> Result<Captured> {
    capture_as(request, Incremental::Off)
}

/// The same so that the next capture can take only what is newer: shards are streamed with the manifests of
/// their segments, wherever `incremental` says and that can be.
fn capture_as(request: &CaptureOptions<'_>, incremental: Incremental) -> Result<Captured> {
    let mut work = open_work(request)?;
    if let Some(done) = earlier(request, &mut work)? {
        work.remove()?;
        return Ok(done);
    }
    let captured = captured(request, incremental, &mut work);
    ended(request, work, captured)
}

/// Result of a capture, after what it made on servers was removed.
fn ended(request: &CaptureOptions<'_>, work: Work, captured: Result<Captured>) -> Result<Captured> {
    let left = clear(request.members, &work);
    match captured {
        Ok(mut captured) => {
            captured.left = left;
            finish(work, &captured.left)?;
            Ok(captured)
        }
        Err(err) => {
            let err = and_left(err, &left);
            // The first error is the one that the user needs to know.
            let _ = finish(work, &left);
            Err(err)
        }
    }
}

/// The working folder of the capture, which no other run has open.
fn open_work(request: &CaptureOptions<'_>) -> Result<Work> {
    let server = request.members.first.address().to_string();
    let name = Work::name(&server, request.collection);
    Work::open(request.folder, &name)?.ok_or_else(|| {
        Error::failed(
            format!(
                "capturing {} to {}",
                request.collection,
                request.folder.display()
            ),
            "another run is doing the same at this moment",
        )
        .next("wait until it has ended")
    })
}

/// Handles an interrupted capture: finishes it if its file was published, and clears it away if it is too old
/// to be resumed.
fn earlier(request: &CaptureOptions<'_>, work: &mut Work) -> Result<Option<Captured>> {
    let Some(journal) = work.journal.clone() else {
        return Ok(None);
    };
    let is_recent = (Utc::now() - journal.started).abs() <= GO_ON_WITHIN;
    if let Some(file) = journal.published.clone().filter(|file| file.exists())
        && is_recent
    {
        let left = clear(request.members, work);
        if !left.is_empty() {
            return Err(Error::failed(
                format!(
                    "finishing what an earlier run began with {}",
                    request.collection
                ),
                left.join("; "),
            )
            .next("look at the server, and run it again"));
        }
        let manifest = read_manifest(&file)?;
        return Ok(Some(Captured {
            file,
            manifest,
            notes: Vec::new(),
            left,
            finished_earlier: true,
            increment: None,
            read_until: None,
        }));
    }
    if let Some(file) = journal.published.filter(|file| !file.exists()) {
        for sidecar in [Sidecar::Manifest, Sidecar::Checksum] {
            // Nobody misses what belongs to a file that is not there.
            let _ = std::fs::remove_file(sidecar.of(&file));
        }
    }
    if is_recent && !request.stream && !journal.made.is_empty() {
        return Ok(None);
    }
    let left = clear(request.members, work);
    if !left.is_empty() {
        let why = left.join("; ");
        let doing = format!(
            "clearing away what an earlier run left of {}",
            request.collection
        );
        return Err(Error::failed(doing, why).next("look at the server, and run it again"));
    }
    work.journal = None;
    Ok(None)
}

/// The manifest beside `file`.
pub fn read_manifest(file: &Path) -> Result<Manifest> {
    let path = Sidecar::Manifest.of(file);
    let bytes = std::fs::read(&path).map_err(|err| Error::io("reading manifest", &path, &err))?;
    serde_json::from_slice(&bytes).map_err(|err| {
        Error::damaged(format!("reading manifest {}", path.display()), err)
            .next("capture the collection again")
    })
}
