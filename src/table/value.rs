//! Values of a table as ids and as JSON.
//!
//! Invariants: a number stays the number that it is; a time becomes text as Qdrant's datetime index reads it; what
//! JSON cannot say is an error.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowTemporalType, Date32Type, Date64Type, Float16Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, PrimitiveArray};
use arrow_schema::{DataType, TimeUnit};
use chrono::NaiveDateTime;
use serde_json::{Map, Number, Value};
use uuid::Uuid;

use super::vectors::list;
use crate::point::PointId;

/// Depth of lists and structs in each other, at the most, as JSON text may have it.
const DEPTH_MAX: usize = 120;

/// The id in `column` at `row`.
pub(super) fn id(column: &dyn Array, row: usize) -> Result<PointId, String> {
    if column.is_null(row) {
        return Err("its id is null".into());
    }
    if let DataType::FixedSizeBinary(16) = column.data_type() {
        let bytes = column.as_fixed_size_binary().value(row);
        let uuid = Uuid::from_slice(bytes).map_err(|err| err.to_string())?;
        return Ok(PointId::Uuid(uuid));
    }
    match json(column, row)? {
        Value::Number(number) => number
            .as_u64()
            .map(PointId::Num)
            .ok_or_else(|| format!("its id is {number}, and no whole number from 0 on")),
        Value::String(text) => match text.parse()? {
            // "007" is no other way to write 7.
            PointId::Num(number) if number.to_string() != text => Err(format!(
                "its id is '{text}', which is not how the number {number} is written"
            )),
            id => Ok(id),
        },
        other => Err(format!("its id is {other}")),
    }
}

/// The value in `column` at `row` as JSON.
pub(super) fn json(column: &dyn Array, row: usize) -> Result<Value, String> {
    deep(column, row, 0)
}

fn deep(column: &dyn Array, row: usize, depth: usize) -> Result<Value, String> {
    if depth > DEPTH_MAX {
        return Err("lists and structs lie too deep in each other".into());
    }
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    macro_rules! number {
        ($kind:ty) => {
            Ok(Value::from(column.as_primitive::<$kind>().value(row)))
        };
    }
    match column.data_type() {
        DataType::Null => Ok(Value::Null),
        DataType::Boolean => Ok(Value::Bool(column.as_boolean().value(row))),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float16 => float(column.as_primitive::<Float16Type>().value(row).to_f64()),
        DataType::Float32 => float(column.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => Ok(Value::from(column.as_string::<i32>().value(row))),
        DataType::LargeUtf8 => Ok(Value::from(column.as_string::<i64>().value(row))),
        DataType::Utf8View => Ok(Value::from(column.as_string_view().value(row))),
        DataType::Date32 => time(column.as_primitive::<Date32Type>(), row, false),
        DataType::Date64 => time(column.as_primitive::<Date64Type>(), row, false),
        DataType::Timestamp(unit, zone) => {
            let zoned = zone.is_some();
            match unit {
                TimeUnit::Second => time(column.as_primitive::<TimestampSecondType>(), row, zoned),
                TimeUnit::Millisecond => time(
                    column.as_primitive::<TimestampMillisecondType>(),
                    row,
                    zoned,
                ),
                TimeUnit::Microsecond => time(
                    column.as_primitive::<TimestampMicrosecondType>(),
                    row,
                    zoned,
                ),
                TimeUnit::Nanosecond => {
                    time(column.as_primitive::<TimestampNanosecondType>(), row, zoned)
                }
            }
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
            let Some(values) = list(column, row)? else {
                return Ok(Value::Null);
            };
            let values = (0..values.len()).map(|at| deep(values.as_ref(), at, depth + 1));
            values.collect()
        }
        DataType::Struct(fields) => {
            let members = column.as_struct();
            let mut map = Map::new();
            for (field, member) in fields.iter().zip(members.columns()) {
                // What a row lacks is null in a table.
                if !member.is_null(row) {
                    map.insert(field.name().clone(), deep(member.as_ref(), row, depth + 1)?);
                }
            }
            Ok(Value::Object(map))
        }
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let mut map = Map::new();
            for at in 0..entries.len() {
                let [keys, values] = entries.columns() else {
                    return Err("a map has no keys and values".into());
                };
                let key = match deep(keys.as_ref(), at, depth + 1)? {
                    Value::String(key) => key,
                    other => return Err(format!("a key of a map is {other}, not a word")),
                };
                map.insert(key, deep(values.as_ref(), at, depth + 1)?);
            }
            Ok(Value::Object(map))
        }
        DataType::Dictionary(..) => {
            let Some(dictionary) = column.as_any_dictionary_opt() else {
                return Err("a dictionary has no keys".into());
            };
            let key = deep(dictionary.keys(), row, depth + 1)?;
            let key = key.as_u64().and_then(|key| usize::try_from(key).ok());
            let key = key.filter(|key| *key < dictionary.values().len());
            let key = key.ok_or("a dictionary has no value for it")?;
            deep(dictionary.values().as_ref(), key, depth + 1)
        }
        other => Err(format!("it is {other}, which JSON cannot say")),
    }
}

fn float(value: f64) -> Result<Value, String> {
    let number = Number::from_f64(value);
    number
        .map(Value::Number)
        .ok_or_else(|| format!("it is {value}, which JSON cannot say"))
}

fn time<T>(column: &PrimitiveArray<T>, row: usize, zoned: bool) -> Result<Value, String>
where
    T: ArrowTemporalType,
    i64: From<T::Native>,
{
    let moment: Option<NaiveDateTime> = column.value_as_datetime(row);
    let moment = moment.ok_or("it is no time")?;
    let zone = if zoned { "Z" } else { "" };
    Ok(Value::from(format!(
        "{}{zone}",
        moment.format("%Y-%m-%dT%H:%M:%S%.f")
    )))
}
