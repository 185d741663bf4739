//! Notifications of a run's outcome: a command that reads the report, or a webhook that receives it.
//!
//! Invariants: whoever could not be told is named, without the address, which may be a secret; a
//! command that does not end is stopped; asked to stop twice, nobody is waited for.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::plan::NotifyPlan;
use super::report::{RunOutcome, RunReport};
use crate::base::error::{Error, Result};
use crate::base::stop;
use crate::server;

/// Longest time that a command may run.
const COMMAND: Duration = Duration::from_secs(120);
/// Interval between checks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Sends the report to everything that `telling` names; returns what failed.
pub fn tell(telling: &NotifyPlan, report: &RunReport) -> Vec<Error> {
    let json = match serde_json::to_vec(report) {
        Ok(json) => json,
        Err(err) => return vec![Error::failed("writing the report", err)],
    };
    let mut failed = Vec::new();
    if let Some((program, args)) = telling.command.split_first() {
        failed.extend(command(program, args, report, &json).err());
    }
    if let Some(address) = &telling.webhook {
        let shown = match url::Url::parse(address)
            .ok()
            .as_ref()
            .and_then(url::Url::host_str)
        {
            Some(host) => format!("the webhook at {host}"),
            None => "the webhook".to_owned(),
        };
        failed.extend(server::post(address, &shown, &json).err());
    }
    failed
}

fn command(program: &str, args: &[String], report: &RunReport, json: &[u8]) -> Result<()> {
    let doing = format!("telling {program}");
    let failed = |err: std::io::Error| {
        Error::failed(doing.as_str(), err).next("see that the command of [notify] is right")
    };
    let outcome = match report.run_outcome {
        RunOutcome::Done => "done",
        RunOutcome::Differs => "differs",
        RunOutcome::Failed => "failed",
    };
    let mut child = Command::new(program)
        .args(args)
        .env("SNAPMERGE_PLAN", &report.plan)
        .env("SNAPMERGE_OUTCOME", outcome)
        .env(
            "SNAPMERGE_EXIT_CODE",
            report.envelope.outcome.exit_code().to_string(),
        )
        .stdin(Stdio::piped())
        // The command's output is not part of the report.
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let json = json.to_vec();
    // A command that does not read it stops the writing by its end.
    std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&json)));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if started.elapsed() > COMMAND {
            child.kill().map_err(failed)?;
            child.wait().map_err(failed)?;
            return Err(failed(std::io::Error::other(format!(
                "it had not ended after {} s",
                COMMAND.as_secs()
            ))));
        }
        if stop::times() >= stop::PUTTING_AWAY {
            child.kill().map_err(failed)?;
            child.wait().map_err(failed)?;
            return Err(stop::cancelled(&doing));
        }
        std::thread::sleep(LOOK_EVERY);
    };
    match status.success() {
        true => Ok(()),
        false => Err(failed(std::io::Error::other(format!(
            "it ended with {status}"
        )))),
    }
}
