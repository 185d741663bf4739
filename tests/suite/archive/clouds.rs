//! The archive in the buckets of Google and Azure: of emulators, as far as there are some.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::s3::nights;
use crate::support::cli::Cli;
use crate::support::daemon::{free_ports, wait_until_ready};
use crate::support::s3::S3;
use crate::support::{Env, Outcome, Trial, program, temp_dir};

const GOOGLE: &str = "gs://test/nights/qdrant";
const AZURE: &str = "az://test/nights/qdrant";

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let azurite = program("azurite-blob", "--version", "npm install azurite");
    vec![
        Trial::new("archive/clouds/google", || google(env)),
        Trial::needs("archive/clouds/azurite", &azurite, |bin| azure(env, &bin)),
        Trial::new("archive/clouds/no_keys_no_request", no_keys),
    ]
}

/// Google's XML interface is that of S3, but for how a condition is written, which the emulator knows.
fn google(env: &Env) -> Outcome {
    let lead = |s3: &S3, cli: Cli| {
        cli.env("GOOGLE_BASE_URL", s3.access().endpoint)
            .env("GOOGLE_BEARER_TOKEN", "of-a-test")
    };
    let s3 = S3::start()?;
    nights(env, GOOGLE, &|cli| lead(&s3, cli))?;
    ensure!(
        s3.names()
            .iter()
            .any(|name| name == "nights/qdrant/log/00000001.json"),
        "{:?}",
        s3.names()
    );
    // One request in five is answered with 503, after it was done.
    let s3 = S3::start()?;
    s3.do_all_the_same();
    s3.fail_every(5);
    nights(env, GOOGLE, &|cli| lead(&s3, cli))?;
    let s3 = S3::start()?;
    s3.pass_over_conditions();
    let init = cli!["archive", "init", "--archive", GOOGLE];
    lead(&s3, init)
        .run()?
        .code(1)?
        .says(&["passes over conditions"])?;
    Ok(())
}

/// Without keys nothing is asked, not even the machine for its role's.
fn no_keys() -> Outcome {
    for (place, keys) in [
        (GOOGLE, "GOOGLE_APPLICATION_CREDENTIALS"),
        (AZURE, "AZURE_STORAGE_ACCOUNT_KEY"),
    ] {
        let ls = cli!["archive", "ls", "--archive", place];
        ls.run()?.code(2)?.says(&["no keys", keys])?;
    }
    Ok(())
}

/// Azurite, the emulator of Microsoft; it ends with its value.
struct Azurite {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

/// The account that every Azurite has, and its key, which its manual tells.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

impl Azurite {
    fn start(bin: &Path) -> Outcome<Self> {
        let dir = temp_dir()?;
        let [port, ..] = free_ports()?;
        let log = dir.path().join("log");
        let out = std::fs::File::create(&log)?;
        let child = Command::new(bin)
            .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()])
            .args(["--skipApiVersionCheck", "--disableTelemetry", "--location"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        let url = format!("http://127.0.0.1:{port}");
        let mut azurite = Self {
            child,
            url,
            _dir: dir,
        };
        let url = azurite.url.clone();
        let answers = || {
            !matches!(
                ureq::get(&url).call(),
                Err(ureq::Error::Io(_) | ureq::Error::ConnectionFailed)
            )
        };
        wait_until_ready(&mut azurite.child, &log, answers)?;
        azurite.make_container()?;
        Ok(azurite)
    }

    /// Makes the container `test`, by a request that is signed with the account's key.
    fn make_container(&self) -> Outcome {
        let date = chrono::Utc::now()
            .format("%a, %d %b %Y %H:%M:%S GMT")
            .to_string();
        let headers = format!("x-ms-date:{date}\nx-ms-version:2020-10-02\n");
        let resource = format!("/{ACCOUNT}/{ACCOUNT}/test\nrestype:container");
        let text = format!("PUT{}{headers}{resource}", "\n".repeat(12));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(ACCOUNT_KEY)?);
        let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        ureq::put(format!("{}/{ACCOUNT}/test?restype=container", self.url))
            .header("x-ms-date", &date)
            .header("x-ms-version", "2020-10-02")
            .header("authorization", format!("SharedKey {ACCOUNT}:{signature}"))
            .send_empty()
            .map_err(|err| format!("making a container: {err}"))?;
        Ok(())
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn azure(env: &Env, bin: &Path) -> Outcome {
    let azurite = Azurite::start(bin)?;
    nights(env, AZURE, &|cli| {
        cli.env("AZURE_STORAGE_USE_EMULATOR", "true")
            .env("AZURITE_BLOB_STORAGE_URL", &azurite.url)
    })
}
