//! The report of a comparison of two snapshots.
//!
//! Keeps true: it says "the same" only if every point and every setting is.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::merge::list;
use crate::point::Sample;
use crate::source::SourceLabel;
use crate::verify::{Change, Diffed, SettingDifference};

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct DiffReport {
    /// The name and version of this structure: `snapmerge-diff/1`.
    pub format: &'static str,
    /// snapmerge's version.
    pub version: &'static str,
    /// The snapshot of before.
    pub before: SourceLabel,
    /// The snapshot of afterwards.
    pub after: SourceLabel,
    /// The share of the points that was looked at, if not all were.
    pub sample: Option<Sample>,
    /// What was found.
    #[serde(rename = "points")]
    pub diffed: Diffed,
    /// Settings that differ: `expected` is what was before.
    pub settings: Vec<SettingDifference>,
    /// The first changes.
    pub first: Vec<Change>,
    /// The file that has them all, if one was asked for.
    pub ledger: Option<String>,
    /// The file that says what brings the first to the state of the second, if one was asked for.
    pub sync_plan: Option<String>,
    /// What the snapshots lack, if that was allowed.
    pub missing: Vec<String>,
    /// What others wrote to live collections in the meantime.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// Wall-clock time of the whole, in seconds.
    pub seconds: f64,
}

impl DiffReport {
    /// Whether nothing differs and nothing was left out.
    pub fn is_same(&self) -> bool {
        self.diffed.changes() == 0
            && self.settings.is_empty()
            && self.missing.is_empty()
            && self.changed.is_empty()
    }

    /// The report as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let Self {
            diffed,
            before,
            after,
            ..
        } = self;
        let verdict = match self.is_same() {
            true => "the same",
            false => "different",
        };
        writeln!(out, "{} and {}: {verdict}", before.file, after.file)?;
        writeln!(
            out,
            "  points     {} before, {} after",
            diffed.before, diffed.after
        )?;
        if let Some(sample) = &self.sample {
            writeln!(
                out,
                "             A SAMPLE OF {sample} by the hashes of their ids"
            )?;
        }
        writeln!(
            out,
            "  of these   {} the same, {} added, {} removed, {} changed",
            diffed.same, diffed.added, diffed.removed, diffed.changed
        )?;
        for (name, count) in &diffed.changed_vectors {
            match name.as_str() {
                "" => writeln!(out, "             the vector of {count}")?,
                name => writeln!(out, "             the vector '{name}' of {count}")?,
            }
        }
        for (key, count) in &diffed.changed_payload {
            writeln!(out, "             the payload key '{key}' of {count}")?;
        }
        if diffed.changed_shard_keys > 0 {
            writeln!(
                out,
                "             the shard key of {}",
                diffed.changed_shard_keys
            )?;
        }
        if diffed.twice > 0 {
            writeln!(
                out,
                "  TWICE      {} ids are in more than one shard or under more than one shard key",
                diffed.twice
            )?;
        }
        writeln!(out, "  digests    {}", diffed.digest_before)?;
        writeln!(out, "             {}", diffed.digest_after)?;
        if diffed.changes() > 0 {
            writeln!(out, "\nchanges: {}", diffed.changes())?;
            for change in &self.first {
                writeln!(out, "  {change}")?;
            }
            let more = diffed.changes() - self.first.len() as u64;
            match (&self.ledger, more) {
                (Some(path), _) => writeln!(out, "  all of them in {path}")?,
                (None, 0) => {}
                (None, more) => writeln!(
                    out,
                    "  and {more} more; --ledger FILE or --jsonl lists them all"
                )?,
            }
        }
        if let Some(path) = &self.sync_plan {
            writeln!(out, "\nwhat brings the first to the second is in {path}")?;
        }
        list(out, "settings that differ", &self.settings)?;
        list(out, "MISSING", &self.missing)?;
        list(out, "WRITTEN TO MEANWHILE", &self.changed)?;
        list(out, "notes", &self.notes)?;
        writeln!(out, "\ntook {:.2} seconds", self.seconds)
    }
}
