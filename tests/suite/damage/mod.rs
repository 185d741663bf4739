//! Bad input: whatever a user, a disk or an enemy can make of a snapshot, there is one clear error
//! that names the file, the reason and the next step, with the exit code of the table, nothing left
//! behind, no panic, and the source as it was.

mod bits;
mod contents;
mod disk;
mod files;
mod members;
mod output;
mod stop;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::cli::{Cli, Run};
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials: Vec<Trial> = [
        bits::trials(env),
        contents::trials(env),
        disk::trials(env),
        output::trials(env),
        stop::trials(env),
    ]
    .into_iter()
    .flatten()
    .collect();
    let inspects = inspects(env);
    for bad in [files::bad(), contents::bad(), members::bad()]
        .into_iter()
        .flatten()
    {
        let (name, inspected) = (format!("damage/{}", bad.name), bad.clone());
        trials.push(Trial::new(name, move || {
            let bed = bad.bed(env)?;
            bed.refused("merge", bed.merge(), &bad)?;
            bed.refused("rebuild", bed.merge().arg("--route=rebuild"), &bad)?;
            bed.refused("export", bed.export(), &bad)
        }));
        let name = format!("damage/inspect/{}", inspected.name);
        trials.push(Trial::needs(name, &inspects, move |()| {
            let bed = inspected.bed(env)?;
            bed.refused("inspect", bed.inspect(), &inspected)
        }));
    }
    trials
}

/// Whether `inspect` says anything yet.
fn inspects(env: &Env) -> Result<(), String> {
    let snapshot = env.case("empty").snapshot_gz;
    match cli!["inspect", snapshot].run() {
        Ok(run) if run.status.success() && run.stdout.is_empty() => {
            Err("inspect says nothing yet".into())
        }
        _ => Ok(()),
    }
}

/// How to make a bad file of what the fixtures hold.
type Make = Arc<dyn Fn(&Env) -> Outcome<Vec<u8>> + Send + Sync>;

/// A file that must be refused.
#[derive(Clone)]
struct Bad {
    name: String,
    file: &'static str,
    make: Make,
    code: i32,
    says: Vec<&'static str>,
}

impl Bad {
    fn new(
        name: impl Into<String>,
        says: &[&'static str],
        make: impl Fn(&Env) -> Outcome<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            file: "bad.snapshot",
            make: Arc::new(make),
            code: 13,
            says: says.to_vec(),
        }
    }

    fn gz(self) -> Self {
        Self {
            file: "bad.snapshot.gz",
            ..self
        }
    }

    fn code(self, code: i32) -> Self {
        Self { code, ..self }
    }

    fn bed(&self, env: &Env) -> Outcome<Bed> {
        Bed::new(self.file, &(self.make)(env)?)
    }
}

/// A source in a folder of its own, and the folders that must stay empty.
struct Bed {
    dir: tempfile::TempDir,
    source: PathBuf,
    bytes: Vec<u8>,
}

impl Bed {
    fn new(file: &str, bytes: &[u8]) -> Outcome<Self> {
        let dir = temp_dir()?;
        for folder in ["in", "out", "scratch"] {
            std::fs::create_dir(dir.path().join(folder))?;
        }
        let source = dir.path().join("in").join(file);
        std::fs::write(&source, bytes)?;
        Ok(Self {
            dir,
            source,
            bytes: bytes.to_vec(),
        })
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn out(&self) -> PathBuf {
        self.folder("out").join("master.snapshot")
    }

    fn merge(&self) -> Cli {
        cli!["merge", &self.source, "-q", "-o", self.out()]
            .arg("--scratch")
            .arg(self.folder("scratch"))
    }

    fn export(&self) -> Cli {
        let scratch = self.folder("scratch");
        cli!["export", &self.source, "--scratch", scratch]
    }

    fn inspect(&self) -> Cli {
        cli!["inspect", &self.source]
    }

    /// Nothing was left, and the source is as it was.
    fn is_clean(&self) -> Outcome {
        for folder in ["out", "scratch"] {
            let left = names_in(&self.folder(folder))?;
            ensure!(left.is_empty(), "left behind in {folder}: {left:?}");
        }
        let now = std::fs::read(&self.source)?;
        ensure!(now == self.bytes, "the source was changed");
        Ok(())
    }

    fn refused(&self, what: &str, cli: Cli, bad: &Bad) -> Outcome {
        let run = || -> Outcome {
            let run = cli.run()?.code(bad.code)?.says(&bad.says)?;
            is_one_error(&run, bad.file)?;
            self.is_clean()
                .map_err(|e| format!("{e:?}\n{}", run.told()).into())
        };
        run().map_err(|e| format!("{what}: {}", e.message().unwrap_or_default()).into())
    }
}

/// One error that names the file and the next step.
fn is_one_error(run: &Run, file: &str) -> Outcome {
    let errors = run.stderr.matches("snapmerge: ").count();
    ensure_eq!(errors, 1, "errors\n{}", run.told());
    for part in [file, "\n  next: "] {
        ensure!(
            run.stderr.contains(part),
            "no {part:?} in it\n{}",
            run.told()
        );
    }
    for word in ["panick", "RUST_BACKTRACE", "unwrap()", "stack backtrace"] {
        ensure!(!run.stderr.contains(word), "{word} in it\n{}", run.told());
    }
    Ok(())
}

/// The case's snapshot, not compressed.
fn plain(env: &Env, case: &str) -> Outcome<Vec<u8>> {
    let dir = temp_dir()?;
    Ok(std::fs::read(env.case(case).unpack(dir.path())?)?)
}

/// SHA-256 as Qdrant writes it beside a snapshot.
fn write_checksum(snapshot: &Path, bytes: &[u8]) -> Outcome {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut name = snapshot.as_os_str().to_owned();
    name.push(".checksum");
    Ok(std::fs::write(name, hex)?)
}
