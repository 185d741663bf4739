//! The archive, by the built program: real snapshots stored and got back byte by byte, also by a
//! Python script that knows nothing of snapmerge; nights of a real server and what they cost; kills;
//! a folder and an emulated S3.

mod access;
mod clouds;
mod drill;
pub mod encrypted;
mod find;
mod kill;
mod nights;
mod s3;
mod sources;
mod word;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::support::cli::Cli;
use crate::support::{Env, Outcome, Trial, program, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = vec![
        Trial::needs("archive/python_reads_it", &python(), |()| {
            python_reads_it(env, false)
        }),
        Trial::needs(
            "archive/python_reads_it_encrypted",
            &python_and_age(),
            |()| python_reads_it(env, true),
        ),
        Trial::new("archive/fixtures_come_out_as_they_went_in", || {
            fixtures(env)
        }),
        Trial::new("archive/says_what_is_wrong", || says_what_is_wrong(env)),
        Trial::new("archive/lists_a_thousand_entries", lists_a_thousand),
    ];
    trials.extend(drill::trials(env));
    trials.extend(nights::trials(env));
    trials.extend(kill::trials(env));
    trials.extend(s3::trials(env));
    trials.extend(clouds::trials(env));
    trials.extend(word::trials(env));
    trials.extend(find::trials(env));
    trials.extend(access::trials(env));
    trials.extend(encrypted::trials(env));
    trials.extend(sources::trials(env));
    trials
}

/// Python and something that decompresses zstd for it.
fn python() -> Result<(), String> {
    let runs = |program: &str, args: &[&str]| {
        let run = Command::new(program).args(args).output();
        run.is_ok_and(|output| output.status.success())
    };
    if !runs("python3", &["--version"]) {
        return Err("there is no python3".into());
    }
    let decompresses =
        runs("zstd", &["--version"]) || runs("python3", &["-c", "import compression.zstd"]);
    match decompresses {
        true => Ok(()),
        false => Err("there is neither the program zstd nor Python 3.14".into()),
    }
}

/// The same, and something that decrypts for it.
fn python_and_age() -> Result<(), String> {
    python()?;
    let imports = Command::new("python3")
        .args(["-c", "import pyrage"])
        .output();
    if imports.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    program("age", "--version", "apt install age").map(|_| ())
}

/// `archive VERB --archive ROOT`.
pub fn archive(verb: &str, root: &Path) -> Cli {
    cli!["archive", verb, "--archive", root]
}

/// A new archive in `dir`.
pub fn make(dir: &Path) -> Outcome<PathBuf> {
    let root = dir.join("archive");
    archive("init", &root).run()?.ok()?;
    Ok(root)
}

/// The entries, as `ls --json` tells them.
pub fn entries(root: &Path) -> Outcome<Vec<Value>> {
    let listed = archive("ls", root).arg("--json").run()?.ok()?.json()?;
    let entries = listed["entries"].as_array().ok_or("no entries")?;
    Ok(entries.clone())
}

/// A snapshot of `count` rows from `first` on, called `name`.
pub fn rows(dir: &Path, name: &str, first: u64, count: u64) -> Outcome<PathBuf> {
    let mut random = ChaCha8Rng::seed_from_u64(first);
    let mut text = String::new();
    for id in first..first + count {
        let vector: Vec<f32> = (0..400).map(|_| random.random_range(-1.0..1.0)).collect();
        text += &json!({"id": id, "vector": vector, "payload": {"n": id % 7}}).to_string();
        text.push('\n');
    }
    let from = dir.join(format!("{name}.jsonl"));
    std::fs::write(&from, text)?;
    let to = dir.join(format!("{name}.snapshot"));
    cli![
        "ingest",
        "-q",
        &from,
        "--size",
        "400",
        "--distance",
        "Dot",
        "-o",
        &to
    ]
    .run()?
    .ok()?;
    std::fs::remove_file(from)?;
    for beside in ["checksum", "provenance.json"] {
        let beside = to.with_extension(format!("snapshot.{beside}"));
        if beside.exists() {
            std::fs::remove_file(beside)?;
        }
    }
    Ok(to)
}

/// What `check --json` finds.
pub fn findings(root: &Path) -> Outcome<Vec<Value>> {
    let run = archive("check", root).arg("--json").run()?;
    let found = run.json()?["findings"].clone();
    Ok(found.as_array().ok_or("no findings")?.clone())
}

/// Every fixture stored, all of them in one archive, and got back.
fn fixtures(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let cases: Vec<_> = env
        .sets
        .iter()
        .filter_map(|set| set.cases.as_ref().ok())
        .flatten()
        .collect();
    ensure!(cases.len() >= 15, "{} cases", cases.len());
    for case in &cases {
        let name = format!("{}-{}", case.name, case.version);
        // The .gz is what is stored of some, the file in it of others.
        let file = match case.points() % 2 {
            0 => case.snapshot_gz.clone(),
            _ => case.unpack(dir.path())?,
        };
        archive("add", &root)
            .arg(&file)
            .args(["--name", &name, "--sha256", case.sha256()])
            .run()?
            .ok()?;
        let got = dir.path().join("got.snapshot");
        archive("get", &root)
            .arg(&name)
            .arg("-o")
            .arg(&got)
            .arg("--force")
            .run()?
            .ok()?;
        let unpacked = std::fs::read(case.unpack(dir.path())?)?;
        ensure!(
            std::fs::read(&got)? == unpacked,
            "{name} came out otherwise"
        );
    }
    let stored = entries(&root)?;
    ensure_eq!(stored.len(), cases.len(), "entries");
    let unverified = stored
        .iter()
        .filter(|entry| entry["verified_by"].as_array().is_none_or(Vec::is_empty));
    ensure_eq!(unverified.count(), 0, "entries that nobody vouches for");
    ensure_eq!(findings(&root)?, Vec::<Value>::new(), "findings");
    Ok(())
}

fn python_reads_it(env: &Env, is_encrypted: bool) -> Outcome {
    let dir = temp_dir()?;
    let root = dir.path().join("archive");
    let recipient = ["--encrypt", encrypted::PUBLIC];
    let recipient = recipient.iter().filter(|_| is_encrypted);
    archive("init", &root).args(recipient).run()?.ok()?;
    // An archive that is not encrypted is not harmed by a key.
    let key = encrypted::key_file(dir.path(), encrypted::KEY)?;
    let archive =
        |verb: &str, root: &Path| archive(verb, root).env("SNAPMERGE_IDENTITY_FILE", &key);
    let script = env.root.join("scripts/archive.py");
    let text = std::fs::read_to_string(&script)?;
    ensure!(text.lines().count() < 200, "the script is too long");
    ensure!(!text.contains("import snapmerge"), "it uses our code");
    let python = |args: &[&str]| -> Outcome<(Option<i32>, String, String)> {
        let mut run = Command::new("python3");
        let run = run
            .arg(&script)
            .args(args)
            .env("SNAPMERGE_IDENTITY_FILE", &key);
        let run = run.output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((run.status.code(), text(run.stdout), text(run.stderr)))
    };
    let place = root.to_str().ok_or("a path that is no text")?;
    let mut stored = Vec::new();
    for case in ["album_2017", "three_shards", "log_pending", "sparse_dense"] {
        let case = env.case(case);
        let add = archive("add", &root).arg(&case.snapshot_gz);
        add.run()?.ok()?;
        stored.push(case);
    }
    archive("forget", &root)
        .args(["--entry", "three_shards"])
        .run()?
        .ok()?;
    stored.remove(1);
    let listed = archive("ls", &root).arg("--json").run()?.ok()?.json()?;
    let listed = listed["entries"].as_array().ok_or("no entries")?;
    let ours: Vec<String> = listed
        .iter()
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            format!("{}\t{}\t{}", text("id"), entry["bytes"], text("sha256"))
        })
        .collect();
    let (code, listed, err) = python(&["ls", place])?;
    ensure_eq!(code, Some(0), "ls: {err}");
    ensure_eq!(listed.lines().collect::<Vec<_>>(), ours, "what it lists");
    let (code, told, err) = python(&["check", place])?;
    ensure_eq!(code, Some(0), "check: {err}");
    ensure!(told.contains("OK: 3 entries"), "{told}");
    for (case, line) in stored.iter().zip(&ours) {
        let id = line.split('\t').next().unwrap_or_default();
        let got = dir.path().join(format!("{}.got", case.name));
        let target = got.to_str().ok_or("a path that is no text")?;
        let (code, _, err) = python(&["get", place, id, target])?;
        ensure_eq!(code, Some(0), "get: {err}");
        let unpacked = std::fs::read(case.unpack(dir.path())?)?;
        ensure!(std::fs::read(&got)? == unpacked, "{id} came out otherwise");
        // What is there already stays as it is.
        std::fs::write(&got, "mine")?;
        let (code, _, err) = python(&["get", place, id, target])?;
        ensure_eq!(code, Some(2), "get over a file: {err}");
        ensure_eq!(std::fs::read_to_string(&got)?, "mine", "the file");
    }
    // The newest of a name is found by it.
    let newest = dir.path().join("newest");
    let target = newest.to_str().ok_or("a path that is no text")?;
    let (code, _, err) = python(&["get", place, "album_2017@latest", target])?;
    ensure_eq!(code, Some(0), "get the newest: {err}");
    let unpacked = std::fs::read(env.case("album_2017").unpack(dir.path())?)?;
    ensure!(
        std::fs::read(&newest)? == unpacked,
        "the newest came out otherwise"
    );
    let (code, ..) = python(&["get", place, "three_shards@latest", target])?;
    ensure_eq!(code, Some(10), "a name without an entry");
    let out = dir.path().join("out");
    std::fs::create_dir(&out)?;
    let target = out.join("x");
    let target = target.to_str().ok_or("a path that is no text")?;
    ensure_eq!(
        python(&["get", place, "none", target])?.0,
        Some(10),
        "no entry"
    );
    // Of what does not come out as it went in nothing is left.
    let id = ours[0].split('\t').next().unwrap_or_default();
    for object in walk(&root.join("objects"))? {
        let bytes = std::fs::read(&object)?;
        std::fs::remove_file(&object)?;
        let code = python(&["get", place, id, target])?.0;
        ensure!(
            code == Some(13) || code == Some(0),
            "get ended with {code:?}"
        );
        if code == Some(13) {
            ensure_eq!(std::fs::read_dir(&out)?.count(), 0, "files left");
        } else {
            std::fs::remove_file(target)?;
        }
        std::fs::write(&object, bytes)?;
    }
    ensure_eq!(python(&["ls", "nowhere"])?.0, Some(10), "no archive");
    ensure_eq!(python(&["sing", place])?.0, Some(2), "no verb");
    // Whatever is damaged, it sees.
    for listed in walk(&root)? {
        // It holds nothing.
        if listed.ends_with("reserve") {
            continue;
        }
        let bytes = std::fs::read(&listed)?;
        let mut flipped = bytes.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 4;
        std::fs::write(&listed, &flipped)?;
        let (code, _, err) = python(&["check", place])?;
        ensure_eq!(code, Some(13), "{}: {err}", listed.display());
        std::fs::write(&listed, &bytes)?;
    }
    Ok(())
}

/// All files of an archive.
pub fn walk(root: &Path) -> Outcome<Vec<PathBuf>> {
    let (mut folders, mut files) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files.sort();
    Ok(files)
}

fn says_what_is_wrong(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let nowhere = dir.path().join("nowhere");
    let case = env.case("album_2017");
    for verb in ["ls", "check", "verify-chain", "unlock"] {
        let run = archive(verb, &nowhere).run()?;
        run.code(10)?
            .says(&["nowhere", "there is no archive", "next:"])?;
    }
    archive("add", &nowhere)
        .arg(&case.snapshot_gz)
        .run()?
        .code(10)?;
    ensure!(!nowhere.exists(), "a wrong place was made");
    let root = make(dir.path())?;
    archive("init", &root)
        .run()?
        .code(2)?
        .says(&["one already"])?;
    archive("add", &root).arg(&case.snapshot_gz).run()?.ok()?;
    let get = |what: &str| {
        archive("get", &root)
            .arg(what)
            .arg("-o")
            .arg(dir.path().join("x"))
    };
    get("album_2018@latest")
        .run()?
        .code(10)?
        .says(&["album_2018@latest", "album_2017"])?;
    get("album_2017@1999")
        .run()?
        .code(10)?
        .says(&["not stored then"])?;
    archive("forget", &root)
        .run()?
        .code(2)?
        .says(&["empty", "--keep-last"])?;
    archive("forget", &root)
        .args(["--keep-last", "1", "--name", "other"])
        .run()?
        .code(10)?;
    // A flipped bit: the entry is refused, the check says what is lost.
    let object = walk(&root.join("objects"))?.remove(0);
    let mut bytes = std::fs::read(&object)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&object, bytes)?;
    get("album_2017")
        .run()?
        .code(13)?
        .says(&["SHA-256", "check"])?;
    ensure!(!dir.path().join("x").exists(), "half a snapshot");
    let check = archive("check", &root).run()?.code(13)?;
    ensure!(
        check.stdout.contains("LOST in album_2017@"),
        "{}",
        check.told()
    );
    ensure!(check.stdout.contains("DAMAGED: 0 of 1"), "{}", check.told());
    Ok(())
}

fn lists_a_thousand() -> Outcome {
    use snapmerge::archive::{Chain, Entry, Event, Local, Name, Store};
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let store = Local::new(&root);
    let failed = |err: snapmerge::base::error::Error| err.to_string();
    let mut chain = Chain::open(&store).map_err(failed)?;
    for night in 0..1000_i64 {
        let time =
            chrono::DateTime::from_timestamp(1_600_000_000 + night * 86_400, 0).ok_or("a time")?;
        let entry = Entry {
            id: format!("album@{}", time.format("%Y-%m-%dT%H:%M:%SZ")),
            name: "album".into(),
            time,
            file: format!("album-1-{night}.snapshot"),
            bytes: 1 << 30,
            sha256: Name::of(&night.to_le_bytes()).to_string(),
            verified_by: vec!["x.checksum".into()],
            tags: Vec::new(),
            recipe: Name::of(&(night + 1).to_be_bytes()),
            recipe_bytes: 1000,
            new_objects: 3,
            new_bytes: 10 << 20,
            manifest: None,
            provenance: None,
        };
        let entry = Box::new(entry);
        chain
            .append(&store, Event::Add { entry }, None, time)
            .map_err(failed)?;
    }
    store.sync().map_err(failed)?;
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let run = archive("ls", &root).run()?.ok()?;
        ensure_eq!(run.stdout.lines().count(), 1002, "lines");
        fastest = fastest.min(run.elapsed);
    }
    println!("archive: ls of 1,000 entries took {fastest:.1?}");
    // A tenth of that at rest; beside other tests, and not optimised, a machine may be slow.
    ensure!(fastest < Duration::from_secs(1), "it took {fastest:?}");
    Ok(())
}
