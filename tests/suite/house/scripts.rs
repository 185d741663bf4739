//! The scripts: that they can be read and run, that the way in is the one that the README shows, and
//! that the choice of a toolchain is right on machines that this one is not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Env, Outcome, Trial};

/// The scripts that people run; toolchain.sh is sourced by them.
const TO_RUN: [&str; 4] = [
    ".ci/run",
    "scripts/demo.sh",
    "scripts/test.sh",
    "scripts/toolchain-test.sh",
];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let bash = match Command::new("bash").args(["-c", "true"]).status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err("there is no bash".to_owned()),
    };
    vec![
        Trial::needs("house/scripts_parse", &bash, |()| parse(env)),
        Trial::new("house/scripts_way_in", || way_in(env)),
        Trial::needs("house/toolchain", &bash, |()| {
            let output = Command::new("bash")
                .arg(env.root.join("scripts/toolchain-test.sh"))
                .output()?;
            let (out, err) = (
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            );
            ensure!(output.status.success(), "{out}{err}");
            // It says how much it looked at; silence would pass for success.
            let passed = out
                .split_once("toolchain-test: ")
                .and_then(|(_, rest)| rest.split(' ').next());
            let passed: usize = passed.unwrap_or("0").parse()?;
            ensure!(passed >= 30, "only {passed} checks: {out}");
            Ok(())
        }),
    ]
}

fn parse(env: &Env) -> Outcome {
    let mut scripts: Vec<_> = TO_RUN.iter().map(|script| env.root.join(script)).collect();
    for entry in std::fs::read_dir(env.root.join("scripts"))? {
        scripts.push(entry?.path());
    }
    scripts.sort();
    scripts.dedup();
    let mut looked_at = 0;
    for script in scripts.iter().filter(|script| is_bash(script)) {
        looked_at += 1;
        let output = Command::new("bash").arg("-n").arg(script).output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    ensure!(
        looked_at > TO_RUN.len(),
        "looked at {looked_at} scripts only"
    );
    for script in TO_RUN {
        let mode = std::fs::metadata(env.root.join(script))?
            .permissions()
            .mode();
        ensure!(mode & 0o111 != 0, "{script} is not executable");
    }
    Ok(())
}

fn is_bash(path: &Path) -> bool {
    path.is_file() && path.extension().is_none_or(|ext| ext == "sh")
}

fn way_in(env: &Env) -> Outcome {
    let read = |path: &str| -> Outcome<String> {
        std::fs::read_to_string(env.root.join(path)).map_err(|e| format!("{path}: {e}").into())
    };
    let runs = read(".ci/run")?
        .lines()
        .any(|line| !line.starts_with('#') && line.contains("scripts/test.sh"));
    ensure!(runs, ".ci/run does not call scripts/test.sh");
    let readme = read("README.md")?;
    for script in ["scripts/test.sh", "scripts/demo.sh"] {
        ensure!(readme.contains(script), "README.md does not show {script}");
    }
    let test = read("scripts/test.sh")?;
    for step in [
        "cargo fmt --check",
        "clippy",
        "--all-targets -- -D warnings",
        "--test bench -- -D warnings",
        "--lib",
        "--test suite",
        "--doc",
    ] {
        ensure!(test.contains(step), "scripts/test.sh does not run {step}");
    }
    Ok(())
}
