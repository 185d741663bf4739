//! From a snapshot's config to the call that creates the same collection.
//!
//! Invariants: every setting that can be given when a collection is created is given, so that the
//! server's own defaults decide about none of them.

use serde_json::{Map, Value, json};

use crate::format::schema::CollectionConfig;

/// Keys of `params` that `PUT /collections/NAME` takes beside the other settings.
const PARAMS: [&str; 8] = [
    "vectors",
    "sparse_vectors",
    "shard_number",
    "sharding_method",
    "replication_factor",
    "write_consistency_factor",
    "on_disk_payload",
    "payload",
];
/// Settings with their names in a snapshot and in the call.
const SETTINGS: [(&str, &str); 6] = [
    ("hnsw_config", "hnsw_config"),
    ("optimizer_config", "optimizers_config"),
    ("wal_config", "wal_config"),
    ("quantization_config", "quantization_config"),
    ("strict_mode_config", "strict_mode_config"),
    ("metadata", "metadata"),
];

/// Returns the body of `PUT /collections/NAME` that creates a collection with `config`.
pub fn create_body(config: &CollectionConfig) -> Map<String, Value> {
    let mut body = Map::new();
    let raw = config.raw();
    let params = raw.get("params").and_then(Value::as_object);
    for key in PARAMS {
        let value = params.and_then(|params| params.get(key));
        if let Some(value) = value.filter(|value| !value.is_null()) {
            body.insert(key.to_owned(), value.clone());
        }
    }
    // A collection with sparse vectors alone has no dense ones, which the call wants to be said.
    body.entry("vectors").or_insert_with(|| json!({}));
    for (here, there) in SETTINGS {
        if let Some(value) = raw.get(here).filter(|value| !value.is_null()) {
            body.insert(there.to_owned(), value.clone());
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_given() {
        let config = json!({
            "params": {"vectors": {"size": 4, "distance": "Cosine"}, "shard_number": 2,
                "sharding_method": "custom", "replication_factor": 1,
                "write_consistency_factor": 1, "on_disk_payload": true, "read_fan_out_factor": null},
            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
            "optimizer_config": {"default_segment_number": 8, "flush_interval_sec": 5},
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            "quantization_config": null, "uuid": "x"
        });
        let config = CollectionConfig::parse("x", config.to_string().as_bytes()).unwrap();
        let body = Value::from(create_body(&config));
        assert_eq!(body["sharding_method"], "custom");
        assert_eq!(body["optimizers_config"]["default_segment_number"], 8);
        assert_eq!(body["vectors"]["size"], 4);
        for key in ["uuid", "optimizer_config", "params", "quantization_config"] {
            assert!(body.get(key).is_none(), "{key}");
        }
    }
}
