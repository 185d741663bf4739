//! Reading JSON by the tables of known keys.
//!
//! Invariants: every problem of an object is found in one reading, named with its path; what comes
//! out has each known key under Qdrant's own spelling.

use serde_json::{Map, Value};

use super::{ANY, Field, HNSW_M_MOST, QUANTIZATIONS, VECTOR, Want};

/// Returns true if `value` is a kind of quantization that this version knows.
pub(in crate::format::schema) fn is_known_quantization(value: &Value) -> bool {
    value.as_object().is_some_and(|map| {
        map.len() == 1
            && map
                .keys()
                .all(|key| QUANTIZATIONS.iter().any(|kind| kind.name == key))
    })
}

/// Returns true if `vectors` has the form of one unnamed vector: its `size` or `distance` is no
/// object.
pub(in crate::format::schema) fn is_unnamed_vector(vectors: &Map<String, Value>) -> bool {
    ["size", "distance"]
        .iter()
        .any(|key| vectors.get(*key).is_some_and(|value| !value.is_object()))
}

/// Strictness with which an object is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::format::schema) enum Reading {
    /// A user's file: unknown keys and values out of bounds are problems.
    User,
    /// A source's own config: only wrong types are problems.
    Source,
}

/// Reads `map` by `table`: every problem goes to `problems` with its path, and the result holds
/// each key under Qdrant's own spelling, without nulls that state nothing.
pub(in crate::format::schema) fn read_table(
    map: &Map<String, Value>,
    table: &[Field],
    path: &str,
    reading: Reading,
    problems: &mut Vec<String>,
) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in map {
        let here = join(path, key);
        let Some(field) = table
            .iter()
            .find(|f| f.name == key || (!f.alias.is_empty() && f.alias == key))
        else {
            if reading == Reading::User {
                problems.push(unknown_key(&here, key, table));
            } else {
                out.insert(key.clone(), value.clone());
            }
            continue;
        };
        if value.is_null() {
            if field.unset {
                out.insert(field.name.to_owned(), Value::Null);
            }
            continue;
        }
        let read = read_value(value, &field.want, &here, reading, problems);
        if out.insert(field.name.to_owned(), read).is_some() {
            problems.push(format!("{here}: stated twice, under two spellings"));
        }
    }
    out
}

fn read_value(
    value: &Value,
    want: &Want,
    path: &str,
    reading: Reading,
    problems: &mut Vec<String>,
) -> Value {
    let strict = reading == Reading::User;
    let mut wants = |what: String| {
        problems.push(format!("{path}: wants {what}, has {value}"));
    };
    match want {
        Want::Count(least, most) => match value.as_u64() {
            Some(n) if !strict || (*least..=*most).contains(&n) => {}
            _ if *most == ANY => wants(format!("a whole number of at least {least}")),
            _ => wants(format!("a whole number from {least} to {most}")),
        },
        Want::Edges => match value.as_u64() {
            Some(n) if !strict || is_hnsw_m(n) => {}
            _ => wants(format!(
                "0 (no graph) or a whole number from 4 to {HNSW_M_MOST}"
            )),
        },
        Want::Share(least, most) => match value.as_f64() {
            Some(n) if !strict || (*least..=*most).contains(&n) => {}
            _ if *most == f64::MAX => wants(format!("a number of at least {least}")),
            _ => wants(format!("a number from {least} to {most}")),
        },
        Want::Flag if !value.is_boolean() => wants("true or false".to_owned()),
        Want::Word(words) => match value.as_str() {
            Some(word) if !strict || words.contains(&word) => {}
            _ => wants(format!("one of {}", words.join(", "))),
        },
        Want::Threads => match value.as_str() {
            Some("auto") => return Value::Null,
            _ if value.is_u64() => {}
            _ => wants("a whole number or \"auto\"".to_owned()),
        },
        Want::Object if !value.is_object() => wants("an object".to_owned()),
        Want::Flag | Want::Object | Want::Anything => {}
        Want::Table(table) => match value.as_object() {
            Some(map) => return read_table(map, table, path, reading, problems).into(),
            None => wants("an object".to_owned()),
        },
        Want::Each(table) => match value.as_object() {
            Some(map) => return read_each(map, table, path, reading, problems).into(),
            None => wants("an object of named vectors".to_owned()),
        },
        Want::Vectors => match value.as_object() {
            Some(map) if is_unnamed_vector(map) => {
                return read_vector(map, path, reading, problems).into();
            }
            Some(map) => return read_each(map, VECTOR, path, reading, problems).into(),
            None => wants("an object: one vector, or named ones".to_owned()),
        },
        Want::Quantization => match value.as_object() {
            Some(map) if map.len() == 1 => {
                let read = read_table(map, QUANTIZATIONS, path, reading, problems);
                let compression = read.get("product").map(|p| p.get("compression"));
                if strict && compression == Some(None) {
                    problems.push(format!("{path}.product.compression: missing"));
                }
                let scalar = read.get("scalar").map(|s| s.get("type"));
                if strict && scalar == Some(None) {
                    problems.push(format!("{path}.scalar.type: missing"));
                }
                return read.into();
            }
            _ => wants("exactly one of scalar, product, binary, turbo".to_owned()),
        },
    }
    value.clone()
}

fn read_each(
    map: &Map<String, Value>,
    table: &[Field],
    path: &str,
    reading: Reading,
    problems: &mut Vec<String>,
) -> Map<String, Value> {
    let mut out = Map::new();
    for (name, value) in map {
        let here = join(path, name);
        match value.as_object() {
            Some(entry) if std::ptr::eq(table, VECTOR) => {
                out.insert(
                    name.clone(),
                    read_vector(entry, &here, reading, problems).into(),
                );
            }
            Some(entry) => {
                let read = read_table(entry, table, &here, reading, problems);
                out.insert(name.clone(), read.into());
            }
            // A typing error in a single vector's key lands here too: "sise": 16.
            None => problems.push(format!("{here}: wants an object, has {value}")),
        }
    }
    out
}

fn read_vector(
    map: &Map<String, Value>,
    path: &str,
    reading: Reading,
    problems: &mut Vec<String>,
) -> Map<String, Value> {
    for key in ["size", "distance"] {
        if map.get(key).is_none_or(Value::is_null) {
            problems.push(format!("{path}.{key}: missing"));
        }
    }
    read_table(map, VECTOR, path, reading, problems)
}

/// Returns true if `m` is a number of edges that a graph is built with (4 to `HNSW_M_MOST`), or 0
/// for none.
pub(in crate::format::schema) fn is_hnsw_m(m: u64) -> bool {
    m == 0 || (4..=HNSW_M_MOST).contains(&m)
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn unknown_key(path: &str, key: &str, table: &[Field]) -> String {
    let nearest = table
        .iter()
        .map(|f| (distance(key, f.name), f.name))
        .min()
        // Further away than half its letters, a word is another word.
        .filter(|(steps, name)| *steps <= name.len().max(2) / 2);
    match nearest {
        Some((_, name)) => format!("{path}: unknown key; did you mean {name}?"),
        None => {
            let known: Vec<&str> = table.iter().map(|f| f.name).collect();
            format!("{path}: unknown key; known are {}", known.join(", "))
        }
    }
}

/// Returns the Levenshtein distance: the number of characters to add, remove or change to turn `a`
/// into `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (to, above) in b.iter().zip(row.iter().skip(1)) {
            let here = (left + 1)
                .min(above + 1)
                .min(diagonal + usize::from(from != *to));
            diagonal = *above;
            left = here;
            next.push(here);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::schema::config_keys::*;
    use serde_json::json;

    fn problems(value: Value, table: &[Field], reading: Reading) -> Vec<String> {
        let mut found = Vec::new();
        read_table(value.as_object().unwrap(), table, "", reading, &mut found);
        found
    }

    #[test]
    fn letters_are_counted() {
        for (a, b, steps) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("ef_constuct", "ef_construct", 1),
            ("m", "on_disk", 7),
        ] {
            assert_eq!(distance(a, b), steps, "{a} {b}");
        }
    }

    #[test]
    fn all_problems_of_a_file_are_named_with_their_path() {
        let found = problems(
            json!({
                "vectors": {"image": {"size": 0, "distance": "cosine"}, "x": {"distance": "Dot"}},
                "sparse_vectors": {"w": {"modifer": "idf", "index": {"datatype": "turbo4"}}},
                "shard_number": 0,
                "hnsw_config": {"m": 3, "ef_constuct": 100, "on_disk": "yes"},
                "optimizers_config": {"indexing_treshold": 1, "deleted_threshold": 1.5},
                "quantization_config": {"scalar": {"quantile": 0.4}},
                "wal_config": 7,
                "zzz": 1,
            }),
            CREATE,
            Reading::User,
        );
        let want = [
            "vectors.image.size: wants a whole number from 1 to 65536, has 0",
            "vectors.image.distance: wants one of Cosine, Euclid, Dot, Manhattan, has \"cosine\"",
            "vectors.x.size: missing",
            "sparse_vectors.w.modifer: unknown key; did you mean modifier?",
            "sparse_vectors.w.index.datatype: wants one of float32, float16, uint8, has \"turbo4\"",
            "shard_number: wants a whole number from 1 to 10000, has 0",
            "hnsw_config.m: wants 0 (no graph) or a whole number from 4 to 1000, has 3",
            "hnsw_config.ef_constuct: unknown key; did you mean ef_construct?",
            "hnsw_config.on_disk: wants true or false, has \"yes\"",
            "optimizers_config.indexing_treshold: unknown key; did you mean indexing_threshold?",
            "optimizers_config.deleted_threshold: wants a number from 0 to 1, has 1.5",
            "quantization_config.scalar.quantile: wants a number from 0.5 to 1, has 0.4",
            "quantization_config.scalar.type: missing",
            "wal_config: wants an object, has 7",
        ];
        for line in want {
            assert!(found.iter().any(|p| p == line), "{line} not in {found:#?}");
        }
        assert!(
            found
                .iter()
                .any(|p| p.starts_with("zzz: unknown key; known are vectors,"))
        );
        assert_eq!(found.len(), want.len() + 1, "{found:#?}");
    }

    #[test]
    fn a_source_may_hold_what_a_newer_server_writes_but_no_wrong_types() {
        let newer = json!({"m": 2, "ef_construct": 1, "memory": "warm", "brand_new": [1]});
        assert!(problems(newer.clone(), HNSW, Reading::Source).is_empty());
        assert_eq!(problems(newer, HNSW, Reading::User).len(), 4);
        assert_eq!(problems(json!({"m": "16"}), HNSW, Reading::Source).len(), 1);
    }

    #[test]
    fn other_spellings_and_nulls_are_settled() {
        let mut found = Vec::new();
        let value = json!({
            "optimizer_config": {"memmap_threshold_kb": 5, "indexing_threshold": null,
                "max_optimization_threads": "auto", "flush_interval_sec": null},
            "hnsw_config": null,
            "quantization": null,
        });
        let map = value.as_object().unwrap();
        let read = read_table(map, CREATE, "", Reading::User, &mut found);
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(
            Value::from(read),
            json!({
                "optimizers_config": {"memmap_threshold": 5, "indexing_threshold": null,
                    "max_optimization_threads": null},
                "quantization_config": null,
            })
        );
        let twice = json!({"memmap_threshold": 1, "memmap_threshold_kb": 2});
        assert_eq!(problems(twice, OPTIMIZER, Reading::User).len(), 1);
    }
}
