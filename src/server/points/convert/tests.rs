//! Records survive both interfaces, whatever they hold: made at random, there and back.
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::*;
use crate::point::AsScrolled;
use crate::point::canonical::hashes;

/// Returns the point as a server answers it after it was given.
#[expect(
    deprecated,
    reason = "these fields are all that servers before 1.13 know"
)]
fn retrieved(point: proto::PointStruct, key: Option<&ShardKey>) -> proto::RetrievedPoint {
    let vector = |vector: proto::Vector| proto::VectorOutput {
        data: vector.data,
        indices: vector.indices,
        vectors_count: vector.vectors_count,
        vector: vector.vector.map(|vector| match vector {
            vector::Vector::Dense(dense) => vector_output::Vector::Dense(dense),
            vector::Vector::Sparse(sparse) => vector_output::Vector::Sparse(sparse),
            vector::Vector::MultiDense(multi) => vector_output::Vector::MultiDense(multi),
            other => panic!("{other:?}"),
        }),
    };
    let options = match point.vectors.unwrap().vectors_options.unwrap() {
        vectors::VectorsOptions::Vector(one) => vectors_output::VectorsOptions::Vector(vector(one)),
        vectors::VectorsOptions::Vectors(named) => {
            vectors_output::VectorsOptions::Vectors(proto::NamedVectorsOutput {
                vectors: named
                    .vectors
                    .into_iter()
                    .map(|(name, one)| (name, vector(one)))
                    .collect(),
            })
        }
    };
    proto::RetrievedPoint {
        id: point.id,
        payload: point.payload,
        vectors: Some(proto::VectorsOutput {
            vectors_options: Some(options),
        }),
        shard_key: key.map(key_to),
        order_value: None,
    }
}

fn floats(random: &mut ChaCha8Rng, length: usize) -> Vec<f32> {
    (0..length)
        .map(|_| match random.random_range(0..8) {
            0 => 0.0,
            1 => -0.0,
            2 => f32::MIN_POSITIVE / 3.0,
            3 => f32::MAX,
            // Values that float16 and uint8 widen to.
            4 => half::f16::from_f32(random.random_range(-1.0..1.0)).to_f32(),
            5 => f32::from(random.random::<u8>()),
            _ => random.random_range(-1.0..1.0),
        })
        .collect()
}

fn any_vector(random: &mut ChaCha8Rng) -> Vector {
    let length = random.random_range(1..9);
    match random.random_range(0..3) {
        0 => Vector::Dense(floats(random, length)),
        1 => Vector::Sparse {
            indices: (0..length)
                .map(|at| u32::try_from(at).unwrap() * 5 + random.random_range(0..5))
                .collect(),
            values: floats(random, length),
        },
        _ => Vector::Multi {
            dim: length,
            flat: floats(random, length * 3),
        },
    }
}

fn any_value(random: &mut ChaCha8Rng, depth: usize) -> Value {
    match random.random_range(0..if depth < 4 { 10 } else { 8 }) {
        0 => Value::Null,
        1 => json!(random.random::<bool>()),
        2 => json!(random.random::<i64>()),
        3 => json!(9_007_199_254_740_993_i64 + random.random_range(0..9)),
        4 => json!(f64::from(random.random::<i32>())),
        5 => json!(f64::from(random.random::<i32>()) / 8.0),
        6 => json!(["", "é\u{0}\n\"", "🦀", "null"][random.random_range(0..4)]),
        7 => json!([i64::MIN, i64::MAX, 0][random.random_range(0..3)]),
        8 => Value::Array(
            (0..random.random_range(0..4))
                .map(|_| any_value(random, depth + 1))
                .collect(),
        ),
        _ => Value::Object(any_map(random, depth + 1)),
    }
}

fn any_map(random: &mut ChaCha8Rng, depth: usize) -> Map<String, Value> {
    (0..random.random_range(0..5))
        .map(|at| {
            (
                format!("{}{at}", ["", "a.b", "ключ"][at % 3]),
                any_value(random, depth),
            )
        })
        .collect()
}

fn any_record(random: &mut ChaCha8Rng) -> Record {
    let id = match random.random_range(0..3) {
        0 => PointId::Num(u64::MAX - random.random_range(0..9)),
        1 => PointId::Num(random.random_range(0..9)),
        _ => PointId::Uuid(Uuid::from_u128(random.random())),
    };
    let names = [&["", "b", "image", "z"][..], &[], &[""], &["only"]][random.random_range(0..4)];
    let vectors = names
        .iter()
        .map(|name| {
            // The unnamed vector is never sparse.
            let vector = match any_vector(random) {
                Vector::Sparse { values, .. } if name.is_empty() => Vector::Dense(values),
                other => other,
            };
            ((*name).to_owned(), vector)
        })
        .collect();
    let shard_key = match random.random_range(0..3) {
        0 => None,
        1 => Some(ShardKey::Number(2019)),
        _ => Some(ShardKey::Word("2019".into())),
    };
    Record {
        id,
        vectors,
        payload: any_map(random, 1),
        shard_key,
    }
}

/// Equal if and only if the records are, bit by bit.
fn bytes(record: &Record) -> [u8; 32] {
    hashes(record, &mut Vec::new()).record
}

#[test]
fn any_record_comes_back_from_grpc_as_it_went() {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    for _ in 0..5000 {
        let record = any_record(&mut random);
        let mut record = record;
        // Exact over gRPC, while the reader of JSON may miss the last bit of such a one.
        let float = json!(random.random_range(-1e300..1e300));
        record.payload.insert("float".into(), float);
        assert!(fits(&record), "{record:?}");
        for form in [VectorForm::Messages, VectorForm::Flat] {
            let point = retrieved(point_to(record.clone(), form), record.shard_key.as_ref());
            let back = record_from(point).unwrap();
            assert!(!back.unsure || bytes(&record) == bytes(&back.record));
            assert_eq!(bytes(&record), bytes(&back.record), "{form:?} {record:?}");
        }
    }
}

#[test]
#[expect(
    deprecated,
    reason = "these fields are all that servers before 1.13 know"
)]
fn old_servers_get_vectors_in_the_fields_that_they_know() {
    for (version, form) in [
        (Some((1, 7, 4)), VectorForm::Flat),
        (Some((1, 12, 6)), VectorForm::Flat),
        (Some((1, 13, 0)), VectorForm::Messages),
        (Some((1, 19, 0)), VectorForm::Messages),
        (None, VectorForm::Messages),
    ] {
        assert_eq!(VectorForm::of(version), form, "{version:?}");
    }
    let multi = flat_vector_to(Vector::Multi {
        dim: 2,
        flat: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    });
    assert_eq!((multi.data.len(), multi.vectors_count), (6, Some(3)));
    assert!(multi.vector.is_none());
    let sparse = flat_vector_to(Vector::Sparse {
        indices: vec![3, 7],
        values: vec![0.5, 1.5],
    });
    assert_eq!(sparse.indices.map(|indices| indices.data), Some(vec![3, 7]));
    assert_eq!((sparse.data, sparse.vectors_count), (vec![0.5, 1.5], None));
}

#[test]
fn any_record_comes_back_from_rest_as_it_went() {
    let mut random = ChaCha8Rng::seed_from_u64(12);
    for _ in 0..5000 {
        let mut record = any_record(&mut random);
        record.payload.insert(
            "beyond".into(),
            json!(u64::MAX - random.random_range(0..99)),
        );
        let shown = AsScrolled {
            record: &record,
            with_vectors: true,
        };
        let text = serde_json::to_string(&shown).unwrap();
        let back = record_from_json(serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(bytes(&record), bytes(&back), "{text}");
    }
}

#[test]
fn what_grpc_cannot_hold_is_known() {
    let record = |payload: Value| Record {
        id: PointId::Num(1),
        vectors: Vec::new(),
        payload: [("at".to_owned(), payload)].into_iter().collect(),
        shard_key: None,
    };
    let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    for (payload, holds) in [
        (json!(i64::MAX), true),
        (json!(9_223_372_036_854_775_808_u64), false),
        (json!({"a": [u64::MAX]}), false),
        (json!(1e19), true),
        (deep(20), true),
        (deep(40), false),
    ] {
        assert_eq!(fits(&record(payload.clone())), holds, "{payload}");
    }
    // 2^63 itself may have been 2^63 as a whole number; what lies below or above cannot.
    for (float, unsure) in [
        (9_223_372_036_854_775_808.0, true),
        (1.8446744073709552e19, true),
        (9.3e18, true),
        (9.2e18, false),
        (2e19, false),
        (-1e19, false),
    ] {
        let point = retrieved(point_to(record(json!(float)), VectorForm::Messages), None);
        assert_eq!(record_from(point).unwrap().unsure, unsure, "{float}");
    }
}

#[test]
fn what_no_server_sends_is_refused() {
    let point = proto::RetrievedPoint::default();
    assert!(record_from(point).unwrap_err().contains("without an id"));
    let bad_id = proto::PointId {
        point_id_options: Some(PointIdOptions::Uuid("seven".into())),
    };
    assert!(id_from(Some(bad_id)).unwrap_err().contains("seven"));
    for point in [
        json!(7),
        json!({"payload": {}}),
        json!({"id": 1, "payload": 3}),
        json!({"id": 1, "vector": "x"}),
        json!({"id": 1, "vector": [[1.0], [1.0, 2.0]]}),
        json!({"id": 1, "vector": {"s": {"indices": [1], "values": []}}}),
        json!({"id": 1, "shard_key": {}}),
    ] {
        assert!(record_from_json(point.clone()).is_err(), "{point}");
    }
}

#[test]
fn whole_numbers_are_mended_and_nothing_else() {
    let map = |value: Value| value.as_object().unwrap().clone();
    let mut payload = map(json!({
        "big": 18446744073709551615.0, "float": 1e19, "list": [{"big": 9223372036854775808.0}, 1e19],
        "exact": 0.1, "other": 1e19,
    }));
    let exact = map(json!({
        "big": 18446744073709551615_u64, "float": 1e19,
        "list": [{"big": 9223372036854775809_u64}, 10_000_000_000_000_000_000_u64],
        "exact": 0.100_000_000_000_000_02, "other": 18446744073709551615_u64,
    }));
    mend(&mut payload, &exact);
    let mended = json!({
        "big": 18446744073709551615_u64, "float": 1e19,
        "list": [{"big": 9223372036854775809_u64}, 10_000_000_000_000_000_000_u64],
        "exact": 0.1, "other": 1e19,
    });
    assert_eq!(Value::from(payload), mended);
}
