//! Boundaries of the chunks of a snapshot.
//!
//! Chunks that end between records of a file are found again when the file is changed in place, moved, or
//! (vectors) written in another order. Cutting at every vector is what keeps a collection cheap whose
//! segments the optimizer rewrites: that happens to all of them every few weeks (when a fifth of the points
//! is replaced), and puts their vectors into another order.
//!
//! Invariants: a chunk never holds bytes of two files; there are never more than about
//! [`CHUNKS_MAX`] chunks, however large the snapshot is, so that memory does not grow with it.

use crate::format::{Record, Run, TarExtents};

/// Chunks of one snapshot, about: with more, several records are cut as one.
pub const CHUNKS_MAX: u64 = 1 << 20;
/// A chunk has at least so many bytes, if there are as many.
const CHUNK_BYTES_MIN: u64 = 512;
/// Maximum size of a chunk between files (headers, padding), in bytes.
const FRAME_BYTES: u64 = 64 << 10;
/// No record is as large; if one is, it is cut.
const GRAIN_BYTES_MAX: u64 = super::object::CHUNK_BYTES_MAX as u64;

/// Finds where a snapshot is cut, from its first byte on.
#[derive(Debug)]
pub struct ChunkBoundaries<'a> {
    runs: &'a TarExtents,
    next: usize,
    /// By how much records are multiplied.
    times: u64,
}

impl<'a> ChunkBoundaries<'a> {
    /// The cuts of the snapshot that `runs` describes.
    pub fn new(runs: &'a TarExtents) -> Self {
        Self::with_max(runs, CHUNKS_MAX)
    }

    fn with_max(runs: &'a TarExtents, chunks_max: u64) -> Self {
        let mut times = 1_u64;
        // A power of two, so that a collection that grows is cut otherwise only a few times.
        while times < 1 << 20 && chunks(runs, times) > chunks_max {
            times *= 2;
        }
        Self {
            runs,
            next: 0,
            times,
        }
    }

    /// The end of the chunk that begins at `position`, which is where the last one ended; the
    /// snapshot may end before.
    pub fn at(&mut self, position: u64) -> u64 {
        let runs = &self.runs.runs;
        while runs
            .get(self.next)
            .is_some_and(|run| run.start + run.bytes <= position)
        {
            self.next += 1;
        }
        match runs.get(self.next) {
            Some(run) if run.start <= position => self.within(run, position),
            Some(run) => run.start.min(position + FRAME_BYTES),
            None => position + FRAME_BYTES,
        }
    }

    fn within(&self, run: &Run, position: u64) -> u64 {
        let record = self
            .runs
            .files
            .get(run.file)
            .map_or(Record { skip: 0, bytes: 1 }, |file| file.record);
        let offset = run.offset + (position - run.start);
        let grain = grain(record, self.times);
        let next = match offset.checked_sub(record.skip) {
            None => record.skip,
            Some(past) => record.skip + (past / grain + 1) * grain,
        };
        (position + (next - offset)).min(run.start + run.bytes)
    }
}

/// Returns how many bytes of a file's records are cut as one chunk.
fn grain(record: Record, times: u64) -> u64 {
    let bytes = record.bytes.max(1);
    let least = CHUNK_BYTES_MIN.div_ceil(bytes).max(1);
    (bytes * least * times).clamp(1, GRAIN_BYTES_MAX)
}

/// About how many chunks there are.
fn chunks(runs: &TarExtents, times: u64) -> u64 {
    runs.files
        .iter()
        .map(|file| file.stored_bytes.div_ceil(grain(file.record, times)) + 2)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::PackedFile;

    fn runs(record: Record, pieces: &[(u64, u64, u64)]) -> TarExtents {
        let mut runs = TarExtents::default();
        runs.files.push(PackedFile {
            path: "x".into(),
            bytes: 0,
            stored_bytes: pieces.iter().map(|(_, bytes, _)| bytes).sum(),
            record,
        });
        runs.runs = pieces
            .iter()
            .map(|(start, bytes, offset)| Run {
                start: *start,
                bytes: *bytes,
                file: 0,
                offset: *offset,
            })
            .collect();
        runs
    }

    fn ends(cuts: &mut ChunkBoundaries<'_>, bytes: u64) -> Vec<u64> {
        let mut ends = vec![0];
        while let Some(last) = ends.last().copied().filter(|last| *last < bytes) {
            let end = cuts.at(last);
            assert!(end > last);
            ends.push(end);
        }
        ends
    }

    #[test]
    fn files_are_cut_between_records_wherever_they_lie() {
        let record = Record {
            skip: 4,
            bytes: 2000,
        };
        let plain = runs(record, &[(512, 4 + 3 * 2000, 0)]);
        assert_eq!(
            ends(&mut ChunkBoundaries::new(&plain), 6516),
            [0, 512, 516, 2516, 4516, 6516]
        );
        // With holes: by where it is in the file, not in what is stored.
        let sparse = runs(record, &[(1024, 1000, 0), (2024, 3000, 4096)]);
        assert_eq!(
            ends(&mut ChunkBoundaries::new(&sparse), 5024),
            [0, 1024, 1028, 2024, 3932, 5024]
        );
        // Small records are cut together.
        let small = runs(
            Record {
                skip: 0,
                bytes: 100,
            },
            &[(0, 1300, 0)],
        );
        assert_eq!(
            ends(&mut ChunkBoundaries::new(&small), 1300),
            [0, 600, 1200, 1300]
        );
    }

    #[test]
    fn a_large_snapshot_is_cut_coarsely_and_a_record_never_overflows() {
        let page = Record {
            skip: 0,
            bytes: 4096,
        };
        let large = runs(page, &[(0, 1 << 30, 0)]);
        let cuts = ends(&mut ChunkBoundaries::with_max(&large, 10_000), 1 << 30).len() as u64;
        assert!((4_000..=10_002).contains(&cuts), "{cuts}");
        let huge = runs(
            Record {
                skip: 4,
                bytes: u64::MAX / 8,
            },
            &[(0, 3 << 20, 0)],
        );
        assert_eq!(
            ends(&mut ChunkBoundaries::new(&huge), 3 << 20).len(),
            5 + 1 - 1
        );
    }
}
