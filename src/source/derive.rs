//! The config of a shard snapshot, which has none: derived from its segments.
//!
//! Invariants: what defines the points (vector names, sizes, distances, datatypes) is the segments'
//! own; the rest is what Qdrant would take by default, and the report says so.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::base::error::{Error, Result};
use crate::format::Snapshot;
use crate::format::schema::{CollectionConfig, PayloadSchema};

/// The collection config and payload indexes that the segments of `snapshot` tell.
pub fn derive(snapshot: &Snapshot) -> Result<(CollectionConfig, PayloadSchema)> {
    let what = snapshot.what();
    let mut vectors = Map::new();
    let mut sparse = Map::new();
    let mut hnsw = None;
    let mut on_disk_payload = true;
    for segment in snapshot.shards.values().flat_map(|s| s.segments.values()) {
        let Some(state) = parse(segment.state.as_deref()) else {
            continue;
        };
        let config = &state["config"];
        for (name, data) in entries(&config["vector_data"]) {
            let params = vectors.entry(name.clone()).or_insert_with(|| {
                let mut params = Map::new();
                for key in ["size", "distance", "multivector_config", "datatype"] {
                    if let Some(value) = data.get(key).filter(|value| !value.is_null()) {
                        params.insert(key.into(), value.clone());
                    }
                }
                Value::Object(params)
            });
            if let Some(kind) = data["storage_type"].as_str() {
                // Appendable segments lie in chunks whatever the collection says.
                if kind == "Mmap" {
                    params["on_disk"] = json!(true);
                }
            }
            if data["index"]["type"] == "hnsw" {
                hnsw.get_or_insert_with(|| data["index"]["options"].clone());
            }
            if let Some(quantization) = data
                .get("quantization_config")
                .filter(|value| !value.is_null())
            {
                params["quantization_config"] = quantization.clone();
            }
        }
        for (name, data) in entries(&config["sparse_vector_data"]) {
            sparse.entry(name.clone()).or_insert_with(|| {
                let mut params = Map::new();
                if let Some(modifier) = data.get("modifier").filter(|value| !value.is_null()) {
                    params.insert("modifier".into(), modifier.clone());
                }
                let mut index = Map::new();
                for key in ["full_scan_threshold", "datatype"] {
                    if let Some(value) = data["index"].get(key).filter(|value| !value.is_null()) {
                        index.insert(key.into(), value.clone());
                    }
                }
                if data["index"]["index_type"] == "Mmap" {
                    index.insert("on_disk".into(), json!(true));
                }
                params.insert("index".into(), Value::Object(index));
                Value::Object(params)
            });
        }
        on_disk_payload = config["payload_storage_type"]["type"] != "in_ram_mmap";
    }
    if vectors.is_empty() && sparse.is_empty() {
        return Err(Error::damaged(
            format!("reading {what}"),
            "it is a shard without segments, so its vectors' sizes and distances are unknown",
        )
        .next("take a snapshot of the collection, which has its config"));
    }
    // As a server writes it: the vector without a name stands alone.
    let vectors = match (vectors.len(), vectors.remove("")) {
        (1, Some(unnamed)) => unnamed,
        (_, unnamed) => {
            vectors.extend(unnamed.map(|unnamed| (String::new(), unnamed)));
            Value::Object(vectors)
        }
    };
    let config = CollectionConfig::by_default(&what, &vectors, &Value::Object(sparse))?;
    let mut raw = config.raw().clone();
    raw["params"]["on_disk_payload"] = json!(on_disk_payload);
    raw["hnsw_config"] = hnsw.unwrap_or_else(|| raw["hnsw_config"].clone());
    Ok((
        CollectionConfig::parse(&what, Value::Object(raw).to_string().as_bytes())?,
        segment_indexes(snapshot)?,
    ))
}

/// Payload indexes of the segments of `snapshot`: a server that has loaded them reports these.
pub fn segment_indexes(snapshot: &Snapshot) -> Result<PayloadSchema> {
    let mut fields = BTreeMap::new();
    for segment in snapshot.shards.values().flat_map(|s| s.segments.values()) {
        if let Some(indexes) = parse(segment.payload_index.as_deref()) {
            for (field, schema) in entries(&indexes["indexed_fields"]) {
                fields.entry(field.clone()).or_insert(schema.clone());
            }
        }
    }
    let schema = json!({ "schema": fields });
    PayloadSchema::parse(&snapshot.what(), schema.to_string().as_bytes())
}

fn parse(bytes: Option<&[u8]>) -> Option<Value> {
    serde_json::from_slice(bytes?).ok()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}
