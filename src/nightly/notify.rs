//! Notifications of a run's outcome: a command that reads the report, or a webhook that receives it.
//!
//! Invariants: whoever could not be told is named, without the address, which may be a secret.

use std::time::Duration;

use super::plan::NotifyPlan;
use super::process::Command;
use super::report::RunReport;
use crate::base::error::Error;
use crate::base::stop;
use crate::server;

/// Longest time that a command may run.
const COMMAND: Duration = Duration::from_secs(120);

/// Sends the report to everything that `telling` names; returns what failed.
pub fn tell(telling: &NotifyPlan, report: &RunReport) -> Vec<Error> {
    let json = match serde_json::to_vec(report) {
        Ok(json) => json,
        Err(err) => return vec![Error::failed("writing the report", err)],
    };
    let mut failed = Vec::new();
    if let Some((program, args)) = telling.command.split_first() {
        let command = Command {
            doing: format!("telling {program}"),
            from: "notify",
            limit: COMMAND,
            stopped_by: stop::PUTTING_AWAY,
        };
        failed.extend(command.run(program, args, report, Some(json.clone())).err());
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
