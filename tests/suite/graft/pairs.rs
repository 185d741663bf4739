//! Every real snapshot alone, and every pair of them that graft can join, under every policy.
//!
//! Of the version that made `fixtures/` all pairs; of the others those where something else could
//! happen: disjoint, with losers, with log tails, with nothing in it, of several shards.

use std::fs::File;

use serde_json::{Value, json};

use crate::support::cases::{Case, FIXTURES_VERSION};
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

use super::{Given, ensure_repacked, graft_and_compare, has_note, members, merging, segments};

/// The pairs of the other versions.
const SOME_PAIRS: [(&str, &str); 6] = [
    ("album_2017", "album_2018"),
    ("album_2018", "album_2019_overlap"),
    ("edited", "log_pending"),
    ("album_2017", "empty"),
    ("sparse_dense", "sparse_dense"),
    ("three_shards", "three_shards"),
];

/// So many pairs there are of the version that made `fixtures/`; fewer, and they were not found.
const PAIRS_MIN: usize = 28;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = env.per_case("graft/alone", alone);
    for set in &env.sets {
        let name = |a: &str, b: &str| format!("graft/pair/{}/{a}+{b}", set.version);
        let cases = match &set.cases {
            Ok(cases) => cases,
            Err(why) => {
                trials.extend(SOME_PAIRS.map(|(a, b)| Trial::ignored(name(a, b), why)));
                continue;
            }
        };
        let pairs = if set.version == FIXTURES_VERSION {
            all_pairs(cases)
        } else {
            let find = |name: &str| cases.iter().find(|case| case.name == name);
            SOME_PAIRS
                .iter()
                .filter_map(|(a, b)| Some((find(a)?, find(b)?)))
                .collect()
        };
        for (a, b) in pairs {
            let (a, b) = (a.clone(), b.clone());
            trials.push(Trial::new(name(&a.name, &b.name), move || pair(&a, &b)));
        }
    }
    trials.push(Trial::new("graft/pair/all_found", || {
        let cases = env.sets.iter().find_map(|set| set.cases.as_ref().ok());
        let pairs = all_pairs(cases.ok_or("no cases")?).len();
        ensure!(pairs >= PAIRS_MIN, "only {pairs} pairs");
        Ok(())
    }));
    trials
}

/// All pairs whose vectors and shards line up; a case that has no partner is one of its own.
fn all_pairs(cases: &[Case]) -> Vec<(&Case, &Case)> {
    let shape = |case: &Case| -> Vec<Value> {
        let params = &case.info["config"]["params"];
        [
            "vectors",
            "sparse_vectors",
            "sharding_method",
            "shard_number",
        ]
        .iter()
        .map(|key| params[key].clone())
        .collect()
    };
    let mut pairs = Vec::new();
    for (at, a) in cases.iter().enumerate() {
        let fits = |b: &&Case| shape(a) == shape(b);
        let with: Vec<&Case> = cases.iter().filter(fits).collect();
        if with.len() == 1 {
            pairs.push((a, a));
        }
        pairs.extend(cases[at + 1..].iter().filter(fits).map(|b| (a, b)));
    }
    pairs
}

fn alone(case: Case) -> Outcome {
    let dir = temp_dir()?;
    let given = Given {
        file: case.unpack(dir.path())?,
        points: case.truth_by_id()?,
    };
    let report = graft_and_compare(dir.path(), &[&given], "last")?;
    let carried = &report["carried"];
    if case.name == "log_pending" {
        ensure_repacked(&report, "log_pending", "its log is not all in its segments")?;
        ensure_eq!(carried["untouched_segments"], 0, "untouched of {carried}");
    } else {
        ensure_eq!(carried["repacked"], json!([]), "what was repacked");
        let segments = segments(&members(File::open(&given.file)?)?).len();
        ensure_eq!(
            carried["untouched_segments"],
            json!(segments),
            "as many as the file has"
        );
    }
    // These were taken while the optimizer had more at hand than the config's two.
    ensure_eq!(
        has_note(&report, &["default_segment_number"]),
        ["edited", "log_pending"].contains(&case.name.as_str()),
        "a word about segments in {}",
        report["notes"]
    );
    // Alone nothing is in conflict.
    let output = dir.path().join("fail.snapshot");
    super::graft(&[&given], &output, &["--on-conflict", "fail"])?;
    Ok(())
}

fn pair(a: &Case, b: &Case) -> Outcome {
    let dir = temp_dir()?;
    let first = Given {
        file: a.unpack(dir.path())?,
        points: a.truth_by_id()?,
    };
    let mut second = first.clone();
    if a.name == b.name {
        second.file = dir.path().join(format!("{}_again.snapshot", a.name));
        std::fs::copy(&first.file, &second.file)?;
    } else {
        second.file = b.unpack(dir.path())?;
        second.points = b.truth_by_id()?;
    }
    let sources = [&first, &second];
    let conflict = first
        .points
        .keys()
        .find(|id| second.points.contains_key(id));
    let mut policies = vec!["last"];
    if conflict.is_some() {
        policies.extend(["first", "newest:score", "newest:taken"]);
    }
    for policy in policies {
        let report = graft_and_compare(dir.path(), &sources, policy)?;
        for given in sources {
            if given.name().starts_with("log_pending") {
                let reason = "its log is not all in its segments";
                ensure_repacked(&report, &given.name(), reason)?;
            }
        }
        // Both bring two segments a shard, and the config says two.
        ensure!(
            has_note(&report, &["default_segment_number is", "instead of 2"]),
            "{policy}: no word about segments in {}",
            report["notes"]
        );
    }
    let before = names_in(dir.path())?;
    let output = dir.path().join("fail.snapshot");
    let run = merging(sources.map(|given| &given.file), &output)
        .args(["--route", "graft", "--on-conflict", "fail"])
        .run()?;
    match conflict {
        None => drop(run.ok()?),
        Some(id) => {
            let run = run.code(1)?;
            // Under shard keys it is the first one of the first key.
            match first.points[id]["shard_key"].is_null() {
                true => run.says(&[&format!("point {id} is in")])?,
                false => run.says(&[
                    "point ",
                    " under ",
                    " is in shard_keys and shard_keys_again",
                ])?,
            };
            ensure_eq!(names_in(dir.path())?, before, "what is left after fail");
        }
    }
    Ok(())
}
