//! The operation of an entry as servers write it, read without decoding vectors and payloads.
//!
//! Invariants: what is returned is what [`Record`]'s own decoder returns for the same bytes; an entry
//! that is not of the plain form that servers write gives nothing, and is for that decoder.

use uuid::Uuid;

use super::cbor::{Read, Reader, Unusual};
use super::op::{Op, Record};
use crate::point::PointId;

/// Decodes the entry `bytes`, of whatever form.
pub(super) fn decode(bytes: &[u8]) -> Result<Record, String> {
    skim(bytes).map_or_else(|| Record::decode(bytes), Ok)
}

/// The operation of the entry `bytes`; none if it takes a general decoder to tell.
fn skim(bytes: &[u8]) -> Option<Record> {
    record(&mut Reader::new(bytes)).ok()
}

fn record(reader: &mut Reader<'_>) -> Read<Record> {
    let mut found = None;
    let mut entries = reader.map()?;
    while entries.more(reader)? {
        let name = reader.key()?;
        if name == "clock_tag" {
            reader.skip()?;
            continue;
        }
        let op = op(name, reader)?;
        let record = Record {
            name: name.to_owned(),
            op,
        };
        if found.replace(record).is_some() {
            return Err(Unusual);
        }
    }
    found.filter(|_| reader.is_at_end()).ok_or(Unusual)
}

/// Reads the value under `name`; see [`Record`]'s decoder.
fn op(name: &str, reader: &mut Reader<'_>) -> Read<Op> {
    let skipped = |reader: &mut Reader<'_>, op| reader.skip().map(|()| op);
    match name {
        "upsert_points" => insert(reader),
        "upsert_points_conditional" => field(reader, "points_op", insert),
        "upsert_points_raw" => points(reader).map(Op::Upsert),
        "delete_points" => field(reader, "ids", ids).map(Op::Delete),
        "delete_points_by_filter" => skipped(reader, Op::DeleteByFilter),
        "sync_points" | "sync_points_raw" => field(reader, "points", points).map(Op::Sync),
        "set_payload" | "overwrite_payload" | "delete_payload" | "clear_payload" => {
            selected(reader).map(|ids| Op::Payload { ids })
        }
        "clear_payload_by_filter" => skipped(reader, Op::Payload { ids: None }),
        "update_vectors" => {
            field(reader, "points", points).map(|ids| Op::Vectors { ids: Some(ids) })
        }
        "delete_vectors" => {
            let mut both = reader.array()?;
            let mut next = |reader: &mut Reader<'_>| both.more(reader);
            if !next(reader)? {
                return Err(Unusual);
            }
            let ids = selected(reader)?;
            if !next(reader)? {
                return Err(Unusual);
            }
            reader.skip()?;
            if next(reader)? {
                return Err(Unusual);
            }
            Ok(Op::Vectors { ids })
        }
        "delete_vectors_by_filter" => skipped(reader, Op::Vectors { ids: None }),
        "create_index" => field(reader, "field_name", |reader| {
            Ok(Op::Index {
                field: reader.text()?.to_owned(),
            })
        }),
        "delete_index" => Ok(Op::Index {
            field: reader.text()?.to_owned(),
        }),
        // Others are rare.
        _ => Err(Unusual),
    }
}

/// The one field called `name` of a map, which must be there; all others are passed over.
fn field<'a, T>(
    reader: &mut Reader<'a>,
    name: &str,
    read: impl Fn(&mut Reader<'a>) -> Read<T>,
) -> Read<T> {
    let mut found = None;
    let mut fields = reader.map()?;
    while fields.more(reader)? {
        if reader.key()? != name {
            reader.skip()?;
        } else if found.replace(read(reader)?).is_some() {
            return Err(Unusual);
        }
    }
    found.ok_or(Unusual)
}

/// `PointInsertOperationsInternal`: a list of points, or a batch.
fn insert(reader: &mut Reader<'_>) -> Read<Op> {
    let (mut listed, mut batch) = (None, None);
    let mut fields = reader.map()?;
    while fields.more(reader)? {
        let twice = match reader.key()? {
            "points" => listed.replace(points(reader)?).is_some(),
            "batch" => batch.replace(field(reader, "ids", ids)?).is_some(),
            _ => reader.skip().map(|()| false)?,
        };
        if twice {
            return Err(Unusual);
        }
    }
    match (listed, batch) {
        (Some(ids), None) | (None, Some(ids)) => Ok(Op::Upsert(ids)),
        _ => Err(Unusual),
    }
}

/// Points by id, or `None` by filter.
fn selected(reader: &mut Reader<'_>) -> Read<Option<Vec<PointId>>> {
    let mut found = None;
    let mut fields = reader.map()?;
    while fields.more(reader)? {
        if reader.key()? != "points" {
            reader.skip()?;
            continue;
        }
        let points = match reader.null()? {
            true => None,
            false => Some(ids(reader)?),
        };
        if found.replace(points).is_some() {
            return Err(Unusual);
        }
    }
    Ok(found.flatten())
}

fn points(reader: &mut Reader<'_>) -> Read<Vec<PointId>> {
    list(reader, |reader| field(reader, "id", id))
}

fn ids(reader: &mut Reader<'_>) -> Read<Vec<PointId>> {
    list(reader, id)
}

fn list<'a>(
    reader: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Read<PointId>,
) -> Read<Vec<PointId>> {
    let mut ids = Vec::new();
    let mut items = reader.array()?;
    while items.more(reader)? {
        ids.push(read(reader)?);
    }
    Ok(ids)
}

fn id(reader: &mut Reader<'_>) -> Read<PointId> {
    Ok(match reader.number_or_uuid()? {
        Ok(number) => PointId::Num(number),
        Err(bytes) => PointId::Uuid(Uuid::from_bytes(bytes)),
    })
}

#[cfg(test)]
mod tests {
    use ciborium::{Value, cbor};
    use proptest::prelude::*;

    use super::*;

    fn bytes(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).expect("writes");
        bytes
    }

    /// Any value of some depth, as a payload may hold it.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<f32>().prop_map(|number| Value::from(f64::from(number))),
            ".{0,30}".prop_map(Value::from),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::from),
            prop::collection::vec(any::<f32>(), 0..20)
                .prop_map(|values| Value::serialized(&values).expect("a value")),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::vec((".{0,8}".prop_map(Value::from), inner), 0..5)
                    .prop_map(Value::Map),
            ]
        })
    }

    fn point_id() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<u64>().prop_map(Value::from),
            any::<[u8; 16]>().prop_map(|bytes| Value::Bytes(bytes.to_vec())),
        ]
    }

    fn entry() -> impl Strategy<Value = Value> {
        let point = (point_id(), value(), value()).prop_map(|(id, vector, payload)| {
            cbor!({"id" => id, "vector" => vector, "payload" => payload}).expect("a value")
        });
        let points = prop::collection::vec(point, 0..5).prop_map(Value::Array);
        let ids = prop::collection::vec(point_id(), 0..5).prop_map(Value::Array);
        (points, ids, value(), 0..9).prop_map(|(points, ids, any, kind)| {
            let named = |name: &str, value: Value| Value::Map(vec![(name.into(), value)]);
            match kind {
                0 => named("upsert_points", named("points", points)),
                1 => cbor!({"upsert_points" => {"batch" => {"ids" => ids, "vectors" => any}}})
                    .expect("a value"),
                2 => named("upsert_points_raw", points),
                3 => named("delete_points", named("ids", ids)),
                4 => named("delete_points_by_filter", any),
                5 => {
                    cbor!({"set_payload" => {"payload" => any, "points" => ids}}).expect("a value")
                }
                6 => cbor!({"delete_vectors" => [{"points" => ids}, any]}).expect("a value"),
                7 => cbor!({"create_index" => {"field_name" => "a", "field_schema" => any}})
                    .expect("a value"),
                _ => cbor!({
                    "update_vectors" => {"points" => points, "update_filter" => any},
                    "clock_tag" => {"peer_id" => 1, "clock_id" => 0, "clock_tick" => 7}
                })
                .expect("a value"),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Entries as a server writes them are skimmed, with the same result as the general decoder's.
        #[test]
        fn entries_are_what_the_decoder_finds(entry in entry()) {
            let bytes = bytes(&entry);
            let skimmed = skim(&bytes);
            prop_assert!(skimmed.is_some(), "{entry:?}");
            prop_assert_eq!(skimmed, Record::decode(&bytes).ok());
        }

        /// Damage is either left to the decoder, or read as the decoder reads it.
        #[test]
        fn changed_entries_are_no_other(
            entry in entry(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = bytes(&entry);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
                if let Some(skimmed) = skim(bytes) {
                    prop_assert_eq!(Ok(skimmed), Record::decode(bytes));
                }
            }
        }
    }

    #[test]
    fn unusual_forms_are_left_to_the_decoder() {
        let upsert = |point: &[u8]| {
            let mut bytes = b"\xa1\x6dupsert_points\xa1\x66points\x81".to_vec();
            bytes.extend(point);
            bytes
        };
        let plain = upsert(b"\xa1\x62id\x07");
        assert_eq!(
            skim(&plain).expect("plain").op,
            Op::Upsert(vec![PointId::Num(7)])
        );
        let deep = [&b"\xa2\x62id\x07\x61p"[..], &[0x81; 100], b"\x00"].concat();
        for (what, point) in [
            ("an id twice", &b"\xa2\x62id\x07\x62id\x08"[..]),
            ("a tag", b"\xa1\x62id\xc1\x07"),
            ("an id in text", b"\xa1\x62id\x617"),
            ("a key in chunks", b"\xa1\x7f\x61i\x61d\xff\x07"),
            ("no id", b"\xa1\x61i\x07"),
            ("a short uuid", b"\xa1\x62id\x41\x07"),
            ("no UTF-8", b"\xa2\x62id\x07\x61p\x61\xff"),
            ("deep nesting", &deep),
            ("bytes after it", b"\xa1\x62id\x07\x00"),
            ("an end where none is", b"\xff"),
        ] {
            assert_eq!(skim(&upsert(point)), None, "{what}");
        }
        for len in 0..plain.len() {
            assert_eq!(skim(&plain[..len]), None, "cut at {len}");
        }
        // Lengths that nothing stands behind.
        for claim in [
            &b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"[..],
            b"\x9a\xff\xff\xff\xff",
        ] {
            let bytes = [&b"\xa1\x71upsert_points_raw"[..], claim].concat();
            assert_eq!(skim(&bytes), None);
        }
    }
}
