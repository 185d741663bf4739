//! Outputs of a run: a JSON file, an HTML page, the metrics in a file or a Pushgateway, and notifications.
//!
//! Invariants: each is tried whatever became of the others; what could not be written or told is in
//! the exit code.

use std::path::Path;

use super::history::{report_name, reported};
use super::plan::{Plan, ReportPlan};
use super::report::{RunOutcome, RunReport};
use super::{metrics, notify};
use crate::base::durable;
use crate::base::error::{Error, Result};

/// Writes the report, with the HTML page `page`, and notifies.
pub fn write(plan: &Plan, report: &mut RunReport, page: Result<String>) {
    // The page comes first: one that could not be written is to be seen in the metrics.
    if let Some(folder) = &plan.report.folder
        && let Err(err) = page.and_then(|page| files(folder, &plan.report, report, &page))
    {
        report.failed("report", &err);
    }
    if let Some(path) = &plan.report.prometheus
        && let Err(err) = metrics::write(path, report)
    {
        report.failed("metrics", &err);
    }
    if let Some(gateway) = &plan.report.pushgateway
        && let Err(err) = metrics::push(gateway, report)
    {
        report.failed("pushgateway", &err);
    }
    let notify = match report.run_outcome {
        RunOutcome::Done => &plan.on_success,
        RunOutcome::Differs | RunOutcome::Failed => &plan.on_failure,
    };
    if let Some(notify) = notify {
        for err in notify::tell(notify, report) {
            report.failed("notify", &err);
        }
    }
}

/// Writes the night's files into `folder`, and removes those of runs that are too many.
fn files(folder: &Path, kept: &ReportPlan, report: &RunReport, page: &str) -> Result<()> {
    durable::make_folder(folder)?;
    let failed = |err: serde_json::Error| Error::failed("writing the report", err);
    let mut json = serde_json::to_vec_pretty(report).map_err(failed)?;
    json.push(b'\n');
    let base = report_name(&report.plan, &report.id);
    durable::write(&folder.join(format!("{base}.json")), &json, true)?;
    durable::write(&folder.join(format!("{base}.html")), page.as_bytes(), true)?;
    let ids = reported(folder, &report.plan)?;
    let old = ids.len().saturating_sub(kept.keep as usize);
    for id in ids.iter().take(old) {
        for ending in ["json", "html"] {
            let base = report_name(&report.plan, id);
            durable::remove(&folder.join(format!("{base}.{ending}")))?;
        }
    }
    Ok(())
}
