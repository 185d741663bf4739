//! Searching a shard for the nearest points to a vector.
//!
//! Invariants: an exact search looks at every vector as it was stored, not at its quantized form; the
//! best comes first, whatever the distance.

use qdrant_edge::{
    NamedQuery, QuantizationSearchParams, QueryEnum, QueryRequest, ScoringQuery, SearchParams,
    SparseVector, TypedMultiDenseVector, VectorInternal,
};

use super::convert::id_from;
use super::filter::Filter;
use super::shard::Shard;
use crate::base::error::Result;
use crate::point::{PointId, Vector};

/// A point that a search found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The point.
    pub id: PointId,
    /// Score, in the terms of the vector's distance.
    pub score: f32,
}

/// A search for the nearest points.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// The vector's name; empty for the unnamed one.
    pub name: &'a str,
    /// Query vector.
    pub vector: &'a Vector,
    /// Maximum number of hits.
    pub top: usize,
    /// True to compare every stored vector instead of using an index.
    pub exact: bool,
    /// Of quantized vectors, how many times as many are found by their codes, and then compared as they were
    /// stored; what the engine does by default if none.
    pub oversampling: Option<f64>,
    /// Only among points that match it.
    pub filter: Option<&'a Filter>,
}

impl Shard {
    /// The nearest points, the best first.
    pub fn nearest(&self, search: Search<'_>) -> Result<Vec<Hit>> {
        let query = match search.vector.clone() {
            Vector::Dense(values) => VectorInternal::Dense(values),
            Vector::Sparse { indices, values } => {
                VectorInternal::Sparse(SparseVector { indices, values })
            }
            Vector::Multi { dim, flat } => VectorInternal::MultiDense(TypedMultiDenseVector {
                flattened_vectors: flat,
                dim,
            }),
        };
        let using = (!search.name.is_empty()).then(|| search.name.to_owned());
        let mut request = QueryRequest::new(search.top);
        request.query = Some(ScoringQuery::Vector(QueryEnum::Nearest(NamedQuery {
            query,
            using,
        })));
        request.filter = search.filter.map(Filter::inner);
        request.params = Some(SearchParams {
            exact: search.exact,
            quantization: match (search.exact, search.oversampling) {
                (false, None) => None,
                (true, _) => Some(QuantizationSearchParams {
                    ignore: true,
                    ..QuantizationSearchParams::default()
                }),
                (false, oversampling) => Some(QuantizationSearchParams {
                    rescore: Some(true),
                    oversampling,
                    ..QuantizationSearchParams::default()
                }),
            },
            ..SearchParams::default()
        });
        let doing = || format!("searching {}", self.what());
        let found = self.contain(&doing, |shard| shard.query(request))?;
        Ok(found
            .into_iter()
            .map(|point| Hit {
                id: id_from(point.id),
                score: point.score,
            })
            .collect())
    }
}
