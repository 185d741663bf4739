//! `export --columns`: typed columns have what the payloads have, by the libraries that people use, and the table is
//! still the same collection.

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
    trials.extend([
        Trial::needs("export/columns/types", &python, |python| types(&python)),
        Trial::needs("export/columns/alone", &python, |python| {
            columns_alone(env, &python)
        }),
        Trial::new("export/columns/refuses", || refuses(env)),
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

/// Without the column that they repeat, typed columns are the payload, whatever the table says of them.
fn columns_alone(env: &Env, python: &Path) -> Outcome {
    const SCRIPT: &str = "
import sys, pyarrow.ipc as ipc
table = ipc.open_file(sys.argv[1]).read_all()
assert b'snapmerge' in table.schema.metadata
table = table.drop_columns(['payload'])
with ipc.new_file(sys.argv[2], table.schema) as out:
    out.write_table(table)
";
    let dir = temp_dir()?;
    let case = env.case("album_2017");
    let [whole, alone] = ["whole.arrow", "alone.arrow"].map(|name| dir.path().join(name));
    cli![
        "export",
        &case.snapshot_gz,
        "-o",
        &whole,
        "--columns",
        "year"
    ]
    .run()?
    .ok()?;
    run(python, SCRIPT, &[&whole, &alone])?;
    let back = dir.path().join("back.snapshot");
    cli!["ingest", &alone, "-o", &back].run()?.ok()?;
    let wanted = case.truth()?.into_iter().map(|mut point| {
        let year = point["payload"]["year"].take();
        point["payload"] = match year.is_null() {
            true => json!({}),
            false => json!({ "year": year }),
        };
        point
    });
    let wanted: Vec<Value> = wanted.collect();
    ensure_same(&crate::export::exported(&back)?, &wanted)?;
    Ok(())
}
