//! Servers: what capture, restore, publish and rollback do on real ones, and on one that fails by
//! script.
//!
//! Keeps true: after each failure the test looks at what is left, here and there.

mod as_they_are;
mod capture;
pub mod cluster;
mod increment;
mod kill;
pub mod live;
mod many;
mod members;
mod publish;
mod restore;
mod secrets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::cli::{Cli, Run};
use crate::support::fake::{Collection, Fake};
use crate::support::scripted::Scripted;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

/// What makes a collection another one.
type Spoil = fn(&mut Collection);

pub fn trials(env: &'static Env) -> Vec<Trial> {
    [
        as_they_are::trials(env),
        capture::trials(env),
        cluster::trials(env),
        restore::trials(env),
        secrets::trials(env),
        publish::trials(env),
        live::trials(env),
        increment::trials(env),
        members::trials(env),
        kill::trials(env),
        many::trials(env),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The collection of the fixture `album_2017`, as a server shows it.
pub fn album(env: &Env) -> Outcome<(Collection, Vec<u8>)> {
    let case = env.case("album_2017");
    let dir = temp_dir()?;
    let snapshot = std::fs::read(case.unpack(dir.path())?)?;
    let collection = Collection {
        info: json!({
            "status": "green", "optimizer_status": "ok", "segments_count": 2,
            "indexed_vectors_count": 1000, "points_count": 1000,
            "config": case.info["config"], "payload_schema": case.info["payload_schema"],
        }),
        shards: BTreeMap::from([(0, 1000)]),
        state: "Active".into(),
        snapshots: BTreeMap::new(),
        transfers: Vec::new(),
    };
    Ok((collection, snapshot))
}

/// A scripted server with one collection called `album`, and folders to work in.
struct Stage {
    scripted: Scripted,
    dir: tempfile::TempDir,
    /// The bytes of the collection's snapshot.
    snapshot: Vec<u8>,
}

impl Stage {
    fn new(env: &Env) -> Outcome<Self> {
        let (collection, snapshot) = album(env)?;
        let fake = Fake::new("album", collection, snapshot.clone());
        let dir = temp_dir()?;
        std::fs::create_dir(dir.path().join("archive"))?;
        Ok(Self {
            scripted: Scripted::start(fake)?,
            dir,
            snapshot,
        })
    }

    /// The same without the collection, which an upload makes; its snapshot lies in a file.
    fn to_restore(env: &Env) -> Outcome<(Self, PathBuf)> {
        let stage = Self::new(env)?;
        {
            let mut fake = stage.scripted.fake();
            fake.restored = fake.collections.remove("album");
        }
        let file = stage.dir.path().join("album.snapshot");
        std::fs::write(&file, &stage.snapshot)?;
        Ok((stage, file))
    }

    /// The file at `file` as an entry of an archive, which is made.
    fn entry(&self, file: &Path) -> Outcome<PathBuf> {
        crate::archive::make(self.dir.path())?;
        cli!["archive", "add", "--archive", self.archive(), file]
            .run()?
            .ok()?;
        Ok("archive:album".into())
    }

    fn archive(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    /// The program, with what it remembers in this stage's folder.
    fn cli(&self, args: &[&str]) -> Cli {
        run_with(self.dir.path(), args)
    }

    fn capture(&self) -> Cli {
        self.capture_with(&["--timeout=3", "--retries=2"])
    }

    fn capture_with(&self, args: &[&str]) -> Cli {
        let server = self.scripted.url();
        let capture = self.cli(&["capture", &server, "album"]).args(args);
        capture.arg("--to").arg(self.archive())
    }

    fn restore(&self, file: &Path) -> Cli {
        let to = format!("{}/album", self.scripted.url());
        let restore = self.cli(&["restore", "--timeout=3", "--retries=2", "--to", &to]);
        restore.arg(file)
    }

    fn publish(&self, args: &[&str]) -> Cli {
        let server = self.scripted.url();
        self.cli(&["publish", &server, "--timeout=3", "--retries=2"])
            .args(args)
    }

    /// Nothing was left here or there.
    fn is_clean(&self) -> Outcome {
        ensure_eq!(
            names_in(&self.archive())?,
            Vec::<String>::new(),
            "left here"
        );
        ensure_eq!(
            self.scripted.fake().snapshots_left(),
            Vec::<String>::new(),
            "left on the server"
        );
        self.scripted.ensure_faults_came_up()
    }

    /// The one captured file.
    fn captured(&self) -> Outcome<PathBuf> {
        captured_in(&self.archive())
    }
}

/// The one snapshot in a folder, which has its checksum and manifest beside it and nothing else.
pub fn captured_in(folder: &Path) -> Outcome<PathBuf> {
    let names = names_in(folder)?;
    let mut files = names.iter().filter(|name| name.ends_with(".snapshot"));
    let (file, more) = (files.next().ok_or("nothing was captured")?, files.next());
    ensure!(more.is_none(), "captured more than once: {names:?}");
    ensure_eq!(
        names,
        [
            file.clone(),
            format!("{file}.checksum"),
            format!("{file}.manifest.json")
        ],
        "in the folder"
    );
    Ok(folder.join(file))
}

/// The program, with what it remembers of servers in `dir`.
pub fn run_with(dir: &Path, args: &[&str]) -> Cli {
    Cli::new()
        .args(args)
        .env("XDG_STATE_HOME", dir.join("state"))
        .env("HOME", dir)
}

/// Exactly one error with a next step.
fn is_one_error(run: &Run) -> Outcome {
    let errors = run
        .stderr
        .lines()
        .filter(|line| line.starts_with("snapmerge: "))
        .count();
    ensure_eq!(errors, 1, "errors\n{}", run.told());
    ensure!(
        run.stderr.contains("\n  next: "),
        "no next step\n{}",
        run.told()
    );
    Ok(())
}

/// What the manifest beside a file says.
fn manifest_of(file: &Path) -> Outcome<Value> {
    let mut name = file.as_os_str().to_owned();
    name.push(".manifest.json");
    Ok(serde_json::from_slice(&std::fs::read(name)?)?)
}
