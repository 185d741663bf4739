//! Records one after the other in a file, each with the number of the collection that it goes to.
//!
//! Invariants: what is read is what was written, or an error; no more memory is taken than the longest record is said
//! to need.

use std::io::{BufRead, Write};

use crate::base::error::{Error, Result};
use crate::point::{FrameFault, Record, read_frame, write_frame};

/// A record, and the number of the collection that it goes to.
pub type Placed = (u32, Record);

/// Writes `placed` to `out`, with `buffer` as scratch. Returns the bytes that it takes there.
pub fn write_placed(
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
    write_frame(buffer, out).map_err(failed)
}

/// Reads the next record of `file`; none at its end. One that takes more than `bytes_max` bytes there was never
/// written. `failed` tells of what could not be read, and `wrong` of what is not as it was written.
pub fn read_placed(
    file: &mut dyn BufRead,
    bytes_max: u64,
    failed: &dyn Fn(std::io::Error) -> Error,
    wrong: &dyn Fn(&str) -> Error,
) -> Result<Option<Placed>> {
    let frame = read_frame(file, bytes_max).map_err(|fault| match fault {
        FrameFault::Io(err) => failed(err),
        FrameFault::Changed(why) => wrong(why),
    })?;
    let Some(bytes) = frame else {
        return Ok(None);
    };
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
            let bytes = write_placed(&(n, record), &mut file, &mut buffer, &failed).unwrap();
            longest = longest.max(bytes);
            ends.push(file.len());
        }
        let read = |mut bytes: &[u8], longest: u64| -> Result<Vec<u32>> {
            let mut found = Vec::new();
            while let Some((n, record)) = read_placed(&mut bytes, longest, &failed, &wrong)? {
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
