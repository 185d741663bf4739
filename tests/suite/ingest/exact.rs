//! What must not go wrong quietly: numbers with all their digits, vectors that are missing or of another distance, files
//! that are read, and names.

use std::path::Path;

use serde_json::{Value, json};

use super::rows::lines;
use crate::export::exported;
use crate::support::points::ensure_same;
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("ingest/exact/numbers", numbers),
        env.live("ingest/exact/numbers_on_a_server", numbers_on_a_server),
        Trial::new("ingest/exact/vectors", vectors),
        Trial::new("ingest/exact/keeps_what_it_reads", || {
            keeps_what_it_reads(env)
        }),
        Trial::new("ingest/exact/names", names),
    ]
}

/// Points whose payloads have numbers with all their digits, which JSON text does not always give back.
fn with_digits() -> Vec<Value> {
    let number = |id: u32| {
        let share = (f64::from(id) * 0.618_033_988_749_894_9).fract();
        let lat = 180.0 * share - 90.0;
        json!({"lat": lat, "list": [lat / 3.0, 1e12 * lat, 1e-9 * share, 1e-15 * share]})
    };
    (0..2000_u32)
        .map(|id| json!({"id": id, "vector": [1.0], "payload": {"gps": number(id)}}))
        .collect()
}

/// They become what a server would have of them, and stay that by every route.
fn numbers() -> Outcome {
    let dir = temp_dir()?;
    let rows = with_digits();
    let file = lines(dir.path(), "rows.jsonl", &rows)?;
    let out = dir.path().join("out.snapshot");
    cli![
        "ingest",
        &file,
        "--size",
        "1",
        "--distance",
        "Dot",
        "-o",
        &out
    ]
    .run()?
    .ok()?;
    let found = exported(&out)?;
    ensure_eq!(found.len(), rows.len(), "points");
    for (found, given) in found.iter().zip(&rows) {
        for at in [
            "/payload/gps/lat",
            "/payload/gps/list/1",
            "/payload/gps/list/2",
        ] {
            let of = |point: &Value| {
                point
                    .pointer(at)
                    .and_then(Value::as_f64)
                    .unwrap_or(f64::NAN)
            };
            let (found, given) = (of(found), of(given));
            let is_near = (found - given).abs() <= given.abs() * 1e-14;
            ensure!(is_near, "{found} for {given}");
        }
    }
    let mut last = out;
    for route in ["rebuild", "graft", "rebuild"] {
        let next = dir.path().join(format!(
            "{route}-{}",
            last.file_name().map_or("".into(), |n| n.to_string_lossy())
        ));
        cli!["merge", &last, "--route", route, "-o", &next]
            .run()?
            .ok()?;
        super::is_proven(&next, &last)?;
        last = next;
    }
    // So it is with a table, and with what stays beside a field that is left out.
    let table = dir.path().join("digits.parquet");
    let back = dir.path().join("back.snapshot");
    cli!["export", &last, "-o", &table].run()?.ok()?;
    cli!["ingest", &table, "-o", &back].run()?.ok()?;
    super::is_proven(&back, &last)?;
    let less = dir.path().join("less.snapshot");
    let merge = cli![
        "merge",
        &back,
        "--route",
        "graft",
        "--drop-payload",
        "gps.lat"
    ];
    merge.arg("-o").arg(&less).run()?.ok()?;
    let verify = cli!["verify", &less, "--deep", "--against", &back];
    verify.run()?.ok()?.prints(&[": PROVEN"])?;
    Ok(())
}

/// So it is on a server, over gRPC.
fn numbers_on_a_server(bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let dir = temp_dir()?;
    let file = lines(dir.path(), "rows.jsonl", &with_digits())?;
    let out = dir.path().join("out.snapshot");
    let flags = ["--size", "1", "--distance", "Dot"];
    cli!["ingest", &file, "-o", &out].args(flags).run()?.ok()?;
    let grpc = server.grpc_url();
    let ingest = || {
        let ingest = cli![
            "ingest",
            &file,
            "--to",
            server.url(),
            "--collection",
            "digits"
        ];
        ingest.args(flags).args(["--grpc", &grpc])
    };
    ingest().run()?.ok()?;
    let live = format!("{}/digits", server.url());
    let verify = cli![
        "verify",
        live,
        "--no-provenance",
        "--grpc",
        &grpc,
        "--against",
        &out
    ];
    verify.run()?.ok()?.prints(&[": PROVEN"])?;
    let again = ingest().arg("--json").run()?.ok()?.json()?;
    ensure_eq!(
        again["live"][0]["same"],
        2000,
        "points that are right already"
    );
    let master = format!("{}/master", server.url());
    cli!["merge", &out, "--into", &master, "--grpc", &grpc]
        .run()?
        .ok()?;
    Ok(())
}

/// A row has a vector where it says that it has one.
fn vectors() -> Outcome {
    let dir = temp_dir()?;
    let row = json!({"id": 1, "embedding": [3.0, 4.0], "year": 2017});
    let file = lines(dir.path(), "rows.jsonl", &[row])?;
    let out = dir.path().join("out.snapshot");
    let ingest = |args: &[&str]| {
        let ingest = cli![
            "ingest",
            &file,
            "--size",
            "2",
            "--distance",
            "Cosine",
            "--force",
            "-o",
            &out
        ];
        ingest.args(args).run()
    };
    ingest(&[])?.code(12)?.says(&["no vector", "--vector"])?;
    ingest(&["--vector", "embeding"])?
        .code(12)?
        .says(&["embeding"])?;
    let two = ["--vector", "embedding", "--vector", "embeding"];
    ingest(&two)?.code(2)?.says(&["none has embeding"])?;
    ingest(&["--vector", "embedding"])?.ok()?;
    let normalized = json!({"id": 1, "payload": {"year": 2017}, "vector": [0.6, 0.8]});
    ensure_same(&exported(&out)?, [&normalized])?;
    // A table of vectors with another distance is no table of normalized ones.
    let table = dir.path().join("dot.parquet");
    let dot = dir.path().join("dot.snapshot");
    let flags = ["--size", "2", "--distance", "Dot", "--vector", "embedding"];
    cli!["ingest", &file, "-o", &dot].args(flags).run()?.ok()?;
    cli!["export", &dot, "-o", &table].run()?.ok()?;
    cli![
        "ingest",
        &table,
        "--size",
        "2",
        "--distance",
        "Cosine",
        "--force",
        "-o",
        &out
    ]
    .run()?
    .ok()?;
    ensure_same(&exported(&out)?, [&normalized])?;
    cli!["ingest", &table, "--force", "-o", &out].run()?.ok()?;
    ensure_same(&exported(&out)?, &exported(&dot)?)?;
    Ok(())
}

/// Nothing that is read is overwritten, whatever --force says.
fn keeps_what_it_reads(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let like = env.case("album_2017").unpack(dir.path())?;
    let row = json!({"id": 1, "vector": vec![1.0; 16], "payload": {"name": "album_2017"}});
    let file = lines(dir.path(), "rows.jsonl", &[row])?;
    let before = std::fs::read(&like)?;
    let pattern = dir.path().join("{name}.snapshot");
    let ingest = || cli!["ingest", &file, "--like", &like, "--force"];
    ingest()
        .arg("-o")
        .arg(&pattern)
        .run()?
        .code(2)?
        .says(&["it is read"])?;
    let other = dir.path().join("other.snapshot");
    for read in [&file, &like] {
        let run = ingest()
            .arg("--reject")
            .arg(read)
            .arg("-o")
            .arg(&other)
            .run()?;
        run.code(2)?.says(&["it is read"])?;
    }
    cli!["export", &like, "--force", "-o", &like]
        .run()?
        .code(2)?
        .says(&["it is read"])?;
    let both = ingest().arg("--reject").arg(&other).arg("-o").arg(&other);
    both.run()?
        .code(2)?
        .says(&["--reject", "one of the snapshots"])?;
    ensure!(
        std::fs::read(&like)? == before,
        "the snapshot was overwritten"
    );
    ensure_eq!(
        names_in(dir.path())?,
        ["album_2017.snapshot", "rows.jsonl"],
        "what is there"
    );
    Ok(())
}

/// Values that cannot be names are refused before anything has one.
fn names() -> Outcome {
    let dir = temp_dir()?;
    let row = |id: u64, name: &str| json!({"id": id, "vector": [1.0], "payload": {"v": name}});
    let out = dir.path().join("out");
    std::fs::create_dir(&out)?;
    let ingest = |rows: &[Value], pattern: &str| -> Outcome<_> {
        let file = lines(dir.path(), "rows.jsonl", rows)?;
        cli![
            "ingest",
            &file,
            "--size",
            "1",
            "--distance",
            "Dot",
            "-o",
            out.join(pattern)
        ]
        .run()
    };
    let long = "/".repeat(90);
    ingest(&[row(1, "a"), row(2, &long)], "p_{v}.snapshot")?
        .code(2)?
        .says(&["too long"])?;
    let sidecar = [row(1, "a.checksum"), row(2, "a")];
    ingest(&sidecar, "p_{v}")?.code(2)?.says(&["sidecar"])?;
    ensure_eq!(names_in(&out)?, Vec::<String>::new(), "what is there");
    // 2017 and 2017.0 are one year.
    let years = [
        json!({"id": 1, "vector": [1.0], "v": 2017}),
        json!({"id": 2, "vector": [1.0], "v": 2017.0}),
    ];
    ingest(&years, "p_{v}.snapshot")?.ok()?;
    ensure_eq!(exported(&out.join("p_2017.snapshot"))?.len(), 2, "points");
    Ok(())
}
