//! How a night went: the report that is printed, written down and sent.
//!
//! Keeps true: every source, every step and everything that was left out is in it, with why; it holds
//! no key.

use std::fmt::Write as _;
use std::time::Instant;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Kind};

/// The name and version of the report.
pub const FORMAT: &str = "snapmerge-run/1";

/// The report of a night.
#[derive(Debug, Clone, Serialize)]
pub struct Told {
    /// [`FORMAT`].
    pub format: &'static str,
    /// snapmerge's version.
    pub version: &'static str,
    /// The plan's name.
    pub plan: String,
    /// The night.
    pub night: String,
    /// When it began.
    pub begun: DateTime<Utc>,
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// Seconds of this run.
    pub seconds: f64,
    /// `done`, `differs` or `failed`.
    pub outcome: Outcome,
    /// Whether it failed because somebody asked to stop.
    pub cancelled: bool,
    /// The exit code's kind, for whoever asks this process.
    #[serde(skip)]
    pub kind: Option<Kind>,
    /// Whether an earlier run had begun it.
    pub went_on: bool,
    /// The sources.
    pub sources: Vec<SourceTold>,
    /// The master.
    pub master: Option<MasterTold>,
    /// The archive.
    pub archive: ArchiveTold,
    /// The steps.
    pub steps: Vec<StepTold>,
    /// What went wrong.
    pub errors: Vec<ErrorTold>,
    /// What was left out or is not as it should be.
    pub differs: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// The last night that ended well.
    pub last_success: Option<DateTime<Utc>>,
    /// The last proven master.
    pub last_proven: Option<DateTime<Utc>>,
    /// The last proven restore of anything in the archive.
    pub last_proven_restore: Option<DateTime<Utc>>,
}

/// How a night ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was done.
    Done,
    /// All that could be done was, but something differs or was left out.
    Differs,
    /// Something went wrong.
    Failed,
}

/// What became of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It was captured.
    Captured,
    /// Nothing was written to it since it was captured last.
    Unchanged,
    /// It could not be captured, and the newest snapshot of it was taken.
    Last,
    /// It could not be captured.
    Broken,
}

/// A source.
#[derive(Debug, Clone, Serialize)]
pub struct SourceTold {
    /// Its name in the archive.
    pub name: String,
    /// Its collection.
    pub collection: String,
    /// Its server, as the plan calls it.
    pub server: String,
    /// What became of it.
    pub how: How,
    /// Its entry in the archive.
    pub entry: Option<String>,
    /// Its points, if nothing was written while it was captured.
    pub points: Option<u64>,
    /// The snapshot's bytes.
    pub bytes: u64,
    /// Bytes that are new in the archive.
    pub new_bytes: u64,
    /// Why it is as it is.
    pub note: Option<String>,
}

/// The master.
#[derive(Debug, Clone, Serialize)]
pub struct MasterTold {
    /// Its name.
    pub name: String,
    /// Whether it is the last night's, since nothing that it is made of has changed.
    pub unchanged: bool,
    /// Its entry in the archive.
    pub entry: Option<String>,
    /// How it came to be.
    pub route: String,
    /// Its points.
    pub points: u64,
    /// Its size in bytes.
    pub bytes: Option<u64>,
    /// Its SHA-256.
    pub sha256: Option<String>,
    /// When it was proven.
    pub proven: DateTime<Utc>,
    /// The collection that it is.
    pub collection: Option<String>,
    /// The alias, if it points to it.
    pub alias: Option<String>,
    /// What the alias pointed to before.
    pub before: Option<String>,
}

/// The archive after the night.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ArchiveTold {
    /// Where it is.
    pub place: String,
    /// Entries that are there.
    pub entries: u64,
    /// Entries that were given up.
    pub forgotten: u64,
    /// Bytes that were removed.
    pub removed_bytes: u64,
    /// Bytes that came to it.
    pub new_bytes: u64,
}

/// A step.
#[derive(Debug, Clone, Serialize)]
pub struct StepTold {
    /// What it is called.
    pub step: String,
    /// Seconds that it took.
    pub seconds: f64,
    /// Whether an earlier run had done it.
    pub earlier: bool,
}

/// What went wrong.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorTold {
    /// In which step.
    pub step: String,
    /// What was being done.
    pub doing: String,
    /// Why it failed.
    pub why: String,
    /// The next step.
    pub next: Option<String>,
}

impl Told {
    /// The report of a night that begins.
    pub fn begin(
        plan: &str,
        place: &str,
        night: &str,
        begun: DateTime<Utc>,
        went_on: bool,
    ) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION"),
            plan: plan.to_owned(),
            night: night.to_owned(),
            begun,
            ended: begun,
            seconds: 0.0,
            outcome: Outcome::Done,
            cancelled: false,
            kind: None,
            went_on,
            sources: Vec::new(),
            master: None,
            archive: ArchiveTold {
                place: place.to_owned(),
                ..ArchiveTold::default()
            },
            steps: Vec::new(),
            errors: Vec::new(),
            differs: Vec::new(),
            notes: Vec::new(),
            last_success: None,
            last_proven: None,
            last_proven_restore: None,
        }
    }

    /// Tells that `step` failed. The first failure decides the exit code, whatever differs, unless
    /// somebody asked to stop.
    pub fn failed(&mut self, step: &str, err: &Error) {
        tracing::error!(step, doing = err.doing(), why = err.why(), "failed");
        self.cancelled |= err.kind() == Kind::Cancelled;
        if self.outcome != Outcome::Failed || err.kind() == Kind::Cancelled {
            self.kind = Some(err.kind());
        }
        self.errors.push(ErrorTold {
            step: step.to_owned(),
            doing: err.doing().to_owned(),
            why: err.why().to_owned(),
            next: err.next_step().map(str::to_owned),
        });
        self.outcome = Outcome::Failed;
    }

    /// Tells that something differs or was left out.
    pub fn differs(&mut self, what: String) {
        tracing::warn!("{what}");
        self.differs.push(what);
    }

    /// Settles how it ended.
    pub fn end(&mut self, started: Instant, now: DateTime<Utc>) {
        self.ended = now;
        self.seconds = started.elapsed().as_secs_f64();
        if self.errors.is_empty() && !self.differs.is_empty() {
            self.outcome = Outcome::Differs;
            self.kind = Some(Kind::Differs);
        }
    }

    /// It on one screen.
    pub fn text(&self) -> String {
        let size = |bytes: u64| humansize::format_size(bytes, humansize::BINARY);
        let mut text = String::new();
        // Writing to a string does not fail.
        let mut line = |line: String| {
            let _ = writeln!(text, "{line}");
        };
        let word = match self.outcome {
            Outcome::Done => "DONE",
            Outcome::Differs => "DONE, BUT SOMETHING DIFFERS",
            Outcome::Failed if self.cancelled => "CANCELLED",
            Outcome::Failed => "FAILED",
        };
        line(format!(
            "{} {}: {word} in {:.1} s{}",
            self.plan,
            self.night,
            self.seconds,
            if self.went_on {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::page;

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
            let mut told = Told::begin("a", "backups", "n", at, false);
            told.differs("a source was left out".into());
            told.end(Instant::now(), at);
            for err in errors {
                told.failed("report", err);
            }
            assert_eq!(told.kind, Some(kind));
            assert!(told.text().contains(word), "{}", told.text());
            let report = serde_json::to_value(&told).unwrap();
            let html = page(&[report], &["a".to_owned()]).unwrap();
            assert!(html.contains(word), "{word}: {html}");
        }
    }
}
