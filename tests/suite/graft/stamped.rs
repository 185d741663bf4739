//! Grafted masters whose payloads are not the sources': stamped, with fields left out, with payload
//! indexes that are still to be built; their vectors and graphs are the sources', byte for byte.
//!
//! Keeps true: what a payload becomes is computed here, by the words of the manual.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::cases::Case;
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, temp_dir};

use super::{Given, Points, export, given, graft, has_note, members, merging, segments, union};

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
    case.keys_as_written(points.values_mut());
    let compared = ensure_same(&export(&output)?, points.values())?;
    ensure_eq!(compared, case.points(), "points compared");
    ensure_eq!(report["master"]["points"], json!(points.len()), "points");
    let carried = &report["carried"];
    ensure_eq!(
        carried["untouched_segments"],
        json!(0),
        "untouched of {carried}"
    );
    no_backup_of_indexes(&output)?;
    proven(&output, &[file])
}

/// A server with RocksDB takes a folder of this name for a backup, also one without files.
fn no_backup_of_indexes(master: &Path) -> Outcome {
    let mut tar = tar::Archive::new(std::fs::File::open(master)?);
    for entry in tar.entries()? {
        let entry = entry?;
        if entry
            .path()?
            .extension()
            .is_none_or(|ending| ending != "tar")
        {
            continue;
        }
        let mut segment = tar::Archive::new(entry);
        for member in segment.entries()? {
            let path = member?.path()?.display().to_string();
            ensure!(!path.contains("payload_index_db_backup"), "{path}");
        }
    }
    Ok(())
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
        let held: Vec<&Points> = sources.iter().map(|given| &given.points).collect();
        let all = union(&held, "last")?.points.len();
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

/// A payload index alone leaves payloads as they are, and needs no repacking.
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
    ensure_eq!(carried["repacked"], json!([]), "repacked");
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
    let mut cameras = expected.values().map(|one| &one["payload"]["camera"]);
    let first = cameras.find(|one| one.is_string()).ok_or("no camera")?;
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
    let args: Vec<&str> = [&ARGS[..], &["--segments", "auto"]].concat();
    let report = graft(&sources.iter().collect::<Vec<_>>(), &output, &args)?;
    let left = &report["carried"]["rebuilt_indexes"];
    ensure!(left.is_null(), "left to be built: {left}");
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
