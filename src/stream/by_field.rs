//! The shard key of a point by one of its payload fields, as `--layout by-field:FIELD` gives it.
//!
//! Invariants: the key depends on the point and its source alone; a point without a key is an error, never
//! put somewhere.

use serde_json::Value;

use super::options::UnionOptions;
use crate::base::error::{Error, Kind, Result};
use crate::engine::PayloadField;
use crate::point::{Record, ShardKey};

/// The field that tells the keys of one source's points.
#[derive(Debug, Clone)]
pub struct KeyField<'a> {
    field: &'a PayloadField,
    /// The key of all points, if the field is stamped.
    stamped: Option<Value>,
}

impl<'a> KeyField<'a> {
    /// Of the source called `name`; none if keys are not given by a field.
    pub fn new(options: &'a UnionOptions, name: &str) -> Option<Self> {
        let field = options.layout.field()?;
        let stamp = options.stamp.as_ref();
        let stamp = stamp.filter(|stamp| stamp.field.keys() == field.keys());
        Some(Self {
            field,
            stamped: stamp.map(|stamp| stamp.value(name)),
        })
    }

    /// The key of `record`, which is of `what`.
    pub fn key(&self, record: &Record, what: &str) -> Result<ShardKey> {
        let value = match &self.stamped {
            Some(stamped) => Some(stamped),
            None => self.field.value(&record.payload),
        };
        value.and_then(key_of).ok_or_else(|| {
            let has = value.map_or("nothing".into(), ToString::to_string);
            Error::new(
                Kind::Refused,
                format!("giving point {} of {what} a shard key", record.id),
                format!(
                    "a key is a word, a number from 0 on, true or false, and at {} it has {has}",
                    self.field
                ),
            )
            .next("leave such points out with --filter, or choose another field")
        })
    }
}

/// The key that is said by `value`; 2017 and 2017.0 are one.
fn key_of(value: &Value) -> Option<ShardKey> {
    match value {
        Value::String(word) if !word.is_empty() => Some(ShardKey::Word(word.clone())),
        Value::Bool(is) => Some(ShardKey::Word(is.to_string())),
        Value::Number(number) => {
            let whole = number.as_f64().filter(|number| number.fract() == 0.0);
            let whole = whole.and_then(|number| format!("{number:.0}").parse().ok());
            number.as_u64().or(whole).map(ShardKey::Number)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::options::{LayoutChoice, Stamp};
    use super::*;
    use crate::point::PointId;

    #[test]
    fn words_and_numbers_are_keys() {
        let word = |text: &str| Some(ShardKey::Word(text.into()));
        for (value, key) in [
            (json!("ann"), word("ann")),
            (json!("2017"), word("2017")),
            (json!(2017), Some(ShardKey::Number(2017))),
            (json!(2017.0), Some(ShardKey::Number(2017))),
            (json!(u64::MAX), Some(ShardKey::Number(u64::MAX))),
            (json!(true), word("true")),
            (json!(-1), None),
            (json!(0.5), None),
            (json!(1e30), None),
            (json!(""), None),
            (json!(null), None),
            (json!(["ann"]), None),
            (json!({"a": 1}), None),
        ] {
            assert_eq!(key_of(&value), key, "{value}");
        }
    }

    #[test]
    fn a_field_that_is_stamped_is_what_the_stamp_says() {
        let mut options = UnionOptions {
            layout: LayoutChoice::ByField("meta.tenant".parse().unwrap()),
            ..UnionOptions::default()
        };
        let mut record = Record::bare(PointId::Num(7));
        record.payload = json!({"meta": {"tenant": "ann"}})
            .as_object()
            .cloned()
            .unwrap();
        let key = |options: &UnionOptions, record: &Record| {
            KeyField::new(options, "a").unwrap().key(record, "a")
        };
        assert_eq!(
            key(&options, &record).unwrap(),
            ShardKey::Word("ann".into())
        );
        options.stamp = Some(Stamp {
            field: "meta.tenant".parse().unwrap(),
            values: [("a".to_owned(), json!(5))].into(),
        });
        assert_eq!(key(&options, &record).unwrap(), ShardKey::Number(5));
        options.stamp = None;
        record.payload.clear();
        let refused = key(&options, &record).unwrap_err().to_string();
        assert!(
            refused.contains("point 7 of a") && refused.contains("meta.tenant it has nothing"),
            "{refused}"
        );
        assert!(KeyField::new(&UnionOptions::default(), "a").is_none());
    }
}
