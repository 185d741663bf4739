//! The frames of one log file, and nothing of what is in them.
//!
//! A file is `wal`, a zero, and a seed of four bytes; then entries: length in eight bytes, data,
//! zeros up to four bytes past a multiple of eight, checksum in four (lib/wal/src/segment.rs).
//! Numbers are little-endian. Each checksum goes on from the one before, so an entry left over
//! from earlier use of the file cannot pass. Invariants: reading stops where the engine stops, at
//! the first entry that does not fit or whose checksum is wrong; the length of an entry is not
//! believed before its checksum, and buffers grow with what was really read.

use std::io::{ErrorKind, Read};

const HEADER_BYTES: u64 = 8;
const LENGTH_BYTES: u64 = 8;
const CRC_BYTES: u64 = 4;

/// Above this, an entry is counted and checked but not handed over, so that no file decides how
/// much memory is used. A server takes at most 32 MiB over REST, and more over gRPC only if its
/// client splits nothing.
const DATA_BYTES_MAX: u64 = 512 * 1024 * 1024;

const CHUNK_BYTES: usize = 64 * 1024;

/// Why reading stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// At the end of the file, or at zeros.
    Clean,
    /// At something else, at this byte of the file.
    Torn(u64),
}

#[derive(Debug)]
pub(super) enum ScanError {
    Io(std::io::Error),
    Damaged(String),
}

impl From<std::io::Error> for ScanError {
    fn from(err: std::io::Error) -> Self {
        match err.kind() {
            ErrorKind::UnexpectedEof => {
                Self::Damaged("it is cut off: it ends before its size".to_owned())
            }
            _ => Self::Io(err),
        }
    }
}

/// Hands every entry of a file of `size` bytes to `each`: its length, and its data unless there is
/// too much of it.
pub(super) fn scan(
    mut reader: impl Read,
    size: u64,
    mut each: impl FnMut(u64, Option<&[u8]>),
) -> Result<Stop, ScanError> {
    if size < HEADER_BYTES {
        return Err(ScanError::Damaged(format!(
            "{size} bytes are no file of a log"
        )));
    }
    let mut header = [0; 8];
    reader.read_exact(&mut header)?;
    let [b'w', b'a', b'l', 0, seed @ ..] = header else {
        let why = "it does not begin as a file of a log does, or is of a newer version";
        return Err(ScanError::Damaged(why.to_owned()));
    };

    let capacity = size & !7;
    let mut crc = u32::from_le_bytes(seed);
    let mut at = HEADER_BYTES;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut data = Vec::new();
    while capacity - at > LENGTH_BYTES + CRC_BYTES {
        let mut length = [0; 8];
        reader.read_exact(&mut length)?;
        let len = u64::from_le_bytes(length);
        let padded_len = len.checked_add(padding(len));
        let end = padded_len
            .and_then(|len| len.checked_add(at + LENGTH_BYTES + CRC_BYTES))
            .filter(|end| *end <= capacity);
        let (Some(padded_len), Some(end)) = (padded_len, end) else {
            return Ok(Stop::Torn(at));
        };

        // The complement and the reversal are the engine's own; they make the chain.
        let crc_of_length = crc32c::crc32c_append(!crc.reverse_bits(), &length);
        let crc_of_all = read_data(
            &mut reader,
            padded_len,
            crc_of_length,
            &mut chunk,
            &mut data,
        )?;
        let mut stored = [0; 4];
        reader.read_exact(&mut stored)?;
        let stored = u32::from_le_bytes(stored);
        if crc_of_all != stored {
            let untouched = len == 0 && stored == 0;
            return Ok(if untouched {
                Stop::Clean
            } else {
                Stop::Torn(at)
            });
        }
        crc = crc_of_all;
        at = end;
        let kept = usize::try_from(len).ok().and_then(|len| data.get(..len));
        each(len, kept.filter(|_| len <= DATA_BYTES_MAX));
    }
    Ok(Stop::Clean)
}

/// The beginning of a file without entries, and what its first entry's checksum goes on from.
pub(super) fn begin() -> (Vec<u8>, u32) {
    (b"wal\0\0\0\0\0".to_vec(), 0)
}

/// Adds an entry with `data` to a file whose last checksum is `crc`; returns the entry's.
pub(super) fn append(file: &mut Vec<u8>, crc: u32, data: &[u8]) -> u32 {
    let start = file.len();
    let len = data.len() as u64;
    file.extend(len.to_le_bytes());
    file.extend(data);
    let padded = len.saturating_add(padding(len));
    file.resize(
        start + LENGTH_BYTES as usize + usize::try_from(padded).unwrap_or(0),
        0,
    );
    let entry = file.get(start..).unwrap_or_default();
    let crc = crc32c::crc32c_append(!crc.reverse_bits(), entry);
    file.extend(crc.to_le_bytes());
    crc
}

/// Reads `len` bytes, adds them to `crc`, and leaves the first [`DATA_BYTES_MAX`] of them, more or
/// less, in `data`.
fn read_data(
    reader: &mut impl Read,
    len: u64,
    mut crc: u32,
    chunk: &mut [u8],
    data: &mut Vec<u8>,
) -> Result<u32, ScanError> {
    data.clear();
    let mut left = len;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        let Some(chunk) = chunk.get_mut(..now).filter(|chunk| !chunk.is_empty()) else {
            break;
        };
        reader.read_exact(chunk)?;
        crc = crc32c::crc32c_append(crc, chunk);
        if len <= DATA_BYTES_MAX + LENGTH_BYTES {
            data.extend_from_slice(chunk);
        }
        left -= now as u64;
    }
    Ok(crc)
}

/// Returns the number of zeros that follow data of `len` bytes, so that a checksum of four bytes
/// ends at a multiple of eight.
fn padding(len: u64) -> u64 {
    4_u64.wrapping_sub(len) & 7
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file with `records`, as the engine writes it, and `spare` zeros at its end.
    pub(in crate::format::wal) fn file(seed: u32, records: &[Vec<u8>], spare: usize) -> Vec<u8> {
        let mut bytes = b"wal\0".to_vec();
        bytes.extend(seed.to_le_bytes());
        let mut crc = seed;
        for record in records {
            let start = bytes.len();
            let len = u64::try_from(record.len()).expect("short");
            bytes.extend(len.to_le_bytes());
            bytes.extend(record);
            while bytes.len() % 8 != 4 {
                bytes.push(0);
            }
            crc = crc32c::crc32c_append(!crc.reverse_bits(), &bytes[start..]);
            bytes.extend(crc.to_le_bytes());
        }
        bytes.resize(bytes.len() + spare, 0);
        bytes
    }

    fn scanned(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, Stop), ScanError> {
        let mut records = Vec::new();
        let size = u64::try_from(bytes.len()).expect("short");
        let stop = scan(bytes, size, |len, data| {
            let data = data.expect("short enough");
            assert_eq!(u64::try_from(data.len()).expect("short"), len);
            records.push(data.to_vec());
        })?;
        Ok((records, stop))
    }

    fn records() -> Vec<Vec<u8>> {
        (0..20).map(|len| vec![0xa5; len]).collect()
    }

    #[test]
    fn every_length_of_entry_is_read_back() {
        for spare in [0, 8, 12, 4096] {
            let (read, stop) = scanned(&file(0xdead_beef, &records(), spare)).expect("reads");
            assert_eq!((read, stop), (records(), Stop::Clean), "{spare} spare");
        }
        let long = vec![vec![1; 3 * CHUNK_BYTES + 5]];
        assert_eq!(scanned(&file(0, &long, 16)).expect("reads").0, long);
    }

    #[test]
    fn bytes_written_by_a_server_are_read() {
        // The beginning of a log of 1.18.3: one upsert of no points.
        let mut bytes = vec![
            0x77, 0x61, 0x6c, 0x00, 0x05, 0x49, 0xb5, 0x01, 0x19, 0, 0, 0, 0, 0, 0, 0, 0xbf,
        ];
        bytes.extend(b"mupsert_points\xa1fpoints\x80\xff\0\0\0\xc2\xaf\x38\x54");
        bytes.extend([0; 32]);
        let (read, stop) = scanned(&bytes).expect("reads");
        assert_eq!((read.len(), stop), (1, Stop::Clean));
        assert_eq!(read[0], b"\xbfmupsert_points\xa1fpoints\x80\xff");
    }

    #[test]
    fn an_entry_of_another_chain_ends_the_log() {
        let first = file(1, &records()[3..4], 0);
        let second = file(2, &records()[4..6], 0);
        let bytes = [&first[..], &second[8..]].concat();
        let at = u64::try_from(first.len()).expect("short");
        let (read, stop) = scanned(&bytes).expect("reads");
        assert_eq!((read.len(), stop), (1, Stop::Torn(at)));
    }

    #[test]
    fn a_flipped_bit_ends_the_log_before_its_entry() {
        let sample = records()[5..9].to_vec();
        let whole = file(9, &sample, 32);
        let used = whole.len() - 32;
        for at in 8..used {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            let (read, stop) = scanned(&bytes).expect("reads");
            assert!(read.len() < sample.len(), "byte {at}");
            assert_eq!(read, sample[..read.len()], "byte {at}");
            assert!(matches!(stop, Stop::Torn(_)), "byte {at}");
        }
    }

    #[test]
    fn every_cut_gives_the_entries_that_are_whole() {
        let sample = records()[..6].to_vec();
        let whole = file(9, &sample, 0);
        let mut counts = Vec::new();
        for len in 0..=whole.len() {
            match scanned(&whole[..len]) {
                Ok((read, _)) => {
                    assert_eq!(read, sample[..read.len()]);
                    counts.push(read.len());
                }
                Err(ScanError::Damaged(_)) => assert!(len < 8, "cut at {len}"),
                Err(ScanError::Io(err)) => panic!("{err}"),
            }
        }
        assert!(counts.is_sorted());
        counts.dedup();
        assert_eq!(counts, [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_length_beyond_the_file_is_not_believed() {
        for len in [u64::MAX, u64::MAX - 11, 1 << 40, 65] {
            let mut bytes = file(0, &[], 64);
            bytes[8..16].copy_from_slice(&len.to_le_bytes());
            assert_eq!(scanned(&bytes).expect("reads"), (vec![], Stop::Torn(8)));
        }
    }
}
