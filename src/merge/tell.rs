//! Parts of a report that masters of both kinds have.

use super::plan::Plan;
use super::report::{ConflictReport, SourceReport};
use super::settings::Settings;
use crate::base::error::{Error, Result};
use crate::engine::take_warnings;
use crate::source::{Checksum, Source};
use crate::stream::{Changed, Ledger, Tally};

/// The conflicts that `ledger` has.
pub fn conflicts(settings: &Settings, ledger: &Ledger) -> ConflictReport {
    ConflictReport {
        policy: settings.union.on_conflict.to_string(),
        count: ledger.count(),
        lacking: ledger.lacking(),
        first: ledger.first().to_vec(),
        ledger: ledger.path().map(|path| path.display().to_string()),
    }
}

/// Returns the report of each source.
pub fn source_reports(sources: &[Source], tallies: &[Tally]) -> Vec<SourceReport> {
    let report = |(source, tally): (&Source, &Tally)| SourceReport {
        name: source.name.clone(),
        file: source.snapshot.what(),
        file_bytes: source.snapshot.file_bytes,
        checksum: source.checksum.words(),
        verified: matches!(source.checksum, Checksum::Verified { .. }),
        read: tally.read,
        won: tally.won,
        remapped: tally.remapped,
        lost: tally.lost,
        filtered: tally.filtered,
    };
    sources.iter().zip(tallies).map(report).collect()
}

/// Returns the parts that the sources lacked when the merge was planned, and those of their logs
/// that were refused since.
pub fn missing(plan: &Plan, sources: &[Source]) -> Vec<String> {
    let refused = sources.iter().flat_map(|source| &source.refused);
    plan.missing.iter().chain(refused).cloned().collect()
}

/// The plan's notes, and those that came up since.
pub fn notes(plan: &Plan, changes: &Changed) -> Vec<String> {
    let mut notes = plan.notes.clone();
    if changes.restamped > 0 {
        notes.push(format!(
            "the stamp replaced another value of its field in {} points",
            changes.restamped
        ));
    }
    let of_nothing = changes.dropped.iter().filter(|(_, count)| *count == 0);
    notes.extend(of_nothing.map(|(field, _)| {
        format!("--drop-payload {field} left nothing out: no point has this field")
    }));
    notes.extend(take_warnings());
    notes
}

/// Every point that was read won, lost a conflict, or was filtered out.
pub fn refuse_untallied(sources: &[Source], tallies: &[Tally]) -> Result<()> {
    let wrong = sources
        .iter()
        .zip(tallies)
        .find(|(_, tally)| !tally.adds_up());
    let Some((source, tally)) = wrong else {
        return Ok(());
    };
    let Tally {
        read,
        filtered,
        lost,
        won,
        ..
    } = tally;
    Err(Error::failed(
        format!("accounting for the points of {}", source.name),
        format!("{read} were read, but {won} won, {lost} lost, {filtered} filtered"),
    )
    .next("this is a fault of snapmerge: please report it; nothing was written"))
}
