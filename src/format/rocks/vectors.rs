//! Vectors: the columns `vector` and `vector-NAME` of lib/segment/src/vector_storage/
//! {dense/simple_dense,multi_dense/simple_multi_dense,sparse/simple_sparse}_vector_storage.rs (up to
//! 1.17): the offset in four bytes; whether the vector is deleted, and the vector.
//!
//! Invariants: a vector's bytes are moved as they are; every point that lives has a record, which may
//! say that it has no such vector; whatever has no point is taken for deleted.

use std::path::Path;

use super::database::Database;
use super::ids::Live;
use crate::base::error::{Error, Result};
use crate::format::storage::{Bits, ChunkWriter, GridstoreWriter, pack_sparse, write_flags};

/// Kind of the vectors in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One vector of this many elements of this many bytes a point.
    Dense { dim: u64, element_bytes: u64 },
    /// Any number of such.
    Multi { dim: u64, element_bytes: u64 },
    /// Pairs of index and value.
    Sparse,
}

/// Counts and offsets found in a column.
#[derive(Debug, Default)]
struct Found {
    /// Records of points that live.
    live: u64,
    /// Vectors that are not deleted, of no point that lives.
    strays: u64,
    /// Which offsets have no vector.
    deleted: Bits,
    /// One more than the highest offset.
    end: u64,
}

/// The column of the vectors called `name`.
pub fn column(name: &str) -> String {
    match name {
        "" => "vector".to_owned(),
        name => format!("vector-{name}"),
    }
}

/// Writes the vectors called `name` of the points that `live` into the new storage in `folder`.
pub fn convert(
    database: Option<&Database>,
    (name, kind): (&str, Kind),
    live: &Live,
    folder: &Path,
    damaged: &dyn Fn(&str, String) -> Error,
) -> Result<()> {
    let column = column(name);
    let wrong = |why: String| damaged(&column, why);
    let mut writer = Writer::new(kind, folder)?
        .ok_or_else(|| wrong("vectors of that size do not fit into a storage".to_owned()))?;
    let mut found = Found::default();
    let cursor = database.map(|database| database.cursor(&column));
    if let Some(mut cursor) = cursor.transpose().map_err(wrong)?.flatten() {
        while let Some((key, value)) = cursor.record() {
            let offset = key.try_into().map(u32::from_le_bytes);
            let offset = offset.map_err(|_| wrong(format!("{} is no offset", hex::encode(key))))?;
            let (deleted, vector) = match value.split_first() {
                Some((deleted @ (0 | 1), vector)) => (*deleted == 1, vector),
                _ => {
                    return Err(wrong(format!(
                        "offset {offset} has no vector, deleted or not"
                    )));
                }
            };
            let lives = live.offsets.has(offset);
            found.live += u64::from(lives);
            found.end = found.end.max(u64::from(offset) + 1);
            if lives {
                writer
                    .write(offset, deleted, vector)
                    .map_err(|err| match err {
                        Failed::Record(why) => {
                            wrong(format!("the vector of offset {offset}: {why}"))
                        }
                        Failed::Writing(err) => err,
                    })?;
            }
            if deleted || !lives {
                found.strays += u64::from(!deleted);
                found.deleted.add(offset);
            }
            cursor.advance().map_err(wrong)?;
        }
    }
    let points = live.offsets.count();
    if found.live != points {
        return Err(wrong(format!(
            "of its {points} points {} have a vector there",
            found.live
        )));
    }
    if points == 0 && found.strays > 0 {
        return Err(wrong(format!(
            "it has no ids, and {} vectors that are not deleted",
            found.strays
        )));
    }
    let length = writer.finish(found.end)?;
    write_flags(&folder.join("deleted"), length, &found.deleted)
}

/// Why a vector could not be written.
enum Failed {
    /// It is not what it should be.
    Record(&'static str),
    /// The disk's fault.
    Writing(Error),
}

impl From<Error> for Failed {
    fn from(err: Error) -> Self {
        Self::Writing(err)
    }
}

/// Writes vectors as the engine keeps them.
enum Writer {
    Dense {
        vectors: ChunkWriter,
        element_bytes: u64,
    },
    Multi {
        vectors: ChunkWriter,
        element_bytes: u64,
        dim: u64,
        /// Begin, count and capacity of each point's vectors, in vectors.
        places: ChunkWriter,
        /// Number of the vector at which the next point's begin.
        next: u64,
    },
    Sparse(GridstoreWriter),
}

/// Bytes of a place of [`Writer::Multi`]: `MultivectorMmapOffset` in
/// lib/segment/src/vector_storage/multi_dense/appendable_mmap_multi_dense_vector_storage.rs.
const PLACE_BYTES: u64 = 12;

impl Writer {
    /// None if there is no storage for vectors of that size.
    fn new(kind: Kind, folder: &Path) -> Result<Option<Self>> {
        let (dim, element_bytes) = match kind {
            Kind::Sparse => {
                let store = GridstoreWriter::new(&folder.join("store"))?;
                return Ok(Some(Self::Sparse(store)));
            }
            Kind::Dense { dim, element_bytes } | Kind::Multi { dim, element_bytes } => {
                (dim, element_bytes)
            }
        };
        let Some(vectors) = ChunkWriter::new(&folder.join("vectors"), dim, element_bytes)? else {
            return Ok(None);
        };
        if matches!(kind, Kind::Dense { .. }) {
            return Ok(Some(Self::Dense {
                vectors,
                element_bytes,
            }));
        }
        let places = ChunkWriter::new(&folder.join("offsets"), 1, PLACE_BYTES)?;
        Ok(places.map(|places| Self::Multi {
            vectors,
            element_bytes,
            dim,
            places,
            next: 0,
        }))
    }

    /// Writes the vector that a record holds, which may be `deleted`: then it is what stands in its place.
    fn write(&mut self, offset: u32, deleted: bool, record: &[u8]) -> Result<(), Failed> {
        match self {
            Self::Dense {
                vectors,
                element_bytes,
            } => {
                let vector = list(record, *element_bytes).filter(|(bytes, rest)| {
                    bytes.len() as u64 == vectors.vector_bytes() && rest.is_empty()
                });
                let (bytes, _) = vector.ok_or(Failed::Record("it is not of the config's size"))?;
                vectors.write(offset.into(), bytes)?;
            }
            Self::Multi {
                vectors,
                element_bytes,
                dim,
                places,
                next,
            } => {
                let (bytes, rest) =
                    list(record, *element_bytes).ok_or(Failed::Record("it is cut off"))?;
                let count = bytes.len() as u64 / vectors.vector_bytes();
                let is_whole = count * vectors.vector_bytes() == bytes.len() as u64;
                if !is_whole || rest != dim.to_le_bytes() {
                    return Err(Failed::Record("it is not of the config's size"));
                }
                if count > vectors.per_chunk() {
                    return Err(Failed::Record("it is larger than any server takes"));
                }
                // The vectors of a point lie in one chunk: servers before 1.19 read no others.
                let left = vectors.per_chunk() - *next % vectors.per_chunk();
                if count > left {
                    *next += left;
                }
                vectors.write(*next, bytes)?;
                let begin =
                    u32::try_from(*next).map_err(|_| Failed::Record("it is one too many"))?;
                let place = [begin, count as u32, count as u32];
                let place: Vec<u8> = place.iter().flat_map(|word| word.to_le_bytes()).collect();
                places.write(offset.into(), &place)?;
                *next += count;
            }
            Self::Sparse(_) if deleted => {}
            Self::Sparse(store) => {
                let mut pairs = pairs(record).ok_or(Failed::Record("it is no sparse vector"))?;
                store.write(offset, &pack_sparse(&mut pairs))?;
            }
        }
        Ok(())
    }

    /// Ends it with at least `length` vectors; returns how many there are.
    fn finish(self, length: u64) -> Result<u64> {
        match self {
            Self::Dense { vectors, .. } => vectors.finish(length),
            Self::Multi {
                vectors, places, ..
            } => {
                vectors.finish(0)?;
                places.finish(length)
            }
            Self::Sparse(store) => store.finish().map(|()| length),
        }
    }
}

/// A list by bincode: its length in eight bytes, and its elements. Returns their bytes, and what follows.
fn list(bytes: &[u8], element_bytes: u64) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let bytes = u64::from_le_bytes(*length).checked_mul(element_bytes)?;
    rest.split_at_checked(usize::try_from(bytes).ok()?)
}

/// A sparse vector: its indices and its values.
fn pairs(record: &[u8]) -> Option<Vec<(u32, f32)>> {
    let (indices, rest) = list(record, 4)?;
    let (values, rest) = list(rest, 4)?;
    if indices.len() != values.len() || !rest.is_empty() {
        return None;
    }
    let (indices, _) = indices.as_chunks();
    let (values, _) = values.as_chunks();
    let both = indices.iter().zip(values);
    Some(
        both.map(|(index, value)| (u32::from_le_bytes(*index), f32::from_le_bytes(*value)))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(count: u64) -> Vec<u8> {
        count.to_le_bytes().to_vec()
    }

    #[test]
    fn lists_are_read_as_bincode_writes_them() {
        let record = [length(2), vec![1, 2, 3, 4], vec![9]].concat();
        assert_eq!(list(&record, 2), Some((&[1, 2, 3, 4][..], &[9][..])));
        assert_eq!(list(&record, 3), None);
        assert_eq!(list(&length(u64::MAX), 4), None);
        assert_eq!(list(&[0; 7], 1), None);
        let sparse = |indices: &[u32], values: &[f32]| -> Vec<u8> {
            let mut bytes = length(indices.len() as u64);
            indices.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
            bytes.extend(length(values.len() as u64));
            values.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
            bytes
        };
        let record = sparse(&[7, 3], &[0.5, -1.0]);
        assert_eq!(pairs(&record), Some(vec![(7, 0.5), (3, -1.0)]));
        assert_eq!(pairs(&sparse(&[], &[])), Some(vec![]));
        assert_eq!(pairs(&sparse(&[1], &[])), None);
        assert_eq!(pairs(&record[..record.len() - 1]), None);
        assert_eq!(pairs(&[record, vec![0]].concat()), None);
    }

    #[test]
    fn multivectors_do_not_cross_chunks() {
        let folder = tempfile::tempdir().unwrap();
        // Three vectors of 9 MiB in a chunk.
        let dim = 9 << 20;
        let kind = Kind::Multi {
            dim,
            element_bytes: 1,
        };
        let mut writer = Writer::new(kind, folder.path()).unwrap().unwrap();
        let record = |count: u64| {
            let bytes = vec![count as u8; (count * dim) as usize];
            [length(count * dim), bytes, length(dim)].concat()
        };
        for (offset, count) in [(4, 2), (0, 2), (1, 1), (3, 3)] {
            assert!(writer.write(offset, false, &record(count)).is_ok());
        }
        for wrong in [
            record(4),
            record(1)[1..].to_vec(),
            [record(1), vec![0]].concat(),
        ] {
            let refused = writer.write(5, false, &wrong);
            assert!(matches!(refused, Err(Failed::Record(_))));
        }
        assert_eq!(writer.finish(6).unwrap_or(0), 6);
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        let places = read("offsets/chunk_0.mmap");
        let place = |at: usize| -> Vec<u32> {
            let (words, _) = places[at * 12..][..12].as_chunks();
            words.iter().map(|word| u32::from_le_bytes(*word)).collect()
        };
        // The second begins a chunk; the third fills it up.
        assert_eq!(place(4), [0, 2, 2]);
        assert_eq!(place(0), [3, 2, 2]);
        assert_eq!(place(1), [5, 1, 1]);
        assert_eq!(place(3), [6, 3, 3]);
        assert_eq!(place(2), [0, 0, 0]);
        assert_eq!(read("vectors/chunk_1.mmap")[..2], [2, 2]);
        assert_eq!(read("vectors/status.dat"), 9_u64.to_le_bytes());
    }
}
