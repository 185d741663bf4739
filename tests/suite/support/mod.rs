//! What every module of tests stands on: the tests themselves ([`Trial`]), what is at hand on this
//! machine ([`Env`]), real snapshots with their truth ([`cases`]), points compared bit by bit
//! ([`points`]), the built program ([`cli`]) and a real server ([`qdrant`]).

// A helper that no module uses today may be the one that tomorrow's test needs.
#![allow(dead_code)]

/// Fails the test with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+).into());
        }
    };
}

/// Fails the test unless both sides are equal; shows both.
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $($message:tt)+) => {
        match (&$left, &$right) {
            (left, right) => ensure!(
                left == right,
                "{}\n   got: {left:?}\n  want: {right:?}",
                format!($($message)+)
            ),
        }
    };
}

pub mod cases;
#[macro_use]
pub mod cli;
pub mod config;
pub mod craft;
pub mod daemon;
pub mod fake;
pub mod openssl;
pub mod packed;
pub mod partial;
pub mod points;
pub mod proxy;
pub mod qdrant;
pub mod rust;
pub mod s3;
pub mod s3_server;
pub mod scripted;
pub mod tls;
pub mod wal;

use std::path::{Path, PathBuf};

pub use libtest_mimic::Failed;

use cases::{Case, CaseSet};
use sha2::Digest as _;

/// How a test ends.
pub type Outcome<T = ()> = Result<T, Failed>;

/// The tests of the helpers themselves.
pub fn trials(env: &'static Env) -> Vec<Trial> {
    [
        cli::trials(),
        packed::trials(),
        points::trials(),
        qdrant::trials(env),
        rust::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// One test: a name like `export/1.18.3/named`, what it does, and why it cannot run here, if so.
pub struct Trial {
    pub name: String,
    pub ignored: Option<String>,
    run: Box<dyn FnOnce() -> Outcome + Send>,
}

impl Trial {
    /// A test that can run here.
    pub fn new(name: impl Into<String>, run: impl FnOnce() -> Outcome + Send + 'static) -> Self {
        Self {
            name: name.into(),
            ignored: None,
            run: Box::new(run),
        }
    }

    /// A test that cannot run here, for `reason` (reads well after "because").
    pub fn ignored(name: impl Into<String>, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            name: name.into(),
            ignored: Some(reason.clone()),
            // `--ignored` asks for it all the same, and has to be told no.
            run: Box::new(move || Err(format!("cannot run here because {reason}").into())),
        }
    }

    /// A test that needs `thing`: ignored with the reason where it is not to be had.
    pub fn needs<T: Clone + Send + 'static>(
        name: impl Into<String>,
        thing: &Result<T, String>,
        run: impl FnOnce(T) -> Outcome + Send + 'static,
    ) -> Self {
        match thing {
            Ok(thing) => {
                let thing = thing.clone();
                Self::new(name, move || run(thing))
            }
            Err(reason) => Self::ignored(name, reason),
        }
    }

    /// The same test as libtest-mimic knows it.
    pub fn into_libtest(self) -> libtest_mimic::Trial {
        let is_ignored = self.ignored.is_some();
        libtest_mimic::Trial::test(self.name, self.run).with_ignored_flag(is_ignored)
    }
}

/// What is at hand on this machine; found once, before any test.
pub struct Env {
    /// The checkout.
    pub root: PathBuf,
    /// The sets of snapshots, one a server version; the first is `fixtures/`.
    pub sets: Vec<CaseSet>,
    /// Those of old servers, which kept points in RocksDB.
    pub old_sets: Vec<CaseSet>,
    /// A real Qdrant, or why there is none.
    pub server: Result<PathBuf, String>,
    /// `SNAPMERGE_LIVE=1`, or `QDRANT_BIN` is set: a test that finds no server fails.
    pub server_required: bool,
}

impl Env {
    /// Looks at the machine; fails only where the checkout itself is not whole.
    pub fn find() -> Result<Self, String> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        Ok(Self {
            sets: cases::find(&root)?,
            old_sets: cases::find_old(&root)?,
            server: daemon::find(),
            // Who names a server means it: a wrong QDRANT_BIN must not look like having none.
            server_required: std::env::var_os("SNAPMERGE_LIVE").is_some_and(|v| v == "1")
                || std::env::var_os("QDRANT_BIN").is_some(),
            root,
        })
    }

    /// The case `name` of `fixtures/`.
    pub fn case(&self, name: &str) -> Case {
        let fixtures = self.sets.iter().find_map(|set| set.cases.as_ref().ok());
        fixtures
            .and_then(|cases| cases.iter().find(|case| case.name == name))
            .unwrap_or_else(|| panic!("fixtures/ has no case {name}"))
            .clone()
    }

    /// One test for every case of every server version, `PREFIX/VERSION/CASE`. Where a version is not
    /// at hand, its tests are there all the same, ignored: the cases have the same names everywhere.
    pub fn per_case(
        &self,
        prefix: &str,
        run: impl Fn(Case) -> Outcome + Clone + Send + 'static,
    ) -> Vec<Trial> {
        let names: Vec<&str> = self
            .sets
            .iter()
            .find_map(|set| set.cases.as_ref().ok())
            .map(|cases| cases.iter().map(|case| case.name.as_str()).collect())
            .unwrap_or_default();
        let mut trials = Vec::new();
        for set in &self.sets {
            let name_of = |case: &str| format!("{prefix}/{}/{case}", set.version);
            match &set.cases {
                Ok(cases) => trials.extend(cases.iter().cloned().map(|case| {
                    let run = run.clone();
                    Trial::new(name_of(&case.name), move || run(case))
                })),
                Err(why) => {
                    trials.extend(names.iter().map(|case| Trial::ignored(name_of(case), why)))
                }
            }
        }
        trials
    }

    /// The same for every case of every old server; a set that is not at hand is one ignored test.
    pub fn per_old_case(
        &self,
        prefix: &str,
        run: impl Fn(Case) -> Outcome + Clone + Send + 'static,
    ) -> Vec<Trial> {
        let mut trials = Vec::new();
        for set in &self.old_sets {
            let name_of = |case: &str| format!("{prefix}/{}/{case}", set.version);
            match &set.cases {
                Ok(cases) => trials.extend(cases.iter().cloned().map(|case| {
                    let run = run.clone();
                    Trial::new(name_of(&case.name), move || run(case))
                })),
                Err(why) => trials.push(Trial::ignored(name_of("all"), why)),
            }
        }
        trials
    }

    /// The case `name` of the old server `version`, or why it is not at hand.
    pub fn old_case(&self, version: &str, name: &str) -> Result<Case, String> {
        let set = self.old_sets.iter().find(|set| set.version == version);
        let set = set.ok_or_else(|| format!("{version} is not among the old servers"))?;
        let cases = set.cases.as_ref().map_err(Clone::clone)?;
        let case = cases.iter().find(|case| case.name == name);
        case.cloned()
            .ok_or_else(|| format!("there is no case {name} of {version}"))
    }

    /// A test that needs a real server, given its executable (see [`qdrant::Server::start`]). Without
    /// one it is ignored, or fails where one is required.
    pub fn live(
        &self,
        name: impl Into<String>,
        run: impl FnOnce(&Path) -> Outcome + Send + 'static,
    ) -> Trial {
        match &self.server {
            Err(why) if self.server_required => {
                let why = why.clone();
                Trial::new(name, move || {
                    Err(format!(
                        "a server is required here (SNAPMERGE_LIVE or QDRANT_BIN is set), but {why}"
                    )
                    .into())
                })
            }
            server => Trial::needs(name, server, |bin| run(&bin)),
        }
    }
}

/// The program `name` on PATH that runs with the argument `probe`, or why there is none; `from` says
/// where one gets it.
pub fn program(name: &str, probe: &str, from: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let runs = |bin: &PathBuf| {
        let run = std::process::Command::new(bin).arg(probe).output();
        run.is_ok_and(|output| output.status.success())
    };
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|bin| bin.is_file() && runs(bin))
        .ok_or_else(|| format!("there is no {name} on PATH that runs ({from})"))
}

/// A folder that goes away with its value.
pub fn temp_dir() -> Outcome<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("snapmerge-suite-")
        .tempdir()
        .map_err(|e| format!("making a temporary folder: {e}").into())
}

/// The SHA-256 of the file at `path`, in hexadecimal digits.
pub fn sha256(path: &Path) -> Outcome<String> {
    Ok(hex::encode(sha2::Sha256::digest(std::fs::read(path)?)))
}

/// The names in a folder, sorted; what a test compares to see that nothing was left behind.
pub fn names_in(dir: &Path) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| format!("listing {}: {e}", dir.display()))? {
        let entry = entry.map_err(|e| format!("listing {}: {e}", dir.display()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
