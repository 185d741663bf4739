//! The report of a run, and of a dry run, as text on one screen.

use std::fmt::Write as _;

use crate::nightly::{DryRun, How, RunOutcome, RunReport};

impl RunReport {
    /// The report as text.
    pub fn text(&self) -> String {
        let size = |bytes: u64| humansize::format_size(bytes, humansize::BINARY);
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
            "{} {}: {word} in {:.1} s{}",
            self.plan,
            self.id,
            self.seconds,
            if self.resumed {
                ", an earlier run had begun it"
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
            line("  the next run goes on where this one was".into());
        }
        for what in &self.differs {
            line(format!("\n  differs: {what}"));
        }
        if !self.sources.is_empty() {
            line(format!(
                "\n  {:<28}{:<11}{:>12}{:>12}{:>12}  entry",
                "sources", "", "points", "snapshot", "new"
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
                "    {:<26}{how:<11}{:>12}{:>12}{:>12}  {}",
                source.name,
                source
                    .points
                    .map_or("-".into(), |points| points.to_string()),
                size(source.bytes),
                size(source.new_bytes),
                source.entry.as_deref().unwrap_or("-"),
            ));
        }
        if let Some(master) = &self.master {
            let bytes = master
                .bytes
                .map_or(String::new(), |bytes| format!(", {}", size(bytes)));
            line(format!(
                "\n  master {}: {} points{bytes}, route {}, proven {}{}",
                master.name,
                master.points,
                master.route,
                master.proven.format("%Y-%m-%d %H:%M:%S UTC"),
                if master.unchanged {
                    "; nothing it is made of has changed since"
                } else {
                    ""
                },
            ));
            if let Some(entry) = &master.entry {
                line(format!("    archived as {entry}"));
            }
            if let Some(collection) = &master.collection {
                line(format!("    restored as {collection}"));
            }
            match (&master.alias, &master.before) {
                (Some(alias), Some(before)) => {
                    line(format!("    {alias} points to it, before to {before}"));
                }
                (Some(alias), None) => line(format!("    {alias} points to it")),
                (None, _) => {}
            }
        }
        line(format!(
            "\n  archive {}: {} entries, {} new, {} entries given up, {} removed",
            self.archive.place,
            self.archive.entries,
            size(self.archive.new_bytes),
            self.archive.forgotten,
            size(self.archive.removed_bytes),
        ));
        for note in &self.notes {
            line(format!("  note    {note}"));
        }
        let steps: Vec<String> = self
            .steps
            .iter()
            .filter(|step| !step.earlier)
            .map(|step| format!("{} {:.1}", step.step, step.seconds))
            .collect();
        if !steps.is_empty() {
            line(format!("  seconds {}", steps.join(", ")));
        }
        text
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
    use std::time::Instant;

    use super::super::html::{Section, page};
    use super::*;
    use crate::base::error::{Error, Kind};

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
            let html = page(&[Section::Run(Box::new(report.clone()))]).unwrap();
            assert!(html.contains(word), "{word}: {html}");
        }
    }
}
