//! `snapmerge inspect`: looks into snapshots and tells what is there.
//!
//! Keeps true: nothing is unpacked or written; every snapshot is looked into, whatever is wrong with
//! another; the exit code is that of the worst of them.

use super::args::InspectArgs;
use super::fetched::fetch;
use super::{Ended, Given};
use crate::base::error::{Kind, Result};
use crate::inspect::{FORMAT, Inspection, MergeReport, SnapshotReport, Verdict};
use crate::source::{Opening, Source, tell_apart};

/// Runs the command.
pub fn run(args: &InspectArgs) -> Result<Ended> {
    let given = Given::new(&args.reading.checksums)?;
    given.all_used(args.snapshots.iter().map(AsRef::as_ref))?;
    let mut sources = Vec::new();
    let mut reports = Vec::new();
    // The position of each opened source's report.
    let mut places = Vec::new();
    let mut worst = None;
    let mut paths = args.snapshots.clone();
    let _fetched = fetch(&mut paths, &args.reading.from_archive, std::env::temp_dir)?;
    for path in &paths {
        let opening = Opening {
            hash_now: args.check,
            trackers: true,
            log: true,
            ..given.opening(path)
        };
        match Source::open(path, &opening, None) {
            Ok(mut source) => {
                places.push(reports.len());
                reports.push(SnapshotReport::of_source(&mut source));
                sources.push(source);
            }
            // A lone file that cannot be looked into is an error like any other command's.
            Err(err) if args.snapshots.len() == 1 && !args.json => return Err(err),
            Err(err) => {
                worst = worse(worst, err.kind());
                reports.push(SnapshotReport::of_error(path, &err));
            }
        }
    }
    tell_apart(&mut sources);
    for (source, place) in sources.iter().zip(places) {
        if let Some(report) = reports.get_mut(place) {
            report.name.clone_from(&source.name);
        }
    }
    let inspection = Inspection {
        format: FORMAT,
        merge: MergeReport::new(&sources, &reports),
        snapshots: reports,
    };
    if args.json {
        super::print_json(&inspection)?;
    } else {
        super::print(&inspection.text())?;
    }
    for snapshot in &inspection.snapshots {
        worst = match snapshot.verdict {
            // What could not be opened has its kind already.
            Verdict::Unreadable if snapshot.contents.is_some() => worse(worst, Kind::Damaged),
            Verdict::Incomplete => worse(worst, Kind::Differs),
            _ => worst,
        };
    }
    if inspection.merge.blocking_count > 0 {
        worst = worse(worst, Kind::Differs);
    }
    Ok(worst)
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
