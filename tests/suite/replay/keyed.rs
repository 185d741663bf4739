//! Shard keys: of a live source, of a live master, one for each source, and one for each value of a field.

use std::path::Path;

use serde_json::{Value, json};

use super::{Place, live, points_of};
use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        env.live("replay/keyed/same", |bin| same(env, bin)),
        env.live("replay/keyed/by_source", |bin| by_source(env, bin)),
        env.live("replay/keyed/by_field", |bin| by_field(env, bin)),
    ]
}

/// A master with the source's keys, of a file and then of that very collection.
fn same(env: &Env, bin: &Path) -> Outcome {
    let place = Place::cluster(bin)?;
    let case = env.case("shard_keys");
    let mut want = points_of(&case)?;
    let file = case.unpack(place.dir.path())?;
    place.merging(&[&file], "keyed").run()?.ok()?;
    place.ensure_holds("keyed", want.values())?;
    let first = place.at("keyed");
    let before = place.state("keyed")?;
    let report = place.merging(&[&first], "again").run()?.ok()?.json()?;
    ensure_eq!(report["sources"][0]["read"], json!(want.len()), "read");
    place.ensure_holds("again", want.values())?;
    ensure_eq!(
        place.state("keyed")?.0,
        before.0,
        "operations of the source"
    );

    // A point that goes to another key is written there, and is gone where it was.
    let id = want.keys().nth(17).cloned().ok_or("a point")?;
    let keys: Vec<Value> = {
        let mut keys: Vec<Value> = want
            .values()
            .map(|point| point["shard_key"].clone())
            .collect();
        keys.sort_by_key(Value::to_string);
        keys.dedup();
        keys
    };
    ensure!(keys.len() > 1, "one key alone: {keys:?}");
    let mut point = want[&id].clone();
    let old = point["shard_key"].clone();
    let new = keys.iter().find(|key| **key != old).ok_or("another key")?;
    let path = |what: &str| format!("/collections/keyed/points{what}?wait=true");
    place.server.post(
        &path("/delete"),
        &json!({"points": [point["id"]], "shard_key": old}),
    )?;
    point["shard_key"] = new.clone();
    place
        .server
        .put(&path(""), &json!({"points": [point], "shard_key": new}))?;
    want.insert(id, point);
    let report = place
        .merging(&[&first], "again")
        .arg("--sync")
        .run()?
        .ok()?
        .json()?;
    ensure_eq!(live(&report)["written"], json!(1), "written");
    ensure_eq!(live(&report)["deleted"], json!(1), "deleted");
    place.ensure_holds("again", want.values())?;
    Ok(())
}

fn by_source(env: &Env, bin: &Path) -> Outcome {
    let place = Place::cluster(bin)?;
    let names = ["album_2017", "album_2018"];
    let mut want = std::collections::BTreeMap::new();
    let mut given = Vec::new();
    for name in names {
        let case = env.case(name);
        given.push(case.unpack(place.dir.path())?);
        for (id, mut point) in points_of(&case)? {
            point["shard_key"] = json!(name);
            want.insert(id, point);
        }
    }
    let merge = || {
        place
            .merging(&given, "master")
            .args(["--layout", "by-source"])
    };
    merge().run()?.ok()?;
    place.ensure_holds("master", want.values())?;
    for name in names {
        let answer = place.server.post(
            "/collections/master/points/count",
            &json!({"exact": true, "shard_key": name}),
        )?;
        ensure_eq!(answer["count"], json!(1000), "points of {name}");
    }
    let again = merge().run()?.ok()?.json()?;
    ensure_eq!(
        live(&again)["requests"],
        json!(0),
        "requests of the second run"
    );
    Ok(())
}

/// A key for each year; with `--sync` a year that comes later gets its own.
fn by_field(env: &Env, bin: &Path) -> Outcome {
    let place = Place::cluster(bin)?;
    let case = env.case("album_2017");
    let file = case.unpack(place.dir.path())?;
    let mut all = points_of(&case)?;
    all.retain(|_, point| point["payload"]["year"].is_u64());
    for point in all.values_mut() {
        point["shard_key"] = point["payload"]["year"].clone();
    }
    let merge = |filter: Value| {
        let filter = filter.to_string();
        let args = ["--layout", "by-field:year", "--filter", &filter];
        place.merging(&[&file], "master").args(args)
    };
    let year = |bounds: Value| json!({"must": [{"key": "year", "range": bounds}]});
    merge(year(json!({"lte": 2018}))).run()?.ok()?;
    let mut early = all.clone();
    early.retain(|_, point| point["shard_key"].as_u64() <= Some(2018));
    place.ensure_holds("master", early.values())?;
    let run = merge(year(json!({"gte": 0}))).arg("--sync").run()?.ok()?;
    place.ensure_holds("master", all.values())?;
    let written = json!(all.len() - early.len());
    ensure_eq!(live(&run.json()?)["written"], written, "written");
    // The server numbers shards as keys come, and the provenance says its numbers.
    let report = place.dir.path().join("report.json");
    std::fs::write(&report, run.json()?.to_string())?;
    let master = place.at("master");
    cli![
        "verify",
        &master,
        "-q",
        "--provenance",
        &report,
        "--against",
        &file
    ]
    .run()?
    .ok()?;
    for year in [2017, 2020] {
        let answer = place.server.post(
            "/collections/master/points/count",
            &json!({"exact": true, "shard_key": year}),
        )?;
        let wanted = all
            .values()
            .filter(|point| point["shard_key"] == json!(year));
        ensure_eq!(answer["count"], json!(wanted.count()), "points of {year}");
    }
    // Nothing is left, under no key.
    let run = merge(year(json!({"gte": 9999})))
        .arg("--sync")
        .run()?
        .ok()?;
    ensure_eq!(live(&run.json()?)["deleted"], json!(all.len()), "deleted");
    place.ensure_holds("master", [])?;
    Ok(())
}
