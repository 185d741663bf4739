//! Columns of a table that repeat parts of the payloads, with a type.
//!
//! Invariants: the types come of one look at all payloads; a field that is named and that none has is an error; null
//! and what is missing are null. Memory is bounded by the number of columns, which is.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
    UInt64Builder,
};
use arrow_array::{ArrayRef, ListArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field};
use serde_json::{Map, Value};

use super::kind::{ColumnKind, Scalar, ValueKinds, micros};
use crate::base::error::{Error, Kind, Result};
use crate::engine::PayloadField;
use crate::format::schema::{PayloadSchema, index_type};

/// Columns, at the most.
const COLUMNS_MAX: usize = 1000;
/// The name that stands for every key.
const ALL: &str = "*";

/// A column that repeats a part of the payloads.
#[derive(Debug, Clone)]
pub struct TypedColumn {
    /// Name of the column.
    pub name: String,
    /// Type of it.
    pub kind: ColumnKind,
    place: Place,
}

/// The place of a value in a payload.
#[derive(Debug, Clone)]
enum Place {
    Field(PayloadField),
    /// A key of the payload itself, whatever it looks like.
    Key(String),
}

impl Place {
    fn value<'a>(&self, payload: &'a Map<String, Value>) -> Option<&'a Value> {
        match self {
            Self::Field(field) => field.value(payload),
            Self::Key(key) => payload.get(key).filter(|value| !value.is_null()),
        }
    }
}

impl TypedColumn {
    /// The value of it in a payload, unless it is null.
    pub(super) fn value<'a>(&self, payload: &'a Map<String, Value>) -> Option<&'a Value> {
        self.place.value(payload)
    }
}

/// A look at payloads for the types of columns.
#[derive(Debug)]
pub struct Survey {
    columns: Vec<Surveyed>,
    /// Places of the columns that are keys, if all keys are to be columns.
    keys: Option<HashMap<String, usize>>,
}

#[derive(Debug)]
struct Surveyed {
    name: String,
    place: Place,
    seen: ValueKinds,
    is_there: bool,
}

impl Survey {
    /// For the columns that are `asked` for: paths of payload keys, or `*` for every key that occurs.
    pub fn new(asked: &[String]) -> Result<Self> {
        let refuse = |why: String| {
            Error::usage("reading --columns", why).next("give payload fields, as year,exif.taken")
        };
        let mut survey = Self {
            columns: Vec::new(),
            keys: None,
        };
        for name in asked {
            if name == ALL {
                survey.keys.get_or_insert_default();
                continue;
            }
            let field = PayloadField::of_keys(name).map_err(refuse)?;
            if survey.columns.iter().any(|one| one.name == *name) {
                return Err(refuse(format!("{name} is named twice")));
            }
            survey.columns.push(Surveyed {
                name: name.clone(),
                place: Place::Field(field),
                seen: ValueKinds::default(),
                is_there: false,
            });
        }
        if let Some(keys) = &mut survey.keys {
            let named = survey.columns.iter().enumerate();
            keys.extend(named.map(|(at, one)| (one.name.clone(), at)));
        }
        survey.refuse_many()?;
        Ok(survey)
    }

    /// Names of the columns that are known.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|one| one.name.as_str())
    }

    /// Takes the payload of a point in.
    pub fn add(&mut self, payload: &Map<String, Value>) -> Result<()> {
        if let Some(keys) = &mut self.keys {
            for key in payload.keys() {
                if keys.contains_key(key) {
                    continue;
                }
                keys.insert(key.clone(), self.columns.len());
                self.columns.push(Surveyed {
                    name: key.clone(),
                    place: Place::Key(key.clone()),
                    seen: ValueKinds::default(),
                    is_there: true,
                });
            }
            self.refuse_many()?;
        }
        for one in &mut self.columns {
            if let Some(value) = one.place.value(payload) {
                one.is_there = true;
                one.seen.add(value);
            }
        }
        Ok(())
    }

    fn refuse_many(&self) -> Result<()> {
        if self.columns.len() <= COLUMNS_MAX {
            return Ok(());
        }
        Err(Error::new(
            Kind::Refused,
            "looking for the columns",
            format!("there are more than {COLUMNS_MAX}"),
        )
        .next("name those that are of use with --columns a,b.c"))
    }

    /// The columns with their types; times are those of fields that `indexes` have as such.
    pub fn finish(self, indexes: &PayloadSchema) -> Result<Vec<TypedColumn>> {
        if let Some(absent) = self.columns.iter().find(|one| !one.is_there) {
            return Err(Error::usage(
                "looking for the columns",
                format!("no point has a value at {}", absent.name),
            )
            .next("correct the name in --columns; `snapmerge export SNAPSHOT --limit 1` shows a payload"));
        }
        let dated = |name: &str| {
            let fields = indexes.fields();
            [name.to_owned(), format!("{name}[]")]
                .iter()
                .filter_map(|field| fields.get(field))
                .any(|index| index_type(index) == Some("datetime"))
        };
        let typed = self.columns.into_iter().map(|one| TypedColumn {
            kind: one.seen.kind(dated(&one.name)),
            name: one.name,
            place: one.place,
        });
        Ok(typed.collect())
    }
}

/// Values of a column, on their way into a table.
pub(super) enum TypedBuilder {
    One(Values),
    List {
        values: Values,
        offsets: Vec<i32>,
        valid: Vec<bool>,
    },
}

/// Values of one type.
pub(super) enum Values {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    UInt(UInt64Builder),
    Double(Float64Builder),
    Text(StringBuilder),
    Time(TimestampMicrosecondBuilder),
    Json(StringBuilder),
}

impl TypedBuilder {
    pub fn new(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::One(scalar) => Self::One(Values::new(scalar)),
            ColumnKind::Json => Self::One(Values::Json(StringBuilder::new())),
            ColumnKind::List(scalar) => Self::List {
                values: Values::new(scalar),
                offsets: vec![0],
                valid: Vec::new(),
            },
        }
    }

    /// Adds the value of the next point.
    pub fn push(&mut self, value: Option<&Value>) -> Result<(), String> {
        match self {
            Self::One(values) => values.push(value),
            Self::List {
                values,
                offsets,
                valid,
            } => {
                let items = match value {
                    None => &[][..],
                    Some(Value::Array(items)) => items,
                    Some(_) => return Err("it has another type than before".into()),
                };
                for item in items {
                    values.push(Some(item).filter(|item| !item.is_null()))?;
                }
                let length = i32::try_from(items.len()).map_err(|err| err.to_string())?;
                let end = offsets.last().copied().unwrap_or(0).checked_add(length);
                offsets.push(end.ok_or("the lists of a batch are too long")?);
                valid.push(value.is_some());
                Ok(())
            }
        }
    }

    /// The column of all that were added.
    pub fn finish(&mut self) -> Result<ArrayRef, String> {
        match self {
            Self::One(values) => Ok(values.finish()),
            Self::List {
                values,
                offsets,
                valid,
            } => {
                let values = values.finish();
                let item = Field::new("item", values.data_type().clone(), true);
                let offsets = std::mem::replace(offsets, vec![0]);
                let list = ListArray::try_new(
                    Arc::new(item),
                    OffsetBuffer::new(offsets.into()),
                    values,
                    Some(NullBuffer::from(std::mem::take(valid))),
                );
                Ok(Arc::new(list.map_err(|err| err.to_string())?))
            }
        }
    }

    /// Type of the column.
    pub fn data_type(&mut self) -> Result<DataType, String> {
        Ok(self.finish()?.data_type().clone())
    }
}

impl Values {
    fn new(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Bool => Self::Bool(BooleanBuilder::new()),
            Scalar::Int => Self::Int(Int64Builder::new()),
            Scalar::UInt => Self::UInt(UInt64Builder::new()),
            Scalar::Double => Self::Double(Float64Builder::new()),
            Scalar::Text => Self::Text(StringBuilder::new()),
            Scalar::Time => Self::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
        }
    }

    fn push(&mut self, value: Option<&Value>) -> Result<(), String> {
        macro_rules! add {
            ($builder:expr, $read:expr) => {{
                let read = value.map($read);
                if read.as_ref().is_some_and(Option::is_none) {
                    return Err("it has another type than before".into());
                }
                $builder.append_option(read.flatten());
            }};
        }
        match self {
            Self::Bool(builder) => add!(builder, Value::as_bool),
            Self::Int(builder) => add!(builder, Value::as_i64),
            Self::UInt(builder) => add!(builder, Value::as_u64),
            Self::Double(builder) => add!(builder, Value::as_f64),
            Self::Text(builder) => add!(builder, Value::as_str),
            Self::Time(builder) => add!(builder, |value: &Value| value.as_str().and_then(micros)),
            Self::Json(builder) => add!(builder, |value: &Value| Some(value.to_string())),
        }
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Int(builder) => Arc::new(builder.finish()),
            Self::UInt(builder) => Arc::new(builder.finish()),
            Self::Double(builder) => Arc::new(builder.finish()),
            Self::Text(builder) | Self::Json(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish()),
        }
    }
}
