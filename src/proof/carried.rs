//! Proving a grafted master: its bytes are the sources', and no id is in it twice.
//!
//! What was carried untouched needs no look at its points. The whole file is hashed again as it is
//! read back, so it is byte for byte what was written; and the ids are read again from the packed
//! id trackers, so every point is there that should be, and once.
//!
//! Keeps true: a master passes only if the file is what was written, every shard has as many
//! different ids as it should, and no id lies in two shards.

use std::path::Path;

use super::readback::{Expected, Proof, master_of};
use crate::error::{Error, Result};
use crate::point::PointId;
use crate::snapshot::ids;
use crate::source::Opening;

/// Reads the master at `path` back, whose bytes had the hash `sha256` when they were written.
pub fn read_carried(path: &Path, expected: &Expected<'_>, sha256: &str) -> Result<Proof> {
    let failed = |why: String| Error::failed("proving the master", why);
    let opening = Opening {
        hash_now: true,
        trackers: true,
        ..Opening::default()
    };
    let mut master = master_of(path, expected, &opening)?;
    let Some(hashes) = &master.snapshot.hashes else {
        return Err(failed("it was not hashed".into()));
    };
    let found = hashes.file.clone();
    if found != sha256 {
        return Err(failed(format!(
            "what was read back has the SHA-256 {found}, what was written {sha256}"
        ))
        .next("the disk or the memory of this machine is not reliable"));
    }
    let mut all: Vec<PointId> = Vec::new();
    for (number, shard) in &mut master.snapshot.shards {
        let mut of_shard: Vec<PointId> = Vec::new();
        for (uuid, segment) in &mut shard.segments {
            let trackers = std::mem::take(&mut segment.trackers);
            let held = ids::read(&trackers, &format!("segment {uuid} of the master"))?;
            of_shard.extend(held.entries.iter().map(|entry| entry.id));
        }
        // An older copy may lie beside a newer one, in one shard, as in its source.
        of_shard.sort_unstable();
        of_shard.dedup();
        let wanted = expected.shards.get(number).copied().unwrap_or(0);
        if of_shard.len() as u64 != wanted {
            return Err(failed(format!(
                "shard {number} has {} points where {wanted} should be",
                of_shard.len()
            )));
        }
        all.extend(of_shard);
    }
    let points = all.len() as u64;
    all.sort_unstable();
    if let Some([id, _]) = all.array_windows().find(|[a, b]| a == b) {
        return Err(failed(format!("point {id} is in two shards")));
    }
    Ok(Proof {
        points,
        bytes: master.snapshot.file_bytes,
        digest: None,
        sha256: found,
    })
}
