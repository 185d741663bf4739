//! `ingest --to` on a real server, and what it made offline restored there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::rows::lines;
use crate::support::cli::Cli;
use crate::support::points::ensure_same;
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial, temp_dir};

/// Points of the larger ingests.
const POINTS: u64 = 20_000;
/// Times that a run is killed.
const KILLS: u32 = 8;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        env.live("ingest/live/by_year", by_year),
        env.live("ingest/live/refuses", refuses),
        env.live("ingest/live/kinds", |bin| kinds(env, bin)),
        env.live("ingest/live/kill", killed),
        env.live("ingest/live/restored", |bin| restored(env, bin)),
        env.live("ingest/live/beside_a_router", beside_a_router),
    ]
}

fn ingest(server: &Server, file: &Path, more: &[&str]) -> Cli {
    // Other tests here are without it, and go over REST.
    let grpc = ["--grpc", &server.grpc_url()];
    let ingest = cli!["ingest", file, "--to", server.url(), "--json"];
    ingest
        .args(["--collection", "album_{year}"])
        .args(grpc)
        .args(more)
}

/// Vectors that a server leaves as they are.
const DOT: [&str; 4] = ["--size", "4", "--distance", "Dot"];

fn row(id: u64) -> Value {
    let vector = [id % 97, 1, id % 7, 3];
    json!({"id": id, "payload": {"year": 2017 + id % 3, "n": id}, "vector": vector})
}

/// The points of a year, as scroll answers them.
fn of_year(rows: &[Value], year: u64) -> Vec<Value> {
    let mut points: Vec<Value> = rows
        .iter()
        .filter(|row| row["payload"]["year"] == year)
        .cloned()
        .collect();
    points.sort_by_key(|point| point["id"].as_u64());
    points
}

pub fn sum(report: &Value, key: &str) -> u64 {
    let live = report["live"].as_array();
    live.into_iter()
        .flatten()
        .filter_map(|one| one[key].as_u64())
        .sum()
}

fn by_year(bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let dir = temp_dir()?;
    let mut rows: Vec<Value> = (0..3000).rev().map(row).collect();
    let file = lines(dir.path(), "rows.jsonl", &rows)?;
    let more = [
        &DOT[..],
        &["--payload-index", "year=integer", "--hnsw-m", "24"],
    ]
    .concat();
    let first = ingest(&server, &file, &more).run()?.ok()?.json()?;
    ensure_eq!(sum(&first, "added"), 3000, "added");
    ensure_eq!(sum(&first, "proven"), 3000, "proven");
    for year in 2017..2020 {
        let name = format!("album_{year}");
        ensure_same(&server.scroll(&name)?, &of_year(&rows, year))?;
        let info = server.get(&format!("/collections/{name}"))?;
        ensure_eq!(info["config"]["hnsw_config"]["m"], 24, "the config");
        ensure_eq!(
            info["payload_schema"]["year"]["data_type"],
            "integer",
            "the index"
        );
    }
    // Again: nothing is written.
    let again = ingest(&server, &file, &more).run()?.ok()?.json()?;
    ensure_eq!(sum(&again, "same"), 3000, "the same");
    ensure_eq!(
        sum(&again, "proven") + sum(&again, "added") + sum(&again, "changed"),
        0,
        "written"
    );
    // A change, a new one, and one of somebody else.
    rows[0]["payload"]["n"] = json!("changed");
    rows.push(row(5000));
    let file = lines(dir.path(), "rows.jsonl", &rows)?;
    let other =
        json!({"points": [{"id": 9999, "vector": [1, 2, 3, 4], "payload": {"by": "router"}}]});
    server.put("/collections/album_2017/points?wait=true", &other)?;
    let skipped = ingest(
        &server,
        &file,
        &[&more[..], &["--on-existing", "skip"]].concat(),
    );
    let skipped = skipped.run()?.ok()?.json()?;
    ensure_eq!(
        (sum(&skipped, "skipped"), sum(&skipped, "added")),
        (1, 1),
        "skipped, added"
    );
    let failing = ingest(
        &server,
        &file,
        &[&more[..], &["--on-existing", "fail"]].concat(),
    );
    failing
        .run()?
        .code(12)?
        .says(&["point 2999", "another content"])?;
    let third = ingest(&server, &file, &more).run()?.ok()?.json()?;
    ensure_eq!(
        (sum(&third, "changed"), sum(&third, "added")),
        (1, 0),
        "changed, added"
    );
    ensure_eq!(server.count("album_2017")?, 1001, "with the router's");
    let year = rows[0]["payload"]["year"].as_u64().ok_or("no year")?;
    ensure_same(
        &server.scroll(&format!("album_{year}"))?,
        &of_year(&rows, year),
    )?;
    Ok(())
}

fn refuses(bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let dir = temp_dir()?;
    let rows: Vec<Value> = (0..30).map(row).collect();
    let file = lines(dir.path(), "rows.jsonl", &rows)?;
    // One of three is another kind of collection: nothing is written to the others.
    server.put(
        "/collections/album_2018",
        &json!({"vectors": {"size": 5, "distance": "Dot"}}),
    )?;
    ingest(&server, &file, &DOT)
        .run()?
        .code(12)?
        .says(&["album_2018", "not as planned"])?;
    ensure!(
        server.get("/collections/album_2017").is_err(),
        "album_2017 was made"
    );
    server.delete("/collections/album_2018")?;
    ingest(&server, &file, &DOT).run()?.ok()?;
    let alias = json!({"actions": [{"create_alias": {"collection_name": "album_2017", "alias_name": "now"}}]});
    server.post("/collections/aliases", &alias)?;
    let to = |name: &str| {
        cli!["ingest", &file, "--to", server.url(), "--collection", name]
            .args(DOT)
            .run()
    };
    to("now")?.code(12)?.says(&["alias of album_2017"])?;
    to("a/b")?.code(2)?.says(&["a/b"])?;
    // A value that no collection can be called.
    let odd = lines(
        dir.path(),
        "odd.jsonl",
        &[json!({"id": 1, "vector": [1, 2, 3, 4], "payload": {"year": "20/17"}})],
    )?;
    ingest(&server, &odd, &DOT).run()?.ok()?;
    ensure_eq!(server.count("album_20%252F17")?, 1, "under its own name");
    // An index that a collection lacks is told, not made.
    let report = ingest(
        &server,
        &file,
        &[&DOT[..], &["--payload-index", "n=integer"]].concat(),
    );
    let report = report.run()?.ok()?.json()?;
    ensure!(
        report["live"][0]["notes"]
            .to_string()
            .contains("no payload index on n"),
        "{report}"
    );
    Ok(())
}

/// All kinds of vectors, as exports of snapshots have them.
fn kinds(env: &Env, bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let dir = temp_dir()?;
    for name in [
        "named",
        "sparse_dense",
        "multivector",
        "uuid_ids",
        "uint8",
        "float16",
        "three_shards",
        "empty",
    ] {
        let case = env.case(name);
        let file = dir.path().join(format!("{name}.parquet"));
        cli!["export", &case.snapshot_gz, "-o", &file].run()?.ok()?;
        let report = cli![
            "ingest",
            &file,
            "--to",
            server.url(),
            "--collection",
            name,
            "--json"
        ]
        .run()?
        .ok()?
        .json()?;
        ensure_eq!(
            sum(&report, "proven"),
            case.points() as u64,
            "{name}: proven"
        );
        let live = format!("{}/{name}", server.url());
        // The server normalized some vectors again.
        let run = cli![
            "verify",
            live,
            "--no-provenance",
            "--against",
            &case.snapshot_gz
        ]
        .run()?;
        ensure!(
            matches!(run.status.code(), Some(0 | 3)),
            "{name}: {}",
            run.told()
        );
        ensure_eq!(server.count(name)?, case.points() as u64, "{name}: points");
    }
    Ok(())
}

fn killed(bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let dir = temp_dir()?;
    let rows: Vec<Value> = (0..POINTS).map(row).collect();
    let file = lines(dir.path(), "rows.jsonl", &rows)?;
    let slowly = [&DOT[..], &["--limit-rate", "2M"]].concat();
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut in_between = 0;
    for _ in 0..KILLS {
        for year in 2017..2020 {
            // It may not have come that far.
            let _ = server.delete(&format!("/collections/album_{year}"));
        }
        let running = ingest(&server, &file, &slowly).start()?;
        std::thread::sleep(Duration::from_millis(random.random_range(300..2500)));
        drop(running);
        let there: u64 = (2017..2020)
            .filter_map(|year| server.count(&format!("album_{year}")).ok())
            .sum();
        in_between += u32::from(there > 0 && there < POINTS);
        let report = ingest(&server, &file, &DOT).run()?.ok()?.json()?;
        let written = sum(&report, "added") + sum(&report, "changed");
        ensure_eq!(written + sum(&report, "same"), POINTS, "points");
        for year in 2017..2020 {
            ensure_same(
                &server.scroll(&format!("album_{year}"))?,
                &of_year(&rows, year),
            )?;
        }
    }
    ensure!(in_between > 0, "it was never killed while it wrote");
    Ok(())
}

/// Snapshots that were made without a server are green on one, and answer.
fn restored(env: &Env, bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let dir = temp_dir()?;
    let case = env.case("album_2017");
    let file = dir.path().join("points.parquet");
    cli!["export", &case.snapshot_gz, "-o", &file].run()?.ok()?;
    let pattern = dir.path().join("album_{year}.snapshot");
    cli!["ingest", &file, "--rest", "undated", "-o", &pattern]
        .run()?
        .ok()?;
    for (value, points) in crate::split::by_value(&case.truth()?, "/year") {
        let value = if value == "none" {
            "undated".to_owned()
        } else {
            value
        };
        let name = format!("album_{value}");
        let snapshot = dir.path().join(format!("{name}.snapshot"));
        server.upload(&name, &snapshot)?;
        let info = server.wait_green(&name, Duration::from_secs(30))?;
        ensure_eq!(
            info["points_count"].as_u64(),
            Some(points.len() as u64),
            "{name}: points"
        );
        ensure_same(&server.scroll(&name)?, &points)?;
        let query = json!({"query": points[0]["vector"], "limit": 1});
        let answer = server.post(&format!("/collections/{name}/points/query"), &query)?;
        ensure_eq!(
            answer["points"][0]["id"],
            points[0]["id"],
            "{name}: the nearest"
        );
        // It takes changes.
        let extra =
            json!({"points": [{"id": 123_456_789, "vector": points[0]["vector"], "payload": {}}]});
        server.put(&format!("/collections/{name}/points?wait=true"), &extra)?;
        ensure_eq!(
            server.count(&name)?,
            points.len() as u64 + 1,
            "{name}: after an update"
        );
    }
    Ok(())
}

/// A Python that has Qdrant's client.
fn client() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("python3"))
        .find(|bin| {
            let run = Command::new(bin)
                .args(["-c", "import qdrant_client"])
                .output();
            run.is_ok_and(|output| output.status.success())
        })
}

/// What the guide's router does for a year of pictures; where there is no client, the same call by hand.
const ROUTER: &str = r#"
import json, sys
from qdrant_client import QdrantClient, models
client = QdrantClient(url=sys.argv[1])
points = [models.PointStruct(**json.loads(line)) for line in open(sys.argv[2])]
client.upsert(collection_name=sys.argv[3], points=points, wait=True)
"#;

/// The guide's router and `ingest` feed the same collections.
fn beside_a_router(bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let dir = temp_dir()?;
    let rows: Vec<Value> = (0..600).map(row).collect();
    let file = lines(dir.path(), "rows.jsonl", &rows[..300])?;
    ingest(&server, &file, &DOT).run()?.ok()?;
    let uploaded: Vec<Value> = of_year(&rows, 2017).into_iter().skip(50).collect();
    match client() {
        Some(python) => {
            let more = lines(dir.path(), "more.jsonl", &uploaded)?;
            let output = Command::new(python)
                .args(["-c", ROUTER, &server.url()])
                .arg(&more)
                .arg("album_2017")
                .output()?;
            ensure!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        None => {
            let body = json!({ "points": uploaded });
            server.put("/collections/album_2017/points?wait=true", &body)?;
        }
    }
    let file = lines(dir.path(), "rows.jsonl", &rows)?;
    let report = ingest(&server, &file, &DOT).run()?.ok()?.json()?;
    ensure_eq!(
        sum(&report, "changed"),
        0,
        "points that the router wrote otherwise"
    );
    let years = (2017..2020).map(|year| format!("{}/album_{year}", server.url()));
    let master = dir.path().join("master.snapshot");
    cli!["merge"]
        .args(years)
        .arg("-o")
        .arg(&master)
        .run()?
        .ok()?;
    let found = crate::export::exported(&master)?;
    ensure_eq!(ensure_same(&found, &rows)?, 600, "points of the master");
    Ok(())
}
