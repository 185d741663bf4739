//! `export --vdf`: data sets have what the collections have, as vector-io's importer reads them.

use std::path::Path;

use serde_json::{Value, json};

use crate::ingest::rows::lines;
use crate::ingest::tables::{python, run};
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let python = python();
    let mut trials = Vec::new();
    for name in ["album_2017", "uuid_ids", "uint8", "named"] {
        let name_of = format!("export/vdf/read_by_others/{name}");
        trials.push(Trial::needs(name_of, &python, move |python| {
            vdf_read_by_others(env, &python, name)
        }));
    }
    trials.push(Trial::new("export/vdf/holds", || vdf_holds(env)));
    trials
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
    // A folder is not replaced, whatever is in it.
    for args in [&[][..], &["--force"]] {
        export("album_2017", args)?
            .code(2)?
            .says(&["exists already", "folders are not replaced"])?;
        ensure_eq!(
            names_in(&folder)?,
            ["VDF_META.json", "sparse_dense"],
            "the folder"
        );
    }
    std::fs::remove_dir_all(&folder)?;
    export("shard_keys", &[])?
        .ok()?
        .says(&["shard keys", "shard_key"])?;
    ensure_eq!(
        names_in(&folder)?,
        ["VDF_META.json", "shard_keys"],
        "the folder"
    );
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
