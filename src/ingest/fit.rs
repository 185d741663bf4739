//! A point as a collection stores it, or why it cannot.
//!
//! A server changes vectors when it takes them in: those of the distance Cosine are normalized (lib/segment/src/
//! spaces/simple.rs), numbers are rounded to what the config says. The same is done here, so that what is
//! proven afterwards is what a server would have; what was stored already is left as it is.
//!
//! A payload is stored as JSON text, and what a server reads back of a number with many digits may be its neighbour:
//! that one is taken at once.
//!
//! Invariants: a point that fits has vectors that the config knows, of the right kind and length, and every
//! number of them is one that is stored as it is.

use std::collections::BTreeSet;

use half::f16;

use crate::format::schema::{CollectionConfig, Datatype, Distance, VectorParams, vector_label};
use crate::point::numbers::{change_floats, read_back, written_for};
use crate::point::{Record, Vector};

/// Vectors that are as a server stores them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AsStored {
    /// All.
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl AsStored {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

/// Rules by which points are fitted to a config.
#[derive(Debug, Clone, Copy)]
pub struct Fitting<'a> {
    /// Config of the collection.
    pub config: &'a CollectionConfig,
    /// Which vectors are as a server stores them.
    pub as_stored: &'a AsStored,
    /// True if numbers that are not finite are taken.
    pub allow_nan: bool,
}

impl Fitting<'_> {
    /// Makes `record` what is stored.
    pub fn fit(self, record: &mut Record) -> Result<(), String> {
        change_floats(&mut record.payload, storable);
        for (name, vector) in &mut record.vectors {
            let fitted = match self.config.vectors().get(name) {
                Some(params) => self.dense(params, self.as_stored.has(name), vector),
                None if self.config.sparse_vectors().contains_key(name) => sparse(vector),
                None => Err("the collection has no such vector".into()),
            };
            let fitted = match fitted {
                Ok(()) if !self.allow_nan && !vector.is_finite() => {
                    Err("it has NaN or an infinite number; --allow-nan takes it".into())
                }
                fitted => fitted,
            };
            fitted.map_err(|why| format!("{}: {why}", vector_label(name)))?;
        }
        Ok(())
    }

    fn dense(
        self,
        params: &VectorParams,
        as_stored: bool,
        vector: &mut Vector,
    ) -> Result<(), String> {
        let size = usize::try_from(params.size).unwrap_or(usize::MAX);
        let is_multi = params.multivector.is_some();
        // A list of one list and one of numbers are told apart by what is in them; an empty one by nothing.
        let (dim, flat) = match (vector, is_multi) {
            (Vector::Dense(values), false) => (values.len(), values),
            (Vector::Multi { dim, flat }, true) if !flat.is_empty() => (*dim, flat),
            (Vector::Multi { .. } | Vector::Dense(_), true) => {
                return Err("it is no list of vectors, or an empty one".into());
            }
            (Vector::Multi { .. }, false) => return Err("it is a list of vectors".into()),
            (Vector::Sparse { .. }, _) => return Err("it is a sparse vector".into()),
        };
        if dim != size {
            return Err(format!(
                "it has {dim} dimensions, the collection's have {size}"
            ));
        }
        let datatype = params.datatype();
        if params.distance == Distance::Cosine && datatype != Datatype::Uint8 && !as_stored {
            flat.chunks_mut(size.max(1)).for_each(normalize);
        }
        match datatype {
            Datatype::Uint8 => bytes(flat),
            Datatype::Float16 => {
                flat.iter_mut()
                    .for_each(|value| *value = f16::from_f32(*value).to_f32());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The number that is read of what is stored for `float`: itself, if some text gives it.
fn storable(float: f64) -> f64 {
    match written_for(float) {
        Some(_) => float,
        None => read_back(float),
    }
}

/// As `cosine_preprocess` does it, which may add in another order where the processor has wide registers: the
/// last bits may then be others.
fn normalize(values: &mut [f32]) {
    let length: f32 = values.iter().map(|value| value * value).sum();
    if length < f32::EPSILON || (length - 1.0).abs() <= 1.0e-6 {
        return;
    }
    let length = length.sqrt();
    values.iter_mut().for_each(|value| *value /= length);
}

fn bytes(values: &mut [f32]) -> Result<(), String> {
    for value in values {
        if !(0.0..=255.0).contains(value) || value.fract() != 0.0 {
            return Err(format!(
                "it is stored as uint8, and {value} is no whole number from 0 to 255"
            ));
        }
        // A byte has no sign.
        *value = value.abs();
    }
    Ok(())
}

fn sparse(vector: &Vector) -> Result<(), String> {
    let Vector::Sparse { indices, .. } = vector else {
        return Err("it is no sparse vector with indices and values".into());
    };
    match indices.array_windows().find(|[a, b]| a == b) {
        None => Ok(()),
        Some([index, _]) => Err(format!("it has the index {index} twice")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::point::PointId;

    fn fit(
        config: &CollectionConfig,
        as_stored: &AsStored,
        name: &str,
        vector: Vector,
    ) -> Result<Vector, String> {
        let fitting = Fitting {
            config,
            as_stored,
            allow_nan: false,
        };
        let mut record = Record::bare(PointId::Num(1));
        record.vectors.push((name.into(), vector));
        fitting.fit(&mut record)?;
        Ok(record.vectors.pop().unwrap().1)
    }

    #[test]
    fn vectors_become_what_a_server_stores() {
        let config = CollectionConfig::by_default(
            "a test",
            &json!({
                "c": {"size": 2, "distance": "Cosine"},
                "d": {"size": 2, "distance": "Dot"},
                "h": {"size": 2, "distance": "Dot", "datatype": "float16"},
                "b": {"size": 2, "distance": "Cosine", "datatype": "uint8"},
                "m": {"size": 2, "distance": "Cosine", "multivector_config": {"comparator": "max_sim"}},
            }),
            &json!({"s": {}}),
        )
        .unwrap();
        let none = AsStored::Only(BTreeSet::new());
        let dense = |values: &[f32]| Vector::Dense(values.to_vec());
        let multi = |flat: &[f32]| Vector::Multi {
            dim: 2,
            flat: flat.to_vec(),
        };
        for (name, given, stored) in [
            ("c", dense(&[3.0, 4.0]), dense(&[0.6, 0.8])),
            ("c", dense(&[0.0, 0.0]), dense(&[0.0, 0.0])),
            ("c", dense(&[0.6, 0.8]), dense(&[0.6, 0.8])),
            ("d", dense(&[3.0, 4.0]), dense(&[3.0, 4.0])),
            ("h", dense(&[0.1, 4.0]), dense(&[0.099_975_586, 4.0])),
            ("b", dense(&[-0.0, 255.0]), dense(&[0.0, 255.0])),
            (
                "m",
                multi(&[3.0, 4.0, 0.0, 2.0]),
                multi(&[0.6, 0.8, 0.0, 1.0]),
            ),
        ] {
            assert_eq!(fit(&config, &none, name, given).unwrap(), stored, "{name}");
        }
        let stored = fit(&config, &AsStored::All, "c", dense(&[3.0, 4.0])).unwrap();
        assert_eq!(stored, dense(&[3.0, 4.0]));
        for (name, given, says) in [
            ("x", dense(&[1.0, 2.0]), "no such vector"),
            ("c", dense(&[1.0]), "1 dimensions"),
            ("c", dense(&[1.0, f32::NAN]), "NaN"),
            ("c", multi(&[1.0, 2.0]), "list of vectors"),
            ("m", dense(&[1.0, 2.0]), "no list"),
            ("m", multi(&[]), "empty"),
            ("b", dense(&[1.0, 256.0]), "256"),
            ("b", dense(&[1.0, 0.5]), "0.5"),
            ("s", dense(&[1.0]), "no sparse"),
            ("s", Vector::sparse(vec![3, 3], vec![1.0, 2.0]), "twice"),
            ("d", Vector::sparse(vec![3], vec![1.0]), "sparse"),
        ] {
            let why = fit(&config, &none, name, given).unwrap_err();
            assert!(why.contains(says), "{name}: {why}");
        }
    }
}
