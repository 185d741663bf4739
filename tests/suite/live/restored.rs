//! A master in a server of its own, with the points that it must have.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::{GREEN_WITHIN, ensure_points};
use crate::merge::{Master, Sources};
use crate::support::Outcome;
use crate::support::points::PointId;
use crate::support::qdrant::Server;

const NAME: &str = "master";

/// Stopped with its value.
pub struct Restored {
    pub server: Server,
    /// As they must be.
    pub points: BTreeMap<PointId, Value>,
    /// What the server says of the collection.
    pub info: Value,
}

impl Restored {
    /// Merges `sources`, restores the master under a new name, and compares.
    pub fn new(
        bin: &Path,
        sources: &Sources,
        flags: &[&str],
        points: BTreeMap<PointId, Value>,
    ) -> Outcome<Self> {
        let master = sources.merge(flags)?;
        master.ensure_holds(points.values())?;
        let server = Server::start(bin)?;
        server.upload(NAME, &master.path)?;
        let restored = Self {
            info: server.wait_green(NAME, GREEN_WITHIN)?,
            points,
            server,
        };
        restored.ensure_same()?;
        let built = master.packed.all_segments()?;
        // What a source had not indexed yet, a server would have; grafted, it does so here.
        if built.iter().all(|s| !s.holds_points() || s.has_graph()) || by_rebuild(&master) {
            restored.ensure_not_indexed_anew()?;
        }
        // By graft it is said by whole segments, with what was deleted from them.
        if by_rebuild(&master) {
            let shards = master.report["master"]["shards"].as_array();
            let indexed = shards
                .into_iter()
                .flatten()
                .map(|s| s["indexed_vectors"].as_u64());
            ensure_eq!(
                restored.info["indexed_vectors_count"].as_u64(),
                indexed.sum::<Option<u64>>(),
                "vectors indexed, as the server and as the report say"
            );
        }
        let mut config = restored.info["config"].clone();
        let mut want = master.packed.config()?;
        crate::merge::drop_nulls(&mut config);
        crate::merge::drop_nulls(&mut want);
        ensure_eq!(config, want, "config of the collection");
        Ok(restored)
    }

    pub fn post(&self, path: &str, body: &Value) -> Outcome<Value> {
        self.server
            .post(&format!("/collections/{NAME}/{path}"), body)
    }

    pub fn ensure_same(&self) -> Outcome {
        ensure_points(&self.server, NAME, &self.points)
    }

    /// The optimizer found nothing to do: green is not green again.
    fn ensure_not_indexed_anew(&self) -> Outcome {
        let all = self.server.get("/telemetry?details_level=10")?;
        let collections = all["collections"]["collections"].as_array();
        let mut looked_at = 0;
        for shard in collections
            .into_iter()
            .flatten()
            .flat_map(|collection| collection["shards"].as_array().into_iter().flatten())
        {
            let optimizations = &shard["local"]["optimizations"];
            ensure_eq!(
                optimizations["log"],
                json!([]),
                "optimizations after the restore"
            );
            looked_at += 1;
        }
        ensure!(looked_at > 0, "the telemetry names no shard: {all}");
        Ok(())
    }

    /// Writes over, changes, deletes and adds points; each must take effect, and be there still after a
    /// crash, which leaves only what is in the log, and after a restart.
    pub fn ensure_alive(&mut self) -> Outcome {
        let ids: Vec<PointId> = self.points.keys().cloned().collect();
        let id_at = |part: usize| ids[ids.len() * part / 7].clone();
        let vector = |id: &PointId| on_axis(&self.points[id]["vector"]);
        let (over, deleted, changed) = (id_at(1), id_at(3), id_at(5));
        let added = [
            json!(u64::MAX - 7),
            json!("fedcba98-7654-4321-8fed-cba987654321"),
        ];

        let mut written = vec![self.points[&over].clone()];
        written[0]["payload"] = json!({"year": 3000, "by": "the suite"});
        written[0]["vector"] = vector(&over);
        for id in added {
            written.push(json!({"id": id, "payload": {"year": 3001}, "vector": vector(&changed)}));
        }
        let put = format!("/collections/{NAME}/points?wait=true");
        self.server.put(&put, &json!({"points": written}))?;
        for point in written {
            self.points.insert(PointId::of(&point)?, point);
        }
        let gone = self.points.remove(&deleted).ok_or("nothing to delete")?;
        self.post("points/delete?wait=true", &json!({"points": [gone["id"]]}))?;
        let point = self.points.get_mut(&changed).ok_or("nothing to change")?;
        point["payload"]["year"] = json!(3002);
        let change = json!({"payload": {"year": 3002}, "points": [point["id"]]});
        self.post("points/payload?wait=true", &change)?;

        self.ensure_same()?;
        self.server.crash()?;
        self.ensure_same()?;
        self.server.restart()?;
        self.ensure_same()?;
        // The index on the field knows it too, where there is one.
        let late =
            json!({"exact": true, "filter": {"must": [{"key": "year", "range": {"gte": 3000}}]}});
        let answer = self.post("points/count", &late)?;
        ensure_eq!(answer["count"], json!(4), "points with a new year");
        Ok(())
    }
}

fn by_rebuild(master: &Master) -> bool {
    master.report["route"] == "rebuild"
}

/// A vector of the same form that no normalisation changes: dense parts point along their first axis.
fn on_axis(vector: &Value) -> Value {
    match vector {
        Value::Array(parts) if parts.iter().all(Value::is_number) => {
            let axis = (0..parts.len()).map(|at| if at == 0 { 1.0 } else { 0.0 });
            Value::from(axis.collect::<Vec<f32>>())
        }
        Value::Array(many) => many.iter().map(on_axis).collect(),
        Value::Object(sparse) if sparse.contains_key("indices") => vector.clone(),
        Value::Object(named) => {
            let named = named
                .iter()
                .map(|(name, vector)| (name.clone(), on_axis(vector)));
            Value::Object(named.collect())
        }
        other => other.clone(),
    }
}
