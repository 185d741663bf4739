//! Between our records and the engine's.
//!
//! Keeps true: nothing is lost or computed on the way, in either direction.

use std::collections::HashMap;

use qdrant_edge::{
    Payload, PointId as EngineId, PointStructPersisted, Record as EngineRecord, SparseVector,
    VectorInternal, VectorPersisted, VectorStructInternal, VectorStructPersisted,
};

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
pub(super) fn point_to(record: Record) -> PointStructPersisted {
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

/// A date as Qdrant reads it (`DateTimeWrapper` in lib/segment/src/types.rs), in microseconds since
/// 1970 in UTC.
pub fn datetime_micros(text: &str) -> Option<i64> {
    text.parse::<qdrant_edge::DateTimeWrapper>()
        .ok()
        .map(|date| date.timestamp())
}
