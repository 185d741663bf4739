//! The table of versions: what it says is what tests have seen. Its tests are made out of it, and those
//! of servers run where `QDRANT_BINS` names a folder with `VERSION/qdrant`.

mod live;

use snapmerge::format::releases::{RELEASES, Tried, table};

use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = vec![
        Trial::new("versions/table/told", move || told(env)),
        Trial::new("versions/table/has_every_set", move || has_every_set(env)),
    ];
    trials.extend(live::trials(env));
    trials
}

/// README and the long version show the table.
fn told(env: &Env) -> Outcome {
    let readme = std::fs::read_to_string(env.root.join("README.md"))?;
    ensure!(
        readme.contains(&table()),
        "README.md does not have this table:\n{}",
        table()
    );
    let run = cli!["--version"].run()?.ok()?;
    ensure!(run.stdout.contains(&table()), "{}", run.told());
    let engine = format!("qdrant-edge {}", snapmerge::engine::VERSION);
    ensure!(run.stdout.contains(&engine), "{}", run.told());
    let manifest = std::fs::read_to_string(env.root.join("Cargo.toml"))?;
    let pinned = format!("qdrant-edge = \"={}\"", snapmerge::engine::VERSION);
    ensure!(manifest.contains(&pinned), "Cargo.toml has no {pinned}");
    let short = cli!["-V"].run()?.ok()?;
    ensure_eq!(
        short.stdout.trim(),
        format!("snapmerge {}", env!("CARGO_PKG_VERSION")),
        "the short version"
    );
    Ok(())
}

/// Every set of snapshots that tests read is a row, and no row is without one.
fn has_every_set(env: &Env) -> Outcome {
    let sets = env.sets.iter().chain(&env.old_sets);
    let mut sets: Vec<&str> = sets.map(|set| set.version.as_str()).collect();
    // Collections that one server made and another took over are read besides.
    sets.retain(|version| !version.contains("-to-"));
    let mut rows: Vec<&str> = RELEASES
        .iter()
        .filter(|release| release.read == Tried::Works)
        .map(|release| release.version)
        .collect();
    sets.sort_unstable();
    rows.sort_unstable();
    ensure_eq!(rows, sets, "rows of the table");
    Ok(())
}
