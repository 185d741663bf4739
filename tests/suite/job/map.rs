//! A master with other shards than its sources: runs are made of these first, and what they give is what the merge
//! gives; runs that were changed, mixed up or lost make no shard.

use std::path::PathBuf;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::same::{ensure_same, keyed, sharded};
use super::{Bench, Job, killed_at_random, two_at_once};
use crate::archive::walk;
use crate::merge::ALBUMS;
use crate::support::{Env, Outcome, Trial, names_in};

/// Tasks that are ended at a random moment.
const KILLS: u32 = 20;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (from, to) in [(1, 3), (3, 1), (3, 2)] {
        let name = format!("job/map/from_{from}_to_{to}");
        trials.push(Trial::new(name, move || resharded(from, to)));
    }
    trials.extend([
        Trial::new("job/map/of_different_numbers", of_different_numbers),
        Trial::new("job/map/under_keys", under_keys),
        Trial::new("job/map/vectors", vectors),
        Trial::new("job/map/as_servers_leave_them", || {
            as_servers_leave_them(env)
        }),
        Trial::new("job/map/misplaced", || misplaced(env)),
        Trial::new("job/map/twice_and_two_at_once", twice),
        Trial::new("job/map/killed_at_any_moment", killed),
        Trial::new("job/map/lost_and_changed", lost_and_changed),
    ]);
    trials
}

fn resharded(from: u32, to: u32) -> Outcome {
    let bench = Bench::of(|dir| {
        Ok(vec![
            sharded(dir, "a", 0, 1200, from)?,
            sharded(dir, "b", 700, 1000, from)?,
            sharded(dir, "c", 1500, 700, from)?,
        ])
    })?;
    let to = to.to_string();
    let filter = r#"{"must":[{"key":"n","range":{"gte":3}}]}"#;
    for flags in [
        &[][..],
        &["--on-conflict", "first", "--stamp", "from"],
        &["--on-conflict", "newest:n", "--drop-payload", "n"],
        &["--filter", filter, "--on-conflict", "newest:n"],
        &["--filter", filter, "--stamp", "n", "--segments", "1"],
    ] {
        let flags: Vec<&str> = ["--shards", &to].iter().chain(flags).copied().collect();
        let (report, _) = ensure_same(&bench, &flags, false)?;
        ensure_eq!(report["route"], "rebuild", "the route");
        ensure!(report["conflicts"]["count"] != 0, "there is no conflict");
    }
    let job = bench.planned(&["--shards", &to])?;
    ensure_eq!(job.runs, 3 * from as usize, "tasks of the stage map");
    ensure_eq!(job.tasks.to_string(), to, "tasks of the stage shard");
    // A conflict that must not be ends a task for good.
    let job = bench.planned(&["--shards", &to, "--on-conflict", "fail"])?;
    job.all_runs()?;
    let ends = (0..job.tasks).map(|index| Ok(job.task(index).run()?.code(1).is_ok()));
    let ends: Outcome<Vec<bool>> = ends.collect();
    ensure!(ends?.contains(&true), "no task refused a conflict");
    // A field that no record has decides nothing.
    let job = bench.planned(&["--shards", &to, "--on-conflict", "newest:m"])?;
    job.all_tasks()?;
    job.join(&bench.path("none.snapshot"))
        .run()?
        .code(2)?
        .says(&["payload field 'm'"])?;
    ensure!(!bench.path("none.snapshot").exists(), "a master was made");
    Ok(())
}

/// Sources with as many shards as the master, and with others.
fn of_different_numbers() -> Outcome {
    let bench = Bench::of(|dir| {
        Ok(vec![
            sharded(dir, "one", 0, 900, 1)?,
            sharded(dir, "three", 500, 900, 3)?,
            // Fewer points than shards of any.
            sharded(dir, "few", 1399, 2, 4)?,
        ])
    })?;
    for flags in [&["--shards", "3"][..], &["--shards", "5"]] {
        let (report, _) = ensure_same(&bench, flags, false)?;
        ensure_eq!(report["conflicts"]["count"], 401, "conflicts");
    }
    // A filter that leaves nothing.
    let none = r#"{"must":[{"key":"n","range":{"gte":99}}]}"#;
    let (report, _) = ensure_same(&bench, &["--shards", "2", "--filter", none], false)?;
    ensure_eq!(report["master"]["points"], 0, "points");
    Ok(())
}

/// The same id under two keys, where the master has other keys, more shards of each, or none.
fn under_keys() -> Outcome {
    let sharded_sources = Bench::of(|dir| {
        Ok(vec![
            sharded(dir, "a", 0, 900, 3)?,
            sharded(dir, "b", 500, 900, 1)?,
        ])
    })?;
    let by_source = ["--layout", "by-source"];
    let (report, _) = ensure_same(&sharded_sources, &by_source, false)?;
    ensure_eq!(report["conflicts"]["count"], 0, "conflicts");
    ensure_eq!(report["master"]["points"], 1800, "points");
    let two_each = ["--layout", "by-source", "--shards", "2"];
    ensure_same(&sharded_sources, &two_each, false)?;
    let keyed = Bench::of(keyed)?;
    let (report, _) = ensure_same(&keyed, &["--shards", "2"], false)?;
    ensure_eq!(report["conflicts"]["count"], 1000, "conflicts");
    // The keys of the sources are dropped for those of their names: ids meet that were under two keys of one.
    let (report, _) = ensure_same(&keyed, &by_source, false)?;
    ensure_eq!(report["conflicts"]["count"], 1200, "conflicts");
    ensure_same(
        &keyed,
        &["--layout", "by-source", "--on-conflict", "first"],
        false,
    )?;
    Ok(())
}

/// Vectors that get another name have it in the runs.
fn vectors() -> Outcome {
    let bench = Bench::of(|dir| {
        Ok(vec![
            sharded(dir, "a", 0, 700, 2)?,
            sharded(dir, "b", 500, 700, 2)?,
        ])
    })?;
    let flags = ["--shards", "3", "--rename-vector", "=image"];
    let (_, report) = ensure_same(&bench, &flags, false)?;
    let vectors = &report["provenance"]["config"]["params"]["vectors"];
    ensure!(vectors.get("image").is_some(), "the vectors are {vectors}");
    Ok(())
}

/// Snapshots of real servers, with logs that their segments do not have all of, and every kind of vector.
fn as_servers_leave_them(env: &Env) -> Outcome {
    let albums = Bench::of_cases(env, &ALBUMS)?;
    let newest = [
        "--shards",
        "3",
        "--on-conflict",
        "newest:taken",
        "--stamp",
        "album",
    ];
    ensure_same(&albums, &newest, false)?;
    let three = Bench::of_cases(env, &["three_shards"])?;
    ensure_same(&three, &["--shards", "4"], false)?;
    ensure_same(&three, &["--shards", "1"], false)?;
    Ok(())
}

/// Points that lie in a wrong shard of their source come where they belong.
fn misplaced(env: &Env) -> Outcome {
    let bench = Bench::of(|dir| {
        let snapshot = env.case("three_shards").unpack(dir)?;
        let swapped = dir.join("swapped.snapshot");
        crate::graft::swap_shards(&snapshot, &swapped)?;
        Ok(vec![("swapped".to_owned(), swapped)])
    })?;
    ensure_same(&bench, &["--shards", "2"], false)?;
    Ok(())
}

/// Two sources of three shards in two, and the digest of their merge.
fn bench() -> Outcome<(Bench, String)> {
    let bench = Bench::of(|dir| {
        Ok(vec![
            sharded(dir, "a", 0, 1500, 3)?,
            sharded(dir, "b", 1000, 1500, 3)?,
        ])
    })?;
    let whole = bench.merge(&bench.path("whole.snapshot"), &["--shards", "2"]);
    let report = whole.run()?.ok()?.json()?;
    let digest = report["master"]["digest"].as_str().ok_or("no digest")?;
    Ok((bench, digest.to_owned()))
}

/// Fails unless the tasks that make shards, done again, and joining give the master with that digest.
fn ensure_joins(bench: &Bench, job: &Job, digest: &str) -> Outcome {
    for index in 0..job.tasks {
        let rm = cli!["job", "rm", &job.place, "--part", index.to_string()];
        rm.run()?.ok()?;
        job.task(index).run()?.ok()?;
    }
    let joined = job.join(&bench.path("joined.snapshot"));
    let report = joined.run()?.ok()?.json()?;
    ensure_eq!(report["master"]["digest"], digest, "the digest");
    Ok(())
}

/// A chunk, and the document, of a run.
fn files_of_run(job: &Job, index: usize) -> Outcome<[PathBuf; 2]> {
    let folder = job.folder().join("runs");
    let chunks = walk(&folder.join(index.to_string()))?;
    let chunk = chunks.first().ok_or("no chunk")?.clone();
    Ok([chunk, folder.join(format!("{index}.json"))])
}

fn twice() -> Outcome {
    let (bench, digest) = bench()?;
    let job = bench.planned(&["--shards", "2"])?;
    ensure_eq!((job.runs, job.tasks), (6, 2), "tasks");
    let missing = job.task(0).run()?.code(1)?;
    missing.says(&["6 of 6 tasks are not done", "--stage map"])?;
    job.map(6)
        .run()?
        .code(2)?
        .says(&["stage map has 6 tasks"])?;
    let mut there = Vec::new();
    for index in [5, 0, 1, 5, 2, 3, 4, 0] {
        let done = job.map(index).run()?.ok()?.json()?;
        there.push(done["was_there"] == true);
        ensure_eq!(done["of"]["shard"], index % 3, "the shard of the source");
        ensure_eq!(done["of"]["source"], index / 3, "the source");
    }
    let expected = [false, false, false, true, false, false, false, true];
    ensure_eq!(there, expected, "was there");
    for _ in 0..4 {
        cli!["job", "rm", &job.place, "--run", "1"].run()?.ok()?;
        two_at_once(|| job.map(1))?;
        ensure_eq!(job.status()?["unnamed_bytes"], 0, "bytes of no run");
    }
    ensure_joins(&bench, &job, &digest)?;
    // Without a stage map there is no such task.
    let lined_up = bench.planned(&[])?;
    ensure_eq!(lined_up.runs, 0, "tasks of the stage map");
    lined_up.map(0).run()?.code(2)?.says(&["no stage map"])?;
    cli!["job", "rm", &job.place].run()?.ok()?;
    ensure!(!job.folder().exists(), "something is left");
    Ok(())
}

fn killed() -> Outcome {
    let (bench, digest) = bench()?;
    let job = bench.planned(&["--shards", "2"])?;
    let mut random = ChaCha8Rng::seed_from_u64(180);
    let scratch = bench.path("scratch");
    std::fs::create_dir(&scratch)?;
    let map = |index: usize| job.map(index).arg("--scratch").arg(&scratch);
    let again = || cli!["job", "rm", &job.place, "--run", "0"].run()?.ok();
    let unfinished = killed_at_random(
        KILLS,
        &mut random,
        again,
        || map(0),
        || {
            // Whatever is there is whole, or no shard is made of it.
            match job.folder().join("runs/0.json").exists() {
                true => map(0).run()?.ok().map(drop),
                false => {
                    let task = job.task(0).run()?.code(1)?;
                    task.says(&["are not done"]).map(drop)
                }
            }
        },
    )?;
    ensure!(unfinished >= KILLS / 2, "{unfinished} were ended");
    for index in 0..job.runs {
        map(index).run()?.ok()?;
    }
    // The same of a shard that is made of runs.
    let task = || job.task(0).arg("--scratch").arg(&scratch);
    let again = || cli!["job", "rm", &job.place, "--part", "0"].run()?.ok();
    killed_at_random(KILLS / 2, &mut random, again, task, || {
        match job.document(0).exists() {
            true => task().run()?.ok().map(drop),
            false => Ok(()),
        }
    })?;
    // What a dead one left is removed by the next that is at work there.
    again()?;
    task().run()?.ok()?;
    ensure_joins(&bench, &job, &digest)?;
    let left = names_in(&scratch)?;
    ensure!(left.is_empty(), "left in scratch: {left:?}");
    Ok(())
}

fn lost_and_changed() -> Outcome {
    let (bench, digest) = bench()?;
    let job = bench.planned(&["--shards", "2"])?;
    let other = bench.planned(&["--shards", "2", "--on-conflict", "first"])?;
    job.all_runs()?;
    other.all_runs()?;
    let mut random = ChaCha8Rng::seed_from_u64(181);
    let [chunk, document] = files_of_run(&job, 1)?;
    let no_shard = |code: i32, says: &[&str]| -> Outcome {
        // A shard whose range is not concerned may be made; both are not.
        let ends = [job.task(0).run()?, job.task(1).run()?];
        let ends = ends.map(|run| run.code(code).and_then(|run| run.says(says)));
        ensure!(ends.iter().any(Result::is_ok), "shards were made: {ends:?}");
        for index in ["0", "1"] {
            cli!["job", "rm", &job.place, "--part", index].run()?.ok()?;
        }
        Ok(())
    };
    for file in [&chunk, &document] {
        let whole = std::fs::read(file)?;
        for _ in 0..6 {
            let mut bytes = whole.clone();
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
            std::fs::write(file, &bytes)?;
            no_shard(13, &["job rm", "--run"])?;
            // The task does not take it for done, either.
            job.map(1).run()?.code(13)?.says(&["job rm", "--run"])?;
        }
        std::fs::write(file, &whole[..whole.len() - 1])?;
        no_shard(13, &["job rm", "--run"])?;
        std::fs::write(file, &whole)?;
    }
    // Of another job, and of another task.
    let [others_chunk, others_document] = files_of_run(&other, 1)?;
    let [second_chunk, second_document] = files_of_run(&job, 2)?;
    let own = std::fs::read(&document)?;
    std::fs::copy(&others_document, &document)?;
    no_shard(13, &["it belongs to the job"])?;
    std::fs::copy(&second_document, &document)?;
    no_shard(13, &["it is the run of task 2"])?;
    std::fs::write(&document, &own)?;
    let bytes = std::fs::read(&chunk)?;
    std::fs::copy(&second_chunk, &chunk)?;
    no_shard(13, &["the run of shard 1 of a"])?;
    // A run depends on the source alone, here: the other job's has the same bytes.
    std::fs::copy(&others_chunk, &chunk)?;
    ensure!(
        std::fs::read(&chunk)? == bytes,
        "a run is another each time"
    );
    // Lost: first its bytes, then its document.
    std::fs::remove_file(&chunk)?;
    no_shard(13, &["it is not there", "--run"])?;
    let status = cli!["job", "status", &job.place].run()?.ok()?;
    status.prints(&["6 of 8"])?;
    std::fs::remove_file(&document)?;
    no_shard(1, &["1 of 6 tasks are not done: 1"])?;
    // The way out that is told.
    cli!["job", "rm", &job.place, "--run", "1"].run()?.ok()?;
    job.map(1).run()?.ok()?;
    ensure_joins(&bench, &job, &digest)
}
