//! Proving a grafted master: its bytes are the sources', and no id is in it twice.
//!
//! What was carried untouched needs no look at its points. The whole file is read back and its
//! pieces hashed, so it is byte for byte what was hashed while it was written; and the ids are read
//! again from the packed id trackers, so every point is there that should be, and once.
//!
//! Keeps true: a master passes only if the file is what was written, every shard has as many
//! different ids as it should, and no id lies in two shards.

use std::fs::File;
use std::path::Path;

use super::readback::{Expected, Proof, master_of};
use crate::error::{Error, Result};
use crate::merge::in_parallel;
use crate::point::PointId;
use crate::snapshot::Fingerprint;
use crate::source::{Opening, ShardIds};

/// Threads that read at once, at the most: more do not make a disk faster.
const AT_ONCE_MAX: usize = 4;

/// Reads the master at `path` back and compares it with what was `written`.
pub fn read_carried(path: &Path, expected: &Expected<'_>, written: &Fingerprint) -> Result<Proof> {
    let failed = |why: String| Error::failed("proving the master", why);
    compare(path, written)?;
    let opening = Opening {
        trackers: true,
        ..Opening::default()
    };
    let master = master_of(path, expected, &opening)?;
    let mut all: Vec<PointId> = Vec::new();
    for (number, shard) in &master.snapshot.shards {
        // An older copy may lie beside a newer one, in one shard, as in its source.
        let of_shard = ShardIds::of(shard, &format!("shard {number} of the master"))?.ids();
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
        sha256: written.sha256.clone(),
    })
}

/// Reads every byte of the file and compares it with what was written.
fn compare(path: &Path, written: &Fingerprint) -> Result<()> {
    let pieces = &written.pieces;
    let reading = |err: &std::io::Error| Error::io("reading back", path, err);
    let file = File::open(path).map_err(|err| reading(&err))?;
    let found = file.metadata().map_err(|err| reading(&err))?.len();
    let wrong = |what: String| {
        Err(
            Error::failed(format!("reading {} back", path.display()), what)
                .next("the disk or the memory of this machine is not reliable"),
        )
    };
    if found != pieces.bytes() {
        return wrong(format!(
            "it has {found} bytes, {} were written",
            pieces.bytes()
        ));
    }
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let holds = in_parallel(0..pieces.count(), at_once.min(AT_ONCE_MAX), |at| {
        pieces.holds(&file, at).map_err(|err| reading(&err))
    })?;
    match holds.iter().position(|holds| !holds) {
        None => Ok(()),
        Some(at) => wrong(format!(
            "piece {} of {} is not what was written",
            at + 1,
            pieces.count()
        )),
    }
}
