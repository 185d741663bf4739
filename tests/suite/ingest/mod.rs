//! `ingest`, seen from outside: what was exported comes back bit by bit, rows become what a server would store,
//! and what is no point is told.

mod exact;
mod hostile;
pub mod kill;
mod live;
pub mod rows;
mod several;
pub mod tables;
mod unsure;

use std::path::Path;

use crate::support::cases::Case;
use crate::support::{Env, Outcome, Trial, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = env.per_case("ingest/parquet", |case| comes_back(&case, "parquet"));
    for name in [
        "named",
        "sparse_dense",
        "multivector",
        "shard_keys",
        "uuid_ids",
        "uint8",
        "empty",
    ] {
        let name_of = format!("ingest/arrow/{name}");
        trials.push(Trial::new(name_of, move || {
            comes_back(&env.case(name), "arrow")
        }));
        let name_of = format!("ingest/jsonl/{name}");
        trials.push(Trial::new(name_of, move || {
            comes_back(&env.case(name), "jsonl.gz")
        }));
    }
    trials.extend(env.per_old_case("ingest/old", |case| comes_back(&case, "parquet")));
    trials.extend(rows::trials(env));
    trials.extend(exact::trials(env));
    trials.extend(tables::trials(env));
    trials.extend(hostile::trials(env));
    trials.extend(live::trials(env));
    trials.extend(several::trials());
    trials.extend(unsure::trials(env));
    trials.push(Trial::new("ingest/kill", || kill::killed_ingest(env)));
    trials.push(Trial::new("ingest/goes_on", || kill::goes_on(env)));
    trials
}

/// Exports a case in a form and ingests that: proven to be the case, with its config and indexes.
fn comes_back(case: &Case, form: &str) -> Outcome {
    let dir = temp_dir()?;
    let file = dir.path().join(format!("points.{form}"));
    cli!["export", &case.snapshot_gz, "-o", &file].run()?.ok()?;
    let back = dir.path().join("back.snapshot");
    let ingest = cli!["ingest", &file, "-o", &back, "--json"];
    let report = match form {
        // Lines carry no config.
        "jsonl.gz" => ingest
            .arg("--as-stored")
            .arg("--like")
            .arg(&case.snapshot_gz),
        _ => ingest,
    };
    let report = report.run()?.ok()?.json()?;
    ensure_eq!(
        report["points"].as_u64(),
        Some(case.points() as u64),
        "points"
    );
    is_proven(&back, &case.snapshot_gz)
}

/// The snapshot `back` is what `source` is.
pub fn is_proven(back: &Path, source: &Path) -> Outcome {
    let run = cli!["verify", back, "--no-provenance", "--against", source]
        .run()?
        .ok()?;
    run.prints(&[": PROVEN"])?;
    Ok(())
}
