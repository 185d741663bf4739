//! Plans: the one to start from, and those that are refused before anything is done.

use serde_json::json;

use super::{night, write_plan};
use crate::server::run_with;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(_env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("nightly/plan/init", init),
        Trial::new("nightly/plan/refused", refused),
        Trial::new("nightly/plan/server_is_not_there", not_there),
    ]
}

fn init() -> Outcome {
    let dir = temp_dir()?;
    let plan = run_with(dir.path(), &["init"]).run()?.ok()?.stdout;
    let file = dir.path().join("nightly.toml");
    // A port that nobody listens on: the plan is read, and then the server is not found.
    std::fs::write(&file, plan.replace("localhost:6333", "127.0.0.1:1"))?;
    let run = night(dir.path()).arg("--dry-run").run()?;
    ensure!(run.status.code() != Some(2), "refused: {}", run.told());
    let faults = run.json()?["faults"].to_string();
    ensure!(faults.contains("servers.prod"), "{faults}");
    let schema = run_with(dir.path(), &["schema", "nightly"])
        .run()?
        .ok()?
        .json()?;
    ensure_eq!(schema["properties"]["archive"].is_object(), true, "schema");
    ensure_eq!(schema["additionalProperties"], json!(false), "unknown keys");
    Ok(())
}

fn refused() -> Outcome {
    let dir = temp_dir()?;
    let more = "[limits]\nrate = \"fast\"\n[chekcs]\nverify = \"deep\"\n[notify.failure]\nwebhok = \"x\"\n";
    write_plan(dir.path(), "http://127.0.0.1:1", more)?;
    let run = night(dir.path()).run()?.code(2)?;
    let run = run.says(&[
        "chekcs: there is no such key; did you mean checks?",
        "notify.failure.webhok: there is no such key; did you mean webhook?",
        "2 faults",
        "next:",
    ])?;
    ensure!(run.stdout.is_empty(), "{}", run.told());
    // What is misspelt comes first; what it means after that.
    write_plan(
        dir.path(),
        "ftp://x",
        "[limits]\nrate = \"fast\"\n[checks]\nqueries = 0\n",
    )?;
    night(dir.path()).run()?.code(2)?.says(&[
        "3 faults",
        "servers.prod.url",
        "limits.rate",
        "checks.queries",
    ])?;
    ensure_eq!(names_in(dir.path())?, ["nightly.toml"], "what was made");
    Ok(())
}

fn not_there() -> Outcome {
    let dir = temp_dir()?;
    let told_to = dir.path().join("told.json");
    let more = format!(
        "[notify.failure]\ncommand = [\"sh\", \"-c\", \"cat > '{}'; echo $SNAPMERGE_EXIT_CODE >> '{}'\"]\n",
        told_to.display(),
        told_to.display()
    );
    write_plan(dir.path(), "http://127.0.0.1:1", &more)?;
    let run = night(dir.path()).run()?;
    let code = run.status.code().ok_or("no code")?;
    ensure!(code != 0 && code != 2, "{}", run.told());
    let told = run.json()?;
    ensure_eq!(told["run_outcome"], json!("failed"), "{told}");
    // Whoever is to be told was, with the same report and code.
    let text = std::fs::read_to_string(&told_to)?;
    ensure!(
        text.contains("snapmerge-run/2") && text.trim_end().ends_with(&code.to_string()),
        "{text}"
    );
    let metrics = std::fs::read_to_string(dir.path().join("snapmerge.prom"))?;
    ensure!(
        metrics.contains("snapmerge_run_success{plan=\"nightly\"} 0"),
        "{metrics}"
    );
    Ok(())
}
