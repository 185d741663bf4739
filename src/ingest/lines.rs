//! Points out of JSON lines: in the shape of a scroll answer, or flat objects.
//!
//! Invariants: a line that is no point is told with its number; a line is bounded; what a line has is in its
//! point, or was asked to be left out, or is refused.

use std::collections::BTreeSet;
use std::io::{BufRead, Read as _};
use std::path::Path;

use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::base::error::{Error, Result};
use crate::point::{PointId, Record, ShardKey, Vector};
use crate::table::{Fields, Mapping, TableRow, whole_payload};

/// Bytes of a line, at the most: twice what a server takes in a request.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Keys of a scroll's or a search's answer that belong to no point.
const NOT_OF_A_POINT: [&str; 3] = ["score", "version", "order_value"];
/// The key of all vectors in a scroll's answer.
const VECTOR: &str = "vector";

/// Calls `take` with the point of every line of `lines`, which come from `path`; it says whether the point is taken.
/// Keys that a taken one has are no longer `unseen`.
pub fn read(
    mut lines: impl BufRead,
    path: &Path,
    mapping: &Mapping,
    unseen: &mut BTreeSet<String>,
    mut take: impl FnMut(TableRow) -> Result<bool>,
) -> Result<()> {
    let doing = || format!("reading {}", path.display());
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let read = (&mut lines)
            .take(LINE_BYTES_MAX + 1)
            .read_until(b'\n', &mut line);
        match read {
            Ok(0) => return Ok(()),
            Ok(_) => number += 1,
            Err(err) => return Err(Error::damaged(doing(), err)),
        }
        if line.len() as u64 > LINE_BYTES_MAX {
            let why = format!("line {number} is longer than {LINE_BYTES_MAX} bytes");
            return Err(Error::damaged(doing(), why)
                .next("give one JSON object on each line; is this a file of JSON lines?"));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let mut has = Vec::new();
        let object = serde_json::from_slice::<Map<String, Value>>(&line);
        let record = object.map_err(|err| err.to_string()).and_then(|map| {
            has.extend(unseen.iter().filter(|key| map.contains_key(*key)).cloned());
            record(map, mapping)
        });
        if take((number, record))? {
            unseen.retain(|key| !has.contains(key));
        }
    }
}

/// The point that `map` is.
fn record(mut map: Map<String, Value>, mapping: &Mapping) -> Result<Record, String> {
    let id = map
        .get(&mapping.id)
        .ok_or_else(|| format!("it has no {}", mapping.id))?;
    let id = PointId::deserialize(id)
        .map_err(|_| format!("its id is {id}, neither a whole number from 0 on nor a UUID"))?;
    let mut record = Record::bare(id);
    record.shard_key = match map.get(&mapping.shard_key) {
        None | Some(Value::Null) => None,
        Some(key) => {
            Some(ShardKey::deserialize(key).map_err(|err| format!("its shard key {key}: {err}"))?)
        }
    };
    let (vectors, by_name) = vectors(&map, mapping)?;
    record.vectors = vectors;
    record.vectors.sort_by(|(a, _), (b, _)| a.cmp(b));
    if record
        .vectors
        .array_windows()
        .any(|[(a, _), (b, _)]| a == b)
    {
        return Err("it has one vector twice".into());
    }
    if let Fields::Only(only) = &mapping.fields {
        map.retain(|key, _| only.contains(key));
        record.payload = map;
        return Ok(record);
    }
    map.retain(|key, _| !mapping.is_taken(key) && !(by_name && key == VECTOR));
    record.payload = payload(map, mapping)?;
    Ok(record)
}

/// The vectors of the row `map`, and whether its key `vector` has them by name.
fn vectors(
    map: &Map<String, Value>,
    mapping: &Mapping,
) -> Result<(Vec<(String, Vector)>, bool), String> {
    let read = |name: &str, label: &str, vector: &Value| {
        let vector = Vector::from_json(vector).map_err(|why| format!("{label}: {why}"))?;
        Ok::<_, String>((name.to_owned(), vector))
    };
    let columns = || {
        let columns = mapping.vectors.iter();
        columns.filter_map(|one| Some((one, map.get(&one.column)?)))
    };
    let by_name = match map.get(VECTOR).filter(|_| !mapping.is_given) {
        // A sparse vector that is called 'vector'.
        Some(Value::Object(one)) if one.contains_key("indices") && one.contains_key("values") => {
            None
        }
        Some(Value::Object(named)) => Some(
            named
                .iter()
                .map(|(name, one)| read(name, &format!("vector '{name}'"), one))
                .collect::<Result<Vec<_>, _>>()?,
        ),
        // As scroll answers without vectors.
        Some(Value::Null) => Some(Vec::new()),
        _ => None,
    };
    if let Some(vectors) = by_name {
        let other = columns().find(|(one, value)| one.column != VECTOR && !value.is_null());
        return match other {
            None => Ok((vectors, true)),
            Some((one, _)) => Err(format!(
                "it has {} beside {VECTOR}, and both name vectors",
                one.column
            )),
        };
    }
    let mut vectors = Vec::new();
    for (one, vector) in columns() {
        if !vector.is_null() {
            vectors.push(read(&one.name, &one.column, vector)?);
        }
    }
    let is_list = map.get(VECTOR).is_some_and(Value::is_array);
    if is_list && !mapping.is_given && !mapping.is_taken(VECTOR) && columns().next().is_some() {
        return Err(format!(
            "its {VECTOR} is a list of numbers that is taken by none of the config's vectors"
        ));
    }
    if columns().next().is_none() && !mapping.vectors.is_empty() {
        let columns: Vec<&str> = mapping
            .vectors
            .iter()
            .map(|one| one.column.as_str())
            .collect();
        return Err(format!(
            "it has no vector: neither {VECTOR} by name nor {}; --vector NAME=COLUMN says which it is",
            columns.join(", ")
        ));
    }
    Ok((vectors, false))
}

/// The payload of what is left of a row.
fn payload(mut map: Map<String, Value>, mapping: &Mapping) -> Result<Map<String, Value>, String> {
    let Some(whole) = map.shift_remove(&mapping.payload) else {
        return Ok(map);
    };
    let mut whole = whole_payload(whole)?;
    if mapping.fields == Fields::Whole {
        map.retain(|key, _| !NOT_OF_A_POINT.contains(&key.as_str()));
        return match map.keys().next() {
            None => Ok(whole),
            Some(key) => Err(format!(
                "it has {key}, which is none of id, vector and payload; --payload '*' takes it for one more field of \
                 the payload"
            )),
        };
    }
    for (key, value) in map {
        if whole.contains_key(&key) {
            return Err(format!("its payload has {key} already"));
        }
        whole.insert(key, value);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::AsScrolled;
    use crate::table::VectorColumn;

    fn mapping(fields: Fields) -> Mapping {
        Mapping {
            id: "id".into(),
            shard_key: "shard_key".into(),
            payload: "payload".into(),
            vectors: vec![VectorColumn {
                name: "image".into(),
                column: "embedding".into(),
            }],
            fields,
            repeats: BTreeSet::new(),
            is_given: false,
            is_ours: false,
        }
    }

    fn read_one(line: &str, fields: Fields) -> Result<String, String> {
        let mut found = Vec::new();
        let mapping = mapping(fields);
        read(
            line.as_bytes(),
            Path::new("x"),
            &mapping,
            &mut BTreeSet::new(),
            |row| {
                found.push(row);
                Ok(true)
            },
        )
        .unwrap();
        let (number, record) = found.pop().unwrap();
        assert_eq!((number, found.len()), (1, 0));
        let record = record?;
        let scrolled = AsScrolled {
            record: &record,
            with_vectors: true,
        };
        Ok(serde_json::to_string(&scrolled).unwrap())
    }

    #[test]
    fn lines_become_points() {
        let scrolled =
            r#"{"id":7,"payload":{"b":1,"a":2},"vector":{"image":[1.0,2.0]},"shard_key":"x"}"#;
        assert_eq!(read_one(scrolled, Fields::Whole).unwrap(), scrolled);
        let flat = r#"{"year":2017,"id":7,"embedding":[1,2],"b":null}"#;
        for (fields, payload) in [
            (Fields::Whole, r#"{"year":2017,"b":null}"#),
            (Fields::All, r#"{"year":2017,"b":null}"#),
            (Fields::Only(vec!["year".into()]), r#"{"year":2017}"#),
        ] {
            let wanted =
                format!(r#"{{"id":7,"payload":{payload},"vector":{{"image":[1.0,2.0]}}}}"#);
            assert_eq!(read_one(flat, fields).unwrap(), wanted);
        }
        // A field that is only called so, and vectors that were not asked for.
        let named = r#"{"id":7,"embedding":[1,2],"vector":"V8"}"#;
        let wanted = r#"{"id":7,"payload":{"vector":"V8"},"vector":{"image":[1.0,2.0]}}"#;
        assert_eq!(read_one(named, Fields::Whole).unwrap(), wanted);
        let none = r#"{"id":7,"payload":{"a":1},"vector":null}"#;
        let wanted = r#"{"id":7,"payload":{"a":1},"vector":{}}"#;
        assert_eq!(read_one(none, Fields::Whole).unwrap(), wanted);
    }

    #[test]
    fn other_lines_are_refused() {
        for (line, says) in [
            ("x", "expected"),
            ("[]", "expected a map"),
            (r#"{"id":-1}"#, "-1"),
            (r#"{"payload":{}}"#, "no id"),
            (
                r#"{"id":1,"embedding":[1],"payload":{},"year":2017}"#,
                "year",
            ),
            (r#"{"id":1,"payload":{}}"#, "no vector"),
            (r#"{"id":1,"vector":[1,2]}"#, "no vector"),
            (
                r#"{"id":1,"embedding":[1],"vector":{"text":[3]}}"#,
                "beside",
            ),
            (
                r#"{"id":1,"embedding":[1],"vector":[9,9]}"#,
                "is taken by none",
            ),
            (
                r#"{"id":1,"embedding":"a caption","vector":{"text":[3]}}"#,
                "beside",
            ),
            (r#"{"id":1,"vector":{},"payload":[]}"#, "payload"),
            (r#"{"id":1,"embedding":"x"}"#, "embedding"),
        ] {
            let why = read_one(line, Fields::Whole).unwrap_err();
            assert!(why.contains(says), "{line}: {why}");
        }
    }
}
