//! Nights and their archive: locks of killed runs, keys that are trusted, folders that somebody
//! planted, entries with a wrong time.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::night;
use super::scripted::Stage;
use crate::server::run_with;
use crate::support::{Env, Outcome, Trial, openssl};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("nightly/archive/lock_of_a_killed_container", || killed(env)),
        Trial::needs("nightly/archive/trust", &openssl::is_there(), |()| {
            trust(env)
        }),
        Trial::new("nightly/archive/planted_folder", || planted(env)),
        Trial::new("nightly/archive/future_never_wins", || future(env)),
    ]
}

/// A killed container's process: another PID namespace, of which nobody here knows what runs in it.
const KILLED: &str = r#"{"owner":"11111111-2222-4333-8444-555555555555","host":"night-7f9c",
"machine":"aa","boot":"bb","pid_namespace":"pid:[4026539999]","pid":1,"started":77,
"doing":"archive add","since":"2026-11-22T03:00:00Z"}"#;

fn killed(env: &Env) -> Outcome {
    let stage = Stage::new(env, "")?;
    night(stage.dir()).run()?.ok()?;
    let backups = stage.dir().join("backups");
    let lock = backups.join("lock.json");
    std::fs::write(&lock, KILLED)?;
    // Whose it is nobody knows, so it stays.
    night(stage.dir()).run()?.code(11)?;
    let holder = stage.dir().join("backups.nightly/nightly/holder.json");
    ensure!(!holder.exists(), "a holder was left");
    // It was a run of this plan, and the archive is away in the next one.
    std::fs::write(&holder, KILLED)?;
    let away = stage.dir().join("away");
    std::fs::rename(&backups, &away)?;
    let told = night(stage.dir()).run()?.code(13)?.json()?;
    let why = told["errors"][0]["why"].as_str().unwrap_or_default();
    ensure!(why.contains("has seen another one there"), "{told}");
    ensure!(!backups.exists(), "another archive was made");
    std::fs::rename(&away, &backups)?;
    night(stage.dir()).run()?.ok()?;
    ensure!(!lock.exists(), "the lock is there still");
    ensure!(!holder.exists(), "a holder was left");
    Ok(())
}

fn trust(env: &Env) -> Outcome {
    let stage = Stage::new(env, "")?;
    for name in ["ours", "other"] {
        openssl::make_keys(stage.dir(), name)?;
    }
    let plan = stage.dir().join("nightly.toml");
    let text = std::fs::read_to_string(&plan)?;
    let with = |more: &str| -> Outcome {
        let text = text.replace("[archive]\n", &format!("[archive]\n{more}\n"));
        Ok(std::fs::write(&plan, text)?)
    };
    with("sign_key = \"ours.pem\"\ntrust = [\"ours.pub\"]")?;
    night(stage.dir()).run()?.ok()?;
    with("sign_key = \"ours.pem\"\ntrust = [\"other.pub\"]")?;
    let told = night(stage.dir()).run()?.code(13)?.json()?;
    let why = told["errors"][0]["why"].as_str().unwrap_or_default();
    ensure!(why.contains("signed with another key"), "{told}");
    with("trust = [\"nobody.pub\"]")?;
    night(stage.dir())
        .run()?
        .code(2)?
        .says(&["archive.trust", "nobody.pub"])?;
    Ok(())
}

fn planted(env: &Env) -> Outcome {
    let victim = |stage: &Stage| stage.dir().join("victim");
    let files = [
        "sources/precious",
        "master/precious",
        "incoming/prod/a.snapshot",
        "prod/a.snapshot",
        "a.snapshot",
    ];
    for name in ["work", "work/incoming", "work/incoming/prod"] {
        let stage = Stage::new(env, "")?;
        for file in files {
            let file = victim(&stage).join(file);
            std::fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
            std::fs::write(file, "x")?;
        }
        let link = stage.dir().join("backups.nightly/nightly").join(name);
        std::fs::create_dir_all(link.parent().ok_or("no folder")?)?;
        symlink(victim(&stage), &link)?;
        let run = night(stage.dir()).run()?.code(2)?;
        ensure!(
            run.stdout.contains("it is a link"),
            "{name}: {}",
            run.told()
        );
        for file in files {
            ensure!(victim(&stage).join(file).exists(), "{name}: {file} is gone");
        }
    }
    Ok(())
}

fn future(env: &Env) -> Outcome {
    let stage = Stage::new(env, "")?;
    night(stage.dir()).run()?.ok()?;
    let backups = stage.dir().join("backups");
    let archive = |verb: &str| run_with(stage.dir(), &["archive", verb, "--archive"]).arg(&backups);
    for (case, time) in [("three_shards", "2098-01-01"), ("album_2018", "2099-01-01")] {
        archive("add")
            .arg(&env.case(case).snapshot_gz)
            .args(["--name", "album_2017", "--time", time])
            .run()?
            .ok()?;
    }
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let told = night(stage.dir()).run()?.ok()?.json()?;
    ensure_eq!(told["archive"]["forgotten"], json!(0), "{told}");
    let notes = told["notes"].to_string();
    ensure!(
        notes.contains("album_2017@2099-01-01T00:00:00Z") && notes.contains("are in the future"),
        "{notes}"
    );
    let left = archive("ls").args(["--json", "album_2017"]).run()?.ok()?;
    let left = left.json()?["entries"].clone();
    ensure_eq!(left.as_array().map(Vec::len), Some(3), "{left}");
    ensure_eq!(
        told["sources"][0]["how"],
        Value::from("unchanged"),
        "{told}"
    );
    Ok(())
}
