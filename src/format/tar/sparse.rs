//! Sparse members: which runs of the file the tar stores.
//!
//! Invariants: runs ascend, do not overlap, stay within the file, and add up to what is stored; a
//! map is never longer than its bound, whatever its headers say.

use tar::GnuSparseHeader;

/// Most runs that a sparse member may have.
const PIECES_MAX: usize = 1_000_000;
/// Most bytes of a sparse member that are not stored. Qdrant makes files of 32 MiB ahead, and logs
/// of what the collection's config says; a reader may go over all of the holes.
const HOLES_BYTES_MAX: u64 = 16 << 30;

/// A run of bytes of a sparse file that is stored; everything between runs is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Offset of the run in the file, in bytes.
    pub offset: u64,
    /// Length of the run in bytes.
    pub bytes: u64,
}

/// The map of a sparse member, as its headers tell it.
#[derive(Debug, Default)]
pub(super) struct Map {
    pieces: Vec<Piece>,
}

impl Map {
    /// Takes the runs of one header in; else the reason why not.
    pub fn add(&mut self, slots: &[GnuSparseHeader]) -> Result<(), String> {
        for slot in slots.iter().filter(|slot| !slot.is_empty()) {
            let (Ok(offset), Ok(bytes)) = (slot.offset(), slot.length()) else {
                return Err("has runs that cannot be read".into());
            };
            if self.pieces.len() >= PIECES_MAX {
                return Err(format!("has more than {PIECES_MAX} runs"));
            }
            self.pieces.push(Piece { offset, bytes });
        }
        Ok(())
    }

    /// The runs of a file of `bytes` bytes of which `stored_bytes` are stored; else the reason why
    /// they cannot be.
    pub fn finish(mut self, bytes: u64, stored_bytes: u64) -> Result<Vec<Piece>, String> {
        if bytes.saturating_sub(stored_bytes) > HOLES_BYTES_MAX {
            return Err(format!(
                "claims to be {bytes} bytes long and stores {stored_bytes} of them; no file of a \
                 snapshot has holes of more than {HOLES_BYTES_MAX} bytes"
            ));
        }
        let mut end = 0;
        let mut sum = 0_u64;
        for piece in &self.pieces {
            let piece_end = piece.offset.checked_add(piece.bytes);
            let Some(piece_end) = piece_end.filter(|end| *end <= bytes) else {
                return Err("has runs that leave the file".into());
            };
            if piece.offset < end {
                return Err("has runs that overlap".into());
            }
            end = piece_end;
            // The runs do not overlap, so that this is at most `bytes`.
            sum += piece.bytes;
        }
        if sum != stored_bytes {
            return Err(format!(
                "has runs of {sum} bytes together, where its header says {stored_bytes}"
            ));
        }
        self.pieces.retain(|piece| piece.bytes > 0);
        Ok(self.pieces)
    }
}
