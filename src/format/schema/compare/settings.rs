//! A config's settings in comparable form: one path, one value.
//!
//! Invariants: defaults are resolved and nulls dropped, so that equal settings are equal values
//! however they are written down; the tables of defaults and of weights are the only place that
//! knows what a path means.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Severity;
use crate::format::schema::config::{CollectionConfig, hnsw_placement};
use crate::format::schema::vectors::{SparseParams, VectorParams};
use crate::format::schema::{Source, config_keys};

/// A setting on which sources differ, with each source's value; `None` where it is not set.
pub(super) struct Setting {
    /// The setting's path: "hnsw_config.m", "shard_number".
    pub(super) path: String,
    /// Each source's value, in the order of the sources.
    pub(super) values: Vec<Option<Value>>,
}

/// The tuning of a dense vector, comparable: defaults resolved, no nulls.
pub(in crate::format::schema) fn dense_tuning(v: &VectorParams) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::from([("memory".to_owned(), v.placement().as_word().into())]);
    if let Some(diff) = &v.hnsw_config {
        flatten_hnsw(diff, diff.contains_key("on_disk"), &mut out);
    }
    if let Some(quantization) = &v.quantization_config {
        out.insert("quantization_config".to_owned(), canonical(quantization));
    }
    rest(&v.raw, config_keys::VECTOR, &mut out);
    out
}

pub(in crate::format::schema) fn sparse_tuning(v: &SparseParams) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::from([("index.memory".to_owned(), v.placement().as_word().into())]);
    if let Some(threshold) = v.full_scan_threshold {
        out.insert("index.full_scan_threshold".to_owned(), threshold.into());
    }
    rest(&v.raw, config_keys::SPARSE, &mut out);
    out
}

/// Keys that no table lists: a newer server's.
fn rest(raw: &Map<String, Value>, table: &[config_keys::Field], out: &mut BTreeMap<String, Value>) {
    for (key, value) in raw {
        if !value.is_null() && !table.iter().any(|f| f.name == key || f.alias == key) {
            out.insert(key.clone(), canonical(value));
        }
    }
}

/// `hnsw` as read by the tables: one spelling a key, no nulls.
fn flatten_hnsw(
    hnsw: &Map<String, Value>,
    placement_stated: bool,
    out: &mut BTreeMap<String, Value>,
) {
    if placement_stated || hnsw.contains_key("memory") {
        let placement = hnsw_placement(hnsw);
        out.insert("hnsw_config.memory".to_owned(), placement.as_word().into());
    }
    for (key, value) in hnsw {
        if key != "memory" && key != "on_disk" {
            out.insert(format!("hnsw_config.{key}"), canonical(value));
        }
    }
}

/// Returns the values that a server assumes where a config says nothing.
fn defaults() -> [(&'static str, Value); 10] {
    [
        ("replication_factor", json!(1)),
        ("write_consistency_factor", json!(1)),
        ("read_fan_out_delay_ms", json!(0)),
        ("read_fan_out_factor", json!(0)),
        ("hnsw_config.max_indexing_threads", json!(0)),
        ("hnsw_config.inline_storage", json!(false)),
        ("optimizer_config.deleted_threshold", json!(0.2)),
        ("optimizer_config.vacuum_min_vector_number", json!(1000)),
        ("optimizer_config.prevent_unoptimized", json!(false)),
        ("wal_config.wal_retain_closed", json!(1)),
    ]
}

/// All settings of a config beside its vectors, comparable: defaults resolved, no nulls, no uuid.
fn settings(config: &CollectionConfig) -> BTreeMap<String, Value> {
    let mut out: BTreeMap<String, Value> = defaults()
        .into_iter()
        .map(|(path, value)| (path.to_owned(), value))
        .collect();
    out.insert("shard_number".to_owned(), config.shard_number().into());
    let sharding = config.sharding_method().as_word();
    out.insert("sharding_method".to_owned(), sharding.into());
    out.insert(
        "on_disk_payload".to_owned(),
        config.on_disk_payload().into(),
    );
    let apart = [
        "vectors",
        "sparse_vectors",
        "shard_number",
        "sharding_method",
        "on_disk_payload",
    ];
    for (key, value) in config.params().into_iter().flatten() {
        if apart.contains(&key.as_str()) || value.is_null() {
            continue;
        }
        if key == "payload" {
            for (key, value) in value.as_object().into_iter().flatten() {
                if key != "memory" && !value.is_null() {
                    out.insert(format!("payload.{key}"), canonical(value));
                }
            }
            continue;
        }
        let known = config_keys::PARAMS.iter().any(|f| f.name == key);
        let path = if known {
            key.clone()
        } else {
            format!("params.{key}")
        };
        out.insert(path, canonical(value));
    }
    flatten_hnsw(&config.global_hnsw().raw, true, &mut out);
    for (part, value) in config.raw() {
        match (part.as_str(), value) {
            ("params" | "hnsw_config" | "uuid", _) | (_, Value::Null) => {}
            ("optimizer_config" | "wal_config" | "strict_mode_config", Value::Object(map)) => {
                for (key, value) in map {
                    let key = key.strip_suffix("_kb").unwrap_or(key);
                    if !value.is_null() {
                        out.insert(format!("{part}.{key}"), canonical(value));
                    }
                }
            }
            (_, value) => {
                out.insert(part.clone(), canonical(value));
            }
        }
    }
    out
}

/// The settings beside vectors and payload indexes on which the sources differ, by path.
pub(super) fn differing_settings(sources: &[Source<'_>]) -> Vec<Setting> {
    let flat: Vec<BTreeMap<String, Value>> = sources.iter().map(|(_, c, _)| settings(c)).collect();
    let paths: BTreeSet<&String> = flat.iter().flat_map(BTreeMap::keys).collect();
    paths
        .into_iter()
        .filter_map(|path| {
            let values: Vec<Option<Value>> = flat.iter().map(|f| f.get(path).cloned()).collect();
            let first = values.first();
            values.iter().any(|v| Some(v) != first).then(|| Setting {
                path: path.clone(),
                values,
            })
        })
        .collect()
}

/// Returns the severity of a difference in the setting `path`, and its meaning for the merge.
pub(super) fn weigh(path: &str) -> (Severity, &'static str) {
    let part = path.split('.').next().unwrap_or(path);
    match part {
        "shard_number" => (
            Severity::Differs,
            "the master takes the largest, --shards states it otherwise; every point goes to the \
             shard that Qdrant's hash ring names",
        ),
        "sharding_method" => (
            Severity::Differs,
            "the master is sharded automatically, because points of a source without shard keys \
             have none; shard keys are not carried over",
        ),
        "on_disk_payload" => (
            Severity::Differs,
            "the master takes the first source's; --on-disk-payload states it otherwise",
        ),
        "hnsw_config" => (
            Severity::Differs,
            "the master's graph is built with the first source's; --hnsw-m, --hnsw-ef-construct and \
             --config state it otherwise",
        ),
        "optimizer_config" => (
            Severity::Differs,
            "the master takes the first source's; --indexing-threshold, --memmap-threshold and \
             --config state it otherwise",
        ),
        "quantization_config" => (
            Severity::Differs,
            "the master takes the first source's; --quantization states it otherwise",
        ),
        "strict_mode_config" => (
            Severity::Differs,
            "the master takes the first source's; a limit made for one source may be too low for \
             all together, --config states it otherwise",
        ),
        "metadata" => (
            Severity::Differs,
            "the master takes the first source's; --config states it otherwise",
        ),
        "wal_config" => (
            Severity::Note,
            "how a server keeps its log; the master takes the first source's",
        ),
        "replication_factor"
        | "write_consistency_factor"
        | "read_fan_out_factor"
        | "read_fan_out_delay_ms" => (
            Severity::Note,
            "how a cluster keeps and reads copies; the master takes the first source's",
        ),
        _ => (
            Severity::Differs,
            "a setting that this version of snapmerge does not know; the master takes the first \
             source's",
        ),
    }
}

/// A value as a reader wants it: words without quotes, "not set" where there is none.
pub(in crate::format::schema) fn show(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "not set".to_owned(),
        Some(Value::String(word)) => word.clone(),
        Some(other) => other.to_string(),
    }
}

/// The value in one form: nulls in objects dropped, keys sorted, `1.0` as `1`.
pub(in crate::format::schema) fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, Value> = map
                .iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k, canonical(v)))
                .collect();
            let sorted: Map<String, Value> =
                sorted.into_iter().map(|(k, v)| (k.clone(), v)).collect();
            sorted.into()
        }
        Value::Array(list) => list.iter().map(canonical).collect(),
        Value::Number(n) if n.is_f64() => match n.as_f64() {
            // Beyond 2^53 a float no longer names one whole number.
            Some(f) if f.fract() == 0.0 && f.abs() < 9.0e15 => json!(f as i64),
            _ => value.clone(),
        },
        _ => value.clone(),
    }
}
