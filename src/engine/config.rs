//! The engine's config for a collection's config.
//!
//! Invariants: the engine always gets a full config. With a derived one its optimizer would drop
//! quantization and build the index again without it.

use qdrant_edge::{Distance, EdgeConfig, EdgeOptimizersConfig};
use serde_json::{Map, Value, json};

use crate::base::error::{Error, Result};
use crate::format::schema::CollectionConfig;

/// Segments up to this size are built as one, in KB: the engine's own bound depends on the number
/// of processors, and a master must not depend on the machine that it was made on.
const SEGMENT_KB_MAX: u64 = 1 << 40;

/// Config with which a shard is opened.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    pub(super) inner: EdgeConfig,
    /// True if vectors have to lie on disk although their config does not say so.
    moved_to_disk: bool,
}

impl ShardConfig {
    /// The engine's config for a shard of a collection with `config`.
    pub fn new(config: &CollectionConfig) -> Result<Self> {
        Self::build(config, false)
    }

    /// The same for a shard of `points` points: above the config's `memmap_threshold`, which the
    /// engine does not know, a server would move vectors to disk, and index them anew on the way.
    pub fn for_points(config: &CollectionConfig, points: u64) -> Result<Self> {
        Self::build(config, is_memory_mapped(config, points))
    }

    /// With `on_disk`, vectors whose place is not stated are left on disk.
    fn build(config: &CollectionConfig, on_disk: bool) -> Result<Self> {
        let place = |raw: &mut Map<String, Value>| {
            let stated = |key| raw.get(key).is_some_and(|value: &Value| !value.is_null());
            if on_disk && !stated("on_disk") && !stated("memory") {
                raw.insert("on_disk".into(), true.into());
            }
        };
        let mut vectors = Map::new();
        for (name, params) in config.vectors() {
            let mut raw = params.raw.clone();
            place(&mut raw);
            raw.insert(
                "hnsw_config".into(),
                Value::Object(config.effective_hnsw(name).raw),
            );
            let quantization = config.effective_quantization(name).cloned();
            raw.insert(
                "quantization_config".into(),
                quantization.unwrap_or(Value::Null),
            );
            vectors.insert(name.clone(), Value::Object(raw));
        }
        let mut sparse = Map::new();
        for (name, params) in config.sparse_vectors() {
            // The collection has these under `index`, the engine beside the modifier.
            let mut raw = params
                .raw
                .get("index")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default();
            place(&mut raw);
            if let Some(modifier) = params.raw.get("modifier") {
                raw.insert("modifier".into(), modifier.clone());
            }
            sparse.insert(name.clone(), Value::Object(raw));
        }
        let whole = json!({
            "vectors": vectors,
            "sparse_vectors": sparse,
            "on_disk_payload": config.on_disk_payload(),
            "hnsw_config": config.hnsw_config(),
            "quantization_config": config.quantization_config(),
            "max_search_threads": 1,
            "optimizers": optimizers(config),
        });
        let inner = serde_json::from_value(whole).map_err(|err| {
            Error::damaged(
                "reading the collection's config for the storage engine",
                err,
            )
            .next("the config may come from a newer Qdrant: update snapmerge")
        })?;
        Ok(Self {
            inner,
            moved_to_disk: on_disk,
        })
    }

    /// The same for writing records as they were read: no log, no index, no quantization, and no
    /// normalisation. Cosine vectors are normalised when they are stored; to normalise them again
    /// can change their last bits, so they are stored as [`Distance::Dot`], which leaves a vector
    /// alone and lies on disk in the same way. [`super::restore_distances`] undoes it.
    pub fn for_writing(&self) -> Self {
        let mut inner = self.inner.clone();
        inner.wal_enabled = Some(false);
        inner.quantization_config = None;
        for params in inner.vectors.values_mut() {
            params.quantization_config = None;
            if params.distance == Distance::Cosine {
                params.distance = Distance::Dot;
            }
        }
        Self { inner, ..*self }
    }

    /// The same for what is finished offline: no log.
    pub fn without_log(&self) -> Self {
        let mut inner = self.inner.clone();
        inner.wal_enabled = Some(false);
        Self { inner, ..*self }
    }

    /// The same with segments merged until there are at most `segments`.
    pub fn with_segments(&self, segments: usize) -> Self {
        self.with_optimizers(|optimizers| optimizers.default_segment_number = Some(segments))
    }

    /// The same for what is merged but not indexed.
    pub fn without_graphs(&self) -> Self {
        self.with_optimizers(|optimizers| optimizers.indexing_threshold = Some(0))
    }

    fn with_optimizers(&self, change: impl FnOnce(&mut EdgeOptimizersConfig)) -> Self {
        let mut inner = self.inner.clone();
        change(inner.optimizers.get_or_insert_default());
        Self { inner, ..*self }
    }

    /// Returns the maximum number of segments that a shard may have before a server merges them.
    pub fn segments_max(&self) -> usize {
        let configured = self.inner.optimizers().default_segment_number.unwrap_or(0);
        // By default it depends on the server's processors; this is the least that it may be.
        if configured == 0 { 2 } else { configured }
    }

    /// Returns true if segments stay as they are written: there is nothing that the optimizer would
    /// build.
    pub fn stays_plain(&self) -> bool {
        !self.moved_to_disk
            && self.indexing_threshold_kb().is_none()
            && self.inner.sparse_vectors.is_empty()
            && self.inner.quantization_config.is_none()
            && (self.inner.vectors.values()).all(|params| params.quantization_config.is_none())
    }

    /// Size in KB from which a segment gets an index; none if it never does.
    pub fn indexing_threshold_kb(&self) -> Option<usize> {
        let kb = self.inner.optimizers().get_indexing_threshold_kb();
        (kb < usize::MAX).then_some(kb)
    }

    /// Names and distances of the dense vectors that [`Self::for_writing`] changes.
    pub(super) fn cosine_vectors(&self) -> Vec<&str> {
        self.inner
            .vectors
            .iter()
            .filter(|(_, params)| params.distance == Distance::Cosine)
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

/// Returns true if the largest vectors of `points` points reach `memmap_threshold` (0 and none:
/// never). The number of vectors in a multivector is not known here; it counts as one.
fn is_memory_mapped(config: &CollectionConfig, points: u64) -> bool {
    let threshold_kb = config
        .optimizer_config()
        .and_then(|map| map.get("memmap_threshold"))
        .and_then(Value::as_u64)
        .filter(|kb| *kb > 0);
    let bytes = (config.vectors().values()).map(|params| params.bytes(points));
    threshold_kb.is_some_and(|kb| bytes.max().unwrap_or(0) >= kb.saturating_mul(1024))
}

/// The optimizer's settings, without those that only make sense in a running server.
fn optimizers(config: &CollectionConfig) -> Value {
    let mut taken = Map::new();
    for key in [
        "deleted_threshold",
        "vacuum_min_vector_number",
        "default_segment_number",
        "max_segment_size",
        "indexing_threshold",
    ] {
        if let Some(value) = config.optimizer_config().and_then(|map| map.get(key)) {
            taken.insert(key.into(), value.clone());
        }
    }
    let size = taken
        .entry("max_segment_size")
        .or_insert_with(|| SEGMENT_KB_MAX.into());
    if size.is_null() {
        *size = SEGMENT_KB_MAX.into();
    }
    Value::Object(taken)
}
