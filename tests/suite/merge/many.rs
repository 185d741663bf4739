//! More sources than may be open at once: what is copied out of them, with the engine and without, is what they
//! hold, and the master is that of a few.

use std::path::Path;

use serde_json::{Value, json};
use snapmerge::format::SnapshotFile;
use snapmerge::point::AsScrolled;
use snapmerge::source::{Opening, Purpose, Reading, RecordFiles, Source};

use super::{ALBUMS, Sources};
use crate::support::cases::Case;
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, temp_dir};

/// Cases of which every version's snapshots from 1.17 on are read without the engine.
const PLAIN: [&str; 2] = ["empty", "plain_dot"];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = env.per_case("merge/many/copied", |case| {
        let is_plain = copied(&case)?;
        let expected = PLAIN.contains(&case.name.as_str());
        ensure!(is_plain || !expected, "it was left to the engine");
        Ok(())
    });
    let old = env.per_old_case("merge/many/copied", |case| copied(&case).map(drop));
    trials.extend(old);
    trials.push(Trial::new("merge/many/as_few", || as_few(env)));
    trials
}

/// The records of a snapshot, copied without the engine where that may be, and by it: both are what the server
/// said of it. Returns whether it was read without the engine.
fn copied(case: &Case) -> Outcome<bool> {
    let dir = temp_dir()?;
    let file = case.unpack(dir.path())?;
    let mut truth = case.truth()?;
    case.keys_as_written(&mut truth);
    let plain = records(&file, &dir.path().join("plain"), true)?;
    if let Some(plain) = &plain {
        ensure_same(plain, &truth)?;
    }
    let engine = records(&file, &dir.path().join("engine"), false)?;
    ensure_same(engine.iter().flatten(), &truth)?;
    println!("{} {}: {}", case.version, case.name, plain.is_some());
    Ok(plain.is_some())
}

/// The records of the snapshot in `file`, copied in `folder` without the engine or by it; none if it takes the
/// engine.
fn records(file: &Path, folder: &Path, plainly: bool) -> Outcome<Option<Vec<Value>>> {
    std::fs::create_dir(folder)?;
    let mut source = Source::open(&SnapshotFile::from(file), &Opening::default(), None)?;
    let files = RecordFiles::default();
    let opened = match plainly {
        true => match source.copy_plain(folder, None, (&files, folder), None)? {
            Some(opened) => opened,
            None => return Ok(None),
        },
        false => {
            let opened = source.open_all_shards(folder, Purpose::Reading, None)?;
            opened.copied(&files, folder, Reading::default())?
        }
    };
    let mut records = Vec::new();
    for copied in &opened.copied {
        for record in copied.records.records(Reading::default(), 1 << 10)? {
            let mut record = record?;
            record.shard_key = copied.key.clone();
            let with_vectors = true;
            let scrolled = AsScrolled {
                record: &record,
                with_vectors,
            };
            records.push((
                record.id,
                record.shard_key.clone(),
                serde_json::to_value(scrolled)?,
            ));
        }
    }
    records.sort_by(|(one, key, _), (other, other_key, _)| (one, key).cmp(&(other, other_key)));
    Ok(Some(
        records.into_iter().map(|(_, _, value)| value).collect(),
    ))
}

/// Copies of an album before the others, together more than are open at once: merged by policies and with a filter,
/// and compared again, they make the master of the three.
fn as_few(env: &Env) -> Outcome {
    const COPIES: usize = 48;
    let few = Sources::named(env, &ALBUMS)?;
    let mut many = Sources::named(env, &ALBUMS)?;
    let mut copies = Vec::new();
    for at in 0..COPIES {
        let copy = many.path(&format!("copy_{at:02}.snapshot"));
        std::fs::copy(&many.files[0], &copy)?;
        copies.push(copy);
    }
    many.files.splice(0..1, copies);
    let filter = r#"{"must":[{"key":"year","range":{"gte":2017}}]}"#;
    for (flags, is_deep) in [
        (&["--on-conflict", "newest:taken"][..], false),
        (&["--on-conflict", "first", "--filter", filter], true),
        (&["--on-conflict", "remap"], true),
    ] {
        let whole = few.rebuild(flags)?;
        let master = many.rebuild(flags)?;
        if !flags.contains(&"remap") {
            ensure_eq!(master.digest()?, whole.digest()?, "{flags:?}");
        }
        let sources = master.report["sources"].as_array().ok_or("no sources")?;
        let points = sources.iter().filter_map(|source| source["read"].as_u64());
        let wanted = 1000 * (COPIES as u64 + 2);
        ensure_eq!(points.sum::<u64>(), wanted, "{flags:?}");
        let proven = cli!["verify", &master.path, "--json", "--against"]
            .args(&many.files)
            .args(is_deep.then_some("--deep"))
            .run()?
            .ok()?;
        ensure_eq!(proven.json()?["outcome"], json!("done"), "{flags:?}");
    }
    Ok(())
}
