//! The hashes of the files in a snapshot.
//!
//! Invariants: what is hashed of a file is what the snapshot stores of it, in order; one of which
//! nothing is stored has the hash of nothing.

use crate::format::TarExtents;

/// Hashes files as the snapshot comes by.
pub struct FileHashes<'a> {
    runs: &'a TarExtents,
    next: usize,
    position: u64,
    file: Option<(usize, blake3::Hasher)>,
    hashes: Vec<blake3::Hash>,
}

impl<'a> FileHashes<'a> {
    /// Of the snapshot that `runs` describes.
    pub fn new(runs: &'a TarExtents) -> Self {
        Self {
            runs,
            next: 0,
            position: 0,
            file: None,
            hashes: vec![blake3::hash(b""); runs.files.len()],
        }
    }

    /// Takes the bytes that come next.
    pub fn feed(&mut self, block: &[u8]) {
        let end = self.position + block.len() as u64;
        while let Some(run) = self.runs.runs.get(self.next)
            && run.start < end
        {
            let from = run.start.max(self.position) - self.position;
            let to = (run.start + run.bytes).min(end) - self.position;
            let range = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
            let bytes = block.get(range).unwrap_or_default();
            if self.file.as_ref().is_none_or(|(file, _)| *file != run.file) {
                self.end_file();
                self.file = Some((run.file, blake3::Hasher::new()));
            }
            if let Some((_, hasher)) = &mut self.file {
                hasher.update(bytes);
            }
            if run.start + run.bytes > end {
                break;
            }
            self.next += 1;
        }
        self.position = end;
    }

    /// The hashes; nothing comes any more.
    pub fn end(mut self) -> Vec<blake3::Hash> {
        self.end_file();
        self.hashes
    }

    fn end_file(&mut self) {
        if let Some((file, hasher)) = self.file.take()
            && let Some(hash) = self.hashes.get_mut(file)
        {
            *hash = hasher.finalize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{PackedFile, Record, Run};

    #[test]
    fn files_are_hashed_however_the_blocks_fall() {
        let file = |path: &str| PackedFile {
            path: path.into(),
            bytes: 0,
            stored_bytes: 0,
            record: Record { skip: 0, bytes: 1 },
        };
        let run = |start, bytes, file| Run {
            start,
            bytes,
            file,
            offset: 0,
        };
        let mut runs = TarExtents::default();
        runs.files = vec![file("a"), file("empty"), file("b")];
        runs.runs = vec![run(10, 50, 0), run(60, 40, 0), run(110, 90, 2)];
        let bytes: Vec<u8> = (0..250).collect();
        let expected = [
            blake3::hash(&bytes[10..100]),
            blake3::hash(b""),
            blake3::hash(&bytes[110..200]),
        ];
        for size in [1, 7, 10, 60, 249, 250] {
            let mut hashes = FileHashes::new(&runs);
            for block in bytes.chunks(size) {
                hashes.feed(block);
            }
            assert_eq!(hashes.end(), expected, "blocks of {size}");
        }
    }
}
