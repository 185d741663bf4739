//! Check that the inspected snapshots can be merged, before any byte moves.
//!
//! Invariants: every snapshot that can be looked into is compared, the ones that cannot be read
//! whole included, so that all that is in the way is told at once.

use super::{MergeReport, SnapshotReport, Verdict};
use crate::format::schema::{Finding, Severity, SourceValue, compare};
use crate::source::Source;

impl MergeReport {
    /// Compares `sources`, which are those of `reports` that could be opened.
    pub fn new(sources: &[Source], reports: &[SnapshotReport]) -> Self {
        let compared: Vec<_> = sources
            .iter()
            .map(|source| (source.name.clone(), &source.config, &source.payload))
            .collect();
        let mut findings = same_files(sources);
        findings.extend(compare(&compared));
        findings.sort_by_key(|finding| finding.severity);
        let with = |verdict| {
            reports
                .iter()
                .filter(|report| report.verdict == verdict)
                .count() as u64
        };
        let blocking_count = findings
            .iter()
            .filter(|finding| finding.severity == Severity::Blocks)
            .count() as u64;
        let (unreadable_count, incomplete_count) =
            (with(Verdict::Unreadable), with(Verdict::Incomplete));
        Self {
            possible: unreadable_count + incomplete_count + blocking_count == 0,
            unreadable_count,
            incomplete_count,
            blocking_count,
            findings,
        }
    }
}

/// A finding for each file that was given more than once, under whatever names, and for each two
/// files that are known to hold the same bytes.
fn same_files(sources: &[Source]) -> Vec<Finding> {
    let files: Vec<_> = sources
        .iter()
        .map(|source| source.snapshot.file.identity().ok())
        .collect();
    let contents: Vec<_> = sources
        .iter()
        .map(|source| source.snapshot.hashes.as_ref().map(|h| &h.content))
        .collect();
    let mut findings = Vec::new();
    for group in groups(&files) {
        findings.push(Finding {
            severity: Severity::Blocks,
            about: "the same snapshot is given more than once".into(),
            values: values(sources, &group),
            meaning: "a merge with itself is no merge: give each snapshot once".into(),
        });
    }
    for group in groups(&contents) {
        let first = group.first().and_then(|at| files.get(*at));
        if group.iter().all(|at| files.get(*at) == first) {
            continue;
        }
        findings.push(Finding {
            severity: Severity::Differs,
            about: "copies of one snapshot are given".into(),
            values: values(sources, &group),
            meaning: "every point of it is a conflict with itself".into(),
        });
    }
    findings
}

fn values(sources: &[Source], group: &[usize]) -> Vec<SourceValue> {
    group
        .iter()
        .filter_map(|at| sources.get(*at))
        .map(|source| SourceValue {
            source: source.name.clone(),
            value: source.snapshot.what(),
        })
        .collect()
}

/// The positions of equal keys, where there is more than one; unknown keys equal none.
fn groups<K: PartialEq>(keys: &[Option<K>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        if key.is_none() {
            continue;
        }
        let known = groups
            .iter_mut()
            .find(|group| group.first().and_then(|first| keys.get(*first)) == Some(key));
        match known {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_are_grouped_and_unknown_ones_are_not() {
        assert_eq!(groups::<u8>(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(
            groups(&[
                Some(1),
                None,
                Some(2),
                Some(1),
                None,
                Some(2),
                Some(1),
                Some(3)
            ]),
            [vec![0, 3, 6], vec![2, 5]]
        );
    }
}
