//! What every file owes its reader: a purpose, a size that can be read, and nothing of the machine
//! that it was written on.

use std::process::Command;

use crate::support::{Env, Outcome, Trial};

use super::{Findings, SOURCES_MIN, Source, rust_files, sources};

/// Longer, and a file is probably two things.
const LINES_MAX: usize = 500;

/// Files that are one thing all the same: path and reason.
const LONG_FOR_A_REASON: [(&str, &str); 0] = [];

/// Fewer text files than this, and `git ls-files` did not show the checkout.
const TEXTS_MIN: usize = 40;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    // Whatever is in the checkout and not ignored, committed or not yet.
    let listed = listed(env);
    vec![
        Trial::new("house/headers", || {
            headers(&sources(env)?).verdict(SOURCES_MIN)
        }),
        Trial::new("house/headers_sees_faults", || {
            let planted = [
                (
                    "src/a.rs",
                    "//! Reads what is there,\n//! and says so.\n\nfn a() {}",
                ),
                ("src/b.rs", "// Reads what is there, and says so.\n"),
                ("src/c.rs", "//! TODO\n"),
                (
                    "src/d.rs",
                    "fn a() {}\n//! Reads what is there, and says so.",
                ),
                ("src/e.rs", ""),
            ];
            let sources = planted.map(|(path, text)| Source::new(path, text));
            headers(&sources).ensure_places(&[
                "src/b.rs:1",
                "src/c.rs:1",
                "src/d.rs:1",
                "src/e.rs:1",
            ])
        }),
        Trial::new("house/sizes", || {
            let mut files = Vec::new();
            for path in [rust_files(env, "src")?, rust_files(env, "tests")?].concat() {
                let lines = std::fs::read_to_string(env.root.join(&path))?
                    .lines()
                    .count();
                files.push((path, lines));
            }
            sizes(&files).verdict(SOURCES_MIN)
        }),
        Trial::new("house/sizes_sees_faults", || {
            let files = [("src/a.rs", LINES_MAX), ("src/b.rs", LINES_MAX + 1)];
            sizes(&files.map(|(path, lines)| (path.to_owned(), lines)))
                .ensure_places(&["src/b.rs:501"])
        }),
        Trial::needs("house/machine_paths", &listed, |paths| {
            let mut texts = Vec::new();
            for path in paths {
                // Locks are cargo's; data is what a server said. Everything else is ours to read.
                if path == "Cargo.lock" || path.ends_with(".gz") || path.ends_with(".info.json") {
                    continue;
                }
                // A file deleted and not yet committed is listed still.
                if let Ok(bytes) = std::fs::read(env.root.join(&path)) {
                    texts.push((path, String::from_utf8_lossy(&bytes).into_owned()));
                }
            }
            machine_paths(&texts).verdict(TEXTS_MIN)
        }),
        Trial::new("house/machine_paths_sees_faults", || {
            let planted = [
                ("a.md", format!("see\n{}notes", MACHINE_FOLDERS[0])),
                ("b.rs", "src/workers/mod.rs and homework".to_owned()),
                ("c.sh", format!("cd {}me", MACHINE_FOLDERS[2])),
            ];
            let texts = planted.map(|(path, text)| (path.to_owned(), text));
            machine_paths(&texts).ensure_places(&["a.md:2", "c.sh:1"])
        }),
    ]
}

/// Every file opens with a paragraph that says what it is for.
fn headers(sources: &[Source]) -> Findings {
    let mut findings = Findings::default();
    for source in sources {
        findings.looked_at += 1;
        let opening: String = source
            .text
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .take_while(|line| !line.trim().is_empty())
            .collect();
        // Shorter than this is a label, and the path has that already.
        if opening.trim().len() < 20 {
            findings.add(
                &source.path,
                1,
                "does not open with a `//!` paragraph on its purpose and what it keeps true",
            );
        }
    }
    findings
}

fn sizes(files: &[(String, usize)]) -> Findings {
    let mut findings = Findings::default();
    for (path, lines) in files {
        findings.looked_at += 1;
        if *lines > LINES_MAX && !LONG_FOR_A_REASON.iter().any(|(long, _)| long == path) {
            findings.add(path, *lines, format!("over {LINES_MAX} lines: take it apart, or say in LONG_FOR_A_REASON why it is one thing"));
        }
    }
    for (path, _) in LONG_FOR_A_REASON {
        if !files
            .iter()
            .any(|(long, lines)| long == path && *lines > LINES_MAX)
        {
            findings.add(
                path,
                1,
                "is not that long any more: take it off LONG_FOR_A_REASON",
            );
        }
    }
    findings
}

/// Put together, so that this file is not a finding itself.
const MACHINE_FOLDERS: [&str; 3] = [
    concat!("/", "work", "/"),
    concat!("/", "root", "/"),
    concat!("/", "home", "/"),
];

fn machine_paths(texts: &[(String, String)]) -> Findings {
    let mut findings = Findings::default();
    for (path, text) in texts {
        findings.looked_at += 1;
        for (number, line) in text.lines().enumerate() {
            if let Some(folder) = MACHINE_FOLDERS.iter().find(|folder| line.contains(*folder)) {
                findings.add(path, number + 1, format!("{folder} is a path of one machine: write it from the checkout or from $HOME"));
            }
        }
    }
    findings
}

/// The files that git knows, or would if they were added.
fn listed(env: &Env) -> Result<Vec<String>, String> {
    let list = || -> Outcome<Vec<String>> {
        let output = Command::new("git")
            .args([
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                "-z",
            ])
            .current_dir(&env.root)
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let names = String::from_utf8(output.stdout)?;
        Ok(names.split_terminator('\0').map(str::to_owned).collect())
    };
    list().map_err(|why| {
        format!(
            "git does not list the checkout: {}",
            why.message().unwrap_or("?")
        )
    })
}
