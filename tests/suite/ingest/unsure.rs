//! `ingest --to` a server that does not find, or not yet show, what it has: a scripted one, over REST.

use std::path::Path;

use serde_json::{Value, json};

use super::live::sum;
use super::rows::lines;
use crate::server::album;
use crate::support::cli::{Cli, Run};
use crate::support::fake::Fake;
use crate::support::scripted::{Fault, Scripted};
use crate::support::{Env, Outcome, Trial, temp_dir};

/// The collection, and its points.
const PATH: &str = "/collections/album";
const POINTS: &str = "/collections/album/points";
/// More than a run asks for.
const ALWAYS: usize = 99_999;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("ingest/unsure/found_later", || found_later(env)),
        Trial::new("ingest/unsure/never_at_rest", || never_at_rest(env)),
        Trial::new("ingest/unsure/shown_later", || shown_later(env)),
    ]
}

fn body(result: &Value) -> Fault {
    Fault::Body(json!({"result": result, "status": "ok", "time": 0.001}))
}

/// A server that optimizes for the next `times` that it is asked.
fn optimizing(env: &Env, times: usize) -> Outcome<Scripted> {
    let (collection, snapshot) = album(env)?;
    let mut info = collection.info.clone();
    info["status"] = "yellow".into();
    let server = Scripted::start(Fake::new("album", collection, snapshot))?;
    server.fault_exactly("GET", PATH, times, body(&info));
    Ok(server)
}

fn point(id: u64, payload: &str) -> Value {
    json!({"id": id, "vector": vec![0.25; 16], "payload": {"n": payload}})
}

fn ingest(server: &Scripted, file: &Path, rule: &str) -> Cli {
    let ingest = cli![
        "ingest",
        file,
        "--to",
        server.url(),
        "--collection",
        "album",
        "--json"
    ];
    ingest.args([
        "--size",
        "16",
        "--distance",
        "Cosine",
        "--on-existing",
        rule,
    ])
}

fn writes(server: &Scripted) -> usize {
    server
        .seen()
        .iter()
        .filter(|one| one.method == "PUT")
        .count()
}

/// A point that is there is not replaced because it was not found at once.
fn found_later(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let file = lines(dir.path(), "rows.jsonl", &[point(7, "new")])?;
    let run = |rule: &str| -> Outcome<Run> {
        let server = optimizing(env, 12)?;
        server.fault_exactly("POST", POINTS, 1, body(&json!([])));
        server.fault_exactly("POST", POINTS, ALWAYS, body(&json!([point(7, "old")])));
        let run = ingest(&server, &file, rule).run()?;
        ensure_eq!(writes(&server), 0, "points that were written");
        server.ensure_faults_came_up()?;
        Ok(run)
    };
    let report = run("skip")?.ok()?.json()?;
    ensure_eq!(
        (sum(&report, "skipped"), sum(&report, "added")),
        (1, 0),
        "skipped, added"
    );
    ensure_eq!(sum(&report, "unsure"), 0, "unsure");
    run("fail")?
        .code(12)?
        .says(&["point 7", "another content"])?;
    Ok(())
}

/// After a minute, what was not found is written with skip, and told; fail writes nothing.
fn never_at_rest(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let file = lines(dir.path(), "rows.jsonl", &[point(7, "new")])?;
    let start = || -> Outcome<_> {
        let server = optimizing(env, ALWAYS)?;
        server.fault_exactly("POST", POINTS, 2, body(&json!([])));
        server.fault_exactly("POST", POINTS, ALWAYS, body(&json!([point(7, "new")])));
        server.fault(
            "PUT",
            POINTS,
            ALWAYS,
            body(&json!({"operation_id": 1, "status": "completed"})),
        );
        Ok(server)
    };
    let (skipping, failing) = (start()?, start()?);
    let running = ingest(&failing, &file, "fail").start()?;
    let report = ingest(&skipping, &file, "skip").run()?.code(3)?.json()?;
    ensure_eq!(
        (sum(&report, "unsure"), sum(&report, "added")),
        (1, 1),
        "unsure, added"
    );
    ensure_eq!(writes(&skipping), 1, "points that were written");
    running
        .wait()?
        .code(12)?
        .says(&["optimized", "60 s", "green"])?;
    ensure_eq!(writes(&failing), 0, "points that were written");
    Ok(())
}

/// Points that are not shown when they are read back are read again, however many they are.
fn shown_later(env: &Env) -> Outcome {
    /// More than is held back at once, together.
    const POINTS_SENT: u64 = 4;
    const POINT_BYTES: usize = 17 << 20;
    let dir = temp_dir()?;
    let payload = "x".repeat(POINT_BYTES);
    let rows: Vec<Value> = (0..POINTS_SENT).map(|id| point(id, &payload)).collect();
    let file = lines(dir.path(), "rows.jsonl", &rows)?;
    let server = optimizing(env, 1)?;
    // Asked for one by one: before they are written, when they are read back, and again.
    server.fault_exactly("POST", POINTS, 2 * rows.len(), body(&json!([])));
    for row in &rows {
        server.fault_exactly("POST", POINTS, 1, body(&json!([row])));
    }
    server.fault(
        "PUT",
        POINTS,
        ALWAYS,
        body(&json!({"operation_id": 1, "status": "completed"})),
    );
    let report = ingest(&server, &file, "replace").run()?.ok()?.json()?;
    ensure_eq!(sum(&report, "proven"), POINTS_SENT, "proven");
    ensure_eq!(sum(&report, "differing"), 0, "differing");
    server.ensure_faults_came_up()
}
