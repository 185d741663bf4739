//! Parquet and Arrow: read back by the libraries that people use, and what those write is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::export::exported;
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let python = python();
    let mut trials = Vec::new();
    for name in [
        "album_2017",
        "named",
        "sparse_dense",
        "multivector",
        "uuid_ids",
        "uint8",
        "shard_keys",
    ] {
        trials.push(Trial::needs(
            format!("ingest/tables/read_by_others/{name}"),
            &python,
            move |python| read_by_others(env, &python, name),
        ));
    }
    trials.extend([
        Trial::needs("ingest/tables/written_by_others", &python, |python| {
            written_by_others(&python)
        }),
        Trial::new("ingest/tables/export", || export(env)),
        Trial::new("ingest/tables/columns", || columns(env)),
    ]);
    trials
}

/// A Python that has the libraries.
pub fn python() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("python3"))
        .filter(|bin| bin.is_file())
        .find(|bin| {
            let run = Command::new(bin).args(["-c", "import pyarrow, polars, duckdb"]).output();
            run.is_ok_and(|output| output.status.success())
        })
        .ok_or_else(|| {
            "there is no python3 on PATH with pyarrow, polars and duckdb (pip install pyarrow polars duckdb)".into()
        })
}

pub fn run(python: &Path, script: &str, args: &[&Path]) -> Outcome<String> {
    let output = Command::new(python)
        .arg("-c")
        .arg(script)
        .args(args)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Points of a table as scroll answers them, by pyarrow; counted by polars and duckdb.
const READ: &str = r#"
import json, sys
import duckdb, polars, pyarrow.ipc, pyarrow.parquet
table = pyarrow.parquet.read_table(sys.argv[1])
arrow = pyarrow.ipc.open_file(sys.argv[2]).read_all()
assert arrow.equals(table), "the Arrow file has other rows"
meta = json.loads(table.schema.metadata[b"snapmerge"] if b"snapmerge" in (table.schema.metadata or {}) else
                  pyarrow.parquet.read_metadata(sys.argv[1]).metadata[b"snapmerge"])
assert polars.read_parquet(sys.argv[1]).height == table.num_rows
assert duckdb.sql(f"select count(*) from '{sys.argv[1]}'").fetchall()[0][0] == table.num_rows
for row in table.to_pylist():
    vectors = {name: row[column] for name, column in meta["vectors"].items() if row[column] is not None}
    point = {"id": row["id"], "payload": json.loads(row["payload"]),
             "vector": vectors[""] if list(meta["vectors"]) == [""] else vectors}
    if isinstance(point["id"], str) and point["id"].isdigit():
        point["id"] = int(point["id"])
    if meta["shard_key"]:
        point["shard_key"] = json.loads(row["shard_key"])
    print(json.dumps(point))
"#;

fn read_by_others(env: &Env, python: &Path, name: &str) -> Outcome {
    let dir = temp_dir()?;
    let case = env.case(name);
    let (parquet, arrow) = (
        dir.path().join("points.parquet"),
        dir.path().join("points.arrow"),
    );
    for file in [&parquet, &arrow] {
        cli!["export", &case.snapshot_gz, "-o", file].run()?.ok()?;
    }
    let text = run(python, READ, &[&parquet, &arrow])?;
    let found: Vec<Value> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    ensure_eq!(
        ensure_same(&found, &case.truth()?)?,
        case.points(),
        "points"
    );
    Ok(())
}

/// A table as a data frame has it: typed columns, some of them null.
const WRITE: &str = r#"
import datetime, decimal, sys, uuid
import polars, pyarrow as pa, pyarrow.ipc, pyarrow.parquet
n = 300
day = datetime.datetime(2017, 3, 1, 12, 30, 0, 250000)
columns = {
    "asset": pa.array([f"{uuid.UUID(int=i)}" for i in range(n)]),
    "embedding": pa.array([None if i == 7 else [float(i), 1.0] for i in range(n)], pa.list_(pa.float64())),
    "half": pa.array([[float(i), 0.5] for i in range(n)], pa.list_(pa.float16(), 2)),
    "words": pa.array([{"indices": [i, 1000], "values": [0.5, 2.0]} for i in range(n)],
        pa.struct([("indices", pa.list_(pa.int64())), ("values", pa.list_(pa.float32()))])),
    "year": pa.array([2017 + i % 3 for i in range(n)], pa.int32()),
    "score": pa.array([None if i % 2 else i / 4 for i in range(n)], pa.float64()),
    "camera": pa.array([["x100", "gr"][i % 2] for i in range(n)]).dictionary_encode(),
    "fav": pa.array([i % 5 == 0 for i in range(n)]),
    "taken": pa.array([day + datetime.timedelta(days=i) for i in range(n)], pa.timestamp("ms", "UTC")),
    "day": pa.array([day.date() for _ in range(n)]),
    "tags": pa.array([["a"] * (i % 3) for i in range(n)], pa.large_list(pa.large_string())),
    "exif": pa.array([{"iso": 100, "gps": None if i else {"lat": 1.5, "lon": 2.5}} for i in range(n)]),
    "big": pa.array([2**63 + i for i in range(n)], pa.uint64()),
    "left": pa.array([{"x": b"1"}] * n),
}
table = pa.table(columns)
for codec in ["snappy", "gzip", "zstd", "none"]:
    pyarrow.parquet.write_table(table, f"{sys.argv[1]}/{codec}.parquet", compression=codec, row_group_size=70)
with pyarrow.ipc.new_file(f"{sys.argv[1]}/file.arrow", table.schema) as out:
    out.write_table(table, 50)
with pyarrow.ipc.new_stream(f"{sys.argv[1]}/stream.arrows", table.schema) as out:
    out.write_table(table, 50)
for codec in ["zstd", "lz4"]:
    options = pyarrow.ipc.IpcWriteOptions(compression=codec)
    with pyarrow.ipc.new_file(f"{sys.argv[1]}/{codec}.arrow", table.schema, options=options) as out:
        out.write_table(table, 50)
    with pyarrow.ipc.new_stream(f"{sys.argv[1]}/{codec}.arrows", table.schema, options=options) as out:
        out.write_table(table, 50)
polars.from_arrow(table.drop_columns(["half", "left"])).write_parquet(f"{sys.argv[1]}/polars.parquet")
"#;

fn written_by_others(python: &Path) -> Outcome {
    let dir = temp_dir()?;
    run(python, WRITE, &[dir.path()])?;
    let config = dir.path().join("collection.json");
    std::fs::write(
        &config,
        json!({
            "vectors": {"image": {"size": 2, "distance": "Dot"}, "half": {"size": 2, "distance": "Dot", "datatype": "float16"}},
            "sparse_vectors": {"words": {}},
        })
        .to_string(),
    )?;
    let point = |i: u64| {
        let camera = if i.is_multiple_of(2) { "x100" } else { "gr" };
        let mut payload = json!({
            "year": 2017 + i % 3, "camera": camera, "fav": i.is_multiple_of(5),
            "day": "2017-03-01T00:00:00", "tags": vec!["a"; usize::try_from(i % 3)?],
            "exif": {"iso": 100}, "big": (1_u64 << 63) + i,
        });
        let taken = chrono::DateTime::parse_from_rfc3339("2017-03-01T12:30:00.250Z")?;
        let taken = taken + chrono::Duration::days(i64::try_from(i)?);
        payload["taken"] = taken.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string().into();
        if i.is_multiple_of(2) {
            payload["score"] = json!(f64::from(u32::try_from(i)?) / 4.0);
        }
        if i == 0 {
            payload["exif"]["gps"] = json!({"lat": 1.5, "lon": 2.5});
        }
        let mut vector =
            json!({"half": [i, 0.5], "words": {"indices": [i, 1000], "values": [0.5, 2.0]}});
        if i != 7 {
            vector["image"] = json!([i, 1.0]);
        }
        let id = format!("00000000-0000-0000-0000-{i:012x}");
        Ok::<_, crate::support::Failed>(json!({"id": id, "payload": payload, "vector": vector}))
    };
    let wanted: Vec<Value> = (0..300).map(point).collect::<Outcome<_>>()?;
    let wanted = wanted.iter().map(sorted).collect::<Vec<_>>();
    let fields = "year,score,camera,fav,taken,day,tags,exif,big";
    for file in [
        "snappy.parquet",
        "gzip.parquet",
        "zstd.parquet",
        "none.parquet",
        "file.arrow",
        "stream.arrows",
        "zstd.arrow",
        "zstd.arrows",
    ] {
        let out = dir.path().join("out.snapshot");
        let ingest = cli![
            "ingest",
            dir.path().join(file),
            "--force",
            "-o",
            &out,
            "--config",
            &config
        ]
        .args([
            "--id",
            "asset",
            "--vector",
            "image=embedding",
            "--vector",
            "half=half",
        ])
        .args(["--vector", "words=words"]);
        let report = ingest
            .args(["--payload", fields, "--json"])
            .run()?
            .ok()?
            .json()?;
        ensure_eq!(report["points"], 300, "{file}: points");
        let found: Vec<Value> = exported(&out)?.iter().map(sorted).collect();
        ensure_same(&found, &wanted)
            .map_err(|e| format!("{file}: {}", e.message().unwrap_or("?")))?;
    }
    for file in ["lz4.arrow", "lz4.arrows"] {
        let out = dir.path().join("lz4.snapshot");
        let ingest = cli![
            "ingest",
            dir.path().join(file),
            "-o",
            &out,
            "--config",
            &config
        ];
        let ingest = ingest.args([
            "--id",
            "asset",
            "--vector",
            "image=embedding",
            "--payload",
            fields,
        ]);
        ingest.run()?.code(13)?.says(&[file, "lz4", "zstd"])?;
    }
    // Everything else, of which one column is nothing that JSON has.
    let out = dir.path().join("all.snapshot");
    let ingest = |file: &str| {
        cli![
            "ingest",
            dir.path().join(file),
            "-o",
            &out,
            "--config",
            &config,
            "--id",
            "asset"
        ]
        .args(["--vector", "image=embedding", "--payload", "*"])
    };
    ingest("none.parquet")
        .run()?
        .code(12)?
        .says(&["row 1 of", "column left", "Binary"])?;
    ingest("polars.parquet").run()?.ok()?;
    let found = exported(&out)?;
    ensure_eq!(found.len(), 300, "points of polars");
    ensure_eq!(
        found[4]["payload"]["words"],
        json!({"indices": [4, 1000], "values": [0.5, 2.0]}),
        "a struct"
    );
    Ok(())
}

/// Payload keys in the order of their names, since a table has them in its own.
fn sorted(point: &Value) -> Value {
    let mut point = point.clone();
    let payload: BTreeMap<String, Value> =
        serde_json::from_value(point["payload"].take()).unwrap_or_default();
    point["payload"] = json!(payload);
    point
}

/// What export writes where, and what it refuses.
fn export(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let case = env.case("album_2017");
    let truth = case.truth()?;
    // Lines in a file are those of standard output.
    let (file, packed) = (dir.path().join("a.jsonl"), dir.path().join("b.jsonl.gz"));
    let printed = cli!["export", &case.snapshot_gz].run()?.ok()?.stdout;
    cli!["export", &case.snapshot_gz, "-o", &file].run()?.ok()?;
    ensure_eq!(std::fs::read_to_string(&file)?, printed, "the lines");
    cli!["export", &case.snapshot_gz, "-o", &packed]
        .run()?
        .ok()?;
    let mut text = String::new();
    std::io::Read::read_to_string(
        &mut flate2::read::GzDecoder::new(std::fs::File::open(&packed)?),
        &mut text,
    )?;
    ensure_eq!(text, printed, "the compressed lines");
    // Some of them, with the form said.
    let some = dir.path().join("some");
    let filter = json!({"must": [{"key": "year", "match": {"value": 2016}}]}).to_string();
    cli![
        "export",
        &case.snapshot_gz,
        "-o",
        &some,
        "--format",
        "parquet",
        "--filter",
        filter
    ]
    .run()?
    .ok()?;
    let back = dir.path().join("back.snapshot");
    cli!["ingest", &some, "--format", "parquet", "-o", &back]
        .run()?
        .ok()?;
    let wanted = truth
        .iter()
        .filter(|point| point["payload"]["year"] == 2016);
    ensure!(
        ensure_same(&exported(&back)?, wanted)? > 50,
        "too few points"
    );
    let before = names_in(dir.path())?;
    let refused = |args: &[&str]| cli!["export", &case.snapshot_gz].args(args).run();
    refused(&["--format", "parquet"])?
        .code(2)?
        .says(&["standard output", "-o"])?;
    let there = file.to_string_lossy().into_owned();
    refused(&["-o", &there])?
        .code(2)?
        .says(&["a.jsonl", "--force"])?;
    refused(&["-o", &there, "--force"])?.ok()?;
    ensure_eq!(names_in(dir.path())?, before, "what is there");
    Ok(())
}

/// Columns that are not what they would have to be.
fn columns(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let case = env.case("named");
    let file = dir.path().join("points.parquet");
    cli!["export", &case.snapshot_gz, "-o", &file].run()?.ok()?;
    let out = dir.path().join("out.snapshot");
    let ingest = |args: &[&str]| cli!["ingest", &file, "-o", &out].args(args).run();
    ingest(&["--id", "uid"])?
        .code(2)?
        .says(&["no column uid", "payload"])?;
    ingest(&["--payload", "year"])?
        .code(2)?
        .says(&["no column year"])?;
    ingest(&["--vector", "image=payload"])?
        .code(2)?
        .says(&["payload"])?;
    ensure_eq!(names_in(dir.path())?, ["points.parquet"], "what is there");
    // One of the vectors, and the payload's text as a field.
    let names: Vec<String> = case.truth()?[0]["vector"]
        .as_object()
        .map(|vectors| vectors.keys().cloned().collect())
        .unwrap_or_default();
    let one = names.first().ok_or("no vector")?;
    let given = format!("{one}={one}");
    ingest(&["--vector", &given, "--payload", "payload"])?.ok()?;
    let found = exported(&out)?;
    ensure_eq!(found.len(), case.points(), "points");
    let with_other = found.iter().filter(|point| {
        point["vector"]
            .as_object()
            .is_some_and(|vectors| vectors.keys().any(|name| name != one))
    });
    ensure_eq!(with_other.count(), 0, "points with another vector");
    ensure!(found[0]["payload"]["payload"].is_string(), "{}", found[0]);
    Ok(())
}
