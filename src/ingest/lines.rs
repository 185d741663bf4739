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

/// Calls `take` with the point of every line of `lines`, which come from `path`.
pub fn read(
    mut lines: impl BufRead,
    path: &Path,
    mapping: &Mapping,
    mut take: impl FnMut(TableRow) -> Result<()>,
) -> Result<()> {
    let doing = || format!("reading {}", path.display());
    let mut line = Vec::new();
    let mut number = 0;
    let mut seen = BTreeSet::new();
    loop {
        line.clear();
        let read = (&mut lines)
            .take(LINE_BYTES_MAX + 1)
            .read_until(b'\n', &mut line);
        match read {
            Ok(0) => break,
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
        let object = serde_json::from_slice::<Map<String, Value>>(&line);
        let record = object
            .map_err(|err| err.to_string())
            .and_then(|map| record(map, mapping, &mut seen));
        take((number, record))?;
    }
    let never =
        (mapping.vectors.iter()).find(|one| mapping.is_given && !seen.contains(&one.column));
    match never.filter(|_| number > 0) {
        None => Ok(()),
        Some(one) => Err(Error::usage(
            doing(),
            format!("no row has {}, which --vector names", one.column),
        )
        .next("correct the name of the column")),
    }
}

/// The point that `map` is; tells `seen` which columns of vectors it has.
fn record(
    mut map: Map<String, Value>,
    mapping: &Mapping,
    seen: &mut BTreeSet<String>,
) -> Result<Record, String> {
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
    let mut has_vectors = false;
    if !mapping.is_given
        && let Some(Value::Object(named)) = map.get(VECTOR)
        && !(named.contains_key("indices") && named.contains_key("values"))
    {
        has_vectors = true;
        for (name, vector) in named {
            let vector = Vector::from_json(vector);
            let vector = vector.map_err(|why| format!("vector '{name}': {why}"))?;
            record.vectors.push((name.clone(), vector));
        }
    } else {
        for one in &mapping.vectors {
            let Some(vector) = map.get(&one.column) else {
                continue;
            };
            has_vectors = true;
            if !seen.contains(&one.column) {
                seen.insert(one.column.clone());
            }
            if !vector.is_null() {
                let vector = Vector::from_json(vector);
                let vector = vector.map_err(|why| format!("{}: {why}", one.column))?;
                record.vectors.push((one.name.clone(), vector));
            }
        }
    }
    if !has_vectors && !mapping.vectors.is_empty() {
        let columns: Vec<&str> = mapping
            .vectors
            .iter()
            .map(|one| one.column.as_str())
            .collect();
        return Err(format!(
            "it has no vector: neither {} by name nor {}; --vector NAME=COLUMN says which it is",
            VECTOR,
            columns.join(", ")
        ));
    }
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
    let is_vectors = |key: &str| key == VECTOR && !mapping.is_given;
    map.retain(|key, _| !mapping.is_taken(key) && !is_vectors(key));
    record.payload = payload(map, mapping)?;
    Ok(record)
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
            is_given: false,
            is_ours: false,
        }
    }

    fn read_one(line: &str, fields: Fields) -> Result<String, String> {
        let mut found = Vec::new();
        let mapping = mapping(fields);
        read(line.as_bytes(), Path::new("x"), &mapping, |row| {
            found.push(row);
            Ok(())
        })
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
            (r#"{"id":1,"vector":{},"payload":[]}"#, "payload"),
            (r#"{"id":1,"embedding":"x"}"#, "embedding"),
        ] {
            let why = read_one(line, Fields::Whole).unwrap_err();
            assert!(why.contains(says), "{line}: {why}");
        }
    }
}
