//! Obstacles to reading a segment that its own config shows.
//!
//! Invariants: a kind that is not known is refused, and never read as another.

use serde_json::{Map, Value};

use super::AGAIN;
use crate::format::{DenseStorage, layout};

/// The reasons in a segment's `state`, each with its way out.
pub(super) fn of_state(state: &Value, found: &mut Vec<(String, String)>) {
    let newer = || {
        "this version of snapmerge does not know it: it may come from a newer Qdrant; update \
         snapmerge"
            .to_owned()
    };
    for key in ["version", "initial_version"] {
        let number = state.get(key).and_then(Value::as_u64);
        if let Some(number) = number.filter(|number| *number > layout::OPERATION_MAX) {
            found.push((
                format!("its {key} is {number}, and no server numbers so many operations"),
                AGAIN.into(),
            ));
        }
    }
    let Some(config) = state.get("config").and_then(Value::as_object) else {
        found.push((
            format!("{} has no config", layout::SEGMENT_STATE),
            AGAIN.into(),
        ));
        return;
    };
    let payload = config
        .get("payload_storage_type")
        .and_then(|kind| kind.get("type"))
        .and_then(Value::as_str);
    match payload {
        Some("mmap" | "in_ram_mmap" | "in_memory" | "on_disk") => {}
        Some(kind) => found.push((format!("its payload storage '{kind}' is unknown"), newer())),
        None => found.push(("its payload storage is not told".into(), newer())),
    }
    let named = |key: &str| -> Vec<(String, Map<String, Value>)> {
        config
            .get(key)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.as_object().cloned().unwrap_or_default()))
            .collect()
    };
    for (name, vector) in named("vector_data") {
        let kind = vector.get("storage_type").and_then(Value::as_str);
        if kind.and_then(DenseStorage::of).is_none() {
            found.push((
                format!(
                    "the storage '{}' of its vector '{name}' is unknown",
                    kind.unwrap_or("none")
                ),
                newer(),
            ));
        }
        let index = vector.get("index").and_then(|index| index.get("type"));
        match index.and_then(Value::as_str) {
            Some("plain" | "hnsw") => {}
            kind => found.push((
                format!(
                    "the index '{}' of its vector '{name}' is unknown",
                    kind.unwrap_or("none")
                ),
                newer(),
            )),
        }
    }
    for (name, vector) in named("sparse_vector_data") {
        match vector.get("storage_type") {
            Some(Value::String(kind)) if kind == "mmap" => {}
            Some(Value::String(kind)) if kind == "on_disk" => {}
            Some(Value::String(kind)) if kind.eq_ignore_ascii_case("empty") => {}
            None => {}
            Some(kind) => found.push((
                format!("the storage {kind} of its sparse vector '{name}' is unknown"),
                newer(),
            )),
        }
    }
}
