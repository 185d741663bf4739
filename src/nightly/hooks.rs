//! Hooks: commands of the plan that are run before and after the work.
//!
//! Invariants: what `run_before` could not prepare is not worked on; once `run_before` was begun,
//! `run_after` is run, whatever became of the work, unless the process is killed.

use super::plan::HooksPlan;
use super::process::Command;
use super::report::{RunOutcome, RunReport};
use crate::base::error::Result;
use crate::base::stop;

/// Runs `run_before`.
pub(super) fn before(hooks: &HooksPlan, report: &RunReport) -> Result<()> {
    run("run_before", &hooks.run_before, stop::WORK, hooks, report)
}

/// Runs `run_failed`, if the work failed, and then `run_after`, if `run_before` was begun; what fails
/// is in the report.
pub(super) fn after(hooks: &HooksPlan, started: bool, report: &mut RunReport) {
    if report.run_outcome == RunOutcome::Failed {
        run_and_report("run_failed", &hooks.run_failed, hooks, report);
    }
    if started {
        run_and_report("run_after", &hooks.run_after, hooks, report);
    }
}

fn run_and_report(name: &str, command: &[String], hooks: &HooksPlan, report: &mut RunReport) {
    if let Err(err) = run(name, command, stop::PUTTING_AWAY, hooks, report) {
        report.failed(name, &err);
    }
}

fn run(
    name: &str,
    command: &[String],
    stopped_by: u32,
    hooks: &HooksPlan,
    report: &RunReport,
) -> Result<()> {
    let Some((program, args)) = command.split_first() else {
        return Ok(());
    };
    tracing::info!(hook = name, program, "started");
    let command = Command {
        doing: format!("running {program} ({name})"),
        from: "hooks",
        limit: hooks.timeout,
        stopped_by,
    };
    command.run(program, args, report, None)
}
