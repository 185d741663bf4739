//! Values of any length by a point's offset: lib/gridstore, with payload and sparse vectors.
//!
//! A value lies in blocks of 128 bytes in pages of 32 MiB; `tracker.dat` says where (after 4 bytes for
//! the next offset, 16 bytes each: whether there is one, page, block, length), `bitmask.dat` which
//! blocks are used, a bit each, and `gaps.dat` what is free in each region of 8,192 blocks: the
//! longest run, the one at the beginning, and the one at the end, 2 bytes each.
//!
//! Invariants: a value that fits into a page lies in one, since servers before 1.14 read no other; values
//! come in any order, each offset once.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::lz4;
use crate::base::error::{Error, Result};
use crate::base::scratch;

const BLOCK_BYTES: u64 = 128;
const PAGE_BYTES: u64 = 32 << 20;
const PAGE_BLOCKS: u64 = PAGE_BYTES / BLOCK_BYTES;
const REGION_BLOCKS: u64 = 8192;
pub(super) const TRACKER_HEADER_BYTES: u64 = 4;
pub(super) const TRACKER_ENTRY_BYTES: u64 = 16;
const TRACKER_BYTES_MIN: u64 = 1 << 20;
/// Bytes that are written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Writes values.
#[derive(Debug)]
pub struct GridstoreWriter {
    folder: PathBuf,
    is_packed: bool,
    tracker: File,
    page: BufWriter<File>,
    /// The number of the page.
    number: u64,
    /// Blocks used of it.
    used: u64,
    /// Blocks used of the pages before.
    full: Vec<u64>,
    /// One more than the highest offset.
    end: u64,
}

impl GridstoreWriter {
    /// Writes into `folder`, which is made, values as they are.
    pub fn new(folder: &Path) -> Result<Self> {
        Self::start(folder, false)
    }

    /// The same, with every value compressed by LZ4, as servers store payload.
    pub fn packed(folder: &Path) -> Result<Self> {
        Self::start(folder, true)
    }

    fn start(folder: &Path, is_packed: bool) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .map_err(|err| Error::io("making scratch folder", folder, &err))?;
        Ok(Self {
            tracker: scratch::create(&folder.join("tracker.dat"))?,
            page: page(folder, 0)?,
            folder: folder.to_owned(),
            is_packed,
            number: 0,
            used: 0,
            full: Vec::new(),
            end: 0,
        })
    }

    /// Writes the value of `offset`; there is no empty value.
    pub fn write(&mut self, offset: u32, value: &[u8]) -> Result<()> {
        let packed = match self.is_packed && u32::try_from(value.len()).is_ok() {
            true => lz4::pack(value),
            false => Vec::new(),
        };
        let value = if self.is_packed && !value.is_empty() {
            &packed
        } else {
            value
        };
        let failed = |folder: &Path, err: std::io::Error| Error::io("writing", folder, &err);
        let Some(length) = u32::try_from(value.len()).ok().filter(|length| *length > 0) else {
            let why = format!("a value of {} bytes", value.len());
            return Err(Error::failed(
                format!("writing {}", self.folder.display()),
                why,
            ));
        };
        let blocks = u64::from(length).div_ceil(BLOCK_BYTES);
        if self.used > 0 && self.used + blocks > PAGE_BLOCKS {
            self.turn()?;
        }
        let (page, block) = (self.number, self.used);
        let mut rest = value;
        loop {
            let room = (PAGE_BLOCKS - self.used) * BLOCK_BYTES;
            let part = rest.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let (now, later) = rest.split_at(part);
            let blocks = (part as u64).div_ceil(BLOCK_BYTES);
            let padding = blocks * BLOCK_BYTES - part as u64;
            let zeros = [0; BLOCK_BYTES as usize];
            let padding = zeros.get(..padding as usize).unwrap_or_default();
            (self
                .page
                .write_all(now)
                .and_then(|()| self.page.write_all(padding)))
            .map_err(|err| failed(&self.folder, err))?;
            self.used += blocks;
            rest = later;
            if rest.is_empty() {
                break;
            }
            self.turn()?;
        }
        let mut entry = Vec::with_capacity(TRACKER_ENTRY_BYTES as usize);
        for word in [1, page as u32, block as u32, length] {
            entry.extend_from_slice(&word.to_le_bytes());
        }
        let at = TRACKER_HEADER_BYTES + TRACKER_ENTRY_BYTES * u64::from(offset);
        (self.tracker.write_all_at(&entry, at)).map_err(|err| failed(&self.folder, err))?;
        self.end = self.end.max(u64::from(offset) + 1);
        Ok(())
    }

    /// Ends the page and begins the next.
    fn turn(&mut self) -> Result<()> {
        self.end_page()?;
        self.full.push(std::mem::take(&mut self.used));
        self.number += 1;
        self.page = page(&self.folder, self.number)?;
        Ok(())
    }

    fn end_page(&mut self) -> Result<()> {
        let ended = self.page.flush();
        (ended.and_then(|()| self.page.get_ref().set_len(PAGE_BYTES)))
            .map_err(|err| Error::io("writing", &self.folder, &err))
    }

    /// Ends it.
    pub fn finish(mut self) -> Result<()> {
        self.end_page()?;
        self.full.push(self.used);
        let entries = TRACKER_HEADER_BYTES + TRACKER_ENTRY_BYTES * self.end;
        let size = entries.next_power_of_two().max(TRACKER_BYTES_MIN);
        // An offset is 32 bits.
        let header = (self.end as u32).to_le_bytes();
        (self.tracker.write_all_at(&header, 0))
            .and_then(|()| self.tracker.set_len(size))
            .map_err(|err| Error::io("writing", &self.folder, &err))?;
        let (mut bitmask, mut gaps) = (Vec::new(), Vec::new());
        for used in &self.full {
            bitmask
                .extend((0..PAGE_BLOCKS / 8).map(|byte| low_bits(used.saturating_sub(byte * 8))));
            for region in 0..PAGE_BLOCKS / REGION_BLOCKS {
                let used = used
                    .saturating_sub(region * REGION_BLOCKS)
                    .min(REGION_BLOCKS);
                let free = (REGION_BLOCKS - used) as u16;
                let first = if used == 0 { free } else { 0 };
                gaps.extend([free, first, free].iter().flat_map(|n| n.to_le_bytes()));
            }
        }
        let config = json!({
            "page_size_bytes": PAGE_BYTES,
            "block_size_bytes": BLOCK_BYTES,
            "region_size_blocks": REGION_BLOCKS,
            "compression": if self.is_packed { "LZ4" } else { "None" },
        });
        for (name, bytes) in [
            ("bitmask.dat", bitmask),
            ("gaps.dat", gaps),
            ("config.json", config.to_string().into_bytes()),
        ] {
            let path = self.folder.join(name);
            let written = scratch::create(&path)?.write_all(&bytes);
            written.map_err(|err| Error::io("writing", &path, &err))?;
        }
        Ok(())
    }
}

/// A byte with its lowest `count` bits set, or all.
fn low_bits(count: u64) -> u8 {
    match count {
        0..8 => (1_u8 << count) - 1,
        _ => u8::MAX,
    }
}

fn page(folder: &Path, number: u64) -> Result<BufWriter<File>> {
    let file = scratch::create(&folder.join(format!("page_{number}.dat")))?;
    Ok(BufWriter::with_capacity(BUFFER_BYTES, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of `offset`, as lib/gridstore finds it.
    fn read(folder: &Path, offset: usize) -> Option<Vec<u8>> {
        let file = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let tracker = file("tracker.dat");
        let entry = &tracker[4 + offset * 16..][..16];
        let word =
            |at: usize| u32::from_le_bytes(entry[at * 4..][..4].try_into().unwrap()) as usize;
        if word(0) == 0 {
            return None;
        }
        let (mut page, block, mut left) = (word(1), word(2), word(3));
        let (mut value, mut start) = (Vec::new(), block * 128);
        while left > 0 {
            let bytes = file(&format!("page_{page}.dat"));
            let part = left.min(bytes.len() - start);
            value.extend_from_slice(&bytes[start..][..part]);
            (left, page, start) = (left - part, page + 1, 0);
        }
        Some(value)
    }

    #[test]
    fn values_lie_where_the_engine_looks_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = GridstoreWriter::new(folder.path()).unwrap();
        let value = |byte: u8, length: usize| vec![byte; length];
        let values = [
            (5, value(1, 1)),
            (0, value(2, 128)),
            (9, value(3, 129)),
            // The first does not fit into what is left of the page, the next into none.
            (2, value(4, (32 << 20) - 128)),
            (3, value(5, (32 << 20) + 1)),
            (4, value(6, 200)),
        ];
        for (offset, value) in &values {
            writer.write(*offset, value).unwrap();
        }
        assert!(writer.write(7, &[]).is_err());
        writer.finish().unwrap();
        for offset in 0..12 {
            let wanted = values.iter().find(|(at, _)| *at == offset);
            let wanted = wanted.map(|(_, value)| value.clone());
            assert!(read(folder.path(), offset as usize) == wanted, "{offset}");
        }
        let file = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        assert_eq!(file("tracker.dat").len(), 1 << 20);
        assert_eq!(file("tracker.dat")[..4], 10_u32.to_le_bytes());
        // Pages: three small values; one of a page but a block; one that ends in the page after.
        let bitmask = file("bitmask.dat");
        assert_eq!(bitmask.len(), 4 * 32 * 1024);
        let ones = |page: usize| -> u32 {
            let bytes = &bitmask[page * 32768..][..32768];
            bytes.iter().map(|byte| byte.count_ones()).sum()
        };
        assert_eq!([0, 1, 2, 3].map(ones), [4, 262_143, 262_144, 3]);
        assert_eq!(bitmask[0], 0b1111);
        let gaps = file("gaps.dat");
        assert_eq!(gaps.len(), 4 * 32 * 6);
        let gap = |region: usize| -> Vec<u16> {
            let bytes = &gaps[region * 6..][..6];
            bytes
                .chunks(2)
                .map(|two| u16::from_le_bytes([two[0], two[1]]))
                .collect()
        };
        assert_eq!(gap(0), [8188, 0, 8188]);
        assert_eq!(gap(1), [8192, 8192, 8192]);
        assert_eq!(gap(63), [1, 0, 1]);
        assert_eq!(gap(64), [0, 0, 0]);
        assert_eq!(gap(96), [8189, 0, 8189]);
    }
}
