//! `snapmerge export`: a snapshot's points as JSON lines, a table, or a folder of tables.

use clap::Args;

use super::{Ended, OutputArgs};
use crate::base::error::Result;
use crate::export::{ExportRequest, OnNan};
use crate::worker;

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = r#"Examples:
  snapmerge export album_master.snapshot > points.jsonl
  snapmerge export archive:album_2017@latest --archive backups --limit 10
  snapmerge export album_master.snapshot --ids 7,550e8400-e29b-41d4-a716-446655440000
  snapmerge export album_2017.snapshot --no-vectors --filter '{"must":[{"key":"year","match":{"value":2017}}]}' --limit 10
  snapmerge export album_2017.snapshot --on-nan skip > points.jsonl
  snapmerge export album_master.snapshot -o points.parquet --columns year,exif.taken
  snapmerge export album_master.snapshot --vdf -o album_vdf"#)]
pub struct ExportArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub request: ExportRequest,
}

/// Runs the command.
pub fn run(args: ExportArgs) -> Result<Ended> {
    let quiet = OutputArgs {
        json: false,
        quiet: true,
    };
    let report = worker::call(&args.request, &quiet.context(), None)?;
    for note in &report.notes {
        super::warn(note);
    }
    for what in &report.missing {
        super::warn(&format!("{}: {what}", report.file));
    }
    if !report.absent.is_empty() {
        let ids: Vec<String> = report.absent.iter().map(ToString::to_string).collect();
        super::warn(&format!("not in {}: {}", report.file, ids.join(", ")));
    }
    if report.not_finite.points > 0 {
        let became = match args.request.on_nan {
            OnNan::Null => "null stands for each",
            OnNan::Fail | OnNan::Skip => "they were left out",
        };
        let ids: Vec<String> = report
            .not_finite
            .ids
            .iter()
            .map(ToString::to_string)
            .collect();
        super::warn(&format!(
            "{} points of {} have NaN or infinite numbers in their vectors, which JSON cannot write; \
             {became}: {}{}",
            report.not_finite.points,
            report.file,
            ids.join(", "),
            if ids.len() as u64 == report.not_finite.points {
                ""
            } else {
                ", …"
            }
        ));
    }
    Ok(report.envelope.outcome.kind())
}
