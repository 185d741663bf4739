//! The archive in a bucket: an emulated S3, and moto's where that is on PATH.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use snapmerge::archive::conforms;

use crate::support::cli::Cli;
use crate::support::s3::S3;
use crate::support::{Env, Outcome, Trial, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("archive/s3/emulator_conforms", || {
            let s3 = S3::start()?;
            conforms(&s3.store("some/prefix")?).map_err(|err| err.to_string())?;
            let whole = S3::start()?;
            // All of it again, one request in five answered with 503.
            whole.fail_every(5);
            conforms(&whole.store("")?).map_err(|err| err.to_string())?;
            ensure!(whole.failed() > 30, "only {} failed", whole.failed());
            Ok(())
        }),
        Trial::new("archive/s3/nights_in_a_bucket", || {
            let s3 = S3::start()?;
            nights(env, &|cli| s3.lead(cli))?;
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
        Trial::needs("archive/s3/moto", &moto(), |bin| {
            let moto = Moto::start(&bin)?;
            moto.make_bucket()?;
            nights(env, &|cli| moto.lead(cli))
        }),
    ]
}

fn at(verb: &str) -> Cli {
    cli!["archive", verb, "--archive", "s3://test/nights/qdrant"]
}

/// Three snapshots stored, got, given up and checked.
fn nights(env: &Env, lead: &dyn Fn(Cli) -> Cli) -> Outcome {
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

/// moto_server, where it is on PATH and runs.
fn moto() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let bin = std::env::split_paths(&path)
        .map(|dir| dir.join("moto_server"))
        .find(|bin| bin.is_file())
        .ok_or("there is no moto_server on PATH (pip install 'moto[server]')")?;
    let run = Command::new(&bin).arg("--help").output();
    match run.is_ok_and(|output| output.status.success()) {
        true => Ok(bin),
        false => Err(format!("{} does not run", bin.display())),
    }
}

/// A moto_server of one test.
struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    fn start(bin: &PathBuf) -> Outcome<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(bin)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let moto = Self { child, port };
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(
                start.elapsed() < Duration::from_secs(60),
                "moto_server does not listen"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(moto)
    }

    fn make_bucket(&self) -> Outcome {
        let url = format!("http://127.0.0.1:{}/test", self.port);
        ureq::put(url)
            .send_empty()
            .map_err(|err| format!("making a bucket: {err}"))?;
        Ok(())
    }

    fn lead(&self, cli: Cli) -> Cli {
        cli.env("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
