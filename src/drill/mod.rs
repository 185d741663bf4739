//! A drill: snapshots of the archive restored into scratch, as after a disaster, and compared with
//! all that was ever said of them.
//!
//! Invariants: an entry is proven only if every byte had its SHA-256, the engine (and the server, if
//! one is given) opened it whole, and every comparison that could be made was equal; what could not
//! be compared is said; what was made is removed, also after a failure; that an entry was proven is
//! written down only after all of that.

mod compare;
mod request;

pub use self::request::{DrillFailure, DrillReport, DrillRequest};

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use chrono::Utc;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::compare::Claims;
use crate::archive::{Chain, Entry, EntryReader, EntryRef, Proven, newest};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::{Progress, Stage, Unit};
use crate::base::scratch::{Scratch, require_free};
use crate::merge::scratch_collection;
use crate::point::Digest;
use crate::server::Connection;
use crate::source::{Checksum, OpenedShards, Opening, Purpose, Source};
use crate::stream::{digest, point_streams};
use crate::verify::{ExpectedConfig, SettingDifference, config_differences};

/// A server that entries are restored on, too.
#[derive(Debug, Clone, Copy)]
pub struct On<'a> {
    /// It.
    pub connection: &'a Connection,
    /// File in which the names of collections are noted that have to be removed.
    pub notes: &'a Path,
}

/// Environment of a drill.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The folder that scratch is made in.
    pub scratch: &'a Path,
    /// A server, if one is to restore them, too.
    pub server: Option<On<'a>>,
    /// Display of progress.
    pub progress: Progress,
}

/// Result of drilling one entry.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Drilled {
    /// It, by id.
    pub id: String,
    /// The snapshot's size in bytes.
    pub bytes: u64,
    /// SHA-256 of the snapshot, which was compared.
    pub sha256: String,
    /// Number of points.
    pub points: u64,
    /// Their digest.
    pub digest: String,
    /// The server that restored it, too.
    pub server: Option<String>,
    /// Values that were compared and are equal.
    pub compared: Vec<String>,
    /// Values that differ.
    pub differences: Vec<SettingDifference>,
    /// Values that could not be compared, and why.
    pub open: Vec<String>,
    /// Duration in seconds.
    pub seconds: f64,
}

impl Drilled {
    /// Returns true if nothing differs.
    pub fn is_proven(&self) -> bool {
        self.differences.is_empty()
    }

    /// Returns what is recorded in the chain.
    pub fn proven(&self) -> Proven {
        Proven {
            id: self.id.clone(),
            points: self.points,
            digest: self.digest.clone(),
            server: self.server.clone(),
        }
    }
}

/// The entries of a drill: those that are `wanted`, or else the newest master and, of the newest
/// entries of everything else, the one that was proven longest ago.
pub fn choose(chain: &Chain, wanted: &[EntryRef]) -> Result<Vec<Entry>> {
    if !wanted.is_empty() {
        return wanted.iter().map(|wanted| wanted.find(chain)).collect();
    }
    let entries = chain.entries();
    let now = Utc::now();
    let masters = entries.iter().filter(|entry| entry.provenance.is_some());
    let master = newest(masters, now);
    let proven = chain.proven();
    let last_proven = |name: &str| {
        let of_name = proven.iter().filter(|(id, _)| {
            id.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('@'))
        });
        of_name.map(|(_, (time, _))| *time).max()
    };
    let is_newest = |entry: &&Entry| {
        let of_name = entries.iter().filter(|other| other.name == entry.name);
        newest(of_name, now).is_some_and(|newest| newest.id == entry.id)
    };
    let source = entries
        .iter()
        .filter(|entry| entry.provenance.is_none())
        .filter(is_newest)
        .min_by_key(|entry| (last_proven(&entry.name), entry.name.clone()));
    let chosen: Vec<Entry> = master.into_iter().chain(source).cloned().collect();
    if chosen.is_empty() {
        return Err(Error::new(
            Kind::NotFound,
            "choosing what to restore",
            "there is nothing in the archive",
        )
        .next("store something first: snapmerge archive add, or snapmerge capture --archive"));
    }
    Ok(chosen)
}

/// Restores `entry` and compares it with what was said of it. Nothing is written down.
pub fn drill(
    reader: &EntryReader,
    chain: &Chain,
    entry: &Entry,
    place: Place<'_>,
) -> Result<Drilled> {
    let started = Instant::now();
    let within = |err: Error| err.within(format!("restoring {}", entry.id));
    let scratch = Scratch::new(place.scratch)?;
    let file = reader.open(entry, &format!("archive:{}", entry.id))?.into();
    // Its parts are compared anyway; here that they are the snapshot that was stored.
    let opening = Opening {
        hash_now: true,
        ..Opening::default()
    };
    let mut source = Source::open(&file, &opening, None).map_err(within)?;
    source.refuse_unreadable(false).map_err(within)?;
    require_free(place.scratch, source.snapshot.unpacked_bytes, "unpacking")?;
    let (digest, shards) = by_engine(&mut source, &scratch, place.progress).map_err(within)?;
    if !matches!(source.checksum, Checksum::Verified { .. }) {
        let why = "its SHA-256 was not compared";
        return Err(within(Error::failed("comparing the snapshot", why)));
    }

    let mut drilled = Drilled {
        id: entry.id.clone(),
        bytes: entry.bytes,
        sha256: entry.sha256.clone(),
        points: digest.points(),
        digest: digest.to_string(),
        server: None,
        compared: vec!["SHA-256".into()],
        differences: Vec::new(),
        open: Vec::new(),
        seconds: 0.0,
    };
    let claims = Claims::of(chain, entry)?;
    claims.compare(&source, &digest, &shards, &mut drilled)?;
    if let Some(on) = place.server {
        let address = on.connection.address().to_string();
        let told = on_server(source, &digest, &scratch, place.progress, on).map_err(within)?;
        match told.is_empty() {
            true => drilled
                .compared
                .push(format!("points, config and indexes on {address}")),
            false => drilled.differences.extend(told),
        }
        drilled.server = Some(address);
    }
    drilled.seconds = started.elapsed().as_secs_f64();
    Ok(drilled)
}

/// Opens all of `source` with the engine, graphs and indexes too, and reads every point. Returns
/// their digest, and how many there are in each shard.
fn by_engine(
    source: &mut Source,
    scratch: &Scratch,
    progress: Progress,
) -> Result<(Digest, Vec<(u32, u64)>)> {
    let folder = scratch.folder("shards")?;
    let stage = progress.stage("open", Some(source.snapshot.file_bytes), Unit::Bytes);
    let open_shards = source.open_all_shards(&folder, Purpose::Carrying, Some(stage.counter()))?;
    drop(stage);
    let mut shards = Vec::new();
    for shard in &open_shards.shards {
        shards.push((shard.number, shard.shard.count(None)?));
    }
    let total = shards.iter().map(|(_, points)| points).sum();
    let stage = progress.stage("read", Some(total), Unit::Points);
    let digest = read(source, &open_shards, &stage)?;
    drop(stage);
    if digest.points() != total {
        return Err(Error::damaged(
            format!("reading {}", source.snapshot.what()),
            format!(
                "the engine counts {total} points, and {} were read",
                digest.points()
            ),
        ));
    }
    open_shards.discard()?;
    Ok((digest, shards))
}

/// The digest of every point of `source`, be it in `open_shards` or in a collection.
fn read(source: &Source, open_shards: &OpenedShards, stage: &Stage) -> Result<Digest> {
    digest(&point_streams(0, source, open_shards), stage)
}

/// Has a server restore `source` into a collection that is removed again, and compares what is
/// there.
fn on_server(
    source: Source,
    digest: &Digest,
    scratch: &Scratch,
    progress: Progress,
    on: On<'_>,
) -> Result<Vec<SettingDifference>> {
    let wanted = ExpectedConfig::of(&source);
    let mut sources = [source];
    let lent = scratch_collection(
        &mut sources,
        on.connection,
        on.notes,
        scratch.path(),
        progress,
    )?;
    let [mut source] = sources;
    let mut differences = Vec::new();
    for one in &lent {
        let address = on.connection.address().collection(one.name());
        let there = Source::live(on.connection, &address, BTreeMap::new())?;
        differences.extend(config_differences(&wanted, &there));
    }
    let stage = progress.stage("read from the server", Some(digest.points()), Unit::Points);
    // It is read where it is, and nothing of it is unpacked.
    let open_shards = source.open_all_shards(scratch.path(), Purpose::Reading, None)?;
    let found = read(&source, &open_shards, &stage)?;
    drop(stage);
    differences.extend(
        digest
            .differing(&found)
            .into_iter()
            .map(|part| SettingDifference {
                about: format!("on {}: {part}", on.connection.address()),
                expected: digest.to_string(),
                found: found.to_string(),
            }),
    );
    for one in lent {
        one.drop_remote()?;
    }
    Ok(differences)
}

#[cfg(test)]
mod tests;
