//! A record as bytes in a scratch file, or in a run of a job.
//!
//! Invariants: what is read is what was written, bit by bit; bytes that are no record are an error, never
//! another record. The form is nobody's business but this version's: scratch does not outlive its process, and all tasks
//! of a job are of one version.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{PointId, Record, ShardKey, Vector};

/// All of a record but the numbers of its vectors, which follow as they lie in memory.
#[derive(Serialize, Deserialize)]
struct Head<'a>(
    PointId,
    #[serde(borrow)] Vec<(std::borrow::Cow<'a, str>, Shape)>,
    std::borrow::Cow<'a, Map<String, Value>>,
    Option<ShardKey>,
);

/// Lengths of a vector.
#[derive(Serialize, Deserialize)]
enum Shape {
    Dense(u32),
    Sparse(u32),
    Multi(u32, u32),
}

impl Record {
    /// Adds the bytes of the record to `out`.
    pub fn store(&self, out: &mut Vec<u8>) -> Result<(), String> {
        let length = |length: usize| u32::try_from(length).map_err(|err| err.to_string());
        let mut vectors = Vec::with_capacity(self.vectors.len());
        for (name, vector) in &self.vectors {
            let shape = match vector {
                Vector::Dense(values) => Shape::Dense(length(values.len())?),
                Vector::Sparse { values, .. } => Shape::Sparse(length(values.len())?),
                Vector::Multi { dim, flat } => Shape::Multi(length(*dim)?, length(flat.len())?),
            };
            vectors.push((name.as_str().into(), shape));
        }
        let payload = std::borrow::Cow::Borrowed(&self.payload);
        let head = Head(self.id, vectors, payload, self.shard_key.clone());
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        rmp_serde::encode::write(out, &head).map_err(|err| err.to_string())?;
        let head_bytes = length(out.len() - at - 4)?;
        if let Some(place) = out.get_mut(at..at + 4) {
            place.copy_from_slice(&head_bytes.to_le_bytes());
        }
        for (_, vector) in &self.vectors {
            match vector {
                Vector::Dense(values) | Vector::Multi { flat: values, .. } => floats(values, out),
                Vector::Sparse { indices, values } => {
                    indices
                        .iter()
                        .for_each(|index| out.extend_from_slice(&index.to_le_bytes()));
                    floats(values, out);
                }
            }
        }
        Ok(())
    }

    /// Reads a record that [`Self::store`] wrote.
    pub fn restore(bytes: &[u8]) -> Result<Self, String> {
        let short = || "a record is too short".to_owned();
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (head, rest) = rest.split_at_checked(length).ok_or_else(short)?;
        let head: Head<'_> = rmp_serde::from_slice(head).map_err(|err| err.to_string())?;
        let Head(id, shapes, payload, shard_key) = head;
        let mut words = Words { rest };
        let mut vectors = Vec::with_capacity(shapes.len());
        for (name, shape) in shapes {
            let vector = match shape {
                Shape::Dense(length) => Vector::Dense(words.floats(length)?),
                Shape::Multi(dim, length) => Vector::Multi {
                    dim: dim as usize,
                    flat: words.floats(length)?,
                },
                Shape::Sparse(length) => {
                    let (indices, values) = (words.take(length)?, words.floats(length)?);
                    let indices = indices.iter().map(|word| u32::from_le_bytes(*word));
                    Vector::Sparse {
                        indices: indices.collect(),
                        values,
                    }
                }
            };
            vectors.push((name.into_owned(), vector));
        }
        match words.rest.is_empty() {
            true => Ok(Self {
                id,
                vectors,
                payload: payload.into_owned(),
                shard_key,
            }),
            false => Err("a record is too long".into()),
        }
    }
}

fn floats(values: &[f32], out: &mut Vec<u8>) {
    out.reserve(values.len() * 4);
    values
        .iter()
        .for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

/// Words of four bytes.
struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    fn take(&mut self, count: u32) -> Result<&'a [[u8; 4]], String> {
        let bytes = (count as usize).checked_mul(4);
        let split = bytes.and_then(|bytes| self.rest.split_at_checked(bytes));
        let (taken, rest) = split.ok_or("a vector is too short")?;
        self.rest = rest;
        Ok(taken.as_chunks().0)
    }

    fn floats(&mut self, count: u32) -> Result<Vec<f32>, String> {
        let words = self.take(count)?;
        Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_restored() {
        for line in [
            r#"{"id":7,"payload":{"n":18446744073709551615,"i":-5,"f":0.1,"z":null},"vector":[0.1,-2.0]}"#,
            r#"{"id":7,"payload":{},"vector":{"m":[[1.0,2.0],[3.0,4.0]],"s":{"indices":[3],"values":[0.5]}},"shard_key":2019}"#,
            r#"{"id":"550e8400-e29b-41d4-a716-446655440000","payload":{"b":[{"ü":1e300}],"a":true},"vector":{},"shard_key":"2019"}"#,
        ] {
            let mut record = Record::from_scrolled(&serde_json::from_str(line).unwrap()).unwrap();
            if let Some((_, Vector::Dense(values))) = record.vectors.first_mut() {
                values.push(-0.0);
            }
            let mut bytes = Vec::new();
            record.store(&mut bytes).unwrap();
            let read = Record::restore(&bytes).unwrap();
            assert_eq!(read, record);
            assert_eq!(format!("{read:?}"), format!("{record:?}"));
            for cut in 0..bytes.len() {
                assert!(Record::restore(&bytes[..cut]).is_err(), "{cut} of {line}");
            }
            bytes.push(0);
            assert!(Record::restore(&bytes).is_err());
        }
    }
}
