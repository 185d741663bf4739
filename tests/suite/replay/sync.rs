//! `--sync`: a collection is brought to the sources' state, and nothing more is written than that takes.

use std::path::Path;

use serde_json::{Value, json};

use super::{Place, live, points_of};
use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        env.live("replay/sync/changes", |bin| changes(env, bin)),
        env.live("replay/sync/other_hands", |bin| other_hands(env, bin)),
        env.live("replay/sync/failed_source", |bin| failed_source(env, bin)),
    ]
}

/// A master follows its live source: points added, changed and deleted there, and only those.
fn changes(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let case = env.case("uuid_ids");
    let source = place.restore(&case)?;
    let given = [source.clone()];
    place.merging(&given, "master").run()?.ok()?;
    let mut want = points_of(&case)?;
    place.ensure_holds("master", want.values())?;

    let ids: Vec<_> = want.keys().cloned().collect();
    let path = |what: &str| format!("/collections/uuid_ids/points{what}?wait=true");
    let gone: Vec<Value> = ids
        .iter()
        .step_by(9)
        .map(|id| want[id]["id"].clone())
        .collect();
    place
        .server
        .post(&path("/delete"), &json!({"points": gone}))?;
    for id in ids.iter().step_by(9) {
        want.remove(id);
    }
    let mut written = Vec::new();
    for id in want.keys().step_by(11).cloned().collect::<Vec<_>>() {
        let point = want.get_mut(&id).ok_or("a point")?;
        point["payload"] = json!({"written": "anew"});
        written.push(point.clone());
    }
    let changed = written.len();
    for id in [
        json!(u64::MAX),
        json!("ffffffff-ffff-4fff-8fff-ffffffffffff"),
    ] {
        let mut point = written[0].clone();
        point["id"] = id;
        written.push(point.clone());
        let id = crate::support::points::PointId::of(&point)?;
        want.insert(id, point);
    }
    place.server.put(&path(""), &json!({"points": written}))?;

    let sync = || place.merging(&given, "master").arg("--sync").run();
    let report = sync()?.ok()?.json()?;
    let done = live(&report);
    ensure_eq!(done["deleted"], json!(gone.len()), "deleted");
    ensure_eq!(done["changed"], json!(changed), "replaced");
    ensure_eq!(done["written"], json!(written.len()), "written");
    ensure_eq!(
        done["same"],
        json!(want.len() - written.len()),
        "right already"
    );
    place.ensure_holds("master", want.values())?;

    // Once more, and nothing is written.
    let before = place.state("master")?.0;
    let report = sync()?.ok()?.json()?;
    ensure_eq!(live(&report)["requests"], json!(0), "requests");
    ensure_eq!(place.state("master")?.0, before, "operations of the master");
    Ok(())
}

/// A collection that somebody else made: refused, and brought into line when that is asked for.
fn other_hands(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let case = env.case("album_2017");
    let source = place.restore(&case)?;
    place.restore(&env.case("album_2018"))?;
    let merge = || place.merging(&[&source], "album_2018");
    let before = place.state("album_2018")?;
    merge()
        .run()?
        .code(12)?
        .says(&["it exists already", "--sync"])?;
    merge()
        .arg("--resume")
        .run()?
        .code(12)?
        .says(&["no earlier run of this merge"])?;
    ensure_eq!(place.state("album_2018")?.0, before.0, "operations");
    let report = merge().arg("--sync").run()?.ok()?.json()?;
    ensure_eq!(live(&report)["deleted"], json!(1000), "deleted");
    place.ensure_holds("album_2018", points_of(&case)?.values())?;

    // Other vectors cannot be brought into line.
    place.restore(&env.case("named"))?;
    let before = place.state("named")?;
    place
        .merging(&[&source], "named")
        .arg("--sync")
        .run()?
        .code(12)?
        .says(&["is not as planned"])?;
    ensure_eq!(place.state("named")?.0, before.0, "operations");
    place
        .merging(&[&source], "album_2018")
        .args(["--sync", "--on-conflict", "remap"])
        .run()?
        .code(2)?
        .says(&["remap"])?;
    Ok(())
}

/// A source that cannot be read to its end deletes nothing.
fn failed_source(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let case = env.case("album_2017");
    let file = case.unpack(place.dir.path())?;
    place.merging(&[&file], "master").run()?.ok()?;
    let other = env.case("album_2018").unpack(place.dir.path())?;
    let bytes = std::fs::read(&other)?;
    std::fs::write(&other, &bytes[..bytes.len() / 2])?;
    let run = place.merging(&[&other], "master").arg("--sync").run()?;
    run.code(13)?;
    place.ensure_holds("master", points_of(&case)?.values())?;
    Ok(())
}
