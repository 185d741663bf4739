//! The collection that a replay writes: made with the master's config, but with indexing held back
//! until all points are there; then indexing is released and waited for.
//!
//! Invariants: nothing is changed on a collection that this did not make, but for `--sync`; at the
//! end the collection has the config that was planned; what cannot come is not waited for.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::base::error::{Error, Result};
use crate::base::progress::{Progress, Unit};
pub use crate::build::LiveTarget as Target;
use crate::format::schema::{CollectionConfig, same_index, show_index};
use crate::merge::plan::Plan;
use crate::server::{CollectionInfo, Polling, create_body, index_for};

const POLLING: Polling = Polling::every(Duration::from_millis(300));
/// Number of consecutive polls in which the server must report green.
const GREEN_TIMES: u32 = 2;
/// A server that shows no change at all for so long is not waited for any longer.
const STANDSTILL: Duration = Duration::from_secs(1800);
/// Qdrant's default of `indexing_threshold`, in kilobytes.
const INDEXING_THRESHOLD: u64 = 10_000;
/// Number of optimizers that may run at once; with 0 none does, and a collection stays yellow for
/// ever.
const THREADS: &str = "max_optimization_threads";

impl Target {
    /// Makes the collection of `plan`, with indexing held back.
    pub fn make(&self, plan: &Plan) -> Result<()> {
        self.create(plan.shape(), creation(&plan.united.config))
    }

    /// Lets the optimizers do what they were held back from.
    pub fn release(&self, plan: &Plan) -> Result<()> {
        Ok(self
            .connection
            .patch_collection(self.name(), release(&plan.united.config))?)
    }

    /// Stops the optimizers, which have done what there was to do, if the config is that they rest.
    pub fn rest(&self, plan: &Plan) -> Result<()> {
        if !optimizers_rest(&plan.united.config) {
            return Ok(());
        }
        let body = json!({ "optimizers_config": { THREADS: 0 } });
        Ok(self.connection.patch_collection(self.name(), body)?)
    }

    /// Waits until everything is applied and indexed. Tells what is wrong if the server stands
    /// still, or says that something is.
    pub fn wait_green(&self, progress: Progress) -> Result<(CollectionInfo, Option<String>)> {
        let doing = format!("waiting for {} to be green", self.address);
        let mut stage = None;
        let mut green = 0;
        let mut last_change = Instant::now();
        let mut last = None;
        let ended = self
            .connection
            .wait_until::<_, Error>(&doing, POLLING, || {
                let info = self.info()?;
                let wrong = |what: String| Some(format!("{} is not green: {what}", self.address));
                if info.status == "red" || info.optimizer_status.is_object() {
                    let why = info.optimizer_status.to_string();
                    return Ok(Some((info, wrong(format!("the server says {why}")))));
                }
                let done = info.is_green() && info.queued() == 0 && info.deferred() == 0;
                green = if done { green + 1 } else { 0 };
                if green >= GREEN_TIMES {
                    return Ok(Some((info, None)));
                }
                let config = info.config(&self.address.to_string())?;
                if info.status == "yellow" && info.queued() == 0 && optimizers_rest(&config) {
                    let why = format!("its config lets no optimizer run ({THREADS} is 0)");
                    return Ok(Some((info, wrong(why))));
                }
                // A server tells of an index when it is whole, so there is nothing to count.
                stage.get_or_insert_with(|| progress.stage("index", None, Unit::None));
                let indexed = info.indexed_vectors_count.unwrap_or(0);
                let state = (
                    indexed,
                    info.queued() + info.deferred(),
                    info.segments_count,
                    info.status.clone(),
                );
                if last.as_ref() != Some(&state) {
                    last = Some(state);
                    last_change = Instant::now();
                } else if last_change.elapsed() > STANDSTILL {
                    let why = format!("nothing has changed for {} s", STANDSTILL.as_secs());
                    return Ok(Some((info, wrong(why))));
                }
                // After a restart optimizers wait for a change; `{}` is none, and wakes them.
                if info.status == "grey" {
                    self.connection.patch_collection(self.name(), json!({}))?;
                }
                Ok(None)
            })?;
        ended.ok_or_else(|| Error::failed(doing, "it was not waited for"))
    }

    /// Returns the differences of the collection's payload indexes and vectors from `plan`, in
    /// words.
    pub fn differences(&self, plan: &Plan, info: &CollectionInfo) -> Result<Vec<String>> {
        let what = self.address.to_string();
        let mut differences = Vec::new();
        let there = info.payload_schema(&what)?;
        for (field, index) in plan.united.payload.fields() {
            let difference = match there.fields().get(field) {
                Some(own) if same_index(own, index) => continue,
                Some(own) => {
                    format!("the payload index on {field} is {own} instead of {index}")
                }
                None => format!("there is no payload index on {field}"),
            };
            let server = self.connection.server_info()?;
            let why = match index_for(server.numbers(), index) {
                Some(known) if known == *index => String::new(),
                _ => format!(
                    ": Qdrant {} does not know {}",
                    server.version,
                    show_index(index)
                ),
            };
            differences.push(difference + &why);
        }
        differences.extend(self.vector_differences(&plan.united.config, info)?);
        Ok(differences)
    }
}

/// Returns true if `config` lets no optimizer run, so that a collection is left as it is written.
fn optimizers_rest(config: &CollectionConfig) -> bool {
    let optimizers = config.optimizer_config();
    optimizers.and_then(|map| map.get(THREADS)) == Some(&json!(0))
}

/// Returns the body of `PUT /collections/NAME` for `config`, with indexing held back: a graph for
/// points that come later would be built again and again.
fn creation(config: &CollectionConfig) -> Value {
    let mut body = create_body(config);
    // A limit to what may be written would stop the writing.
    body.remove("strict_mode_config");
    let optimizers = body.entry("optimizers_config").or_insert_with(|| json!({}));
    optimizers["indexing_threshold"] = json!(0);
    // Optimizers that are to rest are stopped only after everything is indexed.
    if optimizers_rest(config) {
        optimizers[THREADS] = Value::Null;
    }
    if optimizers.get("prevent_unoptimized").is_some() {
        optimizers["prevent_unoptimized"] = json!(false);
    }
    // The user's own; a null in it is a null.
    let metadata = body.remove("metadata");
    let mut body = without_null(body.into());
    if let Some(metadata) = metadata {
        body["metadata"] = metadata;
    }
    body
}

/// Returns the body of `PATCH /collections/NAME` that undoes what [`creation`] held back.
fn release(config: &CollectionConfig) -> Value {
    let optimizers = config.optimizer_config();
    let part = |name: &str| optimizers.and_then(|map| map.get(name)).cloned();
    let threshold = part("indexing_threshold").filter(|value| !value.is_null());
    let mut changes = Map::new();
    changes.insert(
        "indexing_threshold".into(),
        threshold.unwrap_or_else(|| json!(INDEXING_THRESHOLD)),
    );
    if let Some(prevent) = part("prevent_unoptimized").filter(|value| !value.is_null()) {
        changes.insert("prevent_unoptimized".into(), prevent);
    }
    // An earlier run may have been killed after it had stopped them.
    if optimizers_rest(config) {
        changes.insert(THREADS.into(), json!("auto"));
    }
    let mut body = Map::new();
    body.insert("optimizers_config".into(), changes.into());
    if let Some(strict) = config.strict_mode_config().filter(|value| !value.is_null()) {
        body.insert("strict_mode_config".into(), strict.clone());
    }
    if let Some(factor) = config
        .params()
        .and_then(|map| map.get("read_fan_out_factor"))
        && !factor.is_null()
    {
        body.insert("params".into(), json!({ "read_fan_out_factor": factor }));
    }
    without_null(body.into())
}

/// A `null` in a config means that nothing was said.
fn without_null(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_null(value)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(optimizers: Value, more: Value) -> CollectionConfig {
        let mut config = json!({
            "params": {
                "vectors": {"size": 2, "distance": "Cosine", "on_disk": null},
                "sparse_vectors": {"words": {"index": {"on_disk": null}}},
                "shard_number": 3, "replication_factor": 1, "write_consistency_factor": 1,
                "on_disk_payload": true, "read_fan_out_factor": 2,
            },
            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000},
            "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": 5,
                "deleted_threshold": 0.2, "vacuum_min_vector_number": 1000},
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            "quantization_config": null,
        });
        for (key, value) in optimizers.as_object().unwrap() {
            config["optimizer_config"][key] = value.clone();
        }
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        CollectionConfig::parse("a test", config.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_is_held_back_is_let_go() {
        for (optimizers, more, after) in [
            (
                json!({"indexing_threshold": 20_000}),
                json!({}),
                json!({"optimizers_config": {"indexing_threshold": 20_000}}),
            ),
            (
                json!({"indexing_threshold": null}),
                json!({"strict_mode_config": {"enabled": true, "max_query_limit": null}}),
                json!({"optimizers_config": {"indexing_threshold": 10_000},
                    "strict_mode_config": {"enabled": true}}),
            ),
            (
                json!({"indexing_threshold": 0, "prevent_unoptimized": true}),
                json!({}),
                json!({"optimizers_config": {"indexing_threshold": 0, "prevent_unoptimized": true}}),
            ),
            (
                json!({"indexing_threshold": 500, "max_optimization_threads": 0}),
                json!({}),
                json!({"optimizers_config": {"indexing_threshold": 500,
                    "max_optimization_threads": "auto"}}),
            ),
        ] {
            let config = config(optimizers.clone(), more);
            let body = creation(&config);
            let held = &body["optimizers_config"];
            assert_eq!(held["indexing_threshold"], 0);
            assert_ne!(held["prevent_unoptimized"], true);
            assert!(held.get("max_optimization_threads").is_none(), "{body}");
            assert!(body.get("strict_mode_config").is_none(), "{body}");
            let mut after = after;
            after["params"] = json!({"read_fan_out_factor": 2});
            assert_eq!(release(&config), after);
        }
    }

    #[test]
    fn a_collection_is_made_as_planned() {
        let body = creation(&config(
            json!({"max_segment_size": null}),
            json!({"metadata": {"a": 1, "b": []}}),
        ));
        assert_eq!(body["vectors"], json!({"size": 2, "distance": "Cosine"}));
        assert_eq!(body["sparse_vectors"], json!({"words": {"index": {}}}));
        assert_eq!(body["shard_number"], 3);
        assert_eq!(body["on_disk_payload"], true);
        assert_eq!(body["hnsw_config"]["m"], 16);
        assert_eq!(body["wal_config"]["wal_capacity_mb"], 32);
        assert_eq!(body["metadata"], json!({"a": 1, "b": []}));
        assert!(body.get("params").is_none() && body.get("optimizer_config").is_none());
        assert!(body.get("read_fan_out_factor").is_none());
        assert!(!body.to_string().contains("null"), "{body}");
    }
}
