//! The operation of a log's entry, and the points that it touches.
//!
//! An entry is `OperationWithClockTag` of lib/shard/src/operations/mod.rs in CBOR: a map with the
//! operation under its name, and perhaps a clock tag; before CBOR it was MessagePack. Invariants:
//! only names and ids are taken out, payloads and vectors are passed over; ids are reported only
//! if the operation can reach no others, whatever the points hold; an unknown operation can reach
//! all of them.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::shapes::{Conditional, Field, Ids, Insert, Named, Point, Points, Selected, plain};
use crate::point::PointId;

/// Operation of an entry. Names in brackets are those in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes these points, or those of them that a condition lets through (`upsert_points`,
    /// `upsert_points_conditional`, `upsert_points_raw`).
    Upsert(Vec<PointId>),
    /// Deletes these points (`delete_points`).
    Delete(Vec<PointId>),
    /// Deletes whatever fits a filter (`delete_points_by_filter`).
    DeleteByFilter,
    /// Writes these points and deletes all others in a range of ids (`sync_points`,
    /// `sync_points_raw`).
    Sync(Vec<PointId>),
    /// Changes the payload (`set_payload`, `overwrite_payload`, `delete_payload`, `clear_payload`,
    /// `clear_payload_by_filter`).
    Payload {
        /// Of these points; `None`: of whatever fits a filter.
        ids: Option<Vec<PointId>>,
    },
    /// Changes vectors (`update_vectors`, `delete_vectors`, `delete_vectors_by_filter`).
    Vectors {
        /// Of these points; `None`: of whatever fits a filter.
        ids: Option<Vec<PointId>>,
    },
    /// Makes or drops the index of a payload field (`create_index`, `delete_index`): no point
    /// changes.
    Index {
        /// The field.
        field: String,
    },
    /// Adds or drops a named vector in all points (`create_vector_name`, `delete_vector_name`).
    VectorName {
        /// The vector's name.
        vector: String,
    },
    /// An operation that is not known here, or too long to be looked into; the reason.
    Other(String),
}

impl Insert {
    fn op(self) -> Op {
        match (self.points, self.batch) {
            (Some(points), None) => Op::Upsert(plain(points)),
            (None, Some(batch)) => Op::Upsert(plain(batch.ids)),
            _ => Op::Other("it holds neither a list nor a batch of points".to_owned()),
        }
    }
}

/// Which points an operation may change, create, or delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touches<'a> {
    /// None.
    Nothing,
    /// At most these, in the order of the log and perhaps some more than once.
    Ids(&'a [PointId]),
    /// Any.
    Unbounded,
}

impl Op {
    /// Which points the operation may change, create, or delete.
    pub fn touches(&self) -> Touches<'_> {
        match self {
            Self::Upsert(ids)
            | Self::Delete(ids)
            | Self::Payload { ids: Some(ids) }
            | Self::Vectors { ids: Some(ids) } => Touches::Ids(ids),
            Self::Index { .. } => Touches::Nothing,
            Self::DeleteByFilter
            | Self::Sync(_)
            | Self::Payload { ids: None }
            | Self::Vectors { ids: None }
            | Self::VectorName { .. }
            | Self::Other(_) => Touches::Unbounded,
        }
    }
}

/// One entry, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The operation's name in the log.
    pub(super) name: String,
    pub(super) op: Op,
}

impl Record {
    /// Stands for an entry of `bytes` bytes that was too long to be held.
    pub(super) fn undecoded(bytes: u64) -> Self {
        Self {
            name: "unknown".to_owned(),
            op: Op::Other(format!("{bytes} bytes are too long to be decoded")),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut rest = bytes;
        let cbor = ciborium::from_reader::<Self, _>(&mut rest).map_err(|err| err.to_string());
        let why = match cbor {
            Ok(record) if rest.is_empty() => return Ok(record),
            Ok(_) => format!("{} bytes follow the operation", rest.len()),
            Err(why) => why,
        };
        // As servers do whose CBOR reader failed (lib/shard/src/wal.rs before 1.19).
        rmp_serde::from_slice(bytes).map_err(|_| why)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Record;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an operation under its name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
                let mut found: Option<Record> = None;
                while let Some(name) = map.next_key::<String>()? {
                    if name == "clock_tag" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let op = op(&name, &mut map)?;
                    found = Some(match found {
                        None => Record { name, op },
                        // No server writes two; which of them would count is not worth knowing.
                        Some(first) => Record {
                            op: Op::Other(format!("{} and {name} in one entry", first.name)),
                            name: first.name,
                        },
                    });
                }
                found.ok_or_else(|| A::Error::custom("it holds no operation"))
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

/// Decodes the value under `name`.
fn op<'de, A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Op, A::Error> {
    Ok(match name {
        "upsert_points" => map.next_value::<Insert>()?.op(),
        "upsert_points_conditional" => map.next_value::<Conditional>()?.points_op.op(),
        "upsert_points_raw" => Op::Upsert(plain(map.next_value::<Vec<Point>>()?)),
        "delete_points" => Op::Delete(plain(map.next_value::<Ids>()?.ids)),
        "delete_points_by_filter" => {
            map.next_value::<IgnoredAny>()?;
            Op::DeleteByFilter
        }
        "sync_points" | "sync_points_raw" => Op::Sync(plain(map.next_value::<Points>()?.points)),
        "set_payload" | "overwrite_payload" | "delete_payload" | "clear_payload" => Op::Payload {
            // With both ids and a filter, the engine looks at the ids only
            // (`process_payload_operation` in lib/shard/src/update.rs).
            ids: map.next_value::<Selected>()?.points.map(plain),
        },
        "clear_payload_by_filter" => {
            map.next_value::<IgnoredAny>()?;
            Op::Payload { ids: None }
        }
        "update_vectors" => Op::Vectors {
            ids: Some(plain(map.next_value::<Points>()?.points)),
        },
        "delete_vectors" => {
            let (Selected { points }, IgnoredAny) = map.next_value()?;
            Op::Vectors {
                ids: points.map(plain),
            }
        }
        "delete_vectors_by_filter" => {
            map.next_value::<IgnoredAny>()?;
            Op::Vectors { ids: None }
        }
        "create_index" => Op::Index {
            field: map.next_value::<Field>()?.field_name,
        },
        "delete_index" => Op::Index {
            field: map.next_value()?,
        },
        "create_vector_name" | "delete_vector_name" => Op::VectorName {
            vector: map.next_value::<Named>()?.vector_name,
        },
        _ => {
            map.next_value::<IgnoredAny>()?;
            Op::Other("it is not known here".to_owned())
        }
    })
}

#[cfg(test)]
mod tests {
    use ciborium::{Value, cbor};
    use uuid::Uuid;

    use super::*;

    const UUID: u128 = 0x550e_8400_e29b_41d4_a716_4466_5544_0000;

    fn bytes(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).expect("writes");
        bytes
    }

    fn uuid() -> Value {
        Value::Bytes(UUID.to_be_bytes().to_vec())
    }

    fn both() -> Vec<PointId> {
        vec![PointId::Num(7), PointId::Uuid(Uuid::from_u128(UUID))]
    }

    /// A vector and a payload, which must be passed over whatever they hold.
    fn points() -> Value {
        cbor!([
            { "id" => 7, "vector" => [0.5, -1.5], "payload" => null },
            { "id" => uuid(), "vector" => { "a" => [[1.0]] }, "payload" => { "id" => 3, "n" => u64::MAX } }
        ])
        .expect("a value")
    }

    /// Every operation of lib/shard/src/operations, with its name, an example, what it is.
    fn examples() -> Vec<(&'static str, Value, Op)> {
        let ids = cbor!([7, uuid()]).expect("a value");
        let filter = cbor!({ "must" => [{ "has_id" => [1, 2] }] }).expect("a value");
        let some = || Some(both());
        let value = |value: Result<Value, _>| -> Value { value.expect("a value") };
        vec![
            (
                "upsert_points",
                value(cbor!({ "points" => points() })),
                Op::Upsert(both()),
            ),
            (
                "upsert_points",
                value(
                    cbor!({ "batch" => { "ids" => ids, "vectors" => [[1.0], [2.0]], "payloads" => null } }),
                ),
                Op::Upsert(both()),
            ),
            (
                "upsert_points_conditional",
                value(
                    cbor!({ "points_op" => { "points" => points() }, "condition" => filter, "update_mode" => "insert_only" }),
                ),
                Op::Upsert(both()),
            ),
            (
                "upsert_points_raw",
                value(cbor!([
                    { "id" => 7, "vectors" => [["", Value::Bytes(vec![1; 9000])]], "payload" => null },
                    { "id" => uuid(), "vectors" => [], "payload_raw" => { "payload_bytes" => Value::Bytes(vec![2]) } }
                ])),
                Op::Upsert(both()),
            ),
            (
                "delete_points",
                value(cbor!({ "ids" => ids })),
                Op::Delete(both()),
            ),
            (
                "delete_points_by_filter",
                filter.clone(),
                Op::DeleteByFilter,
            ),
            (
                "sync_points",
                value(cbor!({ "from_id" => 1, "to_id" => null, "points" => points() })),
                Op::Sync(both()),
            ),
            (
                "sync_points_raw",
                value(
                    cbor!({ "from_id" => null, "to_id" => uuid(), "points" => [{ "id" => 7, "vectors" => [] }] }),
                ),
                Op::Sync(vec![PointId::Num(7)]),
            ),
            (
                "update_vectors",
                value(cbor!({ "points" => points(), "update_filter" => filter })),
                Op::Vectors { ids: some() },
            ),
            (
                "delete_vectors",
                value(cbor!([{ "points" => ids, "shard_key" => "a" }, ["", "b"]])),
                Op::Vectors { ids: some() },
            ),
            (
                "delete_vectors_by_filter",
                value(cbor!([filter, ["b"]])),
                Op::Vectors { ids: None },
            ),
            (
                "set_payload",
                value(
                    cbor!({ "payload" => { "points" => [9] }, "points" => ids, "filter" => filter, "key" => null }),
                ),
                Op::Payload { ids: some() },
            ),
            (
                "overwrite_payload",
                value(
                    cbor!({ "payload" => {}, "points" => null, "filter" => filter, "key" => "a" }),
                ),
                Op::Payload { ids: None },
            ),
            (
                "delete_payload",
                value(cbor!({ "keys" => ["a"], "points" => ids, "filter" => null })),
                Op::Payload { ids: some() },
            ),
            (
                "clear_payload",
                value(cbor!({ "points" => ids })),
                Op::Payload { ids: some() },
            ),
            (
                "clear_payload_by_filter",
                filter.clone(),
                Op::Payload { ids: None },
            ),
            (
                "create_index",
                value(cbor!({ "field_name" => "a.b", "field_schema" => "integer" })),
                Op::Index {
                    field: "a.b".into(),
                },
            ),
            (
                "delete_index",
                value(cbor!("a.b")),
                Op::Index {
                    field: "a.b".into(),
                },
            ),
            (
                "create_vector_name",
                value(cbor!({ "vector_name" => "v", "config" => { "dense" => { "size" => 4 } } })),
                Op::VectorName { vector: "v".into() },
            ),
            (
                "delete_vector_name",
                value(cbor!({ "vector_name" => "v" })),
                Op::VectorName { vector: "v".into() },
            ),
            (
                "delay",
                value(cbor!({ "duration_sec" => 1.0 })),
                Op::Other("it is not known here".into()),
            ),
        ]
    }

    fn record(name: &str, value: &Value, clock: bool) -> Value {
        let mut map = vec![(Value::from(name), value.clone())];
        if clock {
            let clock = cbor!({ "peer_id" => u64::MAX, "clock_id" => 0, "force" => false });
            map.push((Value::from("clock_tag"), clock.expect("a value")));
        }
        Value::Map(map)
    }

    #[test]
    fn every_operation_is_told_with_its_ids() {
        for (name, value, op) in examples() {
            for clock in [false, true] {
                let bytes = bytes(&record(name, &value, clock));
                let got = Record::decode(&bytes).unwrap_or_else(|why| panic!("{name}: {why}"));
                assert_eq!((got.name.as_str(), &got.op), (name, &op));
            }
        }
    }

    #[test]
    fn message_pack_is_read_where_cbor_fails() {
        for (name, value, op) in examples() {
            let bytes = rmp_serde::to_vec_named(&record(name, &value, true)).expect("writes");
            let got = Record::decode(&bytes).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!((got.name.as_str(), &got.op), (name, &op));
        }
    }

    #[test]
    fn only_listed_ids_are_bounded() {
        let bounded: Vec<_> = examples()
            .into_iter()
            .filter(|(.., op)| op.touches() != Touches::Unbounded)
            .map(|(name, ..)| name)
            .collect();
        let want = [
            "upsert_points",
            "upsert_points",
            "upsert_points_conditional",
            "upsert_points_raw",
            "delete_points",
            "update_vectors",
            "delete_vectors",
            "set_payload",
            "delete_payload",
            "clear_payload",
            "create_index",
            "delete_index",
        ];
        assert_eq!(bounded, want);
        assert_eq!(Op::Delete(both()).touches(), Touches::Ids(&both()));
        let index = Op::Index { field: "a".into() };
        assert_eq!(index.touches(), Touches::Nothing);
    }

    #[test]
    fn maps_without_a_length_are_read() {
        // As servers write: 0xbf, then keys and values, then 0xff.
        let mut bytes = b"\xbf".to_vec();
        bytes.extend(b"\x6ddelete_points\xa1\x63ids\x81\x07\xff");
        let record = Record::decode(&bytes).expect("reads");
        assert_eq!(record.op, Op::Delete(vec![PointId::Num(7)]));

        bytes.push(0);
        assert!(Record::decode(&bytes).is_err(), "something follows");
    }

    #[test]
    fn what_is_no_operation_is_an_error() {
        let bad = [
            cbor!({}),
            cbor!({ "clock_tag" => {} }),
            cbor!([1]),
            cbor!({ "delete_points" => { "ids" => [-1] } }),
            cbor!({ "delete_points" => { "ids" => ["seven"] } }),
            cbor!({ "delete_points" => {} }),
            cbor!({ "delete_points" => { "ids" => [Value::Bytes(vec![1; 15])] } }),
        ];
        for (at, value) in bad.into_iter().enumerate() {
            let decoded = Record::decode(&bytes(&value.expect("a value")));
            assert!(decoded.is_err(), "case {at}: {decoded:?}");
        }
        let empty = cbor!({ "upsert_points" => {} }).expect("a value");
        let empty = Record::decode(&bytes(&empty)).expect("reads");
        assert_eq!(empty.op.touches(), Touches::Unbounded);
    }

    #[test]
    fn cut_and_changed_bytes_never_panic() {
        let mut refused = 0;
        for (name, value, _) in examples() {
            let whole = bytes(&record(name, &value, true));
            for len in 0..whole.len().min(400) {
                refused += usize::from(Record::decode(&whole[..len]).is_err());
            }
            for at in 0..whole.len().min(400) {
                for mask in [0x01, 0x20, 0x80, 0xff] {
                    let mut bytes = whole.clone();
                    bytes[at] ^= mask;
                    let _ = Record::decode(&bytes);
                }
            }
        }
        assert!(refused > 1000, "{refused}");
    }
}
