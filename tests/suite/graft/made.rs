//! Sources made up at random: a few points with a history of writes and deletes, part of which is
//! in segments that the engine wrote, and part of which may be in the log alone.
//!
//! Keeps true: what a reader must find in a source is followed here in memory, step by step, and
//! never asked of the program; one seed gives one source.

use std::fs::File;
use std::path::{Path, PathBuf};

use ciborium::{Value as Cbor, cbor};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};
use snapmerge::engine::{Shard, ShardConfig, closed_segments};
use snapmerge::format::schema::CollectionConfig;
use snapmerge::point::{PointId as OwnId, Record, Vector};
use snapmerge::stream::ShardRing;

use crate::support::Outcome;
use crate::support::points::PointId;
use crate::support::wal::wal_file;

use super::{Given, Points};

/// Dimensions of the vectors.
const DIMENSIONS: usize = 4;
/// Ids that all sources choose from, so that some meet.
const IDS: u64 = 60;

/// What all sources of a merge have in common.
#[derive(Debug, Clone)]
pub struct Shape {
    pub shards: u32,
    pub distance: &'static str,
    /// Whether some points have older copies, and the log deletes by filter what only these, or
    /// only the newer ones, would match.
    pub filters_over_copies: bool,
}

/// One step in the life of a shard.
#[derive(Debug, Clone)]
enum Step {
    Upsert(Vec<Value>),
    Delete(Vec<PointId>),
    /// Sets `late` to a number, of these points.
    Set(Vec<PointId>, u64),
    /// Deletes the points whose `n` is this number.
    DeleteWhere(u64),
}

/// A source made of the numbers that `seed` gives, in `dir`.
pub fn source(dir: &Path, name: &str, seed: u64, shape: &Shape) -> Outcome<Given> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let indexed = random.random_bool(0.5);
    let config = json!({
        "params": {
            "vectors": {"size": DIMENSIONS, "distance": shape.distance},
            "shard_number": shape.shards,
            "replication_factor": 1,
            "write_consistency_factor": 1,
            "on_disk_payload": true,
        },
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10,
            "max_indexing_threads": 0, "on_disk": false},
        "optimizer_config": {"deleted_threshold": 0.2, "vacuum_min_vector_number": 1000,
            "default_segment_number": 2, "flush_interval_sec": 1, "indexing_threshold": 10000},
        "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1},
        "quantization_config": null,
    });
    let schema = match indexed {
        true => json!({"schema": {"n": "integer"}}),
        false => json!({"schema": {}}),
    };
    let mut made = Made {
        dir: dir.join(format!("{name}-made")),
        engine: ShardConfig::new(&CollectionConfig::parse(
            name,
            config.to_string().as_bytes(),
        )?)?,
        members: vec![
            ("version.info".into(), b"0.4.2".to_vec()),
            ("config.json".into(), config.to_string().into_bytes()),
            ("shard_key_mapping.json".into(), b"[]".to_vec()),
            ("payload_index.json".into(), schema.to_string().into_bytes()),
        ],
        points: Points::new(),
        filters_over_copies: shape.filters_over_copies,
        random,
        indexed,
        own: format!("{name}-{seed}"),
    };
    let numbers: Vec<u32> = (0..shape.shards).collect();
    let ring = ShardRing::new(&numbers);
    for number in &numbers {
        let ids = all_ids()
            .into_iter()
            .filter(|id| ring.shard(own_id(id)) == *number)
            .collect();
        made.shard(*number, ids)?;
    }
    let file = dir.join(format!("{name}.snapshot"));
    let mut tar = tar::Builder::new(File::create(&file)?);
    for (path, bytes) in &made.members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes.as_slice())?;
    }
    tar.into_inner()?;
    std::fs::remove_dir_all(&made.dir)?;
    Ok(Given {
        file,
        points: made.points,
    })
}

/// A source on its way.
struct Made {
    dir: PathBuf,
    engine: ShardConfig,
    members: Vec<(String, Vec<u8>)>,
    points: Points,
    filters_over_copies: bool,
    random: ChaCha8Rng,
    indexed: bool,
    /// Stands in every payload, so that no two sources have one point alike.
    own: String,
}

impl Made {
    fn shard(&mut self, number: u32, ids: Vec<PointId>) -> Outcome {
        let folder = self.dir.join(number.to_string());
        std::fs::create_dir_all(&folder)?;
        let mut here = Points::new();
        let mut steps: Vec<Step> = Vec::new();

        let shard = Shard::create(&folder, &self.engine, "a made shard")?;
        let mut next = 0;
        if self.indexed {
            shard.create_index("n", &json!("integer"))?;
            next += 1;
        }
        let before = next;
        for _ in 0..self.random.random_range(1..8) {
            let step = self.plain_step(&ids, &here);
            apply(&step, &mut here);
            perform(&shard, &step)?;
            steps.push(step);
            next += 1;
        }
        shard.close()?;
        let mut folders = vec![folder];
        // Some points written again into further segments, their old copies still where they were.
        if self.filters_over_copies || self.random.random_bool(0.3) {
            folders.push(self.newer_copies(number, &ids, &mut here, &mut next, &mut steps)?);
        }
        // The log: some of what the segments hold, and perhaps what they do not.
        let again = match self.filters_over_copies {
            // Writing a point again would remove its older copy.
            true => 0,
            false => self.random.random_range(0..=steps.len().min(3)),
        };
        let mut tail: Vec<Step> = steps.split_off(steps.len() - again);
        let first = next - again as u64;
        ensure!(first >= before, "the log begins before the first step");
        if self.filters_over_copies {
            for step in (0..5).map(Step::DeleteWhere) {
                apply(&step, &mut here);
                tail.push(step);
            }
        } else if self.random.random_bool(0.6) {
            for _ in 0..self.random.random_range(1..6) {
                let step = self.any_step(&ids, &here);
                apply(&step, &mut here);
                tail.push(step);
            }
        }
        self.pack(number, &folders, first, &tail)?;
        self.points.append(&mut here);
        Ok(())
    }

    /// A shard folder with a segment whose points are newer than all before.
    fn newer_copies(
        &mut self,
        number: u32,
        ids: &[PointId],
        here: &mut Points,
        next: &mut u64,
        steps: &mut Vec<Step>,
    ) -> Outcome<PathBuf> {
        let folder = self.dir.join(format!("{number}-newer"));
        std::fs::create_dir_all(folder.join("wal"))?;
        std::fs::create_dir_all(folder.join("segments"))?;
        std::fs::write(folder.join(format!("wal/closed-{next}")), wal_file(&[]))?;
        let shard = Shard::reopen(&folder, &self.engine, "a made shard")?;
        if self.indexed {
            shard.create_index("n", &json!("integer"))?;
            // Its number is one of the log's, which does not tell of it again.
            steps.clear();
            *next += 1;
        }
        for _ in 0..self.random.random_range(1..4) {
            let step = Step::Upsert(self.some_points(ids));
            apply(&step, here);
            perform(&shard, &step)?;
            steps.push(step);
            *next += 1;
        }
        shard.close()?;
        Ok(folder)
    }

    fn pack(&mut self, number: u32, folders: &[PathBuf], first: u64, tail: &[Step]) -> Outcome {
        for folder in folders {
            for segment in closed_segments(folder)? {
                let mut tar = tar::Builder::new(Vec::new());
                tar.append_dir_all("snapshot/files", &segment.folder)?;
                let bytes = tar.into_inner()?;
                let path = format!("{number}/segments/{}.tar", segment.uuid);
                self.members.push((path, bytes));
            }
        }
        let records: Vec<Vec<u8>> = tail.iter().map(record).collect();
        let mut add = |name: String, bytes: Vec<u8>| {
            self.members.push((format!("{number}/{name}"), bytes));
        };
        add(format!("wal/closed-{first}"), wal_file(&records));
        add(
            "wal/first-index".into(),
            json!({"ack_index": first}).to_string().into_bytes(),
        );
        let state = json!({"is_local": true, "this_peer_id": 7, "peers": {"7": "Active"}});
        add("replica_state.json".into(), state.to_string().into_bytes());
        let kind = json!({"type": "ReplicaSet"});
        add("shard_config.json".into(), kind.to_string().into_bytes());
        Ok(())
    }

    /// What the engine is told to do here.
    fn plain_step(&mut self, ids: &[PointId], here: &Points) -> Step {
        match self.some_of(here) {
            Some(ids) if self.random.random_bool(0.3) => Step::Delete(ids),
            _ => Step::Upsert(self.some_points(ids)),
        }
    }

    /// What the log may tell.
    fn any_step(&mut self, ids: &[PointId], here: &Points) -> Step {
        match self.some_of(here) {
            Some(ids) if self.random.random_bool(0.3) => {
                Step::Set(ids, self.random.random_range(0..1000))
            }
            Some(_) if self.random.random_bool(0.2) => {
                Step::DeleteWhere(self.random.random_range(0..10))
            }
            _ => self.plain_step(ids, here),
        }
    }

    fn some_of(&mut self, here: &Points) -> Option<Vec<PointId>> {
        let ids: Vec<&PointId> = here.keys().collect();
        let count = self.random.random_range(1..4);
        let some: Vec<PointId> = ids
            .choose_multiple(&mut self.random, count)
            .map(|id| (*id).clone())
            .collect();
        (!some.is_empty()).then_some(some)
    }

    fn some_points(&mut self, ids: &[PointId]) -> Vec<Value> {
        let count = self.random.random_range(1..12);
        let some: Vec<&PointId> = ids.choose_multiple(&mut self.random, count).collect();
        some.into_iter().map(|id| self.point(id)).collect()
    }

    fn point(&mut self, id: &PointId) -> Value {
        // Eighths are the same number as f32, as f64 and in text.
        let vector: Vec<f32> = (0..DIMENSIONS)
            .map(|_| f32::from(self.random.random_range(-80_i8..80)) / 8.0)
            .collect();
        let mut payload = Map::new();
        payload.insert("own".into(), json!(self.own));
        match self.random.random_range(0..8) {
            0 => {}
            1 => {
                payload.insert("n".into(), Value::Null);
            }
            _ => {
                let n: u64 = self.random.random_range(0..10);
                payload.insert("n".into(), json!(n));
            }
        }
        let id = match id {
            PointId::Num(num) => json!(num),
            PointId::Uuid(text) => json!(text),
        };
        json!({"id": id, "payload": payload, "vector": vector})
    }
}

/// What a step does to the points.
fn apply(step: &Step, here: &mut Points) {
    match step {
        Step::Upsert(points) => here.extend(points.iter().map(|point| {
            let id = PointId::of(point).expect("an id of our own");
            (id, point.clone())
        })),
        Step::Delete(ids) => here.retain(|id, _| !ids.contains(id)),
        Step::Set(ids, late) => {
            for id in ids {
                if let Some(point) = here.get_mut(id) {
                    point["payload"]["late"] = json!(late);
                }
            }
        }
        Step::DeleteWhere(n) => here.retain(|_, point| point["payload"]["n"] != json!(n)),
    }
}

/// Has the engine do it.
fn perform(shard: &Shard, step: &Step) -> Outcome {
    match step {
        Step::Upsert(points) => {
            let records = points
                .iter()
                .map(|point| Record {
                    id: own_id(&PointId::of(point).expect("an id of our own")),
                    vectors: vec![(String::new(), Vector::Dense(floats(point)))],
                    payload: point["payload"].as_object().cloned().unwrap_or_default(),
                    shard_key: None,
                })
                .collect();
            shard.upsert(records)?;
        }
        Step::Delete(ids) => shard.delete(&ids.iter().map(own_id).collect::<Vec<_>>())?,
        Step::Set(..) | Step::DeleteWhere(_) => {
            return Err("the engine's log has this, not its segments".into());
        }
    }
    Ok(())
}

/// The step as it stands in a log.
fn record(step: &Step) -> Vec<u8> {
    let ids = |ids: &[PointId]| Cbor::Array(ids.iter().map(cbor_id).collect());
    let operation = match step {
        Step::Upsert(points) => {
            let points: Vec<Cbor> = points
                .iter()
                .map(|point| {
                    let id = cbor_id(&PointId::of(point).expect("an id of our own"));
                    let vector = Cbor::serialized(&floats(point)).expect("a vector");
                    let payload = Cbor::serialized(&point["payload"]).expect("a payload");
                    cbor!({"id" => id, "vector" => vector, "payload" => payload}).expect("a point")
                })
                .collect();
            cbor!({"upsert_points" => {"points" => points}})
        }
        Step::Delete(some) => cbor!({"delete_points" => {"ids" => ids(some)}}),
        Step::Set(some, late) => cbor!({
            "set_payload" => {"payload" => {"late" => late}, "points" => ids(some),
                "filter" => null, "key" => null}
        }),
        Step::DeleteWhere(n) => cbor!({
            "delete_points_by_filter" => {"must" => [{"key" => "n", "match" => {"value" => n}}]}
        }),
    };
    let mut bytes = Vec::new();
    ciborium::into_writer(&operation.expect("an operation"), &mut bytes).expect("memory");
    bytes
}

fn floats(point: &Value) -> Vec<f32> {
    let values = point["vector"].as_array().into_iter().flatten();
    values
        .map(|value| value.as_f64().unwrap_or_default() as f32)
        .collect()
}

/// Numbers, and as many UUIDs again as a quarter of them.
fn all_ids() -> Vec<PointId> {
    let uuid = |n: u64| {
        let uuid = uuid::Uuid::from_u128(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c));
        PointId::Uuid(uuid.to_string())
    };
    (0..IDS)
        .map(PointId::Num)
        .chain((1..=IDS / 4).map(uuid))
        .collect()
}

fn own_id(id: &PointId) -> OwnId {
    id.to_string().parse().expect("an id of our own")
}

fn cbor_id(id: &PointId) -> Cbor {
    match own_id(id) {
        OwnId::Num(num) => Cbor::from(num),
        OwnId::Uuid(uuid) => Cbor::Bytes(uuid.as_bytes().to_vec()),
    }
}
