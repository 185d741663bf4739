//! `snapmerge inspect`, held to what the server said about the same snapshots, and to snapshots of
//! other forms and with faults, made of real ones.

mod made;
mod shape;

use serde_json::Value;

use crate::support::cases::Case;
use crate::support::cli::{Cli, Run};
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

use made::Members;
use shape::{Checksum, Contents, Inspection};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = env.per_case("inspect", agrees_with_the_server);
    let of = |name: &str, test: fn(&Env) -> Outcome| Trial::new(name, move || test(env));
    trials.extend([
        of("inspect/forms", forms),
        of("inspect/rocksdb_without_its_database", rocksdb),
        of("inspect/incompatible", incompatible),
        of("inspect/given_twice", given_twice),
        of("inspect/damaged_among_others", damaged_among_others),
        of("inspect/checksums", checksums),
        of("inspect/without_a_log", without_a_log),
        of("inspect/without_a_shard", without_a_shard),
        of("inspect/unknown_members", unknown_members),
    ]);
    trials
}

/// What `--json` says, and the run that said it.
fn json(cli: Cli, code: i32) -> Outcome<(Inspection, Run)> {
    let run = cli.arg("--json").run()?.code(code)?;
    let inspection: Inspection = serde_json::from_str(&run.stdout)
        .map_err(|e| format!("not the documented JSON: {e}\n{}", run.told()))?;
    ensure_eq!(inspection.format, "snapmerge-inspect/1", "format");
    Ok((inspection, run))
}

/// The contents of the only snapshot.
fn only(inspection: Inspection) -> Outcome<Contents> {
    let [snapshot] = <[_; 1]>::try_from(inspection.snapshots).map_err(|_| "not one snapshot")?;
    snapshot.contents.ok_or_else(|| "no contents".into())
}

fn agrees_with_the_server(case: Case) -> Outcome {
    let (inspection, run) = json(cli!["inspect", &case.snapshot_gz], 0)?;
    ensure!(inspection.merge.possible, "{}", run.told());
    let snapshot = &inspection.snapshots[0];
    ensure_eq!(snapshot.verdict, "readable", "verdict");
    ensure_eq!(snapshot.name, case.name, "name");
    ensure_eq!(snapshot.problems.len(), 0, "problems");
    let contents = only(inspection)?;
    ensure_eq!(contents.form, "collection", "form");
    ensure!(contents.compressed, "a .gz");
    ensure_eq!(contents.unknown_members_count, 0, "unknown members");

    // The server was asked after the snapshot was taken: of these two its optimizer had merged
    // segments by then, so the file's own members are the truth for them.
    let dir = temp_dir()?;
    let members = Members::read(&case.unpack(dir.path())?)?;
    let tars = members.0.iter().filter(|m| m.path.ends_with(".tar"));
    ensure_eq!(contents.segments_count, tars.count() as u64, "segment tars");
    if !["edited", "log_pending"].contains(&case.name.as_str()) {
        let told = case.info["segments"].as_u64();
        ensure_eq!(Some(contents.segments_count), told, "segments");
    }

    let pending = contents.log_not_provably_taken_in_count;
    let text = cli!["inspect", &case.snapshot_gz].run()?.ok()?.stdout;
    let verdict = text.lines().next().unwrap_or_default();
    if case.name == "log_pending" {
        let logs = contents.shards.iter().filter_map(|s| s.log.as_ref());
        let told: u64 = logs.map(|log| log.not_provably_taken_in_count).sum();
        ensure!(told > 0 && pending == Some(told), "{told} of {pending:?}");
        ensure!(
            verdict.contains(&format!("{told} log entries not provably taken in")),
            "{text}"
        );
    } else {
        ensure_eq!(pending, Some(0), "entries not taken in");
        ensure_eq!(contents.points_count, Some(case.points() as u64), "points");
        let sum: u64 = contents.shards.iter().filter_map(|s| s.points_count).sum();
        ensure_eq!(sum, case.points() as u64, "points of all shards");
        ensure!(
            verdict.starts_with(&case.snapshot_gz.display().to_string()),
            "{text}"
        );
        ensure!(verdict.ends_with(" points, readable"), "{text}");
    }

    let told = case.info["payload_schema"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let fields: Vec<&String> = contents.payload_schema.keys().collect();
    ensure_eq!(fields, told.keys().collect::<Vec<_>>(), "indexed fields");
    for (field, index) in &contents.payload_schema {
        let kind = index.get("type").unwrap_or(index);
        ensure_eq!(*kind, told[field]["data_type"], "the index of {field}");
        if let Some(params) = told[field].get("params") {
            ensure_eq!(index, params, "the index of {field}");
        }
    }

    let params = &case.info["config"]["params"];
    ensure_eq!(
        contents.config["params"]["vectors"],
        params["vectors"],
        "vectors"
    );
    for (name, vector) in &contents.vectors {
        let told = if name.is_empty() {
            &params["vectors"]
        } else {
            &params["vectors"][name]
        };
        ensure_eq!(Some(vector.size), told["size"].as_u64(), "size of '{name}'");
        ensure_eq!(
            told["distance"],
            vector.distance.as_str(),
            "distance of '{name}'"
        );
    }
    for segment in contents.shards.iter().flat_map(|shard| &shard.segments) {
        let points = segment.points.as_ref().ok_or("a segment without points")?;
        let places = points.points_count + points.deleted_count + points.unversioned_count;
        for vector in &segment.vectors {
            let slots = vector.slots_count.unwrap_or(places);
            ensure_eq!(
                slots,
                places,
                "slots of '{}' in {}",
                vector.name,
                segment.uuid
            );
        }
    }
    if case.name == "shard_keys" {
        let keys: Vec<_> = contents
            .shards
            .iter()
            .map(|s| (s.shard, s.shard_key.clone()))
            .collect();
        let want = [
            (1, Value::from("2017")),
            (2, "2018".into()),
            (3, 2019.into()),
        ];
        ensure_eq!(
            keys,
            want.map(|(shard, key)| (shard, Some(key))),
            "shard keys"
        );
    }
    Ok(())
}

fn forms(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let case = env.case("named");
    let whole = only(json(cli!["inspect", case.unpack(dir.path())?], 0)?.0)?;
    let members = Members::read(&dir.path().join("named.snapshot"))?;
    for (form, made) in [
        ("shard", members.shard("0/")),
        ("streamed_shard", members.shard("0/").streamed()?),
    ] {
        let path = dir.path().join(format!("{form}.snapshot"));
        made.write(&path)?;
        let (inspection, run) = json(cli!["inspect", &path], 0)?;
        ensure_eq!(inspection.snapshots[0].verdict, "readable", "{form}");
        let contents = only(inspection)?;
        ensure_eq!(contents.form, form, "form");
        ensure!(contents.config_is_derived, "{}", run.told());
        ensure_eq!(contents.points_count, whole.points_count, "{form}: points");
        ensure_eq!(
            contents.segments_count,
            whole.segments_count,
            "{form}: segments"
        );
        let names: Vec<_> = contents
            .vectors
            .iter()
            .map(|(name, v)| (name, v.size))
            .collect();
        let want: Vec<_> = whole
            .vectors
            .iter()
            .map(|(name, v)| (name, v.size))
            .collect();
        ensure_eq!(names, want, "{form}: vectors");
        let files = |contents: &Contents| -> u64 {
            contents.shards[0]
                .segments
                .iter()
                .map(|s| s.files_count)
                .sum()
        };
        ensure_eq!(
            files(&contents),
            files(&whole),
            "{form}: files of the segments"
        );
    }
    Ok(())
}

fn rocksdb(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let mut members = Members::read(&env.case("plain_dot").unpack(dir.path())?)?;
    let mut made = 0;
    for tar in members.0.iter_mut().filter(|m| m.path.ends_with(".tar")) {
        let mut files = Members::parse(tar.bytes.as_slice())?;
        files.0.retain(|file| !file.path.contains("id_tracker"));
        files.add("snapshot/db_backup/shared_checksum/000012_sX_1.sst", b"x");
        tar.bytes = files.to_bytes()?;
        made += 1;
    }
    let path = dir.path().join("old.snapshot");
    members.write(&path)?;
    let (inspection, run) = json(cli!["inspect", &path], 13)?;
    let snapshot = &inspection.snapshots[0];
    ensure_eq!(snapshot.verdict, "unreadable", "verdict");
    let refused = snapshot.problems.iter().filter(|problem| {
        problem.segment.is_some()
            && problem.why == "its ids lie in RocksDB, and its database is missing"
            && !problem.incomplete
    });
    ensure_eq!(refused.count(), made, "refused segments\n{}", run.told());
    ensure!(!inspection.merge.possible, "{}", run.told());
    let contents = only(inspection)?;
    ensure_eq!(contents.points_count, None, "points that nobody can know");
    let run = cli!["inspect", &path].run()?.code(13)?;
    for part in [
        "points unknown, CANNOT BE READ",
        "RocksDB",
        "next: fetch or copy the snapshot again",
    ] {
        ensure!(
            run.stdout.contains(part),
            "{part:?} is missing\n{}",
            run.told()
        );
    }
    Ok(())
}

fn incompatible(env: &Env) -> Outcome {
    let (dot, euclid) = (env.case("plain_dot"), env.case("euclid_on_disk"));
    let cli = cli!["inspect", &dot.snapshot_gz, &euclid.snapshot_gz];
    let (inspection, run) = json(cli.clone(), 3)?;
    ensure_eq!(inspection.merge.possible, false, "possible");
    let blocking: Vec<&str> = inspection
        .merge
        .findings
        .iter()
        .filter(|finding| finding.severity == "blocks")
        .map(|finding| finding.about.as_str())
        .collect();
    let want = ["the unnamed vector size", "the unnamed vector distance"];
    ensure_eq!(blocking, want, "all that blocks, at once\n{}", run.told());
    ensure_eq!(inspection.merge.blocking_count, 2, "counted");
    let differs = inspection
        .merge
        .findings
        .iter()
        .any(|f| f.severity == "differs");
    ensure!(differs, "what only differs is told too\n{}", run.told());
    ensure!(
        inspection.snapshots.iter().all(|s| s.verdict == "readable"),
        "each is readable\n{}",
        run.told()
    );
    let run = cli.run()?.code(3)?;
    for part in [
        "CANNOT be merged",
        "size: 8 (plain_dot), 12 (euclid_on_disk)",
        "Dot (plain_dot)",
    ] {
        ensure!(
            run.stdout.contains(part),
            "{part:?} is missing\n{}",
            run.told()
        );
    }
    // Compatible ones that differ in an index are no failure.
    let (a, b) = (env.case("album_2018"), env.case("album_2019_overlap"));
    let (inspection, run) = json(cli!["inspect", &a.snapshot_gz, &b.snapshot_gz], 0)?;
    ensure!(inspection.merge.possible, "{}", run.told());
    ensure!(!inspection.merge.findings.is_empty(), "{}", run.told());
    Ok(())
}

fn given_twice(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let path = env.case("plain_dot").unpack(dir.path())?;
    let other = dir.path().join("other.snapshot");
    std::fs::hard_link(&path, &other)?;
    let copy = dir.path().join("copy.snapshot");
    std::fs::copy(&path, &copy)?;
    for twice in [&path, &other] {
        let (inspection, run) = json(cli!["inspect", &path, twice], 3)?;
        let finding = &inspection.merge.findings[0];
        ensure_eq!(finding.severity, "blocks", "{}", run.told());
        ensure!(finding.about.contains("more than once"), "{}", run.told());
        ensure_eq!(finding.values.len(), 2, "both are named\n{}", run.told());
    }
    // A copy is seen when its bytes are.
    let (inspection, run) = json(cli!["inspect", &path, &copy, "--check"], 0)?;
    let about = &inspection.merge.findings[0].about;
    ensure!(about.contains("copies of one snapshot"), "{}", run.told());
    Ok(())
}

fn damaged_among_others(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let good = env.case("plain_dot").unpack(dir.path())?;
    let bytes = std::fs::read(&good)?;
    let cut = dir.path().join("cut.snapshot");
    std::fs::write(&cut, &bytes[..bytes.len() / 2])?;
    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "no tar at all, but long enough. ".repeat(100))?;
    let missing = dir.path().join("missing.snapshot");
    let other = env.case("uint8").unpack(dir.path())?;

    let cli = cli!["inspect", &cut, &good, &text, &missing, &other];
    let (inspection, run) = json(cli.clone(), 13)?;
    let verdicts: Vec<&str> = inspection
        .snapshots
        .iter()
        .map(|s| s.verdict.as_str())
        .collect();
    let bad = "unreadable";
    ensure_eq!(
        verdicts,
        [bad, "readable", bad, bad, "readable"],
        "{}",
        run.told()
    );
    for (snapshot, why) in [(0, "cut off"), (2, "not a tar"), (3, "No such file")] {
        let snapshot = &inspection.snapshots[snapshot];
        ensure!(snapshot.contents.is_none(), "contents of {}", snapshot.file);
        ensure!(
            snapshot.problems[0].why.contains(why),
            "{:?}",
            snapshot.problems
        );
    }
    ensure_eq!(inspection.merge.unreadable_count, 3, "unreadable");
    let run = cli.run()?.code(13)?;
    for path in [&cut, &good, &text, &missing, &other] {
        let path = path.display().to_string();
        let told = run
            .stdout
            .lines()
            .any(|line| line.starts_with(&format!("{path}: ")));
        ensure!(told, "no verdict on {path}\n{}", run.told());
    }
    // A lone one fails as in every other command.
    let cut = cut.display().to_string();
    cli!["inspect", &cut]
        .run()?
        .code(13)?
        .says(&[&cut, "cut off"])?;
    cli!["inspect", &missing]
        .run()?
        .code(1)?
        .says(&["missing.snapshot"])?;
    Ok(())
}

fn checksums(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let case = env.case("plain_dot");
    let path = case.unpack(dir.path())?;
    let before = names_in(dir.path())?;

    let contents = only(json(cli!["inspect", &path], 0)?.0)?;
    ensure!(
        matches!(contents.checksum, Checksum::Unverified {}),
        "{:?}",
        contents.checksum
    );
    ensure_eq!(contents.sha256, None, "not read");
    let text = cli!["inspect", &path].run()?.ok()?.stdout;
    ensure!(text.contains("UNVERIFIED"), "{text}");
    let contents = only(json(cli!["inspect", &path, "--check"], 0)?.0)?;
    ensure!(
        matches!(contents.checksum, Checksum::Unverified {}),
        "{:?}",
        contents.checksum
    );
    ensure_eq!(contents.sha256.as_deref(), Some(case.sha256()), "read");
    cli!["inspect", &path, "--require-checksum"]
        .run()?
        .code(13)?
        .says(&["plain_dot.snapshot"])?;
    ensure_eq!(names_in(dir.path())?, before, "inspect writes nothing");

    let beside = dir.path().join("plain_dot.snapshot.checksum");
    std::fs::write(&beside, case.sha256())?;
    let contents = only(json(cli!["inspect", &path, "--require-checksum"], 0)?.0)?;
    ensure!(
        matches!(contents.checksum, Checksum::Unchecked { .. }),
        "{:?}",
        contents.checksum
    );
    let text = cli!["inspect", &path].run()?.ok()?.stdout;
    ensure!(text.contains("NOT compared"), "{text}");
    let contents = only(json(cli!["inspect", &path, "--check"], 0)?.0)?;
    let Checksum::Verified { sha256, hash, by } = contents.checksum else {
        return Err(format!("{:?}", contents.checksum).into());
    };
    ensure_eq!((sha256.as_str(), by.len()), (case.sha256(), 1), "verified");
    ensure_eq!(hash, "sha256", "compared");

    std::fs::write(&beside, "0".repeat(64))?;
    cli!["inspect", &path].run()?.ok()?;
    cli!["inspect", &path, "--check"]
        .run()?
        .code(13)?
        .says(&["SHA-256", "fetch or copy it again"])?;
    Ok(())
}

fn without_a_log(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let mut members = Members::read(&env.case("plain_dot").unpack(dir.path())?)?;
    members.0.retain(|member| !member.path.starts_with("0/wal"));
    let path = dir.path().join("bare.snapshot");
    members.write(&path)?;
    let (inspection, run) = json(cli!["inspect", &path], 0)?;
    ensure_eq!(
        inspection.snapshots[0].verdict,
        "readable",
        "{}",
        run.told()
    );
    let notes = inspection.snapshots[0].notes.join("\n");
    ensure!(
        notes.contains("no log: readable; deletes that the optimizer held back"),
        "{notes}"
    );
    ensure!(only(inspection)?.shards[0].log.is_none(), "{}", run.told());
    Ok(())
}

fn without_a_shard(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let mut members = Members::read(&env.case("three_shards").unpack(dir.path())?)?;
    members.0.retain(|member| !member.path.starts_with("1/"));
    let path = dir.path().join("two.snapshot");
    members.write(&path)?;
    let (inspection, run) = json(cli!["inspect", &path], 3)?;
    let snapshot = &inspection.snapshots[0];
    ensure_eq!(snapshot.verdict, "incomplete", "{}", run.told());
    ensure_eq!(snapshot.problems[0].shard, Some(1), "{}", run.told());
    ensure_eq!(inspection.merge.incomplete_count, 1, "{}", run.told());
    let text = cli!["inspect", &path].run()?.code(3)?.stdout;
    ensure!(
        text.contains("INCOMPLETE") && text.contains("shard 1 is missing"),
        "{text}"
    );
    Ok(())
}

fn unknown_members(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let mut members = Members::read(&env.case("plain_dot").unpack(dir.path())?)?;
    members.add("0/notes.txt", b"?");
    let path = dir.path().join("more.snapshot");
    members.write(&path)?;
    let (inspection, _) = json(cli!["inspect", &path], 0)?;
    let contents = only(inspection)?;
    ensure_eq!(contents.unknown_members, ["0/notes.txt"], "listed");
    ensure_eq!(contents.unknown_members_count, 1, "counted");
    let text = cli!["inspect", &path].run()?.ok()?.stdout;
    ensure!(text.contains("0/notes.txt"), "{text}");

    // One that would write to the terminal is refused, and does not.
    members.add("0/more\u{1b}[2J.txt", b"?");
    members.write(&path)?;
    let run = cli!["inspect", &path].run()?.code(13)?;
    ensure!(run.stderr.contains("more\\u{1b}[2J.txt"), "{}", run.told());
    ensure!(
        !run.stderr.contains('\u{1b}'),
        "a name wrote to the terminal"
    );
    Ok(())
}
