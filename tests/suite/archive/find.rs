//! `archive find`: in which snapshots a point is, and when it changed.

use serde_json::{Value, json};

use super::{archive, make};
use crate::support::{Env, Outcome, Trial, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![Trial::new("archive/find", || find(env))]
}

/// The same album twice, and then another one under its name.
fn find(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    for (day, case) in [(1, "album_2017"), (2, "album_2017"), (3, "album_2018")] {
        let file = dir.path().join(format!("{day}.snapshot"));
        std::fs::copy(env.case(case).unpack(dir.path())?, &file)?;
        // What is there already is not an entry of its own, unless something differs.
        if day == 2 {
            let mut bytes = std::fs::read(&file)?;
            bytes.extend([0; 512]);
            std::fs::write(&file, bytes)?;
        }
        let time = format!("2026-11-0{day}T03:00:00Z");
        archive("add", &root)
            .arg(&file)
            .args(["--name", "a", "--time", &time])
            .run()?
            .ok()?;
    }
    let ids = |case: &str| -> Outcome<Vec<String>> {
        let points = env.case(case).truth()?;
        let ids = points.iter().map(|point| Ok(point["id"].to_string()));
        ids.collect()
    };
    let (first, last) = (ids("album_2017")?, ids("album_2018")?);
    let gone = first
        .iter()
        .find(|id| !last.contains(id))
        .ok_or("none is gone")?;
    let told = archive("find", &root)
        .args(["--id", gone.trim_matches('"'), "--json"])
        .run()?
        .ok()?
        .json()?;
    let entries = told["entries"].as_array().ok_or("no entries")?;
    let there: Vec<bool> = entries
        .iter()
        .map(|one| {
            one["places"]
                .as_array()
                .is_some_and(|places| !places.is_empty())
        })
        .collect();
    ensure_eq!(there, [true, true, false], "{told}");
    let changed: Vec<&Value> = entries.iter().map(|one| &one["changed"]).collect();
    ensure_eq!(
        changed,
        [&Value::Null, &json!(false), &json!(true)],
        "{told}"
    );
    let run = archive("find", &root)
        .args(["--id", gone.trim_matches('"'), "--name", "a"])
        .run()?
        .ok()?;
    run.prints(&["changed by operation", "* a@2026-11-03", "not there"])?;
    archive("find", &root)
        .args(["--id", "99999999"])
        .run()?
        .code(10)?;
    archive("find", &root)
        .args(["--id", "1", "--name", "nobody"])
        .run()?
        .code(10)?;
    archive("find", &root).args(["--id", "x"]).run()?.code(2)?;
    Ok(())
}
