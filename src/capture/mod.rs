//! Taking snapshots off running servers without leaving a trace.
//!
//! Invariants: every shard is in the file exactly once, from a replica that was Active before and
//! after; the file gets its name only when its hash is the server's and its tar is whole to the end,
//! and its manifest and checksum lie beside it then; what was made on a server is removed, also after
//! a failure, and nothing else is.

mod assemble;
mod journal;
mod leftovers;
mod manifest;
mod observe;
mod part;
mod plan;
mod request;
mod store;
mod take;
mod unchanged;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use self::journal::{GO_ON_WITHIN, Journal, Work};
pub use self::leftovers::clear_leftovers;
use self::leftovers::{and_left, clear, finish};
pub use self::manifest::{Form, Manifest, PeerPart, ShardPart};
pub use self::observe::Members;
use self::observe::{Observation, observe};
pub use self::part::{Hashes, hashes};
pub use self::request::{CaptureFailure, CaptureReport, CaptureRequest};
pub use self::store::{discard, store};
pub use self::unchanged::{ChangeToken, change_token};
use crate::base::durable;
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Progress;
use crate::base::sidecar::Sidecar;
use crate::format::{Snapshot, Want};
use crate::server::{Connection, Rate};

/// Parameters of a capture.
pub struct CaptureOptions<'a> {
    /// The server, with the members of its cluster.
    pub members: &'a Members,
    /// The collection.
    pub collection: &'a str,
    /// Folder in which the file is put.
    pub folder: &'a Path,
    /// True if shards are streamed, which needs no disk on the server.
    pub stream: bool,
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
    let server = request.members.first.address().to_string();
    let name = Work::name(&server, request.collection);
    let Some(mut work) = Work::open(request.folder, &name)? else {
        return Err(Error::failed(
            format!(
                "capturing {} to {}",
                request.collection,
                request.folder.display()
            ),
            "another run is doing the same at this moment",
        )
        .next("wait until it has ended"));
    };
    if let Some(done) = earlier(request, &mut work)? {
        work.remove()?;
        return Ok(done);
    }
    let captured = captured(request, &mut work);
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

/// Handles an interrupted capture: finishes it if its file was published, and clears it away if it is too old
/// to be resumed.
fn earlier(request: &CaptureOptions<'_>, work: &mut Work) -> Result<Option<Captured>> {
    let Some(journal) = work.journal.clone() else {
        return Ok(None);
    };
    let is_recent = (Utc::now() - journal.begun).abs() <= GO_ON_WITHIN;
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

fn captured(request: &CaptureOptions<'_>, work: &mut Work) -> Result<Captured> {
    let begun = Utc::now();
    let collection = request.collection;
    let before = observe(request.members, collection)?;
    let mut notes = before.notes(collection);
    let taken = if request.stream {
        before.require_idle(collection)?;
        take::streamed(request, &before, work)?
    } else {
        take::snapshots(request, &before, work)?
    };
    let config = check_whole(&taken.path, &before, request.stream)?;
    let after = observe(request.members, collection)?;
    if request.stream {
        after.require_idle(collection)?;
    }
    if let Some(why) = before.differs(&after, request.stream) {
        return Err(Error::new(
            Kind::Refused,
            format!("capturing {collection}"),
            format!("{why}, so it may lack points"),
        )
        .next("run it again when the cluster is at rest"));
    }
    if before.points != after.points && before.info.deferred() == 0 {
        notes.push(format!(
            "points were written while it was captured: {} before, {} after",
            before.points, after.points
        ));
    }
    let unverified = taken.peers.iter().any(|part| part.sha256.is_none());
    if unverified && !request.stream {
        let why = "the server gave no checksum (one before 1.8 gives none, nor does one that keeps \
                   snapshots in an object store)";
        if request.require_checksum {
            return Err(Error::damaged(format!("checking {collection}"), why)
                .next("capture without --require-checksum: the tar itself is checked to its end"));
        }
        notes.push(format!(
            "{why}: size and tar were checked, the bytes could not be compared"
        ));
    }
    let manifest = manifest(request, &before, &after, &taken, &config, begun)?;
    let file = publish(request, work, &taken, &manifest)?;
    Ok(Captured {
        file,
        manifest,
        notes,
        left: Vec::new(),
        finished_earlier: false,
    })
}

/// Walks over the file to its end: every shard has to be there, from an Active replica. Returns its
/// config.json.
fn check_whole(path: &Path, observation: &Observation, streamed: bool) -> Result<Vec<u8>> {
    let snapshot = Snapshot::open(&path.into(), Want::default(), None)?;
    let damaged = |why: String| {
        Error::damaged(format!("checking what came of {}", path.display()), why)
            .next("capture it again; if it stays so, look at the server's log")
    };
    let Some(config) = snapshot.config else {
        return Err(damaged("it has no config.json".into()));
    };
    let there: Vec<u32> = snapshot.shards.keys().copied().collect();
    let wanted = observation.plan.shards();
    if there.iter().any(|shard| !wanted.contains(shard)) {
        return Err(damaged(format!(
            "it has the shards {there:?}, not {wanted:?}"
        )));
    }
    for number in wanted {
        let Some(shard) = snapshot.shards.get(&number) else {
            return Err(damaged(format!("it lacks shard {number}")));
        };
        if shard.shard_config.is_none() {
            return Err(damaged(format!(
                "shard {number} lacks shard_config.json, which a server writes last"
            )));
        }
        if !streamed && !shard.has_log {
            return Err(damaged(format!("shard {number} lacks its log")));
        }
        let state = shard.replicas().and_then(|replicas| replicas.own());
        if state.as_deref() != Some(crate::server::ACTIVE) {
            return Err(damaged(format!(
                "the replica of shard {number} was {} when it was taken",
                state.as_deref().unwrap_or("in no known state")
            )));
        }
    }
    Ok(config)
}

/// Captured file that is not published yet.
struct Taken {
    path: PathBuf,
    bytes: u64,
    hashes: Hashes,
    peers: Vec<PeerPart>,
    form: Form,
    /// The name that the server gave it, or one like it.
    name: String,
}

fn manifest(
    request: &CaptureOptions<'_>,
    before: &Observation,
    after: &Observation,
    taken: &Taken,
    config: &[u8],
    begun: DateTime<Utc>,
) -> Result<Manifest> {
    let address = request.members.first.address();
    let source = format!("{address}/{}", request.collection);
    let payload = before.info.payload_schema(&source)?;
    let config: Option<serde_json::Value> = serde_json::from_slice(config).ok();
    let uuid = config.and_then(|config| Some(config.get("uuid")?.as_str()?.to_owned()));
    let shards = before
        .plan
        .takes
        .iter()
        .flat_map(|take| take.shards.iter().map(|shard| (*shard, take.peer)))
        .collect::<BTreeMap<u32, u64>>();
    Ok(Manifest {
        manifest: manifest::VERSION,
        snapmerge: env!("CARGO_PKG_VERSION").into(),
        server: address.to_string(),
        server_version: before.server.version.clone(),
        collection: request.collection.into(),
        uuid,
        form: taken.form,
        begun,
        ended: Utc::now(),
        bytes: taken.bytes,
        sha256: taken.hashes.sha256.clone(),
        blake3: taken.hashes.blake3.clone(),
        peers: taken.peers.clone(),
        shards: shards
            .into_iter()
            .map(|(shard, peer)| ShardPart {
                shard,
                key: before.plan.keys.key_of(shard).cloned(),
                peer,
                points: before.still_points(after, shard),
            })
            .collect(),
        points: before.still_all_points(after),
        points_before: before.points,
        points_after: after.points,
        indexed_vectors: before.info.indexed_vectors_count,
        status: before.info.status.clone(),
        aliases: before.aliases.clone(),
        config: before.info.config.clone(),
        payload_schema: serde_json::to_value(payload.fields())
            .map_err(|err| Error::failed("writing the manifest", err))?,
    })
}

/// Gives the file its name, what belongs to it first.
fn publish(
    request: &CaptureOptions<'_>,
    work: &mut Work,
    taken: &Taken,
    manifest: &Manifest,
) -> Result<PathBuf> {
    let file = request.folder.join(&taken.name);
    if file.symlink_metadata().is_ok() {
        return Err(Error::usage(
            format!("publishing {}", file.display()),
            "it exists already",
        )
        .next("servers name snapshots by the second: run it again"));
    }
    let bytes = serde_json::to_vec_pretty(manifest)
        .map_err(|err| Error::failed(format!("writing the manifest of {}", file.display()), err))?;
    durable::write_private(&Sidecar::Manifest.of(&file), &bytes, true)?;
    let sha256 = manifest.sha256.as_bytes();
    durable::write_private(&Sidecar::Checksum.of(&file), sha256, true)?;
    // From here on the journal says that a file of this name is whole.
    let begin = || Journal::begin(request.members, request.collection);
    let mut journal = work.journal.clone().unwrap_or_else(begin);
    journal.published = Some(file.clone());
    work.write(journal)?;
    durable::publish(&taken.path, &file, false)?;
    Ok(file)
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
