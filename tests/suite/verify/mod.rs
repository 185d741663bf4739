//! `verify`, seen from outside: right masters pass, by every route and with every flag; wrong ones do
//! not, and are told rightly.

mod answers;
mod clusters;
mod frame;
mod live;
mod mutations;
mod packed;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::merge::{ALBUMS, Master, Sources};
use crate::support::cli::Run;
use crate::support::{Env, Outcome, Trial, names_in};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = vec![
        Trial::new("verify/right/100", move || hundred_right(env)),
        Trial::new("verify/quantized_is_itself", || quantized_is_itself(env)),
        Trial::new("verify/nothing_is_no_pass", || nothing_is_no_pass(env)),
        Trial::new("verify/provenance", || provenance(env)),
        Trial::new("verify/other_sources", || other_sources(env)),
        Trial::new("verify/ledger", || ledger(env)),
        Trial::new("verify/sample", || sample(env)),
        Trial::new("verify/no_verify", || no_verify(env)),
    ];
    trials.extend(clusters::trials(env));
    trials.extend(live::trials(env));
    trials.extend(answers::trials(env));
    trials.extend(mutations::trials(env));
    trials.extend(packed::trials(env));
    trials.extend(frame::trials(env));
    trials
}

/// Sources that can be merged with each other.
const GROUPS: [&[&str]; 13] = [
    &ALBUMS,
    &["album_2018", "album_2019_overlap"],
    &["album_2017", "edited", "uuid_ids"],
    &["named"],
    &["sparse_dense"],
    &["multivector"],
    &["three_shards"],
    &["shard_keys"],
    &["log_pending", "all_indexes"],
    &["float16"],
    &["uint8"],
    &["quant_scalar"],
    &["euclid_on_disk"],
];

/// Flags of merge, each of which makes another master.
const FLAGS: [&[&str]; 9] = [
    &["--route", "rebuild"],
    &["--route", "graft"],
    &["--route", "graft", "--segments", "auto"],
    &["--on-conflict", "first"],
    &["--on-conflict", "remap"],
    &["--stamp", "source", "--drop-payload", "neg"],
    &[
        "--filter",
        r#"{"must":[{"key":"year","range":{"gte":2018}}]}"#,
    ],
    &["--layout", "by-source"],
    &[
        "--route",
        "rebuild",
        "--indexing-threshold",
        "0",
        "--hnsw-m",
        "8",
    ],
];

/// Of each group at most so many masters cannot be made.
const REFUSED_MAX: usize = 1;

/// 100 right masters and more, by every route that needs no server: none is told to be wrong. Those
/// that a server makes are counted in `live`.
fn hundred_right(env: &'static Env) -> Outcome {
    let made: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let next = AtomicUsize::new(0);
    let work = || -> Outcome {
        while let Some(group) = GROUPS.get(next.fetch_add(1, Ordering::Relaxed)) {
            let sources = Sources::named(env, group)?;
            let mut of_group = 0;
            for flags in FLAGS {
                // Grafting by source, or into shards of another number, is not for all.
                let Some(master) = merged(&sources, flags)? else {
                    continue;
                };
                proven(&sources, &master, flags)
                    .map_err(|err| format!("{group:?}: {}", err.message().unwrap_or_default()))?;
                let way = match flags {
                    [.., "--segments", "auto"] => "consolidate".into(),
                    ["--layout", "by-source"] => "by-source".into(),
                    _ => master.report["route"].as_str().unwrap_or("?").to_owned(),
                };
                *made
                    .lock()
                    .expect("nobody panics with it")
                    .entry(way)
                    .or_default() += 1;
                of_group += 1;
            }
            ensure!(
                of_group + REFUSED_MAX >= FLAGS.len(),
                "{group:?}: only {of_group} masters"
            );
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Outcome {
        let workers = [scope.spawn(work), scope.spawn(work)];
        for worker in workers {
            worker.join().map_err(|_| "a thread panicked")??;
        }
        Ok(())
    })?;
    let made = made.into_inner().expect("nobody panicked with it");
    println!("right masters by how they were made: {made:?}");
    let all: usize = made.values().sum();
    ensure!(all >= 100, "only {all} masters: {made:?}");
    for way in ["graft", "rebuild", "consolidate", "by-source"] {
        let count = made.get(way).copied().unwrap_or(0);
        ensure!(count >= GROUPS.len() - 2, "only {count} by {way}: {made:?}");
    }
    Ok(())
}

/// The master, or none where this cannot be made of these sources.
fn merged(sources: &Sources, flags: &[&str]) -> Outcome<Option<Master>> {
    let path = sources.path("master.snapshot");
    let run = cli!["merge", "--json", "--force", "-q", "-o", &path]
        .args(flags)
        .args(&sources.files)
        .run()?;
    if run.status.code() == Some(2) {
        ensure!(
            run.stderr.contains("route graft") || run.stderr.contains("shard key"),
            "refused for another reason\n{}",
            run.told()
        );
        return Ok(None);
    }
    let report = run.ok()?.json()?;
    Ok(Some(Master {
        packed: crate::support::packed::Packed::open(&path)?,
        path,
        report,
    }))
}

fn verify(master: &Path, sources: &Sources, flags: &[&str]) -> Outcome<Run> {
    cli!["verify", master, "--json", "-q"]
        .args(flags)
        .arg("--against")
        .args(&sources.files)
        .run()
}

/// It passes, by bytes if it can be and point by point.
fn proven(sources: &Sources, master: &Master, flags: &[&str]) -> Outcome {
    let points = &master.report["master"]["points"];
    for how in [&[][..], &["--deep"][..]] {
        let run = verify(&master.path, sources, how)?;
        let report = run.json()?;
        if *points == json!(0) {
            run.code(3)?;
            ensure_eq!(report["verdict"], "nothing_looked_at", "with {flags:?}");
            continue;
        }
        let run = run.ok().map_err(|err| {
            format!(
                "merged with {flags:?}: {}",
                err.message().unwrap_or_default()
            )
        })?;
        ensure_eq!(report["verdict"], "proven", "{flags:?}\n{}", run.told());
        ensure_eq!(report["looked_at"], *points, "looked at with {flags:?}");
        if report["points"]["how"] == "walk" && how.is_empty() {
            // It would only be the same again.
            return Ok(());
        }
        if how == ["--deep"] {
            ensure_eq!(report["points"]["how"], "walk", "with {flags:?}");
            ensure_eq!(report["points"]["compared"], *points, "with {flags:?}");
        }
    }
    Ok(())
}

/// Graphs of quantized vectors are good ones, also where codes of few dimensions tell little apart.
fn quantized_is_itself(env: &Env) -> Outcome {
    for name in ["quant_binary", "quant_product", "quant_scalar"] {
        let snapshot = env.case(name).snapshot_gz;
        let run = cli![
            "verify",
            &snapshot,
            "--no-provenance",
            "--deep",
            "--against",
            &snapshot
        ];
        run.run()?.ok()?.prints(&[": PROVEN"])?;
    }
    Ok(())
}

/// All of nothing is nothing, and there is no more to look at; a sample of nothing shows nothing.
fn nothing_is_no_pass(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["empty"])?;
    for route in ["graft", "rebuild"] {
        let master = sources.merge(&["--route", route])?;
        for how in [&[][..], &["--deep"][..]] {
            let run = verify(&master.path, &sources, how)?.ok()?;
            ensure_eq!(run.json()?["verdict"], "proven", "{route}");
        }
        let run = verify(&master.path, &sources, &["--sample", "50%"])?.code(3)?;
        ensure_eq!(run.json()?["verdict"], "nothing_looked_at", "{route}");
        // A point that none of them has is one too many all the same.
        let other = Sources::named(env, &["album_2017"])?;
        for how in [&[][..], &["--deep"][..]] {
            let run = cli!["verify", "--json", &other.files[0], "--against"];
            let run = run.args(&sources.files).args(how).run()?.code(3)?;
            ensure_eq!(run.json()?["verdict"], "differs", "{route}");
        }
    }
    let sources = Sources::named(env, &["album_2017"])?;
    let master = sources.merge(&[])?;
    // Of a thousand points nobody is in such a sample.
    let run = verify(&master.path, &sources, &["--sample", "0.000001%"])?.code(3)?;
    ensure_eq!(
        run.json()?["verdict"],
        "nothing_looked_at",
        "an empty sample"
    );
    Ok(())
}

/// What the master was made with is known from the file beside it, and from nothing if that is gone; then
/// flags must say it.
fn provenance(env: &Env) -> Outcome {
    let sources = Sources::named(env, &ALBUMS)?;
    let flags = [
        "--on-conflict",
        "first",
        "--stamp",
        "from",
        "--stamp-value",
        "album_2017=2017",
    ];
    let master = sources.merge(&flags)?;
    let beside = sources.path("master.snapshot.provenance.json");
    let written: Value = serde_json::from_slice(&std::fs::read(&beside)?)?;
    ensure_eq!(
        written,
        master.report["provenance"],
        "beside it and in the report"
    );
    ensure_eq!(written["format"], "snapmerge-provenance/1", "format");
    verify(&master.path, &sources, &[])?.ok()?;

    // Sources in another order and under another name are known by the record, too.
    let renamed = sources.path("renamed.snapshot");
    std::fs::rename(&sources.files[0], &renamed)?;
    std::fs::write(
        sources.path("renamed.snapshot.checksum"),
        sources.cases[0].sha256(),
    )?;
    let run = cli![
        "verify",
        &master.path,
        "-q",
        "--against",
        &sources.files[2],
        &sources.files[1]
    ]
    .arg(&renamed)
    .run()?;
    run.code(2)?.says(&["album_2017"])?;
    std::fs::rename(&renamed, &sources.files[0])?;
    cli![
        "verify",
        &master.path,
        "-q",
        "--against",
        &sources.files[2],
        &sources.files[0]
    ]
    .arg(&sources.files[1])
    .run()?
    .ok()?;

    std::fs::remove_file(&beside)?;
    let run = verify(&master.path, &sources, &[])?.code(3)?;
    let report = run.json()?;
    // Every point lacks a stamp that nobody told of.
    ensure_eq!(report["points"]["differing"], 2800, "without the record");
    ensure_eq!(report["settings"], json!([]), "settings");
    verify(&master.path, &sources, &flags)?.ok()?;
    // The report of the merge will do as well.
    let report = sources.path("report.json");
    std::fs::write(&report, master.report.to_string())?;
    verify(
        &master.path,
        &sources,
        &["--provenance", &report.display().to_string()],
    )?
    .ok()?;
    Ok(())
}

/// Against sources that it was not made of, a master does not pass.
fn other_sources(env: &Env) -> Outcome {
    let sources = Sources::named(env, &ALBUMS)?;
    let master = sources.merge(&[])?;
    let some = |files: &[usize]| -> Outcome<Run> {
        cli![
            "verify",
            &master.path,
            "--json",
            "-q",
            "--no-provenance",
            "--against"
        ]
        .args(files.iter().map(|at| &sources.files[*at]))
        .run()
    };
    some(&[0, 1, 2])?.ok()?;
    let run = some(&[0, 1])?.code(3)?.json()?;
    ensure_eq!(run["points"]["extra"], 800, "without the third");
    ensure_eq!(run["points"]["differing"], 200, "without the third");
    ensure_eq!(run["first"][0]["difference"], "differs", "the first");
    // The order decides conflicts.
    let run = some(&[0, 2, 1])?.code(3)?.json()?;
    ensure_eq!(run["differences"], 200, "in another order");
    ensure_eq!(
        run["first"][0]["source"],
        "album_2018",
        "who should have won"
    );
    // And with the record beside it, a source too few is wrong usage.
    cli!["verify", &master.path, "-q", "--against", &sources.files[0]]
        .run()?
        .code(2)?
        .says(&["album_2018 is not given", "--no-provenance"])?;
    Ok(())
}

/// The ledger has every difference, the report the first twenty; nothing else is left behind.
fn ledger(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["album_2017", "album_2018"])?;
    let master = sources.merge(&[])?;
    let ledger = sources.path("differences.jsonl");
    let scratch = sources.path("scratch");
    std::fs::create_dir(&scratch)?;
    let before = names_in(sources.dir())?;
    let run = cli![
        "verify",
        &master.path,
        "--no-provenance",
        "--against",
        &sources.files[1]
    ]
    .arg("--ledger")
    .arg(&ledger)
    .arg("--scratch")
    .arg(&scratch)
    .run()?
    .code(3)?;
    ensure!(run.stdout.contains("DIFFERS"), "{}", run.told());
    ensure!(run.stdout.contains("1000 extra"), "{}", run.told());
    let lines = std::fs::read_to_string(&ledger)?;
    ensure_eq!(lines.lines().count(), 1000, "lines");
    for (id, line) in lines.lines().enumerate() {
        let line: Value = serde_json::from_str(line)?;
        ensure_eq!(
            line,
            json!({"id": id, "difference": "extra", "shard": 0}),
            "line"
        );
    }
    ensure_eq!(run.stdout.matches("EXTRA").count(), 20, "shown");
    std::fs::remove_file(&ledger)?;
    ensure_eq!(names_in(sources.dir())?, before, "files afterwards");
    ensure_eq!(names_in(&scratch)?, Vec::<String>::new(), "left in scratch");
    Ok(())
}

/// A sample takes the same points on both sides, by every policy.
fn sample(env: &Env) -> Outcome {
    let sources = Sources::named(env, &ALBUMS)?;
    for flags in [
        &["--on-conflict", "last"][..],
        &["--on-conflict", "remap"][..],
    ] {
        let master = sources.merge(flags)?;
        let whole = master.report["master"]["points"]
            .as_u64()
            .ok_or("no points")?;
        let run = verify(&master.path, &sources, &["--sample", "10%"])?.ok()?;
        let report = run.json()?;
        let looked_at = report["looked_at"].as_u64().ok_or("no points")?;
        ensure!(
            looked_at > whole / 20 && looked_at < whole / 5,
            "{looked_at} of {whole} are no tenth"
        );
        ensure_eq!(report["sample"], "10%", "the report says so");
        let run = verify(&master.path, &sources, &["--sample", "100%"])?.ok()?;
        ensure_eq!(run.json()?["looked_at"], whole, "all of them");
    }
    Ok(())
}

/// A master that nobody proved says so, loudly, and can be proven later.
fn no_verify(env: &Env) -> Outcome {
    let sources = Sources::named(env, &ALBUMS)?;
    for route in ["graft", "rebuild"] {
        let master = sources.merge(&["--route", route, "--no-verify"])?;
        ensure_eq!(master.report["proof"]["proven"], false, "{route}");
        ensure_eq!(master.report["proof"]["points"], 0, "{route}");
        ensure_eq!(master.report["provenance"]["proven"], false, "{route}");
        let path = sources.path("text.snapshot");
        let run = cli![
            "merge",
            "--force",
            "--no-verify",
            "--route",
            route,
            "-o",
            &path
        ]
        .args(&sources.files)
        .run()?
        .ok()?;
        ensure!(
            run.stdout.contains("NOT PROVEN (--no-verify)")
                && run.stdout.contains("NOTHING: --no-verify"),
            "{}",
            run.told()
        );
        verify(&master.path, &sources, &[])?.ok()?;
    }
    Ok(())
}
