//! Restoring a master onto a server: looked at, sent, waited for, compared.
//!
//! Invariants: what can be refused is refused before a byte moves; a collection that is there is never
//! written over unless that was asked for; a collection that does not come out as the snapshot says is
//! removed again, unless it was there before; the copy of the snapshot that a server keeps after an upload is
//! removed; a run that was killed leaves word of what it began.

mod expect;
pub mod keys;
mod many;
mod options;
mod preflight;
mod request;
mod shard;
mod verify;

pub use self::expect::{Expected, Points};
pub use self::many::{
    ManyAlias, ManyRestored, ManyState, Rename, RestoreManyReport, RestoreManyRequest,
};
pub use self::options::Options;
pub use self::request::{RestoreOptions, RestoreReport, RestoreRequest};
pub use self::verify::Difference;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::Utc;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use self::options::RestoreRecord;
use self::preflight::{Preflight, There, Way, addresses, preflight};
use self::shard::{measure, stream};
use self::verify::{Verdict, verify, wait_green};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Unit;
use crate::base::status;
use crate::capture::Members;
use crate::format::Input;
use crate::server::{
    ACTIVE, About, CollectionAddress, Connection, Failure, Landed, Polling, Selection, StateFolder,
    Upload, create_body,
};

/// Polling until the server has ended what a dead run had sent it.
const SETTLING: Polling = Polling::every(Duration::from_millis(100))
    .within(Duration::from_secs(120))
    .in_cleanup();
/// Polling until a new shard is known to all members.
const SPREADING: Polling = Polling::every(Duration::from_millis(20))
    .up_to(Duration::from_secs(1))
    .within(Duration::from_secs(60));

/// Result of a restore.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Restored {
    /// Collection that was restored to.
    pub target: CollectionAddress,
    /// The server's version.
    pub server_version: String,
    /// Members of its cluster.
    pub members: usize,
    /// Way in which the snapshot got to the server.
    pub way: Way,
    /// SHA-256 of the decompressed tar.
    pub sha256: String,
    /// Size of the decompressed tar in bytes.
    pub bytes: u64,
    /// True if an earlier run had restored all of it, and only cleanup was left.
    pub finished_earlier: bool,
    /// Result of the comparison; none after a dry run.
    pub verdict: Option<Verdict>,
    /// Seconds until the server had restored it, and until it was green.
    pub seconds: Option<(f64, f64)>,
    /// Notes for the reader.
    pub notes: Vec<String>,
    /// Files that could not be removed from the server.
    pub left: Vec<String>,
}

/// Restores what `expected` was read from to `target`.
pub fn restore(
    target: &CollectionAddress,
    members: &Members,
    expected: &Expected,
    options: &Options,
    state: &StateFolder,
) -> Result<Restored> {
    let started = Instant::now();
    let about = About::Restore(&target.collection);
    let earlier: Option<RestoreRecord> = state.read(&target.server, about)?;
    if earlier.is_some() && !options.dry_run {
        // Still at what a killed run had sent it, a server answers that the collection's shards are not
        // there.
        wait_until_idle(target, members)?;
    }
    let preflight = preflight(target, members, expected, options, state)?;
    let mut restored = Restored {
        target: target.clone(),
        server_version: preflight.server.version.clone(),
        members: preflight.members,
        way: preflight.way,
        sha256: expected.sha256.clone(),
        bytes: expected.bytes,
        finished_earlier: false,
        verdict: None,
        seconds: None,
        notes: preflight.notes.clone(),
        left: Vec::new(),
    };
    for (peer, address) in addresses(members) {
        restored
            .notes
            .push(format!("member {peer} is at {address}"));
    }
    if options.dry_run {
        return Ok(restored);
    }
    if let Some(earlier) = &earlier {
        // It may have come to be there while it was waited for.
        let is_there = exists(target, members)?;
        if is_there
            && !earlier.over
            && earlier.sha256 == expected.sha256
            && let Some(verdict) = whole(target, members, expected, options)?
        {
            restored.left = remove_uploads(target, members, &earlier.upload);
            restored.finished_earlier = true;
            restored.verdict = Some(verdict);
            state.remove(&target.server, about)?;
            return Ok(restored);
        }
        if is_there {
            restored.left = remove_uploads(target, members, &earlier.upload);
            if !earlier.over {
                members.first.delete_collection(&target.collection)?;
            }
        }
    }
    let record = RestoreRecord {
        file: expected.source.snapshot.what(),
        sha256: expected.sha256.clone(),
        started: Utc::now(),
        upload: format!("snapmerge-{}.snapshot", Uuid::new_v4().simple()),
        over: preflight.there == There::Other,
    };
    state.write(&target.server, about, &record)?;
    let told = status::remote(&format!("collection {target}"));
    let done = send(target, members, expected, options, &preflight, &record)
        .map(|()| started.elapsed().as_secs_f64())
        .and_then(|sent| {
            let verdict = compare(target, members, expected, options)?;
            Ok((sent, verdict))
        });
    let done = done.and_then(
        |(sent, verdict)| match differs(target, &verdict.differences) {
            Some(err) => Err(err),
            None => Ok((sent, verdict)),
        },
    );
    restored
        .left
        .extend(remove_uploads(target, members, &record.upload));
    drop(told);
    match done {
        Ok((sent, verdict)) => {
            restored.seconds = Some((sent, started.elapsed().as_secs_f64()));
            restored.verdict = Some(verdict);
            state.remove(&target.server, about)?;
            Ok(restored)
        }
        Err(err) => Err(put_away(target, members, options, state, &record, err)),
    }
}

/// Looks whether `target` is there and whole, so that nothing is left to do: a restore that came to its
/// end in a run that did not. None if it is not there, or if a restore of it was interrupted.
fn restored_earlier(
    target: &CollectionAddress,
    members: &Members,
    expected: &Expected,
    options: &Options,
    state: &StateFolder,
) -> Result<Option<Verdict>> {
    let record: Option<RestoreRecord> =
        state.read(&target.server, About::Restore(&target.collection))?;
    if record.is_some() || !exists(target, members)? {
        return Ok(None);
    }
    let verdict = compare(target, members, expected, options)?;
    match differs(target, &verdict.differences) {
        None => Ok(Some(verdict)),
        Some(err) => Err(Error::new(
            Kind::Refused,
            format!("restoring to {target}"),
            format!("it is there, and not as its snapshot says: {}", err.why()),
        )
        .next("choose another name with --rename, or give --overwrite to write over it")),
    }
}

/// Removes what came of a restore that failed; the error says what became of it.
fn put_away(
    target: &CollectionAddress,
    members: &Members,
    options: &Options,
    state: &StateFolder,
    record: &RestoreRecord,
    err: Error,
) -> Error {
    let about = About::Restore(&target.collection);
    let became = if record.over {
        format!("{target} was written over and is not what it was")
    } else if options.keep_failed && err.kind() != Kind::Cancelled {
        format!("{target} was kept, to be looked at")
    } else {
        // A server goes on with what it was sent, and would create the collection after all. If it
        // does not tell, what is there now is removed all the same.
        let _ = wait_until_idle(target, members);
        match remove(target, members) {
            Ok(was_there) => {
                // State about a collection that is gone means nothing any more.
                let _ = state.remove(&target.server, about);
                match was_there {
                    true => format!("{} was removed again", target.collection),
                    false => "nothing was left there".to_owned(),
                }
            }
            Err(failed) => format!(
                "{target} could not be removed ({}); the next run with --resume begins it anew",
                failed.why()
            ),
        }
    };
    let why = format!("{}; {became}", err.why());
    let mut told = Error::new(err.kind(), err.doing(), why);
    if let Some(next) = err.next_step() {
        told = told.next(next);
    }
    told
}

/// Removes the collection; tells whether it was there.
fn remove(target: &CollectionAddress, members: &Members) -> Result<bool> {
    let there = members.first.exists_putting_away(&target.collection)?;
    if there {
        members.first.delete_collection(&target.collection)?;
    }
    Ok(there)
}

/// Waits until the server is not at work on an upload to this collection.
fn wait_until_idle(target: &CollectionAddress, members: &Members) -> Result<()> {
    let doing = format!("waiting until {target} is let go of");
    let mut quiet = 0;
    let idle = members.first.wait_until(&doing, SETTLING, || {
        let is_idle = members.first.recoveries(&target.collection)?.unwrap_or(0) == 0;
        quiet = if is_idle { quiet + 1 } else { 0 };
        Ok::<_, Error>((quiet >= 3).then_some(()))
    })?;
    idle.ok_or_else(|| {
        Error::failed(
            doing,
            "the server is still restoring what an earlier run sent it",
        )
        .next("run it again when that has ended")
    })
}

fn exists(target: &CollectionAddress, members: &Members) -> Result<bool> {
    let names = members.first.collections()?;
    Ok(names.contains(&target.collection))
}

/// Returns the verdict if the collection is as expected; none if it differs or could not be compared in full.
fn whole(
    target: &CollectionAddress,
    members: &Members,
    expected: &Expected,
    options: &Options,
) -> Result<Option<Verdict>> {
    match compare(target, members, expected, options) {
        Ok(verdict) => {
            let is_whole = verdict.differences.is_empty() && verdict.open.is_empty();
            Ok(is_whole.then_some(verdict))
        }
        Err(err) if err.kind() == Kind::Cancelled => Err(err),
        Err(_) => Ok(None),
    }
}

fn compare(
    target: &CollectionAddress,
    members: &Members,
    expected: &Expected,
    options: &Options,
) -> Result<Verdict> {
    let info = wait_green(target, members, options.wait, options.progress)?;
    verify(target, members, expected, &info)
}

/// The error that says what differs; none if nothing does.
fn differs(target: &CollectionAddress, differences: &[Difference]) -> Option<Error> {
    const SHOWN: usize = 5;
    if differences.is_empty() {
        return None;
    }
    let mut shown: Vec<String> = differences
        .iter()
        .take(SHOWN)
        .map(|one| {
            format!(
                "{}: {} in the snapshot, {} there",
                one.about, one.expected, one.found
            )
        })
        .collect();
    if differences.len() > SHOWN {
        shown.push(format!("and {} more", differences.len() - SHOWN));
    }
    let doing = format!("comparing {target} with its snapshot");
    Some(Error::new(Kind::Differs, doing, shown.join("; ")).next(
        "give --keep-failed to look at it; with --overwrite a collection keeps its own settings",
    ))
}

/// Removes the copies of what was uploaded; what could not be removed comes back.
fn remove_uploads(target: &CollectionAddress, members: &Members, upload: &str) -> Vec<String> {
    let mut left = Vec::new();
    for member in std::iter::once(&members.first).chain(members.others.values()) {
        if let Err(failure) = member.delete_snapshot(&target.collection, upload) {
            let address = member.address();
            left.push(format!("{upload} on {address} ({})", failure.error.why()));
        }
    }
    left
}

fn send(
    target: &CollectionAddress,
    members: &Members,
    expected: &Expected,
    options: &Options,
    preflight: &Preflight,
    record: &RestoreRecord,
) -> Result<()> {
    if matches!(preflight.way, Way::CreateThenWhole | Way::CreateThenShards) {
        create(target, members, expected, options, preflight)?;
    }
    let file = &expected.source.snapshot.file;
    if preflight.way != Way::CreateThenShards {
        let stage = options
            .progress
            .stage("upload", Some(expected.bytes), Unit::Bytes);
        let upload = Upload {
            collection: target.collection.clone(),
            shard: None,
            file_name: record.upload.clone(),
            bytes: expected.bytes,
            sha256: expected.sha256.clone(),
            rate: options.rate,
            sent: stage.counter(),
        };
        let landed = || landed(&upload, members, expected);
        if expected.source.snapshot.compressed {
            let open = || Input::open(file, None, None);
            members.first.upload_snapshot(&upload, open, landed)?;
        } else {
            let failed = |err| Error::reading(format!("opening snapshot {file}"), &err);
            let open = || file.reader().map_err(failed);
            members.first.upload_snapshot(&upload, open, landed)?;
        }
        return Ok(());
    }
    let places = places(target, members, expected)?;
    let stage = options
        .progress
        .stage("upload shards", Some(expected.bytes), Unit::Bytes);
    for (shard, member) in places {
        let file = &expected.source.snapshot.part(|of, _| of == shard);
        let (bytes, sha256) = measure(file, shard)?;
        let upload = Upload {
            collection: target.collection.clone(),
            shard: Some(shard),
            file_name: record.upload.clone(),
            bytes,
            sha256,
            rate: options.rate,
            sent: stage.counter(),
        };
        // No server lists what a shard was restored from; but its points can be counted.
        let points = expected.shards.get(&shard).copied().flatten();
        let landed = || {
            let there = member.count_shard(&target.collection, shard)?;
            let is_there = points.is_some() && there == points;
            Ok(if is_there {
                Landed::Yes(())
            } else {
                Landed::No
            })
        };
        member.upload_snapshot(&upload, || stream(file, shard), landed)?;
    }
    Ok(())
}

/// Checks whether the upload has landed. The collection may have existed before: landed then means that the
/// server has all points of the snapshot.
fn landed(
    upload: &Upload,
    members: &Members,
    expected: &Expected,
) -> std::result::Result<Landed, Failure> {
    let landed = upload.landed(&members.first)?;
    let points = expected.points();
    if landed != Landed::Yes(()) || points.open_shards > 0 {
        return Ok(landed);
    }
    let there = members.first.count(Selection::all(&upload.collection))?;
    let info = members.first.collection(&upload.collection)?;
    let hides_some = info.is_some_and(|info| info.deferred() > 0);
    Ok(match there == points.known || hides_some {
        true => Landed::Yes(()),
        false => Landed::Unknown,
    })
}

/// Creates the collection with its payload indexes and shard keys, and checks the numbers that its
/// shards got.
fn create(
    target: &CollectionAddress,
    members: &Members,
    expected: &Expected,
    options: &Options,
    preflight: &Preflight,
) -> Result<()> {
    let name = target.collection.as_str();
    let first = &members.first;
    let mut body = create_body(expected.config());
    if let Some(factor) = options.replication_factor {
        body.insert("replication_factor".into(), json!(factor));
    }
    first.create_collection(name, body.into())?;
    for (field, index) in expected.payload().fields() {
        first.create_payload_index(name, field, index)?;
    }
    keys::create(first, name, &preflight.steps)?;
    let mut all_active = false;
    let ready = first.wait_until("waiting for the shards", SPREADING, || {
        let topology = first.topology(name)?;
        all_active = topology.replicas().all(|(_, _, state)| state == ACTIVE);
        let is_ready = all_active && topology.shard_keys()? == *expected.keys();
        Ok::<_, Error>(is_ready.then_some(()))
    })?;
    ready.ok_or_else(|| {
        let why = match all_active {
            true => "its shards got other numbers than they have in the master",
            false => "its shards do not become Active",
        };
        Error::new(Kind::Refused, format!("creating {target}"), why)
            .next("look at `curl SERVER/collections/NAME/cluster`, and run it again")
    })
}

/// The member that each shard is sent to: one that holds it.
fn places<'a>(
    target: &CollectionAddress,
    members: &'a Members,
    expected: &Expected,
) -> Result<Vec<(u32, &'a Connection)>> {
    let mut places: BTreeMap<u32, &Connection> = BTreeMap::new();
    for member in std::iter::once(&members.first).chain(members.others.values()) {
        let topology = member.topology(&target.collection)?;
        for shard in &topology.local_shards {
            places.entry(shard.shard_id).or_insert(member);
        }
    }
    expected
        .shards
        .keys()
        .map(|shard| match places.get(shard) {
            Some(member) => Ok((*shard, *member)),
            None => Err(Error::new(
                Kind::Refused,
                format!("restoring to {target}"),
                format!("no member that can be reached holds shard {shard}"),
            )
            .next("give the members' addresses with --peer ID=URL")),
        })
        .collect()
}
