//! `schema`: what is written as JSON is what its schema says, held to it by a validator of others; and
//! progress as JSON lines.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use snapmerge::report::schema::SCHEMAS;

use crate::merge::{ALBUMS, Sources};
use crate::nightly::scripted::Stage;
use crate::server::run_with;
use crate::support::cli::{Cli, Run};
use crate::support::{Env, Outcome, Trial, names_in, program, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let validator = program(
        "check-jsonschema",
        "--version",
        "pip install check-jsonschema",
    );
    vec![
        Trial::new("schema/list", list),
        Trial::new("schema/progress", || progress(env)),
        Trial::needs("schema/offline", &validator, |bin| offline(env, bin)),
        Trial::needs("schema/server", &validator, |bin| server(env, bin)),
    ]
}

fn list() -> Outcome {
    let run = cli!["schema"].run()?.ok()?;
    for schema in &SCHEMAS {
        ensure!(
            run.stdout.contains(schema.found),
            "{} is missing",
            schema.name
        );
        let shown = cli!["schema", schema.name].run()?.ok()?.json()?;
        ensure_eq!(shown, schema.json(), "schema {}", schema.name);
    }
    cli!["schema", "nothing"].run()?.code(2)?.says(&[
        "there is none of this name",
        "`snapmerge schema` lists them",
    ])?;
    Ok(())
}

/// Schemas, each in a file, and the validator.
struct Held {
    bin: PathBuf,
    dir: tempfile::TempDir,
}

impl Held {
    fn new(bin: PathBuf) -> Outcome<Self> {
        let dir = temp_dir()?;
        for schema in &SCHEMAS {
            let file = dir.path().join(format!("{}.schema.json", schema.name));
            std::fs::write(file, schema.json().to_string())?;
        }
        let held = Self { bin, dir };
        let schemas = names_in(held.dir.path())?;
        let files: Vec<PathBuf> = schemas
            .iter()
            .map(|name| held.dir.path().join(name))
            .collect();
        let metaschemas = Command::new(&held.bin)
            .arg("--check-metaschema")
            .args(&files)
            .output()?;
        ensure!(
            metaschemas.status.success(),
            "not JSON Schema: {}",
            String::from_utf8_lossy(&metaschemas.stdout)
        );
        Ok(held)
    }

    /// The validator finds that `values` are what the schema `name` says, and that they are not once a
    /// required field is gone.
    fn ensure(&self, name: &str, values: &[Value]) -> Outcome {
        ensure!(!values.is_empty(), "{name}: there is nothing to look at");
        let mut spoilt = values.first().cloned().unwrap_or_default();
        let schema = self.dir.path().join(format!("{name}.schema.json"));
        let text: Value = serde_json::from_slice(&std::fs::read(&schema)?)?;
        let required = text["required"][0].as_str().unwrap_or("event").to_owned();
        let object = spoilt.as_object_mut().ok_or("not an object")?;
        ensure!(
            object.remove(&required).is_some(),
            "{name}: there is no {required}"
        );
        let mut files = Vec::new();
        for (number, value) in values.iter().chain([&spoilt]).enumerate() {
            let file = self.dir.path().join(format!("{name}.{number}.json"));
            std::fs::write(&file, value.to_string())?;
            files.push(file);
        }
        let run = |files: &[PathBuf]| {
            Command::new(&self.bin)
                .arg("--schemafile")
                .arg(&schema)
                .args(files)
                .output()
        };
        let (spoilt, right) = files.split_last().ok_or("no files")?;
        let output = run(right)?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{name}: {told}");
        let output = run(std::slice::from_ref(spoilt))?;
        ensure!(
            !output.status.success(),
            "{name}: passes without {required}"
        );
        Ok(())
    }

    /// The same for the report on standard output, whose `format` has the name of its schema.
    fn report(&self, run: &Run) -> Outcome<Value> {
        let report = run.json()?;
        let format = report["format"].as_str().ok_or("no format")?;
        let name = format
            .strip_prefix("snapmerge-")
            .and_then(|rest| rest.split_once('/'));
        let (name, _) = name.ok_or_else(|| format!("format {format}"))?;
        self.ensure(name, std::slice::from_ref(&report))?;
        Ok(report)
    }

    /// The same for each line of `file`.
    fn lines(&self, name: &str, file: &Path) -> Outcome {
        self.ensure(name, &json_lines(&std::fs::read_to_string(file)?)?)
    }
}

fn json_lines(text: &str) -> Outcome<Vec<Value>> {
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(|err| format!("{err}: {line}").into()))
        .collect()
}

/// Everything that is written without a server.
fn offline(env: &Env, bin: PathBuf) -> Outcome {
    let held = Held::new(bin)?;
    let sources = Sources::named(env, &ALBUMS)?;
    let dir = sources.dir();
    let call = |line: &str| -> Cli { run_with(dir, &line.split(' ').collect::<Vec<_>>()).dir(dir) };
    let merge = |more: &str| call(&format!("merge {more}")).args(&sources.files);
    held.report(&merge("--dry-run --json -o planned.snapshot").run()?.ok()?)?;
    let flags = "-q --json -o master.snapshot --on-conflict last --ledger conflicts.jsonl";
    held.report(&merge(flags).run()?.ok()?)?;
    held.lines("conflict", &dir.join("conflicts.jsonl"))?;
    let provenance = std::fs::read_to_string(dir.join("master.snapshot.provenance.json"))?;
    held.ensure("provenance", &[serde_json::from_str(&provenance)?])?;
    let told = merge("--progress json -o told.snapshot").run()?.ok()?;
    held.ensure("progress", &json_lines(&told.stderr)?)?;

    let verify = |flags: &str| call(&format!("verify -q --json {flags}")).args(&sources.files);
    held.report(
        &verify("master.snapshot --queries 5 --against")
            .run()?
            .ok()?,
    )?;
    let lacking = call(
        "verify -q --json --no-provenance master.snapshot --ledger differences.jsonl --against",
    )
    .args(sources.files.iter().take(1));
    held.report(&lacking.run()?.code(3)?)?;
    held.lines("difference", &dir.join("differences.jsonl"))?;
    let diff = "diff -q --json master.snapshot --ledger changes.jsonl --sync-plan plan.jsonl";
    held.report(
        &call(diff)
            .args(sources.files.iter().take(1))
            .run()?
            .code(3)?,
    )?;
    held.lines("change", &dir.join("changes.jsonl"))?;
    held.lines("sync-step", &dir.join("plan.jsonl"))?;
    held.report(&call("inspect --json").args(&sources.files).run()?.ok()?)?;

    for line in [
        "init --archive a",
        "add master.snapshot --name m --archive a",
        "ls --archive a",
        "show m@latest --archive a",
        "get m@latest -o got.snapshot --archive a",
        "check --archive a",
        "forget --keep-last 1 --archive a",
        "verify-chain --archive a",
        "unlock --archive a",
    ] {
        held.report(&call(&format!("archive {line} --json")).run()?.ok()?)?;
    }
    held.report(&call("archive copy --from a --to b --json").run()?.ok()?)?;
    Ok(())
}

/// Everything that is written beside a server, and the plan of a night.
fn server(env: &Env, bin: PathBuf) -> Outcome {
    let held = Held::new(bin)?;
    let stage = Stage::new(env, "")?;
    let (dir, url) = (stage.dir(), stage.scripted.url());
    let call = |line: &str| -> Cli { run_with(dir, &line.split(' ').collect::<Vec<_>>()).dir(dir) };
    held.report(
        &call(&format!(
            "capture {url} album_2017 --to snapshots -q --json"
        ))
        .run()?
        .ok()?,
    )?;
    let folder = dir.join("snapshots");
    let names = names_in(&folder)?;
    let manifest = names.iter().find(|name| name.ends_with(".manifest.json"));
    let manifest = std::fs::read(folder.join(manifest.ok_or("no manifest")?))?;
    held.ensure("manifest", &[serde_json::from_slice(&manifest)?])?;

    call("archive init --archive kept").run()?.ok()?;
    call(&format!("capture {url} album_* -q --archive kept"))
        .run()?
        .ok()?;
    let many = format!("restore archive:* --archive kept --to {url} --rename (.*)=old_$1 --json");
    held.report(&call(&format!("{many} --dry-run")).run()?.ok()?)?;

    let plan: toml::Table = std::fs::read_to_string(dir.join("nightly.toml"))?.parse()?;
    held.ensure("nightly", &[serde_json::to_value(plan)?])?;
    held.report(&call("run nightly.toml --dry-run --json").run()?.ok()?)?;
    let told = held.report(&call("run nightly.toml -q --json").run()?.ok()?)?;
    let master = told["master"]["collection"].as_str().ok_or("no master")?;

    let alias = "--alias now --allow not-green --allow missing-indexes --max-shrink 60% --json";
    held.report(
        &call(&format!("publish {url} {master} {alias}"))
            .run()?
            .ok()?,
    )?;
    held.report(
        &call(&format!("publish {url} album_2017 {alias}"))
            .run()?
            .ok()?,
    )?;
    held.report(
        &call(&format!("rollback {url} --alias now --json"))
            .run()?
            .ok()?,
    )?;
    Ok(())
}

/// Who drives the program reads standard error line by line.
fn progress(env: &Env) -> Outcome {
    let sources = Sources::named(env, &ALBUMS)?;
    let output = sources.path("master.snapshot");
    let merge = || {
        cli![
            "--progress",
            "json",
            "merge",
            "--route",
            "rebuild",
            "-o",
            &output
        ]
        .args(&sources.files)
    };
    let events = json_lines(&merge().run()?.ok()?.stderr)?;
    let stages = events.iter().filter(|event| event["event"] == "stage");
    let ended: Vec<&Value> = stages.filter(|event| event["ended"] == true).collect();
    ensure!(ended.len() > 1, "{events:?}");
    let whole = |event: &&&Value| event["unit"] == "points" && event["done"] == event["total"];
    ensure!(ended.iter().any(|event| whole(&event)), "{ended:?}");
    // The error is an event too, whichever process it comes from.
    let run = merge().run()?;
    let error = json_lines(&run.stderr)?.pop().ok_or("no event")?;
    ensure_eq!(error["event"], json!("error"), "the last event");
    ensure_eq!(
        error["exit_code"],
        json!(run.status.code()),
        "the exit code"
    );
    ensure!(
        error["next"].is_string() && error["why"].is_string(),
        "{error}"
    );
    Ok(())
}
