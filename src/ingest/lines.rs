//! Points out of JSON lines: in the shape of a scroll answer, or flat objects.
//!
//! Invariants: a line that is no point is told with its number; a line is bounded; what a line has is in its
//! point, or was asked to be left out, or is refused.

use std::io::{BufRead, Read as _};
use std::path::Path;

use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::base::error::{Error, Result};
use crate::point::{PointId, Record, ShardKey, Vector};
use crate::table::{Fields, Mapping, TableRow};

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
        let object = serde_json::from_slice::<Map<String, Value>>(&line);
        let record = object
            .map_err(|err| err.to_string())
            .and_then(|map| record(map, mapping));
        take((number, record))?;
    }
}

/// The point that `map` is.
fn record(mut map: Map<String, Value>, mapping: &Mapping) -> Result<Record, String> {
    let id = map.shift_remove(&mapping.id);
    let id = id.ok_or_else(|| format!("it has no {}", mapping.id))?;
    let id = PointId::deserialize(&id)
        .map_err(|_| format!("its id is {id}, neither a whole number from 0 on nor a UUID"))?;
    let mut record = Record::bare(id);
    record.shard_key = match map.shift_remove(&mapping.shard_key) {
        None | Some(Value::Null) => None,
        Some(key) => {
            Some(ShardKey::deserialize(&key).map_err(|err| format!("its shard key {key}: {err}"))?)
        }
    };
    let is_named = mapping.vectors.iter().any(|vector| vector.column == VECTOR);
    if !is_named && let Some(Value::Object(named)) = map.get(VECTOR) {
        for (name, vector) in named {
            let vector = Vector::from_json(vector);
            let vector = vector.map_err(|why| format!("vector '{name}': {why}"))?;
            record.vectors.push((name.clone(), vector));
        }
        map.shift_remove(VECTOR);
    }
    for one in &mapping.vectors {
        match map.shift_remove(&one.column) {
            None | Some(Value::Null) => {}
            Some(Value::Object(named)) if one.name.is_empty() => {
                for (name, vector) in &named {
                    record
                        .vectors
                        .push((name.clone(), Vector::from_json(vector)?));
                }
            }
            Some(vector) => {
                let vector = Vector::from_json(&vector);
                let vector = vector.map_err(|why| format!("{}: {why}", one.column))?;
                record.vectors.push((one.name.clone(), vector));
            }
        }
    }
    record.vectors.sort_by(|(a, _), (b, _)| a.cmp(b));
    if record
        .vectors
        .array_windows()
        .any(|[(a, _), (b, _)]| a == b)
    {
        return Err("it has one vector twice".into());
    }
    record.payload = payload(map, mapping)?;
    Ok(record)
}

fn payload(mut map: Map<String, Value>, mapping: &Mapping) -> Result<Map<String, Value>, String> {
    for column in &mapping.ignored {
        map.shift_remove(column);
    }
    match &mapping.fields {
        Fields::Only(only) => {
            map.retain(|key, _| only.contains(key));
            Ok(map)
        }
        Fields::All => Ok(map),
        Fields::Whole => match map.shift_remove(&mapping.payload) {
            None => Ok(map),
            Some(whole) => {
                map.retain(|key, _| !NOT_OF_A_POINT.contains(&key.as_str()));
                match (map.keys().next(), whole) {
                    (Some(key), _) => Err(format!(
                        "it has {key}, which is none of id, vector and payload; --payload '*' takes it for a \
                         field of the payload"
                    )),
                    (None, Value::Null) => Ok(Map::new()),
                    (None, Value::Object(whole)) => Ok(whole),
                    (None, other) => Err(format!("its payload is {other}")),
                }
            }
        },
    }
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
            ignored: Vec::new(),
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
            (r#"{"id":1,"payload":{},"year":2017}"#, "year"),
            (r#"{"id":1,"payload":[]}"#, "payload"),
            (r#"{"id":1,"embedding":"x"}"#, "embedding"),
            (
                r#"{"id":1,"embedding":[1],"vector":{"image":[1]}}"#,
                "twice",
            ),
        ] {
            let why = read_one(line, Fields::Whole).unwrap_err();
            assert!(why.contains(says), "{line}: {why}");
        }
    }
}
