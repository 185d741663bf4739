//! Checks that a point that a server gives back is the one that it was given.
//!
//! A server normalizes vectors of the distance Cosine when they are written. One that comes from a server is
//! normalized already, within the precision of its type, and is then mostly left alone, bit by bit; where it
//! is not, it differs in the last bits.
//!
//! Invariants: ids, payloads, shard keys, names and lengths of vectors, and all values of other
//! distances are equal or they are not; nearness is for Cosine alone, and is told.

use std::collections::BTreeMap;

use crate::format::schema::{CollectionConfig, Datatype, Distance};
use crate::point::{Differing, Record, Vector};

/// Tolerance for the values of a vector.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Leeway {
    /// Relative to the value.
    relative: f32,
    /// Added to that.
    absolute: f32,
}

/// Tolerances for the vectors of a collection, by their names.
#[derive(Debug, Clone, Default)]
pub struct Nearness {
    by_name: BTreeMap<String, Leeway>,
}

/// Result of comparing two points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Likeness {
    /// Equal bit by bit.
    Equal,
    /// Equal but for the last bits of vectors; the largest difference of two values.
    Near(f32),
    /// Different points.
    Different,
}

impl Nearness {
    /// For the vectors of `config`.
    pub fn new(config: &CollectionConfig) -> Self {
        let leeway = |datatype: Datatype| match datatype {
            Datatype::Float32 => Some(Leeway {
                relative: 1e-5,
                absolute: 1e-7,
            }),
            // Half a thousandth is what it rounds to.
            Datatype::Float16 => Some(Leeway {
                relative: 1e-3,
                absolute: 1e-6,
            }),
            // Bytes are not normalized.
            _ => None,
        };
        let by_name = config
            .vectors()
            .iter()
            .filter(|(_, params)| params.distance == Distance::Cosine)
            .filter_map(|(name, params)| Some((name.clone(), leeway(params.datatype())?)))
            .collect();
        Self { by_name }
    }

    /// Compares `there` with `given`.
    pub fn compare(&self, given: &Record, there: &Record) -> Likeness {
        let differing = Differing::between(given, there);
        if given.id != there.id || !differing.payload.is_empty() || differing.shard_key {
            return Likeness::Different;
        }
        if differing.is_empty() {
            return Likeness::Equal;
        }
        fn of<'r>(record: &'r Record, name: &str) -> Option<&'r Vector> {
            let found = record.vectors.iter().find(|(known, _)| known == name);
            found.map(|(_, vector)| vector)
        }
        let mut largest = 0.0_f32;
        for name in &differing.vectors {
            let apart = match (of(given, name), of(there, name)) {
                (Some(given), Some(there)) => self.vector(name, given, there),
                _ => None,
            };
            match apart {
                Some(apart) => largest = largest.max(apart),
                None => return Likeness::Different,
            }
        }
        Likeness::Near(largest)
    }

    /// Returns the largest difference of two values of vectors that differ; none if it is too large.
    fn vector(&self, name: &str, given: &Vector, there: &Vector) -> Option<f32> {
        let (given, there) = match (given, there) {
            (Vector::Dense(given), Vector::Dense(there)) => (given, there),
            (
                Vector::Multi { dim, flat },
                Vector::Multi {
                    dim: dim_there,
                    flat: flat_there,
                },
            ) if dim == dim_there => (flat, flat_there),
            (given, there) => return (given == there).then_some(0.0),
        };
        if given.len() != there.len() {
            return None;
        }
        let leeway = self.by_name.get(name)?;
        let mut largest = 0.0_f32;
        for (given, there) in given.iter().zip(there) {
            let apart = (given - there).abs();
            let allowed = leeway.relative * given.abs() + leeway.absolute;
            // Not a number is never near.
            if apart.is_nan() || apart > allowed {
                return None;
            }
            largest = largest.max(apart);
        }
        Some(largest)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::point::PointId;
    use crate::point::ShardKey;

    fn nearness() -> Nearness {
        let config = json!({
            "params": {
                "vectors": {
                    "cosine": {"size": 2, "distance": "Cosine"},
                    "half": {"size": 2, "distance": "Cosine", "datatype": "float16"},
                    "byte": {"size": 2, "distance": "Cosine", "datatype": "uint8"},
                    "dot": {"size": 2, "distance": "Dot"},
                },
                "shard_number": 1,
            },
            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000},
            "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": 5,
                "deleted_threshold": 0.2, "vacuum_min_vector_number": 1000},
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
        });
        let bytes = config.to_string();
        Nearness::new(&CollectionConfig::parse("a test", bytes.as_bytes()).unwrap())
    }

    fn record(name: &str, values: [f32; 2]) -> Record {
        Record {
            id: PointId::Num(7),
            vectors: vec![(name.to_owned(), Vector::Dense(values.to_vec()))],
            payload: [("a".to_owned(), json!(1))].into_iter().collect(),
            shard_key: None,
        }
    }

    #[test]
    fn only_cosine_may_be_near_and_only_so_near() {
        let near = nearness();
        for (name, given, there, like) in [
            ("cosine", [0.6, 0.8], [0.6, 0.8], Some(true)),
            ("cosine", [0.6, 0.8], [0.600_001, 0.8], Some(false)),
            ("cosine", [0.6, 0.8], [0.601, 0.8], None),
            ("cosine", [0.6, 0.8], [f32::NAN, 0.8], None),
            ("half", [0.6, 0.8], [0.600_5, 0.8], Some(false)),
            ("half", [0.6, 0.8], [0.602, 0.8], None),
            ("byte", [6.0, 8.0], [6.000_01, 8.0], None),
            ("dot", [0.6, 0.8], [0.600_000_1, 0.8], None),
            ("dot", [0.0, 0.8], [-0.0, 0.8], None),
        ] {
            let got = near.compare(&record(name, given), &record(name, there));
            match like {
                Some(true) => assert_eq!(got, Likeness::Equal, "{name} {there:?}"),
                Some(false) => assert!(matches!(got, Likeness::Near(_)), "{name} {there:?}"),
                None => assert_eq!(got, Likeness::Different, "{name} {there:?}"),
            }
        }
    }

    #[test]
    fn everything_else_is_equal_or_not() {
        let near = nearness();
        let given = record("cosine", [0.6, 0.8]);
        let bent = record("cosine", [0.600_001, 0.8]);
        for other in [
            Record {
                id: PointId::Num(8),
                ..bent.clone()
            },
            Record {
                payload: [("a".to_owned(), json!(1.0))].into_iter().collect(),
                ..bent.clone()
            },
            Record {
                shard_key: Some(ShardKey::Number(1)),
                ..bent.clone()
            },
            Record {
                vectors: Vec::new(),
                ..bent.clone()
            },
            record("half", [0.6, 0.8]),
            Record {
                vectors: vec![("cosine".into(), Vector::Dense(vec![0.6]))],
                ..bent.clone()
            },
        ] {
            assert_eq!(
                near.compare(&given, &other),
                Likeness::Different,
                "{other:?}"
            );
        }
    }
}
