//! Random sources, merged three ways: by graft, by rebuild, and in memory. All must agree on every
//! point.

use std::collections::BTreeSet;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::support::points::ensure_same;
use crate::support::{Outcome, Trial, temp_dir};

use super::made::{self, Shape};
use super::{Given, ensure_adds_up, export, graft, merging, union};

/// Tests, which may run at the same time, and rounds in each.
const BLOCKS: u64 = 4;
const ROUNDS: u64 = 10;

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = (0..BLOCKS)
        .map(|block| Trial::new(format!("graft/model/{block}"), move || many(block)))
        .collect();
    trials.push(Trial::new("graft/model/a_made_source_is_read", || {
        read(false)
    }));
    trials.push(Trial::new("graft/model/filters_over_copies", || read(true)));
    trials
}

fn many(block: u64) -> Outcome {
    let mut reasons = BTreeSet::new();
    let mut untouched = 0;
    for round in block * ROUNDS..(block + 1) * ROUNDS {
        let report = one(round)
            .map_err(|why| format!("round {round}: {}", why.message().unwrap_or_default()))?;
        let carried = &report["carried"];
        untouched += carried["untouched_segments"].as_u64().unwrap_or(0);
        for text in carried["repacked"].as_array().into_iter().flatten() {
            for reason in ["its log", "lose a conflict", "payload index"] {
                if text.as_str().is_some_and(|text| text.contains(reason)) {
                    reasons.insert(reason);
                }
            }
        }
    }
    // The rounds are not all of one kind.
    ensure!(untouched > 0, "nothing travelled untouched");
    ensure_eq!(reasons.len(), 3, "reasons to repack: {reasons:?}");
    Ok(())
}

fn one(round: u64) -> Outcome<Value> {
    let dir = temp_dir()?;
    let mut random = ChaCha8Rng::seed_from_u64(round);
    let shape = Shape {
        shards: random.random_range(1..3),
        distance: ["Dot", "Euclid"][random.random_range(0..2)],
        filters_over_copies: random.random_bool(0.2),
    };
    let sources: Vec<Given> = (0..random.random_range(1..4))
        .map(|at| made::source(dir.path(), &format!("s{at}"), random.random(), &shape))
        .collect::<Outcome<_>>()?;
    let sources: Vec<&Given> = sources.iter().collect();
    let policy = ["last", "first", "newest:n"][random.random_range(0..3)];
    let held: Vec<_> = sources.iter().map(|given| &given.points).collect();
    let union = union(&held, policy)?;

    let grafted = dir.path().join("grafted.snapshot");
    let report = graft(&sources, &grafted, &["--on-conflict", policy])?;
    ensure_same(&export(&grafted)?, union.points.values())
        .map_err(|why| format!("graft, {policy}: {}", why.message().unwrap_or_default()))?;
    ensure_adds_up(&report, &sources, &union)?;

    let rebuilt = dir.path().join("rebuilt.snapshot");
    merging(sources.iter().map(|given| &given.file), &rebuilt)
        .args(["--route", "rebuild", "--on-conflict", policy])
        .run()?
        .ok()?;
    ensure_same(&export(&rebuilt)?, union.points.values())
        .map_err(|why| format!("rebuild, {policy}: {}", why.message().unwrap_or_default()))?;
    Ok(report)
}

/// The sources are what they should be: each alone exports what was followed in memory.
fn read(filters_over_copies: bool) -> Outcome {
    let dir = temp_dir()?;
    let mut points = 0;
    for seed in 0..8 {
        let shape = Shape {
            shards: 1 + seed as u32 % 2,
            distance: "Dot",
            filters_over_copies,
        };
        let given = made::source(dir.path(), &format!("s{seed}"), seed, &shape)?;
        points += ensure_same(&export(&given.file)?, given.points.values())
            .map_err(|why| format!("seed {seed}: {}", why.message().unwrap_or_default()))?;
        // A filter matches what a point is, not what it was.
        let filter = r#"{"must":[{"key":"n","range":{"gte":7}}]}"#;
        let filtered = cli!["export", &given.file, "--filter", filter]
            .run()?
            .ok()?;
        let matches = |point: &&Value| point["payload"]["n"].as_u64().is_some_and(|n| n >= 7);
        ensure_same(
            &filtered.json_lines()?,
            given.points.values().filter(matches),
        )
        .map_err(|why| {
            format!(
                "seed {seed}, filtered: {}",
                why.message().unwrap_or_default()
            )
        })?;
    }
    ensure!(points > 40, "only {points} points in eight sources");
    Ok(())
}
