//! The fixtures are what they say: a test that compares with the truth is worth as much as the truth.

use sha2::{Digest, Sha256};

use crate::support::points::PointId;
use crate::support::{Env, Outcome, Trial, cases, temp_dir};

/// How many cases fixtures/README.md describes.
const CASES: usize = 21;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = env.per_case("fixtures", is_what_it_says);
    trials.push(Trial::new("fixtures/all_described", || all_described(env)));
    trials
}

fn is_what_it_says(case: cases::Case) -> Outcome {
    ensure_eq!(case.info["server"], case.version, "made by this server");
    ensure_eq!(case.info["case"], case.name, "its own name");

    let dir = temp_dir()?;
    let bytes = std::fs::read(case.unpack(dir.path())?)?;
    ensure_eq!(
        Some(bytes.len() as u64),
        case.info["snapshot_bytes"].as_u64(),
        "size"
    );
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    ensure_eq!(digest, case.sha256(), "SHA-256");

    let truth = case.truth()?;
    ensure_eq!(truth.len(), case.points(), "points in the truth");
    let ids = truth.iter().map(PointId::of).collect::<Outcome<Vec<_>>>()?;
    ensure!(
        ids.is_sorted_by(|a, b| a < b),
        "the truth is not in id order"
    );
    Ok(())
}

fn all_described(env: &Env) -> Outcome {
    let readme = std::fs::read_to_string(env.root.join("fixtures/README.md"))?;
    let described: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(name, _)| !name.contains('.'))
        .map(|(name, _)| name)
        .collect();
    ensure_eq!(described.len(), CASES, "cases in fixtures/README.md");
    for set in &env.sets {
        // An absent set has its own ignored tests.
        if let Ok(cases) = &set.cases {
            let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
            ensure_eq!(names, described, "cases of {}", set.version);
        }
    }
    Ok(())
}
