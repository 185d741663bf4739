//! The one integration test binary: everything that is seen from outside, by running the built
//! `snapmerge` on real snapshots, and the rules of the house.
//!
//! Keeps true: a test that cannot run here (no server, no further snapshots) is *ignored* and listed
//! at the end with its reason, never passed; `--ignored` makes it fail with that reason.

// Tests fail by panicking; the lints that forbid it are for the program.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[macro_use]
mod support;

mod archive;
mod damage;
mod deploy;
mod diff;
mod digest;
mod export;
mod export_tables;
mod export_vdf;
mod fixtures;
mod full;
mod graft;
mod house;
mod ingest;
mod inspect;
mod job;
mod live;
mod manual;
mod merge;
mod nightly;
mod old;
mod open_shards;
mod replay;
mod report;
mod schema;
mod server;
mod split;
mod verify;
mod versions;

use std::collections::BTreeMap;
use std::process::ExitCode;

use support::{Env, Trial};

/// Every module of tests; a new one is named above and added here.
fn trials(env: &'static Env) -> Vec<Trial> {
    [
        house::trials(env),
        support::trials(env),
        fixtures::trials(env),
        full::trials(env),
        graft::trials(env),
        inspect::trials(env),
        job::trials(env),
        open_shards::trials(env),
        export::trials(env),
        export_tables::trials(env),
        export_vdf::trials(env),
        ingest::trials(env),
        split::trials(env),
        manual::trials(env),
        merge::trials(env),
        live::trials(env),
        replay::trials(env),
        schema::trials(env),
        server::trials(env),
        damage::trials(env),
        diff::trials(env),
        digest::trials(env),
        report::trials(env),
        verify::trials(env),
        archive::trials(env),
        nightly::trials(env),
        old::trials(env),
        versions::trials(env),
        deploy::trials(env),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() -> ExitCode {
    let args = libtest_mimic::Arguments::from_args();
    let env: &'static Env = match Env::find() {
        // Every test may look at it for as long as the process lives.
        Ok(env) => Box::leak(Box::new(env)),
        Err(why) => {
            eprintln!("suite: {why}");
            return ExitCode::FAILURE;
        }
    };

    let mut ignored: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let tests: Vec<libtest_mimic::Trial> = trials(env)
        .into_iter()
        .map(|trial| {
            let reason = trial.ignored.clone();
            let test = trial.into_libtest();
            if let Some(reason) = reason
                && args.is_ignored(&test)
                && !args.is_filtered_out(&test)
            {
                ignored
                    .entry(reason)
                    .or_default()
                    .push(test.name().to_owned());
            }
            test
        })
        .collect();
    if args.list {
        return libtest_mimic::run(&args, tests).exit_code();
    }

    let conclusion = libtest_mimic::run(&args, tests);
    // libtest-mimic counts what was ignored; this says what and why. scripts/test.sh repeats it.
    println!("ignored: {}", ignored.values().map(Vec::len).sum::<usize>());
    for (reason, names) in &ignored {
        println!("  {} because {reason}:", names.len());
        for name in names {
            println!("    {name}");
        }
    }
    println!();
    conclusion.exit_code()
}
