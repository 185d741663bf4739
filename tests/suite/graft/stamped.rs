//! Grafted masters whose payloads are not the sources': stamped, with fields left out, with payload
//! indexes that are still to be built; their vectors and graphs are the sources', byte for byte.
//!
//! Keeps true: what a payload becomes is computed here, by the words of the manual.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use snapmerge::engine::{Columns, Shard, ShardConfig, closed_segments};
use snapmerge::format::schema::CollectionConfig;
use snapmerge::point::{PointId as OwnId, Record, Vector};

use crate::support::cases::Case;
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, temp_dir};

use super::{Given, Points, export, graft, has_note, members, merging, segments, union};

const ALBUMS: [&str; 3] = ["album_2017", "album_2018", "album_2019_overlap"];
/// The stamp of the tests, below a key that some payloads have.
const ARGS: [&str; 8] = [
    "--stamp",
    "exif.from",
    "--drop-payload",
    "camera",
    "--drop-payload",
    "neg",
    "--payload-index",
    "exif.from=keyword",
];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let trial = |name: &str, run: fn(&Env) -> Outcome| {
        Trial::new(format!("graft/stamped/{name}"), move || run(env))
    };
    let mut trials = env.per_case("graft/stamped/alone", |case| alone(&case));
    trials.extend(env.per_old_case("graft/stamped/old", |case| alone(&case)));
    trials.extend([
        trial("conflicts", conflicts),
        trial("is_what_rebuild_makes", as_rebuilt),
        trial("keeps_what_it_does_not_change", untouched),
        trial("filters_by_every_index", filters),
        trial("index_alone", index_alone),
        trial("rebuilds_indexes", rebuilds_indexes),
        trial("consolidated", consolidated),
        trial("by_source", by_source),
        trial("refuses_indexes", refuses_indexes),
        Trial::new("graft/stamped/read_and_changed_by_the_engine", engine),
    ]);
    trials
}

/// The points of a source called `name`, as [`ARGS`] leave them.
fn changed(points: &Points, name: &str) -> Points {
    let mut points = points.clone();
    for point in points.values_mut() {
        let payload = &mut point["payload"];
        if payload.is_null() {
            *payload = json!({});
        }
        if let Some(payload) = payload.as_object_mut() {
            payload.remove("camera");
            payload.remove("neg");
            let exif = payload.entry("exif").or_insert(json!({}));
            if !exif.is_object() {
                *exif = json!({});
            }
            exif["from"] = json!(name);
        }
    }
    points
}

fn given(env: &Env, dir: &Path, names: &[&str]) -> Outcome<Vec<Given>> {
    let one = |name: &&str| {
        let case = env.case(name);
        Ok(Given {
            file: case.unpack(dir)?,
            points: case.truth_by_id()?,
        })
    };
    names.iter().map(one).collect()
}

/// The sources as [`ARGS`] leave their points.
fn all_changed(sources: &[Given]) -> Vec<Points> {
    let one = |given: &Given| changed(&given.points, &given.name());
    sources.iter().map(one).collect()
}

/// `verify` proves the master point by point.
fn proven(master: &Path, sources: &[&Path]) -> Outcome {
    let run = cli!["verify", master, "--json", "-q", "--against"]
        .args(sources)
        .run()?;
    let report = run.json()?;
    let run = run.ok()?;
    ensure_eq!(report["verdict"], "proven", "verdict\n{}", run.told());
    ensure_eq!(report["points"]["how"], "walk", "how\n{}", run.told());
    Ok(())
}

/// Every case of every version, stamped and with fields left out.
fn alone(case: &Case) -> Outcome {
    let dir = temp_dir()?;
    let output = dir.path().join("master.snapshot");
    let file = &case.snapshot_gz;
    let run = merging([file], &output)
        .args(ARGS)
        .args(["--route", "graft"])
        .run()?
        .ok()?;
    let report = run.json()?;
    let mut points = changed(&case.truth_by_id()?, &case.name);
    // Servers before 1.13.1 wrote shard keys as text, and answered with numbers as long as they ran.
    if ["1.7.4", "1.10.1"].contains(&case.version.as_str()) {
        for point in points.values_mut() {
            if let Some(number) = point["shard_key"].as_u64() {
                point["shard_key"] = json!(number.to_string());
            }
        }
    }
    let compared = ensure_same(&export(&output)?, points.values())?;
    ensure_eq!(compared, case.points(), "points compared");
    ensure_eq!(report["master"]["points"], json!(points.len()), "points");
    let carried = &report["carried"];
    ensure_eq!(
        carried["untouched_segments"],
        json!(0),
        "untouched of {carried}"
    );
    proven(&output, &[file])
}

fn conflicts(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &ALBUMS)?;
    let points = all_changed(&sources);
    let files: Vec<&Path> = sources.iter().map(|given| given.file.as_path()).collect();
    let all: Vec<&Given> = sources.iter().collect();
    for policy in ["last", "first", "newest:year"] {
        let output = dir.path().join("master.snapshot");
        let args: Vec<&str> = [&ARGS[..], &["--on-conflict", policy, "--force"]].concat();
        let report = graft(&all, &output, &args)?;
        let held: Vec<&Points> = points.iter().collect();
        let expected = union(&held, policy)?;
        ensure!(expected.conflicts > 0, "no conflicts");
        ensure_same(&export(&output)?, expected.points.values())?;
        let count = report["conflicts"]["count"].as_u64();
        ensure_eq!(count, Some(expected.conflicts), "conflicts");
        proven(&output, &files)?;
    }
    Ok(())
}

/// The same by rebuild: `diff` finds nothing.
fn as_rebuilt(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    for names in [
        &["edited", "uuid_ids"][..],
        &["three_shards"],
        &["log_pending", "all_indexes"],
    ] {
        let folder = temp_dir()?;
        let sources = given(env, folder.path(), names)?;
        let files: Vec<&Path> = sources.iter().map(|given| given.file.as_path()).collect();
        let masters =
            ["graft", "rebuild"].map(|route| dir.path().join(format!("{route}.snapshot")));
        for (route, master) in ["graft", "rebuild"].iter().zip(&masters) {
            merging(&files, master)
                .args(ARGS)
                .args(["--force", "--route", route])
                .run()?
                .ok()?;
        }
        let run = cli!["diff", &masters[0], &masters[1], "--json", "-q"].run()?;
        let report = run.json()?;
        let points = &report["points"];
        let all: usize = sources.iter().map(|given| given.points.len()).sum();
        ensure_eq!(points["same"], json!(all), "the same\n{}", run.told());
        for what in ["added", "removed", "changed", "twice"] {
            ensure_eq!(points[what], json!(0), "{what}\n{}", run.told());
        }
    }
    Ok(())
}

/// Every file of a segment but its payloads and their indexes is the source's.
fn untouched(env: &Env) -> Outcome {
    for names in [&["all_indexes"][..], &["album_2017", "album_2018"]] {
        carries_the_rest(env, names)?;
    }
    Ok(())
}

fn carries_the_rest(env: &Env, names: &[&str]) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), names)?;
    let output = dir.path().join("master.snapshot");
    let report = graft(&sources.iter().collect::<Vec<_>>(), &output, &ARGS)?;
    let others = |tar: &[u8]| -> Outcome<BTreeMap<String, Vec<u8>>> {
        let mut files = members(tar)?;
        files.retain(|name, _| !name.contains("/payload_"));
        Ok(files)
    };
    let mut wanted: Vec<BTreeMap<String, Vec<u8>>> = Vec::new();
    let mut uuids = Vec::new();
    for given in &sources {
        let parts = members(std::fs::read(&given.file)?.as_slice())?;
        for (uuid, tar) in segments(&parts) {
            wanted.push(others(tar)?);
            uuids.push(uuid.to_owned());
        }
    }
    let count = json!(wanted.len());
    ensure_eq!(report["carried"]["rewritten_segments"], count, "rewritten");
    let parts = members(std::fs::read(&output)?.as_slice())?;
    let packed = segments(&parts);
    ensure_eq!(packed.len(), wanted.len(), "segments");
    let mut kept_indexes = 0;
    for (uuid, tar) in packed {
        ensure!(
            !uuids.iter().any(|name| name == uuid),
            "{uuid} is another segment now"
        );
        let files = others(tar)?;
        let place = wanted.iter().position(|other| *other == files);
        wanted.remove(place.ok_or("vectors, graphs or ids are no source's")?);
        let all = members(tar)?;
        let config: Value =
            serde_json::from_slice(&all["snapshot/files/payload_index/config.json"])?;
        ensure!(
            config["indexed_fields"].get("exif.from").is_some(),
            "the index is not declared: {config}"
        );
        for field in ["exif.from", "exif.gps", "camera"] {
            ensure!(
                config["indexed_types"].get(field).is_none(),
                "types of {field}"
            );
        }
        let has = |part: &str| all.keys().any(|name| name.contains(part));
        ensure!(!has("-exif_") && !has("-camera-"), "indexes that are stale");
        kept_indexes += u64::from(has("-year-"));
    }
    ensure!(kept_indexes > 0, "no index was carried");
    Ok(())
}

/// How many points of a snapshot match, by the engine with the segments' indexes.
fn matching(file: &Path, filter: &Value) -> Outcome<usize> {
    let run = cli![
        "export",
        file,
        "--no-vectors",
        "--filter",
        filter.to_string()
    ];
    Ok(run.run()?.ok()?.json_lines()?.len())
}

fn filters(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &["all_indexes", "edited"])?;
    let output = dir.path().join("master.snapshot");
    let report = graft(&sources.iter().collect::<Vec<_>>(), &output, &ARGS)?;
    let rebuilt = report["carried"]["rebuilt_indexes"].as_array();
    let rebuilt = rebuilt.ok_or("no list of indexes")?;
    ensure!(rebuilt.contains(&json!("exif.from")), "{rebuilt:?}");
    ensure!(!rebuilt.contains(&json!("year")), "{rebuilt:?}");
    let points: Vec<Points> = all_changed(&sources);
    let all = union(&points.iter().collect::<Vec<_>>(), "last")?.points;
    let count =
        |is: &dyn Fn(&Value) -> bool| all.values().filter(|one| is(&one["payload"])).count();
    for name in ["all_indexes", "edited"] {
        let filter = json!({"must": [{"key": "exif.from", "match": {"value": name}}]});
        let wanted = count(&|payload| payload["exif"]["from"] == name);
        ensure!(wanted > 0, "nothing of {name}");
        ensure_eq!(matching(&output, &filter)?, wanted, "of {name}");
    }
    let year = json!({"must": [{"key": "year", "match": {"value": 2017}}]});
    let wanted = count(&|payload| payload["year"] == json!(2017));
    ensure_eq!(matching(&output, &year)?, wanted, "of 2017");
    let camera = json!({"must": [{"is_empty": {"key": "camera"}}]});
    ensure_eq!(matching(&output, &camera)?, all.len(), "without a camera");
    Ok(())
}

/// A payload index alone leaves payloads as they are, and needs no settling.
fn index_alone(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &["album_2017", "album_2018"])?;
    let output = dir.path().join("master.snapshot");
    let all: Vec<&Given> = sources.iter().collect();
    let args = [
        "--payload-index",
        "camera=keyword,is_tenant",
        "--payload-index",
        "new=float",
    ];
    let report = graft(&all, &output, &args)?;
    let carried = &report["carried"];
    ensure_eq!(carried["settled"], json!([]), "settled");
    ensure_eq!(
        carried["rebuilt_indexes"],
        json!(["camera", "new"]),
        "indexes"
    );
    let held: Vec<&Points> = sources.iter().map(|given| &given.points).collect();
    let expected = union(&held, "last")?.points;
    ensure_same(&export(&output)?, expected.values())?;
    let files: Vec<&Path> = sources.iter().map(|given| given.file.as_path()).collect();
    proven(&output, &files)?;
    let parts = members(std::fs::read(&output)?.as_slice())?;
    let schema: Value = serde_json::from_slice(&parts["payload_index.json"])?;
    let wanted = json!({"type": "keyword", "is_tenant": true});
    ensure_eq!(schema["schema"]["camera"], wanted, "the index");
    let first = &sources[0].points.values().next().ok_or("no points")?["payload"]["camera"];
    let filter = json!({"must": [{"key": "camera", "match": {"value": first}}]});
    let of_first = expected
        .values()
        .filter(|one| one["payload"]["camera"] == *first);
    ensure_eq!(
        matching(&output, &filter)?,
        of_first.count(),
        "by the index"
    );
    Ok(())
}

/// No index of the sources is carried; the answers are the same.
fn rebuilds_indexes(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &["all_indexes"])?;
    let output = dir.path().join("master.snapshot");
    graft(&[&sources[0]], &output, &["--rebuild-payload-indexes"])?;
    let parts = members(std::fs::read(&output)?.as_slice())?;
    for tar in segments(&parts).values() {
        for name in members(*tar)?
            .keys()
            .filter(|name| name.contains("/payload_index/"))
        {
            ensure!(
                name.ends_with("payload_index/config.json"),
                "{name} was carried"
            );
        }
    }
    ensure_same(&export(&output)?, sources[0].points.values())?;
    for filter in [
        json!({"must": [{"key": "caption", "match": {"text": "a"}}]}),
        json!({"must": [{"key": "year", "range": {"gte": 2018}}]}),
        json!({"must": [{"key": "fav", "match": {"value": true}}]}),
    ] {
        let before = matching(&sources[0].file, &filter)?;
        ensure_eq!(matching(&output, &filter)?, before, "{filter}");
    }
    Ok(())
}

fn consolidated(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &["album_2017", "album_2018"])?;
    let output = dir.path().join("master.snapshot");
    let args: Vec<&str> = [&ARGS[..], &["--consolidate"]].concat();
    graft(&sources.iter().collect::<Vec<_>>(), &output, &args)?;
    let points = all_changed(&sources);
    let expected = union(&points.iter().collect::<Vec<_>>(), "last")?.points;
    ensure_same(&export(&output)?, expected.values())?;
    let filter = json!({"must": [{"key": "exif.from", "match": {"value": "album_2018"}}]});
    ensure_eq!(matching(&output, &filter)?, points[1].len(), "by the stamp");
    let files: Vec<&Path> = sources.iter().map(|given| given.file.as_path()).collect();
    proven(&output, &files)
}

fn by_source(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &["album_2017", "album_2018"])?;
    let output = dir.path().join("master.snapshot");
    let args: Vec<&str> = [&ARGS[..], &["--layout", "by-source"]].concat();
    let report = graft(&sources.iter().collect::<Vec<_>>(), &output, &args)?;
    ensure_eq!(report["master"]["points"], json!(2000), "points");
    let files: Vec<&Path> = sources.iter().map(|given| given.file.as_path()).collect();
    proven(&output, &files)
}

/// Indexes that no server would take, and what a stamp without one is told.
fn refuses_indexes(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &["album_2017"])?;
    let output = dir.path().join("master.snapshot");
    for (index, says) in [
        ("year=int", "names no type"),
        ("year=integer,is_tenant", "has no is_tenant"),
        ("year=keyword,wrong", "is none of"),
        ("a[=keyword", "no"),
    ] {
        merging([&sources[0].file], &output)
            .args(["--payload-index", index])
            .run()?
            .code(2)?
            .says(&[says])?;
    }
    merging([&sources[0].file], &output)
        .args([
            "--payload-index",
            "a=keyword",
            "--payload-index",
            "a=integer",
        ])
        .run()?
        .code(2)?
        .says(&["'a' twice"])?;
    let report = graft(&[&sources[0]], &output, &["--stamp", "of"])?;
    ensure!(
        has_note(
            &report,
            &[
                "'of' has no payload index",
                "strict mode",
                "--payload-index of="
            ]
        ),
        "no note: {}",
        report["notes"]
    );
    Ok(())
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
        let stamped = shard.count(Some(&snapmerge::engine::Filter::parse(&filter)?))?;
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
