//! The config of the master: as the sources have it, unless a flag or `--config` says otherwise; it is
//! in the packed `config.json`, and in the segments, which are built as it says.

use serde_json::{Value, json};

use super::{Master, Sources, drop_nulls};
use crate::support::packed::Segment;
use crate::support::{Env, Outcome, Trial, names_in};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("merge/config/flags", || flags(env)),
        Trial::new("merge/config/no_index", || no_index(env)),
        Trial::new("merge/config/quantization", || quantization(env)),
        Trial::new("merge/config/off_disk", || off_disk(env)),
        Trial::new("merge/config/memory_mapped", || memory_mapped(env)),
        Trial::new("merge/config/per_vector", || per_vector(env)),
        Trial::new("merge/config/file", || file(env)),
        Trial::new("merge/config/dry_run", || dry_run(env)),
    ]
}

/// The config as the server told it, with changes at the paths given.
fn changed(sources: &Sources, changes: &[(&str, Value)]) -> Outcome<Value> {
    let mut config = sources.cases[0].info["config"].clone();
    for (path, value) in changes {
        let (parent, key) = path.rsplit_once('/').ok_or("no path")?;
        config.pointer_mut(parent).ok_or("no such part")?[key] = value.clone();
    }
    drop_nulls(&mut config);
    Ok(config)
}

fn ensure_config(master: &Master, want: &Value) -> Outcome {
    let mut config = master.packed.config()?;
    drop_nulls(&mut config);
    ensure_eq!(config, *want, "config");
    Ok(())
}

/// The segments that hold points; there must be some.
fn filled(master: &Master) -> Outcome<Vec<Segment>> {
    let mut segments = master.packed.all_segments()?;
    segments.retain(Segment::holds_points);
    ensure!(!segments.is_empty(), "no segment holds points");
    Ok(segments)
}

fn flags(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["album_2017"])?;
    let before = sources.rebuild(&[])?;
    for segment in filled(&before)? {
        // Otherwise than it will be, in every respect.
        let vector = &segment.state["config"]["vector_data"][""];
        ensure_eq!(vector["index"]["options"]["m"], json!(16), "m as it was");
        ensure_eq!(
            vector["storage_type"],
            json!("InRamMmap"),
            "storage as it was"
        );
    }
    let master = sources.merge(&[
        "--hnsw-m",
        "8",
        "--hnsw-ef-construct",
        "64",
        "--on-disk-vectors",
        "true",
        "--on-disk-payload",
        "false",
        "--indexing-threshold",
        "5",
        "--memmap-threshold",
        "7",
        "--quantization",
        "scalar:0.9",
    ])?;
    master.ensure_holds(&sources.truths[0])?;
    ensure_eq!(
        master.digest()?,
        before.digest()?,
        "the points are the same"
    );
    let scalar = json!({"scalar": {"type": "int8", "quantile": 0.9}});
    let want = changed(
        &sources,
        &[
            ("/hnsw_config/m", json!(8)),
            ("/hnsw_config/ef_construct", json!(64)),
            ("/params/vectors/on_disk", json!(true)),
            ("/params/on_disk_payload", json!(false)),
            ("/optimizer_config/indexing_threshold", json!(5)),
            ("/optimizer_config/memmap_threshold", json!(7)),
            ("/quantization_config", scalar),
        ],
    )?;
    ensure_config(&master, &want)?;
    for segment in filled(&master)? {
        let config = &segment.state["config"];
        let vector = &config["vector_data"][""];
        ensure_eq!(vector["index"]["type"], json!("hnsw"), "index");
        for (key, value) in [("m", 8), ("ef_construct", 64)] {
            ensure_eq!(vector["index"]["options"][key], json!(value), "{key}");
        }
        // What the graph was really built with.
        let built: Value = serde_json::from_slice(&segment.files["vector_index/hnsw_config.json"])?;
        ensure_eq!(
            (&built["m"], &built["ef_construct"]),
            (&json!(8), &json!(64)),
            "m, ef_construct"
        );
        ensure_eq!(vector["storage_type"], json!("Mmap"), "storage of vectors");
        ensure_eq!(
            vector["quantization_config"]["scalar"]["quantile"],
            json!(0.9),
            "quantile"
        );
        ensure_eq!(
            config["payload_storage_type"]["type"],
            json!("in_ram_mmap"),
            "storage of payload"
        );
        ensure!(segment.has("vector_index/graph.bin"), "there is no graph");
        ensure!(is_quantized(&segment), "nothing is quantized");
    }
    let decisions = master.report["decisions"].to_string();
    for about in [
        "hnsw_config.m",
        "on_disk_payload",
        "memmap_threshold",
        "quantization",
    ] {
        ensure!(decisions.contains(about), "{about} is not in {decisions}");
    }
    Ok(())
}

fn is_quantized(segment: &Segment) -> bool {
    segment
        .files
        .keys()
        .any(|file| file.contains("/quantized."))
}

/// 1000 points of 16 dimensions are 62.5 KB: below a threshold of 63 they get no graph.
fn no_index(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["album_2017"])?;
    for (flags, indexed) in [
        (["--indexing-threshold", "0"], false),
        (["--indexing-threshold", "63"], false),
        (["--indexing-threshold", "62"], true),
    ] {
        let master = sources.merge(&flags)?;
        master.ensure_holds(&sources.truths[0])?;
        let segments = filled(&master)?;
        let graphs = segments
            .iter()
            .filter(|s| s.has("vector_index/graph.bin"))
            .count();
        ensure_eq!(graphs > 0, indexed, "a graph with {flags:?}");
        let vectors = &master.report["master"]["shards"][0]["indexed_vectors"];
        let want = if indexed { 1000 } else { 0 };
        ensure_eq!(*vectors, json!(want), "indexed vectors with {flags:?}");
    }
    Ok(())
}

fn quantization(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["quant_scalar"])?;
    for (word, want) in [
        ("none", Value::Null),
        ("scalar", json!({"scalar": {"type": "int8"}})),
        ("product:x16", json!({"product": {"compression": "x16"}})),
        ("binary", json!({"binary": {}})),
    ] {
        let master = sources.merge(&["--quantization", word])?;
        master.ensure_holds(&sources.truths[0])?;
        ensure_config(
            &master,
            &changed(&sources, &[("/quantization_config", want.clone())])?,
        )?;
        for segment in filled(&master)? {
            let own = &segment.state["config"]["vector_data"][""]["quantization_config"];
            let mut own = own.clone();
            drop_nulls(&mut own);
            ensure_eq!(own, want, "{word} in the segment");
            ensure_eq!(
                is_quantized(&segment),
                word != "none",
                "quantized by {word}"
            );
        }
    }
    Ok(())
}

/// What lies on disk is taken off it.
fn off_disk(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["quant_product"])?;
    let storage = |master: &Master| -> Outcome<Vec<Value>> {
        let of = |s: &Segment| s.state["config"]["vector_data"][""]["storage_type"].clone();
        Ok(filled(master)?.iter().map(of).collect())
    };
    let there = sources.rebuild(&[])?;
    ensure!(
        storage(&there)?.iter().all(|kind| kind == "Mmap"),
        "not on disk as it was"
    );
    let master = sources.merge(&["--on-disk-vectors", "false"])?;
    master.ensure_holds(&sources.truths[0])?;
    ensure!(
        storage(&master)?.iter().all(|kind| kind == "InRamMmap"),
        "still on disk"
    );
    ensure_config(
        &master,
        &changed(&sources, &[("/params/vectors/on_disk", json!(false))])?,
    )
}

/// 1000 points of 16 dimensions are 62.5 KB: from a threshold of 62 on they lie on disk, unless it is
/// stated where they lie; indexed or not.
fn memory_mapped(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["album_2017"])?;
    for (flags, storage) in [
        (vec!["--memmap-threshold", "63"], "InRamMmap"),
        (vec!["--memmap-threshold", "62"], "Mmap"),
        (vec!["--memmap-threshold", "0"], "InRamMmap"),
        (
            vec!["--memmap-threshold", "62", "--on-disk-vectors", "false"],
            "InRamMmap",
        ),
        (
            vec!["--memmap-threshold", "62", "--indexing-threshold", "0"],
            "ChunkedMmap",
        ),
    ] {
        let master = sources.merge(&flags)?;
        master.ensure_holds(&sources.truths[0])?;
        for segment in filled(&master)? {
            let vector = &segment.state["config"]["vector_data"][""];
            ensure_eq!(
                vector["storage_type"],
                json!(storage),
                "storage by {flags:?}"
            );
        }
    }
    Ok(())
}

/// A flag is for every vector, a file can mean one.
fn per_vector(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["named"])?;
    let file = sources.path("config.json");
    let text = json!({"vectors": {"text": {"size": 8, "distance": "Dot", "on_disk": true,
        "hnsw_config": {"m": 24}, "quantization_config": {"binary": {}}}}});
    std::fs::write(&file, text.to_string())?;
    let file = file.to_str().ok_or("a path is not UTF-8")?;
    let master = sources.merge(&["--config", file])?;
    master.ensure_holds(&sources.truths[0])?;
    for segment in filled(&master)? {
        let vectors = &segment.state["config"]["vector_data"];
        for (name, m, storage, quantized) in [
            ("image", 16, "InRamMmap", false),
            ("text", 24, "Mmap", true),
        ] {
            let vector = &vectors[name];
            ensure_eq!(vector["index"]["options"]["m"], json!(m), "m of {name}");
            ensure_eq!(vector["storage_type"], json!(storage), "storage of {name}");
            let folder = format!("vector_storage-{name}/quantized.");
            let files = segment
                .files
                .keys()
                .filter(|f| f.starts_with(&folder))
                .count();
            ensure_eq!(files > 0, quantized, "quantized {name}");
        }
    }
    let master = sources.merge(&["--on-disk-vectors", "true", "--hnsw-m", "12"])?;
    for segment in filled(&master)? {
        for name in ["image", "text"] {
            let vector = &segment.state["config"]["vector_data"][name];
            ensure_eq!(vector["index"]["options"]["m"], json!(12), "m of {name}");
            ensure_eq!(vector["storage_type"], json!("Mmap"), "storage of {name}");
        }
    }
    Ok(())
}

/// Qdrant's own JSON in both its forms; a flag wins over it.
fn file(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["album_2017"])?;
    let path = sources.path("config.json");
    let file = path.to_str().ok_or("a path is not UTF-8")?;
    let write = |value: &Value| std::fs::write(&path, value.to_string());

    // As a collection is created.
    let body = json!({"vectors": {"size": 16, "distance": "Cosine", "on_disk": true}, "shard_number": 2,
        "hnsw_config": {"m": 24, "ef_construct": 40}, "optimizers_config": {"default_segment_number": 4},
        "quantization_config": {"scalar": {"type": "int8", "always_ram": true}}});
    write(&body)?;
    let master = sources.merge(&["--config", file, "--hnsw-m", "12"])?;
    master.ensure_holds(&sources.truths[0])?;
    let want = changed(
        &sources,
        &[
            ("/params/vectors/on_disk", json!(true)),
            ("/params/shard_number", json!(2)),
            ("/hnsw_config/m", json!(12)),
            ("/hnsw_config/ef_construct", json!(40)),
            ("/optimizer_config/default_segment_number", json!(4)),
            ("/quantization_config", body["quantization_config"].clone()),
        ],
    )?;
    ensure_config(&master, &want)?;

    // As it lies in a snapshot: what one master has, another can be given.
    let mut whole = master.packed.config()?;
    whole["params"]["replication_factor"] = json!(3);
    whole["wal_config"]["wal_capacity_mb"] = json!(8);
    whole["uuid"] = json!("550e8400-e29b-41d4-a716-446655440000");
    write(&whole)?;
    let master = sources.merge(&["--config", file])?;
    whole["uuid"] = Value::Null;
    drop_nulls(&mut whole);
    ensure_config(&master, &whole)?;
    master.ensure_holds(&sources.truths[0])?;

    let before = names_in(sources.dir())?;
    for (text, says) in [
        (r#"{"vectors": {"size": 8, "distance": "Cosine"}}"#, "size"),
        (r#"{"hnsw_confg": {"m": 8}}"#, "hnsw_confg"),
        ("m = 8", "config.json"),
    ] {
        std::fs::write(&path, text)?;
        cli![
            "merge",
            &sources.files[0],
            "-o",
            sources.path("no.snapshot"),
            "--config",
            file
        ]
        .run()?
        .code(2)?
        .says(&["config.json", says])?;
        ensure_eq!(names_in(sources.dir())?, before, "files after {text}");
    }
    Ok(())
}

/// The plan is what is then done; to print it does nothing.
fn dry_run(env: &Env) -> Outcome {
    let sources = Sources::named(env, &super::ALBUMS)?;
    let before = names_in(sources.dir())?;
    let scratch = sources.path("scratch-not-made");
    let plan = |json: bool| {
        let run = cli!["merge", "--dry-run", "--shards", "2", "--hnsw-m", "8"]
            .args(["-o".as_ref(), sources.path("master.snapshot").as_os_str()])
            .args(["--scratch".as_ref(), scratch.as_os_str()])
            .args(json.then_some("--json"))
            .args(&sources.files);
        run.run()?.ok()
    };
    let text = plan(false)?.stdout;
    for part in [
        "rebuild",
        "album_2019_overlap",
        "2 shards",
        "hnsw_config.m",
        "nothing was done",
    ] {
        ensure!(text.contains(part), "the plan lacks {part:?}:\n{text}");
    }
    let plan = plan(true)?.json()?;
    ensure_eq!(names_in(sources.dir())?, before, "files afterwards");

    ensure_eq!(plan["format"], json!("snapmerge-merge-plan/2"), "format");
    ensure_eq!(plan["route"], json!("rebuild"), "route");
    ensure_eq!(plan["shards"], json!([0, 1]), "shards");
    let master = sources.merge(&["--shards", "2", "--hnsw-m", "8"])?;
    ensure_eq!(
        plan["config"],
        master.packed.config()?,
        "config, planned and made"
    );
    for key in ["findings", "decisions"] {
        ensure!(!plan[key].to_string().is_empty(), "no {key}");
        ensure_eq!(plan[key], master.report[key], "{key}, planned and made");
    }
    let named: Vec<&Value> = plan["sources"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|s| &s["name"])
        .collect();
    ensure_eq!(named, super::ALBUMS, "sources");
    Ok(())
}
