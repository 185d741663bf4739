//! Stamped masters on a real server: green without indexing, filters by the stamp and by every payload
//! index that it builds when it loads them, an update and a delete after it.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::points::ensure_same;
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial, temp_dir};

use super::{Points, given, graft, union};

/// A grafted master has nothing left to index.
const GREEN_WITHIN: Duration = Duration::from_secs(10);
const ALBUMS: [&str; 3] = ["album_2017", "album_2018", "album_2019_overlap"];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![env.live("graft/live/stamped", |bin| stamped(env, bin))]
}

fn count(server: &Server, filter: &Value) -> Outcome<u64> {
    let body = json!({"exact": true, "filter": filter});
    let answer = server.post("/collections/albums/points/count", &body)?;
    Ok(answer["count"].as_u64().ok_or("no count")?)
}

/// Exact counts by stamp and by payload index, and the points, as they are to be.
fn holds(server: &Server, expected: &Points) -> Outcome {
    ensure_same(&server.scroll("albums")?, expected.values())?;
    let of = |is: &dyn Fn(&Value) -> bool| {
        expected
            .values()
            .filter(|point| is(&point["payload"]))
            .count() as u64
    };
    for year in [2017, 2018, 2019] {
        let filter = json!({"must": [{"key": "year", "match": {"value": year}}]});
        let wanted = of(&|payload| payload["year"] == json!(year));
        ensure_eq!(count(server, &filter)?, wanted, "of {year}");
        let range = json!({"must": [{"key": "year", "range": {"gte": year}}]});
        let wanted = of(&|payload| payload["year"].as_u64() >= Some(year));
        ensure_eq!(count(server, &range)?, wanted, "from {year} on");
    }
    let cameras: Vec<&str> = expected
        .values()
        .filter_map(|point| point["payload"]["camera"].as_str())
        .collect();
    let camera = cameras.first().ok_or("no camera")?;
    let filter = json!({"must": [{"key": "camera", "match": {"value": camera}}]});
    let wanted = of(&|payload| payload["camera"] == **camera);
    ensure_eq!(count(server, &filter)?, wanted, "of {camera}");
    let filter = json!({"must": [{"is_empty": {"key": "score"}}]});
    ensure_eq!(
        count(server, &filter)?,
        expected.len() as u64,
        "without a score"
    );
    Ok(())
}

/// The nearest points of one year are of that year, and as near as an exact search finds.
fn searches(server: &Server, year: u64, expected: &Points) -> Outcome {
    let filter = json!({"must": [{"key": "year", "match": {"value": year}}]});
    let (mut hits, mut all) = (0, 0);
    for query in expected.values().step_by(expected.len() / 20) {
        let query = &query["id"];
        let ask = |exact: bool| -> Outcome<Vec<Value>> {
            let body = json!({"query": query, "limit": 10, "filter": filter, "with_payload": true,
                "params": {"exact": exact}});
            let answer = server.post("/collections/albums/points/query", &body)?;
            Ok(answer["points"].as_array().cloned().ok_or("no points")?)
        };
        let (found, exact) = (ask(false)?, ask(true)?);
        for point in found.iter().chain(&exact) {
            ensure_eq!(point["payload"]["year"], json!(year), "the year of {point}");
        }
        all += exact.len();
        let is_found = |one: &&Value| found.iter().any(|other| other["id"] == one["id"]);
        hits += exact.iter().filter(is_found).count();
    }
    ensure!(
        all > 100 && hits * 10 >= all * 9,
        "{hits} of {all} were found"
    );
    Ok(())
}

fn stamped(env: &Env, bin: &Path) -> Outcome {
    let dir = temp_dir()?;
    let mut sources = given(env, dir.path(), &ALBUMS)?;
    let master = dir.path().join("master.snapshot");
    let args = [
        "--stamp",
        "year",
        "--stamp-value",
        "album_2017=2017",
        "--stamp-value",
        "album_2018=2018",
        "--stamp-value",
        "album_2019_overlap=2019",
        "--payload-index",
        "year=integer",
        "--payload-index",
        "file=keyword",
        "--drop-payload",
        "score",
    ];
    graft(&sources.iter().collect::<Vec<_>>(), &master, &args)?;
    for (given, year) in sources.iter_mut().zip(2017..) {
        for point in given.points.values_mut() {
            point["payload"]["year"] = json!(year);
            if let Some(payload) = point["payload"].as_object_mut() {
                payload.remove("score");
            }
        }
    }
    let held: Vec<&Points> = sources.iter().map(|given| &given.points).collect();
    let mut expected = union(&held, "last")?.points;
    let mut server = Server::start(bin)?;
    server.upload("albums", &master)?;
    let info = server.wait_green("albums", GREEN_WITHIN)?;
    let indexed = info["indexed_vectors_count"].as_u64().unwrap_or(0);
    ensure!(
        indexed >= expected.len() as u64 * 9 / 10,
        "only {indexed} vectors are in an index: {info}"
    );
    for field in ["year", "camera", "file"] {
        let schema = &info["payload_schema"][field];
        ensure!(schema.is_object(), "no index of {field}: {info}");
        if field == "year" {
            ensure_eq!(schema["points"], json!(expected.len()), "points of {field}");
        }
    }
    holds(&server, &expected)?;
    searches(&server, 2018, &expected)?;
    // Changed, deleted, moved from one year to another.
    let path = "/collections/albums/points";
    let ids: Vec<_> = expected.keys().cloned().collect();
    let json_id = |at: usize, points: &Points| points[&ids[at]]["id"].clone();
    for at in [0, ids.len() / 2, ids.len() - 2] {
        let (moved, gone) = (json_id(at, &expected), json_id(at + 1, &expected));
        let body = json!({"payload": {"year": 2018}, "points": [moved]});
        server.post(&format!("{path}/payload?wait=true"), &body)?;
        let point = expected.get_mut(&ids[at]).ok_or("a point is gone")?;
        point["payload"]["year"] = json!(2018);
        server.post(
            &format!("{path}/delete?wait=true"),
            &json!({"points": [gone]}),
        )?;
        expected.remove(&ids[at + 1]);
    }
    holds(&server, &expected)?;
    server.restart()?;
    server.wait_green("albums", GREEN_WITHIN)?;
    holds(&server, &expected)?;
    searches(&server, 2017, &expected)?;
    server.stop()
}
