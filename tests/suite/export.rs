//! `export`: every line is what the server's own scroll answered, for every case of every version, and
//! what `--ids`, `--filter`, `--no-vectors` and `--limit` leave is what they ask for, computed here from
//! the truth.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::cases::Case;
use crate::support::craft::Tar;
use crate::support::points::{PointId, ensure_same};
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = env.per_case("export/truth", |case| equals_truth(&case));
    trials.extend([
        Trial::new("export/ids", || ids(env)),
        Trial::new("export/ids_of_all_shards", || ids_of_all_shards(env)),
        Trial::new("export/filter_indexed", || {
            filters(&env.case("all_indexes"))
        }),
        // Without an index on most of the fields, and with an operation log behind the segments.
        Trial::new("export/filter_unindexed", || filters(&env.case("edited"))),
        Trial::new("export/no_vectors_and_limit", || no_vectors_and_limit(env)),
        Trial::new("export/not_finite", || not_finite(env)),
        Trial::new("export/refuses", || refuses(env)),
    ]);
    trials
}

/// The points of a snapshot, as `export` prints them.
pub fn exported(snapshot: &Path) -> Outcome<Vec<Value>> {
    cli!["export", snapshot].run()?.ok()?.json_lines()
}

fn equals_truth(case: &Case) -> Outcome {
    let dir = temp_dir()?;
    let snapshot = case.unpack(dir.path())?;
    let truth = case.truth()?;
    let scratch = dir.path().join("scratch");
    std::fs::create_dir(&scratch)?;
    let run = cli!["export", &snapshot, "--scratch", &scratch]
        .run()?
        .ok()?;
    let compared = ensure_same(&run.json_lines()?, &truth)?;
    ensure_eq!(compared, case.points(), "points compared");
    ensure_eq!(names_in(&scratch)?, Vec::<String>::new(), "left in scratch");

    // The compressed file is the same to it, down to the byte.
    let again = cli!["export", &case.snapshot_gz].run()?.ok()?;
    ensure!(again.stdout == run.stdout, "the .gz gives other lines");
    Ok(())
}

/// JSON has no NaN: what stands for it is said, and may be chosen.
fn not_finite(env: &Env) -> Outcome {
    let case = env.case("album_2017");
    let dir = temp_dir()?;
    let file = case.unpack(dir.path())?;
    let mut tar = Tar::parse(&std::fs::read(&file)?)?;
    tar.segment("matrix.dat", |segment| {
        let member = segment.find("matrix.dat")?;
        // Behind a header of 4 bytes lie vectors of 16 floats.
        let mut data = member.data.clone();
        for (at, value) in [(4, f32::NAN), (4 + 64 * 7 + 8, f32::NEG_INFINITY)] {
            data[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        member.set(data);
        Ok(())
    })?;
    std::fs::write(&file, tar.bytes())?;
    let export = |args: &[&str]| cli!["export", &file].args(args).run();
    let run = export(&[])?.code(3)?;
    let run = run.says(&["2 points", "NaN", "null stands"])?;
    let lines = run.json_lines()?;
    ensure_eq!(lines.len(), case.points(), "lines");
    let with_null = |line: &&Value| {
        let vector = line["vector"].as_array();
        vector.is_some_and(|it| it.iter().any(Value::is_null))
    };
    let nulls: Vec<String> = lines
        .iter()
        .filter(with_null)
        .map(|line| line["id"].to_string())
        .collect();
    ensure_eq!(nulls.len(), 2, "lines with null");
    for id in &nulls {
        ensure!(run.stderr.contains(id.as_str()), "{}", run.told());
    }
    let run = export(&["--on-nan", "skip"])?.code(3)?;
    let lines = run.says(&["left out"])?.json_lines()?;
    ensure_eq!(lines.len(), case.points() - 2, "lines without those");
    ensure_eq!(lines.iter().filter(with_null).count(), 0, "lines with null");
    export(&["--on-nan", "fail"])?
        .code(12)?
        .says(&["JSON cannot write", "--on-nan"])?;
    // Without vectors there is nothing to say.
    export(&["--no-vectors", "--on-nan", "fail"])?.ok()?;
    Ok(())
}

fn ids(env: &Env) -> Outcome {
    let case = env.case("uuid_ids");
    let truth = case.truth()?;
    let uuids: Vec<&str> = truth.iter().filter_map(|p| p["id"].as_str()).collect();
    ensure_eq!(uuids.len(), 400, "UUIDs in the case");
    // In no order, one twice, one in capitals; numbers are even there.
    let capitals = uuids[7].to_uppercase();
    let asked = format!("{},798,0,{capitals},0,6,{}", uuids[399], uuids[0]);
    let want: Vec<&Value> = truth
        .iter()
        .filter(|p| {
            [json!(0), json!(6), json!(798)].contains(&p["id"])
                || [uuids[0], uuids[7], uuids[399]]
                    .iter()
                    .any(|uuid| p["id"] == *uuid)
        })
        .collect();
    ensure_eq!(want.len(), 6, "points wanted");
    let run = cli!["export", &case.snapshot_gz, "--ids", &asked]
        .run()?
        .ok()?;
    ensure_same(&run.json_lines()?, want.iter().copied())?;

    // What is there is printed all the same; what is not is named, and the exit code says so.
    let nobody = "00000000-0000-4000-8000-00000000beef";
    let run = cli![
        "export",
        &case.snapshot_gz,
        "--ids",
        format!("6,7,{nobody}")
    ]
    .run()?
    .code(3)?
    .says(&["not in ", "uuid_ids.snapshot.gz", "7, 00000000", nobody])?;
    let six = truth.iter().filter(|p| p["id"] == 6);
    ensure_eq!(ensure_same(&run.json_lines()?, six)?, 1, "points");
    Ok(())
}

fn ids_of_all_shards(env: &Env) -> Outcome {
    for name in ["three_shards", "shard_keys"] {
        let case = env.case(name);
        let truth = case.truth()?;
        // More than are read at once.
        let want: Vec<&Value> = truth
            .iter()
            .filter(|p| p["id"].as_u64() < Some(700))
            .collect();
        ensure_eq!(want.len(), 700, "points wanted of {name}");
        let ids: Vec<String> = (0..700).rev().map(|id: u64| id.to_string()).collect();
        let run = cli!["export", &case.snapshot_gz, "--ids", ids.join(",")]
            .run()?
            .ok()?;
        ensure_same(&run.json_lines()?, want)?;
    }
    Ok(())
}

/// A filter in Qdrant's language, and the same as a question to a point of the truth.
type Question = (Value, fn(&Value) -> bool);

/// Every kind of condition that the payloads of the cases can answer.
fn questions() -> Vec<Question> {
    fn number(point: &Value, at: &str) -> Option<f64> {
        point["payload"].pointer(at).and_then(Value::as_f64)
    }
    fn words(point: &Value) -> Vec<&str> {
        let caption = point["payload"]["caption"].as_str().unwrap_or_default();
        caption.split(' ').collect()
    }
    fn tags(point: &Value) -> Vec<&str> {
        let tags = point["payload"]["tags"].as_array();
        tags.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }
    vec![
        (
            json!({"must": [{"key": "year", "match": {"value": 2016}}]}),
            |p| p["payload"]["year"] == 2016,
        ),
        (
            json!({"must_not": [{"key": "year", "match": {"any": [2016, 2017, 2018]}}]}),
            |p| {
                ![2016, 2017, 2018]
                    .iter()
                    .any(|year| p["payload"]["year"] == *year)
            },
        ),
        (
            json!({"should": [{"key": "camera", "match": {"value": "x100"}}, {"key": "fav", "match": {"value": true}}]}),
            |p| p["payload"]["camera"] == "x100" || p["payload"]["fav"] == true,
        ),
        (
            json!({"must": [{"key": "score", "range": {"gte": 250_000.0, "lt": 750_000.0}}]}),
            |p| number(p, "/score").is_some_and(|score| (250_000.0..750_000.0).contains(&score)),
        ),
        (
            json!({"must": [{"key": "exif.iso", "range": {"gt": 5000}}]}),
            |p| number(p, "/exif/iso").is_some_and(|iso| iso > 5000.0),
        ),
        (
            json!({"must": [{"key": "taken", "range": {"gte": "2018-01-01T00:00:00Z", "lt": "2020-01-01T02:00:00+02:00"}}]}),
            |p| {
                let taken = p["payload"]["taken"].as_str().unwrap_or_default();
                ("2018-01-01T00:00:00Z".."2020-01-01T00:00:00Z").contains(&taken)
            },
        ),
        (
            json!({"must": [{"key": "exif.gps", "geo_bounding_box": {
                "top_left": {"lat": 60.0, "lon": -50.0}, "bottom_right": {"lat": -20.0, "lon": 120.0}}}]}),
            |p| {
                number(p, "/exif/gps/lat").is_some_and(|lat| (-20.0..60.0).contains(&lat))
                    && number(p, "/exif/gps/lon").is_some_and(|lon| (-50.0..120.0).contains(&lon))
            },
        ),
        (
            json!({"must": [{"key": "tags", "match": {"any": ["city"]}}]}),
            |p| tags(p).contains(&"city"),
        ),
        (
            json!({"must": [{"key": "tags", "values_count": {"gte": 2}}]}),
            |p| tags(p).len() >= 2,
        ),
        (json!({"must": [{"is_null": {"key": "camera"}}]}), |p| {
            p["payload"].get("camera") == Some(&Value::Null)
        }),
        (json!({"must": [{"is_empty": {"key": "tags"}}]}), |p| {
            tags(p).is_empty()
        }),
        (
            json!({"must": [{"has_id": [3, 70, 500, 12_345_678]}]}),
            |p| [3, 70, 500].iter().any(|id| p["id"] == *id),
        ),
        (
            json!({"must": [{"key": "caption", "match": {"text": "fox sea"}}], "must_not": [{"key": "fav", "match": {"value": false}}]}),
            |p| {
                ["fox", "sea"].iter().all(|word| words(p).contains(word))
                    && p["payload"]["fav"] != false
            },
        ),
    ]
}

fn filters(case: &Case) -> Outcome {
    let dir = temp_dir()?;
    let snapshot = case.unpack(dir.path())?;
    let truth = case.truth()?;
    let indexed = case.info["payload_schema"]["caption"].is_object();
    for (filter, question) in questions() {
        // Without an index on it, a text is searched as a part of the value, not by its words.
        if filter.to_string().contains("\"text\"") && !indexed {
            continue;
        }
        let want: Vec<&Value> = truth.iter().filter(|p| question(p)).collect();
        ensure!(
            !want.is_empty() && want.len() < truth.len(),
            "{filter} tells nothing apart"
        );
        let run = cli!["export", &snapshot, "--filter", filter.to_string()]
            .run()?
            .ok()?;
        ensure_same(&run.json_lines()?, want)
            .map_err(|e| format!("{filter}: {}", e.message().unwrap_or("?")))?;
    }
    let nobody = json!({"must": [{"key": "year", "match": {"value": 1999}}]}).to_string();
    let run = cli!["export", &snapshot, "--filter", nobody].run()?.ok()?;
    ensure_eq!(run.stdout, "", "the points of 1999");
    Ok(())
}

fn no_vectors_and_limit(env: &Env) -> Outcome {
    let case = env.case("named");
    let truth = case.truth()?;
    let bare: Vec<Value> = truth
        .iter()
        .map(|p| json!({"id": p["id"], "payload": p["payload"]}))
        .collect();
    let run = cli!["export", &case.snapshot_gz, "--no-vectors"]
        .run()?
        .ok()?;
    ensure_same(&run.json_lines()?, &bare)?;

    for limit in [0, 1, 17, 900, 901] {
        let run = cli!["export", &case.snapshot_gz, "--limit", limit.to_string()]
            .run()?
            .ok()?;
        ensure_same(&run.json_lines()?, truth.iter().take(limit))?;
    }
    // All of them together: of those that match, in id order, the first.
    let filter = json!({"must": [{"has_vector": "text"}]}).to_string();
    let matching = truth.iter().zip(&bare);
    let want: Vec<&Value> = matching
        .filter(|(p, _)| p["vector"]["text"].is_array())
        .map(|(_, bare)| bare)
        .collect();
    ensure_eq!(want.len(), 750, "points with a text vector");
    let run = cli![
        "export",
        &case.snapshot_gz,
        "--no-vectors",
        "--limit",
        "700",
        "--filter",
        &filter
    ]
    .run()?
    .ok()?;
    ensure_same(&run.json_lines()?, want[..700].iter().copied())?;
    let run = cli![
        "export",
        &case.snapshot_gz,
        "--ids",
        "9,5,2",
        "--limit",
        "2",
        "--no-vectors"
    ]
    .run()?
    .ok()?;
    let ids = run
        .json_lines()?
        .iter()
        .map(PointId::of)
        .collect::<Outcome<Vec<_>>>()?;
    ensure_eq!(
        ids,
        vec![PointId::Num(2), PointId::Num(5)],
        "the first two of three ids"
    );
    Ok(())
}

fn refuses(env: &Env) -> Outcome {
    let snapshot = &env.case("plain_dot").snapshot_gz;
    for (args, says) in [
        (vec!["--ids", "1,x"], vec!["--ids", "x"]),
        (vec!["--ids", "-1"], vec!["-1"]),
        (vec!["--filter", "{"], vec!["reading the filter"]),
        (vec!["--filter", r#"{"mast": []}"#], vec!["mast"]),
        (
            vec!["--ids", "1", "--filter", r#"{"must": [{"has_id": [1]}]}"#],
            vec!["--ids", "--filter"],
        ),
        (vec!["--filter", "{}"], vec!["no clause"]),
        (vec!["--limit", "-1"], vec!["-1"]),
    ] {
        let run = cli!["export", snapshot]
            .args(&args)
            .run()?
            .code(2)?
            .says(&says)?;
        ensure_eq!(run.stdout, "", "printed for {args:?}");
    }
    Ok(())
}
