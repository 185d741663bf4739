//! Reading dense vectors of four-byte numbers, without the engine.
//!
//! They lie in chunks (the form of [`super::chunks`]), or, where nothing is added any more, in one file
//! (lib/segment/src/vector_storage/dense/immutable_dense_vectors.rs; `mmap_dense_vectors.rs` before 1.17).
//!
//! Invariants: a storage that is not exactly of the form that it is said to be of is not read; no number that a
//! file claims reserves memory.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::bits::{Bits, read_flags};
use super::chunks::{CONFIG, STATUS, chunk_path};
use crate::base::error::{Error, Result};
use crate::format::kind::DenseFiles;

/// Most elements of a vector (lib/api/src/rest/validate.rs).
const DIM_MAX: u64 = 65_536;
/// All vectors, behind a word that says so.
const MATRIX: &str = "matrix.dat";
const MATRIX_HEAD: &[u8; 4] = b"data";
/// A bit for each, behind a word that says so and four bytes that say nothing.
const DELETED: &str = "deleted.dat";
const DELETED_HEAD: &[u8; 4] = b"drop";
const DELETED_SKIP: usize = 8;

/// Reads vectors by their offsets, and knows which of them are deleted.
#[derive(Debug)]
pub struct DenseReader {
    what: String,
    place: Place,
    length: u64,
    deleted: Bits,
    /// The file that was read last, by its number.
    open: Option<(u64, File)>,
    /// Scratch for one vector.
    bytes: Vec<u8>,
}

/// Where vectors lie.
#[derive(Debug)]
enum Place {
    /// In chunks in this folder, so many in each.
    Chunks(PathBuf, u64),
    /// In this file.
    Matrix(PathBuf),
}

impl DenseReader {
    /// The vectors of `dim` elements in the storage in `folder`, of `what`, whose files are of the form `files`; none if
    /// they are not.
    pub fn open(folder: &Path, dim: u64, files: DenseFiles, what: &str) -> Result<Option<Self>> {
        if dim == 0 || dim > DIM_MAX {
            return Ok(None);
        }
        let vector_bytes = usize::try_from(dim).unwrap_or(0) * 4;
        let found = match files {
            DenseFiles::Matrix => matrix(folder, vector_bytes as u64)?,
            DenseFiles::Chunks => chunks(folder, dim)?,
        };
        Ok(found.map(|(place, length, deleted)| Self {
            what: what.to_owned(),
            place,
            length,
            deleted,
            open: None,
            bytes: vec![0; vector_bytes],
        }))
    }

    /// The number of vectors, those that are deleted included.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The vector at `offset`; none if it is deleted.
    pub fn read(&mut self, offset: u32) -> Result<Option<Vec<f32>>> {
        if self.deleted.has(offset) {
            return Ok(None);
        }
        let (offset, bytes) = (u64::from(offset), self.bytes.len() as u64);
        let (number, path, at) = match &self.place {
            Place::Chunks(folder, each) => {
                let number = offset / each;
                (number, chunk_path(folder, number), offset % each * bytes)
            }
            Place::Matrix(path) => (0, path.clone(), MATRIX_HEAD.len() as u64 + offset * bytes),
        };
        let damaged = |err: std::io::Error| {
            Error::damaged(
                format!("reading the vectors of {}", self.what),
                format!("offset {offset} in {}: {err}", path.display()),
            )
            .next("check the snapshot against its checksum; if that fits, take it again")
        };
        let file = match &mut self.open {
            Some((open, file)) if *open == number => file,
            open => &mut open.insert((number, File::open(&path).map_err(damaged)?)).1,
        };
        file.read_exact_at(&mut self.bytes, at).map_err(damaged)?;
        let words = self.bytes.as_chunks().0.iter();
        Ok(Some(words.map(|word| f32::from_le_bytes(*word)).collect()))
    }
}

/// Where vectors lie, how many, and which of them are deleted.
type Storage = (Place, u64, Bits);

fn chunks(folder: &Path, dim: u64) -> Result<Option<Storage>> {
    let vectors = folder.join("vectors");
    let read = |name: &str| std::fs::read(vectors.join(name)).ok();
    let (Some(config), Some(status)) = (read(CONFIG), read(STATUS)) else {
        return Ok(None);
    };
    let config: Value = serde_json::from_slice(&config).unwrap_or_default();
    let each = config["chunk_size_vectors"].as_u64().filter(|n| *n > 0);
    let length = status.first_chunk().map(|word| u64::from_le_bytes(*word));
    let deleted = folder.join("deleted");
    if config["dim"].as_u64() != Some(dim) || !deleted.is_dir() {
        return Ok(None);
    }
    Ok(match (each, length, read_flags(&deleted)?) {
        (Some(each), Some(length), Some(deleted)) => {
            Some((Place::Chunks(vectors, each), length, deleted))
        }
        _ => None,
    })
}

fn matrix(folder: &Path, vector_bytes: u64) -> Result<Option<Storage>> {
    let path = folder.join(MATRIX);
    let failed = |err: std::io::Error| Error::io("reading", &path, &err);
    let (Ok(file), Ok(deleted)) = (File::open(&path), std::fs::read(folder.join(DELETED))) else {
        return Ok(None);
    };
    let size = file.metadata().map_err(failed)?.len();
    let mut head = [0; MATRIX_HEAD.len()];
    let Some(bytes) = size.checked_sub(head.len() as u64) else {
        return Ok(None);
    };
    file.read_exact_at(&mut head, 0).map_err(failed)?;
    let length = bytes / vector_bytes;
    let flags = deleted.get(DELETED_SKIP..).unwrap_or_default();
    let is_known = head == *MATRIX_HEAD
        && deleted.starts_with(DELETED_HEAD)
        && bytes % vector_bytes == 0
        && flags.len() as u64 >= length.div_ceil(8);
    Ok(is_known.then(|| (Place::Matrix(path), length, Bits::from_bytes(flags, length))))
}

#[cfg(test)]
mod tests {
    use super::super::chunks::{CHUNK_BYTES, ChunkWriter};
    use super::*;

    #[test]
    fn what_is_written_is_read_but_for_what_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let vectors = folder.path().join("vectors");
        let bytes = |n: f32| -> Vec<u8> { [n, -n].iter().flat_map(|n| n.to_le_bytes()).collect() };
        // Two chunks.
        let last = (CHUNK_BYTES / 8) as u32;
        let mut writer = ChunkWriter::new(&vectors, 2, 4).unwrap().unwrap();
        for at in [0, 1, 2, last] {
            writer.write(u64::from(at), &bytes(at as f32)).unwrap();
        }
        let length = writer.finish(0).unwrap();
        let deleted = folder.path().join("deleted");
        super::super::write_flags(&deleted, length, &Bits::of([1])).unwrap();
        let open = |dim| DenseReader::open(folder.path(), dim, DenseFiles::Chunks, "test").unwrap();
        let mut reader = open(2).unwrap();
        assert_eq!(reader.length(), u64::from(last) + 1);
        let mut read = |at| reader.read(at).unwrap();
        assert_eq!(read(last), Some(vec![last as f32, -(last as f32)]));
        assert_eq!((read(0), read(1)), (Some(vec![0.0, -0.0]), None));
        assert_eq!(read(2), Some(vec![2.0, -2.0]));
        assert!(open(3).is_none());
        std::fs::remove_file(chunk_path(&vectors, 1)).unwrap();
        let mut reader = open(2).unwrap();
        assert!(reader.read(0).is_ok() && reader.read(last).is_err());
        std::fs::write(deleted.join("other"), "").unwrap();
        assert!(open(2).is_none());
    }

    #[test]
    fn vectors_in_one_file_are_read_where_the_engine_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes);
        let numbers = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let numbers: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let matrix = [&MATRIX_HEAD[..], &numbers].concat();
        write(MATRIX, &matrix).unwrap();
        write(DELETED, b"drop\0\0\0\0\x02\0\0\0\0\0\0\0").unwrap();
        let open = || DenseReader::open(folder.path(), 2, DenseFiles::Matrix, "test").unwrap();
        let mut reader = open().unwrap();
        assert_eq!(reader.length(), 3);
        assert_eq!(reader.read(0).unwrap(), Some(vec![1.0, 2.0]));
        assert_eq!(reader.read(1).unwrap(), None);
        assert_eq!(reader.read(2).unwrap(), Some(vec![5.0, 6.0]));
        assert!(reader.read(3).is_err());
        // Another head, a vector that is not whole, too few flags.
        write(MATRIX, &matrix[..matrix.len() - 1]).unwrap();
        assert!(open().is_none());
        write(MATRIX, &[b"atad", &numbers[..]].concat()).unwrap();
        assert!(open().is_none());
        write(MATRIX, &matrix).unwrap();
        write(DELETED, b"drop\0\0\0\0").unwrap();
        assert!(open().is_none());
    }
}
