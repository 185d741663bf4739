//! Activity of a server, read from its telemetry: positions of logs, and the number of restores.
//!
//! Invariants: what is not told is none, and never zero.

use std::collections::BTreeMap;

use serde_json::Value;

/// Activity of a server since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// Id and start of the server's process.
    pub process: Option<String>,
    /// Calls that restore a snapshot, whether they succeeded or not.
    pub restores: Option<u64>,
    /// Restores of this collection that are going on.
    pub restoring: Option<u64>,
    /// Calls that drop a vector of any collection. The next one of that name begins anew, and files of
    /// segments keep their versions (lib/segment/src/segment/vector_name_ops.rs).
    pub vector_drops: Option<u64>,
    /// The number of the last operation in each shard's log, if nothing waits to be applied.
    pub operations: BTreeMap<u32, Option<u64>>,
}

impl Activity {
    /// Reads the activity of the collection `name` from the telemetry `told`.
    pub fn of(told: &Value, name: &str) -> Self {
        let text = |pointer: &str| told.pointer(pointer).and_then(Value::as_str);
        let process = match (text("/id"), text("/app/startup")) {
            (Some(id), Some(startup)) => Some(format!("{id} {startup}")),
            _ => None,
        };
        let is_it = |one: &&Value| one["id"].as_str() == Some(name);
        let list = |pointer: &str| told.pointer(pointer).and_then(Value::as_array);
        let mut operations = BTreeMap::new();
        let collection = list("/collections/collections")
            .into_iter()
            .flatten()
            .find(is_it);
        let shards = collection.and_then(|one| one["shards"].as_array());
        for shard in shards.into_iter().flatten() {
            let Some(number) = shard["id"].as_u64().and_then(|id| u32::try_from(id).ok()) else {
                continue;
            };
            let queue = &shard["local"]["update_queue"];
            let rests = queue["length"].as_u64() == Some(0);
            operations.insert(number, queue["op_num"].as_u64().filter(|_| rests));
        }
        Self {
            process,
            restores: calls(told, "/requests/rest/responses", |call| {
                call.contains("snapshot") && (call.contains("upload") || call.contains("recover"))
            }),
            restoring: restoring(told, name),
            vector_drops: vector_drops(told),
            operations,
        }
    }
}

/// Restores of the collection `name` that are going on; none if the server does not tell.
fn restoring(told: &Value, name: &str) -> Option<u64> {
    let snapshots = told.pointer("/collections/snapshots")?.as_array()?;
    let of_it = snapshots
        .iter()
        .filter(|one| one["id"].as_str() == Some(name));
    // Nothing is told of a collection that nothing was done with.
    of_it
        .map(|one| one["running_snapshot_recovery"].as_u64())
        .sum()
}

/// Calls that dropped a vector, or tried to.
fn vector_drops(told: &Value) -> Option<u64> {
    let rest = calls(told, "/requests/rest/responses", |call| {
        call.starts_with("DELETE") && call.contains("/vectors/{")
    })?;
    let grpc = calls(told, "/requests/grpc/responses", |call| {
        call.contains("DeleteVectorName")
    })?;
    rest.checked_add(grpc)
}

/// How often calls that are wanted were answered, however.
fn calls(told: &Value, at: &str, is_wanted: impl Fn(&str) -> bool) -> Option<u64> {
    let mut sum = 0_u64;
    for (_, statuses) in told
        .pointer(at)?
        .as_object()?
        .iter()
        .filter(|(call, _)| is_wanted(call))
    {
        for status in statuses.as_object()?.values() {
            sum = sum.checked_add(status["count"].as_u64()?)?;
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_told_is_read_and_what_is_not_is_none() {
        let mut told = json!({
            "id": "p", "app": {"startup": "2026-11-22T22:48:35Z"},
            "collections": {
                "collections": [
                    {"id": "b", "shards": [{"id": 0, "local": {"update_queue": {"length": 0, "op_num": 9}}}]},
                    {"id": "a", "shards": [
                        {"id": 0, "local": {"update_queue": {"length": 0, "op_num": 7}}},
                        {"id": 1, "local": {"update_queue": {"length": 2, "op_num": 7}}}]}],
                "snapshots": [{"id": "a", "running_snapshot_recovery": 1}]},
            "requests": {"rest": {"responses": {
                "POST /collections/{collection_name}/snapshots/upload": {"200": {"count": 2}, "400": {"count": 1}},
                "PUT /collections/{collection_name}/snapshots/recover": {"200": {"count": 3}},
                "DELETE /collections/{collection_name}/vectors/{vector_name}": {"200": {"count": 4}},
                "POST /collections/{collection_name}/snapshots": {"200": {"count": 50}}}},
                "grpc": {"responses": {"/qdrant.Points/DeleteVectorName": {"0": {"count": 1}}}}},
        });
        let activity = Activity::of(&told, "a");
        assert_eq!(activity.process.as_deref(), Some("p 2026-11-22T22:48:35Z"));
        assert_eq!(activity.restores, Some(6));
        assert_eq!(activity.restoring, Some(1));
        assert_eq!(activity.vector_drops, Some(5));
        assert_eq!(Activity::of(&told, "b").restoring, Some(0));
        assert_eq!(
            activity.operations,
            BTreeMap::from([(0, Some(7)), (1, None)])
        );
        told["requests"]["rest"]["responses"]["PUT /collections/{collection_name}/snapshots/recover"]
            ["200"] = json!({});
        assert_eq!(Activity::of(&told, "a").restores, None);
        assert_eq!(Activity::of(&json!({}), "a"), Activity::default());
    }
}
