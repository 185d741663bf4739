//! A snapshot put together of ranges of others, when it is read.
//!
//! Invariants: the ranges follow each other without gap; each is read with whatever its own file promises.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use super::file::{Parts, RangeReader, SnapshotFile};
use super::tar::{Stream, skip_within};

/// Ranges of files, one after the other.
#[derive(Debug, Default)]
pub struct Composition {
    ranges: Vec<Composed>,
    bytes: u64,
}

/// A range of a file, and where it lies in the whole.
#[derive(Debug)]
struct Composed {
    start: u64,
    file: SnapshotFile,
    range: Range<u64>,
}

impl Composed {
    fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

impl Composition {
    /// Adds a range, which lies in `file`.
    pub fn push(&mut self, file: &SnapshotFile, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let bytes = range.end - range.start;
        match self.ranges.last_mut() {
            Some(last) if last.file == *file && last.range.end == range.start => {
                last.range.end = range.end;
            }
            _ => self.ranges.push(Composed {
                start: self.bytes,
                file: file.clone(),
                range,
            }),
        }
        self.bytes += bytes;
    }

    /// Size of the whole in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Parts for Composition {
    fn read(self: Arc<Self>, range: Range<u64>) -> Box<dyn Stream + Send> {
        Box::new(ComposedReader {
            composition: self,
            position: range.start,
            end: range.end,
            open: Vec::new(),
        })
    }
}

/// Reads a composition from front to back.
struct ComposedReader {
    composition: Arc<Composition>,
    position: u64,
    end: u64,
    open: Vec<Open>,
}

/// A file that is being read.
struct Open {
    file: SnapshotFile,
    /// Where the next byte lies.
    position: u64,
    /// Where the reader ends.
    end: u64,
    reader: RangeReader,
}

impl ComposedReader {
    /// A reader at the byte that comes next, and how many bytes of the same range follow; none at the
    /// end.
    fn at(&mut self) -> io::Result<Option<(&mut Open, u64)>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let ranges = &self.composition.ranges;
        let next = ranges.partition_point(|one| one.start <= self.position);
        let one = next.checked_sub(1).and_then(|at| ranges.get(at));
        let one = one.ok_or(io::ErrorKind::UnexpectedEof)?;
        let past = self.position - one.start;
        let left = one.bytes().min(past + (self.end - self.position)) - past;
        if left == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let start = one.range.start + past;
        let known = self.open.iter().position(|open| open.file == one.file);
        let at = match known {
            // What lies between is passed over, which costs less than to begin anew.
            Some(at)
                if (self.open.get(at)).is_some_and(|open| {
                    (open.position..=open.end).contains(&start) && open.end >= one.range.end
                }) =>
            {
                at
            }
            _ => {
                if let Some(at) = known {
                    self.open.swap_remove(at);
                }
                let end = match &one.file {
                    SnapshotFile::Disk(_) | SnapshotFile::Member(_) => u64::MAX,
                    // Parts are read ahead, and what lies behind may not be needed.
                    SnapshotFile::Stored(_) => one.range.end,
                };
                let reader = one.file.read_range(start..end)?;
                self.open.push(Open {
                    file: one.file.clone(),
                    position: start,
                    end,
                    reader,
                });
                self.open.len() - 1
            }
        };
        let Some(open) = self.open.get_mut(at) else {
            return Ok(None);
        };
        if open.position < start {
            open.reader.skip(start - open.position)?;
            open.position = start;
        }
        Ok(Some((open, left)))
    }
}

impl Read for ComposedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((open, left)) = self.at()? else {
            return Ok(0);
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let length = buffer.len().min(most);
        let count = open
            .reader
            .read(buffer.get_mut(..length).unwrap_or_default())?;
        if count == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        open.position += count as u64;
        self.position += count as u64;
        Ok(count)
    }
}

impl Stream for ComposedReader {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.position = skip_within(self.position, bytes, self.end)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_one_from_wherever() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<(SnapshotFile, Vec<u8>)> = (0..2_u8)
            .map(|number| {
                let bytes: Vec<u8> = (0..200).map(|at| at ^ (number << 7)).collect();
                let path = folder.path().join(number.to_string());
                std::fs::write(&path, &bytes).unwrap();
                (SnapshotFile::from(path.as_path()), bytes)
            })
            .collect();
        let mut composition = Composition::default();
        let mut expected: Vec<u8> = Vec::new();
        // Forwards, backwards, twice the same, nothing, and what follows.
        for (file, range) in [
            (0, 10..20),
            (1, 0..50),
            (0, 30..90),
            (0, 90..100),
            (1, 20..30),
            (1, 5..5),
            (0, 0..200),
        ] {
            let (handle, bytes) = &files[file];
            composition.push(handle, range.start..range.end);
            expected.extend(&bytes[range.start as usize..range.end as usize]);
        }
        assert_eq!(composition.ranges.len(), 5);
        assert_eq!(composition.bytes(), expected.len() as u64);
        let composition = Arc::new(composition);
        let all = expected.len() as u64;
        for start in (0..all).step_by(7) {
            for end in (start..=all).step_by(13) {
                let mut read = Vec::new();
                let mut reader = Arc::clone(&composition).read(start..end);
                reader.read_to_end(&mut read).unwrap();
                assert_eq!(
                    read,
                    expected[start as usize..end as usize],
                    "{start}..{end}"
                );
            }
        }
        let mut reader = Arc::clone(&composition).read(3..all);
        let mut some = [0; 5];
        reader.skip(60).unwrap();
        reader.read_exact(&mut some).unwrap();
        assert_eq!(some, expected[63..68]);
        assert!(reader.skip(all).is_err());
    }

    #[test]
    fn a_file_that_is_shorter_than_it_was_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, [1; 10]).unwrap();
        let mut composition = Composition::default();
        composition.push(&SnapshotFile::from(path.as_path()), 5..15);
        let mut reader = Arc::new(composition).read(0..10);
        let err = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::UnexpectedEof);
    }
}
