//! The bytes of one member, as the tar stores them or with the holes filled.
//!
//! Invariants: no byte of another member is ever handed out; a tar that ends within a member is an
//! error, never a short file.

use std::io::{self, Read};

use super::sparse::Piece;
use super::{Member, Stream, Walker};

/// The stored bytes of a walker's current member: a [`Stream`] of its own, so that a tar in a
/// member can be walked in turn.
pub struct Data<'a, S> {
    pub(super) walker: &'a mut Walker<S>,
}

impl<S: Stream> Read for Data<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.walker.unread).unwrap_or(usize::MAX);
        let length = buffer.len().min(most);
        let Some(buffer) = buffer.get_mut(..length) else {
            return Ok(0);
        };
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.walker.stream.read(buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.walker.unread -= count as u64;
        self.walker.position += count as u64;
        Ok(count)
    }
}

impl<S: Stream> Stream for Data<'_, S> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > self.walker.unread {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.walker.stream.skip(bytes)?;
        self.walker.unread -= bytes;
        self.walker.position += bytes;
        Ok(())
    }
}

/// The contents of a member, read forward: stored runs as they are, holes as zeros.
pub struct Contents<'a, S> {
    data: Data<'a, S>,
    /// Runs that are still to come, the current one first; none for a file that is not sparse.
    pieces: Option<&'a [Piece]>,
    bytes: u64,
    at: u64,
    whole: Piece,
}

impl<'a, S> Contents<'a, S> {
    pub(super) fn new(data: Data<'a, S>, member: &'a Member) -> Self {
        Self {
            data,
            pieces: member.pieces.as_deref(),
            bytes: member.bytes,
            at: 0,
            whole: Piece {
                offset: 0,
                bytes: member.bytes,
            },
        }
    }
}

impl<S: Stream> Read for Contents<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = loop {
            match self.pieces {
                None => break Some(self.whole),
                Some([first, rest @ ..]) => {
                    if first.offset + first.bytes > self.at {
                        break Some(*first);
                    }
                    self.pieces = Some(rest);
                }
                Some([]) => break None,
            }
        };
        let (stored, left) = match piece {
            Some(piece) if piece.offset <= self.at => (true, piece.offset + piece.bytes - self.at),
            Some(piece) => (false, piece.offset - self.at),
            None => (false, self.bytes - self.at),
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let length = buffer.len().min(most);
        let Some(buffer) = buffer.get_mut(..length) else {
            return Ok(0);
        };
        let count = if stored {
            self.data.read(buffer)?
        } else {
            buffer.fill(0);
            buffer.len()
        };
        self.at += count as u64;
        Ok(count)
    }
}
