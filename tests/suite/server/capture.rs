//! `capture` from a server that fails by script: the right exit code, one error with the next step, and
//! nothing half done on either side.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::damage::disk;
use crate::support::cli::Signal;
use crate::support::craft::{Member, Tar};
use crate::support::fake::Checksum;
use crate::support::scripted::Fault;
use crate::support::{Env, Outcome, Trial};

use super::{Stage, is_one_error, manifest_of};

/// The path of a snapshot that is downloaded.
const DOWNLOAD: &str = "/snapshots/album-7-";

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mounts = disk::mounts();
    let mut trials = vec![
        Trial::new("server/capture/whole", || whole(env)),
        Trial::new("server/capture/cut_every_tenth", || cut_every_tenth(env)),
        Trial::new("server/capture/server_without_ranges", || {
            without_ranges(env)
        }),
        Trial::new("server/capture/checksums", || checksums(env)),
        Trial::new("server/capture/passing_faults", || passing(env)),
        Trial::new("server/capture/streams", || streams(env)),
        Trial::new("server/capture/ctrl_c", || ctrl_c(env)),
        Trial::new("server/capture/names", || names(env)),
        Trial::new("server/capture/planted_folder", || planted(env)),
        Trial::needs("server/capture/disk_gets_full", &mounts, move |how| {
            disk_gets_full(env, &how)
        }),
    ];
    for (name, fault, code, says) in [
        ("cut_for_ever", Fault::Cut(1000), 1, "tried 3 times"),
        ("short", Fault::Short(1000), 12, "header says 1000"),
        ("longer_header", Fault::Length(1000), 12, "announced"),
        ("shorter_header", Fault::Length(-1000), 12, "announced"),
        ("download_404", Fault::Status(404), 12, "404"),
        ("download_500", Fault::Status(500), 12, "500"),
        ("silent", Fault::Silent, 1, "ended"),
    ] {
        trials.push(Trial::new(format!("server/capture/{name}"), move || {
            let stage = Stage::new(env)?;
            stage.scripted.fault("GET", DOWNLOAD, 99, fault);
            let run = stage.capture().run()?.code(code)?.says(&[says])?;
            is_one_error(&run)?;
            stage.is_clean()
        }));
    }
    for status in [401, 403, 404, 409, 413, 500, 503] {
        trials.push(Trial::new(
            format!("server/capture/making_{status}"),
            move || {
                let stage = Stage::new(env)?;
                let fault = Fault::Status(status);
                stage.scripted.fault("POST", "/album/snapshots", 99, fault);
                let run = stage.capture().run()?.code(12)?;
                let run = run.says(&[&status.to_string(), "as the script says"])?;
                is_one_error(&run)?;
                // Made twice, it would be two.
                ensure_eq!(stage.scripted.asked("POST", "/album/snapshots"), 1, "asked");
                stage.is_clean()
            },
        ));
    }
    for (name, what, says) in [
        ("partial", "Partial", "Partial"),
        ("dead", "Dead", "Dead"),
        ("unknown_state", "Whatever", "Whatever"),
    ] {
        trials.push(Trial::new(
            format!("server/capture/replica_{name}"),
            move || {
                let stage = Stage::new(env)?;
                if let Some(album) = stage.scripted.fake().collections.get_mut("album") {
                    album.state = what.into();
                }
                let run = stage.capture().run()?.code(12)?.says(&[says])?;
                is_one_error(&run)?;
                ensure_eq!(stage.scripted.asked("POST", "/snapshots"), 0, "made");
                stage.is_clean()
            },
        ));
    }
    trials.push(Trial::new("server/capture/shards_move", || {
        let stage = Stage::new(env)?;
        if let Some(album) = stage.scripted.fake().collections.get_mut("album") {
            album.transfers = vec![json!({"shard_id": 0})];
        }
        let run = stage.capture().run()?.code(12)?.says(&["transferred"])?;
        is_one_error(&run)?;
        stage.is_clean()
    }));
    trials.push(Trial::new("server/capture/late", || {
        let stage = Stage::new(env)?;
        let slow = Fault::Slow(Duration::from_secs(8));
        stage.scripted.fault("GET", "/collections/album", 99, slow);
        let run = stage.capture_with(&["--timeout=1", "--retries=1"]);
        let run = run.run()?.code(1)?.says(&["in time", "--timeout"])?;
        is_one_error(&run)?;
        stage.is_clean()
    }));
    trials
}

fn whole(env: &Env) -> Outcome {
    let stage = Stage::new(env)?;
    let theirs = "album-7-2020-01-01-00-00-00.snapshot";
    if let Some(album) = stage.scripted.fake().collections.get_mut("album") {
        album.snapshots.insert(theirs.into(), b"theirs".to_vec());
    }
    stage
        .scripted
        .fake()
        .aliases
        .insert("now".into(), "album".into());
    let run = stage.capture().run()?.ok()?;
    let file = stage.captured()?;
    ensure!(
        run.stdout.contains(&file.display().to_string()),
        "{}",
        run.told()
    );
    ensure!(std::fs::read(&file)? == stage.snapshot, "another file");
    let sha256 = hex::encode(Sha256::digest(&stage.snapshot));
    let manifest = manifest_of(&file)?;
    for (key, want) in [
        ("sha256", json!(sha256)),
        ("points", json!(1000)),
        ("collection", json!("album")),
        ("server_version", json!("1.19.0")),
        ("aliases", json!(["now"])),
        ("bytes", json!(stage.snapshot.len())),
    ] {
        ensure_eq!(manifest[key], want, "{key} in the manifest");
    }
    for entry in std::fs::read_dir(stage.archive())? {
        let entry = entry?;
        let mode = entry.metadata()?.permissions().mode() & 0o777;
        ensure_eq!(mode, 0o600, "mode of {:?}", entry.file_name());
    }
    // What snapmerge did not make stays.
    ensure_eq!(
        stage.scripted.fake().snapshots_left(),
        [theirs],
        "on the server"
    );
    // Readers of snapshots compare it with what lies beside it.
    cli!["inspect", &file, "--check"].run()?.ok()?;
    Ok(())
}

fn cut_every_tenth(env: &Env) -> Outcome {
    let stage = Stage::new(env)?;
    let tenth = stage.snapshot.len() / 10;
    stage.scripted.fault("GET", DOWNLOAD, 9, Fault::Cut(tenth));
    stage.capture().run()?.ok()?;
    ensure!(
        std::fs::read(stage.captured()?)? == stage.snapshot,
        "another file"
    );
    let from: Vec<Option<String>> = stage
        .scripted
        .seen()
        .iter()
        .filter(|seen| seen.path.contains(DOWNLOAD) && seen.method == "GET")
        .map(|seen| seen.headers.get("range").cloned())
        .collect();
    ensure_eq!(from.len(), 10, "downloads");
    ensure_eq!(
        from[9],
        Some(format!("bytes={}-", tenth * 9)),
        "the last one"
    );
    stage.scripted.ensure_faults_came_up()
}

/// A proxy may drop the range: then all comes again, and counts once.
fn without_ranges(env: &Env) -> Outcome {
    let stage = Stage::new(env)?;
    stage.scripted.fake().ranges = false;
    stage
        .scripted
        .fault("GET", DOWNLOAD, 2, Fault::Cut(300_000));
    stage.capture().run()?.ok()?;
    ensure!(
        std::fs::read(stage.captured()?)? == stage.snapshot,
        "another file"
    );
    stage.scripted.ensure_faults_came_up()
}

fn checksums(env: &Env) -> Outcome {
    let stage = Stage::new(env)?;
    stage.scripted.fake().checksum = Checksum::Wrong;
    let run = stage
        .capture()
        .run()?
        .code(13)?
        .says(&["the server says"])?;
    is_one_error(&run)?;
    ensure_eq!(
        stage.scripted.asked("GET", DOWNLOAD),
        2,
        "fetched once more"
    );
    stage.is_clean()?;

    stage.scripted.fake().checksum = Checksum::None;
    let run = stage.capture().arg("--require-checksum").run()?.code(13)?;
    is_one_error(&run.says(&["no checksum"])?)?;
    stage.is_clean()?;
    let run = stage
        .capture()
        .run()?
        .ok()?
        .says(&["could not be compared"])?;
    ensure!(
        run.stdout.contains("the server says no SHA-256"),
        "{}",
        run.told()
    );
    stage.captured()?;

    // What the server itself wrote half: its checksum fits, its tar does not end.
    let stage = Stage::new(env)?;
    let half = stage.snapshot[..stage.snapshot.len() / 2 / 512 * 512].to_vec();
    stage.scripted.fake().snapshot = half;
    let run = stage.capture().run()?.code(13)?;
    is_one_error(&run)?;
    stage.is_clean()
}

fn passing(env: &Env) -> Outcome {
    let stage = Stage::new(env)?;
    let again = Fault::With(429, "retry-after", "1".into());
    stage.scripted.fault("POST", "/album/snapshots", 1, again);
    stage
        .scripted
        .fault("GET", "/collections/album", 2, Fault::Status(503));
    stage.scripted.fault("GET", "/aliases", 1, Fault::Silent);
    stage.scripted.fault("GET", DOWNLOAD, 2, Fault::Status(500));
    stage
        .scripted
        .fault("DELETE", "/snapshots/", 1, Fault::Status(500));
    let run = stage.capture().run()?.ok()?;
    ensure!(
        run.elapsed >= Duration::from_secs(1),
        "Retry-After was not heeded"
    );
    stage.captured()?;
    ensure_eq!(stage.scripted.fake().snapshots_left().len(), 0, "left");
    stage.scripted.ensure_faults_came_up()?;

    // What cannot be removed now is removed by the next run, and said.
    let stage = Stage::new(env)?;
    stage
        .scripted
        .fault("DELETE", "/snapshots/", 3, Fault::Status(500));
    let run = stage.capture().run()?.code(3)?;
    run.says(&["could not remove", "tries again"])?;
    ensure_eq!(stage.scripted.fake().snapshots_left().len(), 1, "left");
    stage.capture().run()?.ok()?;
    ensure_eq!(stage.scripted.fake().snapshots_left().len(), 0, "left");
    Ok(())
}

/// A failed stream is a 200 with a short tar.
fn streams(env: &Env) -> Outcome {
    let tar = |last: &str| Tar {
        members: vec![
            Member::file("wal/closed-1", b"wal\0abcd"),
            Member::file(
                "replica_state.json",
                br#"{"is_local":true,"this_peer_id":7,"peers":{"7":"Active"}}"#,
            ),
            Member::file(last, br#"{"type":"ReplicaSet"}"#),
        ],
    };
    let whole = tar("shard_config.json").bytes();
    let stage = Stage::new(env)?;
    stage.scripted.fake().stream = whole.clone();
    stage.capture().arg("--stream").run()?.ok()?;
    let file = stage.captured()?;
    ensure_eq!(manifest_of(&file)?["form"], json!("streamed"), "form");
    ensure_eq!(
        stage.scripted.asked("POST", "/snapshots"),
        0,
        "made on the server"
    );

    for (what, bytes) in [
        ("no trailer", whole[..whole.len() - 1024].to_vec()),
        ("half", whole[..1000].to_vec()),
        ("another end", tar("newest_clocks.json").bytes()),
        ("nothing", Vec::new()),
    ] {
        let stage = Stage::new(env)?;
        stage.scripted.fake().stream = bytes;
        let run = stage.capture().arg("--stream").run()?;
        let run = run
            .code(13)
            .map_err(|e| format!("{what}: {}", e.message().unwrap_or("?")))?;
        is_one_error(&run)?;
        stage.is_clean()?;
    }
    let stage = Stage::new(env)?;
    stage.scripted.fake().stream = whole;
    if let Some(album) = stage.scripted.fake().collections.get_mut("album") {
        album.info["status"] = json!("yellow");
    }
    let run = stage.capture().arg("--stream").run()?.code(12)?;
    is_one_error(&run.says(&["yellow", "without --stream"])?)?;
    stage.is_clean()
}

fn ctrl_c(env: &Env) -> Outcome {
    for (signal, after) in [(Signal::INT, 300), (Signal::TERM, 700), (Signal::INT, 1500)] {
        let stage = Stage::new(env)?;
        let running = stage.capture().arg("--limit-rate=200k").start()?;
        std::thread::sleep(Duration::from_millis(after));
        running.signal_group(signal)?;
        let run = running.wait()?.code(130)?.says(&["cancelled"])?;
        ensure_eq!(
            run.stderr.matches("snapmerge: ").count(),
            1,
            "errors\n{}",
            run.told()
        );
        stage.is_clean()?;
    }
    Ok(())
}

fn names(env: &Env) -> Outcome {
    let stage = Stage::new(env)?;
    {
        let mut fake = stage.scripted.fake();
        let album = fake.collections["album"].clone();
        for name in ["album_2017", "album_2018", "other"] {
            fake.collections.insert(name.into(), album.clone());
        }
    }
    let server = stage.scripted.url();
    let capture = |names: &[&str]| {
        let archive = stage.archive();
        stage
            .cli(&["capture", &server, "-q"])
            .args(names)
            .arg("--to")
            .arg(archive)
    };
    let run = capture(&["album_*", "other", "album_2017", "--json"])
        .run()?
        .ok()?;
    let captured: Vec<_> = run.json()?["captured"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| one["manifest"]["collection"].clone())
        .collect();
    ensure_eq!(
        captured,
        [json!("album_2017"), json!("album_2018"), json!("other")],
        "captured"
    );
    for pattern in ["nope", "nope_*"] {
        let run = capture(&[pattern]).run()?.code(12)?;
        is_one_error(&run.says(&["looking for nope", "no", "collection"])?)?;
    }
    stage
        .scripted
        .fake()
        .aliases
        .insert("now".into(), "album".into());
    let run = capture(&["now"]).run()?.code(12)?;
    is_one_error(&run.says(&["alias of album"])?)
}

fn disk_gets_full(env: &Env, how: &[&'static str]) -> Outcome {
    let stage = Stage::new(env)?;
    let disk = stage.archive();
    let (run, left) = disk::on_disk(how, &disk, "size=1m", stage.capture(), "")?;
    is_one_error(&run.code(14)?.says(&["needs up to"])?)?;
    ensure!(left.is_empty(), "left: {left:?}");
    stage.is_clean()?;
    // In the middle: somebody else takes the room.
    let fill = r#"
while ! ls "$DISK"/.capturing-*/part-0; do :; done
sleep 0.5
fallocate -l 2300k "$DISK/filler"
"#;
    let capture = stage.capture().arg("--limit-rate=300k");
    let (run, left) = disk::on_disk(how, &disk, "size=2600k", capture, fill)?;
    is_one_error(&run.code(14)?.says(&["No space left"])?)?;
    ensure_eq!(left, ["filler"], "left");
    stage.is_clean()
}

/// A working folder that somebody else put there, whose journal names a snapshot of theirs.
fn planted(env: &Env) -> Outcome {
    let theirs = "album-7-2020-01-01-00-00-00.snapshot";
    let plant = |stage: &Stage, folder: &Path| -> Outcome {
        if let Some(album) = stage.scripted.fake().collections.get_mut("album") {
            album.snapshots.insert(theirs.into(), b"theirs".to_vec());
        }
        std::fs::create_dir_all(folder)?;
        let server = stage.scripted.url();
        let journal = json!({
            "server": server,
            "collection": "album",
            "begun": "2020-01-01T00:00:00Z",
            "made": [{
                "address": server,
                "asked": "2020-01-01T00:00:00Z",
                "before": [],
                "snapshot": {"name": theirs, "size": 6},
            }],
        });
        Ok(std::fs::write(
            folder.join("journal.json"),
            journal.to_string(),
        )?)
    };
    let is_refused = |stage: &Stage, folder: &Path, says: &str| -> Outcome {
        let run = stage.capture().run()?.code(2)?.says(&[says, "next:"])?;
        is_one_error(&run)?;
        ensure!(folder.join("journal.json").exists(), "it was emptied");
        let left = stage.scripted.fake().snapshots_left();
        ensure_eq!(left, [theirs], "on the server");
        Ok(())
    };
    let stage = Stage::new(env)?;
    let victim = stage.archive().with_file_name("victim");
    plant(&stage, &victim)?;
    std::fs::create_dir_all(stage.archive())?;
    symlink(&victim, stage.archive().join(".capturing-0123456789abcdef"))?;
    is_refused(&stage, &victim, "it is a link")?;
    // Only the administrator can give a folder away.
    let stage = Stage::new(env)?;
    let folder = stage.archive().join(".capturing-0123456789abcdef");
    plant(&stage, &folder)?;
    if chown(&folder, Some(12345), None).is_ok() {
        is_refused(&stage, &folder, "belongs to user 12345")?;
    }
    Ok(())
}
