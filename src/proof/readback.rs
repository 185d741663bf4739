//! Reading a packed master back, before it gets its final name.
//!
//! Keeps true: a master passes only if every point that was to be written is in the file, bit by
//! bit, in the shard where a server will look for it, and nothing else is; and if the file has
//! every part that a restore needs.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::merge::{Lane, Layout, Scan};
use crate::point::Digest;
use crate::report::progress::{Progress, Unit};
use crate::scratch::Scratch;
use crate::source::{Opening, Source};

/// What the master must be.
#[derive(Debug)]
pub struct Expected<'a> {
    /// The digest of its points, if records were looked at.
    pub digest: Option<Digest>,
    /// Its shards and their points.
    pub shards: BTreeMap<u32, u64>,
    /// Where its points belong.
    pub layout: &'a Layout,
    /// Its config, in Qdrant's own form.
    pub config: &'a serde_json::Map<String, serde_json::Value>,
}

/// What was proven.
#[derive(Debug, Clone, Serialize)]
pub struct Proof {
    /// Points that were read back and compared.
    pub points: u64,
    /// Bytes of the file that were read.
    pub bytes: u64,
    /// The digest that both sides have, if points were compared one by one.
    pub digest: Option<Digest>,
    /// The SHA-256 of the file.
    pub sha256: String,
}

/// Reads the master at `path` back and compares it with what is `expected`.
pub fn read_back(
    path: &Path,
    expected: &Expected<'_>,
    scratch: &Scratch,
    progress: Progress,
) -> Result<Proof> {
    let failed = |why: String| Error::failed("proving the master", why);
    let Some(wanted) = expected.digest else {
        return Err(failed("nobody said what its points should be".into()));
    };
    let (mut master, sha256) = master_of(path, expected, false)?;
    let bytes = master.snapshot.file_bytes;
    let folder = scratch.folder("proof")?;
    let settled = master.settle(&folder, None)?;
    let total = wanted.points();
    let stage = progress.stage("prove", Some(total), Unit::Points);
    let lanes: Vec<Lane<'_>> = settled
        .shards
        .iter()
        .map(|shard| Lane {
            source: 0,
            shard: &shard.shard,
            key: shard.key.clone(),
        })
        .collect();
    let mut found = Digest::default();
    let mut by_shard: BTreeMap<u32, u64> = settled
        .shards
        .iter()
        .map(|shard| (shard.number, 0))
        .collect();
    std::thread::scope(|scope| -> Result<()> {
        let mut scan = Scan::start(scope, &lanes, None)?;
        let mut group = Vec::new();
        let mut buffer = Vec::new();
        while let Some(id) = scan.next_group(&mut group)? {
            if group.len() > 1 {
                return Err(failed(format!("point {id} is in {} shards", group.len())));
            }
            for scanned in &group {
                let number = settled.shards.get(scanned.lane).map(|shard| shard.number);
                let place = expected.layout.shard(&scanned.record)?;
                if number != Some(place) {
                    return Err(failed(format!(
                        "point {id} lies in shard {}, where a server would look in shard {place}",
                        number.unwrap_or_default()
                    )));
                }
                *by_shard.entry(place).or_default() += 1;
                found.add(&scanned.record, &mut buffer);
            }
            stage.add(group.len() as u64);
        }
        Ok(())
    })?;
    drop(stage);
    if by_shard != expected.shards {
        return Err(failed(format!(
            "its shards have {by_shard:?} points, not {:?}",
            expected.shards
        )));
    }
    if found != wanted {
        return Err(failed(format!(
            "its points have the digest {found}, not {wanted}"
        ))
        .next(
            "this is a fault of snapmerge or of the disk: please report it; nothing was written",
        ));
    }
    Ok(Proof {
        points: found.points(),
        bytes,
        digest: Some(found),
        sha256,
    })
}

/// Opens the master at `path`, hashed, with its id `trackers` or without, and looks at everything
/// but its points.
pub(super) fn master_of(
    path: &Path,
    expected: &Expected<'_>,
    trackers: bool,
) -> Result<(Source, String)> {
    let failed = |why: String| Error::failed("proving the master", why);
    let opening = Opening {
        hash_now: true,
        trackers,
        ..Opening::default()
    };
    let master = Source::open(path, &opening, None)?;
    let sha256 = match &master.snapshot.hashes {
        Some(hashes) => hashes.file.clone(),
        None => return Err(failed("it was not hashed".into())),
    };
    master.refuse_unreadable(false)?;
    let (unknown, names) = &master.snapshot.unknown;
    if *unknown > 0 {
        return Err(failed(format!(
            "it has {unknown} members too many: {}",
            names.join(", ")
        )));
    }
    let lacks_log = master
        .snapshot
        .shards
        .iter()
        .find(|(_, shard)| !shard.has_log);
    if let Some((number, _)) = lacks_log {
        return Err(failed(format!(
            "shard {number} has no log, so a restore would skip it"
        )));
    }
    if master.config.raw() != expected.config {
        return Err(failed("its config is not the one that was planned".into()));
    }
    if master.shard_keys != expected.layout.keys {
        return Err(failed(
            "its shard keys are not the ones that were planned".into(),
        ));
    }
    Ok((master, sha256))
}
