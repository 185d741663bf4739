//! Calls that have one place, with what to use elsewhere: publishing files, printing, ending the process.

use crate::support::rust::paths;
use crate::support::{Env, Outcome, Trial};

use super::{Findings, SOURCES_MIN, Source, sources};

/// How a call is written.
enum Call {
    /// `fs::rename`, also as `use std::fs::{rename}`: the path ends so.
    Path(&'static [&'static str]),
    /// `.sync_all(`
    Method(&'static str),
    /// `println!`
    Macro(&'static str),
}

/// A call that only some places may make.
struct Rule {
    calls: &'static [Call],
    /// Beginnings of paths: files, or folders with a slash.
    allowed: &'static [&'static str],
    instead: &'static str,
}

const RULES: [Rule; 6] = [
    Rule {
        calls: &[
            Call::Path(&["fs", "rename"]),
            Call::Path(&["fs", "hard_link"]),
            Call::Method("persist"),
            Call::Method("persist_noclobber"),
            Call::Method("sync_all"),
            Call::Method("sync_data"),
        ],
        // Scratch moves folders that nobody else sees.
        allowed: &[
            "src/base/durable.rs",
            "src/base/durable/",
            "src/base/scratch.rs",
        ],
        instead: "publish through crate::base::durable, the one place that writes, syncs, renames and syncs the folder",
    },
    Rule {
        calls: &[
            Call::Path(&["File", "create"]),
            Call::Path(&["File", "create_new"]),
            Call::Path(&["File", "options"]),
            Call::Path(&["fs", "write"]),
            Call::Path(&["fs", "copy"]),
            Call::Path(&["fs", "OpenOptions"]),
            Call::Path(&["OpenOptions", "new"]),
        ],
        allowed: WRITES_SCRATCH,
        instead: "open what is written through crate::base::durable; only scratch, which nobody keeps, is written elsewhere (WRITES_SCRATCH)",
    },
    Rule {
        calls: &[
            Call::Macro("println"),
            Call::Macro("print"),
            Call::Macro("eprintln"),
            Call::Macro("eprint"),
        ],
        allowed: &["src/main.rs"],
        instead: "return it, and let crate::report show it",
    },
    Rule {
        calls: &[
            Call::Path(&["process", "exit"]),
            Call::Path(&["process", "abort"]),
        ],
        allowed: &[],
        instead: "return a crate::error::Error: its kind has the exit code, and what was begun gets cleaned up",
    },
    Rule {
        calls: &[
            Call::Macro("todo"),
            Call::Macro("unimplemented"),
            Call::Macro("dbg"),
        ],
        allowed: &[],
        instead: "finish it, or return a crate::error::Error that says what is not supported and what to do",
    },
    Rule {
        calls: &[
            Call::Path(&["env", "set_var"]),
            Call::Path(&["env", "remove_var"]),
        ],
        allowed: &[],
        instead: "hand the setting in: the environment is shared by all threads, the engine's too",
    },
];

/// Files that write scratch: what they make is read back by this very run and then removed, so it
/// needs neither sync nor rename.
const WRITES_SCRATCH: &[&str] = &[
    "src/base/durable.rs",
    "src/base/durable/",
    // What durable and scratch open files with.
    "src/base/own.rs",
    // The lock in each scratch folder, and the probe of what the disk takes.
    "src/base/scratch.rs",
    // A snapshot's members.
    "src/format/unpack.rs",
    // The segment.json of an unpacked segment that the engine is to open otherwise than it was.
    "src/engine/closed.rs",
    // The ids of such a segment, in another form.
    "src/format/ids/to_disk.rs",
    // The vectors of such a segment that lay in RocksDB.
    "src/format/storage/chunks.rs",
];

/// What Cargo.toml must ask of the compiler and of clippy; these are not checked a second time here.
const LINTS: [&str; 7] = [
    "missing_docs",
    "unsafe_code",
    "unwrap_used",
    "expect_used",
    "panic",
    "todo",
    "unimplemented",
];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("house/calls", || calls(&sources(env)?).verdict(SOURCES_MIN)),
        Trial::new("house/calls_allowed_for_a_reason", || {
            let sources = sources(env)?;
            let mut unused = Vec::new();
            for rule in &RULES {
                for place in rule.allowed {
                    let mut there = sources.iter().filter(|s| s.path.starts_with(place));
                    let needed =
                        there.any(|s| rule.calls.iter().any(|call| !uses(s, call).is_empty()));
                    if !needed {
                        unused.push(format!("{place} for \"{}\"", rule.instead));
                    }
                }
            }
            ensure!(
                unused.is_empty(),
                "allowed, but not made use of (take it off the list):\n  {}",
                unused.join("\n  ")
            );
            Ok(())
        }),
        Trial::new("house/calls_sees_faults", || {
            let planted = [
                (
                    "src/base/durable.rs",
                    "std::fs::rename(a, b); file.sync_all(); File::create(p)",
                ),
                (
                    "src/merge/plan.rs",
                    "use std::fs::{self, rename};\nfs::rename(a, b);\nf.sync_all()?;\nx.rename(\"y\")",
                ),
                (
                    "src/merge/write.rs",
                    "std::fs::write(p, b);\n#[cfg(test)] mod tests { fn f() { std::fs::write(p, b) } }",
                ),
                (
                    "src/report/text.rs",
                    "println!(\"a\");\nstd::process::exit(1)",
                ),
                (
                    "src/engine/open.rs",
                    "// println!\nlet s = \"println!\";\ndbg!(x);\nfn print() {}\nFile::create(p)",
                ),
                ("src/main.rs", "std::process::exit(2); eprintln!(); todo!()"),
                ("src/point/tests.rs", "println!(); std::fs::write(p, b)"),
            ];
            let sources = planted.map(|(path, text)| Source::new(path, text));
            calls(&sources).ensure_places(&[
                "src/merge/plan.rs:1",
                "src/merge/plan.rs:2",
                "src/merge/plan.rs:3",
                "src/merge/write.rs:1",
                "src/report/text.rs:1",
                "src/report/text.rs:2",
                "src/engine/open.rs:5",
                "src/engine/open.rs:3",
                "src/main.rs:1",
                "src/main.rs:1",
            ])
        }),
        Trial::new("house/lints", || lints(env)),
    ]
}

fn calls(sources: &[Source]) -> Findings {
    let mut findings = Findings::default();
    for source in sources {
        findings.looked_at += 1;
        for rule in &RULES {
            if rule
                .allowed
                .iter()
                .any(|place| source.path.starts_with(place))
            {
                continue;
            }
            for call in rule.calls {
                for (line, shown) in uses(source, call) {
                    findings.add(&source.path, line, format!("{shown}: {}", rule.instead));
                }
            }
        }
    }
    findings
}

/// Where the program (not its tests) makes a call.
fn uses(source: &Source, call: &Call) -> Vec<(usize, String)> {
    let program = &source.program;
    let next_is = |i: usize, text: &str| program.get(i + 1).is_some_and(|t| t.text == text);
    let tokens = program.iter().enumerate();
    match call {
        Call::Path(end) => paths(program)
            .into_iter()
            .filter(|path| {
                path.parts
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .ends_with(end)
            })
            .map(|path| (path.line, path.parts.join("::")))
            .collect(),
        Call::Method(name) => tokens
            .filter(|(i, t)| {
                t.text == *name && *i > 0 && program[i - 1].text == "." && next_is(*i, "(")
            })
            .map(|(_, t)| (t.line, format!(".{name}()")))
            .collect(),
        Call::Macro(name) => tokens
            .filter(|(i, t)| t.text == *name && next_is(*i, "!"))
            .map(|(_, t)| (t.line, format!("{name}!")))
            .collect(),
    }
}

fn lints(env: &Env) -> Outcome {
    let manifest = std::fs::read_to_string(env.root.join("Cargo.toml"))?;
    let mut section = "";
    let mut asked = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section.starts_with("[lints.")
            && let Some((lint, level)) = line.split_once('=')
            && ["warn", "deny", "forbid"]
                .iter()
                .any(|strict| level.contains(strict))
        {
            asked.push(lint.trim());
        }
    }
    let missing: Vec<_> = LINTS.iter().filter(|lint| !asked.contains(lint)).collect();
    ensure!(
        missing.is_empty(),
        "Cargo.toml asks for {asked:?}, but not for {missing:?}"
    );
    Ok(())
}
