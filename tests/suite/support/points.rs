//! Points as JSON, in the shape of Qdrant's scroll answer, and their equality: the same ids in the
//! same order, payload equal as JSON values (an integer is not a float), vectors equal as f32, bit by
//! bit. Independent of the program's own idea of equality, which it is there to check.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::{Outcome, Trial};

/// A point's id; orders as Qdrant does, numbers first. (UUIDs are lower-case text of one length, so
/// the order of the text is the order of the bytes.)
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PointId {
    Num(u64),
    Uuid(String),
}

impl PointId {
    /// The `id` of a point.
    pub fn of(point: &Value) -> Outcome<Self> {
        match &point["id"] {
            Value::Number(n) if n.is_u64() => Ok(Self::Num(n.as_u64().unwrap_or_default())),
            Value::String(s) if s.len() == 36 && *s == s.to_lowercase() => {
                Ok(Self::Uuid(s.clone()))
            }
            other => Err(format!("not a point id: {other}").into()),
        }
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Num(n) => n.fmt(f),
            Self::Uuid(s) => s.fmt(f),
        }
    }
}

/// The points by id; two of one id are an error.
pub fn by_id(points: Vec<Value>) -> Outcome<BTreeMap<PointId, Value>> {
    let mut map = BTreeMap::new();
    for point in points {
        let id = PointId::of(&point)?;
        ensure!(
            map.insert(id.clone(), point).is_none(),
            "two points have the id {id}"
        );
    }
    Ok(map)
}

/// Fails unless `got` is exactly `want`, in the same order. Says how many differ and shows the first
/// few; returns how many points were compared, which the caller knows to expect.
pub fn ensure_same<'a>(
    got: impl IntoIterator<Item = &'a Value>,
    want: impl IntoIterator<Item = &'a Value>,
) -> Outcome<usize> {
    let got: Vec<&Value> = got.into_iter().collect();
    let want: Vec<&Value> = want.into_iter().collect();
    let mut differences = Vec::new();
    if got.len() != want.len() {
        differences.push(format!("{} points instead of {}", got.len(), want.len()));
    }
    for (got, want) in got.iter().zip(&want) {
        if let Err(why) = same(got, want) {
            differences.push(why);
        }
    }
    ensure!(
        differences.is_empty(),
        "{} differences; the first:\n  {}",
        differences.len(),
        differences[..differences.len().min(5)].join("\n  ")
    );
    Ok(want.len())
}

/// Is `got` the point `want`? Otherwise what is different.
pub fn same(got: &Value, want: &Value) -> Result<(), String> {
    let (Value::Object(got), Value::Object(want)) = (got, want) else {
        return Err(format!("not two points: {got} and {want}"));
    };
    let id = &want["id"];
    if got.get("id") != Some(id) {
        return Err(format!("id {} instead of {id}", got["id"]));
    }
    let keys = |point: &serde_json::Map<String, Value>| {
        let mut keys: Vec<String> = point.keys().cloned().collect();
        keys.sort();
        keys
    };
    if keys(got) != keys(want) {
        let (got, want) = (keys(got), keys(want));
        return Err(format!("point {id}: has {got:?} instead of {want:?}"));
    }
    for (key, want) in want {
        let got = &got[key];
        let equal = match key.as_str() {
            "vector" => same_vector(got, want),
            _ => got == want,
        };
        if !equal {
            return Err(format!("point {id}: {key} is {got} instead of {want}"));
        }
    }
    Ok(())
}

/// Vectors of any form: dense, multi, sparse, by name. Numbers are f32, save a sparse one's indices.
fn same_vector(got: &Value, want: &Value) -> bool {
    match (got, want) {
        (Value::Number(got), Value::Number(want)) => match (got.as_f64(), want.as_f64()) {
            (Some(got), Some(want)) => (got as f32).to_bits() == (want as f32).to_bits(),
            _ => false,
        },
        (Value::Array(got), Value::Array(want)) => {
            got.len() == want.len() && got.iter().zip(want).all(|(g, w)| same_vector(g, w))
        }
        (Value::Object(got), Value::Object(want)) => {
            got.len() == want.len()
                && want
                    .iter()
                    .all(|(key, want)| match (key.as_str(), got.get(key)) {
                        (_, None) => false,
                        ("indices", Some(got)) => got == want,
                        (_, Some(got)) => same_vector(got, want),
                    })
        }
        _ => got == want,
    }
}

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("support/points/equality_sees_every_difference", || {
            let point = json!({"id": 7, "payload": {"big": 9007199254740993_u64, "f": 1.0, "n": [null]},
                "vector": {"dense": [0.1, -0.0], "words": {"indices": [16777217], "values": [0.5]}, "multi": [[1.0], [2.0]]}});
            ensure_eq!(same(&point, &point), Ok(()), "a point is itself");
            // 248 and 248.0 are one f32; in a payload they are two values.
            let mut int = point.clone();
            int["vector"]["multi"][0][0] = json!(1);
            ensure_eq!(same(&int, &point), Ok(()), "vectors are f32");
            let others = [
                ("/id", json!(8)),
                ("/payload/big", json!(9007199254740992_u64)),
                ("/payload/f", json!(1)),
                ("/payload/n", json!([])),
                ("/payload", json!({})),
                ("/vector/dense/0", json!(0.100_000_01)),
                ("/vector/dense/1", json!(0.0)),
                ("/vector/words/indices/0", json!(16777216)),
                ("/vector/multi/1", json!([2.0, 2.0])),
                ("/vector", json!({"dense": [0.1, -0.0]})),
            ];
            for (at, value) in others {
                let mut other = point.clone();
                *other.pointer_mut(at).expect("a place in the point") = value;
                ensure!(same(&other, &point).is_err(), "{at} was not seen");
                ensure!(
                    same(&point, &other).is_err(),
                    "{at} was not seen, turned round"
                );
            }
            let mut more = point.clone();
            more["shard_key"] = json!("a");
            ensure!(same(&more, &point).is_err(), "a further key was not seen");
            ensure!(
                ensure_same([&point], []).is_err(),
                "a point too many was not seen"
            );
            ensure!(
                ensure_same([], [&point]).is_err(),
                "a missing point was not seen"
            );
            Ok(())
        }),
        Trial::new("support/points/ids_order_as_qdrant_does", || {
            let uuid = |s: &str| PointId::of(&json!({ "id": s }));
            let low = uuid("00000000-0000-0000-0000-000000000001")?;
            let high = uuid("ffffffff-0000-0000-0000-000000000000")?;
            ensure!(
                PointId::Num(u64::MAX) < low && low < high,
                "numbers, then UUIDs"
            );
            ensure!(PointId::of(&json!({"id": -1})).is_err(), "a negative id");
            ensure!(
                by_id(vec![json!({"id": 1}), json!({"id": 1})]).is_err(),
                "one id twice"
            );
            Ok(())
        }),
    ]
}
