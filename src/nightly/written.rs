//! How a night went, written where others look: a JSON file and an HTML page, the metrics, and a word
//! to whoever wants to be told.
//!
//! Keeps true: each is tried whatever became of the others; what could not be written or told is in
//! the exit code.

use std::path::Path;

use serde_json::Value;

use super::journal::is_night;
use super::plan::{Plan, Reporting};
use super::told::{Outcome, Told};
use super::{metrics, notify};
use crate::base::durable;
use crate::base::error::{Error, Kind, Result};
use crate::report::html::page;

/// Writes and tells how the night went; `others` are the reports of its merge and its verification.
pub fn write(plan: &Plan, told: &mut Told, others: Vec<Value>, code: &dyn Fn(Option<Kind>) -> u8) {
    // The page comes first: one that could not be written is to be seen in the metrics.
    if let Some(folder) = &plan.report.folder
        && let Err(err) = files(folder, &plan.report, told, others)
    {
        told.failed("report", &err);
    }
    if let Some(path) = &plan.report.prometheus
        && let Err(err) = metrics::write(path, told, code(told.kind))
    {
        told.failed("metrics", &err);
    }
    let telling = match told.outcome {
        Outcome::Done => &plan.on_success,
        Outcome::Differs | Outcome::Failed => &plan.on_failure,
    };
    if let Some(telling) = telling {
        for err in notify::tell(telling, told, code(told.kind)) {
            told.failed("notify", &err);
        }
    }
}

/// Writes the night's files into `folder`, and removes those of nights that are too many.
fn files(folder: &Path, reporting: &Reporting, told: &Told, others: Vec<Value>) -> Result<()> {
    durable::make_folder(folder)?;
    let failed = |err: serde_json::Error| Error::failed("writing the report", err);
    let mut json = serde_json::to_vec_pretty(told).map_err(failed)?;
    json.push(b'\n');
    let base = format!("{}_{}", told.plan, told.night);
    durable::write(&folder.join(format!("{base}.json")), &json, true)?;
    let mut reports = vec![serde_json::to_value(told).map_err(failed)?];
    reports.extend(others);
    let names = vec![base.clone(); reports.len()];
    let html = page(&reports, &names)?;
    durable::write(&folder.join(format!("{base}.html")), html.as_bytes(), true)?;
    let listed = |err: &std::io::Error| Error::io("listing", folder, err);
    let mut nights = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|err| listed(&err))? {
        let name = entry.map_err(|err| listed(&err))?.file_name();
        let name = name.to_string_lossy().into_owned();
        let night = name
            .strip_prefix(&format!("{}_", told.plan))
            .and_then(|rest| rest.strip_suffix(".json"));
        // What is called otherwise is none of ours.
        if night.is_some_and(is_night) {
            nights.push(name.trim_end_matches(".json").to_owned());
        }
    }
    nights.sort_unstable();
    let old = nights.len().saturating_sub(reporting.keep as usize);
    for base in nights.iter().take(old) {
        for ending in ["json", "html"] {
            durable::remove(&folder.join(format!("{base}.{ending}")))?;
        }
    }
    Ok(())
}
