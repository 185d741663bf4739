//! The bytes: snapshots made, downloaded and compared.
//!
//! Invariants: a snapshot's name is in the journal before its first byte is asked for; a file whose
//! hash is not the server's is fetched once more from its beginning and then refused; what is put
//! together from several parts needs room for both, which is looked for first.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;

use super::CaptureOptions;
use super::assemble::Assembly;
use super::journal::{Journal, Made, Work, file_name};
use super::leftovers::remove_nameless;
use super::manifest::{Form, PeerPart};
use super::observe::Observation;
use super::part::{self, Hashes, PART, PartialFile};
use super::plan::Take;
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Unit;
use crate::base::scratch::require_free;
use crate::base::status;
use crate::server::{Connection, Fetch, Landed, ServerSnapshot};

/// Stands for the member in the name of a file from several members.
pub(super) const CLUSTER: &str = "cluster";
/// Maximum number of attempts to make a snapshot whose name is not taken.
const MAKINGS_MAX: u32 = 10;
/// Wait until a server gives another name: names hold the time to the second.
const NEXT_SECOND: Duration = Duration::from_millis(1100);

/// Captured file that is not published yet.
pub struct Taken {
    /// Where it lies.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// Its hashes.
    pub hashes: Hashes,
    /// The members that it was taken from.
    pub peers: Vec<PeerPart>,
    /// Its form.
    pub form: Form,
    /// The name that the server gave it, or one like it.
    pub name: String,
}

/// By collection snapshots, one for each member that something is taken from.
pub(super) fn snapshots(
    request: &CaptureOptions<'_>,
    observation: &Observation,
    work: &mut Work,
) -> Result<Taken> {
    let mut parts = Vec::new();
    for take in &observation.plan.takes {
        let member = member(request, observation, take)?;
        let made = made(request, member, work)?;
        parts.push((take, member, made));
    }
    let bytes: u64 = parts.iter().map(|(_, _, made)| made.size).sum();
    let factor = if parts.len() > 1 { 2 } else { 1 };
    let what = format!("capturing {}", request.collection);
    require_free(work.path(), bytes.saturating_mul(factor), &what)?;

    let name = match parts.as_slice() {
        [(_, _, made)] => {
            // The server's own name is a file's name, or it is not used.
            match is_plain(&made.name) {
                true => made.name.clone(),
                false => free_name(request, &observation.first.to_string())?,
            }
        }
        _ => free_name(request, CLUSTER)?,
    };
    let stage = request.progress.stage(
        &format!("capture {}", request.collection),
        Some(bytes),
        Unit::Bytes,
    );
    let mut peers = Vec::new();
    let mut whole = None;
    for (number, (take, member, made)) in parts.iter().enumerate() {
        let path = work.path().join(format!("{PART}-{number}"));
        let told = status::remote(&format!("snapshot {} on {}", made.name, member.address()));
        let hashes = downloaded(request, member, made, &path, &|bytes| stage.add(bytes))?;
        drop(told);
        peers.push(PeerPart {
            peer: take.peer,
            address: member.address().to_string(),
            snapshot: Some(made.name.clone()),
            bytes: made.size,
            sha256: made.checksum.clone(),
        });
        whole = Some((path, made.size, hashes));
    }
    drop(stage);
    let (path, bytes, hashes, form) = match (parts.len(), whole) {
        (1, Some((path, bytes, hashes))) => (path, bytes, hashes, Form::Collection),
        _ => {
            let path = work.path().join(format!("{PART}-whole"));
            let mut assembly = Assembly::new(&path)?;
            for (number, (take, _, _)) in parts.iter().enumerate() {
                let part = work.path().join(format!("{PART}-{number}"));
                assembly.member(&part, &observation.plan, take.peer, number == 0)?;
            }
            assembly.finish()?;
            let hashes = part::hashes(&path)?;
            let bytes = length(&path)?;
            (path, bytes, hashes, Form::Assembled)
        }
    };
    Ok(Taken {
        path,
        bytes,
        hashes,
        peers,
        form,
        name,
    })
}

/// The snapshot to download from one member: what an earlier run had made there, if it is as it
/// was, or a new one.
fn made(
    request: &CaptureOptions<'_>,
    member: &Connection,
    work: &mut Work,
) -> Result<ServerSnapshot> {
    let collection = request.collection;
    let address = member.address().to_string();
    let there = member.snapshots(collection)?;
    // One that is too old to be resumed was cleared away before; one that has become old since
    // tells what this very run has made.
    let begin = || Journal::begin(request.members, collection);
    let mut journal = work.journal.take().unwrap_or_else(begin);
    journal.published = None;
    work.journal = Some(journal.clone());
    let mut known = Vec::new();
    for earlier in std::mem::take(&mut journal.made) {
        if earlier.address != address {
            known.push(earlier);
            continue;
        }
        let same = earlier.snapshot.as_ref().and_then(|made| {
            let same = there.iter().find(|one| one.name == made.name)?;
            (same.size == made.size && same.checksum == made.checksum).then(|| made.clone())
        });
        if let Some(same) = same {
            return Ok(same);
        }
        match &earlier.snapshot {
            Some(made) => drop(member.delete_snapshot(collection, &made.name)?),
            // It may still come to be there: it is looked for once more at the end.
            None if remove_nameless(member, collection, &earlier)? => {}
            None => known.push(earlier),
        }
        remove_parts(work.path())?;
    }
    journal.made = known;
    for _ in 0..MAKINGS_MAX {
        let made = make(request, member, work, &mut journal)?;
        let others = journal.made.pop().map(|made| made.before);
        let is_another = others.is_some_and(|before| before.contains(&made.name));
        if !is_another && !is_taken(&request.folder.join(&made.name)) {
            return Ok(made);
        }
        // Servers name snapshots by the second: this is the name of a file that was captured in the
        // same one, or of somebody else's snapshot, which is not ours to remove.
        if !is_another {
            member.delete_snapshot(collection, &made.name)?;
        }
        work.write(journal.clone())?;
        let doing = format!("waiting to name a snapshot of {collection}");
        member.sleep(&doing, NEXT_SECOND)?;
    }
    Err(Error::failed(
        format!("making a snapshot of {collection}"),
        "the server gives it the name of another one each time",
    )
    .next("look whether somebody else captures it; then run it again"))
}

/// Has the member make a snapshot, which is in the journal before, and with its name afterwards unless
/// that is the name of another one.
fn make(
    request: &CaptureOptions<'_>,
    member: &Connection,
    work: &mut Work,
    journal: &mut Journal,
) -> Result<ServerSnapshot> {
    let collection = request.collection;
    let there = member.snapshots(collection)?;
    let asked = member.server_time()?.unwrap_or_else(Utc::now);
    let mut started = Made {
        address: member.address().to_string(),
        asked,
        before: there.into_iter().map(|one| one.name).collect(),
        snapshot: None,
    };
    journal.made.push(started.clone());
    work.write(journal.clone())?;
    let stage = request
        .progress
        .stage(&format!("snapshot {collection}"), None, Unit::None);
    let told = status::remote(&format!(
        "a snapshot of {collection} on {}",
        member.address()
    ));
    let (mut made, mut ended) = member.make_snapshot(collection).wait();
    if let Err(failure) = &ended
        && failure.cause.leaves_open()
        && let Some(found) = found_after_all(member, collection, &started)?
    {
        (made, ended) = (Some(found), Ok(()));
    }
    drop((stage, told));
    if let Some(made) = made
        .as_ref()
        .filter(|made| !started.before.contains(&made.name))
    {
        started.snapshot = Some(made.clone());
        journal.made.pop();
        journal.made.push(started);
        work.write(journal.clone())?;
    }
    ended?;
    made.ok_or_else(|| {
        let doing = format!("making a snapshot of {collection}");
        Error::failed(doing, "the server names none")
    })
}

/// The snapshot whose answer was lost (a proxy that gave up, a connection that ended): the server goes
/// on with it, and it is listed only at its end.
fn found_after_all(
    member: &Connection,
    collection: &str,
    started: &Made,
) -> Result<Option<ServerSnapshot>> {
    let doing = format!("waiting for a snapshot of {collection}");
    let landed = || {
        let there = member.snapshots(collection)?;
        let name = started.is(&there).map(str::to_owned);
        let found = there
            .into_iter()
            .find(|one| Some(&one.name) == name.as_ref());
        Ok(found.map_or(Landed::Unknown, Landed::Yes))
    };
    Ok(member.find_landed(&doing, || member.makings(collection), landed)?)
}

/// A name for what is put together here, which no file in the folder has: they are named by the second.
pub(super) fn free_name(request: &CaptureOptions<'_>, from: &str) -> Result<String> {
    loop {
        let name = file_name(request.collection, from, Utc::now())?;
        if !is_taken(&request.folder.join(&name)) {
            return Ok(name);
        }
        let doing = format!("naming what was captured of {}", request.collection);
        request.members.first.sleep(&doing, NEXT_SECOND)?;
    }
}

fn is_taken(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Downloads a snapshot to `path` and compares its hash with the server's.
fn downloaded(
    request: &CaptureOptions<'_>,
    member: &Connection,
    made: &ServerSnapshot,
    path: &Path,
    passed: &dyn Fn(u64),
) -> Result<Hashes> {
    let doing = format!("downloading {} from {}", made.name, member.address());
    if made.size == 0 {
        return Err(
            Error::new(Kind::Refused, doing, "the server says that it is empty")
                .next("look at the server's log, and run it again"),
        );
    }
    let mut last = None;
    for number in 0..2 {
        if number > 0 {
            // A part that an earlier run began may have been written by anyone.
            std::fs::remove_file(path).map_err(|err| Error::io("removing", path, &err))?;
        }
        let mut part = PartialFile::open(path, made.size)?;
        let fetch = Fetch {
            doing: doing.clone(),
            segments: &["collections", request.collection, "snapshots", &made.name],
            from: part.length(),
            bytes: made.size,
            rate: request.rate,
        };
        passed(part.length());
        member.fetch(&fetch, &mut |piece| {
            passed(piece.len() as u64);
            part.add(&piece)
        })?;
        let hashes = part.end()?;
        match &made.checksum {
            Some(wanted) if !wanted.eq_ignore_ascii_case(&hashes.sha256) => {
                last = Some(Error::damaged(
                    doing.clone(),
                    format!(
                        "its SHA-256 is {}, but the server says {wanted}",
                        hashes.sha256
                    ),
                ));
            }
            _ => return Ok(hashes),
        }
    }
    Err(last
        .unwrap_or_else(|| Error::failed(doing, "it cannot be compared"))
        .next("run it again; if it stays so, look at the server's disk and at what lies between"))
}

/// The member that is asked for what `take` says.
pub(super) fn member<'a>(
    request: &CaptureOptions<'a>,
    observation: &Observation,
    take: &Take,
) -> Result<&'a Connection> {
    request
        .members
        .get(observation.first, take.peer)
        .ok_or_else(|| {
            let doing = format!("capturing {}", request.collection);
            Error::failed(
                doing,
                format!("the address of member {} is not known", take.peer),
            )
        })
}

pub(super) fn remove_parts(folder: &Path) -> Result<()> {
    let failed = |err: &std::io::Error| Error::io("clearing", folder, err);
    for entry in std::fs::read_dir(folder).map_err(|err| failed(&err))? {
        let entry = entry.map_err(|err| failed(&err))?;
        if entry.file_name().to_string_lossy().starts_with(PART) {
            std::fs::remove_file(entry.path()).map_err(|err| failed(&err))?;
        }
    }
    Ok(())
}

pub(super) fn length(path: &Path) -> Result<u64> {
    let meta = std::fs::metadata(path).map_err(|err| Error::io("looking at", path, &err))?;
    Ok(meta.len())
}

/// Returns true if a name that a server gave can be a file's name here.
fn is_plain(name: &str) -> bool {
    crate::server::check_name(name).is_ok() && !name.starts_with('.') && name.ends_with(".snapshot")
}
