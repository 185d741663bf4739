//! The outputs of a run: report files, pages, metrics, hooks, notifications.

use std::path::Path;

use serde_json::{Value, json};

use super::scripted::Stage;
use crate::support::scripted::Fault;
use crate::support::{Env, Outcome, Trial, names_in};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("nightly/outputs/everything_and_no_secret", || told(env)),
        Trial::new("nightly/outputs/hooks", || hooks(env)),
        Trial::new("nightly/outputs/history", || history(env)),
        Trial::new("nightly/outputs/pushgateway", || pushgateway(env)),
    ]
}

/// Commands before and after the work, whatever becomes of it; what the first cannot prepare is not
/// worked on.
fn hooks(env: &Env) -> Outcome {
    let hook = |name: &str, code: u8| {
        let script = format!(
            "echo {name} $SNAPMERGE_PLAN $SNAPMERGE_OUTCOME $SNAPMERGE_EXIT_CODE >> hooks; \
             echo {name} was here; exit {code}"
        );
        format!("run_{name} = [\"sh\", \"-c\", \"{script}\"]\n")
    };
    let stage = Stage::new(env, "")?;
    let plan = stage.dir().join("nightly.toml");
    let text = std::fs::read_to_string(&plan)?;
    let said = stage.dir().join("hooks");
    let night = |codes: [u8; 3], code: i32| -> Outcome<(Value, String)> {
        // Nights are told apart by the second.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let [before, after, failed] = codes;
        let hooks = [
            hook("before", before),
            hook("after", after),
            hook("failed", failed),
        ];
        std::fs::write(&plan, format!("{text}[hooks]\n{}", hooks.concat()))?;
        let run = super::night(stage.dir())
            .dir(stage.dir())
            .run()?
            .code(code)?;
        ensure!(run.stderr.contains("after was here"), "{}", run.told());
        let lines = std::fs::read_to_string(&said)?;
        std::fs::remove_file(&said)?;
        Ok((run.json()?, lines))
    };
    let (told, lines) = night([0, 0, 0], 0)?;
    ensure_eq!(
        lines,
        "before nightly done 0\nafter nightly done 0\n",
        "hooks"
    );
    ensure_eq!(told["run_outcome"], json!("done"), "outcome");

    let (told, lines) = night([7, 0, 0], 1)?;
    ensure_eq!(
        lines,
        "before nightly done 0\nfailed nightly failed 1\nafter nightly failed 1\n",
        "hooks"
    );
    ensure_eq!(
        told["sources"],
        json!([]),
        "sources of a night that nobody prepared"
    );
    ensure_eq!(told["errors"][0]["step"], json!("run_before"), "the error");

    // The work was done, and yet the night failed.
    let (told, lines) = night([0, 7, 0], 1)?;
    ensure_eq!(
        lines,
        "before nightly done 0\nafter nightly done 0\n",
        "hooks"
    );
    ensure_eq!(told["errors"][0]["step"], json!("run_after"), "the error");
    ensure!(told["master"].is_object(), "{told}");

    // A server that refuses.
    stage.scripted.fake().key = Some("another".into());
    let (_, lines) = night([0, 0, 0], 12)?;
    ensure_eq!(
        lines,
        "before nightly done 0\nfailed nightly failed 12\nafter nightly failed 12\n",
        "hooks"
    );
    Ok(())
}

/// Report, page, metrics, log, and a word to whoever wants to be told; no secret in any of them.
fn told(env: &Env) -> Outcome {
    const KEY: &str = "s3cr3t-api-key";
    const HOOK: &str = "t0k3n-of-the-hook";
    let more =
        "[notify.success]\nwebhook_env = \"HOOK\"\n[notify.failure]\nwebhook_env = \"HOOK\"\n";
    let stage = Stage::new(env, more)?;
    stage.scripted.fake().key = Some(KEY.into());
    let plan = stage.dir().join("nightly.toml");
    let text = std::fs::read_to_string(&plan)?;
    std::fs::write(
        &plan,
        text.replace("timeout = 20", "timeout = 20\napi_key_env = \"KEY\""),
    )?;
    let hook = format!("{}/{HOOK}", stage.scripted.url());
    stage
        .scripted
        .fault("POST", HOOK, 1, Fault::Body(json!({})));
    let run = || {
        crate::server::run_with(stage.dir(), &["run", "--log-format=json"])
            .arg(&plan)
            .env("KEY", KEY)
            .env("HOOK", &hook)
    };
    let ended = run().run()?.ok()?;
    ensure!(
        ended.stdout.lines().count() < 40,
        "more than a screen: {}",
        ended.stdout
    );
    for part in [
        "DONE",
        "2000 points",
        "album_master points to it",
        "seconds",
    ] {
        ensure!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    let mut spans = 0;
    for line in ended.stderr.lines() {
        let line: Value = serde_json::from_str(line).map_err(|err| format!("{line}: {err}"))?;
        spans += usize::from(
            line["spans"]
                .as_array()
                .is_some_and(|spans| spans.len() == 2),
        );
    }
    ensure!(spans >= 5, "{spans} lines with spans: {}", ended.stderr);
    let seen = stage.scripted.seen();
    let posted = seen
        .iter()
        .find(|one| one.path.contains(HOOK))
        .ok_or("nobody was told")?;
    ensure!(
        !posted.headers.contains_key("api-key"),
        "the key went along"
    );
    let body: Value = serde_json::from_slice(&posted.body)?;
    ensure_eq!(body["format"], json!("snapmerge-run/2"), "what was posted");
    let reports = stage.dir().join("reports");
    let names = names_in(&reports)?;
    ensure_eq!(names.len(), 2, "{names:?}");
    let page = page(&reports.join(&names[0]))?;
    for part in ["DONE", "MERGED AND PROVEN", "album_2018"] {
        ensure!(page.contains(part), "the page lacks {part}");
    }
    let metrics = std::fs::read_to_string(stage.dir().join("snapmerge.prom"))?;
    for part in [
        "snapmerge_run_success{plan=\"nightly\"} 1",
        "snapmerge_master_points{plan=\"nightly\"} 2000",
        "snapmerge_last_proven_master_timestamp_seconds{plan=\"nightly\"} 1",
        "snapmerge_step_seconds{plan=\"nightly\",step=\"restore\"}",
    ] {
        ensure!(metrics.contains(part), "{part}: {metrics}");
    }
    let success = |text: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with("snapmerge_last_success"));
        line.map(str::to_owned)
    };

    let restore = "snapmerge_last_proven_restore_timestamp_seconds{plan=\"nightly\"} ";
    let proven = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(restore));
        line.and_then(|at| at.parse::<f64>().ok())
    };
    ensure_eq!(proven(&metrics), None, "a restore that nobody has proven");
    let archive = stage.dir().join("backups");
    let drilled = cli!["drill", "--json", "--archive", archive].run()?.ok()?;
    let at = drilled.json()?["proven_at"].clone();

    // A failure takes nothing away of that, and a hook that fails is seen in the exit code.
    stage.scripted.fake().key = Some("another".into());
    stage.scripted.fault("POST", HOOK, 9, Fault::Status(404));
    let failed = run().run()?;
    ensure!(failed.status.code() == Some(12), "{}", failed.told());
    ensure!(
        failed
            .stdout
            .contains("notify: telling the webhook at 127.0.0.1"),
        "{}",
        failed.stdout
    );
    let after = std::fs::read_to_string(stage.dir().join("snapmerge.prom"))?;
    ensure!(
        after.contains("snapmerge_run_success{plan=\"nightly\"} 0"),
        "{after}"
    );
    ensure_eq!(success(&after), success(&metrics), "the last success");
    ensure!(success(&after).is_some(), "no success: {after}");
    let at: chrono::DateTime<chrono::Utc> = serde_json::from_value(at)?;
    ensure_eq!(proven(&after), Some(at.timestamp() as f64), "the drill");

    for text in [
        &ended.stdout,
        &ended.stderr,
        &failed.stdout,
        &failed.stderr,
        &after,
    ] {
        ensure!(
            !text.contains(KEY) && !text.contains(HOOK),
            "a secret: {text}"
        );
    }
    let mut folders = vec![stage.dir().to_owned()];
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path)?;
            let has = |what: &str| {
                bytes
                    .windows(what.len())
                    .any(|some| some == what.as_bytes())
            };
            ensure!(!has(KEY) && !has(HOOK), "a secret in {}", path.display());
            looked_at += 1;
        }
    }
    ensure!(looked_at > 10, "looked at {looked_at} files");
    Ok(())
}

/// A Pushgateway gets what the file has, again after it failed for a moment; one that refuses is seen in the
/// exit code.
fn pushgateway(env: &Env) -> Outcome {
    const GROUP: &str = "/push/metrics/job/snapmerge/plan/nightly";
    let stage = Stage::new(env, "")?;
    let plan = stage.dir().join("nightly.toml");
    let text = std::fs::read_to_string(&plan)?;
    let gateway = format!("[report]\npushgateway = \"{}/push/\"", stage.scripted.url());
    std::fs::write(&plan, text.replace("[report]", &gateway))?;
    stage.scripted.fault("PUT", GROUP, 1, Fault::Status(503));
    stage
        .scripted
        .fault("PUT", GROUP, 1, Fault::Body(json!({})));
    stage.night(0)?;
    let seen = stage.scripted.seen();
    let pushed: Vec<_> = seen
        .iter()
        .filter(|one| one.path.contains("/push/"))
        .collect();
    ensure_eq!(pushed.len(), 2, "requests");
    for one in pushed {
        ensure_eq!(
            (one.method.as_str(), one.path.as_str()),
            ("PUT", GROUP),
            "where"
        );
        ensure!(!one.headers.contains_key("api-key"), "the key went along");
        let kind = one.headers.get("content-type").map(String::as_str);
        ensure_eq!(kind, Some("text/plain; version=0.0.4"), "the format");
        // The order of a family's lines is anybody's guess.
        let lines = |text: &str| -> std::collections::BTreeSet<String> {
            text.lines().map(str::to_owned).collect()
        };
        let file = std::fs::read_to_string(stage.dir().join("snapmerge.prom"))?;
        let body = String::from_utf8_lossy(&one.body);
        ensure!(lines(&body).len() > 20, "{body}");
        ensure_eq!(lines(&body), lines(&file), "what was pushed");
    }
    stage.scripted.fault("PUT", GROUP, 9, Fault::Status(400));
    let told = stage.night(1)?;
    let error = &told["errors"][0];
    ensure_eq!(error["step"], json!("pushgateway"), "{told}");
    let why = error["error"].to_string() + &error.to_string();
    ensure!(
        why.contains("status 400") && why.contains("the Pushgateway at 127.0.0.1"),
        "{why}"
    );
    Ok(())
}

/// A page as it is read: where a name may break is not seen.
fn page(path: &Path) -> Outcome<String> {
    Ok(std::fs::read_to_string(path)?.replace("<wbr>", ""))
}

/// The page of a night shows the nights before it, as far as their reports can be read.
fn history(env: &Env) -> Outcome {
    let stage = Stage::new(env, "")?;
    let reports = stage.dir().join("reports");
    let of = |told: &Value| -> Outcome<String> {
        let id = told["id"].as_str().ok_or("no id")?;
        page(&reports.join(format!("nightly_{id}.html")))
    };
    let told = stage.night(0)?;
    let first = of(&told)?;
    ensure!(first.contains("There is no earlier run"), "{first}");
    ensure!(!first.contains("History: the last"), "{first}");

    // A damaged report, one of another plan under a name of ours, a link, and a file that is none of ours.
    std::fs::write(reports.join("nightly_20260101_030000.json"), "{")?;
    let mut other = told.clone();
    other["plan"] = json!("weekly");
    other["id"] = json!("20260102_030000");
    let name = "nightly_20260102_030000.json";
    std::fs::write(reports.join(name), other.to_string())?;
    let link = reports.join("nightly_20260103_030000.json");
    std::os::unix::fs::symlink("/dev/zero", link)?;
    std::fs::write(reports.join("nightly_notes.json"), "mine")?;
    let told = stage.night(0)?;
    let note = |told: &Value| {
        let notes = told["notes"].as_array().into_iter().flatten();
        let mut notes = notes.filter_map(Value::as_str);
        notes
            .find(|note| note.contains("could not be read"))
            .map(str::to_owned)
    };
    let told_of = note(&told).ok_or("no note")?;
    ensure!(
        told_of.starts_with("3 of the reports") && told_of.contains("and 2 more"),
        "{told_of}"
    );
    let second = of(&told)?;
    for part in [
        "History: the last 2 runs",
        "Points of the master: 2,000, as before; lowest 2,000, highest 2,000",
        "Time of the run: ",
        "2 of 2 runs done",
        "3 of the reports",
    ] {
        ensure!(second.contains(part), "{part}: {second}");
    }
    ensure_eq!(second.matches("class=\"spark\"").count(), 4, "sparklines");

    // A night that fails has no master: a gap, and the verdict.
    for id in ["20260101_030000", "20260102_030000", "20260103_030000"] {
        std::fs::remove_file(reports.join(format!("nightly_{id}.json")))?;
    }
    stage.change(env)?;
    let made = "/collections/album_2018/snapshots";
    stage.scripted.fault("POST", made, 1, Fault::Status(500));
    let told = stage.night(12)?;
    ensure_eq!(note(&told), None, "a note");
    let third = of(&told)?;
    for part in [
        "FAILED",
        "History: the last 3 runs",
        "Points of the master: –, 2,000 before;",
        "2 of 3 runs done",
    ] {
        ensure!(third.contains(part), "{part}: {third}");
    }
    // The run that resumes it takes its place.
    let told = stage.night(0)?;
    ensure_eq!(told["resumed"], json!(true), "{told}");
    let last = of(&told)?;
    for part in [
        "History: the last 3 runs",
        "Points of the master: 1,990, 10 less than before;",
        "3 of 3 runs done",
    ] {
        ensure!(last.contains(part), "{part}: {last}");
    }
    Ok(())
}
