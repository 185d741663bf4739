//! The night as metrics, for the textfile collector of Prometheus' node exporter.
//!
//! Invariants: the file is whole or absent; a night that failed does not take away when the last one
//! succeeded.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::path::Path;

use super::report::{How, RunOutcome, RunReport};
use crate::base::durable;
use crate::base::error::Result;

/// Writes them to `path`.
pub fn write(path: &Path, report: &RunReport) -> Result<()> {
    if let Some(folder) = path.parent() {
        durable::make_folder(folder)?;
    }
    durable::write(path, text(report).as_bytes(), true)
}

/// A family of metrics.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    plan: &'a str,
}

impl Family<'_> {
    fn add(&mut self, label: Option<(&str, &str)>, value: impl Display) {
        let label = label.map_or(String::new(), |(key, value)| {
            format!(",{key}=\"{}\"", escape(value))
        });
        // Writing to a string does not fail.
        let _ = writeln!(
            self.text,
            "{}{{plan=\"{}\"{label}}} {value}",
            self.name,
            escape(self.plan)
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn text(report: &RunReport) -> String {
    let mut text = String::new();
    let mut family = |name: &'static str, help: &str, fill: &dyn Fn(&mut Family<'_>)| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        fill(&mut Family {
            text: &mut text,
            name,
            plan: &report.plan,
        });
    };
    family(
        "snapmerge_run_end_timestamp_seconds",
        "When the last run ended.",
        &|it| {
            it.add(None, report.ended.timestamp());
        },
    );
    family(
        "snapmerge_run_success",
        "Whether the last run ended with exit code 0.",
        &|it| {
            it.add(None, u8::from(report.run_outcome == RunOutcome::Done));
        },
    );
    family(
        "snapmerge_run_exit_code",
        "The exit code of the last run.",
        &|it| it.add(None, report.envelope.outcome.exit_code()),
    );
    family(
        "snapmerge_run_seconds",
        "How long the last run took.",
        &|it| {
            it.add(None, report.seconds);
        },
    );
    for (name, help, last) in [
        (
            "snapmerge_last_success_timestamp_seconds",
            "When a run last ended with exit code 0.",
            report.last_success,
        ),
        (
            "snapmerge_last_proven_master_timestamp_seconds",
            "When a master was last proven.",
            report.last_proven,
        ),
        (
            "snapmerge_last_proven_restore_timestamp_seconds",
            "When a drill last restored something from the archive and proved it.",
            report.last_proven_restore,
        ),
    ] {
        family(name, help, &|it| {
            if let Some(at) = last {
                it.add(None, at.timestamp());
            }
        });
    }
    family(
        "snapmerge_step_seconds",
        "How long each kind of step of the last run took.",
        &|it| {
            let mut kinds: BTreeMap<&str, f64> = BTreeMap::new();
            for step in report.steps.iter().filter(|step| !step.earlier) {
                let kind = step.step.split(' ').next().unwrap_or_default();
                *kinds.entry(kind).or_default() += step.seconds;
            }
            for (kind, seconds) in kinds {
                it.add(Some(("step", kind)), seconds);
            }
        },
    );
    family(
        "snapmerge_sources",
        "Sources of the last run, by what became of them.",
        &|it| {
            for (how, word) in [
                (How::Captured, "captured"),
                (How::Unchanged, "unchanged"),
                (How::Last, "last"),
                (How::Broken, "broken"),
            ] {
                let count = report.sources.iter().filter(|one| one.how == how).count();
                it.add(Some(("how", word)), count);
            }
        },
    );
    family("snapmerge_source_points", "Points of each source.", &|it| {
        for source in &report.sources {
            if let Some(points) = source.points {
                it.add(Some(("source", &source.name)), points);
            }
        }
    });
    family(
        "snapmerge_source_bytes",
        "Bytes of each source's snapshot.",
        &|it| {
            for source in &report.sources {
                it.add(Some(("source", &source.name)), source.bytes);
            }
        },
    );
    family("snapmerge_master_points", "Points of the master.", &|it| {
        if let Some(master) = &report.master {
            it.add(None, master.points);
        }
    });
    family(
        "snapmerge_master_bytes",
        "Bytes of the master's file.",
        &|it| {
            if let Some(bytes) = report.master.as_ref().and_then(|master| master.bytes) {
                it.add(None, bytes);
            }
        },
    );
    family(
        "snapmerge_archive_entries",
        "Entries in the archive.",
        &|it| {
            it.add(None, report.archive.entries);
        },
    );
    family(
        "snapmerge_archive_new_bytes",
        "Bytes that the last run added to the archive.",
        &|it| {
            it.add(None, report.archive.new_bytes);
        },
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_metric_of_its_family() {
        let at = "2026-11-22T03:00:00Z".parse().unwrap();
        let mut report = RunReport::begin("a \"plan\"", "backups", "n", at, false);
        report.last_success = Some(at);
        let text = text(&report);
        assert!(text.contains(
            "snapmerge_last_success_timestamp_seconds{plan=\"a \\\"plan\\\"\"} 1795316400"
        ));
        let mut family = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => family = rest.strip_suffix(" gauge").unwrap(),
                None if line.starts_with("# HELP ") => {}
                None => {
                    let (name, rest) = line.split_once('{').unwrap();
                    assert_eq!(name, family);
                    rest.rsplit_once("} ").unwrap().1.parse::<f64>().unwrap();
                }
            }
        }
        assert_eq!(text.matches("# TYPE").count(), 15);
    }
}
