//! `export --columns` and `--vdf`: typed columns have what the payloads have, by the libraries that people use; the
//! table is still the same collection; a data set is read as vector-io's importer reads it.

use std::path::Path;

use serde_json::{Value, json};

use crate::ingest::rows::lines;
use crate::ingest::tables::{python, run};
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let python = python();
    let mut trials = env.per_case("export/columns/comes_back", |case| {
        comes_back(&case.snapshot_gz, case.points())
    });
    for name in [
        "album_2017",
        "all_indexes",
        "uuid_ids",
        "shard_keys",
        "named",
    ] {
        let name_of = format!("export/columns/read_by_others/{name}");
        trials.push(Trial::needs(name_of, &python, move |python| {
            read_by_others(&python, &env.case(name).snapshot_gz, &[])
        }));
    }
    for name in ["album_2017", "uuid_ids", "uint8", "named"] {
        let name_of = format!("export/vdf/read_by_others/{name}");
        trials.push(Trial::needs(name_of, &python, move |python| {
            vdf_read_by_others(env, &python, name)
        }));
    }
    trials.extend([
        Trial::needs("export/columns/types", &python, |python| types(&python)),
        Trial::new("export/columns/refuses", || refuses(env)),
        Trial::new("export/vdf/holds", || vdf_holds(env)),
    ]);
    trials
}

/// A table with columns for all keys is the collection that it was made of, bit by bit.
fn comes_back(snapshot: &Path, points: usize) -> Outcome {
    let dir = temp_dir()?;
    let file = dir.path().join("points.parquet");
    let export = cli!["export", snapshot, "-o", &file, "--columns", "*"];
    export.run()?.ok()?;
    let back = dir.path().join("back.snapshot");
    let ingest = cli!["ingest", &file, "-o", &back, "--json"];
    let report = ingest.run()?.ok()?.json()?;
    ensure_eq!(report["points"].as_u64(), Some(points as u64), "points");
    let verify = cli![
        "verify",
        &back,
        "--no-provenance",
        "--deep",
        "--against",
        snapshot
    ];
    verify.run()?.ok()?.prints(&[": PROVEN"])?;
    Ok(())
}

/// Every value of every typed column is the payload's, by pyarrow, polars and duckdb. The names and types of the columns
/// are printed.
const COMPARE: &str = r#"
import datetime, json, sys
import duckdb, polars, pyarrow as pa, pyarrow.ipc, pyarrow.parquet
parquet, arrow = sys.argv[1:3]
table = pyarrow.parquet.read_table(parquet)
assert pyarrow.ipc.open_file(arrow).read_all().equals(table), "the Arrow file has other rows"
meta = json.loads(pyarrow.parquet.read_metadata(parquet).metadata[b"snapmerge"])
columns = meta["repeats"]
assert set(table.column_names) == {"id", "payload", *meta["vectors"].values(), *columns,
                                   *filter(None, [meta["shard_key"]])}
payloads = [json.loads(text) for text in table["payload"].to_pylist()]

def wanted(payload, name):
    if name in payload:
        return payload[name]
    for key in name.split("."):
        payload = payload.get(key) if isinstance(payload, dict) else None
    return payload

def said(value, kind):
    if value is None:
        return None
    if isinstance(value, list) and kind.startswith("list of "):
        return [said(one, kind.removeprefix("list of ")) for one in value]
    if kind == "timestamp":
        assert value.utcoffset() == datetime.timedelta(0)
        return value.astimezone(datetime.timezone.utc)
    return json.loads(value) if kind == "JSON text" else value

def read(value, kind):
    if value is None:
        return None
    if kind.startswith("list of "):
        return [read(one, kind.removeprefix("list of ")) for one in value]
    return datetime.datetime.fromisoformat(value) if kind == "timestamp" else value

def alike(a, b):
    # Qdrant's reading of a double is a unit in the last place off for some; the text of the payload makes up for it.
    if isinstance(a, float) or isinstance(b, float):
        return type(a) is not bool and type(b) is not bool and abs(a - b) <= 1e-15 * abs(b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b

duckdb.sql("set timezone = 'UTC'")
frames = {
    "pyarrow": lambda name: table[name].to_pylist(),
    "polars": lambda name: polars.read_parquet(parquet, columns=[name])[name].to_list(),
    "duckdb": lambda name: [row[0] for row in duckdb.sql(
        f"""select "{name}" from read_parquet('{parquet}', file_row_number = true) order by file_row_number""").fetchall()],
}
for name, kind in columns.items():
    values = [read(wanted(payload, name), kind) for payload in payloads]
    assert any(value is not None for value in values), name
    for library, column in frames.items():
        # Its timestamps with a zone need another package there.
        if library == "duckdb" and "timestamp" in kind:
            column = lambda name: [row[0] for row in duckdb.sql(
                f"""select epoch_us("{name}") from read_parquet('{parquet}', file_row_number = true)
                    order by file_row_number""").fetchall()] if kind == "timestamp" else values
            found = column(name)
            if kind == "timestamp":
                epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
                found = [None if one is None else epoch + datetime.timedelta(microseconds=one) for one in found]
        else:
            found = [said(value, kind) for value in column(name)]
        assert len(found) == len(values)
        for row, (a, b) in enumerate(zip(found, values)):
            assert alike(a, b), f"{library}: {name} of row {row} is {a!r}, not {b!r}"
print(json.dumps({name: str(table.schema.field(name).type) for name in columns}))
"#;

/// Compares all columns of the points of `snapshot`; returns their types.
fn compare(python: &Path, snapshot: &Path, more: &[&str]) -> Outcome<Value> {
    let dir = temp_dir()?;
    let files = ["points.parquet", "points.arrow"].map(|name| dir.path().join(name));
    for file in &files {
        let export = cli!["export", snapshot, "-o", file, "--columns"];
        export
            .arg(
                ["*"]
                    .iter()
                    .chain(more)
                    .copied()
                    .collect::<Vec<_>>()
                    .join(","),
            )
            .run()?
            .ok()?;
    }
    let [parquet, arrow] = &files;
    Ok(serde_json::from_str(&run(
        python,
        COMPARE,
        &[parquet, arrow],
    )?)?)
}

fn read_by_others(python: &Path, snapshot: &Path, more: &[&str]) -> Outcome {
    let types = compare(
        python,
        snapshot,
        &[&["exif.gps.lat", "exif.iso"], more].concat(),
    )?;
    let is_indexed = !snapshot.to_string_lossy().contains("uuid_ids")
        && !snapshot.to_string_lossy().contains("shard_keys")
        && !snapshot.to_string_lossy().contains("named");
    for (name, kind) in [
        ("year", "int64"),
        ("camera", "string"),
        ("tags", "list<item: string>"),
        ("fav", "bool"),
        ("score", "double"),
        ("big", "int64"),
        ("exif", "string"),
        ("exif.iso", "int64"),
        ("exif.gps.lat", "double"),
        (
            "taken",
            if is_indexed {
                "timestamp[us, tz=UTC]"
            } else {
                "string"
            },
        ),
    ] {
        ensure_eq!(types[name], kind, "{name}");
    }
    Ok(())
}

/// Values of all kinds, alone and mixed.
fn types(python: &Path) -> Outcome {
    let dir = temp_dir()?;
    let day = |n: u64| format!("2017-03-0{}T12:30:00.25Z", n % 9 + 1);
    let row = |n: u64| {
        let is_even = n.is_multiple_of(2);
        let mut payload = json!({
            "large": u64::MAX - n, "below": if is_even { json!(u64::MAX) } else { json!(-1) },
            "whole_or_not": if is_even { json!(n) } else { json!(0.5) },
            "mixed": if is_even { json!(n) } else { json!("x") },
            "truth": is_even, "object": {"a": n, "b": [null]}, "nested": [[n]],
            "numbers": vec![n; usize::try_from(n % 3)?], "gaps": [1, null],
            "words": ["a", "é漢字🙂"], "list_or_not": if is_even { json!([1]) } else { json!(1) },
            "taken": day(n), "taken_in": {"day": day(n)}, "times": [day(n), day(n + 1)],
            "zoned": if n == 7 { "2017-03-01T12:30:00+02:00".into() } else { day(n) },
            "fine": "2017-03-01T12:30:00.0000001Z", "unindexed": day(n),
            "a.b": n, "a b": n, "c": {"d": if is_even { json!(n) } else { Value::Null }},
        });
        if is_even {
            payload["sometimes"] = json!(n);
            payload["null_sometimes"] = Value::Null;
        } else {
            payload["null_sometimes"] = json!("x");
        }
        Ok::<_, crate::support::Failed>(json!({"id": n, "vector": [1.0], "payload": payload}))
    };
    let rows: Vec<Value> = (0..200).map(row).collect::<Outcome<_>>()?;
    let file = lines(dir.path(), "rows.jsonl", &rows)?;
    let snapshot = dir.path().join("rows.snapshot");
    let mut ingest = cli![
        "ingest",
        &file,
        "--size",
        "1",
        "--distance",
        "Dot",
        "-o",
        &snapshot
    ];
    for field in ["taken", "taken_in.day", "times[]", "zoned", "fine"] {
        ingest = ingest
            .arg("--payload-index")
            .arg(format!("{field}=datetime"));
    }
    ingest.run()?.ok()?;
    let types = compare(python, &snapshot, &["c.d", "taken_in.day"])?;
    let (text, time) = ("string", "timestamp[us, tz=UTC]");
    let wanted = json!({
        "large": "uint64", "below": text, "whole_or_not": "double", "mixed": text, "truth": "bool",
        "object": text, "nested": text, "numbers": "list<item: int64>", "gaps": "list<item: int64>",
        "words": "list<item: string>", "list_or_not": text, "taken": time, "taken_in": text,
        "taken_in.day": time, "times": format!("list<item: {time}>"), "zoned": text, "fine": text,
        "unindexed": text, "a.b": "int64", "a b": "int64", "c": text, "c.d": "int64",
        "sometimes": "int64", "null_sometimes": text,
    });
    ensure_eq!(types, wanted, "types");
    comes_back(&snapshot, 200)
}

fn refuses(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let case = env.case("named");
    let out = dir.path().join("points.parquet");
    let export = |args: &[&str]| {
        cli!["export", &case.snapshot_gz, "-o", &out]
            .args(args)
            .run()
    };
    for (columns, says) in [
        ("payload", vec!["payload", "another column"]),
        ("id", vec!["id", "another column"]),
        ("year,shard_key", vec!["shard_key", "another column"]),
        ("year,image", vec!["image", "another column"]),
        ("year,camera,year", vec!["year is named twice"]),
        ("year,yaer", vec!["no point", "yaer", "--columns"]),
        ("exif.isso", vec!["no point", "exif.isso"]),
        ("faces[0].name", vec!["faces[0].name"]),
        ("a..b", vec!["a..b"]),
    ] {
        let run = export(&["--columns", columns])?.code(2)?;
        run.says(&says)?;
    }
    export(&["--columns", "year", "--format", "jsonl"])?
        .code(2)?
        .says(&["--columns", "no columns"])?;
    cli!["export", &case.snapshot_gz, "--columns", "year"]
        .run()?
        .code(2)?
        .says(&["no columns"])?;
    cli!["export", &case.snapshot_gz, "--vdf"]
        .run()?
        .code(2)?
        .says(&["standard output", "-o"])?;
    export(&["--vdf", "--format", "parquet"])?.code(2)?;
    ensure_eq!(names_in(dir.path())?, Vec::<String>::new(), "what is there");
    // Of the points that are exported, none has it.
    let none = ["--columns", "year", "--ids", "0"];
    export(&none)?.code(2)?.says(&["no point", "year"])?;
    // What is left out may have the name of a vector.
    export(&["--columns", "year", "--no-vectors", "--limit", "50"])?.ok()?;
    // One that is asked for by its name is read, as of any table.
    cli![
        "export",
        &case.snapshot_gz,
        "-o",
        &out,
        "--force",
        "--columns",
        "year,camera"
    ]
    .run()?
    .ok()?;
    let back = dir.path().join("back.snapshot");
    cli!["ingest", &out, "-o", &back, "--payload", "year"]
        .run()?
        .ok()?;
    let wanted = case.truth()?.into_iter().map(|mut point| {
        let year = point["payload"]["year"].take();
        point["payload"] = if year.is_null() {
            json!({})
        } else {
            json!({ "year": year })
        };
        point
    });
    let wanted: Vec<Value> = wanted.collect();
    ensure_same(&crate::export::exported(&back)?, &wanted)?;
    Ok(())
}

/// As `vdf_import_cls.py` and `qdrant_import.py` of vector-io read a data set: the meta with all its keys, every
/// .parquet below the data path, ids, the vectors of `vector_columns`, everything else as payload.
const IMPORT: &str = r#"
import json, os, sys
import pyarrow.parquet
folder = sys.argv[1]
meta = json.load(open(os.path.join(folder, "VDF_META.json")))
for key in ["version", "file_structure", "author", "exported_from", "indexes", "exported_at"]:
    assert key in meta, key
for file in meta["file_structure"]:
    assert os.path.isfile(os.path.join(folder, file)), file
points = {}
id_column = meta.get("id_column", "id") or "id"
for name, namespaces in meta["indexes"].items():
    for one in namespaces:
        for key, kind in [("namespace", str), ("index_name", str), ("total_vector_count", int), ("metric", str),
                          ("exported_vector_count", int), ("dimensions", int), ("data_path", str)]:
            assert isinstance(one[key], kind), key
        assert one["metric"] in ["Cosine", "Dot", "Euclid", "Manhattan"]
        data = os.path.join(folder, one["data_path"])
        assert os.path.isdir(data)
        count = 0
        for root, _, files in os.walk(data):
            for file in sorted(file for file in files if file.endswith(".parquet")):
                table = pyarrow.parquet.read_table(os.path.join(root, file))
                for row in table.to_pylist():
                    id = row.pop(id_column)
                    vectors = {column: row.pop(column) for column in one["vector_columns"]}
                    vectors = {name: [float(x) for x in vector] for name, vector in vectors.items() if vector is not None}
                    assert all(len(vector) == one["dimensions"] for vector in vectors.values())
                    id = int(id) if isinstance(id, int) or id.isdigit() else id
                    point = points.setdefault(id, {"id": id, "vector": {}, "payload": row})
                    assert point["payload"] == row
                    point["vector"].update(vectors)
                    count += 1
        assert count == one["total_vector_count"] == one["exported_vector_count"]
        assert len(namespaces) == 1 or one["namespace"] == one["vector_columns"][0]
for point in sorted(points.values(), key=lambda point: (isinstance(point["id"], str), point["id"])):
    print(json.dumps(point))
"#;

fn vdf_read_by_others(env: &Env, python: &Path, name: &str) -> Outcome {
    let dir = temp_dir()?;
    let case = env.case(name);
    let folder = dir.path().join("set");
    cli!["export", &case.snapshot_gz, "--vdf", "-o", &folder]
        .run()?
        .ok()?;
    let text = run(python, IMPORT, &[&folder])?;
    let mut found = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<Value>, _>>()?;
    let mut wanted = case.truth()?;
    for point in &mut wanted {
        if point["vector"].is_array() {
            point["vector"] = json!({"vector": point["vector"].take()});
        }
        let Value::Object(payload) = &mut point["payload"] else {
            return Err("no payload".into());
        };
        payload.retain(|_, value| !value.is_null());
    }
    // What a column cannot hold otherwise is text; null stands for what is missing.
    for point in &mut found {
        let Value::Object(payload) = &mut point["payload"] else {
            return Err("no payload".into());
        };
        payload.retain(|_, value| !value.is_null());
        for key in ["exif", "deep"] {
            if let Some(value) = payload.get_mut(key) {
                *value = serde_json::from_str(value.as_str().ok_or("no text")?)?;
            }
        }
    }
    ensure_eq!(ensure_same(&found, &wanted)?, case.points(), "points");
    Ok(())
}

/// What a data set cannot hold is told, or refused, and nothing is left.
fn vdf_holds(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let folder = dir.path().join("set");
    let export = |name: &str, args: &[&str]| {
        cli![
            "export",
            &env.case(name).snapshot_gz,
            "--vdf",
            "-o",
            &folder
        ]
        .args(args)
        .run()
    };
    export("album_2017", &["--no-vectors"])?
        .code(2)?
        .says(&["made of vectors"])?;
    ensure_eq!(names_in(dir.path())?, Vec::<String>::new(), "what is there");
    export("sparse_dense", &[])?
        .code(3)?
        .says(&["words", "sparse", "left out"])?;
    ensure_eq!(
        names_in(&folder)?,
        ["VDF_META.json", "sparse_dense"],
        "the folder"
    );
    // Not twice, unless it is asked for.
    export("album_2017", &[])?
        .code(2)?
        .says(&["exists", "--force"])?;
    export("shard_keys", &["--force"])?
        .ok()?
        .says(&["shard keys", "shard_key"])?;
    ensure_eq!(
        names_in(&folder)?,
        ["VDF_META.json", "shard_keys"],
        "the folder"
    );
    std::fs::remove_file(folder.join("VDF_META.json"))?;
    export("album_2017", &["--force"])?
        .code(2)?
        .says(&["VDF_META.json"])?;
    ensure_eq!(names_in(&folder)?, ["shard_keys"], "the folder");
    // A key that is called as another column has one all the same.
    let rows =
        [json!({"id": 1, "vector": [1.0, 2.0], "payload": {"id": "x", "vector": 7, "year": 2017}})];
    let file = lines(dir.path(), "odd.jsonl", &rows)?;
    let odd = dir.path().join("odd.snapshot");
    cli![
        "ingest",
        &file,
        "--size",
        "2",
        "--distance",
        "Dot",
        "-o",
        &odd
    ]
    .run()?
    .ok()?;
    let set = dir.path().join("odd");
    cli!["export", &odd, "--vdf", "-o", &set]
        .run()?
        .ok()?
        .says(&["payload.vector"])?;
    let meta: Value = serde_json::from_slice(&std::fs::read(set.join("VDF_META.json"))?)?;
    ensure_eq!(meta["id_column"], "point_id", "the column of ids");
    let back = dir.path().join("back.snapshot");
    let ingest = cli![
        "ingest",
        set.join("odd/1.parquet"),
        "--id",
        "point_id",
        "-o",
        &back
    ];
    ingest
        .args(["--size", "2", "--distance", "Dot"])
        .run()?
        .ok()?;
    let wanted = json!({"id": 1, "vector": [1.0, 2.0], "payload": {"id": "x", "payload.vector": 7, "year": 2017}});
    ensure_same(&crate::export::exported(&back)?, [&wanted])?;
    Ok(())
}
