//! An encrypted archive, in a folder and in a bucket: each verb with the key, with another and without;
//! read by the public tools alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{archive, walk};
use crate::nightly::scripted::Stage;
use crate::support::cli::Cli;
use crate::support::s3::S3;
use crate::support::{Env, Outcome, Trial, program, temp_dir};

/// Made by age-keygen for these tests alone.
pub const KEY: &str = "AGE-SECRET-KEY-1JEG6ECZTDXSV5MD7GGAMKJYCW2HAWLWX044PZXZADGUFDNY6H0LQWKURLW";
pub const PUBLIC: &str = "age1lgce8577e00nrlll9nphqnd05m8cgga3e8urcauw8ysu2jv9a5hs9myer5";
const SECOND: &str = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0";
const SECOND_PUBLIC: &str = "age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryef";
/// Of nobody here.
const OTHER: &str = "AGE-SECRET-KEY-1NC2GZKT9ZRR4J9SZL2VGZ2JQGX3WWFYGN5PSM8KQ888HT3X2LKJS5L5Y8J";

/// The archive in a bucket.
const PLACE: &str = "s3://test/sealed/qdrant";

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("archive/encrypted/in_a_folder", || in_a_folder(env)),
        Trial::new("archive/encrypted/in_a_bucket", || in_a_bucket(env)),
        Trial::new("archive/encrypted/nights", || nights(env)),
        Trial::needs("archive/encrypted/read_by_age", &age(), |()| {
            read_by_age(env)
        }),
    ]
}

/// The program age, and zstd.
pub fn age() -> Result<(), String> {
    program("age", "--version", "apt install age")?;
    program("zstd", "--version", "apt install zstd").map(|_| ())
}

/// A file with a secret key.
pub fn key_file(dir: &Path, key: &str) -> Outcome<PathBuf> {
    let path = dir.join(format!("{}.key", &key[17..25]));
    std::fs::write(&path, format!("# made for a test\n{key}\n"))?;
    Ok(path)
}

/// Stores three snapshots in the new archive at `place` and does with it whatever there is to do, each
/// command led to the store by `lead`.
fn every_verb(env: &Env, place: &str, lead: &dyn Fn(Cli) -> Cli) -> Outcome {
    let dir = temp_dir()?;
    let at = |verb: &str| lead(cli!["archive", verb, "--archive", place]);
    let [key, second, other] = [
        key_file(dir.path(), KEY)?,
        key_file(dir.path(), SECOND)?,
        key_file(dir.path(), OTHER)?,
    ];
    at("init").args(["--encrypt", KEY]).run()?.code(2)?;
    let made = at("init")
        .args(["--encrypt", PUBLIC, "--encrypt", SECOND_PUBLIC])
        .run()?
        .ok()?;
    ensure!(made.stdout.contains(SECOND_PUBLIC), "{}", made.told());
    let cases = ["album_2017", "album_2018", "three_shards"];
    for (n, case) in cases.iter().enumerate() {
        let add = at("add").arg(&env.case(case).snapshot_gz);
        let add = add.args(["--tag", "secret-tag"]);
        // The first without the key: it needs none to be written.
        let run = match n {
            0 => add.run()?.ok()?,
            _ => add.arg("--identity").arg(&key).run()?.ok()?,
        };
        ensure!(!run.stdout.contains("WHOLE"), "{}", run.told());
    }
    let case = env.case("album_2018");
    let unpacked = std::fs::read(case.unpack(dir.path())?)?;
    let got = dir.path().join("got");
    let get = |identity: &[&str]| {
        let get = at("get").args(["album_2018", "--force", "-o"]).arg(&got);
        get.args(identity).run()
    };
    let (text, second) = (key.display().to_string(), second.display().to_string());
    let other = other.display().to_string();
    for identity in [
        ["--identity", &text],
        ["--identity", &second],
        ["--identity-command", &format!("cat '{second}'")],
    ] {
        get(&identity)?.ok()?;
        ensure!(std::fs::read(&got)? == unpacked, "it came out otherwise");
    }
    std::fs::remove_file(&got)?;
    // Another key, none at all, and a file that has none.
    let wrong = get(&["--identity", &other])?.code(2)?;
    wrong.says(&["does not open it", PUBLIC, "archive check"])?;
    let none = get(&[])?.code(2)?;
    none.says(&[
        "the secret key was not given",
        PUBLIC,
        SECOND_PUBLIC,
        "--identity",
    ])?;
    let failed = get(&["--identity-command", "echo AGE-SECRET; exit 1"])?.code(1)?;
    ensure!(!failed.stderr.contains("AGE-SECRET;"), "{}", failed.told());
    ensure!(!got.exists(), "something came out");
    for verb in ["ls", "forget"] {
        at(verb)
            .args(["--keep-last", "1"].iter().filter(|_| verb == "forget"))
            .run()?
            .code(2)?;
    }
    at("check").args(["--identity", &other]).run()?.code(2)?;
    // Without the key: the chain, and every hash.
    let check = at("check").run()?.ok()?;
    ensure!(
        check.stdout.contains("OK without the key"),
        "{}",
        check.told()
    );
    ensure!(check.stdout.contains("NOT CHECKED"), "{}", check.told());
    at("verify-chain").run()?.ok()?;
    at("unlock").run()?.ok()?;
    let check = at("check").args(["--identity", &text]).run()?.ok()?;
    ensure!(
        check.stdout.contains("all 3 entries are whole"),
        "{}",
        check.told()
    );
    // A copy without the key, of which the key gets everything back.
    let copy = dir.path().join("copy");
    let copying = || {
        let run = cli!["archive", "copy", "--from", place, "--to", &copy];
        lead(run).run()?.ok()
    };
    let told = copying()?;
    ensure!(
        told.stdout.contains("not known without the key"),
        "{}",
        told.told()
    );
    for path in walk(&copy)? {
        let bytes = std::fs::read(&path)?;
        for word in ["album_20", "secret-tag", ".snapshot", "segments/", "SMO1"] {
            let is_there = bytes
                .windows(word.len())
                .any(|part| part == word.as_bytes());
            ensure!(!is_there, "{} shows {word}", path.display());
        }
    }
    let run = archive("check", &copy)
        .env("SNAPMERGE_IDENTITY_FILE", &text)
        .run()?
        .ok()?;
    ensure!(
        run.stdout.contains("all 3 entries are whole"),
        "{}",
        run.told()
    );
    let master = dir.path().join("master.snapshot");
    let merge = || {
        let sources = ["archive:album_2017", "archive:album_2018"];
        let merge = cli!["merge", "-q", "-o", &master].args(sources);
        lead(merge.args(["--archive", place]))
    };
    merge()
        .run()?
        .code(2)?
        .says(&["the secret key was not given"])?;
    merge().args(["--identity", &text]).run()?.ok()?;
    let drill = || lead(cli!["drill", "-q", "--archive", place]);
    drill().run()?.code(2)?;
    drill().args(["--identity", &text]).run()?.ok()?;
    let forget = || at("forget").args(["--entry", "three_shards"]);
    forget()
        .run()?
        .code(2)?
        .says(&["the secret key was not given"])?;
    forget().args(["--identity", &second]).run()?.ok()?;
    at("check").run()?.ok()?;
    let listed = at("ls")
        .args(["--identity", &text, "--json"])
        .run()?
        .ok()?
        .json()?;
    ensure_eq!(
        listed["entries"].as_array().map(Vec::len),
        Some(2),
        "entries"
    );
    // Without the key nobody knows what was given up: it goes with the key.
    let told = copying()?;
    ensure!(told.stdout.contains("in the copy alone"), "{}", told.told());
    let before = walk(&copy)?.len();
    let run = cli!["archive", "copy", "--from", place, "--to", &copy];
    lead(run).args(["--identity", &text]).run()?.ok()?;
    ensure!(
        walk(&copy)?.len() < before,
        "nothing was removed from the copy"
    );
    archive("check", &copy)
        .args(["--identity", &second])
        .run()?
        .ok()?;
    Ok(())
}

fn in_a_folder(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = dir.path().join("archive");
    every_verb(
        env,
        root.to_str().ok_or("a path that is no text")?,
        &|cli| cli,
    )?;
    // A bit of each file.
    for path in walk(&root)? {
        if path.ends_with("reserve") {
            continue;
        }
        let bytes = std::fs::read(&path)?;
        let mut flipped = bytes.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 4;
        std::fs::write(&path, flipped)?;
        archive("check", &root).run()?.code(13)?;
        std::fs::write(&path, bytes)?;
    }
    archive("check", &root).run()?.ok()?;
    Ok(())
}

fn in_a_bucket(env: &Env) -> Outcome {
    let s3 = S3::start()?;
    every_verb(env, PLACE, &|cli| s3.lead(cli))?;
    let dir = temp_dir()?;
    let key = key_file(dir.path(), KEY)?;
    let check = |keys: &[&Path]| {
        let check = cli!["archive", "check", "--archive", PLACE];
        let identity = keys.iter().flat_map(|key| [Path::new("--identity"), key]);
        s3.lead(check.args(identity)).run()
    };
    let names: Vec<String> = s3.names();
    let names: Vec<&String> = names
        .iter()
        .filter(|name| !name.ends_with("lock.json"))
        .collect();
    // Two hundred bits, anywhere: all are found without the key, and those that were tried with it.
    for round in 0..200_usize {
        let name = names[round % names.len()];
        let flip = |bytes: &mut Vec<u8>| {
            let at = round * 7919 % bytes.len();
            bytes[at] ^= 1 << (round % 8);
            true
        };
        s3.change(name, flip);
        check(&[])?.code(13)?;
        if round % 10 == 0 {
            check(&[&key])?.code(13)?;
        }
        s3.change(name, flip);
    }
    check(&[])?.ok()?;
    check(&[&key])?.ok()?;
    Ok(())
}

/// Whole nights by a plan that encrypts.
fn nights(env: &Env) -> Outcome {
    let stage = Stage::new(env, "")?;
    let plan = stage.dir().join("nightly.toml");
    let text = std::fs::read_to_string(&plan)?;
    let with = |keys: &str| {
        let text = text.replace("create = true\n", &format!("create = true\n{keys}\n"));
        std::fs::write(&plan, text)
    };
    let run = || cli!["run", "--json", "-q", &plan].dir(stage.dir());
    with(&format!("encrypt = [\"{PUBLIC}\"]"))?;
    run()
        .run()?
        .code(2)?
        .says(&["archive.encrypt", "archive.identity"])?;
    let key = key_file(stage.dir(), KEY)?;
    let identity = format!("identity = \"{}\"", key.display());
    with(&format!("encrypt = [\"{PUBLIC}\"]\n{identity}"))?;
    let first = run().run()?.ok()?.json()?;
    ensure!(first["master"].is_object(), "{first}");
    let root = stage.dir().join("backups");
    archive("ls", &root).run()?.code(2)?;
    let ls = archive("ls", &root)
        .arg("--json")
        .arg("--identity")
        .arg(&key);
    let listed: Value = ls.run()?.ok()?.json()?;
    ensure_eq!(
        listed["entries"].as_array().map(Vec::len),
        Some(3),
        "entries"
    );
    archive("check", &root)
        .arg("--identity")
        .arg(&key)
        .run()?
        .ok()?;
    // For others than the archive is.
    with(&format!("encrypt = [\"{SECOND_PUBLIC}\"]\n{identity}"))?;
    let told = run().run()?;
    ensure!(
        told.code(2)?.told().contains("not encrypted for"),
        "it was taken"
    );
    Ok(())
}

/// As FORMAT.md says, with nothing but age and zstd.
fn read_by_age(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = dir.path().join("archive");
    archive("init", &root)
        .args(["--encrypt", PUBLIC])
        .run()?
        .ok()?;
    let key = key_file(dir.path(), KEY)?;
    let case = env.case("album_2017");
    archive("add", &root).arg(&case.snapshot_gz).run()?.ok()?;
    let script = r#"
set -e
base64() { python3 -c 'import base64, json, sys; record = json.loads(sys.stdin.readline()); sys.stdout.buffer.write(base64.b64decode(eval("record" + sys.argv[1])))' "$1"; }
base64 '["encryption"]["key"]' < "$1/log/00000001.json" | age -d -i "$2" > "$3/archive.key"
base64 '["body"]' < "$1/log/00000002.json" | age -d -i "$3/archive.key"
echo
for file in "$1"/recipes/*/*.zst; do age -d -i "$3/archive.key" "$file" | zstd -dcq; echo; done
for file in "$1"/objects/*/*.zst; do age -d -i "$3/archive.key" "$file" | zstd -dcq | wc -c; done
"#;
    let run = Command::new("bash")
        .args(["-c", script, "bash"])
        .args([&root, &key, &dir.path().to_owned()])
        .stdin(Stdio::null())
        .output()?;
    let (out, err) = (
        String::from_utf8_lossy(&run.stdout).into_owned(),
        String::from_utf8_lossy(&run.stderr).into_owned(),
    );
    ensure!(run.status.success(), "{err}");
    let mut lines = out.lines();
    let record: Value = serde_json::from_str(lines.next().ok_or("no record")?)?;
    ensure_eq!(record["entry"]["name"], "album_2017", "the entry");
    let recipe: Value = serde_json::from_str(lines.next().ok_or("no recipe")?)?;
    ensure_eq!(recipe["sha256"], case.sha256(), "the recipe's snapshot");
    let objects = recipe["objects"].as_array().ok_or("no objects")?;
    let mut raw: Vec<u64> = objects
        .iter()
        .filter_map(|one| one["raw"].as_u64())
        .collect();
    let mut read: Vec<u64> = lines.filter_map(|line| line.trim().parse().ok()).collect();
    raw.sort_unstable();
    read.sort_unstable();
    ensure_eq!(read, raw, "bytes of objects");
    Ok(())
}
