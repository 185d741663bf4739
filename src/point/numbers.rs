//! Numbers of payloads, which are stored as JSON text.
//!
//! Qdrant keeps a payload as text and reads its numbers with serde_json, whose reading is a unit in the last place
//! off for some with many digits (its feature `float_roundtrip` is not on there, and must not be here: both have to
//! read the same number out of the same text). A number that is written is therefore not always the one that is
//! read; this finds the one to write.
//!
//! Invariants: what is read of a text is what a server reads of it.

use serde_json::{Map, Number, Value};

/// Units in the last place within which a number is looked for.
const NEAR: u64 = 16;

/// The number that is read of the text of `float`.
pub fn read_back(float: f64) -> f64 {
    let text = Number::from_f64(float).map(|number| number.to_string());
    let read = text.and_then(|text| serde_json::from_str(&text).ok());
    read.unwrap_or(float)
}

/// The number of whose text `float` is read; none if there is none near it.
pub fn written_for(float: f64) -> Option<f64> {
    let bits = float.to_bits();
    let near = (0..=NEAR).flat_map(|by| [bits.checked_add(by), bits.checked_sub(by)]);
    near.flatten()
        .map(f64::from_bits)
        .find(|written| written.is_finite() && read_back(*written).to_bits() == bits)
}

/// Replaces every float of `payload` by what `change` makes of it.
pub fn change_floats(payload: &mut Map<String, Value>, change: fn(f64) -> f64) {
    payload
        .values_mut()
        .for_each(|value| change_value(value, change));
}

/// Replaces the floats of `payload` by those of whose text they are read.
pub fn to_be_read_back(payload: &mut Map<String, Value>) {
    change_floats(payload, |float| written_for(float).unwrap_or(float));
}

fn change_value(value: &mut Value, change: fn(f64) -> f64) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let changed = number.as_f64().map(change).and_then(Number::from_f64);
            if let Some(changed) = changed {
                *number = changed;
            }
        }
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| change_value(value, change)),
        Value::Object(map) => change_floats(map, change),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_read_can_be_written_again() {
        let (mut moved, mut bits) = (0, 1_u64);
        for n in 0..50_000_u64 {
            bits = bits
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let share = (bits >> 11) as f64 / (1_u64 << 53) as f64;
            let exponent = i32::try_from(n % 60).unwrap() - 30;
            for float in [
                f64::from_bits(bits),
                180.0 * share - 90.0,
                share * 10.0_f64.powi(exponent),
            ] {
                if !float.is_finite() {
                    continue;
                }
                let read = read_back(float);
                assert!((read - float).abs() <= float.abs() * 1e-14, "{float}");
                let written = written_for(read).unwrap_or_else(|| panic!("{float:e}"));
                assert_eq!(read_back(written).to_bits(), read.to_bits(), "{float:e}");
                moved += u32::from(written.to_bits() != read.to_bits());
            }
        }
        // Otherwise there would be nothing to do.
        assert!(moved > 100, "{moved}");
    }

    #[test]
    fn whole_numbers_stay() {
        let payload =
            json!({"a": [1, -5, 18_446_744_073_709_551_615_u64, {"b": 2.0, "c": -0.0}], "d": null});
        let mut changed = payload.as_object().unwrap().clone();
        to_be_read_back(&mut changed);
        assert_eq!(Value::Object(changed), payload);
    }
}
