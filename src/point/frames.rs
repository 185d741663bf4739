//! Pieces of bytes one after another in a file, each with its length and a CRC-32C before it.
//!
//! Invariants: what is read is a piece as it was written, or a fault; no length reserves memory before as many
//! bytes have come.

use std::io::{self, BufRead, ErrorKind, Read as _, Write};

/// Bytes before a piece: its length, and its CRC-32C.
const HEAD_BYTES: u64 = 8 + 4;

/// Writes `piece` to `out`; returns the bytes that it takes there.
pub fn write_frame(piece: &[u8], out: &mut dyn Write) -> io::Result<u64> {
    let length = piece.len() as u64;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&crc32c::crc32c(piece).to_le_bytes())?;
    out.write_all(piece)?;
    Ok(HEAD_BYTES + length)
}

/// Why a piece could not be read.
#[derive(Debug)]
pub enum FrameFault {
    /// The file could not be read.
    Io(io::Error),
    /// It is not as it was written.
    Changed(&'static str),
}

impl From<io::Error> for FrameFault {
    fn from(err: io::Error) -> Self {
        Self::Io(err)
    }
}

/// Reads the next piece; none at the end. One that takes more than `bytes_max` bytes there was never written.
pub fn read_frame(from: &mut dyn BufRead, bytes_max: u64) -> Result<Option<Vec<u8>>, FrameFault> {
    const CUT: FrameFault = FrameFault::Changed("the last one is cut off");
    if from.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let cut = |err: io::Error| match err.kind() {
        ErrorKind::UnexpectedEof => CUT,
        _ => FrameFault::Io(err),
    };
    let (mut length, mut checksum) = ([0; 8], [0; 4]);
    from.read_exact(&mut length).map_err(cut)?;
    from.read_exact(&mut checksum).map_err(cut)?;
    let length = u64::from_le_bytes(length);
    if length > bytes_max.saturating_sub(HEAD_BYTES) {
        return Err(FrameFault::Changed(
            "one is longer than any that was written",
        ));
    }
    let mut piece = Vec::new();
    from.take(length).read_to_end(&mut piece)?;
    if piece.len() as u64 != length {
        return Err(CUT);
    }
    if crc32c::crc32c(&piece) != u32::from_le_bytes(checksum) {
        return Err(FrameFault::Changed("a checksum is another"));
    }
    Ok(Some(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_and_damage_is_told() {
        let pieces: [&[u8]; 4] = [b"", b"one", &[7; 100], b"x"];
        let mut written = Vec::new();
        let mut ends = vec![0];
        for piece in pieces {
            let bytes = write_frame(piece, &mut written).unwrap();
            ends.push(ends.last().unwrap() + bytes as usize);
        }
        let read = |mut bytes: &[u8], bytes_max: u64| -> Result<Vec<Vec<u8>>, FrameFault> {
            let mut found = Vec::new();
            while let Some(piece) = read_frame(&mut bytes, bytes_max)? {
                found.push(piece);
            }
            Ok(found)
        };
        assert_eq!(read(&written, 112).unwrap(), pieces);
        assert!(read(&written, 111).is_err());
        for cut in 0..written.len() {
            let is_whole = read(&written[..cut], u64::MAX).is_ok();
            assert_eq!(is_whole, ends.contains(&cut), "{cut}");
        }
        for at in 0..written.len() {
            for bit in 0..8 {
                let mut other = written.clone();
                other[at] ^= 1 << bit;
                assert!(read(&other, u64::MAX).is_err(), "{at} {bit}");
            }
        }
    }
}
