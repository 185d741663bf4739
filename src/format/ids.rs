//! The ids a segment holds, read from the files of its id tracker without the storage engine.
//!
//! Works on bytes, so that `inspect` and `graft` can look into a segment that is still packed.
//! Invariants:
//! - what is returned is what the engine would see after loading the segment: the last mapping of
//!   an id wins, deleted points are gone, points without a version are gone (they are counted in
//!   [`SegmentIds::unversioned`]), and deletes that a proxy segment left in a log beside the
//!   segment are carried out;
//! - every offset is accounted for:
//!   `total_offsets = entries + deleted + unversioned + pending_deletes`;
//! - no input makes it panic or reserve more memory than the input is long;
//! - where no writer of Qdrant's can have made a file, it is refused as damaged, even where the
//!   engine would take it and silently hold fewer or more points.
//!
//! Ids kept in `RocksDB` (segments of 1.13 and before) are not handled here: such a segment has
//! none of these files and reads as empty, exactly as it does for a server from 1.18 on, so the
//! caller must ask [`crate::format::rocks::InRocks`] first.

mod disk;
mod immutable;
mod mutable;
mod pending;
mod stream;
mod to_disk;
mod trackers;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

pub use self::stream::{Streamed, stream};
pub use self::to_disk::{are_none, to_disk};
pub use self::trackers::{Content, Trackers};
pub use self::write::IdWriter;
use crate::base::error::{Error, Result};
use crate::format::layout;
use crate::point::PointId;

/// One live point of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdEntry {
    /// The point's id.
    pub id: PointId,
    /// The point's number inside its segment; vectors and payload are stored under it.
    pub offset: u32,
    /// The number of the operation that last changed the point; across segments, the highest wins
    /// (`deduplicate_points` in lib/shard/src/segment_holder/mod.rs).
    pub version: u64,
}

/// Form in which a segment keeps its ids (`IdTrackerFormat` in
/// lib/segment/src/id_tracker/format_detection.rs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// No id tracker file at all: a new segment that was never flushed, or one with its ids in
    /// `RocksDB`.
    Nothing,
    /// `mutable_id_tracker.*`: logs that are only appended to; an appendable segment.
    Mutable,
    /// `id_tracker.mappings` with `.versions` and `.deleted`; an optimized segment.
    Immutable,
    /// `id_tracker.i2e` with `.e2i`, `.is_uuid`, `.versions` and `.deleted`; since 1.19.
    Disk,
}

/// The contents of a segment's id tracker files, as far as there are any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackerFiles {
    /// `mutable_id_tracker.mappings`
    pub mutable_mappings: Option<Vec<u8>>,
    /// `mutable_id_tracker.versions`
    pub mutable_versions: Option<Vec<u8>>,
    /// `id_tracker.mappings`
    pub mappings: Option<Vec<u8>>,
    /// `id_tracker.versions`
    pub versions: Option<Vec<u8>>,
    /// `id_tracker.deleted`
    pub deleted: Option<Vec<u8>>,
    /// `id_tracker.i2e`
    pub i2e: Option<Vec<u8>>,
    /// `id_tracker.e2i`
    pub e2i: Option<Vec<u8>>,
    /// `id_tracker.is_uuid`
    pub is_uuid: Option<Vec<u8>>,
    /// `id_tracker.compact_versions`, of serverless deployments only; refused by [`read`].
    pub compact_versions: Option<Vec<u8>>,
    /// `proxy_changes.LEVEL.UUID.dat` by file name: deletes that wait to be carried out
    /// (lib/segment/src/pending_changes/log_file.rs).
    pub pending: BTreeMap<String, Option<Vec<u8>>>,
}

/// Result of [`read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentIds {
    /// Form in which the segment keeps its ids.
    pub format: Format,
    /// The live points, by ascending id, each id once.
    pub entries: Vec<IdEntry>,
    /// Number of offsets that the segment has given out; every vector storage is that long or
    /// longer.
    pub total_offsets: usize,
    /// Offsets without a live point, because it was deleted, or replaced by one at a later offset.
    pub deleted: usize,
    /// Points with a mapping but no version, left by an interrupted flush. The engine drops them
    /// on load and counts on the log to bring them back (`fix_inconsistencies` in
    /// lib/segment/src/id_tracker/id_tracker_base/trait_def.rs).
    pub unversioned: usize,
    /// Points that a pending delete beside the segment removes. Servers from before these files
    /// (qdrant#10349) do not read them and would show the points.
    pub pending_deletes: usize,
    /// Other pending changes beside the segment, of payload indexes and named vectors: not read
    /// further, but a segment that has any is not what its files alone say.
    pub pending_others: usize,
    /// Bytes of a last record that was cut off while it was written; the engine drops them too.
    pub torn_bytes: usize,
}

/// A fault of one file; [`read`] adds whose file it is.
struct Fault {
    file: String,
    why: String,
}

impl Fault {
    fn new(file: &str, why: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            why: why.into(),
        }
    }
}

/// The mappings of a segment that nothing is added to; where there are any, no server looks for its ids
/// elsewhere.
pub const FIXED_MAPPINGS: [&str; 2] = [immutable::MAPPINGS, disk::I2E];
/// The mappings of a segment that points are added to.
pub const MUTABLE_MAPPINGS: &str = mutable::MAPPINGS;

type Found<T> = std::result::Result<T, Fault>;

/// Returns true if a file of a segment directory has a record for every point of it.
pub fn is_mappings(name: &str) -> bool {
    [immutable::MAPPINGS, mutable::MAPPINGS, disk::E2I].contains(&name)
}

/// Returns true if a file of a segment directory, by its name without directories, is for
/// [`TrackerFiles`].
pub fn is_tracker_file(name: &str) -> bool {
    TrackerFiles::default().from_name(name).is_some()
}

impl TrackerFiles {
    /// The files of an unpacked segment in `folder`.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let listed = |err: std::io::Error| Error::io("listing", folder, &err);
        let mut files = Self::default();
        for entry in std::fs::read_dir(folder).map_err(listed)? {
            let path = entry.map_err(listed)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(name) = name.filter(|name| is_tracker_file(name))
                && let Some(slot) = files.from_name(name)
            {
                let bytes = std::fs::read(&path);
                *slot = Some(bytes.map_err(|err| Error::io("reading", &path, &err))?);
            }
        }
        Ok(files)
    }

    /// The place for the content of the file `file_name` (without directories); `None` if it is
    /// not a file of the id tracker. An empty place for a pending log stays without effect.
    pub fn from_name(&mut self, file_name: &str) -> Option<&mut Option<Vec<u8>>> {
        Some(match file_name {
            mutable::MAPPINGS => &mut self.mutable_mappings,
            mutable::VERSIONS => &mut self.mutable_versions,
            immutable::MAPPINGS => &mut self.mappings,
            immutable::VERSIONS => &mut self.versions,
            immutable::DELETED => &mut self.deleted,
            disk::I2E => &mut self.i2e,
            disk::E2I => &mut self.e2i,
            disk::IS_UUID => &mut self.is_uuid,
            disk::COMPACT_VERSIONS => &mut self.compact_versions,
            name if pending::is_log(name) => self.pending.entry(name.to_owned()).or_default(),
            _ => return None,
        })
    }

    /// Returns the form in which the segment keeps its ids, as far as its files tell. The engine
    /// asks the segment's config first; with the files of two formats in one segment that would
    /// matter, so [`read`] refuses those.
    pub fn format(&self) -> Format {
        if self.i2e.is_some() || self.e2i.is_some() {
            Format::Disk
        } else if self.mappings.is_some() {
            Format::Immutable
        } else if self.mutable_mappings.is_some() || self.mutable_versions.is_some() {
            Format::Mutable
        } else {
            Format::Nothing
        }
    }
}

/// Reads the ids of one segment; `what` names it in errors ("segment X of shard 0 of a.snapshot").
///
/// # Errors
/// [`crate::base::error::Kind::Damaged`] if a file is missing, malformed, or of a form that only newer
/// servers know.
pub fn read(files: &TrackerFiles, what: &str) -> Result<SegmentIds> {
    read_files(files).map_err(|Fault { file, why }| {
        Error::damaged(format!("reading {file} of {what}"), why)
            .next("take the snapshot again, or use an older one of the same collection")
    })
}

fn read_files(files: &TrackerFiles) -> Found<SegmentIds> {
    let format = files.format();
    refuse_mixture(files, format)?;
    let mut ids = match format {
        Format::Nothing => SegmentIds::collect(format, 0, Vec::new(), Versions(&[])),
        Format::Mutable => mutable::read(files)?,
        Format::Immutable => immutable::read(files)?,
        Format::Disk => disk::read(files)?,
    };
    for (name, bytes) in &files.pending {
        if let Some(bytes) = bytes {
            pending::apply(name, bytes, &mut ids)?;
        }
    }
    let past = |entry: &&IdEntry| entry.version > layout::OPERATION_MAX;
    if let Some(entry) = ids.entries.iter().find(past) {
        let file = match format {
            Format::Mutable => mutable::VERSIONS,
            Format::Nothing | Format::Immutable | Format::Disk => immutable::VERSIONS,
        };
        let why = format!(
            "point {} has the version {}, which no server gives",
            entry.id, entry.version
        );
        return Err(Fault::new(file, why));
    }
    Ok(ids)
}

/// Files that do not belong together are no segment of Qdrant's making, and which of them the
/// engine would take depends on more than the files.
fn refuse_mixture(files: &TrackerFiles, format: Format) -> Found<()> {
    let mutable = files.mutable_mappings.is_some() || files.mutable_versions.is_some();
    let stray = match format {
        Format::Nothing | Format::Mutable if files.versions.is_some() => immutable::VERSIONS,
        Format::Nothing | Format::Mutable if files.deleted.is_some() => immutable::DELETED,
        Format::Immutable | Format::Disk if mutable => mutable::MAPPINGS,
        Format::Disk if files.mappings.is_some() => immutable::MAPPINGS,
        _ => return Ok(()),
    };
    Err(Fault::new(
        stray,
        "it does not belong to the other id files of the segment, or their mappings are missing",
    ))
}

impl SegmentIds {
    /// Gives every live `(id, offset)` its version, and sorts by id.
    fn collect(
        format: Format,
        total_offsets: usize,
        live: impl IntoIterator<Item = (PointId, u32), IntoIter: ExactSizeIterator>,
        versions: Versions<'_>,
    ) -> Self {
        let live = live.into_iter();
        let live_count = live.len();
        let mut entries: Vec<IdEntry> = Vec::with_capacity(live_count);
        entries.extend(live.filter_map(|(id, offset)| {
            let version = versions.get(offset)?;
            Some(IdEntry {
                id,
                offset,
                version,
            })
        }));
        entries.sort_unstable_by_key(|entry| entry.id);
        Self {
            format,
            total_offsets,
            deleted: total_offsets.saturating_sub(live_count),
            unversioned: live_count - entries.len(),
            pending_deletes: 0,
            pending_others: 0,
            torn_bytes: 0,
            entries,
        }
    }
}

/// Versions by offset: little-endian `u64`s without gaps.
#[derive(Clone, Copy)]
struct Versions<'a>(&'a [u8]);

impl Versions<'_> {
    fn get(self, offset: u32) -> Option<u64> {
        let start = usize::try_from(offset).ok()?.checked_mul(8)?;
        let bytes = self.0.get(start..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    }
}

/// Splits `N` bytes off the front of `rest`, or leaves it alone if there are fewer.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

/// The content of a file that the format cannot do without.
fn need<'a>(content: &'a Option<Vec<u8>>, name: &str) -> Found<&'a [u8]> {
    content.as_deref().ok_or_else(|| {
        Fault::new(
            name,
            "the segment's other id files are there, this one is not",
        )
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::error::Kind;

    /// Puts `bytes` into the place for `name`.
    pub(in crate::format::ids) fn with(files: &mut TrackerFiles, name: &str, bytes: &[u8]) {
        *files.from_name(name).expect("a tracker file") = Some(bytes.to_vec());
    }

    /// `count` versions: 100, 101, …
    pub(in crate::format::ids) fn versions(count: u64) -> Vec<u8> {
        (0..count).flat_map(|at| (100 + at).to_le_bytes()).collect()
    }

    /// The ids alone, as text.
    pub(in crate::format::ids) fn names(ids: &SegmentIds) -> Vec<String> {
        ids.entries
            .iter()
            .map(|entry| entry.id.to_string())
            .collect()
    }

    pub(in crate::format::ids) fn assert_adds_up(ids: &SegmentIds) {
        let sum = ids.entries.len() + ids.deleted + ids.unversioned + ids.pending_deletes;
        assert_eq!(sum, ids.total_offsets, "{ids:?}");
        assert!(ids.entries.is_sorted_by(|a, b| a.id < b.id), "{ids:?}");
    }

    /// Reads `files` with the file `name` cut to every length and with every byte of it changed:
    /// no panic, whatever comes out adds up. Returns how many of the cuts were refused.
    pub(in crate::format::ids) fn torture(files: &TrackerFiles, name: &str) -> usize {
        let mut files = files.clone();
        let whole = files.from_name(name).expect("a tracker file").clone();
        let whole = whole.expect("a file with content");
        assert!(!whole.is_empty());
        let mut refused = 0;
        for len in 0..whole.len() {
            with(&mut files, name, &whole[..len]);
            match read(&files, "a test") {
                Ok(ids) => assert_adds_up(&ids),
                Err(err) => {
                    assert_eq!(err.kind(), Kind::Damaged);
                    refused += 1;
                }
            }
        }
        let mut changed = 0;
        for at in 0..whole.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= mask;
                with(&mut files, name, &bytes);
                if let Ok(ids) = read(&files, "a test") {
                    assert_adds_up(&ids);
                    changed += 1;
                }
            }
        }
        assert!(
            changed > 0,
            "no changed byte was let through to be looked at"
        );
        refused
    }

    #[test]
    fn every_file_has_its_own_place_and_others_have_none() {
        let known = [
            mutable::MAPPINGS,
            mutable::VERSIONS,
            immutable::MAPPINGS,
            immutable::VERSIONS,
            immutable::DELETED,
            disk::I2E,
            disk::E2I,
            disk::IS_UUID,
            disk::COMPACT_VERSIONS,
            "proxy_changes.0.550e8400-e29b-41d4-a716-446655440000.dat",
        ];
        let mut files = TrackerFiles::default();
        for (at, name) in known.iter().enumerate() {
            assert!(is_tracker_file(name), "{name}");
            let place = files.from_name(name).expect("a place");
            assert_eq!(*place, None, "{name} shares a place");
            *place = Some(vec![u8::try_from(at).expect("few files")]);
        }
        for name in ["segment.json", "id_tracker", "proxy_changes.0.x.dat", ""] {
            assert!(!is_tracker_file(name), "{name}");
        }
    }

    #[test]
    fn a_segment_without_files_is_empty() {
        let ids = read(&TrackerFiles::default(), "a test").expect("reads");
        assert_eq!(ids.format, Format::Nothing);
        assert_eq!((ids.entries.len(), ids.total_offsets), (0, 0));
    }

    #[test]
    fn files_of_two_formats_are_refused_by_name() {
        for (first, second) in [
            (immutable::MAPPINGS, mutable::MAPPINGS),
            (disk::I2E, immutable::MAPPINGS),
            (mutable::MAPPINGS, immutable::VERSIONS),
            (immutable::DELETED, immutable::DELETED),
        ] {
            let mut files = TrackerFiles::default();
            with(&mut files, first, &[]);
            with(&mut files, second, &[]);
            let err = read(&files, "segment S").expect_err("refuses");
            assert_eq!(err.kind(), Kind::Damaged);
            assert!(err.doing().contains("of segment S"), "{err}");
            assert!(err.why().contains("belong"), "{first}, {second}: {err}");
        }
    }
}
