//! `snapmerge report`: JSON reports of other commands as one HTML page.
//!
//! Invariants: the page is whole or absent; what is no report is refused.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::Ended;
use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::nightly::RunHistory;
use crate::report::html::{Section, page};

/// Largest report that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Arguments of `report`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge report verify.json -o report.html
  snapmerge report verify.json merge.json -o report.html --force
  snapmerge report reports/nightly_20261122_030000.json -o night.html

The files are what verify, merge, diff and run print with --json. The page is one file without any
reference to another, for light and dark screens, keyboards, screen readers and paper. The page of a
run shows the runs before it, if their reports are in the same folder.")]
pub struct ReportArgs {
    /// JSON reports of verify, merge, diff or run; the first one's verdict stands first
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// The page to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace the page if it exists
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
pub fn run(args: &ReportArgs) -> Result<Ended> {
    let mut sections = Vec::new();
    for path in &args.reports {
        let failed = |err: &std::io::Error| Error::io("reading report", path, err);
        let meta = std::fs::metadata(path).map_err(|err| failed(&err))?;
        let refuse = |why: String| {
            Error::usage(format!("reading {}", path.display()), why)
                .next("give what snapmerge verify, merge, diff or run printed with --json")
        };
        if meta.len() > FILE_BYTES_MAX {
            return Err(refuse(format!("it is {} bytes long", meta.len())));
        }
        let bytes = std::fs::read(path).map_err(|err| failed(&err))?;
        let report: Value = serde_json::from_slice(&bytes)
            .map_err(|err| refuse(format!("it is not one JSON value: {err}")))?;
        let mut section = Section::read(report, &path.display().to_string())?;
        if let Section::Run(report, history) = &mut section {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            let past = RunHistory::read(folder, &report.plan, &report.id);
            report.notes.extend(past.note());
            *history = Some(past);
        }
        sections.push(section);
    }
    let page = page(&sections)?;
    durable::write(&args.output, page.as_bytes(), args.force)?;
    Ok(None)
}
