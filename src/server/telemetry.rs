//! Telemetry of a server, as far as it is used: positions of logs, sizes, and what was restored or dropped.
//!
//! One answer tells of all collections, and takes the server the longer the more there are.
//!
//! Invariants: what is not told is none, and never zero; what an answer says was so at some moment between
//! [`Telemetry::asked`] and its arrival.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// Counters of a server since its start, from one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// When it was asked for: nothing in it is older.
    pub asked: Instant,
    /// Id and start of the server's process.
    pub process: Option<String>,
    /// Calls that restore a snapshot, whether they succeeded or not.
    pub restores: Option<u64>,
    /// Calls that drop a vector of any collection. The next one of that name begins anew, and files of
    /// segments keep their versions (lib/segment/src/segment/vector_name_ops.rs).
    pub vector_drops: Option<u64>,
    /// Calls that drop a collection. The next one of that name begins anew, with operations of any number.
    pub collection_drops: Option<u64>,
    restoring: Option<BTreeMap<String, Option<u64>>>,
    collections: BTreeMap<String, BTreeMap<u32, ShardTelemetry>>,
}

/// Counters of a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardTelemetry {
    /// The number of the last operation in its log, if nothing waits to be applied.
    pub operation: Option<u64>,
    /// Bytes of its vectors and payloads, estimated by the server.
    pub bytes: Option<u64>,
}

impl Telemetry {
    /// Counters in `answer`, whose request was sent at `asked`.
    pub(super) fn new(answer: Answer, asked: Instant) -> Self {
        let app = answer.app.known().and_then(|app| app.startup.known());
        let process = match (answer.id.known(), app) {
            (Some(id), Some(startup)) => Some(format!("{id} {startup}")),
            _ => None,
        };
        let requests = answer.requests.known().unwrap_or_default();
        let responses =
            |calls: Lenient<Calls>| calls.known().and_then(|calls| calls.responses.known());
        let rest = responses(requests.rest);
        let grpc = responses(requests.grpc);
        let both = |over_rest: Option<u64>, over_grpc: Option<u64>| {
            over_rest.and_then(|sum| sum.checked_add(over_grpc?))
        };
        let restores = calls(rest.as_ref(), |call| {
            call.contains("snapshot") && (call.contains("upload") || call.contains("recover"))
        });
        let vector_drops = both(
            calls(rest.as_ref(), |call| {
                call.starts_with("DELETE") && call.contains("/vectors/{")
            }),
            calls(grpc.as_ref(), |call| call.contains("DeleteVectorName")),
        );
        let collection_drops = both(
            calls(rest.as_ref(), |call| {
                call.starts_with("DELETE /collections/{")
                    && call.ends_with('}')
                    && call.matches('/').count() == 2
            }),
            calls(grpc.as_ref(), |call| call.ends_with("Collections/Delete")),
        );
        let told = answer.collections.known().unwrap_or_default();
        Self {
            asked,
            process,
            restores,
            vector_drops,
            collection_drops,
            restoring: told.snapshots.known().map(restoring),
            collections: collections(told.collections),
        }
    }

    /// Nothing, which a server tells whose telemetry this key may not ask for.
    pub(super) fn untold(asked: Instant) -> Self {
        Self::new(Answer::default(), asked)
    }

    /// Restores of `collection` that are going on; none if the server does not tell.
    pub fn restoring(&self, collection: &str) -> Option<u64> {
        // Nothing is told of a collection that nothing was done with.
        let all = self.restoring.as_ref()?;
        all.get(collection).copied().unwrap_or(Some(0))
    }

    /// The shards of `collection`; empty if the server does not tell.
    pub fn shards(&self, collection: &str) -> &BTreeMap<u32, ShardTelemetry> {
        static NONE: BTreeMap<u32, ShardTelemetry> = BTreeMap::new();
        self.collections.get(collection).unwrap_or(&NONE)
    }

    /// Bytes of the vectors and payloads of `collection`, estimated by the server; none unless it tells them
    /// of every shard.
    pub fn bytes(&self, collection: &str) -> Option<u64> {
        let shards = self.shards(collection);
        if shards.is_empty() {
            return None;
        }
        let mut shards = shards.values();
        shards.try_fold(0_u64, |sum, shard| sum.checked_add(shard.bytes?))
    }
}

/// A part of an answer, whatever is in its place.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Lenient<T> {
    Known(T),
    Other(IgnoredAny),
}

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self::Other(IgnoredAny)
    }
}

impl<T> Lenient<T> {
    fn known(self) -> Option<T> {
        match self {
            Self::Known(part) => Some(part),
            Self::Other(_) => None,
        }
    }
}

/// The parts of an answer that are read; the others take no memory.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    id: Lenient<String>,
    app: Lenient<App>,
    collections: Lenient<Collections>,
    requests: Lenient<Requests>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct App {
    startup: Lenient<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Collections {
    collections: Lenient<Vec<Lenient<Collection>>>,
    snapshots: Lenient<Vec<Lenient<Restoring>>>,
}

#[derive(Debug, Deserialize)]
struct Collection {
    id: String,
    #[serde(default)]
    shards: Lenient<Vec<Lenient<Shard>>>,
}

#[derive(Debug, Deserialize)]
struct Shard {
    id: u32,
    #[serde(default)]
    local: Lenient<LocalShard>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LocalShard {
    update_queue: Lenient<Queue>,
    vectors_size_bytes: Lenient<u64>,
    payloads_size_bytes: Lenient<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Queue {
    length: Lenient<u64>,
    op_num: Lenient<u64>,
}

#[derive(Debug, Deserialize)]
struct Restoring {
    id: String,
    #[serde(default)]
    running_snapshot_recovery: Lenient<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Requests {
    rest: Lenient<Calls>,
    grpc: Lenient<Calls>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Calls {
    responses: Lenient<Responses>,
}

/// Number of answers of each call, by status.
type Responses = BTreeMap<String, Lenient<BTreeMap<String, Lenient<Count>>>>;

#[derive(Debug, Deserialize)]
struct Count {
    count: u64,
}

/// Number of answers of the wanted calls, whatever their status.
fn calls(responses: Option<&Responses>, is_wanted: impl Fn(&str) -> bool) -> Option<u64> {
    let wanted = responses?.iter().filter(|(call, _)| is_wanted(call));
    let mut sum = 0_u64;
    for (_, statuses) in wanted {
        let Lenient::Known(statuses) = statuses else {
            return None;
        };
        for status in statuses.values() {
            let Lenient::Known(answered) = status else {
                return None;
            };
            sum = sum.checked_add(answered.count)?;
        }
    }
    Some(sum)
}

/// Restores that are going on, by collection.
fn restoring(told: Vec<Lenient<Restoring>>) -> BTreeMap<String, Option<u64>> {
    let mut all = BTreeMap::new();
    for one in told.into_iter().filter_map(Lenient::known) {
        let running = one.running_snapshot_recovery.known();
        let sum = all.entry(one.id).or_insert(Some(0_u64));
        *sum = sum.and_then(|sum| sum.checked_add(running?));
    }
    all
}

/// The shards of each collection.
fn collections(
    told: Lenient<Vec<Lenient<Collection>>>,
) -> BTreeMap<String, BTreeMap<u32, ShardTelemetry>> {
    let mut all = BTreeMap::new();
    for collection in told
        .known()
        .into_iter()
        .flatten()
        .filter_map(Lenient::known)
    {
        let shards = collection.shards.known().into_iter().flatten();
        let shards = shards.filter_map(Lenient::known).map(|shard| {
            let local = shard.local.known().unwrap_or_default();
            let queue = local.update_queue.known().unwrap_or_default();
            let rests = queue.length.known() == Some(0);
            let bytes = match (
                local.vectors_size_bytes.known(),
                local.payloads_size_bytes.known(),
            ) {
                (Some(vectors), Some(payloads)) => vectors.checked_add(payloads),
                _ => None,
            };
            let told = ShardTelemetry {
                operation: queue.op_num.known().filter(|_| rests),
                bytes,
            };
            (shard.id, told)
        });
        all.entry(collection.id).or_insert_with(|| shards.collect());
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(told: &Value) -> Telemetry {
        Telemetry::new(Answer::deserialize(told).unwrap(), Instant::now())
    }

    fn operations(told: &Telemetry, collection: &str) -> BTreeMap<u32, Option<u64>> {
        let shards = told.shards(collection).iter();
        shards.map(|(id, shard)| (*id, shard.operation)).collect()
    }

    #[test]
    fn what_is_told_is_read_and_what_is_not_is_none() {
        let mut told = json!({
            "id": "p", "app": {"startup": "2026-11-22T22:48:35Z"},
            "collections": {
                "collections": [
                    {"id": "b", "shards": [{"id": 0, "local": {"update_queue": {"length": 0, "op_num": 9},
                        "vectors_size_bytes": 100, "payloads_size_bytes": 7}}]},
                    {"id": "a", "shards": [
                        {"id": 0, "local": {"update_queue": {"length": 0, "op_num": 7}, "vectors_size_bytes": 1,
                            "payloads_size_bytes": 2}},
                        {"id": 1, "local": {"update_queue": {"length": 2, "op_num": 7}}},
                        {"id": 2, "local": null}]},
                    {"id": "c"}, {"vectors": 7}],
                "snapshots": [{"id": "a", "running_snapshot_recovery": 1}, {"id": "c"}]},
            "requests": {"rest": {"responses": {
                "POST /collections/{collection_name}/snapshots/upload": {"200": {"count": 2}, "400": {"count": 1}},
                "PUT /collections/{collection_name}/snapshots/recover": {"200": {"count": 3}},
                "DELETE /collections/{collection_name}/vectors/{vector_name}": {"200": {"count": 4}},
                "DELETE /collections/{name}": {"200": {"count": 6}, "404": {"count": 1}},
                "DELETE /collections/{collection_name}/index/{field_name}": {"200": {"count": 90}},
                "DELETE /collections/{collection_name}/snapshots/{snapshot_name}": {"200": {"count": 90}},
                "POST /collections/{collection_name}/snapshots": {"200": {"count": 50}}}},
                "grpc": {"responses": {"/qdrant.Points/DeleteVectorName": {"0": {"count": 1}},
                    "/qdrant.Points/Delete": {"0": {"count": 90}},
                    "/qdrant.Collections/Delete": {"0": {"count": 2}}}}},
        });
        let all = read(&told);
        assert_eq!(all.process.as_deref(), Some("p 2026-11-22T22:48:35Z"));
        assert_eq!(all.restores, Some(6));
        assert_eq!(all.vector_drops, Some(5));
        assert_eq!(all.collection_drops, Some(9));
        assert_eq!(all.restoring("a"), Some(1));
        assert_eq!(all.restoring("b"), Some(0));
        assert_eq!(all.restoring("c"), None);
        let of_a = BTreeMap::from([(0, Some(7)), (1, None), (2, None)]);
        assert_eq!(operations(&all, "a"), of_a);
        assert_eq!(operations(&all, "b"), BTreeMap::from([(0, Some(9))]));
        assert_eq!(operations(&all, "c"), BTreeMap::new());
        assert_eq!(all.bytes("b"), Some(107));
        assert_eq!(all.bytes("a"), None, "one shard is not told");
        assert_eq!(all.bytes("c"), None);
        assert_eq!(all.bytes("nothing"), None);
        told["requests"]["rest"]["responses"]["PUT /collections/{collection_name}/snapshots/recover"]
            ["200"] = json!({});
        let less = read(&told);
        assert_eq!((less.restores, less.vector_drops), (None, Some(5)));
    }

    #[test]
    fn another_form_is_not_told() {
        let asked = Instant::now();
        let nothing = Telemetry::untold(asked);
        assert_eq!((nothing.process.as_ref(), nothing.restores), (None, None));
        assert_eq!(nothing.restoring("a"), None);
        assert!(nothing.shards("a").is_empty());
        for other in [
            json!({}),
            json!({"id": 7, "app": [], "collections": "x", "requests": null}),
            json!({"collections": {"collections": {"a": 1}, "snapshots": 3}}),
            json!({"requests": {"rest": {"responses": [1]}, "grpc": 1}}),
            json!({"collections": {"collections": [{"id": "a", "shards": [{"id": -1}, 7]}]}}),
        ] {
            let told = Telemetry::new(Answer::deserialize(&other).unwrap(), asked);
            assert_eq!(told.restores, None, "{other}");
            assert_eq!(told.restoring("a"), None, "{other}");
            assert!(told.shards("a").is_empty(), "{other}");
        }
    }
}
