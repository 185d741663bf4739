//! Types of payload fields, by the values that they have.
//!
//! Invariants: every value that was seen can be written in the type that comes of it, and only its spelling may
//! be lost: a whole number among others with a point, zeros at the end of a second's fraction; what has no such
//! type is JSON text. Memory is bounded by the number of fields.

use std::fmt;

use chrono::{DateTime, Datelike as _};
use serde_json::{Number, Value};

/// Up to here every whole number is a double.
const EXACT: u64 = 1 << 53;

/// Type of a column without lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// true or false
    Bool,
    /// 64 bits with a sign
    Int,
    /// 64 bits without one
    UInt,
    /// 64 bits
    Double,
    /// UTF-8
    Text,
    /// Microseconds, UTC
    Time,
}

/// Type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// One value.
    One(Scalar),
    /// A list of values.
    List(Scalar),
    /// The text of any JSON value.
    Json,
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int => "int64",
            Self::UInt => "uint64",
            Self::Double => "double",
            Self::Text => "utf8",
            Self::Time => "timestamp",
        })
    }
}

impl fmt::Display for ColumnKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(scalar) => scalar.fmt(f),
            Self::List(scalar) => write!(f, "list of {scalar}"),
            Self::Json => f.write_str("JSON text"),
        }
    }
}

/// Kinds of the values seen of a field.
#[derive(Debug, Default)]
pub(super) struct ValueKinds {
    truths: bool,
    whole: bool,
    negative: bool,
    /// Some are larger than any int64.
    large: bool,
    /// Some whole ones are no doubles.
    wide: bool,
    fractions: bool,
    texts: bool,
    /// Some texts are no time that a timestamp holds.
    timeless: bool,
    objects: bool,
    items: Option<Box<Self>>,
}

impl ValueKinds {
    /// Takes a value in; null says nothing.
    pub fn add(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(_) => self.truths = true,
            Value::Number(number) => self.add_number(number),
            Value::String(text) => {
                self.texts = true;
                // Looked at for as long as there is something to find.
                self.timeless = self.timeless || micros(text).is_none();
            }
            Value::Object(_) => self.objects = true,
            Value::Array(values) => {
                let items = self.items.get_or_insert_default();
                for value in values {
                    match value {
                        // What is in it is not looked at: it is JSON text.
                        Value::Array(_) => items.objects = true,
                        value => items.add(value),
                    }
                }
            }
        }
    }

    fn add_number(&mut self, number: &Number) {
        match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => {
                self.whole = true;
                self.negative |= whole < 0;
                self.wide |= whole.unsigned_abs() > EXACT;
            }
            (None, Some(_)) => (self.whole, self.large, self.wide) = (true, true, true),
            (None, None) => self.fractions = true,
        }
    }

    /// The type that all of them have; `dated` if text that is a time is to be one.
    pub fn kind(&self, dated: bool) -> ColumnKind {
        let Some(items) = &self.items else {
            return self.scalar(dated).map_or(ColumnKind::Json, ColumnKind::One);
        };
        if self.is_empty() && items.items.is_none() {
            return (items.scalar(dated)).map_or(ColumnKind::Json, ColumnKind::List);
        }
        ColumnKind::Json
    }

    /// Returns true if there are none but lists.
    fn is_empty(&self) -> bool {
        !(self.truths || self.whole || self.fractions || self.texts || self.objects)
    }

    /// The type of those that are no lists; none if they are mixed.
    fn scalar(&self, dated: bool) -> Option<Scalar> {
        let numbers = self.whole || self.fractions;
        match (self.truths, numbers, self.texts, self.objects) {
            (true, false, false, false) => Some(Scalar::Bool),
            (false, true, false, false) => match self.fractions {
                true => (!self.wide).then_some(Scalar::Double),
                false if !self.large => Some(Scalar::Int),
                false => (!self.negative).then_some(Scalar::UInt),
            },
            (false, false, true, false) => Some(match dated && !self.timeless {
                true => Scalar::Time,
                false => Scalar::Text,
            }),
            (false, false, false, false) => Some(Scalar::Text),
            _ => None,
        }
    }
}

/// The microseconds of a date-time of RFC 3339 that has nothing beside them: it is in UTC, and has no digits below.
pub(super) fn micros(text: &str) -> Option<i64> {
    let local = text.strip_suffix('Z').or(text.strip_suffix("+00:00"))?;
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    let micros = time.timestamp_micros();
    let again = DateTime::from_timestamp_micros(micros)?;
    let again = again.format("%Y-%m-%dT%H:%M:%S%.6f").to_string();
    let parts = |text: &str| {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        (whole.to_owned(), fraction.trim_end_matches('0').to_owned())
    };
    // A year 0 is none to most readers.
    (time.year() > 0 && parts(local) == parts(&again)).then_some(micros)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(values: &Value, dated: bool) -> String {
        let mut seen = ValueKinds::default();
        values
            .as_array()
            .unwrap()
            .iter()
            .for_each(|one| seen.add(one));
        seen.kind(dated).to_string()
    }

    #[test]
    fn values_have_a_type() {
        const MAX: u64 = u64::MAX;
        let day = "2017-03-01T00:00:00Z";
        for (values, wanted) in [
            (json!([true, null, false]), "bool"),
            (json!([1, -2, i64::MAX]), "int64"),
            (json!([1, MAX]), "uint64"),
            (json!([-1, MAX]), "JSON text"),
            (json!([1.5, 2]), "double"),
            (json!([1.5, 9_007_199_254_740_993_i64]), "JSON text"),
            (json!(["a", "", "7"]), "utf8"),
            (json!([null]), "utf8"),
            (json!([]), "utf8"),
            (json!(["a", 7]), "JSON text"),
            (json!([true, 7]), "JSON text"),
            (json!([{"a": 1}]), "JSON text"),
            (json!([["a"], [], null, ["b", null]]), "list of utf8"),
            (json!([[], [1, 2]]), "list of int64"),
            (json!([[1, 2.5]]), "list of double"),
            (json!([[]]), "list of utf8"),
            (json!([[1], ["a"]]), "JSON text"),
            (json!([[1], 1]), "JSON text"),
            (json!([[[1]]]), "JSON text"),
            (json!([[{"a": 1}]]), "JSON text"),
            (json!([day]), "timestamp"),
            (json!([[day]]), "list of timestamp"),
            (json!([day, "2017-03-01T00:00:00+02:00"]), "utf8"),
            (json!([day, "2017-03-01"]), "utf8"),
        ] {
            assert_eq!(kind(&values, true), wanted, "{values}");
        }
        assert_eq!(kind(&json!([day]), false), "utf8", "without an index");
    }

    #[test]
    fn times_lose_nothing() {
        for (text, wanted) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T00:00:01.5+00:00", Some(1_500_000)),
            ("1969-12-31T23:59:59.999999000Z", Some(-1)),
            ("1970-01-01T00:00:00.0000001Z", None),
            ("1970-01-01T00:00:00.00000000000001Z", None),
            ("1970-01-01T01:00:00+01:00", None),
            ("1970-01-01T00:00:00-00:00", None),
            ("1970-01-01 00:00:00Z", None),
            ("1970-01-01t00:00:00z", None),
            ("2016-12-31T23:59:60Z", None),
            ("0000-01-01T00:00:00Z", None),
            ("2017-02-30T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(micros(text), wanted, "{text}");
        }
    }
}
