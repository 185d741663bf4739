//! A payload storage that was written here, in the engine's hands.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use snapmerge::engine::{Columns, Filter, Shard, ShardConfig, closed_segments};
use snapmerge::format::schema::CollectionConfig;
use snapmerge::point::{PointId as OwnId, Record, Vector};

use crate::support::{Outcome, Trial, temp_dir};

use super::{members, merging, segments};

pub fn trials() -> Vec<Trial> {
    vec![Trial::new(
        "graft/stamped/read_and_changed_by_the_engine",
        engine,
    )]
}

/// A storage that was written here is read by the engine, and changed: values of every size, deleted
/// points, points without payload.
fn engine() -> Outcome {
    let dir = temp_dir()?;
    let config = json!({
        "params": {"vectors": {"size": 2, "distance": "Dot"}, "shard_number": 1,
            "replication_factor": 1, "write_consistency_factor": 1, "on_disk_payload": true},
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10,
            "max_indexing_threads": 0, "on_disk": false},
        "optimizer_config": {"deleted_threshold": 0.2, "vacuum_min_vector_number": 1000,
            "default_segment_number": 2, "flush_interval_sec": 1, "indexing_threshold": 0},
        "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1},
        "quantization_config": null,
    });
    let engine = CollectionConfig::parse("made", config.to_string().as_bytes())?;
    let engine = ShardConfig::new(&engine)?.without_log();
    let folder = dir.path().join("made");
    std::fs::create_dir(&folder)?;
    let shard = Shard::create(&folder, &engine, "a made shard")?;
    // Text that does not compress: pages are filled, one value is larger than a page.
    let mut state = 7_u64;
    let mut text = |length: usize| -> String {
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'!' + (state >> 40) as u8 % 90)
        };
        (0..length)
            .map(|_| next())
            .filter(|c| *c != '"' && *c != '\\')
            .collect()
    };
    let mut wanted: BTreeMap<u64, Value> = BTreeMap::new();
    for id in 0..600_u64 {
        let payload = match id {
            599 => json!({"n": id, "text": text(40 << 20)}),
            id if id % 7 == 0 => json!({}),
            id => json!({"n": id, "text": text(id as usize * 80), "f": 0.1 + id as f64}),
        };
        wanted.insert(id, payload);
    }
    let record = |id: u64, payload: &Value| Record {
        id: OwnId::Num(id),
        vectors: vec![(String::new(), Vector::Dense(vec![1.0, id as f32]))],
        payload: payload.as_object().cloned().unwrap_or_default(),
        shard_key: None,
    };
    for some in wanted.iter().collect::<Vec<_>>().chunks(100) {
        shard.upsert(
            some.iter()
                .map(|(id, payload)| record(**id, payload))
                .collect(),
        )?;
    }
    let deleted: Vec<u64> = (0..600).filter(|id| id % 11 == 3).collect();
    shard.delete(&deleted.iter().map(|id| OwnId::Num(*id)).collect::<Vec<_>>())?;
    wanted.retain(|id, _| !deleted.contains(id));
    shard.close()?;
    let source = dir.path().join("made.snapshot");
    pack(&folder, &config, &source)?;

    let output = dir.path().join("master.snapshot");
    merging([&source], &output)
        .args([
            "--route",
            "graft",
            "--stamp",
            "year",
            "--stamp-value",
            "made=2017",
        ])
        .args(["--payload-index", "year=integer"])
        .run()?
        .ok()?;
    for payload in wanted.values_mut() {
        payload["year"] = json!(2017);
    }
    let opened = dir.path().join("opened");
    let parts = members(std::fs::read(&output)?.as_slice())?;
    for (uuid, tar) in segments(&parts) {
        for (name, bytes) in members(tar)? {
            let name = name
                .strip_prefix("snapshot/files/")
                .ok_or("another folder")?;
            let path = opened.join("segments").join(uuid).join(name);
            std::fs::create_dir_all(path.parent().ok_or("no folder")?)?;
            std::fs::write(path, bytes)?;
        }
    }
    let holds = |shard: &Shard, wanted: &BTreeMap<u64, Value>| -> Outcome {
        let ids: Vec<OwnId> = shard.ids()?;
        ensure_eq!(ids.len(), wanted.len(), "points");
        for some in ids.chunks(50) {
            for record in shard.retrieve(some, Columns::ALL)? {
                let OwnId::Num(id) = record.id else {
                    return Err("another id".into());
                };
                ensure!(
                    Value::Object(record.payload) == wanted[&id],
                    "payload of {id}"
                );
            }
        }
        let filter = json!({"must": [{"key": "year", "match": {"value": 2017}}]}).to_string();
        let stamped = shard.count(Some(&Filter::parse(&filter)?))?;
        let count = wanted
            .values()
            .filter(|payload| payload["year"] == json!(2017))
            .count();
        ensure_eq!(stamped, count as u64, "by the index");
        Ok(())
    };
    let shard = Shard::open(&opened, &engine, "the master")?;
    holds(&shard, &wanted)?;
    // Written over by what is larger and smaller, deleted, added.
    let mut change = |id: u64, payload: Value| -> Outcome {
        shard.upsert(vec![record(id, &payload)])?;
        wanted.insert(id, payload);
        Ok(())
    };
    change(1, json!({"year": 2017, "text": text(1 << 20)}))?;
    change(599, json!({"year": 2018}))?;
    change(2, json!({}))?;
    change(1000, json!({"year": 2017, "text": text(30 << 20)}))?;
    change(1001, json!({"year": 2019, "text": text(50_000)}))?;
    shard.delete(&[OwnId::Num(4), OwnId::Num(5)])?;
    wanted.retain(|id, _| ![4, 5].contains(id));
    holds(&shard, &wanted)?;
    shard.close()?;
    let shard = Shard::reopen(&opened, &engine, "the master")?;
    holds(&shard, &wanted)?;
    shard.close()?;
    Ok(())
}

/// Packs the segments of a closed shard as a collection's snapshot.
fn pack(shard: &Path, config: &Value, to: &Path) -> Outcome {
    let mut tar = tar::Builder::new(std::fs::File::create(to)?);
    let mut add = |path: &str, bytes: &[u8]| -> Outcome {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes)?;
        Ok(())
    };
    for segment in closed_segments(shard)? {
        let mut inner = tar::Builder::new(Vec::new());
        inner.append_dir_all("snapshot/files", &segment.folder)?;
        add(
            &format!("0/segments/{}.tar", segment.uuid),
            &inner.into_inner()?,
        )?;
    }
    add("0/wal/closed-9000", &crate::support::wal::wal_file(&[]))?;
    let state = json!({"is_local": true, "this_peer_id": 7, "peers": {"7": "Active"}});
    add("0/replica_state.json", state.to_string().as_bytes())?;
    add(
        "0/shard_config.json",
        json!({"type": "ReplicaSet"}).to_string().as_bytes(),
    )?;
    add("version.info", b"0.4.2")?;
    add("config.json", config.to_string().as_bytes())?;
    add("shard_key_mapping.json", b"[]")?;
    add("payload_index.json", br#"{"schema":{}}"#)?;
    tar.into_inner()?;
    Ok(())
}
