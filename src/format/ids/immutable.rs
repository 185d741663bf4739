//! `id_tracker.mappings`, `.versions` and `.deleted` of an optimized segment.
//!
//! Invariants: these files are written whole and to their full length before a segment is used
//! (immutable_id_tracker/mod.rs), so one that is too short, too long, or out of order is damage;
//! the engine would take some of those and show deleted points, or lose live ones.

use uuid::Uuid;

use super::{Fault, Format, Found, SegmentIds, TrackerFiles, Versions, need, take};
use crate::point::PointId;

pub(super) const MAPPINGS: &str = "id_tracker.mappings";
pub(super) const VERSIONS: &str = "id_tracker.versions";
pub(super) const DELETED: &str = "id_tracker.deleted";

/// The shortest record: a byte for the kind of id, a number, the offset.
pub(super) const RECORD_BYTES_MIN: usize = 1 + 8 + 4;

pub(super) fn read(files: &TrackerFiles) -> Found<SegmentIds> {
    let mut rest = need(&files.mappings, MAPPINGS)?;
    let bad = |why: String| Fault::new(MAPPINGS, why);

    let count = take(&mut rest)
        .map(u64::from_le_bytes)
        .ok_or_else(|| bad("it is shorter than its header".to_owned()))?;
    // Checked before anything is reserved: the count alone may say anything.
    let total = usize::try_from(count)
        .ok()
        .filter(|count| u32::try_from(*count).is_ok() && *count <= rest.len() / RECORD_BYTES_MIN)
        .ok_or_else(|| {
            bad(format!(
                "{count} records cannot fit into its {} bytes",
                rest.len()
            ))
        })?;
    let deleted = Deleted::new(need(&files.deleted, DELETED)?, total)?;
    let versions = versions(need(&files.versions, VERSIONS)?, total)?;

    let mut live = Vec::new();
    for at in 0..total {
        let (id, offset) = record(&mut rest)
            .ok_or_else(|| bad(format!("record {at} of {total} is cut off or not an id")))?;
        // The writer goes through the offsets in order (`iter_internal_raw`), and the engine looks
        // up deletes by the place in the file, so anything else would mix up points.
        if usize::try_from(offset) != Ok(at) {
            return Err(bad(format!("record {at} is for offset {offset}")));
        }
        if !deleted.contains(at) {
            live.push((id, offset));
        }
    }
    if !rest.is_empty() {
        let why = format!(
            "{} bytes follow the last of its {total} records",
            rest.len()
        );
        return Err(bad(why));
    }

    let ids = SegmentIds::collect(Format::Immutable, total, live, versions);
    for pair in ids.entries.windows(2) {
        if let [first, second] = pair
            && first.id == second.id
        {
            let (a, b) = (first.offset, second.offset);
            return Err(bad(format!(
                "point {} is at offset {a} and at {b}",
                first.id
            )));
        }
    }
    Ok(ids)
}

pub(super) fn record(rest: &mut &[u8]) -> Option<(PointId, u32)> {
    let id = match take(rest)? {
        [0] => PointId::Num(u64::from_le_bytes(take(rest)?)),
        [1] => PointId::Uuid(Uuid::from_bytes(take(rest)?)),
        _ => return None,
    };
    Some((id, u32::from_le_bytes(take(rest)?)))
}

/// `id_tracker.versions`: one for every offset.
pub(super) fn versions(bytes: &[u8], total: usize) -> Found<Versions<'_>> {
    if bytes.len() / 8 < total {
        let why = format!("it holds {} versions for {total} offsets", bytes.len() / 8);
        return Err(Fault::new(VERSIONS, why));
    }
    Ok(Versions(bytes))
}

/// `id_tracker.deleted`: a bit for every offset, the lowest bit of the first byte first, rounded up
/// to 8 bytes (lib/common/common/src/stored_bitslice.rs).
pub(super) struct Deleted<'a>(&'a [u8]);

impl<'a> Deleted<'a> {
    pub(super) fn new(bytes: &'a [u8], total: usize) -> Found<Self> {
        if bytes.len() < total.div_ceil(8) {
            let why = format!("it has {} bytes for {total} offsets", bytes.len());
            return Err(Fault::new(DELETED, why));
        }
        Ok(Self(bytes))
    }

    pub(super) fn contains(&self, offset: usize) -> bool {
        self.0
            .get(offset / 8)
            .is_some_and(|byte| byte >> (offset % 8) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_adds_up, names, torture, versions as numbered, with};
    use super::super::{read as read_any, tests};
    use super::*;

    const UUID: u128 = 0x550e_8400_e29b_41d4_a716_4466_5544_0000;

    fn num(id: u64, offset: u32) -> Vec<u8> {
        [&[0][..], &id.to_le_bytes(), &offset.to_le_bytes()].concat()
    }

    fn uuid(id: u128, offset: u32) -> Vec<u8> {
        [&[1][..], &id.to_be_bytes(), &offset.to_le_bytes()].concat()
    }

    fn files(records: &[Vec<u8>], deleted: u64) -> TrackerFiles {
        let count = u64::try_from(records.len()).expect("few records");
        let mut files = TrackerFiles::default();
        let mappings = [count.to_le_bytes().to_vec(), records.concat()].concat();
        with(&mut files, MAPPINGS, &mappings);
        with(&mut files, VERSIONS, &numbered(count));
        with(&mut files, DELETED, &deleted.to_le_bytes());
        files
    }

    fn sample() -> TrackerFiles {
        files(&[uuid(UUID, 0), num(8, 1), num(3, 2), num(5, 3)], 0b0010)
    }

    fn refusal(files: &TrackerFiles) -> String {
        read_any(files, "a test").expect_err("refuses").to_string()
    }

    #[test]
    fn live_points_are_sorted_and_deleted_ones_gone() {
        let ids = read_any(&sample(), "a test").expect("reads");
        assert_adds_up(&ids);
        let uuid = Uuid::from_u128(UUID).to_string();
        assert_eq!(names(&ids), ["3", "5", uuid.as_str()]);
        assert_eq!((ids.total_offsets, ids.deleted), (4, 1));
        assert_eq!((ids.entries[0].offset, ids.entries[0].version), (2, 102));
    }

    #[test]
    fn an_id_may_be_there_again_if_the_other_is_deleted() {
        let twice = [num(3, 0), num(3, 1)];
        let ids = read_any(&files(&twice, 0b01), "a test").expect("reads");
        assert_eq!(
            (names(&ids), ids.entries[0].offset),
            (vec!["3".to_owned()], 1)
        );
        assert!(refusal(&files(&twice, 0)).contains("point 3 is at offset 0 and at 1"));
    }

    #[test]
    fn what_no_writer_makes_is_refused() {
        assert!(refusal(&files(&[num(3, 1), num(4, 0)], 0)).contains("is for offset 1"));
        assert!(refusal(&files(&[num(3, 0), vec![7; 13]], 0)).contains("record 1 of 2"));

        let mut huge = sample();
        with(&mut huge, MAPPINGS, &u64::MAX.to_le_bytes());
        assert!(refusal(&huge).contains("cannot fit"));

        let mut longer = sample();
        let mut mappings = longer.mappings.clone().expect("mappings");
        mappings.push(0);
        with(&mut longer, MAPPINGS, &mappings);
        assert!(refusal(&longer).contains("1 bytes follow"));

        for name in [VERSIONS, DELETED] {
            let mut missing = sample();
            *missing.from_name(name).expect("a place") = None;
            assert!(refusal(&missing).contains(name));
        }
    }

    #[test]
    fn every_cut_is_refused() {
        let sample = sample();
        let len = |content: &Option<Vec<u8>>| content.as_ref().map_or(0, Vec::len);
        assert_eq!(torture(&sample, MAPPINGS), len(&sample.mappings));
        assert_eq!(torture(&sample, VERSIONS), len(&sample.versions));
        // Four offsets need one byte of the eight.
        assert_eq!(tests::torture(&sample, DELETED), 1);
    }
}
