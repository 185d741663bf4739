//! The report of a run, and of a dry run, as text on one screen.

use std::fmt::Write as _;

use super::words::{duration, moment, shell, size};
use crate::nightly::{DryRun, How, RunMaster, RunOutcome, RunReport};

/// Letters of the column of names; a longer name moves its line to the right.
const NAME_MAX: usize = 48;
/// Steps that have their time in the summary.
const STEPS_MAX: usize = 12;

impl RunReport {
    /// The report as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let mut line = |line: String| {
            let _ = writeln!(text, "{line}");
        };
        let word = match self.run_outcome {
            RunOutcome::Done => "DONE",
            RunOutcome::Differs => "DONE, BUT SOMETHING DIFFERS",
            RunOutcome::Failed if self.cancelled => "CANCELLED",
            RunOutcome::Failed => "FAILED",
        };
        line(format!(
            "{} {}: {word} in {}{}",
            self.plan,
            self.id,
            duration(self.seconds),
            if self.resumed {
                ", after it resumed an interrupted run"
            } else {
                ""
            }
        ));
        for err in &self.errors {
            line(format!("\n  {}: {}: {}", err.step, err.doing, err.why));
            if let Some(next) = &err.next {
                line(format!("    next: {next}"));
            }
        }
        if self.cancelled {
            line("  the next run resumes where this one stopped".into());
        }
        for what in &self.differs {
            line(format!("\n  differs: {what}"));
        }
        self.sources_text(&mut line);
        if let Some(master) = &self.master {
            master_text(master, &mut line);
        }
        let archive = &self.archive;
        line(format!(
            "\n  archive {}: {} entries, {} new, {} entries forgotten, {} removed",
            archive.place,
            archive.entries,
            size(archive.new_bytes),
            archive.forgotten,
            size(archive.removed_bytes),
        ));
        match self.last_proven_restore {
            Some(at) => line(format!(
                "    a restore from it was last proven {}",
                moment(at)
            )),
            None if archive.entries > 0 => line(format!(
                "    no restore from it has been proven yet: snapmerge drill --archive {}",
                shell(&archive.place)
            )),
            None => {}
        }
        for note in &self.notes {
            line(format!("  note    {note}"));
        }
        if let Some(steps) = self.steps_text() {
            line(format!("  seconds {steps}"));
        }
        text
    }

    fn sources_text(&self, line: &mut impl FnMut(String)) {
        let names = self
            .sources
            .iter()
            .map(|source| source.name.chars().count());
        let widest = names.max().unwrap_or(0).clamp(7, NAME_MAX);
        if !self.sources.is_empty() {
            line(format!(
                "\n  {:<width$} {:<9} {:>12} {:>12} {:>12} {:>12}  entry",
                "sources",
                "",
                "points",
                "snapshot",
                "moved",
                "new",
                width = widest + 2
            ));
        }
        for source in &self.sources {
            let how = match source.how {
                How::Captured => "captured",
                How::Unchanged => "unchanged",
                How::Last => "LAST USED",
                How::Broken => "BROKEN",
            };
            line(format!(
                "    {:<widest$} {how:<9} {:>12} {:>12} {:>12} {:>12}  {}",
                source.name,
                source
                    .points
                    .map_or("-".into(), |points| points.to_string()),
                size(source.bytes),
                source.moved_bytes.map_or("-".into(), size),
                size(source.new_bytes),
                source.entry.as_deref().unwrap_or("-"),
            ));
        }
    }

    /// The steps that took longest, in the order in which they were done.
    fn steps_text(&self) -> Option<String> {
        let own = || self.steps.iter().filter(|step| !step.earlier);
        let mut seconds: Vec<f64> = own().map(|step| step.seconds).collect();
        seconds.sort_unstable_by(f64::total_cmp);
        let least = seconds.iter().rev().nth(STEPS_MAX - 1).copied();
        let (shown, others): (Vec<_>, Vec<_>) =
            own().partition(|step| least.is_none_or(|least| step.seconds >= least));
        let mut steps: Vec<String> = shown
            .iter()
            .map(|step| format!("{} {:.1}", step.step, step.seconds))
            .collect();
        if !others.is_empty() {
            let seconds: f64 = others.iter().map(|step| step.seconds).sum();
            steps.push(format!("{} other steps {seconds:.1}", others.len()));
        }
        (!steps.is_empty()).then(|| steps.join(", "))
    }
}

fn master_text(master: &RunMaster, line: &mut impl FnMut(String)) {
    let bytes = master
        .bytes
        .map_or(String::new(), |bytes| format!(", {}", size(bytes)));
    line(format!(
        "\n  master {}: {} points{bytes}, route {}, proven {}",
        master.name,
        master.points,
        master.route,
        moment(master.proven),
    ));
    if master.unchanged {
        line("    not made again: its sources have not changed since".into());
    }
    if let Some(entry) = &master.entry {
        line(format!("    archived as {entry}"));
    }
    if let Some(collection) = &master.collection {
        line(format!("    restored as {collection}"));
    }
    match (&master.alias, &master.before) {
        (Some(alias), Some(before)) => line(format!(
            "    alias {alias} points to it; before, it pointed to {before}"
        )),
        (Some(alias), None) => line(format!("    alias {alias} points to it")),
        (None, _) => {}
    }
}

impl DryRun {
    /// The same as text.
    pub fn text(&self) -> String {
        let mut text = format!("{}: what a night would do\n", self.plan);
        for (number, what) in self.would.iter().enumerate() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {:>2}. {what}", number + 1);
        }
        if !self.faults.is_empty() {
            text += "\n  what stands in the way:\n";
        }
        for fault in &self.faults {
            let _ = writeln!(text, "    - {fault}");
        }
        text + "nothing was done (--dry-run)\n"
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::html::{Section, page};
    use super::*;
    use crate::base::error::{Error, Kind};
    use crate::nightly::{RunSource, RunStep};

    #[test]
    fn the_exit_code_is_that_of_the_first_failure_whatever_differs() {
        let at = "2026-11-22T03:00:00Z".parse().unwrap();
        let lost = Error::failed("writing", "the disk is gone");
        let refused = Error::new(Kind::Refused, "asking", "no");
        let stopped = crate::base::stop::cancelled("running");
        for (errors, kind, word) in [
            (vec![], Kind::Differs, "SOMETHING DIFFERS"),
            (vec![&lost], Kind::Failed, "FAILED"),
            (vec![&refused, &lost], Kind::Refused, "FAILED"),
            (
                vec![&refused, &stopped, &lost],
                Kind::Cancelled,
                "CANCELLED",
            ),
        ] {
            let mut report = RunReport::begin("a", "backups", "n", at, false);
            report.differs("a source was left out".into());
            report.end(Instant::now(), at);
            for err in errors {
                report.failed("report", err);
            }
            assert_eq!(report.envelope.outcome.kind(), Some(kind));
            assert!(report.text().contains(word), "{}", report.text());
            let html = page(&[Section::Run(Box::new(report.clone()), None)]).unwrap();
            assert!(html.contains(word), "{word}: {html}");
        }
    }
    #[test]
    fn the_summary_stays_in_its_columns_and_on_its_screen() {
        let at = "2026-11-22T03:00:00.123456789Z".parse().unwrap();
        let mut report = RunReport::begin("a", "backups", "n", at, true);
        for (number, name) in ["album", &"b".repeat(40)].into_iter().enumerate() {
            report.sources.push(RunSource {
                name: name.to_owned(),
                collection: name.to_owned(),
                server: "prod".into(),
                how: How::Captured,
                entry: Some("entry".into()),
                points: Some(7),
                bytes: number as u64,
                new_bytes: 0,
                moved_bytes: None,
                note: None,
            });
        }
        for number in 0..40 {
            report.steps.push(RunStep {
                step: format!("capture {number}"),
                seconds: f64::from(number),
                earlier: number == 39,
            });
        }
        report.archive.entries = 2;
        let started = Instant::now() - Duration::from_secs(200);
        report.end(started, at);
        let text = report.text();
        assert!(text.starts_with("a n: DONE in 3 min 2"), "{text}");
        let places: Vec<usize> = text
            .lines()
            .filter_map(|line| line.find("  entry"))
            .collect();
        assert_eq!(places.len(), 3, "{text}");
        assert!(places.iter().all(|place| *place == places[0]), "{text}");
        assert!(text.contains("drill --archive backups"), "{text}");
        let steps = text.lines().last().unwrap();
        assert!(
            steps.starts_with("  seconds capture 27 27.0, ")
                && steps.ends_with("27 other steps 351.0"),
            "{steps}"
        );
        report.last_proven_restore = Some(at);
        assert!(
            report
                .text()
                .contains("last proven 2026-11-22 03:00:00 UTC"),
            "{}",
            report.text()
        );
    }
}
