//! A collection's config where nothing but its vectors is stated: what a server takes by default.
//!
//! Invariants: the defaults are those of config/config.yaml and lib/collection/src/operations/types.rs, and depend on
//! no machine.

use serde_json::{Value, json};

use super::config::CollectionConfig;
use super::overrides::UserConfig;
use crate::base::error::Result;

impl CollectionConfig {
    /// The config of a collection with the dense vectors `vectors` and the sparse vectors `sparse`, both as in
    /// `params`; `what` names it in errors.
    pub fn by_default(what: &str, vectors: &Value, sparse: &Value) -> Result<Self> {
        let config = json!({
            "params": {
                "vectors": vectors,
                "sparse_vectors": sparse,
                "shard_number": 1,
                "replication_factor": 1,
                "write_consistency_factor": 1,
                "on_disk_payload": true,
            },
            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000},
            "optimizer_config": {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1000,
                "default_segment_number": 0,
                "max_segment_size": null,
                "memmap_threshold": null,
                "indexing_threshold": 10_000,
                "flush_interval_sec": 5,
                "max_optimization_threads": null,
            },
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            "quantization_config": null,
        });
        Self::parse(what, config.to_string().as_bytes())
    }
}

impl UserConfig {
    /// The config of a collection that has these vectors, and nothing else stated.
    pub fn base(&self) -> Result<CollectionConfig> {
        // As a server writes it: the vector without a name stands alone.
        let vectors = match (self.vectors.len(), self.vectors.get("")) {
            (1, Some(unnamed)) => Value::Object(unnamed.raw.clone()),
            _ => self
                .vectors
                .iter()
                .map(|(name, one)| (name.clone(), Value::Object(one.raw.clone())))
                .collect(),
        };
        let sparse = self
            .sparse
            .iter()
            .map(|(name, one)| (name.clone(), Value::Object(one.raw.clone())));
        let config = CollectionConfig::by_default(&self.file, &vectors, &sparse.collect())?;
        // Sources with shard keys and without are not united; this one alone has what it says.
        let mut raw = config.raw().clone();
        if let (Some(method), Some(Value::Object(params))) =
            (self.params.get("sharding_method"), raw.get_mut("params"))
        {
            params.insert("sharding_method".into(), method.clone());
        }
        CollectionConfig::parse(&self.file, Value::Object(raw).to_string().as_bytes())
    }

    /// Returns true if it states vectors.
    pub fn has_vectors(&self) -> bool {
        !self.vectors.is_empty() || !self.sparse.is_empty()
    }
}
