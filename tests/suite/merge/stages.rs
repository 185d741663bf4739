//! The stage table of a command: all of its time is in it.

use std::time::Instant;

use serde_json::Value;

use super::{ALBUMS, Sources};
use crate::support::{Env, Outcome, Trial};

/// Seconds that no stage may account for: the report itself, and the clock's steps.
const SLACK: f64 = 0.05;
/// Seconds for starting the program and the process that works.
const STARTING: f64 = 2.0;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    ["graft", "rebuild"]
        .into_iter()
        .map(|route| {
            Trial::new(format!("merge/stages_add_up/{route}"), move || {
                add_up(env, route)
            })
        })
        .collect()
}

/// The stages of a merge and of its proof take as long as the whole, and the whole as long as the
/// command but for its start.
fn add_up(env: &Env, route: &str) -> Outcome {
    let sources = Sources::named(env, &ALBUMS)?;
    let master = sources.path("master.snapshot");
    let merge = cli!["merge", "--json", "--route", route, "-o", &master].args(&sources.files);
    let started = Instant::now();
    let report = merge.run()?.ok()?.json()?;
    whole(&report, started, &["open", "plan", "verify", "publish"])?;
    let verify = cli!["verify", "--json", "--deep", &master, "--against"].args(&sources.files);
    let started = Instant::now();
    let report = verify.run()?.ok()?.json()?;
    whole(&report, started, &["open", "compare"])
}

fn whole(report: &Value, started: Instant, named: &[&str]) -> Outcome {
    let lasted = started.elapsed().as_secs_f64();
    let stages = report["stages"].as_array().ok_or("no stages")?;
    let names: Vec<&str> = stages
        .iter()
        .filter_map(|one| one["stage"].as_str())
        .collect();
    for name in named {
        ensure!(names.contains(name), "{name} is not among {names:?}");
    }
    let sum: f64 = stages
        .iter()
        .filter_map(|one| one["seconds"].as_f64())
        .sum();
    let whole = report["seconds"].as_f64().ok_or("no seconds")?;
    ensure!(
        sum <= whole + SLACK && sum >= whole * 0.9 - SLACK,
        "stages of {sum:.3} s in {whole:.3} s: {stages:?}"
    );
    ensure!(
        whole <= lasted && whole >= lasted * 0.9 - STARTING,
        "{whole:.3} s by the report, {lasted:.3} s by the clock"
    );
    Ok(())
}
