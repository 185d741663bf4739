//! Pieces of bytes one after another in a scratch file, each with its length and a CRC-32C.
//!
//! Invariants: what is read is a piece as it was written, or an error; no length reserves memory before as many
//! bytes have come.

use std::io::{self, BufRead, Read as _};

/// Adds a piece, framed, to `out`.
pub fn put_frame(piece: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(piece.len() as u64).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(piece).to_le_bytes());
    out.extend_from_slice(piece);
}

/// The pieces that are read from `0`, up to its end.
#[derive(Debug)]
pub struct Frames<R>(pub R);

impl<R: BufRead> Frames<R> {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.0.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let (mut length, mut checksum) = ([0; 8], [0; 4]);
        self.0.read_exact(&mut length)?;
        self.0.read_exact(&mut checksum)?;
        let length = u64::from_le_bytes(length);
        let mut piece = Vec::new();
        (&mut self.0).take(length).read_to_end(&mut piece)?;
        if piece.len() as u64 != length || crc32c::crc32c(&piece) != u32::from_le_bytes(checksum) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "they are not what was written: the disk may be failing",
            ));
        }
        Ok(Some(piece))
    }
}

impl<R: BufRead> Iterator for Frames<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_and_damage_is_told() {
        let pieces: [&[u8]; 4] = [b"", b"one", &[7; 100_000], b"x"];
        let mut written = Vec::new();
        for piece in pieces {
            put_frame(piece, &mut written);
        }
        let read = |bytes: &[u8]| Frames(bytes).collect::<io::Result<Vec<_>>>();
        assert_eq!(read(&written).unwrap(), pieces);
        for at in [0, 7, 8, 12, 20, written.len() - 1] {
            let mut other = written.clone();
            other[at] ^= 1;
            assert!(read(&other).is_err(), "{at}");
        }
        assert!(read(&written[..written.len() - 1]).is_err());
    }
}
