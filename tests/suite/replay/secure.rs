//! Replay, live sources and the route scratch over encrypted connections and with API keys, which a
//! real server checks on REST and on gRPC.

use std::path::{Path, PathBuf};

use super::{Place, points_of};
use crate::support::cli::{Cli, Run};
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, names_in};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        env.live("replay/secure/encrypted", |bin| encrypted(env, bin)),
        env.live("replay/secure/key", |bin| key(env, bin)),
        env.live("replay/secure/key_that_only_reads", |bin| reads(env, bin)),
    ]
}

/// What is tried: from a live collection, from a file, and from a file by way of scratch.
fn ways(place: &Place, live: &str, file: &Path, into: &str) -> [Cli; 3] {
    let merge = |source: &std::ffi::OsStr, number: usize| {
        let name = format!("{into}_{number}");
        let merge = place.merging(&[source], &name);
        merge.env("XDG_STATE_HOME", place.path("state"))
    };
    let scratch = [
        "--route",
        "scratch",
        "--scratch-server",
        &place.server.url(),
    ];
    [
        merge(live.as_ref(), 0),
        merge(file.as_os_str(), 1),
        merge(file.as_os_str(), 2).args(scratch),
    ]
}

/// One error, with a way out.
fn is_one_error(run: Run, code: i32, says: &[&str]) -> Outcome {
    let run = run.code(code)?.says(says)?;
    ensure!(run.stderr.contains("next: "), "{}", run.told());
    ensure!(run.stdout.is_empty(), "{}", run.told());
    Ok(())
}

/// A certificate for `localhost`, as the server takes it.
fn certificate(place: &mut Place) -> Outcome<PathBuf> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let (public, private) = (place.path("ca.pem"), place.path("key.pem"));
    std::fs::write(&public, made.cert.pem())?;
    std::fs::write(&private, made.signing_key.serialize_pem())?;
    for (name, value) in [
        ("QDRANT__SERVICE__ENABLE_TLS", "true".to_owned()),
        ("QDRANT__TLS__CERT", public.display().to_string()),
        ("QDRANT__TLS__KEY", private.display().to_string()),
        ("QDRANT__TLS__CA_CERT", public.display().to_string()),
    ] {
        place.server.envs.push((name.to_owned(), value));
    }
    Ok(public)
}

/// REST and gRPC by a certificate that the system does not know.
fn encrypted(env: &Env, bin: &Path) -> Outcome {
    let mut place = Place::new(bin)?;
    let case = env.case("album_2017");
    place.restore(&case)?;
    let file = env.case("album_2017").unpack(place.dir.path())?;
    let certificate = certificate(&mut place)?;
    place.server.restart()?;
    let live = place.at("album_2017");
    ensure!(live.starts_with("https://localhost:"), "{live}");

    for way in ways(&place, &live, &file, "refused") {
        let run = way.args(["--retries", "0"]).run()?;
        is_one_error(run, 1, &["certificate", "--ca-file"])?;
    }
    for way in ways(&place, &live, &file, "trusted") {
        let run = way.arg("--ca-file").arg(&certificate).run()?.ok()?;
        ensure!(!run.stderr.contains("WARNING"), "{}", run.told());
    }
    for way in ways(&place, &live, &file, "unchecked") {
        let run = way.arg("--insecure").run()?.ok()?;
        run.says(&["WARNING", "--insecure", "NOT checked"])?;
    }
    // Master and capture of it, too.
    let archive = place.path("archive");
    let to = place.at("restored");
    for run in [
        cli![
            "capture",
            &place.server.url(),
            "trusted_0",
            "-q",
            "--to",
            &archive
        ],
        cli!["restore", &file, "-q", "--to", &to].env("XDG_STATE_HOME", place.path("state")),
    ] {
        run.arg("--ca-file").arg(&certificate).run()?.ok()?;
    }

    place.server.envs.clear();
    place.server.restart()?;
    let truth = case.truth()?;
    for name in ["trusted", "unchecked"] {
        for number in 0..3 {
            ensure_same(&place.server.scroll(&format!("{name}_{number}"))?, &truth)?;
        }
    }
    ensure_same(&place.server.scroll("restored")?, &truth)?;
    let mut there: Vec<String> = Vec::new();
    for one in place.server.get("/collections")?["collections"]
        .as_array()
        .into_iter()
        .flatten()
    {
        there.push(one["name"].as_str().unwrap_or_default().to_owned());
    }
    ensure!(
        !there
            .iter()
            .any(|name| name.starts_with("refused") || name.starts_with("snapmerge-")),
        "left: {there:?}"
    );
    Ok(())
}

/// The key is asked for on both ways, and shown on none.
fn key(env: &Env, bin: &Path) -> Outcome {
    const KEY: &str = "s3cr3t-k3y-4711";
    const WRONG: &str = "wr0ng-k3y-0815";
    let mut place = Place::new(bin)?;
    let case = env.case("album_2017");
    let live = place.restore(&case)?;
    let file = case.unpack(place.dir.path())?;
    let key = ("QDRANT__SERVICE__API_KEY".to_owned(), KEY.to_owned());
    place.server.envs.push(key);
    place.server.key = Some(KEY.to_owned());
    place.server.restart()?;
    let live = place.at(live.rsplit('/').next().unwrap_or_default());

    for way in ways(&place, &live, &file, "none") {
        is_one_error(way.run()?, 12, &["401", "QDRANT_API_KEY"])?;
    }
    for way in ways(&place, &live, &file, "wrong") {
        let run = way.env("QDRANT_API_KEY", WRONG).run()?;
        ensure!(
            !run.told().contains(WRONG),
            "a key is shown: {}",
            run.told()
        );
        is_one_error(run, 12, &["401", "QDRANT_API_KEY"])?;
    }
    // A key for another host is not sent to this one.
    let keys = place.path("keys");
    std::fs::write(&keys, format!("other.example {KEY}\n"))?;
    for way in ways(&place, &live, &file, "other") {
        let run = way.arg("--api-key-file").arg(&keys).run()?;
        is_one_error(run, 12, &["401"])?;
    }
    std::fs::write(&keys, format!("other.example {WRONG}\n127.0.0.1 {KEY}\n"))?;
    for way in ways(&place, &live, &file, "by_file") {
        let run = way.arg("--api-key-file").arg(&keys).run()?.ok()?;
        ensure!(!run.told().contains(KEY), "a key is shown: {}", run.told());
    }
    std::fs::remove_file(&keys)?;
    for way in ways(&place, &live, &file, "by_variable") {
        let run = way.env("QDRANT_API_KEY", KEY).run()?.ok()?;
        ensure!(!run.told().contains(KEY), "a key is shown: {}", run.told());
    }
    let truth = points_of(&case)?;
    for name in ["by_file", "by_variable"] {
        for number in 0..3 {
            place.ensure_holds(&format!("{name}_{number}"), truth.values())?;
        }
    }
    for name in ["none_0", "wrong_1", "other_2"] {
        ensure!(
            place.server.get(&format!("/collections/{name}")).is_err(),
            "{name} was made"
        );
    }
    // Neither journals nor what is remembered of servers have it.
    let mut looked_at = 0;
    let mut folders = vec![place.dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for name in names_in(&folder)? {
            let path = folder.join(name);
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path)?;
            let shown = bytes.windows(KEY.len()).any(|some| some == KEY.as_bytes());
            ensure!(!shown, "the key is in {}", path.display());
            looked_at += 1;
        }
    }
    ensure!(looked_at > 6, "files looked at: {looked_at}");
    Ok(())
}

/// A key that may only read is enough for a source, and is refused for a master.
fn reads(env: &Env, bin: &Path) -> Outcome {
    const KEY: &str = "0wner-k3y-4711";
    const READS: &str = "r3ader-k3y-0815";
    let mut place = Place::new(bin)?;
    let case = env.case("album_2017");
    place.restore(&case)?;
    for (name, value) in [("API_KEY", KEY), ("READ_ONLY_API_KEY", READS)] {
        let name = format!("QDRANT__SERVICE__{name}");
        place.server.envs.push((name, value.to_owned()));
    }
    place.server.key = Some(KEY.to_owned());
    place.server.restart()?;
    let live = place.at("album_2017");
    let output = place.path("master.snapshot");
    let grpc = place.server.grpc_url();
    let port = grpc.rsplit(':').next().unwrap_or_default();
    cli!["merge", "-q", "-o", &output, &live, "--grpc-port", port]
        .env("QDRANT_API_KEY", READS)
        .run()?
        .ok()?;
    ensure_same(&crate::export::exported(&output)?, &case.truth()?)?;
    let run = place
        .merging(&[&live], "master")
        .env("QDRANT_API_KEY", READS)
        .run()?;
    ensure!(
        !run.told().contains(READS),
        "a key is shown: {}",
        run.told()
    );
    is_one_error(run, 12, &["403", "QDRANT_API_KEY"])?;
    ensure!(
        place.server.get("/collections/master").is_err(),
        "it was made"
    );
    Ok(())
}
