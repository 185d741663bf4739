//! `mutable_id_tracker.*`: a log of mapping changes and an array of versions.
//!
//! Invariants: the log is replayed as lib/segment/src/id_tracker/point_mappings.rs replays it
//! (`set_link`, `drop`), without a cutoff for deferred points, so the last mapping of an id wins
//! whether or not a server with `prevent_unoptimized` would show it yet. A record cut off at the
//! end of either file is dropped, as in mutable_id_tracker/mappings_storage.rs and
//! versions_storage.rs: the log (WAL) holds what it said.

use std::collections::HashMap;

use uuid::Uuid;

use super::{Fault, Format, Found, SegmentIds, TrackerFiles, Versions, take};
use crate::point::PointId;

pub(super) const MAPPINGS: &str = "mutable_id_tracker.mappings";
pub(super) const VERSIONS: &str = "mutable_id_tracker.versions";

/// The shortest record that gives an offset away: its kind, a number, the offset.
pub(super) const RECORD_BYTES_MIN: u64 = 1 + 8 + 4;

/// One record of the log (`MappingChange` in mutable_id_tracker/change.rs): a byte for the kind, the
/// id as 8 bytes little-endian or 16 bytes in the UUID's own order, and for an insert the offset.
pub(super) enum Change {
    Insert(PointId, u32),
    Delete(PointId),
}

pub(super) fn read(files: &TrackerFiles) -> Found<SegmentIds> {
    // Mappings are flushed before versions, so no interrupted flush leaves versions alone. The
    // engine logs this and goes on with an empty segment.
    let Some(mut log) = files.mutable_mappings.as_deref() else {
        return Err(Fault::new(
            MAPPINGS,
            "it is missing, but the versions are there",
        ));
    };
    let versions = files.mutable_versions.as_deref().unwrap_or_default();

    let mut mappings = Mappings::default();
    let len = log.len();
    loop {
        let before = log;
        match next(&mut log) {
            Ok(Some(Change::Insert(id, offset))) => mappings.insert(id, offset),
            Ok(Some(Change::Delete(id))) => mappings.delete(id),
            Ok(None) => {
                log = before;
                break;
            }
            Err(kind) => {
                let at = len - before.len();
                let why = format!("the record at byte {at} has the unknown kind {kind:#04x}");
                return Err(Fault::new(MAPPINGS, why));
            }
        }
    }

    let mut ids = SegmentIds::collect(
        Format::Mutable,
        mappings.total_offsets,
        mappings.heads,
        Versions(versions),
    );
    ids.torn_bytes = log.len() + versions.len() % 8;
    Ok(ids)
}

/// The next record; `None` at the end of the log, or where the last record is cut off; an unknown
/// kind of record as the error.
pub(super) fn next(log: &mut &[u8]) -> Result<Option<Change>, u8> {
    let Some([kind]) = take(log) else {
        return Ok(None);
    };
    let id = match kind {
        1 | 3 => take(log).map(|bytes| PointId::Num(u64::from_le_bytes(bytes))),
        2 | 4 => take(log).map(|bytes| PointId::Uuid(Uuid::from_bytes(bytes))),
        unknown => return Err(unknown),
    };
    Ok(match (kind, id) {
        (_, None) => None,
        (1 | 2, Some(id)) => take(log).map(|bytes| Change::Insert(id, u32::from_le_bytes(bytes))),
        (_, Some(id)) => Some(Change::Delete(id)),
    })
}

/// Maps, not an array by offset as in the engine: one record may name any offset, and an array
/// would let 13 bytes of garbage reserve gigabytes.
#[derive(Default)]
struct Mappings {
    /// Offset of each live id.
    heads: HashMap<PointId, u32>,
    /// Id at each offset; the inverse of `heads`.
    slots: HashMap<u32, PointId>,
    total_offsets: usize,
}

impl Mappings {
    fn insert(&mut self, id: PointId, offset: u32) {
        self.total_offsets = self.total_offsets.max((offset as usize).saturating_add(1));
        if let Some(left) = self.heads.insert(id, offset)
            && left != offset
        {
            self.slots.remove(&left);
        }
        // A sound writer deletes a point before it gives its offset to another; where it did not,
        // the engine lets go of the point that was there.
        if let Some(evicted) = self.slots.insert(offset, id)
            && evicted != id
        {
            self.heads.remove(&evicted);
        }
    }

    fn delete(&mut self, id: PointId) {
        if let Some(offset) = self.heads.remove(&id) {
            self.slots.remove(&offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_adds_up, names, torture, versions, with};
    use super::super::{IdEntry, read as read_any};
    use super::*;

    const UUID: u128 = 0x550e_8400_e29b_41d4_a716_4466_5544_0000;

    fn insert(id: u64, offset: u32) -> Vec<u8> {
        [&[1][..], &id.to_le_bytes(), &offset.to_le_bytes()].concat()
    }

    fn delete(id: u64) -> Vec<u8> {
        [&[3][..], &id.to_le_bytes()].concat()
    }

    fn insert_uuid(id: u128, offset: u32) -> Vec<u8> {
        [&[2][..], &id.to_be_bytes(), &offset.to_le_bytes()].concat()
    }

    fn delete_uuid(id: u128) -> Vec<u8> {
        [&[4][..], &id.to_be_bytes()].concat()
    }

    fn files(log: &[Vec<u8>], version_count: u64) -> TrackerFiles {
        let mut files = TrackerFiles::default();
        with(&mut files, MAPPINGS, &log.concat());
        with(&mut files, VERSIONS, &versions(version_count));
        files
    }

    fn ids(log: &[Vec<u8>], version_count: u64) -> SegmentIds {
        let ids = read_any(&files(log, version_count), "a test").expect("reads");
        assert_adds_up(&ids);
        ids
    }

    #[test]
    fn numbers_come_before_uuids_with_offset_and_version() {
        let ids = ids(&[insert_uuid(UUID, 0), insert(9, 1), insert(2, 2)], 3);
        let entry = |id, offset, version| IdEntry {
            id,
            offset,
            version,
        };
        assert_eq!(
            ids.entries,
            [
                entry(PointId::Num(2), 2, 102),
                entry(PointId::Num(9), 1, 101),
                entry(PointId::Uuid(Uuid::from_u128(UUID)), 0, 100),
            ]
        );
        assert_eq!((ids.total_offsets, ids.deleted), (3, 0));
    }

    #[test]
    fn the_last_mapping_wins_and_deletes_are_gone() {
        type Live<'a> = &'a [(&'a str, u32)];
        // (log, versions, live ids with offsets, deleted)
        let cases: [(&[Vec<u8>], u64, Live<'_>, usize); 7] = [
            (&[insert(1, 0), insert(1, 1)], 2, &[("1", 1)], 1),
            (
                &[insert(1, 0), insert(1, 1), insert(1, 0)],
                2,
                &[("1", 0)],
                1,
            ),
            (&[insert(1, 0), delete(1)], 1, &[], 1),
            (&[insert(1, 0), delete(1), insert(1, 1)], 2, &[("1", 1)], 1),
            (&[insert(1, 0), delete(7), delete(7)], 1, &[("1", 0)], 0),
            (
                &[insert_uuid(UUID, 0), insert(3, 1), delete_uuid(UUID)],
                2,
                &[("3", 1)],
                1,
            ),
            // An offset given away without a delete: whoever was there is gone, and stays gone
            // when the new one goes.
            (&[insert(1, 0), insert(2, 0), delete(2)], 1, &[], 1),
        ];
        for (at, (log, version_count, live, deleted)) in cases.into_iter().enumerate() {
            let ids = ids(log, version_count);
            let got: Vec<_> = names(&ids)
                .into_iter()
                .zip(ids.entries.iter().map(|entry| entry.offset))
                .collect();
            let want: Vec<_> = live
                .iter()
                .map(|(id, at)| ((*id).to_owned(), *at))
                .collect();
            assert_eq!(got, want, "case {at}");
            assert_eq!(ids.deleted, deleted, "case {at}");
        }
    }

    #[test]
    fn points_without_a_version_are_dropped_and_counted() {
        let both = ids(&[insert(1, 0), insert(2, 1)], 2);
        assert_eq!((both.entries.len(), both.unversioned), (2, 0));
        let one = ids(&[insert(1, 0), insert(2, 1)], 1);
        assert_eq!((names(&one), one.unversioned), (vec!["1".to_owned()], 1));

        let mut none = files(&[insert(1, 0)], 1);
        none.mutable_versions = None;
        let none = read_any(&none, "a test").expect("reads");
        assert_eq!((none.entries.len(), none.unversioned), (0, 1));
        assert_adds_up(&none);
    }

    #[test]
    fn a_record_cut_off_at_the_end_is_dropped_and_counted() {
        let log = [insert(1, 0), insert_uuid(UUID, 1)].concat();
        let first = insert(1, 0).len();
        let mut files = files(&[], 2);
        for len in first..log.len() {
            with(&mut files, MAPPINGS, &log[..len]);
            let ids = read_any(&files, "a test").expect("reads");
            assert_eq!(names(&ids), ["1"], "cut at {len}");
            assert_eq!(ids.torn_bytes, len - first);
        }
        with(&mut files, MAPPINGS, &log);
        with(&mut files, VERSIONS, &versions(2)[..15]);
        let ids = read_any(&files, "a test").expect("reads");
        assert_eq!(
            (ids.entries.len(), ids.unversioned, ids.torn_bytes),
            (1, 1, 7)
        );
    }

    #[test]
    fn an_unknown_record_or_missing_mappings_are_damage() {
        let bad = files(&[insert(1, 0), vec![0; 13]], 2);
        let err = read_any(&bad, "segment S").expect_err("refuses");
        assert!(err.doing().contains(MAPPINGS), "{err}");
        assert!(err.why().contains("byte 13"), "{err}");

        let mut alone = files(&[], 1);
        alone.mutable_mappings = None;
        assert!(read_any(&alone, "a test").is_err());
    }

    #[test]
    fn garbage_neither_panics_nor_reserves() {
        // The highest offset: an array by offset would be 100 GB.
        let far = ids(&[insert(1, u32::MAX)], 1);
        assert_eq!((far.entries.len(), far.unversioned), (0, 1));

        let sample = files(
            &[insert(1, 0), insert_uuid(UUID, 1), delete(1), insert(1, 2)],
            3,
        );
        assert_eq!(torture(&sample, MAPPINGS), 0);
        assert_eq!(torture(&sample, VERSIONS), 0);
    }
}
