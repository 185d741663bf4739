//! The archive in a bucket: of an emulator, and of real servers where they are on PATH.

use snapmerge::archive::conforms;

use crate::support::cli::Cli;
use crate::support::s3::{Access, S3};
use crate::support::s3_server::{Kind, Server};
use crate::support::{Env, Outcome, Trial, temp_dir};

/// The archive of these tests, and a place for a copy of it.
const PLACE: &str = "s3://test/nights/qdrant";
const OTHER: &str = "s3://test/copies/qdrant";

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("archive/s3/emulator_conforms", || {
            let s3 = S3::start()?;
            holds(&s3.access(), "some/prefix")?;
            let whole = S3::start()?;
            // All of it again, one request in five answered with 503.
            whole.fail_every(5);
            holds(&whole.access(), "")?;
            ensure!(whole.failed() > 30, "only {} failed", whole.failed());
            Ok(())
        }),
        Trial::new("archive/s3/nights_in_a_bucket", || {
            let s3 = S3::start()?;
            nights(env, PLACE, &|cli| s3.lead(cli))?;
            // A bit that is flipped there, and an object that is gone.
            let objects: Vec<String> = s3
                .names()
                .into_iter()
                .filter(|name| name.contains("/objects/"))
                .collect();
            let check = || s3.lead(at("check")).run();
            s3.change(&objects[0], |bytes| {
                bytes[100] ^= 1;
                true
            });
            check()?.code(13)?;
            s3.change(&objects[0], |bytes| {
                bytes[100] ^= 1;
                true
            });
            check()?.ok()?;
            s3.change(&objects[1], |_| false);
            let run = check()?.code(13)?;
            ensure!(run.stdout.contains("is missing"), "{}", run.told());
            Ok(())
        }),
        Trial::new("archive/s3/copied_there_and_back", || {
            let s3 = S3::start()?;
            nights(env, PLACE, &|cli| s3.lead(cli))?;
            let dir = temp_dir()?;
            let copy = |from: &str, to: &str| {
                let run = cli![
                    "archive", "copy", "-q", "--json", "--from", from, "--to", to
                ];
                s3.lead(run).run()?.ok()?.json()
            };
            let folder = dir.path().join("copy").display().to_string();
            let first = copy(PLACE, &folder)?;
            ensure!(first["new_objects"].as_u64() > Some(3), "{first}");
            let back = copy(&folder, OTHER)?;
            for key in ["records", "objects", "new_bytes"] {
                ensure_eq!(back[key], first[key], "{key} on the way back");
            }
            for place in [folder.as_str(), OTHER] {
                s3.lead(cli!["archive", "check", "--archive", place])
                    .run()?
                    .ok()?;
            }
            let again = copy(PLACE, OTHER)?;
            ensure_eq!(again["new_objects"], 0, "copied again");
            Ok(())
        }),
        Trial::new("archive/s3/answers_are_lost", || {
            let s3 = S3::start()?;
            s3.do_all_the_same();
            s3.fail_every(4);
            holds(&s3.access(), "some/prefix")?;
            nights(env, PLACE, &|cli| s3.lead(cli))?;
            ensure!(s3.failed() > 100, "only {} failed", s3.failed());
            Ok(())
        }),
        Trial::new("archive/s3/a_store_without_conditions_is_refused", || {
            let s3 = S3::start()?;
            s3.pass_over_conditions();
            s3.lead(at("init")).run()?.code(1)?.says(&WITHOUT)?;
            ensure_eq!(s3.names(), Vec::<String>::new(), "left by init");
            // A bucket that was copied to such a store.
            let s3 = S3::start()?;
            s3.lead(at("init")).run()?.ok()?;
            let before = s3.names();
            s3.pass_over_conditions();
            let add = at("add").arg(&env.case("album_2017").snapshot_gz);
            s3.lead(add).run()?.code(1)?.says(&WITHOUT)?;
            ensure_eq!(s3.names(), before, "left by add");
            s3.lead(at("check")).run()?.ok()?;
            Ok(())
        }),
        Trial::new("archive/s3/a_store_without_conditions_as_asked", || {
            let s3 = S3::start()?;
            s3.pass_over_conditions();
            nights(env, PLACE, &|cli| without_conditions(s3.lead(cli)))?;
            // What somebody else holds counts there, too.
            let lock = serde_json::json!({
                "owner": "11111111-2222-4333-8444-555555555555", "host": "elsewhere", "boot": "b",
                "pid": 1, "started": 1, "doing": "archive add", "since": "2026-11-22T03:00:00Z",
            });
            s3.put("nights/qdrant/lock.json", lock.to_string().into());
            let forget = s3.lead(at("forget").args(["--entry", "album_2018"]));
            without_conditions(forget).run()?.code(11)?;
            Ok(())
        }),
        Trial::needs("archive/s3/moto", &Kind::Moto.find(), |bin| {
            let moto = Server::start(Kind::Moto, &bin)?;
            nights(env, PLACE, &|cli| moto.access.lead(cli))
        }),
        Trial::needs("archive/s3/rustfs", &Kind::RustFs.find(), |bin| {
            let rustfs = Server::start(Kind::RustFs, &bin)?;
            holds(&rustfs.access, "some/prefix")?;
            nights(env, PLACE, &|cli| rustfs.access.lead(cli))
        }),
        // It takes a conditional put for a plain one.
        Trial::needs("archive/s3/garage", &Kind::Garage.find(), |bin| {
            let garage = Server::start(Kind::Garage, &bin)?;
            let lead = |cli| garage.access.lead(cli);
            lead(at("init")).run()?.code(1)?.says(&WITHOUT)?;
            nights(env, PLACE, &|cli| without_conditions(lead(cli)))
        }),
    ]
}

/// What is said of a store that takes a conditional put for a plain one.
const WITHOUT: [&str; 3] = [
    "testing s3://test/nights/qdrant",
    "passes over conditions",
    "use a store that knows conditional puts",
];

/// The store there does what every store must.
fn holds(access: &Access, prefix: &str) -> Outcome {
    Ok(conforms(&access.store(prefix)?).map_err(|err| err.to_string())?)
}

/// As somebody runs it who knows that no two runs write at once.
fn without_conditions(cli: Cli) -> Cli {
    cli.env("AWS_CONDITIONAL_PUT", "disabled")
}

fn at(verb: &str) -> Cli {
    cli!["archive", verb, "--archive", PLACE]
}

/// Three snapshots stored in the archive at `place`, got, given up and checked.
pub fn nights(env: &Env, place: &str, lead: &dyn Fn(Cli) -> Cli) -> Outcome {
    let at = |verb: &str| cli!["archive", verb, "--archive", place];
    let dir = temp_dir()?;
    lead(at("ls")).run()?.code(10)?;
    lead(at("init")).run()?.ok()?;
    for case in ["album_2017", "album_2018", "three_shards"] {
        lead(at("add").arg(&env.case(case).snapshot_gz))
            .run()?
            .ok()?;
    }
    let case = env.case("album_2018");
    let got = dir.path().join("got");
    lead(at("get").arg("album_2018").arg("-o").arg(&got))
        .run()?
        .ok()?;
    let unpacked = std::fs::read(case.unpack(dir.path())?)?;
    ensure!(std::fs::read(&got)? == unpacked, "it came out otherwise");
    lead(at("check")).run()?.ok()?;
    lead(at("forget").args(["--entry", "three_shards"]))
        .run()?
        .ok()?;
    let run = lead(at("check")).run()?.ok()?;
    ensure!(run.stdout.contains("all 2 entries"), "{}", run.told());
    lead(at("verify-chain")).run()?.ok()?;
    let listed = lead(at("ls")).run()?.ok()?;
    ensure_eq!(
        listed.stdout.lines().count(),
        4,
        "two entries, a sum, a proof"
    );
    Ok(())
}
