//! The runs before this one, read from the JSON reports that they left in the plan's report folder.
//!
//! Invariants: only names that a run of this plan writes are looked at; what is read of each file and
//! how many files are read is bounded; a file that is damaged or not ours is skipped and told, and ends
//! nothing.

use std::io::Read as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::journal::is_run_id;
use super::report::{RunOutcome, RunReport};
use crate::base::error::{Error, Result};
use crate::base::own;

/// The most runs that a history shows, with the one that is told.
pub const RUNS_MAX: usize = 30;
/// A longer report is skipped, in bytes: one of ten thousand sources has some four million.
const REPORT_BYTES_MAX: u64 = 16 << 20;
/// The format of the reports that can be read.
const FORMAT: &str = "snapmerge-run/2";

/// The runs of a plan before one run, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunHistory {
    /// The runs, at most 29, the oldest first.
    pub runs: Vec<PastRun>,
    /// Reports that could not be read: the name of the file, and why.
    pub skipped: Vec<String>,
}

/// The numbers of a run that a history shows.
#[derive(Debug, Clone, PartialEq)]
pub struct PastRun {
    /// The run's id.
    pub id: String,
    /// When it began.
    pub started: DateTime<Utc>,
    /// Duration in seconds.
    pub seconds: f64,
    /// Outcome of the run.
    pub outcome: RunOutcome,
    /// True if somebody asked to stop.
    pub cancelled: bool,
    /// Points of the master, if there was one.
    pub points: Option<u64>,
    /// Bytes of the master, if it was a file.
    pub bytes: Option<u64>,
    /// Bytes that came to the archive.
    pub new_bytes: u64,
}

/// Of a report in JSON, what a history needs; the rest of it is passed over.
#[derive(Deserialize)]
struct Summary {
    format: String,
    plan: String,
    id: String,
    #[serde(alias = "begun")]
    started: DateTime<Utc>,
    seconds: f64,
    run_outcome: RunOutcome,
    #[serde(default)]
    cancelled: bool,
    master: Option<MasterSummary>,
    archive: ArchiveSummary,
}

#[derive(Deserialize)]
struct MasterSummary {
    points: u64,
    bytes: Option<u64>,
}

#[derive(Deserialize)]
struct ArchiveSummary {
    new_bytes: u64,
}

impl From<&RunReport> for PastRun {
    fn from(report: &RunReport) -> Self {
        let master = report.master.as_ref();
        Self {
            id: report.id.clone(),
            started: report.started,
            seconds: report.seconds,
            outcome: report.run_outcome,
            cancelled: report.cancelled,
            points: master.map(|master| master.points),
            bytes: master.and_then(|master| master.bytes),
            new_bytes: report.archive.new_bytes,
        }
    }
}

impl RunHistory {
    /// The runs of `plan` before the run `id` that left reports in `folder`. A folder that is not there has
    /// none.
    pub fn read(folder: &Path, plan: &str, id: &str) -> Self {
        let mut history = Self::default();
        let mut ids = match reported(folder, plan) {
            Ok(ids) => ids,
            Err(err) => {
                history.skipped.push(err.to_string());
                return history;
            }
        };
        // A run that is resumed replaces its own report.
        ids.retain(|one| one.as_str() < id);
        for one in ids.iter().skip(ids.len().saturating_sub(RUNS_MAX - 1)) {
            let name = format!("{}.json", report_name(plan, one));
            match read(&folder.join(&name), plan, one) {
                Ok(run) => history.runs.push(run),
                Err(why) => history.skipped.push(format!("{name}: {why}")),
            }
        }
        history
    }

    /// Note on files that could not be read, in one sentence.
    pub fn note(&self) -> Option<String> {
        let first = self.skipped.first()?;
        let others = match self.skipped.len() - 1 {
            0 => String::new(),
            others => format!(", and {others} more"),
        };
        Some(format!(
            "{} of the reports of earlier runs could not be read, and the history on the page is \
             without them: {first}{others}",
            self.skipped.len()
        ))
    }
}

/// The name of the files of the run `id`, without their ending.
pub fn report_name(plan: &str, id: &str) -> String {
    format!("{plan}_{id}")
}

/// The ids of the runs of `plan` that left a JSON report in `folder`, the oldest first. Files with other
/// names are not ours.
pub fn reported(folder: &Path, plan: &str) -> Result<Vec<String>> {
    let listed = |err: &std::io::Error| Error::io("listing", folder, err);
    let entries = match std::fs::read_dir(folder) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|err| listed(&err))?,
    };
    let before = report_name(plan, "");
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.map_err(|err| listed(&err))?.file_name();
        let name = name.to_string_lossy();
        let id = name
            .strip_prefix(&before)
            .and_then(|rest| rest.strip_suffix(".json"));
        ids.extend(id.filter(|id| is_run_id(id)).map(str::to_owned));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// The run `id` of `plan`, from its report.
fn read(path: &Path, plan: &str, id: &str) -> Result<PastRun, String> {
    let failed = |err: std::io::Error| err.to_string();
    let file = own::open_to_read(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(REPORT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > REPORT_BYTES_MAX {
        return Err(format!("it is longer than {REPORT_BYTES_MAX} bytes"));
    }
    let report: Summary = serde_json::from_slice(&bytes).map_err(|err| err.to_string())?;
    if report.format != FORMAT {
        return Err(format!("its format is {}, not {FORMAT}", report.format));
    }
    if (report.plan.as_str(), report.id.as_str()) != (plan, id) {
        return Err(format!("it is of {} {}", report.plan, report.id));
    }
    Ok(PastRun {
        id: report.id,
        started: report.started,
        seconds: report.seconds,
        outcome: report.run_outcome,
        cancelled: report.cancelled,
        points: report.master.as_ref().map(|master| master.points),
        bytes: report.master.and_then(|master| master.bytes),
        new_bytes: report.archive.new_bytes,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::nightly::RunMaster;

    /// The report of the night of `day`, as a run writes it.
    fn report(plan: &str, day: u32) -> RunReport {
        let started = format!("2026-11-{day:02}T03:00:00Z").parse().unwrap();
        let id = format!("202611{day:02}_030000");
        let mut report = RunReport::begin(plan, "backups", &id, started, false);
        report.seconds = f64::from(day);
        report.archive.new_bytes = 7;
        report.master = Some(RunMaster {
            name: "master".into(),
            unchanged: false,
            entry: None,
            route: "graft".into(),
            points: 1000 + u64::from(day),
            bytes: Some(5000),
            sha256: None,
            proven: started,
            collection: None,
            alias: None,
            before: None,
        });
        report
    }

    fn write(folder: &Path, report: &RunReport) {
        let name = format!("{}.json", report_name(&report.plan, &report.id));
        std::fs::write(folder.join(name), serde_json::to_vec(report).unwrap()).unwrap();
    }

    #[test]
    fn the_runs_before_are_what_they_reported_and_no_other_plans() {
        let folder = tempfile::tempdir().unwrap();
        let none = RunHistory::read(&folder.path().join("none"), "night", "x");
        assert_eq!(none, RunHistory::default());
        let failed = {
            let mut report = report("night", 3);
            report.master = None;
            report.failed("merge", &Error::failed("merging", "no"));
            report
        };
        let all = [report("night", 2), failed, report("night", 4)];
        for report in all
            .iter()
            .chain([&report("night_2", 3), &report("nigh", 3)])
        {
            write(folder.path(), report);
        }
        // The run that could not begin has no id, and a page is no report.
        for name in ["night_none.json", "night_20261101_030000.html", "notes.txt"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let history = RunHistory::read(folder.path(), "night", "20261104_030000");
        assert_eq!(history.skipped, Vec::<String>::new());
        assert_eq!(history.note(), None);
        assert_eq!(
            history.runs,
            [PastRun::from(&all[0]), PastRun::from(&all[1])]
        );
        assert_eq!(history.runs[0].points, Some(1002));
        assert_eq!(
            (history.runs[1].points, history.runs[1].outcome),
            (None, RunOutcome::Failed)
        );
    }

    #[test]
    fn the_newest_are_taken_of_many() {
        let folder = tempfile::tempdir().unwrap();
        for hour in 0..2 * RUNS_MAX {
            let mut report = report("night", 2);
            report.id = format!("20261102_{hour:06}");
            write(folder.path(), &report);
        }
        let history = RunHistory::read(folder.path(), "night", "20261103_030000");
        let ids: Vec<&str> = history.runs.iter().map(|run| run.id.as_str()).collect();
        assert_eq!(ids.len(), RUNS_MAX - 1);
        assert_eq!(
            (ids[0], ids[RUNS_MAX - 2]),
            ("20261102_000031", "20261102_000059")
        );
    }

    #[test]
    fn what_is_damaged_or_foreign_is_skipped_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = |day: u32| {
            folder
                .path()
                .join(format!("night_202611{day:02}_030000.json"))
        };
        write(folder.path(), &report("night", 1));
        std::fs::write(file(2), "{\"format\": \"snapm").unwrap();
        std::fs::write(file(3), json!({"format": "other/1"}).to_string()).unwrap();
        std::fs::copy(file(1), file(4)).unwrap();
        std::os::unix::fs::symlink(file(1), file(5)).unwrap();
        std::fs::create_dir(file(6)).unwrap();
        let huge = std::fs::File::create(file(7)).unwrap();
        huge.set_len(REPORT_BYTES_MAX * 1000).unwrap();
        let mut other: serde_json::Value = serde_json::to_value(report("night", 8)).unwrap();
        other["format"] = json!("snapmerge-run/9");
        std::fs::write(file(8), other.to_string()).unwrap();
        let history = RunHistory::read(folder.path(), "night", "20261109_030000");
        assert_eq!(history.runs, [PastRun::from(&report("night", 1))]);
        assert_eq!(history.skipped.len(), 7, "{:?}", history.skipped);
        for (at, why) in [
            (2, "it is of night 20261101_030000"),
            (5, "longer than"),
            (6, "snapmerge-run/9"),
        ] {
            assert!(history.skipped[at].contains(why), "{:?}", history.skipped);
        }
        let note = history.note().unwrap();
        assert!(
            note.starts_with("7 of the reports") && note.contains("and 6 more"),
            "{note}"
        );
    }
}
