//! The rules of the house, as tests: layers, calls that have one place, what every file owes its
//! reader, and the scripts.
//!
//! Keeps true: a rule shows all its findings at once, each with its file, line and the way out; it
//! proves how much it looked at; and it is itself tried on planted faults.

mod calls;
mod files;
mod layers;
mod scripts;

use std::path::Path;

use crate::support::rust::{Token, tokens, without_tests};
use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    [
        layers::trials(env),
        calls::trials(env),
        files::trials(env),
        scripts::trials(env),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Fewer source files than this, and a rule did not see the house. The tree of DESIGN.md has more.
const SOURCES_MIN: usize = 20;

/// One file of src/.
pub struct Source {
    /// As it is written everywhere: `src/merge/plan.rs`.
    pub path: String,
    pub text: String,
    /// All of it.
    pub tokens: Vec<Token>,
    /// Without what is compiled for tests only; nothing at all where the whole file is.
    pub program: Vec<Token>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let tokens = tokens(text);
        let only_tests =
            path.ends_with("/tests.rs") || path.ends_with("_tests.rs") || path.contains("/tests/");
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            program: if only_tests {
                Vec::new()
            } else {
                without_tests(&tokens)
            },
            tokens,
        }
    }

    /// The folder or file of src/ that it belongs to (`merge`; `main` and `lib` are their own).
    pub fn module(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inner
            .split('/')
            .next()
            .unwrap_or(inner)
            .trim_end_matches(".rs")
    }
}

/// What a rule saw.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many files, calls or whatever the rule is about.
    pub looked_at: usize,
    pub found: Vec<String>,
}

impl Findings {
    /// A fault at a place, and what to do instead.
    pub fn add(&mut self, path: &str, line: usize, what: impl std::fmt::Display) {
        self.found.push(format!("{path}:{line}: {what}"));
    }

    /// The verdict: enough was looked at, and nothing was found.
    pub fn verdict(self, looked_at_min: usize) -> Outcome {
        ensure!(
            self.looked_at >= looked_at_min,
            "looked at {} only, of at least {looked_at_min}",
            self.looked_at
        );
        ensure!(
            self.found.is_empty(),
            "{} findings:\n  {}",
            self.found.len(),
            self.found.join("\n  ")
        );
        Ok(())
    }

    /// For the trial of a rule on planted faults: exactly these places, no other.
    pub fn ensure_places(&self, places: &[&str]) -> Outcome {
        let found: Vec<&str> = self
            .found
            .iter()
            .map(|f| f.split(": ").next().unwrap_or(f))
            .collect();
        ensure_eq!(found, places, "places found ({:#?})", self.found);
        Ok(())
    }
}

/// Every source file under src/, by path.
pub fn sources(env: &Env) -> Outcome<Vec<Source>> {
    rust_files(env, "src")?
        .iter()
        .map(|path| {
            Ok(Source::new(
                path,
                &std::fs::read_to_string(env.root.join(path))?,
            ))
        })
        .collect()
}

/// The `.rs` files under a folder of the checkout, by path from its root, sorted.
pub fn rust_files(env: &Env, folder: &str) -> Outcome<Vec<String>> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(env.root.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{folder}/{name}");
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if Path::new(&name).extension().is_some_and(|ext| ext == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
