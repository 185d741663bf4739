//! `restore` to a server that fails by script, or that does not give back what it was given.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::archive::make;
use crate::support::cli::Signal;
use crate::support::points::ensure_same;
use crate::support::proxy::{Faults, Proxy};
use crate::support::qdrant::Server;
use crate::support::scripted::Fault;
use crate::support::{Env, Outcome, Trial, temp_dir};

use super::live::nothing_left;
use super::{Spoil, Stage, is_one_error, run_with};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = vec![
        Trial::new("server/restore/whole", || whole(env)),
        Trial::new("server/restore/refused_before_a_byte_moves", || {
            refused(env)
        }),
        Trial::new("server/restore/dies_after_the_upload", || dies(env)),
        Trial::new("server/restore/is_sent_again", || again(env)),
        env.live("server/restore/cut_uploads", |bin| cut(env, bin)),
        Trial::new("server/restore/ctrl_c", || ctrl_c(env)),
        Trial::new("server/restore/over", || over(env)),
    ];
    let spoils: [(&str, Spoil, &str); 8] = [
        ("point_lost", |it| it.set_points(0, 999), "999"),
        ("point_more", |it| it.set_points(0, 1001), "1001"),
        ("shard_more", |it| it.set_points(1, 0), "shards"),
        (
            "index_lost",
            |it| it.info["payload_schema"] = json!({}),
            "payload index",
        ),
        (
            "vectors_differ",
            |it| it.info["config"]["params"]["vectors"]["size"] = json!(17),
            "vectors",
        ),
        (
            "no_graph",
            |it| it.info["indexed_vectors_count"] = json!(0),
            "vectors in an index",
        ),
        ("red", |it| it.info["status"] = json!("red"), "red"),
        (
            "yellow_for_ever",
            |it| it.info["status"] = json!("yellow"),
            "yellow",
        ),
    ];
    for (name, spoil, says) in spoils {
        trials.push(Trial::new(format!("server/restore/{name}"), move || {
            differs(env, spoil, says)
        }));
    }
    for status in [401, 403, 409, 413, 500, 503] {
        trials.push(Trial::new(
            format!("server/restore/upload_{status}"),
            move || {
                let (stage, file) = Stage::to_restore(env)?;
                let fault = Fault::Status(status);
                stage.scripted.fault("POST", "/snapshots/upload", 9, fault);
                let run = stage.restore(&file).run()?.code(12)?;
                is_one_error(&run.says(&[&status.to_string()])?)?;
                nothing_there(&stage)?;
                // Nothing stands in the way of another try.
                stage.scripted.ensure_faults_came_up()
            },
        ));
    }
    trials
}

/// The server is as if nothing had been.
fn nothing_there(stage: &Stage) -> Outcome {
    let fake = stage.scripted.fake();
    let names: Vec<&String> = fake.collections.keys().collect();
    ensure!(names.is_empty(), "left on the server: {names:?}");
    let state = stage.dir.path().join("state/snapmerge");
    let mut remembered = Vec::new();
    for server in std::fs::read_dir(state).into_iter().flatten() {
        remembered.extend(crate::support::names_in(&server?.path())?);
    }
    ensure_eq!(remembered, Vec::<String>::new(), "remembered");
    Ok(())
}

fn whole(env: &Env) -> Outcome {
    let (stage, file) = Stage::to_restore(env)?;
    stage.restore(&file).arg("--dry-run").run()?.ok()?;
    let changed = |stage: &Stage| {
        let seen = stage.scripted.seen();
        seen.iter().filter(|one| one.method != "GET").count()
    };
    ensure_eq!(changed(&stage), 0, "changes of a dry run");
    let run = stage.restore(&file).arg("--json").run()?.ok()?;
    let report = run.json()?;
    ensure_eq!(report["verdict"]["points"], json!(1000), "points");
    ensure_eq!(report["verdict"]["differences"], json!([]), "differences");
    ensure_eq!(report["way"], json!("whole"), "the way");
    // The copy that the server kept is gone.
    ensure_eq!(stage.scripted.fake().snapshots_left().len(), 0, "left");
    let upload = stage.scripted.seen();
    let upload = upload.iter().find(|one| one.path.ends_with("/upload"));
    let query = &upload.ok_or("no upload")?.query;
    for part in ["wait=true", "priority=snapshot", "checksum="] {
        ensure!(query.contains(part), "{query} lacks {part}");
    }
    // The same from a .gz, unpacked on the way.
    let (stage, _) = Stage::to_restore(env)?;
    stage
        .restore(&env.case("album_2017").snapshot_gz)
        .run()?
        .ok()?;
    Ok(())
}

fn refused(env: &Env) -> Outcome {
    let uploads = |stage: &Stage| stage.scripted.asked("POST", "/upload");
    // A name that is taken, or that is an alias of what is live.
    let (stage, file) = Stage::to_restore(env)?;
    let restored = stage.scripted.fake().restored.clone().ok_or("nothing")?;
    stage
        .scripted
        .fake()
        .collections
        .insert("album".into(), restored.clone());
    let run = stage.restore(&file).run()?.code(12)?;
    is_one_error(&run.says(&["exists already", "--overwrite"])?)?;
    let (stage, file) = Stage::to_restore(env)?;
    {
        let mut fake = stage.scripted.fake();
        fake.collections.insert("live".into(), restored);
        fake.aliases.insert("album".into(), "live".into());
    }
    for more in [&[][..], &["--overwrite"], &["--resume"]] {
        let run = stage.restore(&file).args(more).run()?.code(12)?;
        is_one_error(&run.says(&["alias of live", "snapmerge publish"])?)?;
    }
    ensure_eq!(uploads(&stage), 0, "uploads");

    // A server that cannot read it.
    for (version, says) in [("1.16.3", "needs Qdrant 1.17.0"), ("1.9.0", "needs Qdrant")] {
        let (stage, file) = Stage::to_restore(env)?;
        stage.scripted.fake().version = version.into();
        let run = stage.restore(&file).run()?.code(12)?;
        is_one_error(&run.says(&[says, version, "snapmerge merge FILE --into"])?)?;
        nothing_there(&stage)?;
    }

    // One that reads no RocksDB any more, or not the vectors yet; one in between takes it.
    let (stage, _) = Stage::to_restore(env)?;
    for (case, version, says) in [
        (
            ("1.10.1", "uint8"),
            "1.19.0",
            "restore it to a Qdrant 1.9 to 1.17",
        ),
        (
            ("1.10.1", "uint8"),
            "1.8.4",
            "it needs Qdrant 1.9.0 or later",
        ),
        (
            ("1.13.6", "appendable"),
            "1.18.0",
            "restore it to a Qdrant 1.13 to 1.17",
        ),
        (
            ("1.13.6", "appendable"),
            "1.12.6",
            "it needs Qdrant 1.13.0 or later",
        ),
    ] {
        stage.scripted.fake().version = version.into();
        let old = env.old_case(case.0, case.1)?;
        let run = stage.restore(&old.snapshot_gz).run()?.code(12)?;
        is_one_error(&run.says(&[says, version, "snapmerge merge FILE"])?)?;
        nothing_there(&stage)?;
    }
    ensure_eq!(uploads(&stage), 0, "uploads");

    // A file that is not what its checksum says, or no snapshot.
    let (stage, file) = Stage::to_restore(env)?;
    let mut checksum = file.clone().into_os_string();
    checksum.push(".checksum");
    std::fs::write(&checksum, "0".repeat(64))?;
    is_one_error(&stage.restore(&file).run()?.code(13)?)?;
    std::fs::remove_file(&checksum)?;
    std::fs::write(&file, &stage.snapshot[..stage.snapshot.len() / 2])?;
    is_one_error(&stage.restore(&file).run()?.code(13)?)?;
    ensure_eq!(uploads(&stage), 0, "uploads");

    // Shard keys, and a server that is no cluster.
    let (stage, _) = Stage::to_restore(env)?;
    let run = stage.restore(&env.case("shard_keys").snapshot_gz).run()?;
    is_one_error(
        &run.code(12)?
            .says(&["shard keys", "QDRANT__CLUSTER__ENABLED"])?,
    )?;
    nothing_there(&stage)
}

fn differs(env: &Env, spoil: Spoil, says: &str) -> Outcome {
    let (stage, file) = Stage::to_restore(env)?;
    stage
        .scripted
        .fake()
        .aliases
        .insert("now".into(), "old".into());
    if let Some(restored) = &mut stage.scripted.fake().restored {
        spoil(restored);
    }
    let run = stage.restore(&file).arg("--wait=1").run()?.code(3)?;
    is_one_error(&run.says(&[says, "was removed again"])?)?;
    nothing_there(&stage)?;
    ensure_eq!(stage.scripted.fake().aliases["now"], "old", "the alias");
    let run = stage
        .restore(&file)
        .args(["--wait=1", "--keep-failed"])
        .run()?;
    is_one_error(&run.code(3)?.says(&[says, "was kept"])?)?;
    ensure!(
        stage.scripted.fake().collections.contains_key("album"),
        "not kept"
    );
    Ok(())
}

/// A server that dies between upload and status: the next run finds what is done.
fn dies(env: &Env) -> Outcome {
    for (method, path) in [("POST", "/upload"), ("GET", "/collections/album")] {
        let (stage, file) = Stage::to_restore(env)?;
        stage.scripted.fault(method, path, 1, Fault::Die);
        let run = stage.restore(&file).run()?.code(1)?;
        is_one_error(&run.says(&["could not be removed", "--resume"])?)?;
        stage.scripted.ensure_faults_came_up()?;
        stage.scripted.revive();
        let run = stage.restore(&file).run()?.code(12)?;
        is_one_error(&run.says(&["did not finish it", "--resume"])?)?;
        let run = stage
            .restore(&file)
            .args(["--resume", "--json"])
            .run()?
            .ok()?;
        ensure_eq!(run.json()?["finished_earlier"], json!(true), "finished");
        ensure_eq!(stage.scripted.asked("POST", "/upload"), 1, "uploads");
        ensure_eq!(stage.scripted.fake().snapshots_left().len(), 0, "left");

        // What is there by then may be somebody else's: it is not touched.
        let (stage, file) = Stage::to_restore(env)?;
        stage.scripted.fault(method, path, 1, Fault::Die);
        stage.restore(&file).run()?.code(1)?;
        stage.scripted.revive();
        if let Some(album) = stage.scripted.fake().collections.get_mut("album") {
            album.info["config"]["params"]["vectors"]["size"] = json!(99);
        }
        let run = stage.restore(&file).arg("--resume").run()?.code(12)?;
        is_one_error(&run.says(&["somebody else's"])?)?;
        ensure!(
            stage.scripted.fake().collections.contains_key("album"),
            "removed"
        );

        // What it holds by then is not whole: it is begun anew.
        let (stage, file) = Stage::to_restore(env)?;
        stage.scripted.fault(method, path, 1, Fault::Die);
        stage.restore(&file).run()?.code(1)?;
        stage.scripted.revive();
        if let Some(album) = stage.scripted.fake().collections.get_mut("album") {
            album.shards.insert(0, 12);
        }
        let run = stage
            .restore(&file)
            .args(["--resume", "--json"])
            .run()?
            .ok()?;
        ensure_eq!(run.json()?["finished_earlier"], json!(false), "finished");
        ensure_eq!(stage.scripted.asked("POST", "/upload"), 2, "uploads");
        ensure_eq!(stage.scripted.fake().snapshots_left().len(), 0, "left");
    }
    Ok(())
}

/// What passes is waited for: the snapshot is sent again unless the server has it, and what is there
/// at the end is whole.
fn again(env: &Env) -> Outcome {
    for (fault, times, sent) in [
        // Done, though no answer came: not sent again.
        (Fault::Silent, 1, 1),
        (Fault::Cut(3), 1, 1),
        (Fault::Status(503), 2, 3),
        (Fault::Status(429), 2, 3),
    ] {
        for is_entry in [false, true] {
            let (stage, file) = Stage::to_restore(env)?;
            let source = match is_entry {
                true => stage.entry(&file)?,
                false => file.clone(),
            };
            stage
                .scripted
                .fault("POST", "/snapshots/upload", times, fault.clone());
            let restore = stage.restore(&source).arg("--archive").arg(stage.archive());
            let report = restore.arg("--json").run()?.ok()?.json()?;
            ensure_eq!(report["verdict"]["points"], json!(1000), "{fault:?}");
            let uploads = stage.scripted.asked("POST", "/upload");
            ensure_eq!(uploads, sent, "uploads after {fault:?}");
            ensure_eq!(stage.scripted.fake().snapshots_left().len(), 0, "left");
            stage.scripted.ensure_faults_came_up()?;
        }
    }
    // What the server could not restore is not sent again.
    let (stage, file) = Stage::to_restore(env)?;
    let fault = Fault::Status(500);
    stage.scripted.fault("POST", "/snapshots/upload", 1, fault);
    is_one_error(&stage.restore(&file).run()?.code(12)?)?;
    ensure_eq!(stage.scripted.asked("POST", "/upload"), 1, "uploads");
    nothing_there(&stage)
}

/// Connections to a real server that are cut in the middle of the snapshot.
fn cut(env: &Env, bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let dir = temp_dir()?;
    let case = env.case("album_2017");
    let file = case.unpack(dir.path())?;
    let port: u16 = server
        .url()
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .parse()?;
    let bytes = std::fs::metadata(&file)?.len();
    let archive = make(dir.path())?;
    cli!["archive", "add", "--archive", &archive, &file]
        .run()?
        .ok()?;
    for (number, part) in [1, 5, 9].into_iter().enumerate() {
        let faults = Faults {
            cut_after: Some(bytes * part / 10),
            cuts_max: 2,
            ..Faults::default()
        };
        let proxy = Proxy::start(port, faults)?;
        let to = format!("http://127.0.0.1:{}/album_{number}", proxy.port());
        let restore = run_with(dir.path(), &["restore", "-q", "--to", &to, "--archive"]);
        let restore = restore.arg(&archive);
        match number {
            0 => restore.arg(&file),
            _ => restore.arg("archive:album_2017@latest"),
        }
        .run()?
        .ok()?;
        ensure_eq!(proxy.cut(), 2, "connections that were cut");
        ensure_same(&server.scroll(&format!("album_{number}"))?, &case.truth()?)?;
        nothing_left(&server)?;
    }
    Ok(())
}

fn ctrl_c(env: &Env) -> Outcome {
    for after in [400, 1000] {
        let (stage, file) = Stage::to_restore(env)?;
        let running = stage.restore(&file).arg("--limit-rate=300k").start()?;
        std::thread::sleep(Duration::from_millis(after));
        running.signal_group(Signal::INT)?;
        let run = running.wait()?.code(130)?.says(&["cancelled"])?;
        ensure_eq!(
            run.stderr.matches("snapmerge: ").count(),
            1,
            "errors\n{}",
            run.told()
        );
        nothing_there(&stage)?;
    }
    Ok(())
}

/// Over a collection that is there: only when told, never while an alias points to it, and it is not
/// removed when that goes wrong.
fn over(env: &Env) -> Outcome {
    let (stage, file) = Stage::to_restore(env)?;
    let mut there = stage.scripted.fake().restored.clone().ok_or("nothing")?;
    there.shards.insert(0, 5);
    stage
        .scripted
        .fake()
        .collections
        .insert("album".into(), there.clone());
    stage.restore(&file).arg("--overwrite").run()?.ok()?;
    stage
        .scripted
        .fake()
        .aliases
        .insert("now".into(), "album".into());
    let run = stage.restore(&file).arg("--overwrite").run()?.code(12)?;
    is_one_error(&run.says(&["now point to album"])?)?;
    stage.scripted.fake().aliases.clear();
    if let Some(restored) = &mut stage.scripted.fake().restored {
        restored.info["payload_schema"] = Value::from(serde_json::Map::new());
    }
    let run = stage.restore(&file).arg("--overwrite").run()?.code(3)?;
    is_one_error(&run.says(&["was written over"])?)?;
    ensure!(
        stage.scripted.fake().collections.contains_key("album"),
        "removed"
    );
    Ok(())
}
