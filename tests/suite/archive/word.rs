//! The archive keeps its word: what it calls stored is there, what is given up is what was meant, a
//! chain that was shortened or forged is known, and a full disk can be emptied.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{archive, entries, findings, make, walk};
use crate::damage::disk::{mounts, on_disk};
use crate::support::{Env, Outcome, Trial, openssl, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("archive/word/stale_checksum", || stale_checksum(env)),
        Trial::new("archive/word/damage_is_stored_again", || stored_again(env)),
        Trial::new("archive/word/forget_means_one", || forget_means_one(env)),
        Trial::new("archive/word/future_never_wins", || future(env)),
        Trial::new("archive/word/shortened_chain", || shortened(env)),
        Trial::needs("archive/word/trust", &openssl::is_there(), |()| trust(env)),
        Trial::new("archive/word/diverged_copy", || diverged(env)),
        Trial::needs("archive/word/full_disk", &mounts(), |how| {
            full_disk(env, &how)
        }),
        Trial::new("archive/word/days_of_a_zone", || zone(env)),
    ]
}

/// A file with the bytes of a case, under another name.
fn copy(env: &Env, dir: &Path, case: &str, name: &str) -> Outcome<PathBuf> {
    let path = dir.join(name);
    std::fs::copy(env.case(case).unpack(dir)?, &path)?;
    Ok(path)
}

fn stale_checksum(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let old = env.case("album_2017");
    archive("add", &root).arg(&old.snapshot_gz).run()?.ok()?;
    let new = copy(env, dir.path(), "album_2018", "album_2017.snapshot")?;
    let beside = dir.path().join("album_2017.snapshot.checksum");
    std::fs::write(&beside, old.sha256())?;
    let add = || archive("add", &root).arg(&new);
    add()
        .run()?
        .code(13)?
        .says(&["album_2017.snapshot.checksum says"])?;
    let right = env.case("album_2018").sha256().to_owned();
    add().args(["--sha256", &right]).run()?.code(13)?;
    ensure_eq!(entries(&root)?.len(), 1, "entries");
    std::fs::write(&beside, &right)?;
    add().run()?.ok()?;
    let stored = entries(&root)?;
    ensure_eq!(stored.len(), 2, "entries");
    ensure_eq!(
        stored[1]["sha256"].as_str(),
        Some(right.as_str()),
        "what was stored"
    );
    Ok(())
}

fn stored_again(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let case = env.case("album_2017");
    let add = || archive("add", &root).arg(&case.snapshot_gz);
    add().run()?.ok()?;
    for object in walk(&root.join("objects"))? {
        let mut bytes = std::fs::read(&object)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&object, &bytes)?;
        let run = add().run()?.code(3)?;
        ensure!(
            run.stdout.contains("damaged: stored again"),
            "{}",
            run.told()
        );
        let got = dir.path().join("got");
        archive("get", &root)
            .arg("album_2017")
            .args(["--force", "-o"])
            .arg(&got)
            .run()?
            .ok()?;
        ensure!(
            std::fs::read(&got)? == std::fs::read(case.unpack(dir.path())?)?,
            "otherwise"
        );
    }
    let run = add().run()?.ok()?;
    ensure!(run.stdout.contains("stored already"), "{}", run.told());
    archive("forget", &root).arg("--leftovers").run()?.ok()?;
    ensure_eq!(findings(&root)?, Vec::<Value>::new(), "findings");
    Ok(())
}

fn forget_means_one(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let time = "2026-11-01T03:00:00Z";
    for case in ["album_2017", "album_2018"] {
        archive("add", &root)
            .arg(&env.case(case).snapshot_gz)
            .args(["--name", "album", "--time", time])
            .run()?
            .ok()?;
    }
    let first = env.case("album_2017");
    let is = entries(&root)?;
    ensure_eq!(is[0]["sha256"].as_str(), Some(first.sha256()), "the first");
    let forget = |entry: &str| archive("forget", &root).args(["--entry", entry]);
    for text in ["album", "album@2026-11", "album@2026-11-01T03"] {
        forget(text)
            .run()?
            .code(2)?
            .says(&["it may mean 2", "whole id"])?;
    }
    forget(&format!("album@{time}")).run()?.ok()?;
    let left = entries(&root)?;
    ensure_eq!(left.len(), 1, "entries left");
    let id = format!("album@{time}.2");
    ensure_eq!(left[0]["id"].as_str(), Some(id.as_str()), "what is left");
    let shown = archive("show", &root).arg(&id).arg("--json").run()?.ok()?;
    let second = env.case("album_2018");
    let is = shown.json()?;
    ensure_eq!(
        is["entry"]["sha256"].as_str(),
        Some(second.sha256()),
        "its bytes"
    );
    forget("album@latest").run()?.ok()?;
    ensure_eq!(entries(&root)?.len(), 0, "entries");
    Ok(())
}

fn future(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    for (case, time) in [
        ("album_2017", "2099-01-01"),
        ("album_2018", "2026-10-01"),
        ("three_shards", "2026-10-02"),
    ] {
        archive("add", &root)
            .arg(&env.case(case).snapshot_gz)
            .args(["--name", "album", "--time", time])
            .run()?
            .ok()?;
    }
    let shown = archive("show", &root)
        .arg("album")
        .arg("--json")
        .run()?
        .ok()?;
    let latest = &shown.json()?["entry"]["id"];
    ensure_eq!(
        latest.as_str(),
        Some("album@2026-10-02T00:00:00Z"),
        "the newest"
    );
    let listed = archive("ls", &root).run()?.ok()?;
    let told = |line: &&str| line.contains("2099") && line.contains("IN THE FUTURE");
    ensure!(
        listed.stdout.lines().any(|line| told(&line)),
        "{}",
        listed.told()
    );
    let forget = archive("forget", &root).args(["--keep-last", "1", "--keep-daily", "1"]);
    let run = forget.run()?.ok()?;
    ensure!(run.stdout.contains("in the future"), "{}", run.told());
    let left = entries(&root)?;
    let ids: Vec<&str> = left
        .iter()
        .filter_map(|entry| entry["id"].as_str())
        .collect();
    ensure_eq!(
        ids,
        ["album@2099-01-01T00:00:00Z", "album@2026-10-02T00:00:00Z"],
        "left"
    );
    Ok(())
}

/// The last record is taken away, with a head that says so.
fn shorten(root: &Path) -> Outcome {
    let mut records = walk(&root.join("log"))?;
    std::fs::remove_file(records.pop().ok_or("no record")?)?;
    let last = records.last().ok_or("no record")?;
    let hash = snapmerge::archive::Name::of(&std::fs::read(last)?);
    let head = format!("{{\"hash\":\"{hash}\",\"seq\":{}}}\n", records.len());
    std::fs::write(root.join("head.json"), head)?;
    Ok(())
}

fn shortened(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let file = env.case("album_2017").snapshot_gz;
    let twice = ["2026-10-01", "2026-10-02"];
    for (time, name) in twice.iter().zip(["a", "b"]) {
        archive("add", &root)
            .arg(&file)
            .args(["--name", name, "--time", time])
            .run()?
            .ok()?;
    }
    shorten(&root)?;
    let got = dir.path().join("got");
    for cli in [
        archive("ls", &root),
        archive("show", &root).arg("a"),
        archive("get", &root).arg("a").arg("-o").arg(&got),
        archive("check", &root),
        archive("verify-chain", &root),
        archive("add", &root).arg(&file),
        archive("forget", &root).arg("--leftovers"),
        cli!["drill", "--archive", &root, "-q"],
        cli!["inspect", "archive:a", "--archive", &root],
        cli!["export", "archive:a", "--archive", &root],
        cli!["merge", "archive:a", "--archive", &root, "-o", &got],
        cli![
            "verify",
            "archive:a",
            "--against",
            &file,
            "--archive",
            &root
        ],
        cli!["diff", "archive:a", &file, "--archive", &root],
    ] {
        let run = cli.run()?.code(13)?;
        let told = format!("{}{}", run.stdout, run.stderr);
        ensure!(
            told.contains("was shortened or written anew"),
            "{}",
            run.told()
        );
    }
    // Another machine, or another user, has not seen it.
    let elsewhere = archive("verify-chain", &root).env("XDG_STATE_HOME", dir.path());
    let run = elsewhere.run()?.ok()?;
    ensure!(
        run.stdout.contains("has not looked before"),
        "{}",
        run.told()
    );
    archive("verify-chain", &root)
        .arg("--accept-head")
        .run()?
        .ok()?;
    ensure_eq!(entries(&root)?.len(), 1, "entries");
    // Where nothing can be remembered, that is told, and nothing else is kept from working.
    let file = dir.path().join("no folder");
    std::fs::write(&file, "")?;
    let blind = |verb: &str| archive(verb, &root).env("XDG_STATE_HOME", &file);
    blind("ls").run()?.ok()?;
    let run = blind("verify-chain").run()?.code(3)?;
    ensure!(run.stdout.contains("NOT REMEMBERED"), "{}", run.told());
    Ok(())
}

fn trust(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = dir.path().join("archive");
    for name in ["ours", "other"] {
        openssl::make_keys(dir.path(), name)?;
    }
    let key = dir.path().join("ours.pem");
    archive("init", &root)
        .arg("--sign-key")
        .arg(&key)
        .run()?
        .ok()?;
    let file = env.case("album_2017").snapshot_gz;
    archive("add", &root)
        .arg(&file)
        .run()?
        .code(2)?
        .says(&["signed", "--sign-key"])?;
    ensure_eq!(walk(&root.join("log"))?.len(), 1, "records");
    let add = archive("add", &root)
        .arg(&file)
        .args(["--name", "a", "--sign-key"]);
    add.arg(&key).run()?.ok()?;
    let got = dir.path().join("got");
    let master = dir.path().join("master.snapshot");
    let readers = || {
        [
            archive("ls", &root),
            archive("show", &root).arg("a"),
            archive("get", &root)
                .arg("a")
                .args(["--force", "-o"])
                .arg(&got),
            archive("check", &root),
            archive("verify-chain", &root),
            archive("forget", &root).args(["--leftovers", "--dry-run"]),
            cli!["drill", "--archive", &root, "-q", "--sign-key", &key],
            cli!["inspect", "archive:a", "--archive", &root],
            cli![
                "merge",
                "archive:a",
                "--archive",
                &root,
                "--force",
                "-q",
                "-o",
                &master
            ],
        ]
    };
    for cli in readers() {
        cli.arg("--trust")
            .arg(dir.path().join("ours.pub"))
            .run()?
            .ok()?;
    }
    for cli in readers() {
        let run = cli
            .arg("--trust")
            .arg(dir.path().join("other.pub"))
            .run()?
            .code(13)?;
        let told = format!("{}{}", run.stdout, run.stderr);
        ensure!(told.contains("signed with another key"), "{}", run.told());
    }
    // A record without a signature in a signed chain is served to nobody, whoever asks.
    let record = walk(&root.join("log"))?.pop().ok_or("no record")?;
    let text = std::fs::read_to_string(&record)?;
    let line = format!("{}\n", text.lines().next().unwrap_or_default());
    std::fs::write(&record, &line)?;
    let hash = snapmerge::archive::Name::of(line.as_bytes());
    let seq = walk(&root.join("log"))?.len();
    let head = format!("{{\"hash\":\"{hash}\",\"seq\":{seq}}}\n");
    std::fs::write(root.join("head.json"), head)?;
    for cli in readers() {
        let run = cli.env("XDG_STATE_HOME", dir.path()).run()?.code(13)?;
        let told = format!("{}{}", run.stdout, run.stderr);
        ensure!(told.contains("is not signed"), "{}", run.told());
    }
    Ok(())
}

fn diverged(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let add = |root: &Path, case: &str| archive("add", root).arg(env.case(case).snapshot_gz);
    add(&root, "album_2017").run()?.ok()?;
    let copy = dir.path().join("copy");
    for file in walk(&root)? {
        let to = copy.join(file.strip_prefix(&root)?);
        std::fs::create_dir_all(to.parent().ok_or("no folder")?)?;
        std::fs::copy(&file, to)?;
    }
    let repair = || archive("check", &root).arg("--repair").arg(&copy);
    repair().run()?.ok()?;
    add(&root, "album_2018").run()?.ok()?;
    repair().run()?.ok()?;
    add(&copy, "three_shards").run()?.ok()?;
    let lost = walk(&root.join("objects"))?.remove(0);
    std::fs::remove_file(&lost)?;
    repair()
        .run()?
        .code(2)?
        .says(&["record 3", "both were written"])?;
    ensure!(!lost.exists(), "it was repaired");
    Ok(())
}

/// Two snapshots are stored on a small disk, which is filled to its last byte; giving one up needs
/// none. With room, everything goes on.
const FULL: &str = r#"
set -e
"$@" init --archive "$DISK/a" >/dev/null
"$@" add --archive "$DISK/a" --name one "$ONE" >/dev/null
"$@" add --archive "$DISK/a" --name two "$TWO" >/dev/null
dd if=/dev/zero of="$DISK/filler" bs=4k 2>/dev/null || true
code=0
"$@" add --archive "$DISK/a" --name three "$ONE" || code=$?
[ "$code" = 14 ]
[ -s "$DISK/a/reserve" ]
"$@" forget --archive "$DISK/a" --entry one
[ -s "$DISK/a/reserve" ]
"$@" check --archive "$DISK/a"
rm "$DISK/filler"
"$@" add --archive "$DISK/a" --name three "$ONE"
"#;

fn full_disk(env: &Env, how: &[&str]) -> Outcome {
    let dir = temp_dir()?;
    let disk = dir.path().join("disk");
    std::fs::create_dir(&disk)?;
    let cli = cli!["archive"]
        .under(&["sh", "-c", FULL, "sh"])
        .env("ONE", env.case("album_2017").snapshot_gz)
        .env("TWO", env.case("three_shards").snapshot_gz);
    let (run, _) = on_disk(how, &disk, "size=24m", cli, "")?;
    let run = run.ok()?;
    ensure!(run.stderr.contains("No space left"), "{}", run.told());
    ensure!(run.stdout.contains("gave up 1 entries"), "{}", run.told());
    Ok(())
}

fn zone(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    for (name, time) in [
        ("album_2017", "2026-10-24T22:30:00Z"),
        ("album_2018", "2026-10-25T22:30:00Z"),
    ] {
        archive("add", &root)
            .arg(&env.case(name).snapshot_gz)
            .args(["--name", "a", "--time", time])
            .run()?
            .ok()?;
    }
    let forget = |zone: &str| {
        archive("forget", &root).args(["--keep-daily", "2", "--dry-run", "--keep-timezone", zone])
    };
    // In Rome both are of the 25th, which had 25 hours.
    let run = forget("Europe/Rome").run()?.ok()?;
    ensure!(
        run.stdout.contains("would give up 1 entries"),
        "{}",
        run.told()
    );
    let run = forget("UTC").run()?.ok()?;
    ensure!(
        run.stdout.contains("would give up 0 entries"),
        "{}",
        run.told()
    );
    forget("Europe/Roma")
        .run()?
        .code(2)?
        .says(&["Europe/Rome"])?;
    Ok(())
}
