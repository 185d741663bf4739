//! Vectors as columns of a table.
//!
//! A dense vector is a fixed-size list of 32-bit floats (of bytes, where they are stored as such), a
//! multivector a list of those, a sparse vector a struct of two lists, `indices` and `values`.
//!
//! Invariants: a vector that is read is the one that was written, bit by bit; one that a point lacks is null.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, FixedSizeListBuilder, Float32Builder, ListBuilder, UInt8Builder, UInt32Builder,
};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field};

use crate::format::schema::{Datatype, VectorParams};
use crate::point::Vector;

/// Vectors of one name, on their way into a table.
pub(super) enum VectorBuilder {
    Dense(FixedSizeListBuilder<Float32Builder>),
    Bytes(FixedSizeListBuilder<UInt8Builder>),
    Multi(ListBuilder<FixedSizeListBuilder<Float32Builder>>),
    Sparse {
        indices: ListBuilder<UInt32Builder>,
        values: ListBuilder<Float32Builder>,
        valid: Vec<bool>,
    },
}

impl VectorBuilder {
    /// For dense vectors as `params` say; sparse ones have none.
    pub fn new(params: Option<&VectorParams>) -> Result<Self, String> {
        let Some(params) = params else {
            return Ok(Self::Sparse {
                indices: ListBuilder::new(UInt32Builder::new()),
                values: ListBuilder::new(Float32Builder::new()),
                valid: Vec::new(),
            });
        };
        let size = i32::try_from(params.size).map_err(|err| err.to_string())?;
        let dense = || FixedSizeListBuilder::new(Float32Builder::new(), size);
        Ok(match (&params.multivector, params.datatype()) {
            (Some(_), _) => Self::Multi(ListBuilder::new(dense())),
            (None, Datatype::Uint8) => {
                Self::Bytes(FixedSizeListBuilder::new(UInt8Builder::new(), size))
            }
            (None, _) => Self::Dense(dense()),
        })
    }

    /// Adds the vector of the next point.
    pub fn push(&mut self, vector: Option<&Vector>) -> Result<(), String> {
        match (self, vector) {
            (Self::Dense(list), vector) => {
                dense(list, vector, append_floats, Float32Builder::append_nulls)
            }
            (Self::Bytes(list), vector) => {
                dense(list, vector, append_bytes, UInt8Builder::append_nulls)
            }
            (Self::Multi(builder), None) => {
                builder.append(false);
                Ok(())
            }
            (Self::Multi(builder), Some(Vector::Multi { dim, flat })) => {
                for one in flat.chunks((*dim).max(1)) {
                    let list = builder.values();
                    refuse_length(one.len(), list.value_length())?;
                    list.values().append_slice(one);
                    list.append(true);
                }
                builder.append(true);
                Ok(())
            }
            (
                Self::Sparse {
                    indices,
                    values,
                    valid,
                },
                vector,
            ) => {
                let parts = match vector {
                    None => None,
                    Some(Vector::Sparse { indices, values }) => Some((indices, values)),
                    Some(_) => return Err("a dense vector has the name of a sparse one".into()),
                };
                if let Some((of_indices, of_values)) = parts {
                    indices.values().append_slice(of_indices);
                    values.values().append_slice(of_values);
                }
                indices.append(parts.is_some());
                values.append(parts.is_some());
                valid.push(parts.is_some());
                Ok(())
            }
            (Self::Multi(_), Some(_)) => Err("a vector is no multivector".into()),
        }
    }

    /// The column of all that were added.
    pub fn finish(&mut self) -> Result<ArrayRef, String> {
        Ok(match self {
            Self::Dense(builder) => Arc::new(builder.finish()),
            Self::Bytes(builder) => Arc::new(builder.finish()),
            Self::Multi(builder) => Arc::new(builder.finish()),
            Self::Sparse {
                indices,
                values,
                valid,
            } => {
                let columns: Vec<ArrayRef> =
                    vec![Arc::new(indices.finish()), Arc::new(values.finish())];
                let names = ["indices", "values"];
                let fields: Vec<Field> = (names.iter().zip(&columns))
                    .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
                    .collect();
                let nulls = NullBuffer::from(std::mem::take(valid));
                let built = StructArray::try_new(fields.into(), columns, Some(nulls));
                Arc::new(built.map_err(|err| err.to_string())?)
            }
        })
    }
}

/// Adds a dense vector to `list`: its values by `add`, or as many nulls by `add_nulls` if it is none.
fn dense<B: ArrayBuilder>(
    list: &mut FixedSizeListBuilder<B>,
    vector: Option<&Vector>,
    add: impl FnOnce(&mut B, &[f32]) -> Result<(), String>,
    add_nulls: impl FnOnce(&mut B, usize),
) -> Result<(), String> {
    match vector {
        Some(Vector::Dense(values)) => {
            refuse_length(values.len(), list.value_length())?;
            add(list.values(), values)?;
        }
        Some(_) => return Err("a vector is not dense".into()),
        None => {
            let length = usize::try_from(list.value_length()).unwrap_or_default();
            add_nulls(list.values(), length);
        }
    }
    list.append(vector.is_some());
    Ok(())
}

fn append_floats(builder: &mut Float32Builder, values: &[f32]) -> Result<(), String> {
    builder.append_slice(values);
    Ok(())
}

fn append_bytes(builder: &mut UInt8Builder, values: &[f32]) -> Result<(), String> {
    for value in values {
        builder.append_value(byte(*value).ok_or_else(|| format!("{value} is no byte"))?);
    }
    Ok(())
}

/// A number from 0 to 255 that is whole.
fn byte(value: f32) -> Option<u8> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "compared afterwards"
    )]
    let byte = value as u8;
    (f32::from(byte).to_bits() == value.to_bits()).then_some(byte)
}

fn refuse_length(length: usize, wanted: i32) -> Result<(), String> {
    match usize::try_from(wanted) == Ok(length) {
        true => Ok(()),
        false => Err(format!("a vector has {length} dimensions, not {wanted}")),
    }
}

/// The vector in `column` at `row`; none if it is null.
pub(super) fn vector(column: &dyn Array, row: usize) -> Result<Option<Vector>, String> {
    if column.is_null(row) {
        return Ok(None);
    }
    if let Some(sparse) = column.as_struct_opt() {
        let part = |name: &str| {
            let found = sparse.column_by_name(name);
            let found = found.ok_or_else(|| format!("a sparse vector has no {name}"))?;
            list(found, row)?.ok_or_else(|| format!("the {name} of a sparse vector are null"))
        };
        let indices = whole_numbers(part("indices")?.as_ref())?;
        let values = floats(part("values")?.as_ref())?;
        if indices.len() != values.len() {
            return Err("a sparse vector has more indices than values, or fewer".into());
        }
        return Ok(Some(Vector::sparse(indices, values)));
    }
    let Some(values) = list(column, row)? else {
        return Ok(None);
    };
    match values.data_type() {
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
            let mut flat = Vec::new();
            let mut dim = None;
            for at in 0..values.len() {
                let one = list(values.as_ref(), at)?.ok_or("a vector of a multivector is null")?;
                let one = floats(one.as_ref())?;
                if *dim.get_or_insert(one.len()) != one.len() {
                    return Err("the vectors of a multivector differ in length".into());
                }
                flat.extend(one);
            }
            let dim = dim.unwrap_or(0);
            Ok(Some(Vector::Multi { dim, flat }))
        }
        _ => floats(values.as_ref()).map(|values| Some(Vector::Dense(values))),
    }
}

/// The values of the list in `column` at `row`; none if it is null.
pub(super) fn list(column: &dyn Array, row: usize) -> Result<Option<ArrayRef>, String> {
    if column.is_null(row) {
        return Ok(None);
    }
    let values = match column.data_type() {
        DataType::List(_) => column.as_list::<i32>().value(row),
        DataType::LargeList(_) => column.as_list::<i64>().value(row),
        DataType::FixedSizeList(..) => column.as_fixed_size_list().value(row),
        other => return Err(format!("a vector is {other}, not a list of numbers")),
    };
    Ok(Some(values))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "vectors are 32-bit floats"
)]
fn floats(values: &dyn Array) -> Result<Vec<f32>, String> {
    if values.null_count() > 0 {
        return Err("a number of a vector is null".into());
    }
    macro_rules! numbers {
        ($kind:ty, $to:expr) => {
            values
                .as_primitive::<$kind>()
                .values()
                .iter()
                .map($to)
                .collect()
        };
    }
    Ok(match values.data_type() {
        DataType::Float32 => values.as_primitive::<Float32Type>().values().to_vec(),
        DataType::Float64 => numbers!(Float64Type, |value| *value as f32),
        DataType::Float16 => numbers!(Float16Type, |value| value.to_f32()),
        DataType::UInt8 => numbers!(UInt8Type, |value| f32::from(*value)),
        DataType::Int8 => numbers!(Int8Type, |value| f32::from(*value)),
        DataType::UInt16 => numbers!(UInt16Type, |value| f32::from(*value)),
        DataType::Int16 => numbers!(Int16Type, |value| f32::from(*value)),
        DataType::UInt32 => numbers!(UInt32Type, |value| *value as f32),
        DataType::Int32 => numbers!(Int32Type, |value| *value as f32),
        DataType::UInt64 => numbers!(UInt64Type, |value| *value as f32),
        DataType::Int64 => numbers!(Int64Type, |value| *value as f32),
        other => return Err(format!("the numbers of a vector are {other}")),
    })
}

fn whole_numbers(values: &dyn Array) -> Result<Vec<u32>, String> {
    if values.null_count() > 0 {
        return Err("an index of a sparse vector is null".into());
    }
    macro_rules! numbers {
        ($kind:ty) => {
            (values.as_primitive::<$kind>().values().iter())
                .map(|value| u32::try_from(*value).map_err(|err| format!("index {value}: {err}")))
                .collect()
        };
    }
    match values.data_type() {
        DataType::UInt32 => Ok(values.as_primitive::<UInt32Type>().values().to_vec()),
        DataType::Int32 => numbers!(Int32Type),
        DataType::UInt64 => numbers!(UInt64Type),
        DataType::Int64 => numbers!(Int64Type),
        other => Err(format!("the indices of a sparse vector are {other}")),
    }
}
