//! What a job makes is what one merge makes.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Bench;
use crate::archive::encrypted::{KEY, PUBLIC, key_file};
use crate::archive::{archive, rows};
use crate::merge::ALBUMS;
use crate::support::{Env, Outcome, Trial};

/// Numbers of shards.
const SHARDS: [u32; 3] = [1, 3, 16];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = Vec::new();
    for shards in SHARDS {
        trials.push(Trial::new(
            format!("job/same/untouched_{shards}"),
            move || untouched(shards),
        ));
        trials.push(Trial::new(
            format!("job/same/conflicts_{shards}"),
            move || conflicts(shards),
        ));
        trials.push(Trial::new(
            format!("job/same/rebuilt_{shards}"),
            move || rebuilt(shards),
        ));
    }
    trials.extend([
        Trial::new("job/same/keys", keys),
        Trial::new("job/same/config_of_a_file", config_of_a_file),
        Trial::new("job/same/as_servers_leave_them", || {
            as_servers_leave_them(env)
        }),
        Trial::new("job/same/refused", || refused(env)),
        Trial::new("job/same/archives_look_past_jobs", archives_look_past_jobs),
    ]);
    trials
}

/// Rows from `first` on in a snapshot of so many shards.
pub(super) fn sharded(
    dir: &Path,
    name: &str,
    first: u64,
    count: u64,
    shards: u32,
) -> Outcome<(String, PathBuf)> {
    let one = rows(dir, &format!("{name}-one"), first, count)?;
    let many = dir.join(format!("{name}.snapshot"));
    cli![
        "merge",
        "-q",
        &one,
        "--shards",
        shards.to_string(),
        "-o",
        &many
    ]
    .run()?
    .ok()?;
    Ok((name.to_owned(), many))
}

/// Fails unless merge and job make the same of `bench` with `flags`; with `same_bytes` the same file.
pub(super) fn ensure_same(
    bench: &Bench,
    flags: &[&str],
    same_bytes: bool,
) -> Outcome<(Value, Value)> {
    let (whole, joined) = (bench.path("whole.snapshot"), bench.path("joined.snapshot"));
    let (of_merge, of_job) = (bench.path("merge.jsonl"), bench.path("job.jsonl"));
    let by_merge = bench
        .merge(&whole, flags)
        .args(["--force", "--ledger"])
        .arg(&of_merge);
    let by_merge = by_merge.run()?.ok()?.json()?;
    let job = bench.planned(flags)?;
    job.all_runs()?;
    // From the last to the first, each once.
    for index in (0..job.tasks).rev() {
        job.task(index).run()?.ok()?;
    }
    let by_job = job.join(&joined).arg("--ledger").arg(&of_job);
    let by_job = by_job.run()?.ok()?.json()?;
    ensure_eq!(
        std::fs::read_to_string(&of_job)?,
        std::fs::read_to_string(&of_merge)?,
        "the ledgers"
    );
    ensure_eq!(by_job["proof"]["proven"], true, "the proof");
    for about in [
        "/route",
        "/because",
        "/conflicts/count",
        "/conflicts/first",
        "/conflicts/lacking",
        "/conflicts/policy",
        "/master/points",
        "/master/digest",
        "/master/digest_parts",
        "/findings",
        "/decisions",
        "/missing",
        "/notes",
        "/proof/points",
        "/proof/compared",
        "/provenance/sources",
        "/provenance/config",
        "/provenance/payload_index",
        "/provenance/shard_keys",
        "/provenance/stamp",
        "/provenance/on_conflict",
    ] {
        ensure_eq!(by_job.pointer(about), by_merge.pointer(about), "{about}");
    }
    for count in ["name", "read", "won", "lost", "filtered", "remapped"] {
        let of = |report: &Value| -> Vec<Value> {
            let sources = report["sources"].as_array().into_iter().flatten();
            sources.map(|source| source[count].clone()).collect()
        };
        ensure_eq!(of(&by_job), of(&by_merge), "{count}");
    }
    let shards = |report: &Value| -> Vec<(Value, Value, Value)> {
        let shards = report["master"]["shards"].as_array().into_iter().flatten();
        let of = |shard: &Value| {
            (
                shard["shard"].clone(),
                shard["key"].clone(),
                shard["points"].clone(),
            )
        };
        shards.map(of).collect()
    };
    ensure_eq!(shards(&by_job), shards(&by_merge), "the shards");
    cli!["diff", "-q", &whole, &joined].run()?.ok()?;
    if same_bytes {
        ensure_eq!(
            by_job["master"]["sha256"],
            by_merge["master"]["sha256"],
            "the SHA-256"
        );
        ensure!(
            std::fs::read(&whole)? == std::fs::read(&joined)?,
            "the files differ"
        );
        ensure_eq!(by_job["carried"], by_merge["carried"], "what was carried");
    }
    ensure_eq!(
        job.status()?["done"],
        job.runs + job.tasks,
        "tasks that are done"
    );
    Ok((by_merge, by_job))
}

/// Segments that are carried as they are make the same file, byte by byte.
fn untouched(shards: u32) -> Outcome {
    let bench = Bench::of(|dir| {
        Ok(vec![
            sharded(dir, "a", 0, 1200, shards)?,
            sharded(dir, "b", 5000, 900, shards)?,
            sharded(dir, "c", 9000, 700, shards)?,
        ])
    })?;
    let (report, _) = ensure_same(&bench, &[], true)?;
    ensure_eq!(report["route"], "graft", "the route");
    ensure_eq!(report["carried"]["repacked_segments"], 0, "repacked");
    ensure_eq!(report["master"]["points"], 2800, "points");
    // Payloads written anew make the same file, too: all else of a segment is carried.
    let stamped = ["--stamp", "from", "--payload-index", "from=keyword"];
    ensure_same(&bench, &stamped, true)?;
    ensure_same(&bench, &["--segments", "1"], false)?;
    Ok(())
}

/// Two sources that have ids in common.
fn overlapping(shards: u32) -> Outcome<Bench> {
    Bench::of(|dir| {
        Ok(vec![
            sharded(dir, "a", 0, 1200, shards)?,
            sharded(dir, "b", 700, 1000, shards)?,
        ])
    })
}

fn conflicts(shards: u32) -> Outcome {
    let bench = overlapping(shards)?;
    for flags in [
        &[][..],
        &["--on-conflict", "first"],
        &["--on-conflict", "newest:n", "--stamp", "from"],
    ] {
        let (report, _) = ensure_same(&bench, flags, false)?;
        ensure_eq!(report["conflicts"]["count"], 500, "conflicts");
    }
    // A field that no record has decides nothing, in a job as in a merge.
    let unknown = ["--on-conflict", "newest:m"];
    bench
        .merge(&bench.path("none.snapshot"), &unknown)
        .run()?
        .code(2)?
        .says(&["payload field 'm'"])?;
    let job = bench.planned(&unknown)?;
    job.all_tasks()?;
    job.join(&bench.path("none.snapshot"))
        .run()?
        .code(2)?
        .says(&["payload field 'm'"])?;
    ensure!(!bench.path("none.snapshot").exists(), "a master was made");
    Ok(())
}

fn rebuilt(shards: u32) -> Outcome {
    let bench = overlapping(shards)?;
    let filter = r#"{"must":[{"key":"n","range":{"gte":3}}]}"#;
    for flags in [
        &["--route", "rebuild"][..],
        &[
            "--route",
            "rebuild",
            "--on-conflict",
            "first",
            "--drop-payload",
            "n",
        ],
        &["--filter", filter, "--on-conflict", "newest:n"],
    ] {
        let (report, _) = ensure_same(&bench, flags, false)?;
        ensure_eq!(report["route"], "rebuild", "the route");
        ensure!(report["conflicts"]["count"] != 0, "there is no conflict");
    }
    Ok(())
}

/// Two snapshots in `dir` that have the keys a and b, and points in common under each.
pub(super) fn keyed(dir: &Path) -> Outcome<Vec<(String, PathBuf)>> {
    let mut keyed = Vec::new();
    for (name, first) in [("x", 0), ("y", 400)] {
        let folder = dir.join(name);
        std::fs::create_dir(&folder)?;
        let a = rows(&folder, "a", first, 900)?;
        let b = rows(&folder, "b", first + 300, 900)?;
        let both = folder.join("both.snapshot");
        cli!["merge", "-q", &a, &b, "--layout", "by-source", "-o", &both]
            .run()?
            .ok()?;
        keyed.push((name.to_owned(), both));
    }
    Ok(keyed)
}

/// Shard keys: given by the sources' names, and brought by the sources.
fn keys() -> Outcome {
    let one = Bench::of(|dir| {
        Ok(vec![
            ("a".to_owned(), rows(dir, "a", 0, 900)?),
            ("b".to_owned(), rows(dir, "b", 500, 900)?),
        ])
    })?;
    let by_source = ["--layout", "by-source"];
    ensure_same(&one, &by_source, true)?;
    let keyed = Bench::of(keyed)?;
    let (report, _) = ensure_same(&keyed, &[], false)?;
    ensure_eq!(report["conflicts"]["count"], 1000, "conflicts");
    let key = report["master"]["shards"][1]["key"].as_str();
    ensure!(
        key.is_some_and(|key| key.contains('b')),
        "the key is {key:?}"
    );
    ensure_same(
        &keyed,
        &["--route", "rebuild", "--on-conflict", "first"],
        false,
    )?;
    Ok(())
}

/// A file that an option names is in the plan: tasks do without it.
fn config_of_a_file() -> Outcome {
    let bench = overlapping(3)?;
    let file = bench.path("config.json");
    std::fs::write(
        &file,
        r#"{"on_disk_payload": false, "hnsw_config": {"m": 24}}"#,
    )?;
    let flags = ["--config", file.to_str().ok_or("no UTF-8")?];
    let whole = bench.merge(&bench.path("whole.snapshot"), &flags);
    let whole = whole.run()?.ok()?.json()?;
    let job = bench.planned(&flags)?;
    std::fs::remove_file(&file)?;
    job.all_tasks()?;
    let joined = job
        .join(&bench.path("joined.snapshot"))
        .run()?
        .ok()?
        .json()?;
    ensure_eq!(
        joined["provenance"]["config"],
        whole["provenance"]["config"],
        "config"
    );
    ensure_eq!(
        joined["master"]["digest"],
        whole["master"]["digest"],
        "the digest"
    );
    ensure_eq!(
        joined["provenance"]["config"]["hnsw_config"]["m"],
        24,
        "edges of a node"
    );
    // What is in the file is part of what the job is.
    std::fs::write(&file, r#"{"hnsw_config": {"m": 20}}"#)?;
    let other = bench.planned(&flags)?;
    ensure!(other.place != job.place, "another config is the same job");
    Ok(())
}

/// Snapshots of real servers, with logs that their segments do not have all of.
fn as_servers_leave_them(env: &Env) -> Outcome {
    let albums = Bench::of_cases(env, &ALBUMS)?;
    ensure_same(&albums, &["--stamp", "album"], false)?;
    ensure_same(
        &albums,
        &["--route", "rebuild", "--on-conflict", "newest:taken"],
        false,
    )?;
    let shards = Bench::of_cases(env, &["three_shards"])?;
    ensure_same(&shards, &[], false)?;
    Ok(())
}

/// What is not divided is refused by the plan, with the reason and the way out, and nothing is written.
fn refused(env: &Env) -> Outcome {
    let bench = overlapping(3)?;
    let way_out = "snapmerge merge";
    for (flags, reason) in [
        (&["--on-conflict", "remap"][..], "new id"),
        (&["--layout", "by-field:n"], "which shards there are"),
        (&["--route", "scratch"], "needs a server"),
        (&["--route", "replay"], "needs a server"),
    ] {
        bench.plan(flags).run()?.code(2)?.says(&[
            "dividing the merge into tasks",
            reason,
            way_out,
        ])?;
    }
    // What merge refuses is refused in the same words.
    let unknown = ["--stamp", "from", "--stamp-value", "z=1"];
    for cli in [
        bench.plan(&unknown),
        bench.merge(&bench.path("x.snapshot"), &unknown),
    ] {
        cli.run()?
            .code(2)?
            .says(&["--stamp-value z", "no source has this name"])?;
    }
    let file = env.case("album_2017").unpack(bench.dir.path())?;
    bench
        .plan(&[])
        .arg(&file)
        .run()?
        .code(2)?
        .says(&["is no entry of an archive", "snapmerge archive add"])?;
    bench.plan(&[]).arg("archive:none").run()?.code(10)?;
    ensure!(!bench.store.exists(), "something was written");
    // Parts are not encrypted.
    let vault = bench.path("vault");
    archive("init", &vault)
        .args(["--encrypt", PUBLIC])
        .run()?
        .ok()?;
    archive("add", &vault).arg(&file).run()?.ok()?;
    let key = key_file(bench.dir.path(), KEY)?;
    cli![
        "job",
        "plan",
        "--archive",
        &vault,
        &bench.store,
        "archive:album_2017"
    ]
    .arg("--identity")
    .arg(&key)
    .run()?
    .code(2)?
    .says(&["is encrypted", way_out])?;
    ensure!(!bench.store.exists(), "something was written");
    Ok(())
}

/// A store of jobs inside an archive is nothing to that archive.
fn archives_look_past_jobs() -> Outcome {
    let mut bench = overlapping(1)?;
    bench.store = bench.root.join("jobs");
    let job = bench.planned(&[])?;
    job.all_tasks()?;
    archive("check", &bench.root).run()?.ok()?;
    archive("forget", &bench.root)
        .arg("--leftovers")
        .run()?
        .ok()?;
    archive("forget", &bench.root)
        .args(["--keep-last", "5"])
        .run()?
        .ok()?;
    job.join(&bench.path("joined.snapshot")).run()?.ok()?;
    Ok(())
}
