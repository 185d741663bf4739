//! Payload: the column `payload` of lib/segment/src/payload_storage/on_disk_payload_storage.rs and
//! simple_payload_storage.rs (up to 1.17), offset and payload both in CBOR.
//!
//! Invariants: a point's payload is what it was, each number of the kind that it was; one without a
//! record has none, as in the servers that wrote them.

use std::path::Path;

use serde_json::{Map, Value};

use super::database::Database;
use super::ids::Live;
use crate::base::error::{Error, Result};
use crate::format::storage::GridstoreWriter;

const PAYLOAD: &str = "payload";

/// Writes the payload of the points that `live` into the new storage in `folder`.
pub fn convert(
    database: Option<&Database>,
    live: &Live,
    folder: &Path,
    damaged: &dyn Fn(&str, String) -> Error,
) -> Result<()> {
    let wrong = |why: String| damaged(PAYLOAD, why);
    let mut writer = GridstoreWriter::new(folder)?;
    let cursor = database.map(|database| database.cursor(PAYLOAD));
    if let Some(mut cursor) = cursor.transpose().map_err(wrong)?.flatten() {
        while let Some((key, value)) = cursor.record() {
            let offset = offset(key)
                .ok_or_else(|| wrong(format!("{} is not an offset", hex::encode(key))))?;
            if live.offsets.has(offset) {
                let payload = decode(value)
                    .map_err(|why| wrong(format!("that of offset {offset}: {why}")))?;
                if !payload.is_empty() {
                    let bytes = serde_json::to_vec(&payload);
                    let bytes = bytes.map_err(|err| wrong(err.to_string()))?;
                    writer.write(offset, &bytes)?;
                }
            }
            cursor.advance().map_err(wrong)?;
        }
    }
    writer.finish()
}

fn decode(bytes: &[u8]) -> std::result::Result<Map<String, Value>, String> {
    let mut rest = bytes;
    let payload = ciborium::from_reader(&mut rest).map_err(|err| err.to_string())?;
    match rest {
        [] => Ok(payload),
        rest => Err(format!("{} bytes follow it", rest.len())),
    }
}

/// A CBOR number of up to 32 bits.
fn offset(key: &[u8]) -> Option<u32> {
    match *key {
        [small @ 0..24] => Some(small.into()),
        [0x18, one] => Some(one.into()),
        [0x19, a, b] => Some(u16::from_be_bytes([a, b]).into()),
        [0x1a, a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_as_cbor_writes_them() {
        for number in [0, 7, 23, 24, 255, 256, 65_535, 65_536, u32::MAX] {
            let mut bytes = Vec::new();
            ciborium::into_writer(&number, &mut bytes).unwrap();
            assert_eq!(offset(&bytes), Some(number));
            bytes.push(0);
            assert_eq!(offset(&bytes), None);
        }
        for wrong in [&[][..], &[0x1b, 0, 0, 0, 0, 0, 0, 0, 1], &[0x20], b"a"] {
            assert_eq!(offset(wrong), None);
        }
    }

    #[test]
    fn numbers_keep_their_kind() {
        let payload = serde_json::json!({
            "big": u64::MAX, "neg": i64::MIN, "half": 0.5, "third": 1.0 / 3.0, "one": 1.0,
            "deep": [null, {"a": true}, "ä"],
        });
        let mut bytes = Vec::new();
        ciborium::into_writer(&payload, &mut bytes).unwrap();
        assert_eq!(Value::Object(decode(&bytes).unwrap()), payload);
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        bytes.push(0);
        assert!(decode(&bytes).is_err());
        assert!(decode(&[0x80]).is_err());
    }
}
