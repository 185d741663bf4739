//! What is nobody else's business: keys, certificates, and whom they are for.

use crate::support::scripted::Fault;
use crate::support::tls::Door;
use crate::support::{Env, Outcome, Trial};

use super::{Stage, is_one_error, manifest_of};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("server/secrets/key", || key(env)),
        Trial::new("server/secrets/encrypted", || encrypted(env)),
        Trial::new("server/secrets/redirect", || redirect(env)),
    ]
}

fn key(env: &Env) -> Outcome {
    const KEY: &str = "s3cr3t-key-0815";
    let stage = Stage::new(env)?;
    stage.scripted.fake().key = Some(KEY.into());
    let run = stage.capture().run()?.code(12)?;
    is_one_error(&run.says(&["401", "QDRANT_API_KEY"])?)?;
    let run = stage.capture().env("QDRANT_API_KEY", "wrong").run()?;
    is_one_error(&run.code(12)?)?;
    stage.is_clean()?;
    let run = stage.capture().env("QDRANT_API_KEY", KEY).run()?.ok()?;
    ensure!(!run.told().contains(KEY), "the key is shown");
    let file = stage.captured()?;
    ensure!(
        !manifest_of(&file)?.to_string().contains(KEY),
        "in the manifest"
    );
    for name in crate::support::names_in(&stage.archive())? {
        std::fs::remove_file(stage.archive().join(name))?;
    }
    let keys = stage.dir.path().join("keys");
    std::fs::write(&keys, format!("127.0.0.1 {KEY}\n"))?;
    stage
        .capture()
        .arg("--api-key-file")
        .arg(&keys)
        .run()?
        .ok()?;
    // A key for another host is not sent to this one.
    std::fs::write(&keys, format!("other.example {KEY}\n"))?;
    let asked = stage.scripted.seen().len();
    let run = stage.capture().arg("--api-key-file").arg(&keys).run()?;
    run.code(12)?;
    let seen = stage.scripted.seen();
    ensure!(
        seen[asked..]
            .iter()
            .all(|seen| !seen.headers.contains_key("api-key")),
        "a key went to another host"
    );
    let with_key = format!("http://{KEY}@127.0.0.1:1");
    let run = stage
        .cli(&["capture", &with_key, "album", "--to", "x"])
        .run()?;
    let run = run.code(2)?;
    ensure!(
        !run.told().replace(&with_key, "").contains(KEY),
        "{}",
        run.stderr
    );
    Ok(())
}

fn encrypted(env: &Env) -> Outcome {
    let stage = Stage::new(env)?;
    let door = Door::to(&stage.scripted.url())?;
    let url = door.url();
    let archive = stage.archive();
    let capture = || {
        let capture = stage.cli(&["capture", &url, "album", "-q", "--timeout=3", "--retries=0"]);
        capture
            .arg("--to")
            .arg(&archive)
            .env("QDRANT_API_KEY", "s3cr3t")
    };
    let run = capture()
        .run()?
        .code(1)?
        .says(&["certificate", "--ca-file"])?;
    is_one_error(&run)?;
    ensure_eq!(stage.scripted.seen().len(), 0, "requests");
    // The right certificate under another name is no better.
    let other = url.replace("localhost", "127.0.0.1");
    let run = stage.cli(&["capture", &other, "album", "-q", "--retries=0", "--to"]);
    let run = run
        .arg(&archive)
        .arg("--ca-file")
        .arg(&door.certificate)
        .run()?;
    is_one_error(&run.code(1)?)?;
    ensure_eq!(stage.scripted.seen().len(), 0, "requests");
    stage.is_clean()?;

    let run = capture()
        .arg("--ca-file")
        .arg(&door.certificate)
        .run()?
        .ok()?;
    ensure!(!run.stderr.contains("WARNING"), "{}", run.told());
    let file = stage.captured()?;
    for name in crate::support::names_in(&archive)? {
        std::fs::remove_file(archive.join(name))?;
    }
    ensure!(!file.exists(), "it was removed");
    let run = capture().arg("--insecure").run()?.ok()?;
    run.says(&["WARNING", "--insecure", "NOT checked"])?;
    stage.captured()?;
    Ok(())
}

fn redirect(env: &Env) -> Outcome {
    let other = Stage::new(env)?;
    let stage = Stage::new(env)?;
    let to = format!("{}/collections/album/snapshots", other.scripted.url());
    let fault = Fault::With(307, "location", to);
    stage.scripted.fault("POST", "/album/snapshots", 1, fault);
    let run = stage
        .capture()
        .env("QDRANT_API_KEY", "s3cr3t")
        .run()?
        .code(12)?;
    let run = run.says(&["sends the caller on to", &other.scripted.url()])?;
    is_one_error(&run)?;
    ensure_eq!(other.scripted.seen().len(), 0, "requests to the other host");
    stage.is_clean()
}
