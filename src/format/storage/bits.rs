//! Flags by a point's offset: which vectors a storage takes for deleted.
//!
//! It is lib/segment/src/common/flags/dynamic_stored_flags.rs (`dynamic_mmap_flags.rs` before 1.15):
//! a file with how many there are, and one with a bit each, the lowest first.
//!
//! Invariants: memory is a bit for each offset up to the highest that was set.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::base::error::{Error, Result};
use crate::base::scratch;

/// The smallest file of flags, in bytes.
const FILE_BYTES_MIN: u64 = 1 << 20;
/// Number of flags, and the file that has them: 0, since there is one only.
const STATUS: &str = "status.dat";
const FLAGS: &str = "flags_a.dat";

/// A set of offsets.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Bits {
    bytes: Vec<u8>,
    count: u64,
}

impl Bits {
    /// A set of these offsets.
    pub fn of(offsets: impl IntoIterator<Item = u32>) -> Self {
        let mut bits = Self::default();
        for offset in offsets {
            bits.add(offset);
        }
        bits
    }

    /// The first `length` of the flags in `bytes`, the lowest bit of each byte first. What lies behind them is nobody's.
    pub(super) fn from_bytes(bytes: &[u8], length: u64) -> Self {
        let end = usize::try_from(length.div_ceil(8)).unwrap_or(usize::MAX);
        let mut bytes = bytes.get(..end).unwrap_or(bytes).to_vec();
        if let (true, Some(last), rest @ 1..) = (bytes.len() == end, bytes.last_mut(), length % 8) {
            *last &= (1 << rest) - 1;
        }
        let count = bytes.iter().map(|byte| u64::from(byte.count_ones())).sum();
        Self { bytes, count }
    }

    /// The offsets, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let bytes = (0_u32..).zip(&self.bytes).filter(|(_, byte)| **byte != 0);
        bytes.flat_map(|(at, byte)| {
            let set = (0..8).filter(move |bit| byte >> bit & 1 != 0);
            set.map(move |bit| at * 8 + bit)
        })
    }

    /// Adds `offset`; returns whether it was not there before.
    pub fn add(&mut self, offset: u32) -> bool {
        let (at, mask) = place(offset);
        if at >= self.bytes.len() {
            self.bytes.resize(at + 1, 0);
        }
        let Some(byte) = self.bytes.get_mut(at) else {
            return false;
        };
        let is_new = *byte & mask == 0;
        *byte |= mask;
        self.count += u64::from(is_new);
        is_new
    }

    /// Returns true if `offset` is in the set.
    pub fn has(&self, offset: u32) -> bool {
        let (at, mask) = place(offset);
        self.bytes.get(at).is_some_and(|byte| byte & mask != 0)
    }

    /// Returns the number of offsets in the set.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// One more than the highest.
    pub fn end(&self) -> u64 {
        let last = self.bytes.iter().rposition(|byte| *byte != 0);
        let end = last.and_then(|at| {
            let highest = 8 - self.bytes.get(at)?.leading_zeros();
            Some(at as u64 * 8 + u64::from(highest))
        });
        end.unwrap_or(0)
    }
}

fn place(offset: u32) -> (usize, u8) {
    (offset as usize / 8, 1 << (offset % 8))
}

/// Writes flags for `length` offsets into `folder`, which is made: those of `bits` are set.
pub fn write_flags(folder: &Path, length: u64, bits: &Bits) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|err| Error::io("making scratch folder", folder, &err))?;
    let length = length.max(bits.end());
    let write = |name: &str, bytes: &[u8], size: u64| {
        let path = folder.join(name);
        let mut file = scratch::create(&path)?;
        let written = file.write_all(bytes).and_then(|()| file.set_len(size));
        written.map_err(|err| Error::io("writing", &path, &err))
    };
    // Number of flags, and which of two files is meant; there is one since 1.8.
    let status: Vec<u8> = [length, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
    write(STATUS, &status, status.len() as u64)?;
    let bytes = length.div_ceil(8).next_power_of_two().max(FILE_BYTES_MIN);
    write(FLAGS, &bits.bytes, bytes)
}

/// The flags in `folder` that are set; none if they are not of the form that [`write_flags`] writes.
pub fn read_flags(folder: &Path) -> Result<Option<Bits>> {
    let failed = |err: std::io::Error| Error::io("reading flags in", folder, &err);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if ![STATUS, FLAGS].iter().any(|known| name == *known) {
            return Ok(None);
        }
    }
    let status = std::fs::read(folder.join(STATUS)).map_err(failed)?;
    let words: Vec<u64> = (status.as_chunks().0.iter())
        .map(|word| u64::from_le_bytes(*word))
        .collect();
    let (Some([length, 0]), Ok(file)) = (words.get(..2), File::open(folder.join(FLAGS))) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let read = file.take(length.div_ceil(8)).read_to_end(&mut bytes);
    if read.map_err(failed)? as u64 != length.div_ceil(8) {
        return Ok(None);
    }
    Ok(Some(Bits::from_bytes(&bytes, *length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_knows_what_is_in_it() {
        let mut bits = Bits::default();
        assert_eq!((bits.count(), bits.end(), bits.has(3)), (0, 0, false));
        for offset in [3, 9, 9, 0] {
            bits.add(offset);
        }
        assert_eq!((bits.count(), bits.end()), (3, 10));
        let there: Vec<u32> = (0..99).filter(|offset| bits.has(*offset)).collect();
        assert_eq!(there, [0, 3, 9]);
        assert!(bits.iter().eq(there));
        assert_eq!(Bits::of([7, 80_000]).iter().last(), Some(80_000));
        assert!(!bits.has(u32::MAX));
        assert!(!bits.add(9) && bits.add(7));
        assert_eq!((bits.count(), bits.end()), (4, 10));
    }

    #[test]
    fn flags_have_the_engines_form() {
        let folder = tempfile::tempdir().unwrap();
        let mut bits = Bits::default();
        bits.add(9);
        write_flags(folder.path(), 12, &bits).unwrap();
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        assert_eq!(
            read("status.dat"),
            [12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        let flags = read("flags_a.dat");
        assert_eq!(flags.len(), 1 << 20);
        assert_eq!(flags[..3], [0, 2, 0]);
        assert_eq!(read_flags(folder.path()).unwrap().unwrap(), {
            let mut read = bits.clone();
            read.bytes.resize(2, 0);
            read
        });
        // A flag behind the last, and a form that is another.
        std::fs::write(folder.path().join(FLAGS), [0, 0xF2]).unwrap();
        assert_eq!(read_flags(folder.path()).unwrap().unwrap().count(), 1);
        std::fs::write(folder.path().join(STATUS), [12, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(read_flags(folder.path()).unwrap(), None);
    }
}
