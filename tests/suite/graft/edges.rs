//! Sources that no server wrote as they are: shards with each other's points, and a log that goes on
//! after its segments.

use std::collections::BTreeMap;
use std::path::Path;

use ciborium::cbor;
use serde_json::{Value, json};

use crate::support::craft::{Member, Tar};
use crate::support::points::{PointId, ensure_same};
use crate::support::wal::wal_file;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

use super::{Given, export, members, merging, segments};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let trial = |name: &str, run: fn(&Env) -> Outcome| {
        Trial::new(format!("graft/{name}"), move || run(env))
    };
    vec![
        trial("refuses_misplaced_points", misplaced),
        trial("a_log_that_writes_becomes_a_segment", log_that_writes),
        trial("a_log_that_repeats_is_cut", log_that_repeats),
        trial("a_log_that_deletes_is_repacked", log_that_deletes),
    ]
}

fn given(env: &Env, dir: &Path, name: &str) -> Outcome<Given> {
    let case = env.case(name);
    Ok(Given {
        file: case.unpack(dir)?,
        points: case.truth_by_id()?,
    })
}

/// Writes the snapshot `from` with the shards 0 and 1 in each other's place to `to`.
pub fn swap_shards(from: &Path, to: &Path) -> Outcome {
    let mut tar = Tar::parse(&std::fs::read(from)?)?;
    for member in &mut tar.members {
        let other = match member.path.split_once('/') {
            Some(("0", _)) => b"1",
            Some(("1", _)) => b"0",
            _ => continue,
        };
        member.put(0, other);
    }
    std::fs::write(to, tar.bytes())?;
    Ok(())
}

/// Two shards with each other's points: a server would restore them, and have them twice from the
/// next update on.
fn misplaced(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let whole = given(env, dir.path(), "three_shards")?;
    let swapped = dir.path().join("swapped.snapshot");
    swap_shards(&whole.file, &swapped)?;
    let before = names_in(dir.path())?;
    let output = dir.path().join("master.snapshot");
    merging([&swapped], &output).run()?.code(13)?.says(&[
        "shard 0 of swapped has",
        "shard 1 of swapped has",
        "--route rebuild",
    ])?;
    ensure_eq!(names_in(dir.path())?, before, "what is left");
    // By rebuild every point comes to lie where it belongs.
    merging([&swapped], &output)
        .args(["--route", "rebuild"])
        .run()?
        .ok()?;
    let left = ensure_same(&export(&output)?, whole.points.values())?;
    ensure!(left > 0, "nothing was compared");
    Ok(())
}

/// Gives a snapshot of one shard a log of these entries, numbered above all that its segments say.
fn with_log(given: &Given, name: &str, entries: &[ciborium::Value]) -> Outcome<Given> {
    let first = newest(given)? + 1;
    with_log_from(given, name, entries, first)
}

/// The number of the newest operation that its segments say.
fn newest(given: &Given) -> Outcome<u64> {
    let bytes = std::fs::read(&given.file)?;
    let parts = members(bytes.as_slice())?;
    let mut version = 0;
    for tar in segments(&parts).values() {
        let state: Value = serde_json::from_slice(&members(*tar)?["snapshot/files/segment.json"])?;
        version = version.max(state["version"].as_u64().unwrap_or(0));
    }
    ensure!(version > 0, "no version in any segment");
    Ok(version)
}

/// The same, numbered from `first` on.
fn with_log_from(
    given: &Given,
    name: &str,
    entries: &[ciborium::Value],
    first: u64,
) -> Outcome<Given> {
    let bytes = std::fs::read(&given.file)?;
    let mut records = Vec::new();
    for entry in entries {
        let mut record = Vec::new();
        ciborium::into_writer(entry, &mut record)?;
        records.push(record);
    }
    let mut tar = Tar::parse(&bytes)?;
    tar.remove(|path| path.starts_with("0/wal/"))?;
    tar.members.push(Member::file(
        &format!("0/wal/closed-{first}"),
        &wal_file(&records),
    ));
    let acknowledged = json!({ "ack_index": first }).to_string();
    tar.members
        .push(Member::file("0/wal/first-index", acknowledged.as_bytes()));
    let file = given.file.with_file_name(format!("{name}.snapshot"));
    std::fs::write(&file, tar.bytes())?;
    Ok(Given {
        file,
        points: given.points.clone(),
    })
}

/// An upsert of this point, as a log has it.
fn upsert(point: &Value) -> Outcome<ciborium::Value> {
    let vector: Vec<f32> = serde_json::from_value(point["vector"].clone())?;
    let id = point["id"].as_u64().ok_or("an id that is no number")?;
    let vector = ciborium::Value::serialized(&vector)?;
    let payload = ciborium::Value::serialized(&point["payload"])?;
    let point = cbor!({"id" => id, "vector" => vector, "payload" => payload})?;
    Ok(cbor!({"upsert_points" => {"points" => [point]}})?)
}

/// One point written again, with another payload, and one that was not there.
fn written(whole: &Given) -> Outcome<Vec<Value>> {
    let mut some: Vec<Value> = whole.points.values().take(2).cloned().collect();
    ensure_eq!(some.len(), 2, "points");
    for point in &mut some {
        // Of length 1, whoever makes it so.
        let values = point["vector"].as_array_mut().ok_or("no vector")?;
        values.fill(json!(0.0));
        values[1] = json!(1.0);
    }
    some[0]["payload"] = json!({"edited": "in the log", "year": 2017});
    some[1]["id"] = json!(987_654_321);
    Ok(some)
}

fn log_that_writes(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let whole = given(env, dir.path(), "album_2017")?;
    let points = written(&whole)?;
    let entries = points.iter().map(upsert).collect::<Outcome<Vec<_>>>()?;
    let mut late = with_log(&whole, "late", &entries)?;
    for point in points {
        late.points.insert(PointId::of(&point)?, point);
    }
    let output = dir.path().join("master.snapshot");
    let report = merging([&late.file], &output).run()?.ok()?.json()?;
    ensure_eq!(report["route"], "graft", "the route");
    let carried = &report["carried"];
    ensure_eq!(carried["repacked"], json!([]), "repacked shards: {carried}");
    ensure_eq!(
        carried["tails"],
        json!(["shard 0 of late: 2"]),
        "logs that became segments: {carried}"
    );
    let before = segments(&members(std::fs::read(&late.file)?.as_slice())?).len();
    let after = segments(&members(std::fs::read(&output)?.as_slice())?).len();
    ensure!(after > before, "{after} segments, {before} before");
    ensure_points(&late.points, &output)?;
    // Where it loses a conflict it is repacked after all, with its log.
    let other = with_log(&whole, "other", &[])?;
    let both = dir.path().join("both.snapshot");
    let report = merging([&late.file, &other.file], &both)
        .run()?
        .ok()?
        .json()?;
    ensure_eq!(report["carried"]["tails"], json!([]), "logs as segments");
    let mut union = late.points.clone();
    union.extend(other.points);
    ensure_points(&union, &both)
}

/// A log that begins with what the segments hold, as where nothing was acknowledged: only what is new
/// becomes a segment, and no point is there twice.
fn log_that_repeats(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let whole = given(env, dir.path(), "album_2017")?;
    let points = written(&whole)?;
    let (held, newest) = (whole.points.values().rev(), newest(&whole)?);
    let held = held.take(usize::try_from(newest)?).map(upsert);
    let mut entries = held.collect::<Outcome<Vec<_>>>()?;
    entries.extend(points.iter().map(upsert).collect::<Outcome<Vec<_>>>()?);
    let mut late = with_log_from(&whole, "late", &entries, 1)?;
    for point in points {
        late.points.insert(PointId::of(&point)?, point);
    }
    let output = dir.path().join("master.snapshot");
    let report = merging([&late.file], &output).run()?.ok()?.json()?;
    let tails = report["carried"]["tails"].as_array().map(Vec::len);
    ensure_eq!(tails, Some(1), "{}", report["carried"]);
    ensure_points(&late.points, &output)?;
    for how in [&[][..], &["--deep"]] {
        let verify = cli!["verify", "--json", &output, "--against", &late.file];
        let told = verify.args(how).run()?.ok()?.json()?;
        ensure_eq!(told["doubled"], json!(0), "points that are there twice");
    }
    Ok(())
}

fn log_that_deletes(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let whole = given(env, dir.path(), "album_2017")?;
    let points = written(&whole)?;
    let gone = whole.points.values().next_back().ok_or("no point")?.clone();
    let id = gone["id"].as_u64().ok_or("an id that is no number")?;
    let entries = [
        upsert(&points[0])?,
        cbor!({"delete_points" => {"ids" => [id]}})?,
    ];
    let mut late = with_log(&whole, "late", &entries)?;
    late.points
        .insert(PointId::of(&points[0])?, points[0].clone());
    late.points.remove(&PointId::of(&gone)?);
    let output = dir.path().join("master.snapshot");
    let report = merging([&late.file], &output).run()?.ok()?.json()?;
    ensure_eq!(report["carried"]["tails"], json!([]), "logs as segments");
    ensure!(
        report["carried"]["repacked"][0]
            .as_str()
            .is_some_and(|text| text.contains("its log is not all in its segments")),
        "{}",
        report["carried"]
    );
    ensure_points(&late.points, &output)
}

fn ensure_points(want: &BTreeMap<PointId, Value>, master: &std::path::Path) -> Outcome {
    let compared = ensure_same(&export(master)?, want.values())?;
    ensure_eq!(compared, want.len(), "points that were compared");
    Ok(())
}
