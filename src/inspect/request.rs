//! Looking into snapshots as an operation.
//!
//! Invariants: nothing is unpacked, and nothing is written but ids that are too many for memory; every snapshot is looked into, whatever is wrong with
//! another; the outcome is that of the worst of them.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Inspection, MergeReport, SnapshotReport, Verdict};
use crate::base::error::{Kind, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::input::{InputOptions, Inputs};
use crate::source::{Opening, Source, tell_apart};

/// An inspection.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct InspectRequest {
    /// Snapshot files, plain or .gz, or archive:NAME@DATE; the newest entry of each name with
    /// archive:PATTERN; of the snapshot of a whole storage every collection, or those of FILE#PATTERN
    #[arg(required = true, value_name = "SNAPSHOT")]
    pub snapshots: Vec<PathBuf>,
    /// Read every byte and compare the SHA-256
    #[arg(long)]
    pub check: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub input: InputOptions,
}

impl Operation for InspectRequest {
    const NAME: &'static str = "inspect";
    type Report = Inspection;

    fn run(self, _: &Context) -> Result<Inspection> {
        let inputs = Inputs::find(&self.snapshots, &self.input)?;
        let mut sources = Vec::new();
        let mut reports = Vec::new();
        // The position of each opened source's report.
        let mut places = Vec::new();
        let mut worst = None;
        let mut lone_error = None;
        for file in inputs.files() {
            let opening = Opening {
                hash_now: self.check,
                trackers: true,
                log: true,
                ..inputs.opening(file)
            };
            let looked = Source::open(file, &opening, None).and_then(|mut source| {
                let report = SnapshotReport::of_source(&mut source)?;
                Ok((source, report))
            });
            match looked {
                Ok((source, report)) => {
                    places.push(reports.len());
                    reports.push(report);
                    sources.push(source);
                }
                Err(err) => {
                    worst = worse(worst, err.kind());
                    reports.push(SnapshotReport::of_error(file, &err));
                    lone_error = Some(err);
                }
            }
        }
        tell_apart(&mut sources);
        for (source, place) in sources.iter().zip(places) {
            if let Some(report) = reports.get_mut(place) {
                report.name.clone_from(&source.name);
            }
        }
        let merge = MergeReport::new(&sources, &reports);
        for snapshot in &reports {
            worst = match snapshot.verdict {
                // A snapshot that could not be opened has its kind already.
                Verdict::Unreadable if snapshot.contents.is_some() => worse(worst, Kind::Damaged),
                Verdict::Incomplete => worse(worst, Kind::Differs),
                _ => worst,
            };
        }
        if merge.blocking_count > 0 {
            worst = worse(worst, Kind::Differs);
        }
        Ok(Inspection {
            envelope: Envelope::new("inspect", 1, worst.map_or(Outcome::DONE, Outcome::from)),
            snapshots: reports,
            merge,
            lone_error: lone_error.filter(|_| inputs.files().len() == 1),
        })
    }
}

/// The one of two kinds that the exit code tells: damage before failures, failures before what
/// differs.
fn worse(known: Option<Kind>, other: Kind) -> Option<Kind> {
    let rank = |kind| match kind {
        Kind::Damaged => 2,
        Kind::Differs => 0,
        _ => 1,
    };
    match known {
        Some(known) if rank(known) >= rank(other) => Some(known),
        _ => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_outweighs_failure_and_failure_outweighs_difference() {
        let all = |kinds: &[Kind]| kinds.iter().fold(None, |known, kind| worse(known, *kind));
        for (kinds, want) in [
            (&[][..], None),
            (&[Kind::Differs], Some(Kind::Differs)),
            (&[Kind::Differs, Kind::Failed], Some(Kind::Failed)),
            (&[Kind::Usage, Kind::Failed], Some(Kind::Usage)),
            (
                &[Kind::Damaged, Kind::Failed, Kind::Differs],
                Some(Kind::Damaged),
            ),
            (&[Kind::Failed, Kind::Damaged], Some(Kind::Damaged)),
        ] {
            assert_eq!(all(kinds), want, "{kinds:?}");
        }
    }
}
