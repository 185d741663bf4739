//! A file's content as hashes of its pieces, so that several threads can compare it at once.
//!
//! XXH3 with 128 bits finds what a disk or a memory does to bytes, at the speed of reading them. It
//! is no proof against somebody who means to deceive: that is what the file's SHA-256 is for.
//!
//! Keeps true: every byte is in exactly one piece; a file of another length has other pieces.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use xxhash_rust::xxh3::Xxh3;

/// Length of a piece in bytes; the last may be shorter.
const PIECE_BYTES: u64 = 16 << 20;
/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pieces {
    bytes: u64,
    hashes: Vec<u128>,
}

impl Pieces {
    /// The file's length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many pieces there are.
    pub fn count(&self) -> usize {
        self.hashes.len()
    }

    /// Whether piece `at` of `file` is what it should be.
    pub fn holds(&self, file: &File, at: usize) -> io::Result<bool> {
        let mut hasher = Xxh3::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut here = at as u64 * PIECE_BYTES;
        let end = (here + PIECE_BYTES).min(self.bytes);
        while here < end {
            let most = usize::try_from(end - here).unwrap_or(usize::MAX);
            let length = buffer.len().min(most);
            let wanted = buffer.get_mut(..length).unwrap_or_default();
            match file.read_at(wanted, here) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    hasher.update(wanted.get(..count).unwrap_or_default());
                    here += count as u64;
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(self.hashes.get(at) == Some(&hasher.digest128()))
    }
}

/// Hashes what is written, front to back.
#[derive(Default)]
pub struct PieceHasher {
    done: Pieces,
    piece: Xxh3,
}

impl PieceHasher {
    /// Adds what comes next.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PIECE_BYTES - self.done.bytes % PIECE_BYTES;
            let length = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
            let (now, later) = bytes.split_at(length);
            self.piece.update(now);
            self.done.bytes += now.len() as u64;
            if self.done.bytes.is_multiple_of(PIECE_BYTES) {
                self.end_piece();
            }
            bytes = later;
        }
    }

    /// All pieces.
    pub fn finish(mut self) -> Pieces {
        if !self.done.bytes.is_multiple_of(PIECE_BYTES) {
            self.end_piece();
        }
        self.done
    }

    fn end_piece(&mut self) {
        self.done.hashes.push(self.piece.digest128());
        self.piece.reset();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn pieces_hold_until_any_byte_changes() {
        for length in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 77] {
            let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut hasher = PieceHasher::default();
            for part in content.chunks(1_000_003) {
                hasher.update(part);
            }
            let pieces = hasher.finish();
            assert_eq!(pieces.bytes(), length);
            assert_eq!(pieces.count() as u64, length.div_ceil(PIECE_BYTES));
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&content).unwrap();
            for at in 0..pieces.count() {
                assert!(pieces.holds(&file, at).unwrap(), "{length} {at}");
            }
            if length == 0 {
                continue;
            }
            let last = pieces.count() - 1;
            file.write_all_at(&[content[length as usize - 1] ^ 1], length - 1)
                .unwrap();
            assert!(!pieces.holds(&file, last).unwrap());
            file.set_len(length - 1).unwrap();
            assert!(!pieces.holds(&file, last).unwrap());
            assert!(last == 0 || pieces.holds(&file, 0).unwrap());
        }
    }
}
