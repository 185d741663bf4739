//! Between our records and the engine's.
//!
//! Invariants: nothing is lost or computed on the way, in either direction.

use std::collections::HashMap;

use qdrant_edge::{
    Payload, PointId as EngineId, PointStructPersisted, Record as EngineRecord, SparseVector,
    VectorInternal, VectorPersisted, VectorStructInternal, VectorStructPersisted,
};

use crate::point::numbers::to_be_read_back;
use crate::point::{PointId, Record, Vector};

/// Our id for the engine's.
pub(super) fn id_from(id: EngineId) -> PointId {
    match id {
        EngineId::NumId(num) => PointId::Num(num),
        EngineId::Uuid(uuid) => PointId::Uuid(uuid),
    }
}

/// The engine's id for ours.
pub(super) fn id_to(id: PointId) -> EngineId {
    match id {
        PointId::Num(num) => EngineId::NumId(num),
        PointId::Uuid(uuid) => EngineId::Uuid(uuid),
    }
}

/// Our record for the engine's.
pub(super) fn record_from(record: EngineRecord) -> Record {
    let mut vectors = match record.vector {
        None => Vec::new(),
        Some(VectorStructInternal::Single(values)) => {
            vec![(String::new(), Vector::Dense(values))]
        }
        Some(VectorStructInternal::MultiDense(multi)) => vec![(
            String::new(),
            Vector::Multi {
                dim: multi.dim,
                flat: multi.flattened_vectors,
            },
        )],
        Some(VectorStructInternal::Named(named)) => named
            .into_iter()
            .map(|(name, vector)| (name, vector_from(vector)))
            .collect(),
    };
    vectors.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Record {
        id: id_from(record.id),
        vectors,
        payload: record.payload.map(|payload| payload.0).unwrap_or_default(),
        shard_key: None,
    }
}

fn vector_from(vector: VectorInternal) -> Vector {
    match vector {
        VectorInternal::Dense(values) => Vector::Dense(values),
        VectorInternal::MultiDense(multi) => Vector::Multi {
            dim: multi.dim,
            flat: multi.flattened_vectors,
        },
        VectorInternal::Sparse(sparse) => Vector::sparse(sparse.indices, sparse.values),
    }
}

/// The engine's point for our record.
pub(super) fn point_to(mut record: Record) -> PointStructPersisted {
    to_be_read_back(&mut record.payload);
    let mut vectors = record.vectors;
    let unnamed_dense = matches!(
        vectors.as_slice(),
        [(name, Vector::Dense(_))] if name.is_empty()
    );
    let vector = match vectors.pop() {
        Some((_, Vector::Dense(values))) if unnamed_dense => VectorStructPersisted::Single(values),
        last => VectorStructPersisted::Named(
            vectors
                .into_iter()
                .chain(last)
                .map(|(name, vector)| (name, vector_to(vector)))
                .collect::<HashMap<_, _>>(),
        ),
    };
    PointStructPersisted {
        id: id_to(record.id),
        vector,
        payload: Some(Payload(record.payload)),
    }
}

fn vector_to(vector: Vector) -> VectorPersisted {
    match vector {
        Vector::Dense(values) => VectorPersisted::Dense(values),
        Vector::Multi { dim, flat } => {
            VectorPersisted::MultiDense(flat.chunks(dim.max(1)).map(<[f32]>::to_vec).collect())
        }
        Vector::Sparse { indices, values } => {
            VectorPersisted::Sparse(SparseVector { indices, values })
        }
    }
}

/// A moment: microseconds since 1970 in UTC, and the digits below them, in 10^-18 seconds.
pub type Date = (i64, u64);

/// A date as Qdrant reads it (`DateTimeWrapper` in lib/segment/src/types.rs), and what Qdrant cuts off
/// below a microsecond.
pub fn date(text: &str) -> Option<Date> {
    const MICROS_DIGITS: usize = 6;
    const REST_DIGITS: usize = 12;
    let date: qdrant_edge::DateTimeWrapper = text.parse().ok()?;
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    let rest = fraction
        .bytes()
        .take_while(u8::is_ascii_digit)
        .skip(MICROS_DIGITS)
        .chain(std::iter::repeat(b'0'))
        .take(REST_DIGITS)
        .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some((date.timestamp(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_told_apart_below_a_microsecond() {
        let of = |text| date(text).unwrap();
        assert_eq!(of("1970-01-01T00:00:00.000001Z"), (1, 0));
        assert_eq!(
            of("1970-01-01T01:00:00.0000019+01:00"),
            (1, 900_000_000_000)
        );
        assert!(of("2017-03-01T00:00:00.123456789Z") > of("2017-03-01T00:00:00.123456788Z"));
        assert!(of("2017-03-01 00:00:00.1") == of("2017-03-01T00:00:00.100000000Z"));
        assert_eq!(date("soon"), None);
    }
}
