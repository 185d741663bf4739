//! Masters that are joined into the archive, or onto a server; and jobs that lie in a bucket.

use std::path::Path;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::Bench;
use super::same::sharded;
use crate::archive::{archive, entries};
use crate::server::cluster::agree;
use crate::support::cli::Cli;
use crate::support::qdrant::Server;
use crate::support::s3::S3;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("job/elsewhere/into_the_archive", into_the_archive),
        env.live("job/elsewhere/onto_a_server", onto_a_server),
        env.live("job/elsewhere/onto_a_cluster", onto_a_cluster),
        Trial::new("job/elsewhere/without_room_for_the_master", without_room),
        Trial::new(
            "job/elsewhere/a_task_reads_its_share",
            a_task_reads_its_share,
        ),
        Trial::new("job/elsewhere/in_a_bucket", || in_a_bucket(Failing::Before)),
        Trial::new("job/elsewhere/in_a_bucket_whose_answers_are_lost", || {
            in_a_bucket(Failing::After)
        }),
    ]
}

fn bench() -> Outcome<Bench> {
    Bench::of(|dir| {
        Ok(vec![
            sharded(dir, "a", 0, 3000, 3)?,
            sharded(dir, "b", 5000, 3000, 3)?,
        ])
    })
}

fn into_the_archive() -> Outcome {
    let bench = bench()?;
    let whole = bench.path("whole.snapshot");
    let by_merge = bench.merge(&whole, &[]).run()?.ok()?.json()?;
    let job = bench.planned(&[])?;
    let scratch = bench.path("scratch");
    std::fs::create_dir(&scratch)?;
    let join = || {
        let join = cli!["job", "join", &job.place, "--json", "--into-archive", "all"];
        join.arg("--scratch").arg(&scratch)
    };
    let before = entries(&bench.root)?;
    join().run()?.code(1)?.says(&["are not done"])?;
    ensure_eq!(entries(&bench.root)?, before, "entries");
    job.all_tasks()?;
    let report = join().run()?.ok()?.json()?;
    ensure_eq!(
        report["master"]["sha256"],
        by_merge["master"]["sha256"],
        "the SHA-256"
    );
    ensure_eq!(report["proof"]["proven"], true, "the proof");
    let entry = &report["archived"]["entry"];
    ensure_eq!(
        entry["sha256"],
        by_merge["master"]["sha256"],
        "the entry's SHA-256"
    );
    let id = entry["id"].as_str().ok_or("no id")?;
    ensure_eq!(
        report["master"]["file"],
        format!("archive:{id}"),
        "where the master is"
    );
    ensure!(
        !entry["provenance"].is_null(),
        "the entry has no provenance"
    );
    // Segments that are carried are in the archive with the sources.
    let (new, all) = (entry["new_bytes"].as_u64(), entry["bytes"].as_u64());
    ensure!(
        new.zip(all).is_some_and(|(new, all)| new * 5 < all),
        "of {all:?} bytes {new:?} were stored anew"
    );
    let left = names_in(&scratch)?;
    ensure!(left.is_empty(), "left in scratch: {left:?}");
    archive("check", &bench.root).run()?.ok()?;
    let back = bench.path("back.snapshot");
    archive("get", &bench.root)
        .args([id, "-o"])
        .arg(&back)
        .run()?
        .ok()?;
    ensure!(
        std::fs::read(&back)? == std::fs::read(&whole)?,
        "another master came back"
    );
    // Again it is the same entry.
    let again = join().run()?.ok()?.json()?;
    ensure_eq!(again["archived"]["already"], true, "already");
    // Beside a file.
    let file = bench.path("file.snapshot");
    let both = join().arg("-o").arg(&file).run()?.ok()?.json()?;
    ensure_eq!(both["master"]["file"], json!(file), "where the master is");
    ensure!(
        std::fs::read(&file)? == std::fs::read(&whole)?,
        "another file"
    );
    let nowhere = cli!["job", "join", &job.place];
    nowhere.run()?.code(2)?.says(&["--output"])?;
    Ok(())
}

/// A master that is stored in the archive is never a file: no file that is written may be as long as it.
fn without_room() -> Outcome {
    let bench = bench()?;
    let job = bench.planned(&[])?;
    job.all_tasks()?;
    let most = 1_024_000;
    // In units of 512 bytes.
    let limited = |cli: Cli| cli.under(&["sh", "-c", "ulimit -f 2000; exec \"$@\"", "sh"]);
    let file = bench.path("file.snapshot");
    let to_file = limited(job.join(&file)).run()?;
    ensure!(
        to_file.ok().is_err() && !file.exists(),
        "a file was made in spite of the limit"
    );
    let into = cli!["job", "join", &job.place, "--json", "--into-archive", "all"];
    let report = limited(into).run()?.ok()?.json()?;
    ensure_eq!(report["proof"]["proven"], true, "the proof");
    let bytes = report["archived"]["entry"]["bytes"].as_u64();
    ensure!(bytes > Some(2 * most), "the master has {bytes:?} bytes");
    archive("check", &bench.root).run()?.ok()?;
    Ok(())
}

/// A task reads the objects behind its own shard, and those that begin or end in it; of the others what tells
/// where things are.
fn a_task_reads_its_share() -> Outcome {
    const ARCHIVE: &str = "s3://test/backups";
    const SHARDS: usize = 2;
    // Enough that most objects have no header in them.
    const ROWS: u64 = 30_000;
    let dir = temp_dir()?;
    let s3 = S3::start()?;
    let run = |cli: Cli| s3.lead(cli).run()?.ok();
    run(cli!["archive", "init", "--archive", ARCHIVE])?;
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut text = String::new();
    for id in 0..ROWS {
        let digits: Vec<String> = (0..400)
            .map(|_| random.random_range(0..10).to_string())
            .collect();
        text += &format!("{{\"id\":{id},\"vector\":[{}]}}\n", digits.join(","));
    }
    let (rows, one, two) = (
        dir.path().join("rows.jsonl"),
        dir.path().join("one.snapshot"),
        dir.path().join("two.snapshot"),
    );
    std::fs::write(&rows, text)?;
    let ingest = cli![
        "ingest",
        "-q",
        &rows,
        "--size",
        "400",
        "--distance",
        "Dot",
        "-o",
        &one
    ];
    ingest.run()?.ok()?;
    let divide = cli![
        "merge",
        "-q",
        &one,
        "--shards",
        SHARDS.to_string(),
        "-o",
        &two
    ];
    divide.run()?.ok()?;
    run(cli![
        "archive",
        "add",
        "--archive",
        ARCHIVE,
        "--name",
        "a",
        &two
    ])?;
    let plan = cli![
        "job",
        "plan",
        "--json",
        "s3://test/jobs",
        "--archive",
        ARCHIVE
    ];
    let plan = run(plan.arg("archive:a"))?.json()?;
    let job = plan["job"].as_str().ok_or("no job")?;
    let is_object = |name: &str| name.contains("/objects/");
    let names = s3.names();
    let objects = names.iter().filter(|name| is_object(name));
    let all: u64 = objects.filter_map(|name| s3.bytes(name)).sum();
    let mut sum = 0;
    for index in 0..SHARDS {
        s3.take_read();
        let index = index.to_string();
        run(cli![
            "job", "task", job, "--stage", "shard", "--index", &index
        ])?;
        let read = s3.take_read();
        let read = read.iter().filter(|(name, _)| is_object(name));
        // Of each object, however often it is read: what is kept in memory depends on threads.
        let (mut objects, mut bytes) = (0, 0);
        for (name, count) in read {
            objects += s3.bytes(name).unwrap_or(0).min(*count);
            bytes += count;
        }
        ensure!(
            objects * 10 < all * 8 && bytes < 2 * objects,
            "task {index} read {objects} of the {all} bytes of all objects, {bytes} in all"
        );
        sum += objects;
    }
    ensure!(sum >= all, "the tasks read {sum} of {all} bytes");
    Ok(())
}

/// Joins onto `to`, and compares what is there with the points of `expected`.
fn join_onto(bench: &Bench, to: &str, more: &[String]) -> Outcome<Value> {
    let job = bench.planned(&["--stamp", "from", "--shards", "3"])?;
    job.all_tasks()?;
    let scratch = bench.path("scratch");
    std::fs::create_dir(&scratch)?;
    let join = || {
        let join = cli!["job", "join", &job.place, "--json", "--to", to];
        let state = bench.path("state");
        join.args(more)
            .arg("--scratch")
            .arg(&scratch)
            .arg("--state")
            .arg(state)
    };
    let report = join().run()?.ok()?.json()?;
    ensure_eq!(report["proof"]["proven"], true, "the proof");
    ensure_eq!(report["master"]["file"], to, "where the master is");
    ensure_eq!(
        report["restored"]["verdict"]["points"],
        5500,
        "points that are there"
    );
    join()
        .run()?
        .code(12)?
        .says(&["exists already", "--overwrite"])?;
    let left = names_in(&scratch)?;
    ensure!(left.is_empty(), "left in scratch: {left:?}");
    Ok(report)
}

/// Two sources that have ids in common.
fn overlapping() -> Outcome<Bench> {
    Bench::of(|dir| {
        Ok(vec![
            sharded(dir, "a", 0, 3000, 3)?,
            sharded(dir, "b", 2500, 3000, 3)?,
        ])
    })
}

fn onto_a_server(bin: &Path) -> Outcome {
    let bench = overlapping()?;
    let server = Server::start(bin)?;
    let to = format!("{}/joined", server.url());
    join_onto(&bench, &to, &[])?;
    let points = server.scroll("joined")?;
    ensure_eq!(points.len(), 5500, "points");
    let of = |name: &str| {
        let is_of = |point: &&Value| point["payload"]["from"] == name;
        points.iter().filter(is_of).count()
    };
    ensure_eq!((of("a"), of("b")), (2500, 3000), "points by their source");
    // A server that is not there is known before anything is joined.
    let job = bench.planned(&["--on-conflict", "first"])?;
    let nobody = cli![
        "job",
        "join",
        &job.place,
        "--retries",
        "0",
        "--to",
        "http://127.0.0.1:1/x"
    ];
    nobody.run()?.code(1)?.says(&["127.0.0.1:1"])?;
    Ok(())
}

fn onto_a_cluster(bin: &Path) -> Outcome {
    let bench = overlapping()?;
    let first = Server::start_cluster(bin)?;
    let second = first.join()?;
    agree(&[&first, &second], None)?;
    let id = second.get("/cluster")?["peer_id"].to_string();
    let peer = [format!("--peer={id}={}", second.url())];
    let report = join_onto(&bench, &format!("{}/joined", first.url()), &peer)?;
    ensure_eq!(report["restored"]["members"], 2, "members");
    ensure_eq!(first.count("joined")?, 5500, "points");
    Ok(())
}

/// How a bucket fails.
#[derive(Clone, Copy, PartialEq)]
enum Failing {
    /// It does nothing.
    Before,
    /// It does what it is asked to, and the answer is lost.
    After,
}

/// Archive and job in a bucket that fails now and then.
fn in_a_bucket(failing: Failing) -> Outcome {
    const ARCHIVE: &str = "s3://test/backups";
    const STORE: &str = "s3://test/jobs";
    let dir = temp_dir()?;
    let s3 = S3::start()?;
    let lead = |cli: Cli| s3.lead(cli);
    lead(cli!["archive", "init", "--archive", ARCHIVE])
        .run()?
        .ok()?;
    let mut files = Vec::new();
    for (name, first) in [("a", 0), ("b", 2500)] {
        let (_, file) = sharded(dir.path(), name, first, 3000, 2)?;
        let add = cli![
            "archive",
            "add",
            "--archive",
            ARCHIVE,
            "--name",
            name,
            &file
        ];
        lead(add).run()?.ok()?;
        files.push(file);
    }
    s3.fail_every(6);
    if failing == Failing::After {
        s3.do_all_the_same();
    }
    // As many shards as the sources; and others.
    for (shards, runs) in [("2", 0_usize), ("3", 4)] {
        let whole = dir.path().join(format!("{shards}.snapshot"));
        let merge = cli!["merge", "--json", "--shards", shards, "-o", &whole];
        let by_merge = merge.args(&files).run()?.ok()?.json()?;
        let plan = || {
            let plan = cli!["job", "plan", "--json", STORE, "--archive", ARCHIVE];
            let plan = plan.args(["archive:a", "archive:b", "--shards", shards]);
            lead(plan).run()?.ok()?.json()
        };
        let planned = plan()?;
        ensure_eq!(plan()?["job"], planned["job"], "the job, planned again");
        let job = planned["job"].as_str().ok_or("no job")?;
        ensure!(job.starts_with(STORE), "the job is {job}");
        let task = |stage: &str, index: usize| {
            let task = cli!["job", "task", job, "--json", "--stage", stage];
            lead(task.args(["--index", &index.to_string()]))
        };
        let parts: usize = shards.parse()?;
        for (stage, count) in [("map", runs), ("shard", parts)] {
            for index in 0..count {
                let made = task(stage, index).run()?.ok()?.json()?;
                ensure_eq!(made["was_there"], false, "was there");
                let again = task(stage, index).run()?.ok()?.json()?;
                ensure_eq!(again["was_there"], true, "was there");
            }
        }
        // Two at once.
        let rm = cli!["job", "rm", job, "--part", "1"];
        lead(rm).run()?.ok()?;
        let running = [task("shard", 1).start()?, task("shard", 1).start()?];
        let mut made = 0;
        for running in running {
            made += usize::from(running.wait()?.ok()?.json()?["was_there"] == false);
        }
        ensure_eq!(made, 1, "parts that were made");
        let status = lead(cli!["job", "status", job, "--json"]);
        let status = status.run()?.ok()?.json()?;
        ensure_eq!(status["done"], runs + parts, "tasks that are done");
        ensure_eq!(status["unnamed_bytes"], 0, "bytes of no part");
        let master = dir.path().join(format!("{shards}.joined"));
        let join = || lead(cli!["job", "join", job, "--json", "--force", "-o", &master]);
        let joined = join().run()?.ok()?.json()?;
        ensure_eq!(
            joined["master"]["digest"],
            by_merge["master"]["digest"],
            "the digest"
        );
        // An object that was changed, and one that is gone.
        let chunk = s3
            .names()
            .into_iter()
            .find(|name| name.contains("/members-"));
        let chunk = chunk.ok_or("no chunk")?;
        let mut own = Vec::new();
        s3.change(&chunk, |bytes| {
            own.clone_from(bytes);
            bytes[1000] ^= 4;
            true
        });
        std::fs::remove_file(&master)?;
        join().run()?.code(13)?.says(&["its SHA-256 is not"])?;
        s3.change(&chunk, |_| false);
        join().run()?.code(13)?.says(&["it is not there"])?;
        ensure!(!master.exists(), "a master was made");
        s3.put(&chunk, own);
        join().run()?.ok()?;
        lead(cli!["job", "rm", job]).run()?.ok()?;
        let left: Vec<String> = s3.names();
        let left: Vec<&String> = left
            .iter()
            .filter(|name| name.starts_with("jobs/"))
            .collect();
        ensure!(left.is_empty(), "left in the bucket: {left:?}");
        lead(cli!["job", "status", job]).run()?.code(10)?;
    }
    ensure!(s3.failed() > 20, "{} requests were failed", s3.failed());
    s3.fail_every(0);
    let check = cli!["archive", "check", "--archive", ARCHIVE];
    lead(check).run()?.ok()?;
    Ok(())
}
