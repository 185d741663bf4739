//! Tasks as they come: in any order, again, twice at once, ended at any moment; and parts that were changed, mixed up
//! or lost. There is the right master, or none.

use std::collections::BTreeSet;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{Bench, Job, killed_at_random, two_at_once};
use crate::archive::{rows, walk};
use crate::support::{Env, Outcome, Trial, names_in};

/// Tasks that are ended at a random moment.
const KILLS: u32 = 25;

pub fn trials(_env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("job/faults/any_order_twice_and_two_at_once", any_order),
        Trial::new("job/faults/killed_at_any_moment", killed),
        Trial::new("job/faults/flipped_bits", flipped_bits),
        Trial::new("job/faults/part_of_another_job", part_of_another_job),
        Trial::new("job/faults/lost_parts", lost_parts),
        Trial::new("job/faults/which_task", which_task),
        Trial::new("job/faults/removed", removed),
        Trial::new("job/faults/other_entries", other_entries),
    ]
}

/// Three sources of three shards, and the SHA-256 of their merge.
pub(super) fn bench() -> Outcome<(Bench, String)> {
    let bench = Bench::of(|dir| {
        let mut sources = Vec::new();
        for (name, first) in [("a", 0), ("b", 5000), ("c", 9000)] {
            let one = rows(dir, &format!("{name}-one"), first, 800)?;
            let many = dir.join(format!("{name}.snapshot"));
            cli!["merge", "-q", &one, "--shards", "3", "-o", &many]
                .run()?
                .ok()?;
            sources.push((name.to_owned(), many));
        }
        Ok(sources)
    })?;
    let whole = bench.merge(&bench.path("whole.snapshot"), &[]);
    let report = whole.run()?.ok()?.json()?;
    let sha256 = report["master"]["sha256"].as_str().ok_or("no SHA-256")?;
    Ok((bench, sha256.to_owned()))
}

/// Fails unless the job gives the master with that SHA-256.
fn ensure_joins(bench: &Bench, job: &Job, sha256: &str) -> Outcome {
    let report = job
        .join(&bench.path("joined.snapshot"))
        .run()?
        .ok()?
        .json()?;
    ensure_eq!(report["master"]["sha256"], sha256, "the SHA-256");
    Ok(())
}

/// Fails unless joining ends with `code` and leaves no master.
fn ensure_no_master(bench: &Bench, job: &Job, code: i32, says: &[&str]) -> Outcome {
    let output = bench.path("none.snapshot");
    job.join(&output).run()?.code(code)?.says(says)?;
    ensure!(!output.exists(), "a master was made");
    Ok(())
}

fn any_order() -> Outcome {
    let (bench, sha256) = bench()?;
    let job = bench.planned(&[])?;
    ensure_eq!(job.tasks, 3, "tasks");
    ensure_eq!(job.plan["was_planned"], false, "planned before");
    let again = bench.planned(&[])?;
    ensure_eq!(again.place, job.place, "the job");
    ensure_eq!(again.plan["was_planned"], true, "planned before");
    let mut there = Vec::new();
    for index in [2, 0, 2, 1, 1, 0] {
        let done = job.task(index).run()?.ok()?.json()?;
        there.push(done["was_there"] == true);
    }
    ensure_eq!(there, [false, false, true, false, true, true], "was there");
    ensure_joins(&bench, &job, &sha256)?;
    // Two at once: one wins, and the other leaves nothing.
    for _ in 0..5 {
        let rm = cli!["job", "rm", &job.place, "--part", "1"];
        rm.run()?.ok()?;
        two_at_once(|| job.task(1))?;
        ensure_eq!(job.status()?["unnamed_bytes"], 0, "bytes of no part");
    }
    ensure_joins(&bench, &job, &sha256)
}

fn killed() -> Outcome {
    let (bench, sha256) = bench()?;
    let job = bench.planned(&[])?;
    let mut random = ChaCha8Rng::seed_from_u64(18);
    let scratch = bench.path("scratch");
    std::fs::create_dir(&scratch)?;
    let task = |index: usize| job.task(index).arg("--scratch").arg(&scratch);
    let again = || cli!["job", "rm", &job.place, "--part", "0"].run()?.ok();
    let unfinished = killed_at_random(
        KILLS,
        &mut random,
        again,
        || task(0),
        || {
            // Whatever is there is whole: it joins, or it is missing.
            match job.document(0).exists() {
                true => task(0).run()?.ok().map(drop),
                false => ensure_no_master(&bench, &job, 1, &["3 of 3 tasks are not done"]),
            }
        },
    )?;
    ensure!(unfinished >= KILLS / 2, "{unfinished} were ended");
    for index in 0..job.tasks {
        task(index).run()?.ok()?;
    }
    ensure_joins(&bench, &job, &sha256)?;
    let left = names_in(&scratch)?;
    ensure!(left.is_empty(), "left in scratch: {left:?}");
    Ok(())
}

/// One bit of a chunk, of a document of a part, and of the plan.
fn flipped_bits() -> Outcome {
    let (bench, sha256) = bench()?;
    let job = bench.planned(&[])?;
    job.all_tasks()?;
    let mut random = ChaCha8Rng::seed_from_u64(81);
    let files = [
        job.chunk(1)?,
        job.document(1),
        job.folder().join("plan.json"),
    ];
    for (place, file) in files.iter().enumerate() {
        let whole = std::fs::read(file)?;
        for _ in 0..6 {
            let mut bytes = whole.clone();
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
            std::fs::write(file, &bytes)?;
            ensure_no_master(&bench, &job, 13, &["job rm"])?;
            // The task does not take it for done, either.
            job.task(1).run()?.code(13)?.says(&["job rm"])?;
        }
        std::fs::write(file, &whole)?;
        if place == 1 {
            std::fs::write(file, &whole[..whole.len() / 2])?;
            let status = cli!["job", "status", &job.place].run()?.code(13)?;
            status.prints(&["DAMAGED", "2 of 3"])?;
            // The way out that is told.
            cli!["job", "rm", &job.place, "--part", "1"].run()?.ok()?;
            job.task(1).run()?.ok()?;
            ensure_joins(&bench, &job, &sha256)?;
        }
    }
    ensure_joins(&bench, &job, &sha256)
}

/// A part, or its bytes, of another job, or of another task of the same one.
fn part_of_another_job() -> Outcome {
    let (bench, sha256) = bench()?;
    let job = bench.planned(&[])?;
    let other = bench.planned(&["--stamp", "from"])?;
    ensure!(job.place != other.place, "other flags are the same job");
    job.all_tasks()?;
    other.all_tasks()?;
    let own = std::fs::read(job.document(1))?;
    std::fs::copy(other.document(1), job.document(1))?;
    ensure_no_master(&bench, &job, 13, &["it belongs to the job"])?;
    job.task(1)
        .run()?
        .code(13)?
        .says(&["it belongs to the job"])?;
    std::fs::copy(job.document(2), job.document(1))?;
    ensure_no_master(&bench, &job, 13, &["it is the part of task 2"])?;
    std::fs::write(job.document(1), &own)?;
    // Bytes of the other job under the names of this one.
    let chunk = job.chunk(1)?;
    let bytes = std::fs::read(&chunk)?;
    std::fs::copy(other.chunk(1)?, &chunk)?;
    ensure_no_master(&bench, &job, 13, &["members-"])?;
    std::fs::write(&chunk, bytes)?;
    ensure_joins(&bench, &job, &sha256)
}

fn lost_parts() -> Outcome {
    let (bench, sha256) = bench()?;
    let job = bench.planned(&[])?;
    ensure_no_master(&bench, &job, 1, &["3 of 3 tasks are not done: 0, 1, 2"])?;
    job.all_tasks()?;
    let document = std::fs::read(job.document(2))?;
    std::fs::remove_file(job.document(2))?;
    ensure_no_master(&bench, &job, 1, &["1 of 3 tasks are not done: 2"])?;
    std::fs::write(job.document(2), document)?;
    let chunk = job.chunk(0)?;
    let bytes = std::fs::read(&chunk)?;
    std::fs::remove_file(&chunk)?;
    ensure_no_master(&bench, &job, 13, &["it is not there"])?;
    std::fs::write(&chunk, &bytes[..bytes.len() - 1])?;
    ensure_no_master(&bench, &job, 13, &["were written"])?;
    std::fs::write(&chunk, bytes)?;
    ensure_joins(&bench, &job, &sha256)
}

/// The index comes from the engine that starts the task.
fn which_task() -> Outcome {
    let (bench, sha256) = bench()?;
    let job = bench.planned(&[])?;
    let bare = || cli!["job", "task", &job.place, "--json", "--stage", "shard"];
    bare()
        .run()?
        .code(2)?
        .says(&["JOB_COMPLETION_INDEX", "--index"])?;
    for (index, variable) in [
        "JOB_COMPLETION_INDEX",
        "SLURM_ARRAY_TASK_ID",
        "AWS_BATCH_JOB_ARRAY_INDEX",
    ]
    .iter()
    .enumerate()
    {
        let done = bare()
            .env(variable, index.to_string())
            .run()?
            .ok()?
            .json()?;
        ensure_eq!(done["index"], index, "{variable}");
        ensure_eq!(done["was_there"], false, "{variable}");
    }
    let twice = bare()
        .env("JOB_COMPLETION_INDEX", "0")
        .env("CLOUD_RUN_TASK_INDEX", "1");
    twice.run()?.code(2)?;
    job.task(3).run()?.code(2)?.says(&["3 tasks"])?;
    ensure_joins(&bench, &job, &sha256)
}

fn removed() -> Outcome {
    let (bench, _) = bench()?;
    let job = bench.planned(&[])?;
    job.all_tasks()?;
    let rm = |place: &str| cli!["job", "rm", place, "--json"];
    let none = cli!["job", "rm", &bench.store, "--json", "--expire", "1"];
    ensure_eq!(none.run()?.ok()?.json()?["removed"], 0, "young jobs");
    let before: BTreeSet<_> = walk(&bench.root)?.into_iter().collect();
    // The store is no job, and an archive is none.
    rm(&bench.store.to_string_lossy()).run()?.code(10)?;
    rm(&bench.root.to_string_lossy()).run()?.code(10)?;
    let done = rm(&job.place).run()?.ok()?.json()?;
    ensure_eq!(done["jobs"], serde_json::json!([job.place]), "jobs");
    ensure!(!job.folder().exists(), "something is left");
    let after: BTreeSet<_> = walk(&bench.root)?.into_iter().collect();
    ensure_eq!(after, before, "the archive");
    for verb in ["status", "rm"] {
        cli!["job", verb, &job.place].run()?.code(10)?;
    }
    job.task(0).run()?.code(10)?;
    Ok(())
}

/// Tasks read the entries that were planned, wherever the archive is now, and no others.
fn other_entries() -> Outcome {
    let (bench, sha256) = bench()?;
    let job = bench.planned(&[])?;
    job.task(0).run()?.ok()?;
    // A newer entry of the same name is no part of the job.
    let newer = rows(bench.dir.path(), "newer", 50_000, 10)?;
    crate::archive::archive("add", &bench.root)
        .arg(&newer)
        .args(["--name", "a"])
        .run()?
        .ok()?;
    job.task(1).run()?.ok()?;
    // Moved, it is found where it is said to be.
    let elsewhere = bench.path("elsewhere");
    std::fs::rename(&bench.root, &elsewhere)?;
    job.task(2).run()?.code(10)?;
    let task = job.task(2).arg("--archive").arg(&elsewhere);
    task.run()?.ok()?;
    let join = job.join(&bench.path("joined.snapshot"));
    let report = join.arg("--archive").arg(&elsewhere).run()?.ok()?.json()?;
    ensure_eq!(report["master"]["sha256"], sha256, "the SHA-256");
    Ok(())
}
