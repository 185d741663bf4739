//! The snapshot of a whole storage as a source: what is made of it is what is made of the snapshots that lie
//! in it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::merge::{ALBUMS, Sources};
use crate::support::points::ensure_same;
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial, craft, names_in, sha256};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("full/merge", || merge(env)),
        Trial::new("full/some", || some(env)),
        Trial::new("full/checksum", || checksum(env)),
        Trial::new("full/archive", || archive(env)),
        Trial::new("full/one_is_read", || one_is_read(env)),
        Trial::new("full/refused", || refused(env)),
        Trial::new("full/nodes", || nodes(env)),
        env.live("full/of_a_server", of_a_server),
    ]
}

/// The snapshot of a storage with the collections of `sources`.
fn full_of(sources: &Sources, name: &str, aliases: &Value) -> Outcome<PathBuf> {
    let path = sources.path(name);
    let names: Vec<String> = (sources.files.iter())
        .map(|file| {
            file.file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let collections: Vec<(&str, &Path)> = (names.iter().zip(&sources.files))
        .map(|(name, file)| (name.as_str(), file.as_path()))
        .collect();
    craft::full_snapshot(&path, &collections, aliases)?;
    Ok(path)
}

/// Merged, looked into and verified: by every route the same points as of the files in it.
fn merge(env: &Env) -> Outcome {
    let sources = Sources::named(env, &ALBUMS)?;
    let full = full_of(&sources, "full.snapshot", &json!({"now": ALBUMS[1]}))?;
    for route in ["graft", "rebuild"] {
        let of_files = sources.merge(&["--route", route])?.report;
        let (master, before) = (sources.path("of_full.snapshot"), sha256(&full)?);
        let run = cli![
            "merge", "--json", "--force", "--route", route, "-o", &master, &full
        ];
        let report = run.run()?.ok()?.json()?;
        for pointer in ["/master/points", "/master/digest"] {
            let (is, was) = (report.pointer(pointer), of_files.pointer(pointer));
            ensure!(is.is_some(), "{pointer} of {report}");
            ensure_eq!(is, was, "{pointer}");
        }
        let names: Vec<&str> = (report["sources"].as_array().into_iter().flatten())
            .filter_map(|source| source["name"].as_str())
            .collect();
        ensure_eq!(names, ALBUMS, "names");
        cli!["verify", &master, "--against", &full, "--deep"]
            .run()?
            .ok()?
            .prints(&["PROVEN"])?;
        ensure_eq!(sha256(&full)?, before, "the source");
    }
    let told = cli!["inspect", "--json", &full].run()?.ok()?.json()?;
    let snapshots = told["snapshots"].as_array().ok_or("no snapshots")?;
    ensure_eq!(snapshots.len(), 3, "snapshots");
    for (snapshot, name) in snapshots.iter().zip(ALBUMS) {
        ensure_eq!(snapshot["name"], name, "name");
        ensure_eq!(
            snapshot["file"],
            format!("{}#{name}", full.display()),
            "file"
        );
        let noted = snapshot["notes"]
            .to_string()
            .contains("the alias now points to it");
        ensure_eq!(noted, name == ALBUMS[1], "its aliases");
    }
    Ok(())
}

/// Some of the collections; and a file whose own name looks like that.
fn some(env: &Env) -> Outcome {
    let mut sources = Sources::named(env, &["album_2017", "album_2018", "uuid_ids"])?;
    let full = full_of(&sources, "full.snapshot", &json!({}))?;
    let named = |pattern: &str| PathBuf::from(format!("{}#{pattern}", full.display()));
    let master = sources.path("some.snapshot");
    let run = cli!["merge", "--json", "-o", &master, named("album_*")];
    let report = run.run()?.ok()?.json()?;
    ensure_eq!(
        report["sources"].as_array().map(Vec::len),
        Some(2),
        "sources"
    );
    cli![
        "verify",
        &master,
        "--against",
        &sources.files[0],
        named("album_2018")
    ]
    .run()?
    .ok()?
    .prints(&["PROVEN"])?;
    // One collection twice, under two names.
    cli![
        "merge",
        "-o",
        sources.path("twice"),
        &full,
        named("uuid_ids")
    ]
    .run()?
    .code(2)?
    .says(&["it is given twice"])?;
    cli!["inspect", named("video_*")].run()?.code(10)?.says(&[
        "no collection in it is called so",
        "album_2017, album_2018, uuid_ids",
    ])?;
    let hash = sources.path("a#b.snapshot");
    std::fs::rename(&sources.files[2], &hash)?;
    sources.files.pop();
    let told = cli!["inspect", "--json", &hash].run()?.ok()?.json()?;
    ensure_eq!(told["snapshots"][0]["name"], "a#b", "name");
    Ok(())
}

/// The checksum of the whole counts for every collection in it.
fn checksum(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["album_2017", "album_2018"])?;
    let full = full_of(&sources, "full.snapshot", &json!({}))?;
    let beside = sources.path("full.snapshot.checksum");
    let master = sources.path("master.snapshot");
    let merge = |more: &[&str]| {
        cli!["merge", "--json", "--force", "-o", &master, &full]
            .args(more)
            .run()
    };
    merge(&["--require-checksum"])?
        .code(13)?
        .says(&["--require-checksum was given"])?;
    for route in ["graft", "rebuild"] {
        std::fs::write(&beside, sha256(&full)?)?;
        let route = ["--route", route, "--require-checksum"];
        let report = merge(&route)?.ok()?.json()?;
        let provenance = std::fs::read_to_string(sources.path("master.snapshot.provenance.json"))?;
        for (source, file) in report["sources"]
            .as_array()
            .ok_or("no sources")?
            .iter()
            .zip(&sources.files)
        {
            ensure_eq!(
                source["checksum"],
                "SHA-256 verified by full.snapshot.checksum",
                "{source}"
            );
            ensure!(
                provenance.contains(&sha256(file)?),
                "{file:?} in {provenance}"
            );
        }
        // One bit of a vector of the second, which nothing else would find.
        std::fs::remove_file(&master)?;
        let whole = std::fs::read(&full)?;
        let mut flipped = whole.clone();
        let at = whole.len() * 3 / 4;
        flipped[at] ^= 1;
        std::fs::write(&full, &flipped)?;
        merge(&route)?
            .code(13)?
            .says(&["full.snapshot", "full.snapshot.checksum says"])?;
        ensure!(!master.exists(), "a master of what is damaged");
        cli!["inspect", "--check", &full].run()?.code(13)?;
        std::fs::write(&full, &whole)?;
    }
    let dry = merge(&["--dry-run"])?.ok()?.json()?;
    ensure_eq!(dry["sources"][0]["checksum"]["state"], "unchecked", "{dry}");
    std::fs::remove_file(&beside)?;
    let of_full = format!("--sha256=full.snapshot={}", sha256(&full)?);
    merge(&[&of_full, "--require-checksum"])?.ok()?;
    let of_one = format!(
        "--sha256={}#album_2018={}",
        full.display(),
        sha256(&sources.files[1])?
    );
    let report = merge(&[&of_one])?.ok()?.json()?;
    let states: Vec<&Value> = (report["sources"].as_array().into_iter().flatten())
        .map(|source| &source["verified"])
        .collect();
    ensure_eq!(states, [false, true], "verified");
    let wrong = format!("--sha256=full.snapshot={}", "0".repeat(64));
    merge(&[&wrong])?.code(13)?.says(&["--sha256 says 0000"])?;
    Ok(())
}

/// Every collection is an entry, with its time and aliases, and comes out as it lay there.
fn archive(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["album_2017", "album_2018"])?;
    let full = full_of(
        &sources,
        "full.snapshot",
        &json!({"now": "album_2018", "last": "album_2018"}),
    )?;
    let store = sources.path("backups");
    let run = |what: &[&str]| {
        cli!["archive"]
            .args(what)
            .arg("--archive")
            .arg(&store)
            .dir(sources.dir())
            .run()
    };
    run(&["init"])?.ok()?;
    std::fs::write(sources.path("full.snapshot.checksum"), "0".repeat(64))?;
    run(&["add", "full.snapshot"])?.code(13)?;
    std::fs::write(sources.path("full.snapshot.checksum"), sha256(&full)?)?;
    run(&["add", "full.snapshot", "--name=one"])?
        .code(2)?
        .says(&["there are 2", "FILE#COLLECTION"])?;
    let told = run(&["add", "full.snapshot", "--require-checksum", "--json"])?
        .ok()?
        .json()?;
    for (added, file) in told["added"]
        .as_array()
        .ok_or("nothing")?
        .iter()
        .zip(&sources.files)
    {
        let entry = &added["entry"];
        ensure_eq!(entry["time"], "2026-11-22T14:15:16Z", "{entry}");
        ensure_eq!(entry["sha256"], sha256(file)?, "{entry}");
        ensure_eq!(
            entry["verified_by"],
            json!(["full.snapshot.checksum"]),
            "{entry}"
        );
        let is_second = entry["name"] == "album_2018";
        let aliases = if is_second {
            json!(["last", "now"])
        } else {
            json!([])
        };
        ensure_eq!(entry["manifest"]["aliases"], aliases, "{entry}");
    }
    let again = run(&["add", "full.snapshot#album_2018", "--json"])?
        .ok()?
        .json()?;
    ensure_eq!(again["added"][0]["already"], true, "{again}");
    run(&["get", "album_2018", "-o", "got.snapshot"])?.ok()?;
    ensure_eq!(
        sha256(&sources.path("got.snapshot"))?,
        sha256(&sources.files[1])?,
        "bytes"
    );
    run(&["check"])?.ok()?;
    Ok(())
}

/// Whoever reads one snapshot reads the only one or that which is named.
fn one_is_read(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["album_2017", "album_2018"])?;
    let full = full_of(&sources, "full.snapshot", &json!({}))?;
    let named = format!("{}#album_2018", full.display());
    for command in [
        &["export", "FULL"][..],
        &["split", "FULL", "--by", "year", "-o", "x_{year}.snapshot"],
        &["verify", "FULL", "--against", "FULL"],
        &["diff", "FULL", "FULL"],
        &["ingest", "--like", "FULL", "-o", "y.snapshot", "rows.jsonl"],
    ] {
        std::fs::write(sources.path("rows.jsonl"), "")?;
        let args = command.iter().map(|arg| match *arg {
            "FULL" => full.display().to_string(),
            arg => arg.to_owned(),
        });
        cli![]
            .args(args)
            .dir(sources.dir())
            .run()?
            .code(2)?
            .says(&[
                "one collection is read here; there are album_2017, album_2018",
                "#album_2017",
            ])?;
    }
    let points = cli!["export", &named].run()?.ok()?.json_lines()?;
    ensure_same(&points, &sources.truths[1])?;
    cli!["diff", &named, &sources.files[1]].run()?.ok()?;
    // Not even with --force is a source written over, whatever it was called.
    cli!["export", &named, "--force", "-o", &full]
        .run()?
        .code(2)?
        .says(&["it is read, and would be lost"])?;
    cli!["merge", &named, "--force", "-o", &full]
        .run()?
        .code(2)?
        .says(&["it is one of the sources"])?;
    Ok(())
}

fn refused(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["album_2017", "album_2018"])?;
    let full = full_of(&sources, "full.snapshot", &json!({}))?;
    let whole = std::fs::read(&full)?;
    let gz = sources.path("full.snapshot.gz");
    std::fs::write(&gz, craft::gz(&whole)?)?;
    cli!["inspect", &gz]
        .run()?
        .code(2)?
        .says(&["gunzip --keep"])?;
    let plain = format!("{}#album_2017", sources.files[0].display());
    cli!["inspect", &plain]
        .run()?
        .code(2)?
        .says(&["is no snapshot of a whole storage"])?;
    // Cut off anywhere it is damaged, whatever was given, and nothing is written.
    for bytes in [
        100,
        512,
        whole.len() / 3,
        whole.len() / 2,
        whole.len() - 2000,
        whole.len() - 1024,
    ] {
        let cut = sources.path("cut.snapshot");
        std::fs::write(&cut, &whole[..bytes])?;
        for run in [
            cli!["inspect", &cut],
            cli!["merge", &cut, "-o", sources.path("never.snapshot")],
        ] {
            run.run()?.code(13)?;
        }
    }
    ensure!(
        !names_in(sources.dir())?
            .iter()
            .any(|name| name.starts_with("never")),
        "something was written"
    );
    Ok(())
}

/// What two nodes of a cluster have of their storages has collections of the same names.
fn nodes(env: &Env) -> Outcome {
    let one = Sources::named(env, &["album_2017"])?;
    let mut renamed = Sources::named(env, &["album_2018"])?;
    let first = full_of(&one, "node.snapshot", &json!({}))?;
    std::fs::rename(&renamed.files[0], renamed.path("album_2017.snapshot"))?;
    renamed.files = vec![renamed.path("album_2017.snapshot")];
    let second = full_of(&renamed, "node.snapshot", &json!({}))?;
    let master = one.path("master.snapshot");
    let run = cli!["merge", "--json", "-o", &master, &first, &second];
    let report = run.run()?.ok()?.json()?;
    let names: Vec<&str> = (report["sources"].as_array().into_iter().flatten())
        .filter_map(|source| source["name"].as_str())
        .collect();
    let wanted = [&first, &second].map(|file| format!("{}#album_2017", file.display()));
    ensure_eq!(names, wanted, "names");
    Ok(())
}

/// A real server's: all years merged out of it, and verified.
fn of_a_server(bin: &Path) -> Outcome {
    let dir = crate::support::temp_dir()?;
    let server = Server::start(bin)?;
    let mut truth = Vec::new();
    for (at, name) in ["album_2017", "album_2018"].into_iter().enumerate() {
        let path = format!("/collections/{name}");
        server.put(
            &path,
            &json!({"vectors": {"size": 4, "distance": "Dot"}, "shard_number": 1 + at}),
        )?;
        let points: Vec<Value> = (0..500)
            .map(|id| json!({"id": 1000 * at + id, "vector": [id, 1, at, 2], "payload": {"n": id}}))
            .collect();
        server.put(
            &format!("{path}/points?wait=true"),
            &json!({"points": points}),
        )?;
        truth.extend(server.scroll(name)?);
    }
    let made = server.post("/snapshots?wait=true", &json!({}))?;
    let name = made["name"].as_str().ok_or("no name")?;
    let file = dir.path().join("full.snapshot");
    server.download(&format!("/snapshots/{name}"), &file)?;
    let sum = made["checksum"].as_str().ok_or("no checksum")?;
    std::fs::write(dir.path().join("full.snapshot.checksum"), sum)?;
    let master = dir.path().join("master.snapshot");
    cli![
        "merge",
        "--require-checksum",
        "--shards",
        "1",
        &file,
        "-o",
        &master
    ]
    .run()?
    .ok()?;
    cli!["verify", &master, "--against", &file, "--deep"]
        .run()?
        .ok()?
        .prints(&["PROVEN"])?;
    server.upload("album_master", &master)?;
    ensure_same(&server.scroll("album_master")?, &truth)?;
    Ok(())
}
