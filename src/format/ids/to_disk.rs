//! The ids of an unpacked segment, brought into the form that the engine leaves on the disk.
//!
//! The engine holds the ids of an open segment in memory: 40 to 70 bytes a point of a segment that
//! things may be added to, some 30 of others. In the form of disk_id_tracker/on_disk_format.rs, for
//! segments that nothing is added to, it holds 4 bytes a point for the version and half a bit.
//!
//! Invariants:
//! - the files that are written say what the engine would have read from those that were there;
//! - whatever no sound writer leaves behind is not converted, so that the engine judges it;
//! - memory is 16 bytes for each record of the segment, 24 with a UUID, while it is converted, and no
//!   input makes it reserve more than a few times its length.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use uuid::Uuid;

use super::disk::{
    E2I, E2I_HEADER_BYTES, E2I_MAGIC, FORMAT_VERSION, I2E, I2E_MAGIC, IS_UUID, NUM_RECORD_BYTES,
};
use super::mutable::Change;
use super::{immutable, mutable, take};
use crate::base::error::{Error, Result};
use crate::point::PointId;

/// Bytes that are read at once.
const CHUNK_BYTES: u64 = 256 << 10;
/// Records of a block of `.e2i`. To find an id the engine decodes a whole block, and it holds the
/// first id of each; its own blocks, of 1,365 records, are made for slow remote storage.
const BLOCK_RECORDS: u32 = 16;
/// The offset of who has none.
const NOWHERE: u32 = u32::MAX;

/// Returns true if the unpacked segment in `folder` has no ids and never had any.
///
/// # Errors
/// [`crate::base::error::Kind::Failed`] if a file cannot be looked at.
pub fn are_none(folder: &Path) -> Result<bool> {
    for name in [I2E, immutable::MAPPINGS, mutable::MAPPINGS] {
        if size(&folder.join(name))?.is_some_and(|bytes| bytes > 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Converts the ids of the unpacked segment in `folder` in place. Returns whether they are in the
/// form for the disk now; if not, nothing was changed.
///
/// # Errors
/// [`crate::base::error::Kind::Failed`] if a file cannot be read or written.
pub fn to_disk(folder: &Path) -> Result<bool> {
    if folder.join(I2E).exists() {
        return Ok(true);
    }
    let (ids, replaced): (_, &[&str]) = if folder.join(immutable::MAPPINGS).exists() {
        (of_immutable(folder)?, &[immutable::MAPPINGS])
    } else if folder.join(mutable::MAPPINGS).exists() {
        let both: &[&str] = &[mutable::MAPPINGS, mutable::VERSIONS];
        (of_mutable(folder)?, both)
    } else {
        return Ok(false);
    };
    let Some(mut ids) = ids else {
        return Ok(false);
    };
    ids.write(folder)?;
    for name in replaced {
        let path = folder.join(name);
        std::fs::remove_file(&path).map_err(|err| Error::io("removing", &path, &err))?;
    }
    Ok(true)
}

/// Offset of a point; `order` is the place of the record that says so.
#[derive(Clone, Copy)]
struct Mapped<K> {
    key: K,
    order: u32,
    offset: u32,
}

/// Ids that a segment's files give.
#[derive(Default)]
struct Ids {
    nums: Vec<Mapped<u64>>,
    uuids: Vec<Mapped<Uuid>>,
    /// Number of offsets.
    total: u32,
    /// True if `.versions` and `.deleted` are yet to be written.
    is_mutable: bool,
}

/// The ids of an optimized segment; none if anything is not as a sound writer leaves it.
fn of_immutable(folder: &Path) -> Result<Option<Ids>> {
    let mappings = size(&folder.join(immutable::MAPPINGS))?;
    let path = folder.join(immutable::DELETED);
    let (Some(versions), Some(mappings), true) = (
        size(&folder.join(immutable::VERSIONS))?,
        mappings,
        path.exists(),
    ) else {
        return Ok(None);
    };
    let bits = std::fs::read(&path).map_err(|err| Error::io("reading", &path, &err))?;
    let mut ids = Ids::default();
    let mut total = None;
    let mut at = 0;
    let mut sound = true;
    let mut step = |rest: &mut &[u8]| -> Option<()> {
        let Some(total) = total else {
            let said = take(rest).map(u64::from_le_bytes)?;
            let fits = said > 0
                && said < u64::from(NOWHERE)
                && said <= mappings / immutable::RECORD_BYTES_MIN as u64
                && said <= versions / 8
                && said.div_ceil(8) <= bits.len() as u64;
            sound &= fits;
            total = Some(if fits { said } else { 0 });
            return Some(());
        };
        if u64::from(at) == total {
            return None;
        }
        let (id, offset) = immutable::record(rest)?;
        sound &= offset == at;
        let deleted = bits
            .get(offset as usize / 8)
            .is_none_or(|byte| byte >> (offset % 8) & 1 == 1);
        if !deleted {
            ids.push(id, at, offset);
        }
        at += 1;
        Some(())
    };
    let whole = each_record(&folder.join(immutable::MAPPINGS), &mut step)?;
    if !(whole && sound && total == Some(u64::from(at))) {
        return Ok(None);
    }
    ids.total = at;
    sort(&mut ids.nums);
    sort(&mut ids.uuids);
    let once = each_once(&ids.nums) && each_once(&ids.uuids);
    Ok(once.then_some(ids))
}

/// The ids of a segment that is added to; none if anything is not as a sound writer leaves it.
fn of_mutable(folder: &Path) -> Result<Option<Ids>> {
    let path = folder.join(mutable::MAPPINGS);
    let (Some(mappings), Some(versions)) = (size(&path)?, size(&folder.join(mutable::VERSIONS))?)
    else {
        return Ok(None);
    };
    // Of another form there is nothing beside it.
    let others = [immutable::VERSIONS, immutable::DELETED];
    if others.iter().any(|name| folder.join(name).exists()) {
        return Ok(None);
    }
    // No offset without a record that gives it away, and none without a version.
    let total = versions / 8;
    let fits = mappings < u64::from(NOWHERE)
        && (1..=mappings / mutable::RECORD_BYTES_MIN).contains(&total)
        && versions % 8 == 0;
    let Some(total) = u32::try_from(total).ok().filter(|_| fits) else {
        return Ok(None);
    };
    let mut ids = Ids {
        is_mutable: true,
        total,
        ..Ids::default()
    };
    // The record that gave an offset away last.
    let mut given = vec![NOWHERE; total as usize];
    let mut order = 0;
    let mut within = true;
    let mut step = |rest: &mut &[u8]| -> Option<()> {
        match mutable::next(rest).ok()?? {
            Change::Insert(id, offset) => {
                match given.get_mut(offset as usize) {
                    Some(last) => *last = order,
                    None => within = false,
                }
                ids.push(id, order, offset);
            }
            Change::Delete(id) => ids.push(id, order, NOWHERE),
        }
        order += 1;
        Some(())
    };
    let whole = each_record(&path, &mut step)?;
    // More versions than offsets are nothing that the engine would make.
    if !whole || !within || given.last() == Some(&NOWHERE) {
        return Ok(None);
    }
    sort(&mut ids.nums);
    sort(&mut ids.uuids);
    keep_heads(&mut ids.nums, &given);
    keep_heads(&mut ids.uuids, &given);
    Ok(Some(ids))
}

/// By id, and of one id the last record first.
fn sort<K: Ord + Copy>(mapped: &mut [Mapped<K>]) {
    mapped.sort_unstable_by_key(|mapped| (mapped.key, Reverse(mapped.order)));
}

fn each_once<K: PartialEq>(mapped: &[Mapped<K>]) -> bool {
    let mut pairs = mapped.windows(2);
    !pairs.any(|pair| matches!(pair, [a, b] if a.key == b.key))
}

/// Keeps of each id what its last record says, and of that only what is still so: an offset may have
/// been `given` to another since.
fn keep_heads<K: PartialEq + Copy>(mapped: &mut Vec<Mapped<K>>, given: &[u32]) {
    mapped.dedup_by_key(|mapped| mapped.key);
    mapped.retain(|mapped| given.get(mapped.offset as usize) == Some(&mapped.order));
}

/// The size of a file; none if there is none.
fn size(path: &Path) -> Result<Option<u64>> {
    match path.metadata() {
        Ok(meta) => Ok(Some(meta.len())),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(Error::io("reading", path, &err)),
    }
}

/// Has `step` take records off the content of the file at `path` until it finds none. Returns whether
/// they were all of it.
fn each_record(path: &Path, step: &mut dyn FnMut(&mut &[u8]) -> Option<()>) -> Result<bool> {
    let failed = |err: std::io::Error| Error::io("reading", path, &err);
    let mut file = File::open(path).map_err(failed)?;
    let mut buffer = Vec::new();
    loop {
        let mut chunk = Read::by_ref(&mut file).take(CHUNK_BYTES);
        let got = chunk.read_to_end(&mut buffer).map_err(failed)?;
        let mut rest = buffer.as_slice();
        loop {
            let before = rest;
            if step(&mut rest).is_none() {
                rest = before;
                break;
            }
        }
        let left = rest.len();
        if got == 0 || left as u64 > CHUNK_BYTES {
            return Ok(left == 0);
        }
        buffer.drain(..buffer.len() - left);
    }
}

impl Ids {
    fn push(&mut self, id: PointId, order: u32, offset: u32) {
        match id {
            PointId::Num(key) => self.nums.push(Mapped { key, order, offset }),
            PointId::Uuid(key) => self.uuids.push(Mapped { key, order, offset }),
        }
    }

    /// Writes the files; it has them sorted by id.
    fn write(&mut self, folder: &Path) -> Result<()> {
        file(folder, E2I, |to| self.write_e2i(to))?;
        self.nums.sort_unstable_by_key(|mapped| mapped.offset);
        self.uuids.sort_unstable_by_key(|mapped| mapped.offset);
        file(folder, IS_UUID, |to| self.write_is_uuid(to))?;
        if self.is_mutable {
            file(folder, immutable::DELETED, |to| self.write_deleted(to))?;
            let (from, to) = (
                folder.join(mutable::VERSIONS),
                folder.join(immutable::VERSIONS),
            );
            std::fs::copy(&from, &to).map_err(|err| Error::io("copying", &from, &err))?;
        }
        // By this one the engine knows the form.
        file(folder, I2E, |to| self.write_i2e(to))
    }

    /// `store_i2e`; the place of a deleted point, which nobody looks at, stays 0.
    fn write_i2e(&self, to: &mut dyn Write) -> std::io::Result<()> {
        to.write_all(&I2E_MAGIC.to_le_bytes())?;
        to.write_all(&FORMAT_VERSION.to_le_bytes())?;
        to.write_all(&[0; 4])?;
        to.write_all(&u64::from(self.total).to_le_bytes())?;
        to.write_all(&[0; 8])?;
        let (mut nums, mut uuids) = (self.nums.iter().peekable(), self.uuids.iter().peekable());
        for offset in 0..self.total {
            let key = match nums.next_if(|mapped| mapped.offset == offset) {
                Some(mapped) => u128::from(mapped.key),
                None => uuids
                    .next_if(|mapped| mapped.offset == offset)
                    .map_or(0, |mapped| mapped.key.as_u128()),
            };
            to.write_all(&key.to_le_bytes())?;
        }
        Ok(())
    }

    /// `store_e2i`: for each kind of id the first of every block, then all with their offsets.
    fn write_e2i(&self, to: &mut dyn Write) -> std::io::Result<()> {
        let (nums, uuids) = (self.nums.as_slice(), self.uuids.as_slice());
        to.write_all(&E2I_MAGIC.to_le_bytes())?;
        to.write_all(&FORMAT_VERSION.to_le_bytes())?;
        to.write_all(&[0; 4])?;
        to.write_all(&(nums.len() as u64).to_le_bytes())?;
        to.write_all(&(uuids.len() as u64).to_le_bytes())?;
        to.write_all(&BLOCK_RECORDS.to_le_bytes())?;
        to.write_all(&BLOCK_RECORDS.to_le_bytes())?;
        to.write_all(&[0; 8])?;
        let blocks = nums.len().div_ceil(BLOCK_RECORDS as usize) as u64;
        for first in nums.iter().step_by(BLOCK_RECORDS as usize) {
            to.write_all(&first.key.to_le_bytes())?;
        }
        pad(to, E2I_HEADER_BYTES + blocks * 8)?;
        for first in uuids.iter().step_by(BLOCK_RECORDS as usize) {
            to.write_all(&first.key.as_u128().to_le_bytes())?;
        }
        for num in nums {
            to.write_all(&num.key.to_le_bytes())?;
            to.write_all(&num.offset.to_le_bytes())?;
        }
        // All sections before begin where a multiple of 16 does.
        pad(to, nums.len() as u64 * NUM_RECORD_BYTES)?;
        for uuid in uuids {
            to.write_all(&uuid.key.as_u128().to_le_bytes())?;
            to.write_all(&uuid.offset.to_le_bytes())?;
        }
        Ok(())
    }

    /// A stored bitmask, in its plain encoding (stored_bitmask/format.rs).
    fn write_is_uuid(&self, to: &mut dyn Write) -> std::io::Result<()> {
        let mut bits = bits(self.total);
        for uuid in &self.uuids {
            flip(&mut bits, uuid.offset);
        }
        to.write_all(b"QBMK")?;
        to.write_all(&1_u32.to_le_bytes())?;
        to.write_all(&u64::from(self.total).to_le_bytes())?;
        to.write_all(&[0; 8])?;
        to.write_all(&(bits.len() as u64).to_le_bytes())?;
        to.write_all(&bits)
    }

    /// A bit for every offset where no point lives.
    fn write_deleted(&self, to: &mut dyn Write) -> std::io::Result<()> {
        let mut bits = bits(self.total);
        for offset in 0..self.total {
            flip(&mut bits, offset);
        }
        let offsets = self.nums.iter().map(|mapped| mapped.offset);
        for offset in offsets.chain(self.uuids.iter().map(|mapped| mapped.offset)) {
            flip(&mut bits, offset);
        }
        to.write_all(&bits)
    }
}

/// A bit for each of `total` offsets, in whole words of 8 bytes.
fn bits(total: u32) -> Vec<u8> {
    vec![0; total.div_ceil(64) as usize * 8]
}

fn flip(bits: &mut [u8], offset: u32) {
    if let Some(byte) = bits.get_mut(offset as usize / 8) {
        *byte ^= 1 << (offset % 8);
    }
}

/// Zeros from byte `end` up to a multiple of 16.
fn pad(to: &mut dyn Write, end: u64) -> std::io::Result<()> {
    (end..end.next_multiple_of(16)).try_for_each(|_| to.write_all(&[0]))
}

fn file(
    folder: &Path,
    name: &str,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let path = folder.join(name);
    let failed = |err: std::io::Error| Error::io("writing", &path, &err);
    let mut to = BufWriter::new(File::create(&path).map_err(failed)?);
    write(&mut to).and_then(|()| to.flush()).map_err(failed)
}

#[cfg(test)]
mod tests;
