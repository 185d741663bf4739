//! Records one after the other in a file: each with its length and a checksum before it.
//!
//! Invariants: what is read is what was written, or an error; no more memory is taken than the longest record is said
//! to need.

use std::io::{BufRead, Read as _, Write};

use crate::base::error::{Error, Result};
use crate::point::Record;

/// A record, and the number of the collection that it goes to.
pub type Placed = (u32, Record);

/// Bytes before a record: its length, and its CRC-32C.
const HEAD_BYTES: u64 = 8 + 4;

/// Writes `placed` to `out`, with `buffer` as scratch. Returns the bytes that it takes there.
pub fn write_frame(
    placed: &Placed,
    out: &mut dyn Write,
    buffer: &mut Vec<u8>,
    failed: &dyn Fn(std::io::Error) -> Error,
) -> Result<u64> {
    let (collection, record) = placed;
    buffer.clear();
    buffer.extend_from_slice(&collection.to_le_bytes());
    let stored = record.store(buffer);
    stored.map_err(|why| Error::failed(format!("sorting point {}", record.id), why))?;
    let length = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
    out.write_all(&length.to_le_bytes()).map_err(failed)?;
    out.write_all(&crc32c::crc32c(buffer).to_le_bytes())
        .map_err(failed)?;
    out.write_all(buffer).map_err(failed)?;
    Ok(HEAD_BYTES + length)
}

/// Reads the next record of `file`; none at its end. One that takes more than `bytes_max` bytes there was never
/// written. `failed` tells of what could not be read, and `wrong` of what is not as it was written.
pub fn read_frame(
    file: &mut dyn BufRead,
    bytes_max: u64,
    failed: &dyn Fn(std::io::Error) -> Error,
    wrong: &dyn Fn(&str) -> Error,
) -> Result<Option<Placed>> {
    if file.fill_buf().map_err(failed)?.is_empty() {
        return Ok(None);
    }
    let cut = |err: std::io::Error| match err.kind() {
        std::io::ErrorKind::UnexpectedEof => wrong("the last one is cut off"),
        _ => failed(err),
    };
    let (mut length, mut checksum) = ([0; 8], [0; 4]);
    file.read_exact(&mut length).map_err(cut)?;
    file.read_exact(&mut checksum).map_err(cut)?;
    let length = u64::from_le_bytes(length);
    if length > bytes_max.saturating_sub(HEAD_BYTES) {
        return Err(wrong("one is longer than any that was written"));
    }
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 != length {
        return Err(wrong("the last one is cut off"));
    }
    if crc32c::crc32c(&bytes) != u32::from_le_bytes(checksum) {
        return Err(wrong("a checksum is another"));
    }
    let (collection, record) = bytes
        .split_first_chunk()
        .ok_or_else(|| wrong("one is empty"))?;
    let record = Record::restore(record).map_err(|why| wrong(&why))?;
    Ok(Some((u32::from_le_bytes(*collection), record)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::{PointId, Vector};

    #[test]
    fn what_was_written_is_read_and_what_was_changed_is_not() {
        let failed = |err: std::io::Error| Error::failed("testing", err);
        let wrong = |why: &str| Error::damaged("testing", why);
        let (mut file, mut buffer) = (Vec::new(), Vec::new());
        let mut ends = vec![0];
        let mut longest = 0;
        for n in 0..3_u32 {
            let record = Record {
                vectors: vec![(String::new(), Vector::Dense(vec![0.5; 1 + n as usize]))],
                ..Record::bare(PointId::Num(n.into()))
            };
            let bytes = write_frame(&(n, record), &mut file, &mut buffer, &failed).unwrap();
            longest = longest.max(bytes);
            ends.push(file.len());
        }
        let read = |mut bytes: &[u8], longest: u64| -> Result<Vec<u32>> {
            let mut found = Vec::new();
            while let Some((n, record)) = read_frame(&mut bytes, longest, &failed, &wrong)? {
                assert_eq!(record.id, PointId::Num(n.into()));
                found.push(n);
            }
            Ok(found)
        };
        assert_eq!(read(&file, longest).unwrap(), [0, 1, 2]);
        assert!(read(&file, longest - 1).is_err());
        for cut in 0..file.len() {
            assert_eq!(
                read(&file[..cut], longest).is_ok(),
                ends.contains(&cut),
                "{cut}"
            );
        }
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut bytes = file.clone();
                bytes[at] ^= 1 << bit;
                assert!(read(&bytes, longest).is_err(), "{at} {bit}");
            }
        }
    }
}
