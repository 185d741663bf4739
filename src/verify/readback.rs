//! Reading a packed master back, before it gets its final name.
//!
//! Invariants: a master passes only if every point that was to be written is in the file, bit by
//! bit, in the shard where a server will look for it, and nothing else is; and if the file has
//! every part that a restore needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::frame::frame_differences;
use crate::base::error::{Error, Result};
use crate::base::parallel::in_parallel;
use crate::base::progress::{Progress, Stage, Unit};
use crate::base::scratch::{self, Scratch};
use crate::engine::{Shard, ShardConfig};
use crate::format::{SnapshotFile, StoredSnapshot, Sums, Written, wal};
use crate::point::{Digest, Identity, PointId};
use crate::source::{Opening, ShardIds, Source, Spill};
use crate::stream::{Layout, PointStream, Scan};

/// Segments that are read at once.
const AT_ONCE: usize = 2;

/// Content that the master must have.
#[derive(Debug)]
pub struct Expected<'a> {
    /// The digest of its points, if records were looked at.
    pub digest: Option<Digest>,
    /// Number of points by shard.
    pub shards: BTreeMap<u32, u64>,
    /// Layout that says which shard a point belongs to.
    pub layout: &'a Layout,
    /// Config, in Qdrant's own form.
    pub config: &'a serde_json::Map<String, serde_json::Value>,
}

/// Result of proving a master.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Proof {
    /// Points that were read back and compared.
    pub points: u64,
    /// Bytes of the file that were read.
    pub bytes: u64,
    /// The digest that both sides have, if points were compared one by one.
    pub digest: Option<Digest>,
    /// The SHA-256 of the file.
    pub sha256: String,
    /// The XXH3 of the same bytes.
    pub xxh3: String,
}

/// Content of one segment.
#[derive(Debug, Clone)]
struct Found {
    shard: u32,
    points: u64,
    digest: Digest,
    /// Lowest and highest id.
    range: Option<(PointId, PointId)>,
}

/// A packed master that is to be proven.
pub enum Packed<'a> {
    /// A file that was written, and is being read back.
    File(&'a Path, Written),
    /// Parts of it, which were read back when they were written, and are compared again whenever they are read.
    Stored(&'a Arc<StoredSnapshot>),
}

impl Packed<'_> {
    /// The bytes as a file.
    pub(super) fn file(&self) -> SnapshotFile {
        match self {
            Self::File(path, _) => SnapshotFile::from(*path),
            Self::Stored(stored) => SnapshotFile::Stored(Arc::clone(stored)),
        }
    }

    /// Hashes; of a file, once it is read back and as it was written.
    pub fn sums(self) -> Result<Sums> {
        match self {
            Self::File(_, written) => written.read_back(),
            Self::Stored(stored) => Sums::of_stored(stored),
        }
    }
}

/// Reads the `packed` master back and compares it with what was written and what is `expected`.
///
/// Shards are unpacked [`AT_ONCE`] at a time, and each segment is opened by itself, so that scratch has no more
/// than some shards, and memory no more than [`AT_ONCE`] segments.
pub fn read_back(
    packed: Packed<'_>,
    expected: &Expected<'_>,
    scratch: &Scratch,
    progress: Progress,
) -> Result<Proof> {
    let failed = |why: String| Error::failed("proving the master", why);
    let Some(wanted) = &expected.digest else {
        return Err(failed("nobody said what its points should be".into()));
    };
    let file = packed.file();
    let mut master = master_of(&file, expected, false)?;
    for (number, shard) in &mut master.snapshot.shards {
        let log = wal::read(std::mem::take(&mut shard.log), "the master's log")?;
        if !log.entries.is_empty() {
            return Err(failed(format!("the log of shard {number} is not empty")));
        }
    }
    let bytes = master.snapshot.file_bytes;
    let stage = progress.stage("prove", Some(wanted.points()), Unit::Points);
    let config = ShardConfig::new(&master.config)?.without_log();
    let look = |(number, folder): &(u32, PathBuf)| {
        let what = format!("shard {number} of the packed master");
        let shard = Shard::reopen(folder, &config, what)?;
        let found = read_segment(&shard, *number, &master, expected, &stage)?;
        shard.discard()?;
        Ok(found)
    };
    let numbers: Vec<u32> = master.snapshot.shards.keys().copied().collect();
    let mut found = Vec::new();
    for some in numbers.chunks(AT_ONCE) {
        let folder = scratch.folder("proof")?;
        let segments = master.unpack_apart(&folder, &some.iter().copied().collect())?;
        found.extend(in_parallel(&segments, AT_ONCE, look)?);
        scratch::remove_folder(&folder)?;
    }
    drop(stage);
    if mingled(&found) {
        refuse_twice(&file, expected, &Spill::into_scratch(scratch))?;
    }
    let mut digest = Digest::default();
    let mut by_shard: BTreeMap<u32, u64> = master
        .snapshot
        .shards
        .keys()
        .map(|shard| (*shard, 0))
        .collect();
    for found in &found {
        digest.join(&found.digest);
        *by_shard.entry(found.shard).or_default() += found.points;
    }
    if by_shard != expected.shards {
        return Err(failed(format!(
            "its shards have {by_shard:?} points, not {:?}",
            expected.shards
        )));
    }
    if digest != *wanted {
        return Err(failed(format!(
            "its points have the digest {digest}, not {wanted}: {} differ",
            digest.differing(wanted).join(", ")
        ))
        .next(
            "this is a fault of snapmerge or of the disk: please report it; nothing was written",
        ));
    }
    let Sums { sha256, xxh3 } = packed.sums()?;
    Ok(Proof {
        points: digest.points(),
        bytes,
        digest: Some(digest),
        sha256,
        xxh3,
    })
}

fn read_segment(
    shard: &Shard,
    number: u32,
    master: &Source,
    expected: &Expected<'_>,
    stage: &Stage,
) -> Result<Found> {
    let failed = |why: String| Error::failed("proving the master", why);
    let point_streams = [PointStream::new(
        0,
        shard,
        master.shard_keys.key_of(number).cloned(),
    )];
    let mut found = Found {
        shard: number,
        points: 0,
        digest: Digest::default(),
        range: None,
    };
    std::thread::scope(|scope| -> Result<()> {
        let mut scan = Scan::start(scope, &point_streams, None)?;
        let mut group = Vec::new();
        let mut buffer = Vec::new();
        while let Some(Identity { id, .. }) = scan.next_group(&mut group)? {
            let lowest = found.range.map_or(id, |(lowest, _)| lowest);
            found.range = Some((lowest, id));
            for scanned in &group {
                let place = expected.layout.shard(&scanned.record)?;
                if number != place {
                    return Err(failed(format!(
                        "point {id} lies in shard {number}, where a server would look in shard \
                         {place}"
                    )));
                }
                found.points += 1;
                found.digest.add(&scanned.record, &mut buffer);
            }
            stage.add(group.len() as u64);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Returns true if segments of one shard have ranges of ids that overlap.
fn mingled(found: &[Found]) -> bool {
    let mut ranges: Vec<(u32, PointId, PointId)> = found
        .iter()
        .filter_map(|found| found.range.map(|(from, to)| (found.shard, from, to)))
        .collect();
    ranges.sort_unstable();
    ranges
        .array_windows()
        .any(|[(shard, _, end), (other, start, _)]| shard == other && start <= end)
}

/// A point that lies in two segments of a shard is one for a server, and was counted twice.
fn refuse_twice(file: &SnapshotFile, expected: &Expected<'_>, spill: &Spill) -> Result<()> {
    let master = master_of(file, expected, true)?;
    for (number, shard) in &master.snapshot.shards {
        let what = format!("shard {number} of the master");
        let (held, _) = ShardIds::of(shard, &what, spill)?;
        let mut twice = None;
        held.walk(|span| {
            if span.having().len() > 1 {
                twice.get_or_insert(span.first());
            }
            Ok(())
        })?;
        if let Some(id) = twice {
            return Err(Error::failed(
                "proving the master",
                format!("point {id} is in two segments of shard {number}"),
            ));
        }
    }
    Ok(())
}

/// Opens the master in `file`, with its id trackers if they are asked for, and looks at everything but
/// its points.
pub(super) fn master_of(
    file: &SnapshotFile,
    expected: &Expected<'_>,
    trackers: bool,
) -> Result<Source> {
    let failed = |why: String| Error::failed("proving the master", why);
    let opening = Opening {
        trackers,
        log: true,
        ..Opening::default()
    };
    let master = Source::open(file, &opening, None)?;
    master.refuse_unreadable(false)?;
    if let Some(wrong) = frame_differences(&master, true).first() {
        return Err(failed(wrong.to_string()));
    }
    if master.config.raw() != expected.config {
        return Err(failed("its config is not the one that was planned".into()));
    }
    if master.shard_keys != expected.layout.keys {
        return Err(failed(
            "its shard keys are not the ones that were planned".into(),
        ));
    }
    Ok(master)
}
