//! A collection captured whole, by snapshots or by streams.
//!
//! Invariants: what is captured has its name only after its tar was walked over to the end and its server
//! was asked again; what a next capture may build on is told only if all of it is known.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use chrono::{DateTime, Utc};

use super::journal::{Journal, Work};
use super::manifest::{self, Form, Manifest, PeerPart, ShardPart};
use super::observe::{Observation, observe};
use super::options::{Increment, Incremental};
use super::part::{self, Hashes};
use super::proof::{Base, Start, TelemetryAge};
use super::stream::{StreamScope, StreamedShards, stream};
use super::take::{CLUSTER, Taken, free_name, length, snapshots};
use super::unfit::Unfit;
use super::{CaptureOptions, Captured};
use crate::base::durable;
use crate::base::error::{Error, Kind, Result};
use crate::base::sidecar::Sidecar;
use crate::format::{ShardManifest, Snapshot, SnapshotFile, Want};
use crate::server::Feature;

/// Captures all of the collection, and publishes the file.
pub fn captured(
    request: &CaptureOptions<'_>,
    incremental: Incremental,
    work: &mut Work,
) -> Result<Captured> {
    if incremental == Incremental::Off {
        return plain(request, work);
    }
    let why = match as_base(request, work) {
        Ok(captured) => return Ok(captured),
        Err(unfit) => unfit.why()?,
    };
    if incremental == Incremental::Require {
        return Err(Error::new(
            Kind::Refused,
            format!("capturing {} incrementally", request.collection),
            why,
        )
        .next("capture it with --incremental auto, which takes all of it then"));
    }
    let mut captured = plain(request, work)?;
    captured.increment = Some(Increment {
        no_base: Some(why),
        ..Increment::default()
    });
    Ok(captured)
}

/// By snapshots, or by streams if the user wants that.
fn plain(request: &CaptureOptions<'_>, work: &mut Work) -> Result<Captured> {
    let started = Utc::now();
    let collection = request.collection;
    let before = observe(request.members, collection)?;
    let taken = if request.stream {
        before.require_idle(collection)?;
        let streamed = stream(request, &before, work, StreamScope::Whole)?;
        taken(request, &before, streamed)?
    } else {
        snapshots(request, &before, work)?
    };
    let mut notes = Vec::new();
    let is_bare = taken.peers.iter().any(|part| part.sha256.is_none());
    if is_bare && taken.form != Form::Streamed {
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
    let whole = Whole::check(request, (started, before), taken, None);
    let captured = whole.and_then(|whole| whole.publish(request, work));
    let mut captured = captured.map_err(|unfit| match unfit {
        Unfit::Failed(err) => err,
        Unfit::Why(why) => Error::new(
            Kind::Refused,
            format!("capturing {collection}"),
            format!("{why}, so it may lack points"),
        )
        .next("run it again when the collection is at rest"),
    })?;
    captured.notes.extend(notes);
    Ok(captured)
}

/// By partial snapshots that lack nothing, so that the next capture can take what is newer.
fn as_base(request: &CaptureOptions<'_>, work: &mut Work) -> Result<Captured, Unfit> {
    streamed_base(request, work, TelemetryAge::New)?.publish(request, work)
}

/// The same, and not published yet.
pub fn streamed_base(
    request: &CaptureOptions<'_>,
    work: &Work,
    age: TelemetryAge,
) -> Result<Whole, Unfit> {
    let is_begun = work
        .journal
        .as_ref()
        .is_some_and(|started| !started.made.is_empty());
    if is_begun {
        return Err("a snapshot that an earlier run had made is taken".into());
    }
    let started = Utc::now();
    let before = observe(request.members, request.collection)?;
    can_stream(request, &before)?;
    let start = Start::of(request, age)?;
    let streamed = stream(request, &before, work, StreamScope::Newer(&BTreeMap::new()))?;
    let base = Base {
        start,
        unchanged: BTreeSet::new(),
        shards: manifests(&streamed)?,
    };
    let taken = taken(request, &before, streamed)?;
    Whole::check(request, (started, before), taken, Some(base))
}

/// All of a collection, found to be whole, and not published yet.
pub struct Whole {
    started: DateTime<Utc>,
    before: Observation,
    after: Observation,
    taken: Taken,
    config: Vec<u8>,
    base: Option<Base>,
    notes: Vec<String>,
    read_until: Instant,
}

impl Whole {
    /// The capture, if the collection did not change under it.
    fn check(
        request: &CaptureOptions<'_>,
        (started, before): (DateTime<Utc>, Observation),
        taken: Taken,
        base: Option<Base>,
    ) -> Result<Self, Unfit> {
        let is_streamed = taken.form == Form::Streamed;
        let file = SnapshotFile::from(taken.path.as_path());
        let snapshot = Snapshot::open(&file, Want::default(), None)?;
        let config = check_whole(&snapshot, &before, is_streamed)?;
        let mut notes = before.notes(request.collection);
        let after = recheck(request, &before, is_streamed, &mut notes)?;
        Ok(Self {
            started,
            before,
            after,
            taken,
            config,
            base,
            notes,
            read_until: Instant::now(),
        })
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.taken.bytes
    }

    /// Publishes it, if nothing spoiled meanwhile what the next capture would build on.
    pub fn publish(self, request: &CaptureOptions<'_>, work: &mut Work) -> Result<Captured, Unfit> {
        let end = |base: Base| base.end(request, self.read_until);
        let partial = self.base.map(end).transpose()?;
        let span = Span {
            started: self.started,
            before: &self.before,
            after: &self.after,
        };
        let taken = &self.taken;
        let what = (taken.form, taken.peers.as_slice());
        let bytes = (taken.bytes, &taken.hashes);
        let manifest = Manifest {
            partial,
            ..manifest(request, &span, what, bytes, &self.config)?
        };
        let file = publish(request, work, taken, &manifest)?;
        Ok(Captured {
            file,
            notes: self.notes,
            left: Vec::new(),
            finished_earlier: false,
            increment: None,
            manifest,
            read_until: Some(self.read_until),
        })
    }
}

/// Observes the collection again after its capture; an error if it changed in a way that spoils the capture.
pub fn recheck(
    request: &CaptureOptions<'_>,
    before: &Observation,
    is_streamed: bool,
    notes: &mut Vec<String>,
) -> Result<Observation, Unfit> {
    let after = observe(request.members, request.collection)?;
    if is_streamed {
        after.require_idle(request.collection)?;
    }
    if let Some(why) = before.differs(&after, is_streamed) {
        return Err(why.into());
    }
    if before.points != after.points && before.info.deferred() == 0 {
        notes.push(format!(
            "points were written while it was captured: {} before, {} after",
            before.points, after.points
        ));
    }
    Ok(after)
}

/// An error if no partial snapshots can be taken at this moment.
pub fn can_stream(request: &CaptureOptions<'_>, before: &Observation) -> Result<(), Unfit> {
    if request.require_checksum && !request.stream {
        return Err("a checksum of the server is required, and its streams have none".into());
    }
    if !Feature::PartialSnapshots.is_in(before.server.numbers()) {
        return Err(Unfit::from(format!(
            "Qdrant {} does not tell what changed; 1.16 and later do",
            before.server.version
        )));
    }
    // Its optimizers take points out of segments without saying so in any version
    // (lib/shard/src/optimize.rs).
    if before.info.config["optimizer_config"]["prevent_unoptimized"] == true {
        return Err("it has prevent_unoptimized, with which versions of files do not hold".into());
    }
    before.require_idle(request.collection).map_err(Unfit::from)
}

/// The manifests of shards that came whole.
fn manifests(streamed: &StreamedShards) -> Result<BTreeMap<u32, ShardManifest>, Unfit> {
    let mut manifests = BTreeMap::new();
    for (number, shard) in &streamed.shards {
        let Some(shard) = shard else {
            return Err(Unfit::from(format!(
                "shard {number} has not changed since nothing, the server says"
            )));
        };
        for (id, sent) in shard.sent()? {
            if let Some(segment) = shard.manifest.segments.get(id) {
                segment.kept(None, &sent)?;
            }
        }
        manifests.insert(*number, shard.manifest.clone());
    }
    Ok(manifests)
}

/// The streamed shards, as one complete snapshot.
fn taken(
    request: &CaptureOptions<'_>,
    observation: &Observation,
    streamed: StreamedShards,
) -> Result<Taken> {
    let path = streamed.path;
    Ok(Taken {
        bytes: length(&path)?,
        hashes: part::hashes(&path)?,
        path,
        peers: streamed.peers,
        form: Form::Streamed,
        name: streamed_name(request, observation)?,
    })
}

/// A name for a file of what was streamed.
pub fn streamed_name(request: &CaptureOptions<'_>, observation: &Observation) -> Result<String> {
    let from = match observation.plan.takes.as_slice() {
        [take] => take.peer.to_string(),
        _ => CLUSTER.into(),
    };
    free_name(request, &from)
}

/// An error unless every shard is there, from an Active replica. Returns config.json.
pub fn check_whole(
    snapshot: &Snapshot,
    observation: &Observation,
    streamed: bool,
) -> Result<Vec<u8>> {
    let damaged = |why: String| {
        Error::damaged(format!("checking what came of {}", snapshot.what()), why)
            .next("capture it again; if it stays so, look at the server's log")
    };
    let Some(config) = snapshot.config.clone() else {
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

/// Moment at which a capture is described.
pub struct Span<'a> {
    /// When it started.
    pub started: DateTime<Utc>,
    /// State before.
    pub before: &'a Observation,
    /// State after.
    pub after: &'a Observation,
}

/// The manifest of what was captured, with `config` as its config.json.
pub fn manifest(
    request: &CaptureOptions<'_>,
    span: &Span<'_>,
    (form, peers): (Form, &[PeerPart]),
    (bytes, hashes): (u64, &Hashes),
    config: &[u8],
) -> Result<Manifest> {
    let (before, after) = (span.before, span.after);
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
        form,
        started: span.started,
        ended: Utc::now(),
        bytes,
        sha256: hashes.sha256.clone(),
        blake3: hashes.blake3.clone(),
        peers: peers.to_vec(),
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
        partial: None,
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
