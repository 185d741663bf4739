//! `id_tracker.i2e` and `.e2i`: the mapping kept on disk (server 1.19), format version 2 of
//! disk_id_tracker/on_disk_format.rs.
//!
//! Invariants: ids are taken from `.e2i` (two runs in id order, numbers and UUIDs, without the
//! points deleted when it was written), and each must be what `.i2e` says about its offset. Of
//! `.is_uuid` only the header is checked: it says again what the two runs say.

use std::ops::Range;

use uuid::Uuid;

use super::immutable::{self, DELETED, Deleted, VERSIONS};
use super::{Fault, Format, Found, SegmentIds, TrackerFiles, need, take};
use crate::point::PointId;

pub(super) const I2E: &str = "id_tracker.i2e";
pub(super) const E2I: &str = "id_tracker.e2i";
pub(super) const IS_UUID: &str = "id_tracker.is_uuid";
pub(super) const COMPACT_VERSIONS: &str = "id_tracker.compact_versions";

pub(super) const I2E_MAGIC: u64 = 0x5144_5F49_3245_0001;
pub(super) const E2I_MAGIC: u64 = 0x5144_5F45_3249_0001;
pub(super) const FORMAT_VERSION: u32 = 2;
const I2E_HEADER_BYTES: usize = 32;
pub(super) const E2I_HEADER_BYTES: u64 = 48;
pub(super) const NUM_RECORD_BYTES: u64 = 12;
const UUID_RECORD_BYTES: u64 = 20;

pub(super) fn read(files: &TrackerFiles) -> Found<SegmentIds> {
    if files.compact_versions.is_some() {
        let why = "compact versions, as serverless deployments write them, are not supported";
        return Err(Fault::new(COMPACT_VERSIONS, why));
    }
    let externals = externals(need(&files.i2e, I2E)?)?;
    let total = externals.len();
    check_is_uuid(need(&files.is_uuid, IS_UUID)?, total)?;
    let deleted = Deleted::new(need(&files.deleted, DELETED)?, total)?;
    let versions = immutable::versions(need(&files.versions, VERSIONS)?, total)?;

    let e2i = need(&files.e2i, E2I)?;
    let runs = RunRanges::locate(e2i)?;
    let mut walk = RecordCheck {
        externals,
        deleted,
        taken: vec![false; total],
        last: None,
        live: Vec::new(),
    };
    let mut nums = e2i.get(runs.num).unwrap_or_default();
    while let (Some(key), Some(offset)) = (take(&mut nums), take(&mut nums)) {
        let key = u64::from_le_bytes(key);
        walk.step(PointId::Num(key), key.into(), u32::from_le_bytes(offset))?;
    }
    let mut uuids = e2i.get(runs.uuid).unwrap_or_default();
    while let (Some(key), Some(offset)) = (take(&mut uuids), take(&mut uuids)) {
        let key = u128::from_le_bytes(key);
        let id = PointId::Uuid(Uuid::from_u128(key));
        walk.step(id, key, u32::from_le_bytes(offset))?;
    }
    Ok(SegmentIds::collect(
        Format::Disk,
        total,
        walk.live,
        versions,
    ))
}

/// Returns the content of `.i2e`: the id of every offset, as a number of 16 bytes.
fn externals(bytes: &[u8]) -> Found<&[[u8; 16]]> {
    let mut rest = bytes;
    let total = header(I2E, &mut rest, I2E_MAGIC)?;
    let (externals, odd) = bytes
        .get(I2E_HEADER_BYTES..)
        .unwrap_or_default()
        .as_chunks();
    if !odd.is_empty() || u64::try_from(externals.len()) != Ok(total) {
        let why = format!("{} bytes are not {total} offsets and a header", bytes.len());
        return Err(Fault::new(I2E, why));
    }
    Ok(externals)
}

/// The start that both files share, up to their first count, which is returned: magic, version,
/// four bytes without meaning, count.
fn header(file: &str, rest: &mut &[u8], magic: u64) -> Found<u64> {
    let short = || Fault::new(file, "it is shorter than its header");
    if take(rest).map(u64::from_le_bytes).ok_or_else(short)? != magic {
        return Err(Fault::new(file, "it does not begin as such a file does"));
    }
    let version = take(rest).map(u32::from_le_bytes).ok_or_else(short)?;
    if version != FORMAT_VERSION {
        let why = format!("it has format version {version}, not {FORMAT_VERSION}");
        return Err(Fault::new(file, why));
    }
    take::<4>(rest).ok_or_else(short)?;
    take(rest).map(u64::from_le_bytes).ok_or_else(short)
}

/// Ranges of the two runs in `.e2i`, in bytes.
struct RunRanges {
    num: Range<usize>,
    uuid: Range<usize>,
}

impl RunRanges {
    fn locate(bytes: &[u8]) -> Found<Self> {
        let mut rest = bytes;
        let nums = header(E2I, &mut rest, E2I_MAGIC)?;
        Self::layout(nums, &mut rest, bytes.len())
            .ok_or_else(|| Fault::new(E2I, "its counts and its length do not agree"))
    }

    /// As `E2iHeader::parse` lays the sections out, but with nothing that can overflow; `None` too
    /// if the file does not end where the last section does.
    fn layout(nums: u64, rest: &mut &[u8], len: usize) -> Option<Self> {
        let uuids = u64::from_le_bytes(take(rest)?);
        let nums_per_block = u64::from(u32::from_le_bytes(take(rest)?));
        let uuids_per_block = u64::from(u32::from_le_bytes(take(rest)?));
        if nums_per_block == 0 || uuids_per_block == 0 {
            return None;
        }
        let section =
            |start: u64, count: u64, bytes: u64| start.checked_add(count.checked_mul(bytes)?);
        let num_index_end = section(E2I_HEADER_BYTES, nums.div_ceil(nums_per_block), 8)?;
        let uuid_index = num_index_end.checked_next_multiple_of(16)?;
        let num_run = section(uuid_index, uuids.div_ceil(uuids_per_block), 16)?;
        let num_end = section(num_run, nums, NUM_RECORD_BYTES)?;
        let uuid_run = num_end.checked_next_multiple_of(16)?;
        let end = section(uuid_run, uuids, UUID_RECORD_BYTES)?;
        if u64::try_from(len) != Ok(end) {
            return None;
        }
        let at = |offset: u64| usize::try_from(offset).ok();
        Some(Self {
            num: at(num_run)?..at(num_end)?,
            uuid: at(uuid_run)?..at(end)?,
        })
    }
}

/// The header of a stored bitmask (lib/common/common/src/stored_bitmask/format.rs): magic, version,
/// number of bits, encoding, four bytes without meaning, payload length.
fn check_is_uuid(bytes: &[u8], total: usize) -> Found<()> {
    let sound = || {
        let mut rest = bytes;
        let magic = take::<4>(&mut rest)? == *b"QBMK";
        let version = u32::from_le_bytes(take(&mut rest)?) == 1;
        let bits = usize::try_from(u64::from_le_bytes(take(&mut rest)?)) == Ok(total);
        let encoding = u32::from_le_bytes(take(&mut rest)?) <= 2;
        take::<4>(&mut rest)?;
        let payload = u64::from_le_bytes(take(&mut rest)?);
        let fits = usize::try_from(payload).is_ok_and(|len| len <= rest.len());
        Some(magic && version && bits && encoding && fits)
    };
    if sound() == Some(true) {
        return Ok(());
    }
    let why = format!("it is not a bitmask of {total} offsets");
    Err(Fault::new(IS_UUID, why))
}

/// Takes the records of `.e2i` in order and checks them against everything else.
struct RecordCheck<'a> {
    externals: &'a [[u8; 16]],
    deleted: Deleted<'a>,
    taken: Vec<bool>,
    last: Option<PointId>,
    live: Vec<(PointId, u32)>,
}

impl RecordCheck<'_> {
    fn step(&mut self, id: PointId, key: u128, offset: u32) -> Found<()> {
        if self.last >= Some(id) {
            return Err(Fault::new(E2I, format!("point {id} is out of order")));
        }
        self.last = Some(id);
        let at = offset as usize;
        let agreed = self.externals.get(at) == Some(&key.to_le_bytes());
        match self.taken.get_mut(at) {
            Some(taken) if agreed && !*taken => *taken = true,
            _ => {
                let why = format!("point {id} is at offset {offset}, but {I2E} says otherwise");
                return Err(Fault::new(E2I, why));
            }
        }
        if !self.deleted.contains(at) {
            self.live.push((id, offset));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::read as read_any;
    use super::super::tests::{assert_adds_up, names, torture, versions as numbered, with};
    use super::*;

    const UUID: u128 = 0x550e_8400_e29b_41d4_a716_4466_5544_0000;

    /// As `store_i2e` and `store_e2i` write, with blocks of `block` records.
    fn files(ids: &[PointId], dead_before: &[u32], deleted: u64, block: u32) -> TrackerFiles {
        let total = u64::try_from(ids.len()).expect("few ids");
        let key = |id: &PointId| match id {
            PointId::Num(num) => u128::from(*num),
            PointId::Uuid(uuid) => uuid.as_u128(),
        };
        let mut i2e = I2E_MAGIC.to_le_bytes().to_vec();
        i2e.extend(FORMAT_VERSION.to_le_bytes());
        i2e.extend([0; 4]);
        i2e.extend(total.to_le_bytes());
        i2e.extend([0; 8]);
        i2e.extend(ids.iter().flat_map(|id| key(id).to_le_bytes()));

        let mut sorted: Vec<(PointId, u32)> = ids.iter().copied().zip(0..).collect();
        sorted.retain(|(_, offset)| !dead_before.contains(offset));
        sorted.sort();
        let split = sorted.partition_point(|(id, _)| matches!(id, PointId::Num(_)));
        let (nums, uuids) = sorted.split_at(split);
        let count = |run: &[(PointId, u32)]| u64::try_from(run.len()).expect("few ids");

        let mut e2i = E2I_MAGIC.to_le_bytes().to_vec();
        e2i.extend(FORMAT_VERSION.to_le_bytes());
        e2i.extend([0; 4]);
        e2i.extend(count(nums).to_le_bytes());
        e2i.extend(count(uuids).to_le_bytes());
        e2i.extend(block.to_le_bytes());
        e2i.extend(block.to_le_bytes());
        e2i.extend([0; 8]);
        let pad = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(16), 0);
        for chunk in nums.chunks(block as usize) {
            e2i.extend(&key(&chunk[0].0).to_le_bytes()[..8]);
        }
        pad(&mut e2i);
        for chunk in uuids.chunks(block as usize) {
            e2i.extend(key(&chunk[0].0).to_le_bytes());
        }
        for (id, offset) in nums {
            e2i.extend(&key(id).to_le_bytes()[..8]);
            e2i.extend(offset.to_le_bytes());
        }
        pad(&mut e2i);
        for (id, offset) in uuids {
            e2i.extend(key(id).to_le_bytes());
            e2i.extend(offset.to_le_bytes());
        }

        let mut is_uuid = b"QBMK".to_vec();
        is_uuid.extend(1_u32.to_le_bytes());
        is_uuid.extend(total.to_le_bytes());
        is_uuid.extend([0; 8]);
        is_uuid.extend(8_u64.to_le_bytes());
        is_uuid.extend([0; 8]);

        let mut files = TrackerFiles::default();
        with(&mut files, I2E, &i2e);
        with(&mut files, E2I, &e2i);
        with(&mut files, IS_UUID, &is_uuid);
        with(&mut files, VERSIONS, &numbered(total));
        with(&mut files, DELETED, &deleted.to_le_bytes());
        files
    }

    fn ids() -> Vec<PointId> {
        let uuid = |add| PointId::Uuid(Uuid::from_u128(UUID + add));
        let num = PointId::Num;
        vec![uuid(1), num(7), num(300), uuid(0), num(1), num(9), uuid(5)]
    }

    #[test]
    fn both_runs_are_read_whatever_the_block() {
        for block in [1, 2, 3, 1365] {
            let ids = read_any(&files(&ids(), &[5], 0b0010_0100, block), "a test").expect("reads");
            assert_adds_up(&ids);
            let uuid = |add| Uuid::from_u128(UUID + add).to_string();
            assert_eq!(
                names(&ids),
                ["1".into(), "7".into(), uuid(0), uuid(1), uuid(5)]
            );
            assert_eq!((ids.total_offsets, ids.deleted), (7, 2), "block {block}");
            assert_eq!((ids.entries[1].offset, ids.entries[1].version), (1, 101));
        }
    }

    #[test]
    fn one_kind_of_id_alone_is_read() {
        for kind in [0, 1] {
            let only: Vec<_> = ids()
                .into_iter()
                .filter(|id| usize::from(matches!(id, PointId::Uuid(_))) == kind)
                .collect();
            let ids = read_any(&files(&only, &[], 0, 2), "a test").expect("reads");
            assert_eq!(ids.entries.len(), only.len());
            assert!(!only.is_empty());
        }
        let none = read_any(&files(&[], &[], 0, 2), "a test").expect("reads");
        assert_eq!((none.format, none.total_offsets), (Format::Disk, 0));
    }

    #[test]
    fn disagreement_is_refused() {
        let mut files = files(&ids(), &[], 0, 2);
        let good = files.i2e.clone().expect("i2e");
        let mut bad = good.clone();
        bad[I2E_HEADER_BYTES] ^= 1;
        with(&mut files, I2E, &bad);
        let err = read_any(&files, "a test").expect_err("refuses");
        assert!(err.why().contains("says otherwise"), "{err}");

        with(&mut files, I2E, &good);
        assert!(read_any(&files, "a test").is_ok());
        with(&mut files, COMPACT_VERSIONS, b"QDRANTCV");
        let err = read_any(&files, "a test").expect_err("refuses");
        assert!(err.why().contains("serverless"), "{err}");
    }

    #[test]
    fn every_cut_is_refused() {
        let sample = files(&ids(), &[], 0, 2);
        let len = |content: &Option<Vec<u8>>| content.as_ref().map_or(0, Vec::len);
        assert_eq!(torture(&sample, I2E), len(&sample.i2e));
        assert_eq!(torture(&sample, E2I), len(&sample.e2i));
        assert_eq!(torture(&sample, IS_UUID), len(&sample.is_uuid));
        assert_eq!(torture(&sample, VERSIONS), len(&sample.versions));
    }
}
