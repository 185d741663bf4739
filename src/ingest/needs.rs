//! Disk space that the snapshots of an ingest need.
//!
//! Invariants: memory grows with the number of collections, not of points.

use std::io;

use crate::build::Needs;
use crate::format::schema::{CollectionConfig, Datatype};
use crate::point::{Record, Vector};

/// Bytes of a point beside its vectors and payload: its ids and versions, and a block of the payload storage.
const POINT_BYTES: u64 = 200;

/// Bytes that points take when they are stored, by their collections.
pub(super) struct ByCollection {
    config: CollectionConfig,
    bytes: Vec<u64>,
}

impl ByCollection {
    /// Of collections with `config`.
    pub fn new(config: &CollectionConfig) -> Self {
        Self {
            config: config.clone(),
            bytes: Vec::new(),
        }
    }

    /// Takes in a point of the collection number `collection`.
    pub fn add(&mut self, collection: u32, record: &Record) {
        let at = usize::try_from(collection).unwrap_or(usize::MAX);
        if at >= self.bytes.len() {
            self.bytes.resize(at + 1, 0);
        }
        let bytes = self.stored(record);
        if let Some(sum) = self.bytes.get_mut(at) {
            *sum += bytes;
        }
    }

    fn stored(&self, record: &Record) -> u64 {
        let mut payload = Counter(0);
        // Into a counter nothing fails.
        let _ = serde_json::to_writer(&mut payload, &record.payload);
        let vectors = record.vectors.iter().map(|(name, vector)| match vector {
            Vector::Sparse { indices, .. } => 8 * indices.len() as u64,
            Vector::Dense(values) | Vector::Multi { flat: values, .. } => {
                let datatype = self
                    .config
                    .vectors()
                    .get(name)
                    .map(|params| params.datatype());
                let each = match datatype {
                    Some(Datatype::Uint8) => 1,
                    Some(Datatype::Float16) => 2,
                    _ => 4,
                };
                each * values.len() as u64
            }
        });
        POINT_BYTES + payload.0 + vectors.sum::<u64>()
    }

    /// Memory and disk to build the collections, of which the engine takes `engine` in any case; `is_gz` if the snapshots
    /// are compressed. They are built one after the other, and all are there before the first has its name.
    pub fn needs(&self, engine: u64, is_gz: bool) -> Needs {
        let largest = self.bytes.iter().copied().max().unwrap_or(0);
        let all: u64 = self.bytes.iter().sum();
        Needs {
            // Built, indexed beside, and unpacked again to be proven.
            scratch_bytes: engine + 3 * largest,
            output_bytes: all + if is_gz { largest } else { 0 },
            changing_bytes: 0,
        }
    }
}

/// Counts bytes.
struct Counter(u64);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::point::PointId;

    #[test]
    fn needs_are_those_of_what_is_stored() {
        let config = CollectionConfig::by_default(
            "a test",
            &json!({"b": {"size": 100, "distance": "Dot", "datatype": "uint8"}, "d": {"size": 100, "distance": "Dot"}}),
            &json!({}),
        )
        .unwrap();
        let mut sizes = ByCollection::new(&config);
        let mut record = Record::bare(PointId::Num(1));
        record.payload = json!({"a": "bc"}).as_object().cloned().unwrap();
        let empty = POINT_BYTES + 10;
        for (collection, name) in [(1, "b"), (0, "d"), (1, "b")] {
            record.vectors = vec![(name.into(), Vector::Dense(vec![0.0; 100]))];
            sizes.add(collection, &record);
        }
        let (first, second) = (empty + 400, 2 * (empty + 100));
        let needs = sizes.needs(7, false);
        assert_eq!(needs.scratch_bytes, 7 + 3 * second.max(first));
        assert_eq!(needs.output_bytes, first + second);
        let compressed = sizes.needs(7, true).output_bytes;
        assert_eq!(compressed, first + second + second.max(first));
    }
}
