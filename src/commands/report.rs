//! `snapmerge report`: what other commands told, as one HTML page.
//!
//! Keeps true: the page is whole or absent; what is no report is refused.

use serde_json::Value;

use super::Ended;
use super::args::ReportArgs;
use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::report::html::{Section, page};

/// Largest report that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Runs the command.
pub fn run(args: &ReportArgs) -> Result<Ended> {
    let mut sections = Vec::new();
    for path in &args.reports {
        let failed = |err: &std::io::Error| Error::io("reading report", path, err);
        let meta = std::fs::metadata(path).map_err(|err| failed(&err))?;
        let refuse = |why: String| {
            Error::usage(format!("reading {}", path.display()), why)
                .next("give what snapmerge verify, merge or diff printed with --json")
        };
        if meta.len() > FILE_BYTES_MAX {
            return Err(refuse(format!("it is {} bytes long", meta.len())));
        }
        let bytes = std::fs::read(path).map_err(|err| failed(&err))?;
        let report: Value = serde_json::from_slice(&bytes)
            .map_err(|err| refuse(format!("it is not one JSON value: {err}")))?;
        sections.push(Section::read(report, &path.display().to_string())?);
    }
    let page = page(&sections)?;
    durable::write(&args.output, page.as_bytes(), args.force)?;
    Ok(None)
}
