//! `verify` and `diff` of live collections and of entries of an archive: right masters pass, one that
//! drifted is told rightly, in whatever form the sources are.

use std::path::Path;

use serde_json::{Value, json};

use crate::archive::{archive, make};
use crate::merge::{ALBUMS, Sources};
use crate::replay::Place;
use crate::support::cli::Cli;
use crate::support::craft::{Member, Tar};
use crate::support::{Env, Outcome, Trial, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = vec![
        Trial::new("verify/live/archive", || of_archive(env)),
        Trial::new("verify/live/nobody_there", || nobody_there(env)),
        env.live("verify/live/drifted", |bin| drifted(env, bin)),
        env.live("verify/live/misplaced", |bin| misplaced(env, bin)),
        env.live("verify/live/shard_keys", |bin| keyed(env, bin)),
        env.live("verify/live/queries", |bin| queries(env, bin)),
    ];
    for group in [
        &ALBUMS[..],
        &["album_2017", "edited", "uuid_ids"],
        &["named"],
        &["sparse_dense"],
        &["multivector"],
        &["three_shards"],
        &["all_indexes"],
        &["float16"],
        &["uint8"],
        &["euclid_on_disk"],
    ] {
        let name = format!("verify/live/right/{}", group.join("+"));
        trials.push(env.live(name, move |bin| right(env, bin, group)));
    }
    trials
}

/// `verify … --json` of what is live, with the port of gRPC.
fn verify(place: &Place, master: impl AsRef<std::ffi::OsStr>) -> Cli {
    asking(place, cli!["verify", master.as_ref(), "--json", "-q"])
}

fn asking(place: &Place, run: Cli) -> Cli {
    let port = place.server.grpc_url();
    let port = port.rsplit(':').next().unwrap_or_default().to_owned();
    run.args(["--grpc-port", &port])
}

/// Masters that a server makes are right: written by replay, read by the route scratch, and restored;
/// also seen against live sources.
fn right(env: &Env, bin: &Path, group: &[&str]) -> Outcome {
    let place = Place::new(bin)?;
    let sources = Sources::named(env, group)?;
    let written = place.merging(&sources.files, "written").run()?.ok()?;
    let record = place.path("written.json");
    std::fs::write(&record, written.json()?.to_string())?;
    let points = written.json()?["master"]["points"].clone();
    for flags in [
        vec!["--provenance".into(), record.display().to_string()],
        vec!["--no-provenance".into()],
    ] {
        let run = verify(&place, place.at("written")).args(&flags);
        let run = run.arg("--against").args(&sources.files).run()?.ok()?;
        let report = run.json()?;
        ensure_eq!(report["verdict"], "proven", "{flags:?}");
        ensure_eq!(report["looked_at"], points, "{flags:?}");
        ensure_eq!(report["unknown"], Value::Null, "{flags:?}");
    }
    // By the route scratch, into a file.
    let output = sources.path("scratch.snapshot");
    let run = cli!["merge", "-q", "--route", "scratch", "-o", &output]
        .args(["--scratch-server", &place.server.url()])
        .env("XDG_STATE_HOME", place.path("state"))
        .args(&sources.files);
    asking(&place, run).run()?.ok()?;
    cli!["verify", &output, "-q", "--against"]
        .args(&sources.files)
        .run()?
        .ok()?;
    // Restored, against the sources as they live.
    let mut live = Vec::new();
    for case in &sources.cases {
        live.push(place.restore(case)?);
    }
    let master = sources.merge(&[])?;
    place.server.upload("restored", &master.path)?;
    let run = verify(&place, place.at("restored"));
    let run = run.arg("--against").args(&live).run()?.ok()?;
    ensure_eq!(run.json()?["looked_at"], points, "against live sources");
    let run = asking(
        &place,
        cli!["diff", &master.path, place.at("restored"), "--json", "-q"],
    );
    ensure_eq!(
        run.run()?.ok()?.json()?["points"]["same"],
        points,
        "by diff"
    );
    Ok(())
}

/// One point changed, one deleted, one added, an index dropped, a setting changed: all found and named,
/// and nothing else; the whole and a sample, by verify and by diff.
fn drifted(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let sources = Sources::named(env, &ALBUMS)?;
    let master = sources.merge(&["--shards", "2"])?;
    let server = &place.server;
    server.upload("prod", &master.path)?;
    let path = |rest: &str| format!("/collections/prod{rest}");
    server.post(
        &path("/points/payload?wait=true"),
        &json!({"payload": {"year": 1999}, "points": [5]}),
    )?;
    server.post(&path("/points/delete?wait=true"), &json!({"points": [7]}))?;
    let vector = server.get(&path("/points/9"))?["vector"].clone();
    server.put(
        &path("/points?wait=true"),
        &json!({"points": [{"id": 1_000_000, "vector": vector}]}),
    )?;
    server.delete(&path("/index/year?wait=true"))?;
    server.ask("PATCH", &path(""), Some(&json!({"hnsw_config": {"m": 24}})))?;
    let against = |flags: &[&str]| -> Outcome<Value> {
        let run = verify(&place, place.at("prod")).args(flags);
        let run = run.arg("--against").args(&sources.files).run()?;
        run.code(3)?.json()
    };
    let beside = sources.path("master.snapshot.provenance.json");
    let report = against(&["--provenance", &beside.display().to_string()])?;
    ensure_eq!(report["verdict"], "differs", "the verdict");
    ensure_eq!(
        report["first"],
        json!([
            {"id": 5, "difference": "differs", "source": "album_2017", "payload": ["year"]},
            {"id": 7, "difference": "missing", "source": "album_2017"},
            {"id": 1_000_000, "difference": "extra"},
        ]),
        "what is told of points"
    );
    ensure_eq!(report["differences"], 3, "and of no other");
    let settings = report["settings"].as_array().ok_or("no settings")?;
    ensure_eq!(settings.len(), 2, "{settings:?}");
    let told = report["settings"].to_string();
    ensure!(
        told.contains("hnsw_config.m") && told.contains("'year'"),
        "{told}"
    );
    let shards = report["shards"].as_array().ok_or("no shards")?;
    ensure_eq!(shards.len(), 2, "shards that were looked at");

    let sampled = against(&["--no-provenance", "--sample", "10%"])?;
    let looked_at = sampled["looked_at"].as_u64().ok_or("no points")?;
    ensure!(
        (140..560).contains(&looked_at),
        "{looked_at} of 2801 are no tenth"
    );

    let run = asking(
        &place,
        cli!["diff", &master.path, place.at("prod"), "--json", "-q"],
    );
    let report = run.run()?.code(3)?.json()?;
    ensure_eq!(
        report["first"],
        json!([
            {"id": 5, "change": "changed", "payload": ["year"]},
            {"id": 7, "change": "removed"},
            {"id": 1_000_000, "change": "added"},
        ]),
        "what changed"
    );
    Ok(())
}

/// A point in the wrong shard, and one in two, are seen on the server, shard by shard.
fn misplaced(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let sources = Sources::named(env, &["album_2017"])?;
    let master = sources.merge(&["--shards", "2"])?;
    // Each shard's points with the folder of the other.
    let mut tar = Tar::parse(&std::fs::read(&master.path)?)?;
    for member in &mut tar.members {
        let (other, rest) = match member.path.split_once("/segments/") {
            Some(("0", rest)) => (1, rest),
            Some(("1", rest)) => (0, rest),
            _ => continue,
        };
        *member = Member::file(&format!("{other}/segments/{rest}"), &member.data);
    }
    let swapped = sources.path("swapped.snapshot");
    std::fs::write(&swapped, tar.bytes())?;
    place.server.upload("swapped", &swapped)?;
    let run = verify(&place, place.at("swapped")).arg("--against");
    let report = run.args(&sources.files).run()?.code(3)?.json()?;
    ensure_eq!(report["points"]["misplaced"], 1000, "{report}");
    ensure_eq!(report["first"][0]["difference"], "misplaced", "{report}");
    ensure_eq!(report["differences"], 1000, "and nothing else");
    Ok(())
}

/// Under shard keys every point is looked for where its key says.
fn keyed(env: &Env, bin: &Path) -> Outcome {
    let place = Place::cluster(bin)?;
    let sources = Sources::named(env, &["shard_keys"])?;
    place.merging(&sources.files, "keyed").run()?.ok()?;
    let against = || -> Outcome<_> {
        verify(&place, place.at("keyed"))
            .arg("--against")
            .args(&sources.files)
            .run()
    };
    let report = against()?.ok()?.json()?;
    ensure_eq!(report["looked_at"], sources.truths[0].len(), "looked at");
    // Under another key it is another point, which no source has.
    let point = &sources.truths[0][0];
    let other = sources.truths[0]
        .iter()
        .find(|other| other["shard_key"] != point["shard_key"])
        .ok_or("only one key")?;
    place.server.put(
        "/collections/keyed/points?wait=true",
        &json!({
            "points": [{"id": point["id"], "vector": point["vector"], "payload": point["payload"]}],
            "shard_key": other["shard_key"],
        }),
    )?;
    let report = against()?.code(3)?.json()?;
    ensure_eq!(report["first"][0]["difference"], "extra", "{report}");
    ensure_eq!(report["first"][0]["id"], point["id"], "{report}");
    ensure_eq!(report["points"]["extra"], 1, "{report}");
    Ok(())
}

/// The master's answers come over gRPC, and are those of the sources, whatever the vectors.
fn queries(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    for group in [
        &["album_2017", "album_2018"][..],
        &["named"],
        &["sparse_dense"],
        &["multivector"],
        &["euclid_on_disk"],
    ] {
        let sources = Sources::named(env, group)?;
        let name = group.join("_");
        place.merging(&sources.files, &name).run()?.ok()?;
        let run = verify(&place, place.at(&name)).args(["--queries", "30"]);
        let run = run.arg("--against").args(&sources.files).run()?.ok()?;
        let report = run.json()?;
        let kinds = report["answers"]["kinds"].as_array().ok_or("no answers")?;
        ensure!(!kinds.is_empty(), "{group:?}: {}", report["answers"]);
        for kind in kinds {
            ensure_eq!(kind["differing"], 0, "{group:?}: {kind}");
            let recall = kind["recall_mean"].as_f64().ok_or("no recall")?;
            ensure!((0.8..=1.0).contains(&recall), "{group:?}: {kind}");
        }
    }
    // A filter of the merge goes to live sources as it was typed.
    let sources = Sources::named(env, &["album_2017"])?;
    let live = place.restore(&sources.cases[0])?;
    let filter = r#"{"must":[{"key":"year","range":{"gte":2000}}]}"#;
    place
        .merging(&sources.files, "filtered")
        .args(["--filter", filter])
        .run()?
        .ok()?;
    let run = verify(&place, place.at("filtered")).args(["--queries", "20", "--filter", filter]);
    let report = run.arg("--against").arg(&live).run()?.ok()?.json()?;
    ensure!(
        report["answers"]["kinds"][0]["queries"].as_u64() > Some(0),
        "{report}"
    );
    Ok(())
}

/// Masters and sources in an archive are got out of it, and called as they were typed.
fn of_archive(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let sources = Sources::named(env, &["album_2017", "album_2018"])?;
    let master = sources.merge(&[])?;
    for file in sources.files.iter().chain([&master.path]) {
        archive("add", &root).arg(file).run()?.ok()?;
    }
    let place = ["--archive", &root.display().to_string()];
    let run = cli!["verify", "archive:master@latest", "--json", "-q"]
        .args(place)
        .args(["--against", "archive:album_2017@latest"])
        .arg(&sources.files[1]);
    let report = run.run()?.ok()?.json()?;
    ensure_eq!(report["verdict"], "proven", "the verdict");
    ensure_eq!(
        report["master"]["file"],
        "archive:master@latest",
        "the master"
    );
    let first = &report["sources"][0];
    ensure_eq!(
        first["file"],
        "archive:album_2017@latest",
        "the first source"
    );
    ensure_eq!(first["checksum"]["state"], "verified", "{first}");
    let diff = |after: &str| {
        cli!["diff", "archive:album_2017@latest", after, "--json", "-q"]
            .args(place)
            .run()
    };
    let report = diff("archive:album_2018@latest")?.code(3)?.json()?;
    ensure_eq!(report["points"]["added"], 1000, "{}", report["points"]);
    ensure_eq!(
        report["before"]["file"],
        "archive:album_2017@latest",
        "before"
    );
    diff(&sources.files[0].display().to_string())?.ok()?;
    cli![
        "verify",
        "archive:nothing@latest",
        "--against",
        &sources.files[0]
    ]
    .args(place)
    .run()?
    .code(10)?;
    Ok(())
}

/// A server that is not there is told, as is a place of the archive that nobody named.
fn nobody_there(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["album_2017"])?;
    cli![
        "verify",
        "http://127.0.0.1:1/album",
        "-q",
        "--retries",
        "0",
        "--against"
    ]
    .args(&sources.files)
    .run()?
    .code(1)?
    .says(&["127.0.0.1:1"])?;
    cli!["diff", "archive:a@latest", &sources.files[0], "-q"]
        .run()?
        .code(2)?
        .says(&["--archive"])?;
    Ok(())
}
