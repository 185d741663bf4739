//! Bad input: whatever a user, a disk or an enemy can make of a snapshot, there is one clear error
//! that names the file, the reason and the next step, with the exit code of the table, nothing left
//! behind, no panic, and the source as it was.

mod bits;
pub mod contents;
pub mod disk;
mod files;
mod ids;
mod log;
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
        ids::trials(env),
        output::trials(env),
        stop::trials(env),
    ]
    .into_iter()
    .flatten()
    .collect();
    for bad in [files::bad(), contents::bad(), members::bad()]
        .into_iter()
        .flatten()
    {
        trials.push(Trial::new(format!("damage/{}", bad.name), move || {
            let bed = bad.bed(env)?;
            bed.refused("merge", bed.merge(), &bad)?;
            bed.refused("rebuild", bed.merge().arg("--route=rebuild"), &bad)?;
            bed.refused("export", bed.export(), &bad)?;
            bed.inspected(&bad)
        }));
    }
    trials.extend(log::trials(env));
    trials
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
    /// Whether it is only incomplete: what is there can be read.
    incomplete: bool,
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
            incomplete: false,
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

    fn incomplete(self) -> Self {
        Self {
            incomplete: true,
            ..self
        }
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
        cli!["merge", &self.source, "-o", self.out()]
            .arg("--scratch")
            .arg(self.folder("scratch"))
    }

    fn export(&self) -> Cli {
        let scratch = self.folder("scratch");
        cli!["export", &self.source, "--scratch", scratch]
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

    /// What inspect makes of it: an error like any other, or a report with the reasons.
    fn inspected(&self, bad: &Bad) -> Outcome {
        let run = cli!["inspect", &self.source].run()?;
        let run = run.code(if bad.incomplete { 3 } else { bad.code })?;
        let told = format!("{}{}", run.stdout, run.stderr);
        for part in bad.says.iter().chain(&[bad.file]) {
            // A report breaks no line that an error would; what it leaves out is how to merge.
            let there = told.contains(part) || part.starts_with("--");
            ensure!(there, "inspect lacks {part:?}\n{}", run.told());
        }
        if !run.stderr.is_empty() {
            is_one_error(&run, bad.file)?;
        }
        self.is_clean()
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
