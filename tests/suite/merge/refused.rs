//! What `merge` refuses: sources that do not fit each other, an output that would cost something, flags
//! that cannot be meant. One clear error, the right exit code, and no file more or less than before.

use std::os::unix::fs::symlink;

use serde_json::json;

use super::Sources;
use crate::support::packed::edit_json;
use crate::support::{Env, Outcome, Trial, names_in};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("merge/refused/sources_that_differ", || {
            sources_that_differ(env)
        }),
        Trial::new("merge/refused/multivector_and_not", || {
            multivector_and_not(env)
        }),
        Trial::new("merge/refused/all_vectors_at_once", || {
            all_vectors_at_once(env)
        }),
        Trial::new("merge/refused/output_exists", || output_exists(env)),
        Trial::new("merge/refused/output_is_a_source", || {
            output_is_a_source(env)
        }),
        Trial::new("merge/refused/ledger_is_the_outputs", || {
            ledger_is_the_outputs(env)
        }),
        Trial::new("merge/refused/quiet", || quiet(env)),
        Trial::new("merge/refused/a_source_twice", || a_source_twice(env)),
        Trial::new("merge/refused/flags", || flags(env)),
        Trial::new("merge/refused/newest_of_what_does_not_compare", || {
            newest_of_what_does_not_compare(env)
        }),
    ]
}

/// Merges and expects `code`, an error that has all of `says`, and the folder as it was.
fn refused(sources: &Sources, flags: &[&str], code: i32, says: &[&str]) -> Outcome<String> {
    let before = names_in(sources.dir())?;
    let run = cli!["merge", "-o", sources.path("master.snapshot")]
        .args(flags)
        .args(&sources.files)
        .run()?
        .code(code)?
        .says(says)?;
    ensure_eq!(run.stdout, "", "standard output with {flags:?}");
    ensure_eq!(names_in(sources.dir())?, before, "files after {flags:?}");
    Ok(run.stderr)
}

fn sources_that_differ(env: &Env) -> Outcome {
    let names = ["album_2017", "euclid_on_disk", "float16", "uint8"];
    let sources = Sources::named(env, &names)?;
    let says = [
        "size: 16 (album_2017, float16, uint8), 12 (euclid_on_disk)",
        "distance: Cosine (album_2017, float16), Euclid (euclid_on_disk), Dot (uint8)",
        "datatype: float32 (album_2017, euclid_on_disk), float16 (float16), uint8 (uint8)",
        "nothing was written",
    ];
    refused(&sources, &[], 2, &says)?;
    refused(&sources, &["--dry-run"], 2, &says)?;
    Ok(())
}

/// The same vectors but for one thing: whether a point may have many.
fn multivector_and_not(env: &Env) -> Outcome {
    let mut sources = Sources::named(env, &["multivector"])?;
    let single = sources.path("single.snapshot");
    std::fs::copy(&sources.files[0], &single)?;
    edit_json(&single, "config.json", |config| {
        let vector = config["params"]["vectors"]["colbert"].as_object_mut();
        let had = vector.and_then(|vector| vector.remove("multivector_config"));
        assert!(had.is_some(), "it was none");
    })?;
    sources.files.push(single);
    let stderr = refused(&sources, &[], 2, &["colbert", "multivector", "single"])?;
    ensure!(stderr.contains("1 thing(s)"), "more differs: {stderr}");
    Ok(())
}

/// Everything that is in the way, of every vector, in one answer.
fn all_vectors_at_once(env: &Env) -> Outcome {
    let mut sources = Sources::named(env, &["named"])?;
    let other = sources.path("other.snapshot");
    std::fs::copy(&sources.files[0], &other)?;
    edit_json(&other, "config.json", |config| {
        config["uuid"].take();
        let vectors = &mut config["params"]["vectors"];
        vectors["image"]["size"] = json!(24);
        vectors["image"]["datatype"] = json!("uint8");
        vectors["text"]["distance"] = json!("Cosine");
    })?;
    sources.files.push(other);
    let stderr = refused(
        &sources,
        &[],
        2,
        &[
            "'image' size: 16 (named), 24 (other)",
            "'image' datatype: float32 (named), uint8 (other)",
            "'text' distance: Dot (named), Cosine (other)",
        ],
    )?;
    ensure!(stderr.contains("3 thing(s)"), "not these three: {stderr}");
    Ok(())
}

fn output_exists(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["plain_dot"])?;
    let (master, ledger) = (sources.path("master.snapshot"), sources.path("ledger"));
    let ledger_arg = ledger.to_str().ok_or("a path is not UTF-8")?;
    std::fs::write(&master, "precious")?;
    refused(&sources, &[], 2, &["master.snapshot", "--force"])?;
    ensure_eq!(
        std::fs::read(&master)?,
        b"precious",
        "the file that was there"
    );

    std::fs::remove_file(&master)?;
    std::fs::write(&ledger, "precious")?;
    refused(
        &sources,
        &["--ledger", ledger_arg],
        2,
        &["ledger", "--force"],
    )?;
    ensure_eq!(
        std::fs::read(&ledger)?,
        b"precious",
        "the ledger that was there"
    );

    // Who means it says so; the old checksum goes with the old file.
    std::fs::write(&master, "old")?;
    std::fs::write(sources.path("master.snapshot.checksum"), "00")?;
    let made = sources.merge(&["--ledger", ledger_arg])?;
    made.ensure_holds(&sources.truths[0])?;
    ensure_eq!(std::fs::read(&ledger)?, b"", "the ledger of no conflicts");
    let checksum = std::fs::read_to_string(sources.path("master.snapshot.checksum"))?;
    ensure_eq!(
        made.report["master"]["sha256"],
        json!(checksum.trim()),
        "the checksum beside it"
    );
    Ok(())
}

fn output_is_a_source(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["plain_dot"])?;
    let bytes = std::fs::read(&sources.files[0])?;
    let (soft, hard) = (sources.path("soft.snapshot"), sources.path("hard.snapshot"));
    symlink(&sources.files[0], &soft)?;
    std::fs::hard_link(&sources.files[0], &hard)?;
    let before = names_in(sources.dir())?;
    for output in [&sources.files[0], &soft, &hard] {
        cli!["merge", &sources.files[0], "-o", output, "--force"]
            .run()?
            .code(2)?
            .says(&[&output.to_string_lossy(), "one of the sources"])?;
        ensure!(
            std::fs::read(&sources.files[0])? == bytes,
            "the source was changed"
        );
        ensure_eq!(names_in(sources.dir())?, before, "files afterwards");
    }
    Ok(())
}

/// The ledger is neither the output nor beside it by another spelling, nor a source's checksum.
fn ledger_is_the_outputs(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["plain_dot"])?;
    let checksum = sources.path("plain_dot.snapshot.checksum");
    std::fs::write(&checksum, sources.cases[0].sha256())?;
    let round_about = |name: &str| {
        sources
            .dir()
            .join("..")
            .join(sources.dir().file_name().unwrap_or_default())
            .join(name)
    };
    for (ledger, says) in [
        (round_about("master.snapshot"), "belongs to the output"),
        (
            round_about("master.snapshot.checksum"),
            "belongs to the output",
        ),
        (
            sources.path("master.snapshot.provenance.json"),
            "belongs to the output",
        ),
        (checksum, "only read"),
    ] {
        let flags = ["--force", "--ledger", &ledger.to_string_lossy()];
        refused(&sources, &flags, 2, &[says])?;
    }
    Ok(())
}

/// With -q what went well says nothing, and what did not says all.
fn quiet(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["plain_dot", "uint8"])?;
    let [plain, other] = [&sources.files[0], &sources.files[1]];
    let master = sources.path("master.snapshot");
    let silent = |cli: crate::support::cli::Cli| -> Outcome {
        let run = cli.arg("-q").run()?.ok()?;
        ensure_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""), "said");
        Ok(())
    };
    silent(cli!["merge", plain, "-o", &master])?;
    silent(cli!["verify", &master, "--against", plain])?;
    silent(cli!["diff", plain, &master])?;
    let archive = sources.path("archive");
    silent(cli!["archive", "init", "--archive", &archive])?;
    silent(cli!["archive", "add", plain, "--archive", &archive])?;
    silent(cli!["archive", "check", "--archive", &archive])?;
    let listed = cli!["archive", "ls", "-q", "--archive", &archive]
        .run()?
        .ok()?;
    ensure!(listed.stdout.contains("plain_dot"), "{}", listed.stdout);
    let wrong = cli![
        "verify",
        "-q",
        &master,
        "--no-provenance",
        "--against",
        other
    ];
    let told = wrong.run()?.code(3)?.stdout;
    ensure!(told.contains("DIFFERS"), "{told}");
    let error = cli!["merge", "-q", plain, "-o", &master].run()?.code(2)?;
    error.says(&["--force"]).map(drop)
}

fn a_source_twice(env: &Env) -> Outcome {
    let mut sources = Sources::named(env, &["plain_dot"])?;
    let (soft, hard) = (sources.path("soft.snapshot"), sources.path("hard.snapshot"));
    symlink(&sources.files[0], &soft)?;
    std::fs::hard_link(&sources.files[0], &hard)?;
    let round_about = sources.dir().join(".").join("plain_dot.snapshot");
    for again in [sources.files[0].clone(), soft, hard, round_about] {
        sources.files.truncate(1);
        sources.files.push(again);
        refused(
            &sources,
            &["--on-conflict", "last"],
            2,
            &["given twice", "plain_dot"],
        )?;
    }
    Ok(())
}

fn flags(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["plain_dot"])?;
    for (flags, says) in [
        (vec!["--on-conflict", "newest"], "newest:updated_at"),
        (vec!["--on-conflict", "oldest"], "oldest"),
        (vec!["--shards", "0"], "--shards"),
        (vec!["--hnsw-m", "3"], "--hnsw-m"),
        (vec!["--quantization", "product:x3"], "x3"),
        (vec!["--filter", r#"{"mast": []}"#], "mast"),
        (vec!["--stamp-value", "plain_dot=1"], "--stamp"),
        (vec!["--stamp", "s", "--stamp-value", "plain_dot"], "'='"),
        (vec!["--stamp", "s", "--stamp-value", "nobody=1"], "nobody"),
        (vec!["--stamp", ""], "--stamp"),
        (vec!["--stamp", "a..b"], "a..b"),
        (vec!["--stamp", "a[0].b"], "a place in a list"),
        (vec!["--drop-payload", ""], "--drop-payload"),
        (vec!["--on-conflict", "newest:a[].b"], "a place in a list"),
        (vec!["--config", "nowhere.json"], "nowhere.json"),
    ] {
        let code = if flags[0] == "--config" { 1 } else { 2 };
        refused(&sources, &flags, code, &[says])?;
    }
    Ok(())
}

fn newest_of_what_does_not_compare(env: &Env) -> Outcome {
    let sources = Sources::named(env, &super::ALBUMS)?;
    for (field, why) in [
        ("path", "is no date"),
        ("exif", "neither a number nor a date"),
    ] {
        let policy = format!("newest:{field}");
        let field = format!("'{field}'");
        let says = [field.as_str(), "point 180", why, "RFC 3339"];
        refused(&sources, &["--on-conflict", &policy], 1, &says)?;
    }
    Ok(())
}
