//! Grafted masters whose vectors have other names than in the sources, or are left out; the files of the
//! vectors that stay are the sources', byte for byte.
//!
//! Keeps true: what a point becomes is computed here.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::support::cases::Case;
use crate::support::craft::Tar;
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, temp_dir};

use super::{Points, export, given, graft, members, merging, segments, union};

/// So long that a tar has it in a header of its own.
const LONG: &str = "a-name-that-is-longer-than-what-fits-into-the-header-of-a-member-of-a-tar-which-is-one-hundred";

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let trial = |name: &str, run: fn(&Env) -> Outcome| {
        Trial::new(format!("graft/vectors/{name}"), move || run(env))
    };
    let mut trials = env.per_case("graft/vectors/alone", |case| alone(&case));
    trials.extend(env.per_old_case("graft/vectors/old", |case| alone(&case)));
    trials.extend([
        trial("different_names", different_names),
        trial("change_places", change_places),
        trial("carries_the_rest", carries_the_rest),
        trial("conflicts", conflicts),
        trial("consolidated", consolidated),
        trial("stamped_too", stamped_too),
        trial("stays_of_its_kind", stays_of_its_kind),
        trial("refuses", refuses),
    ]);
    trials
}

/// New names by old ones; none for a vector that is left out.
pub type Names<'a> = BTreeMap<String, Option<&'a str>>;

/// The names of the vectors of a case, as its server told its config.
fn names_of(case: &Case) -> Vec<String> {
    let params = &case.info["config"]["params"];
    let keys = |value: &Value| -> Vec<String> {
        let map = value.as_object();
        map.into_iter().flat_map(Map::keys).cloned().collect()
    };
    let mut names = match params["vectors"]["size"].is_u64() {
        true => vec![String::new()],
        false => keys(&params["vectors"]),
    };
    names.extend(keys(&params["sparse_vectors"]));
    names
}

/// `points` with other names of vectors.
pub fn renamed(points: &Points, names: &Names<'_>) -> Points {
    let mut points = points.clone();
    for point in points.values_mut() {
        let had = match point["vector"].take() {
            Value::Object(map) => map,
            unnamed => Map::from_iter([(String::new(), unnamed)]),
        };
        let mut has = Map::new();
        for (name, vector) in had {
            match names.get(&name) {
                Some(Some(new)) => has.insert((*new).to_owned(), vector),
                Some(None) => None,
                None => has.insert(name, vector),
            };
        }
        let is_unnamed = has.len() == 1 && has.contains_key("");
        point["vector"] = match is_unnamed {
            true => has.remove("").unwrap_or_default(),
            false => has.into(),
        };
    }
    points
}

pub fn args(names: &Names<'_>) -> Vec<String> {
    let one = |(old, new): (&String, &Option<&str>)| match new {
        Some(new) => ["--rename-vector".to_owned(), format!("{old}={new}")],
        None => ["--drop-vector".to_owned(), old.clone()],
    };
    names.iter().flat_map(one).collect()
}

/// `verify` proves the master point by point, and its graphs and answers too.
fn proven(master: &Path, sources: &[&Path]) -> Outcome {
    let run = cli![
        "verify",
        master,
        "--json",
        "-q",
        "--deep",
        "--queries",
        "5",
        "--against"
    ]
    .args(sources)
    .run()?;
    let report = run.json()?;
    let run = run.ok()?;
    ensure_eq!(report["verdict"], "proven", "verdict\n{}", run.told());
    ensure_eq!(report["points"]["how"], "walk", "how\n{}", run.told());
    Ok(())
}

/// Every case of every version: each vector gets another name, and of several the last is left out; by
/// graft and by rebuild, which are the same.
fn alone(case: &Case) -> Outcome {
    let dir = temp_dir()?;
    let file = &case.snapshot_gz;
    let own = names_of(case);
    let new: Vec<String> = own.iter().map(|name| format!("new-{name}")).collect();
    let mut names: Names<'_> = Names::new();
    for (at, (old, new)) in own.iter().zip(&new).enumerate() {
        let is_left_out = at > 0 && at == own.len() - 1;
        names.insert(old.clone(), (!is_left_out).then_some(new.as_str()));
    }
    let mut points = renamed(&case.truth_by_id()?, &names);
    case.keys_as_written(points.values_mut());
    let [grafted, rebuilt] = ["graft", "rebuild"].map(|route| dir.path().join(route));
    let run = merging([file], &grafted)
        .args(args(&names))
        .args(["--route", "graft"])
        .run()?
        .ok()?;
    let carried = &run.json()?["carried"];
    ensure_eq!(carried["untouched_segments"], json!(0), "of {carried}");
    let compared = ensure_same(&export(&grafted)?, points.values())?;
    ensure_eq!(compared, case.points(), "points compared");
    proven(&grafted, &[file])?;
    merging([file], &rebuilt)
        .args(args(&names))
        .args(["--route", "rebuild", "--hnsw-m", "0"])
        .run()?
        .ok()?;
    ensure_same(&export(&rebuilt)?, points.values())?;
    cli!["verify", &rebuilt, "-q", "--against", file]
        .run()?
        .ok()?;
    Ok(())
}

/// A vector without a name in one year, with one in another: one vector of the master, by graft, the same as
/// by rebuild.
fn different_names(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &["album_2017", "album_2018"])?;
    let second = dir.path().join("second.snapshot");
    graft(&[&sources[1]], &second, &["--rename-vector", "=image"])?;
    let apart = dir.path().join("apart.snapshot");
    let refused = merging([&sources[0].file, &second], &apart)
        .args(["--route", "graft"])
        .run()?
        .code(2)?;
    refused.says(&["has no vector 'image'"])?;
    let master = dir.path().join("master.snapshot");
    let files = [sources[0].file.as_path(), second.as_path()];
    let run = merging(files, &master)
        .args(["--route", "graft", "--rename-vector", "=image"])
        .run()?
        .ok()?;
    let names = Names::from([(String::new(), Some("image"))]);
    let held = [0, 1].map(|at| renamed(&sources[at].points, &names));
    let expected = union(&[&held[0], &held[1]], "last")?.points;
    ensure_same(&export(&master)?, expected.values())?;
    let report = run.json()?;
    ensure_eq!(report["conflicts"]["count"], json!(0), "conflicts");
    proven(&master, &files)?;
    // Said by flags, what the provenance says.
    std::fs::remove_file(master.with_extension("snapshot.provenance.json"))?;
    let verify = |flags: &[&str]| {
        cli!["verify", &master, "-q", "--deep"]
            .args(flags)
            .arg("--against")
            .args(files)
            .run()
    };
    verify(&["--rename-vector", "=image"])?.ok()?;
    verify(&[])?.code(3)?;
    Ok(())
}

fn change_places(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &["named"])?;
    let names = Names::from([
        ("image".to_owned(), Some("text")),
        ("text".to_owned(), Some("image")),
    ]);
    let expected = renamed(&sources[0].points, &names);
    for route in ["graft", "rebuild"] {
        let master = dir.path().join(route);
        merging([&sources[0].file], &master)
            .args(args(&names))
            .args(["--route", route])
            .run()?
            .ok()?;
        ensure_same(&export(&master)?, expected.values())?;
        proven(&master, &[&sources[0].file])?;
    }
    Ok(())
}

/// All files of a segment are the source's, but for those of the vector that is left out, and `segment.json`
/// and the config of the payload indexes, which are written anew.
fn carries_the_rest(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &["named"])?;
    let output = dir.path().join("master.snapshot");
    let rename = format!("image={LONG}");
    let arguments = ["--rename-vector", &rename, "--drop-vector", "text"];
    graft(&[&sources[0]], &output, &arguments)?;
    let files = |path: &Path, of_master: bool| -> Outcome<Vec<BTreeMap<String, Vec<u8>>>> {
        let parts = members(std::fs::read(path)?.as_slice())?;
        let mut all = Vec::new();
        for tar in segments(&parts).values() {
            let mut files = BTreeMap::new();
            for (name, bytes) in members(*tar)? {
                if name.ends_with("files/segment.json")
                    || name.ends_with("payload_index/config.json")
                {
                    continue;
                }
                match of_master {
                    true => ensure!(!name.contains("-text/"), "{name} was carried"),
                    false if name.contains("-text/") => continue,
                    false => {}
                }
                files.insert(name.replace("-image/", &format!("-{LONG}/")), bytes);
            }
            all.push(files);
        }
        all.sort();
        Ok(all)
    };
    let carried = files(&output, true)?;
    ensure!(
        carried
            .iter()
            .any(|files| files.keys().any(|name| name.contains(LONG))),
        "no vector has the new name"
    );
    ensure!(
        carried == files(&sources[0].file, false)?,
        "other files than the source's"
    );
    let names = Names::from([("image".to_owned(), Some(LONG)), ("text".to_owned(), None)]);
    ensure_same(
        &export(&output)?,
        renamed(&sources[0].points, &names).values(),
    )?;
    Ok(())
}

/// Shards that are repacked since points of them lose, and logs that become segments, are renamed as well.
fn conflicts(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(
        env,
        dir.path(),
        &["album_2017", "album_2018", "album_2019_overlap"],
    )?;
    let files: Vec<&Path> = sources.iter().map(|given| given.file.as_path()).collect();
    let names = Names::from([(String::new(), Some("image"))]);
    let held: Vec<Points> = sources
        .iter()
        .map(|given| renamed(&given.points, &names))
        .collect();
    for policy in ["last", "first", "newest:year"] {
        let output = dir.path().join("master.snapshot");
        let arguments = [
            "--on-conflict",
            policy,
            "--force",
            "--rename-vector",
            "=image",
        ];
        let report = graft(&sources.iter().collect::<Vec<_>>(), &output, &arguments)?;
        let expected = union(&held.iter().collect::<Vec<_>>(), policy)?;
        ensure!(expected.conflicts > 0, "no conflicts");
        ensure_same(&export(&output)?, expected.points.values())?;
        let open_shards = report["carried"]["repacked_segments"].as_u64();
        ensure!(
            open_shards > Some(0),
            "nothing was repacked: {}",
            report["carried"]
        );
        proven(&output, &files)?;
    }
    Ok(())
}

fn consolidated(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &["album_2017", "album_2018"])?;
    let output = dir.path().join("master.snapshot");
    let arguments = ["--segments", "1", "--rename-vector", "=image"];
    graft(&sources.iter().collect::<Vec<_>>(), &output, &arguments)?;
    let names = Names::from([(String::new(), Some("image"))]);
    let held: Vec<Points> = sources
        .iter()
        .map(|given| renamed(&given.points, &names))
        .collect();
    let expected = union(&held.iter().collect::<Vec<_>>(), "last")?.points;
    ensure_same(&export(&output)?, expected.values())?;
    let files: Vec<&Path> = sources.iter().map(|given| given.file.as_path()).collect();
    proven(&output, &files)
}

/// With a stamp and a field left out: payloads and vectors of one segment change together.
fn stamped_too(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &["named"])?;
    let output = dir.path().join("master.snapshot");
    let arguments = [
        "--stamp",
        "from",
        "--drop-payload",
        "camera",
        "--payload-index",
        "from=keyword",
        "--rename-vector",
        "image=photo",
        "--drop-vector",
        "text",
    ];
    let report = graft(&[&sources[0]], &output, &arguments)?;
    ensure!(
        report["carried"]["rewritten_segments"].as_u64() > Some(0),
        "nothing was rewritten: {}",
        report["carried"]
    );
    let names = Names::from([
        ("image".to_owned(), Some("photo")),
        ("text".to_owned(), None),
    ]);
    let mut expected = renamed(&sources[0].points, &names);
    for point in expected.values_mut() {
        if point["payload"].is_null() {
            point["payload"] = json!({});
        }
        let payload = point["payload"].as_object_mut().ok_or("no payload")?;
        payload.remove("camera");
        payload.insert("from".into(), json!("named"));
    }
    ensure_same(&export(&output)?, expected.values())?;
    proven(&output, &[&sources[0].file])
}

/// Without the vector that keeps a segment from taking points, a server would look for its ids elsewhere and
/// find none: such a master is rebuilt.
fn stays_of_its_kind(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &["named"])?;
    let file = &sources[0].file;
    let output = dir.path().join("master.snapshot");
    let arguments = ["--drop-vector", "image", "--drop-vector", "text"];
    let refused = merging([file], &output)
        .args(arguments)
        .args(["--route", "graft"])
        .run()?
        .code(2)?;
    refused.says(&["nothing is added to it"])?;
    let run = merging([file], &output).args(arguments).run()?.ok()?;
    let report = run.json()?;
    ensure_eq!(report["route"], "rebuild", "the route");
    let names = Names::from([("image".to_owned(), None), ("text".to_owned(), None)]);
    let expected = renamed(&sources[0].points, &names);
    ensure_same(&export(&output)?, expected.values())?;
    // As a server opens it.
    let run = cli![
        "export",
        &output,
        "--filter",
        r#"{"must_not":[{"has_id":[999999]}]}"#
    ]
    .run()?
    .ok()?;
    ensure_same(&run.json_lines()?, expected.values())?;
    cli!["verify", &output, "-q", "--deep", "--against", file]
        .run()?
        .ok()?;
    // A vector that was added to the collection later, as servers since 1.18 write it into segments that they
    // do not build anew.
    let mut tar = Tar::parse(&std::fs::read(file)?)?;
    tar.segment("id_tracker.mappings", |segment| {
        let member = segment.find("segment.json")?;
        let mut state: Value = serde_json::from_slice(&member.data)?;
        let text = &mut state["config"]["vector_data"]["text"];
        text["storage_type"] = json!("InRamChunkedMmap");
        text["index"] = json!({"type": "plain", "options": {}});
        member.set(state.to_string().into_bytes());
        Ok(())
    })?;
    let added = dir.path().join("added.snapshot");
    std::fs::write(&added, tar.bytes())?;
    let other = dir.path().join("other.snapshot");
    let refused = merging([&added], &other)
        .args(["--drop-vector", "image", "--route", "graft"])
        .run()?
        .code(2)?;
    refused.says(&["nothing is added to it"])?;
    Ok(())
}

fn refuses(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let sources = given(env, dir.path(), &["named", "album_2017"])?;
    let output = dir.path().join("master.snapshot");
    let named = &sources[0].file;
    for (arguments, says) in [
        (
            &["--rename-vector", "images=photo"][..],
            "no source has vector 'images'; there are vector 'image', vector 'text'",
        ),
        (&["--drop-vector", "photo"], "no source has vector 'photo'"),
        (&["--rename-vector", "image"], "give it as OLD=NEW"),
        (
            &["--rename-vector", "image=text"],
            "would get the same name",
        ),
        (
            &["--rename-vector", "image="],
            "there can be no other dense one",
        ),
        (
            &["--rename-vector", "image=a/b"],
            "cannot be that of a file",
        ),
        (
            &["--rename-vector", "image=a", "--drop-vector", "image"],
            "left out by --drop-vector",
        ),
    ] {
        merging([named], &output)
            .args(arguments)
            .run()?
            .code(2)?
            .says(&[says])?;
        ensure!(!output.exists(), "{arguments:?} left a file");
    }
    Ok(())
}
