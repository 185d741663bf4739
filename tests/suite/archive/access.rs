//! Access by others: modes of files, planted links, secrets in errors, keys that nobody gave.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::{archive, make, walk};
use crate::support::s3::S3;
use crate::support::{Env, Outcome, Trial, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("archive/access/private", || private(env)),
        Trial::new("archive/access/no_secrets", || no_secrets(env)),
        Trial::new("archive/access/no_keys_no_request", no_keys),
    ]
}

fn private(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let file = env.case("album_2017").snapshot_gz;
    archive("add", &root).arg(&file).run()?.ok()?;
    let out = dir.path().join("out");
    std::fs::create_dir(&out)?;
    // What somebody planted where scratch is made.
    let victim = dir.path().join("victim");
    std::fs::create_dir(&victim)?;
    for name in ["lock", "precious"] {
        std::fs::write(victim.join(name), "x")?;
    }
    symlink(&victim, out.join(".snapmerge-planted"))?;
    let got = out.join("got.snapshot");
    archive("get", &root)
        .arg("album_2017")
        .arg("-o")
        .arg(&got)
        .run()?
        .ok()?;
    let master = out.join("master.snapshot");
    cli![
        "merge",
        "-q",
        "-o",
        &master,
        "--scratch",
        &out,
        "archive:album_2017",
        "--archive",
        &root
    ]
    .run()?
    .ok()?;
    ensure_eq!(walk(&victim)?.len(), 2, "what was planted on");
    let mode =
        |path: &Path| -> Outcome<u32> { Ok(std::fs::metadata(path)?.permissions().mode() & 0o777) };
    let mut folders = vec![root.clone()];
    for path in walk(&root)? {
        ensure_eq!(mode(&path)?, 0o600, "{}", path.display());
        folders.push(path.parent().ok_or("no folder")?.to_owned());
    }
    for folder in folders {
        ensure_eq!(mode(&folder)?, 0o700, "{}", folder.display());
    }
    for name in [
        "got.snapshot",
        "master.snapshot",
        "master.snapshot.checksum",
        "master.snapshot.provenance.json",
    ] {
        ensure_eq!(mode(&out.join(name))?, 0o600, "{name}");
    }
    Ok(())
}

fn no_secrets(env: &Env) -> Outcome {
    let file = env.case("album_2017").snapshot_gz;
    let s3 = S3::start()?;
    let dir = temp_dir()?;
    let endpoint = |endpoint: &str| {
        s3.lead(archive("ls", Path::new("s3://test/x")))
            .env("AWS_ENDPOINT", endpoint)
            .env("AWS_ACCESS_KEY_ID", "AKIASECRETPW")
            .env("AWS_SECRET_ACCESS_KEY", "SECRETPW")
    };
    let runs = [
        archive("ls", Path::new("s3://AKIA:SECRETPW@test/x"))
            .run()?
            .code(2)?,
        archive("ls", Path::new("s3://AKIA:SECRETPW/x"))
            .run()?
            .code(2)?,
        archive("ls", Path::new("ftp://u:SECRETPW@h/x"))
            .run()?
            .code(2)?,
        endpoint("http://u:SECRETPW@127.0.0.1:1").run()?.code(1)?,
        endpoint("u:SECRETPW@127.0.0.1:1").run()?.code(1)?,
        cli!["restore", &file, "--to", "http://u:SECRETPW@127.0.0.1:1/c"]
            .run()?
            .code(2)?,
        cli!["restore", &file, "--to", "u:SECRETPW@"]
            .run()?
            .code(2)?,
        cli![
            "capture",
            "http://u:SECRETPW@127.0.0.1:1",
            "--to",
            dir.path()
        ]
        .run()?
        .code(2)?,
        cli!["inspect", "http://u:SECRETPW@127.0.0.1:1/c"]
            .run()?
            .code(1)?,
        cli!["merge", "a", "--http://u:SECRETPW@h"].run()?.code(2)?,
    ];
    for run in runs {
        let said = [&run.stdout, &run.stderr];
        ensure!(
            said.iter().all(|text| !text.contains("SECRETPW")),
            "{}",
            run.told()
        );
    }
    Ok(())
}

fn no_keys() -> Outcome {
    let s3 = S3::start()?;
    let endpoint = s3.access().endpoint;
    let ls = || {
        archive("ls", Path::new("s3://test/x"))
            .env("AWS_ENDPOINT", &endpoint)
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
    };
    ls().run()?
        .code(2)?
        .says(&["no keys", "AWS_ACCESS_KEY_ID", "AWS_METADATA_ENDPOINT"])?;
    ensure_eq!(s3.requests(), 0, "requests");
    // As asked: the machine's metadata, where the user says that they are.
    let metadata = S3::start()?;
    let asked = ls().env("AWS_METADATA_ENDPOINT", metadata.access().endpoint);
    asked
        .timeout(std::time::Duration::from_secs(250))
        .run()?
        .code(1)?;
    ensure!(metadata.requests() > 0, "nobody asked for the metadata");
    ensure_eq!(s3.requests(), 0, "requests without keys");
    ls().env("AWS_SKIP_SIGNATURE", "true").run()?.code(10)?;
    Ok(())
}
