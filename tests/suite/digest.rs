//! Digests: the same points have the same ones, whatever they lie in, and a script in another language
//! computes them from `export`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::merge::{ALBUMS, Sources};
use crate::support::{Env, Outcome, Trial, temp_dir};

/// The script may have this many lines.
const SCRIPT_LINES_MAX: usize = 60;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let python = python();
    let mut trials = Vec::new();
    for case in env
        .sets
        .iter()
        .filter_map(|set| set.cases.as_ref().ok())
        .take(1)
        .flatten()
    {
        let case = case.clone();
        trials.push(Trial::needs(
            format!("digest/python/{}", case.name),
            &python,
            move |()| {
                let dir = temp_dir()?;
                let file = case.unpack(dir.path())?;
                let points = &digests(&file, &[&file])?;
                ensure_eq!(
                    by_python(env, &file)?,
                    told(points)?,
                    "what the script computes"
                );
                Ok(())
            },
        ));
    }
    trials.push(Trial::needs("digest/python_vectors", &python, |()| {
        python_vectors(env)
    }));
    trials.push(Trial::new("digest/routes", || routes(env)));
    trials
}

/// Whether Python is there.
fn python() -> Result<(), String> {
    let version = Command::new("python3")
        .args(["-c", "import json, struct, uuid, decimal"])
        .output();
    match version {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "python3 failed: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(why) => Err(format!("there is no python3 ({why})")),
    }
}

/// What `verify` computes of the points of `master`, which was made of `sources`.
fn digests(master: &Path, sources: &[&Path]) -> Outcome<Value> {
    let run = cli!["verify", master, "--json", "--deep", "--against"]
        .args(sources)
        .run()?;
    let report = run.json()?;
    Ok(report["points"].clone())
}

/// The lines that the script prints for these digests.
fn told(points: &Value) -> Outcome<Vec<String>> {
    let digest = &points["digest"];
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or("no digest");
    let mut lines = vec![text(&digest["points"])?, text(&points["stream_digest"])?];
    let count = points["found"].as_u64().ok_or("no points")?;
    if count > 0 {
        lines.push(format!("payload {}", text(&digest["payload"])?));
    }
    for (name, sum) in digest["vectors"].as_object().into_iter().flatten() {
        lines.push(format!(
            "vector {} {}",
            Value::from(name.as_str()),
            text(sum)?
        ));
    }
    Ok(lines)
}

fn by_python(env: &Env, snapshot: &Path) -> Outcome<Vec<String>> {
    let exported = cli!["export", snapshot].run()?.ok()?;
    run_script(env, &[], &exported.stdout)
}

fn run_script(env: &Env, args: &[&str], lines: &str) -> Outcome<Vec<String>> {
    let mut child = Command::new("python3")
        .arg(env.root.join("scripts/digest.py"))
        .args(args)
        // Nothing is to be left in the checkout.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or("stdin is piped")?;
    let lines = lines.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output()?;
    writer.join().map_err(|_| "the writer panicked")??;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "scripts/digest.py: {told}");
    Ok(String::from_utf8(output.stdout)?
        .lines()
        .map(str::to_owned)
        .collect())
}

/// The script gives the specification's own test vectors, and is as short as it is told to be.
fn python_vectors(env: &Env) -> Outcome {
    let specification = std::fs::read_to_string(env.root.join("src/point/DIGEST.md"))?;
    let block = |kind: &str| -> Outcome<String> {
        let start = format!("```{kind}\n");
        let (_, rest) = specification.split_once(&start).ok_or("no such block")?;
        Ok(rest.split("```").next().unwrap_or_default().to_owned())
    };
    let points = block("jsonl")?;
    ensure_eq!(points.lines().count(), 10, "test vectors");
    let want: Vec<String> = block("text")?.lines().map(str::to_owned).collect();
    ensure_eq!(run_script(env, &["--records"], &points)?, want, "digests");
    let script = std::fs::read_to_string(env.root.join("scripts/digest.py"))?;
    let lines = script.lines().count();
    ensure!(
        lines <= SCRIPT_LINES_MAX,
        "scripts/digest.py has {lines} lines"
    );
    Ok(())
}

/// The same merge by every route, and into other numbers of shards, has the same points, and so the same
/// digests; and the digest that `rebuild` writes down is that of what can be read.
fn routes(env: &Env) -> Outcome {
    let sources = Sources::named(env, &ALBUMS)?;
    let files: Vec<&Path> = sources.files.iter().map(|file| file.as_path()).collect();
    let mut seen = Vec::new();
    for flags in [
        vec!["--route", "graft"],
        vec!["--route", "graft", "--segments", "auto"],
        vec!["--route", "rebuild"],
        vec!["--route", "rebuild", "--shards", "3"],
        vec!["--route", "rebuild", "--indexing-threshold", "0"],
    ] {
        let master = sources.merge(&flags)?;
        let points = digests(&master.path, &files)?;
        ensure_eq!(points["differing"], 0, "differences with {flags:?}");
        if flags[1] == "rebuild" {
            ensure_eq!(
                master.report["master"]["digest_parts"],
                points["digest"],
                "what merge and verify say with {flags:?}"
            );
        }
        seen.push(told(&points)?);
    }
    ensure!(
        seen.iter().all(|digests| *digests == seen[0]),
        "the same points have the digests {seen:?}"
    );
    Ok(())
}
