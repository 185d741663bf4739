//! `archive find`: in which snapshots a point is, and when it changed; and entries found by a pattern.

use serde_json::{Value, json};

use super::{archive, make, rows};
use crate::support::{Env, Outcome, Trial, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("archive/find", || find(env)),
        Trial::new("archive/found_by_pattern", by_pattern),
    ]
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

/// A pattern is the newest entry of each name, or the newest until a day, in the order of the names; where one
/// snapshot is wanted it is none.
fn by_pattern() -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    for (name, day, first) in [
        ("album_b", 1, 1),
        ("album_a", 1, 101),
        ("album_a", 3, 201),
        ("other", 2, 301),
    ] {
        let file = rows(dir.path(), &format!("{name}_{day}"), first, 10)?;
        archive("add", &root)
            .arg(&file)
            .args(["--name", name])
            .args(["--time", &format!("2026-11-0{day}T03:00:00Z")])
            .run()?
            .ok()?;
    }
    let master = dir.path().join("m.snapshot");
    let merge = |source: &str| {
        cli!["merge", source, "-q", "--json", "--force", "-o", &master]
            .args(["--archive".as_ref(), root.as_path()])
    };
    for (source, want) in [
        (
            "archive:album_*",
            [
                "album_a@2026-11-03T03:00:00Z",
                "album_b@2026-11-01T03:00:00Z",
            ],
        ),
        (
            "archive:album_?@latest",
            [
                "album_a@2026-11-03T03:00:00Z",
                "album_b@2026-11-01T03:00:00Z",
            ],
        ),
        (
            "archive:album_*@2026-11-02",
            [
                "album_a@2026-11-01T03:00:00Z",
                "album_b@2026-11-01T03:00:00Z",
            ],
        ),
    ] {
        let told = merge(source).run()?.ok()?.json()?;
        let sources = told["sources"].as_array().ok_or("no sources")?;
        let files: Vec<&str> = sources
            .iter()
            .filter_map(|one| one["file"].as_str())
            .collect();
        ensure_eq!(files, want.map(|id| format!("archive:{id}")), "{source}");
        ensure_eq!(told["master"]["points"], 20, "{told}");
        let verify = |against: &str| {
            cli!["verify", &master, "-q", "--against", against]
                .args(["--archive".as_ref(), root.as_path()])
                .run()
        };
        verify(source)?.ok()?;
        verify("archive:*")?
            .code(2)?
            .says(&["it was not made of other"])?;
    }
    merge("archive:nothing*")
        .run()?
        .code(10)?
        .says(&["nothing of such a name", "archive ls"])?;
    merge("archive:album_*@soon").run()?.code(10)?;
    merge("archive:album_*@2026-1")
        .run()?
        .code(2)?
        .says(&["does not begin a time"])?;
    // A master is no source of itself.
    archive("add", &root)
        .arg(&master)
        .args(["--name", "album_master"])
        .run()?
        .ok()?;
    merge("archive:album_*").run()?.code(2)?.says(&[
        "album_master@",
        "is a master",
        "one by one",
    ])?;
    merge("archive:album_?").run()?.ok()?;
    // A comparison is of two snapshots, and not of as many as there happen to be.
    cli!["diff", "archive:album_*", "archive:other"]
        .args(["--archive".as_ref(), root.as_path()])
        .run()?
        .code(10)?;
    Ok(())
}
