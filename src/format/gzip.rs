//! Gzip as gzip(1) reads it: members one after another, and zeros behind the last, which tapes and
//! some object stores pad files with.
//!
//! Invariants: anything else behind a member is an error; every byte of the file is read before the end
//! is told.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// Reader of the members' decompressed content.
pub(super) struct Gunzip<B: BufRead> {
    state: Option<State<B>>,
}

enum State<B: BufRead> {
    Member(Box<GzDecoder<B>>),
    Ended(B),
}

impl<B: BufRead> Gunzip<B> {
    /// Decompresses `compressed`.
    pub fn new(compressed: B) -> Self {
        Self {
            state: Some(State::Member(Box::new(GzDecoder::new(compressed)))),
        }
    }

    /// Returns the compressed input; none after an error.
    pub fn into_inner(self) -> Option<B> {
        self.state.map(|state| match state {
            State::Member(member) => member.into_inner(),
            State::Ended(compressed) => compressed,
        })
    }
}

impl<B: BufRead> Read for Gunzip<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let member = match &mut self.state {
                Some(State::Member(member)) => member,
                Some(State::Ended(_)) => return Ok(0),
                None => return Err(more_follows()),
            };
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            if let Some(State::Member(member)) = self.state.take() {
                self.state = Some(after(member.into_inner())?);
            }
        }
    }
}

/// Reads what follows a member: another one, or the end, which zeros may precede.
fn after<B: BufRead>(mut compressed: B) -> io::Result<State<B>> {
    let mut padded = false;
    loop {
        let bytes = compressed.fill_buf()?;
        let length = bytes.len();
        match bytes.iter().position(|byte| *byte != 0) {
            None if length == 0 => return Ok(State::Ended(compressed)),
            None => {
                compressed.consume(length);
                padded = true;
            }
            Some(0) if !padded => return Ok(State::Member(Box::new(GzDecoder::new(compressed)))),
            Some(_) => return Err(more_follows()),
        }
    }
}

fn more_follows() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "more follows the zeros behind its compressed data",
    )
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write as _};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn member(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn gunzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        // A small buffer: padding comes in several pieces.
        let mut input = Gunzip::new(BufReader::with_capacity(7, bytes));
        input.read_to_end(&mut out)?;
        let rest = input.into_inner().unwrap();
        assert_eq!(rest.into_inner(), b"", "all is read");
        Ok(out)
    }

    #[test]
    fn members_and_zeros_behind_them_are_read() {
        let (one, two) = (member(b"snap"), member(b"shot"));
        let zeros = vec![0; 1000];
        assert_eq!(gunzip(&one).unwrap(), b"snap");
        assert_eq!(gunzip(&[&one[..], &two].concat()).unwrap(), b"snapshot");
        assert_eq!(
            gunzip(&[&one[..], &two, &zeros].concat()).unwrap(),
            b"snapshot"
        );
    }

    #[test]
    fn anything_else_behind_them_is_an_error() {
        let one = member(b"snap");
        for rest in [
            &b"garbage"[..],
            b"\0\0garbage",
            &[&[0; 9], &one[..]].concat(),
        ] {
            assert!(gunzip(&[&one[..], rest].concat()).is_err(), "{rest:?}");
        }
        // Into the checksum: behind it stands the length, whose last bytes are zeros themselves.
        let cut = one.get(..one.len() - 6).unwrap();
        assert!(gunzip(cut).is_err());
        assert!(gunzip(&[cut, &[0; 20]].concat()).is_err());
    }
}
