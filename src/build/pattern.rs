//! Names of several outputs, told apart by a value of their points: `album_{year}.snapshot`.
//!
//! Invariants: different values have different names; no value leads out of the folder.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Map, Number, Value};

use crate::base::text::serde_as_text;
use crate::engine::PayloadField;

/// Bytes of a value that is part of a name, at the most: a file's name has 255.
const VALUE_BYTES_MAX: usize = 180;

/// A name with at most one payload field in braces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pattern {
    before: String,
    field: Option<PayloadField>,
    after: String,
}

impl Pattern {
    /// The field in it, if there is one.
    pub fn field(&self) -> Option<&PayloadField> {
        self.field.as_ref()
    }

    /// The name with `value` in place of the field.
    pub fn name(&self, value: &str) -> String {
        let mut name = self.before.clone();
        if self.field.is_some() {
            let only_dots = value.bytes().all(|byte| byte == b'.');
            for char in value.chars() {
                let plain = char.is_alphanumeric() || "-_ ".contains(char);
                if plain || (char == '.' && !only_dots) {
                    name.push(char);
                } else {
                    let mut bytes = [0; 4];
                    for byte in char.encode_utf8(&mut bytes).bytes() {
                        name.push_str(&format!("%{byte:02X}"));
                    }
                }
            }
        }
        name + &self.after
    }

    /// The path with `value` in place of the field.
    pub fn path(&self, value: &str) -> PathBuf {
        PathBuf::from(self.name(value))
    }

    /// The value of `payload` that names an output: a word, number or truth value. None for everything else,
    /// and where there is no field.
    pub fn value(&self, payload: &Map<String, Value>) -> Option<String> {
        let text = match self.field.as_ref()?.value(payload)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => whole(number),
            Value::Bool(truth) => truth.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        (!text.is_empty() && text.len() <= VALUE_BYTES_MAX).then_some(text)
    }
}

/// The text of a number; of a whole one without a point, since a column with gaps has 2017.0 for 2017.
fn whole(number: &Number) -> String {
    /// Up to here every whole number is a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT => {
            // Without the sign of zero.
            format!("{:.0}", float + 0.0)
        }
        _ => number.to_string(),
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let whole = || Self {
            before: text.to_owned(),
            field: None,
            after: String::new(),
        };
        let Some((before, rest)) = text.split_once('{') else {
            return Ok(whole());
        };
        let (field, after) = rest
            .split_once('}')
            .ok_or_else(|| format!("'{text}' has a {{ without a }}"))?;
        if after.contains(['{', '}']) {
            return Err(format!("'{text}' has more than one field in braces"));
        }
        if after.contains('/') {
            return Err(format!(
                "'{text}' has the field in the name of a folder; it belongs into the file's"
            ));
        }
        Ok(Self {
            before: before.to_owned(),
            field: Some(PayloadField::of_keys(field)?),
            after: after.to_owned(),
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.before)?;
        if let Some(field) = &self.field {
            write!(f, "{{{field}}}")?;
        }
        f.write_str(&self.after)
    }
}

serde_as_text!(Pattern, "Pattern", "a name, as album_{year}.snapshot");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_name_outputs_and_lead_nowhere_else() {
        let pattern: Pattern = "out/album_{exif.year}.snapshot".parse().unwrap();
        assert_eq!(pattern.to_string(), "out/album_{exif.year}.snapshot");
        for (value, name) in [
            ("2017", "out/album_2017.snapshot"),
            ("Zürich 1.5", "out/album_Zürich 1.5.snapshot"),
            ("a/b", "out/album_a%2Fb.snapshot"),
            ("a%2Fb", "out/album_a%252Fb.snapshot"),
            ("..", "out/album_%2E%2E.snapshot"),
            ("€\0", "out/album_%E2%82%AC%00.snapshot"),
        ] {
            assert_eq!(pattern.name(value), name);
        }
        for (payload, value) in [
            (json!({"exif": {"year": 2017}}), Some("2017")),
            (json!({"exif": {"year": "2017"}}), Some("2017")),
            (json!({"exif": {"year": -0.5}}), Some("-0.5")),
            (json!({"exif": {"year": 2017.0}}), Some("2017")),
            (json!({"exif": {"year": -0.0}}), Some("0")),
            (json!({"exif": {"year": true}}), Some("true")),
            (json!({"exif": {"year": [2017]}}), None),
            (json!({"exif": {"year": null}}), None),
            (json!({"exif": {"year": ""}}), None),
            (json!({"exif": {"year": "x".repeat(181)}}), None),
            (json!({}), None),
        ] {
            let payload = payload.as_object().unwrap();
            assert_eq!(pattern.value(payload).as_deref(), value, "{payload:?}");
        }
    }

    #[test]
    fn other_patterns_are_refused() {
        let plain: Pattern = "album.snapshot".parse().unwrap();
        assert_eq!(
            (plain.name("x").as_str(), plain.field()),
            ("album.snapshot", None)
        );
        for text in ["a{", "a{}b", "{a}{b}", "{a}/b", "{a[0]}"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }
}
