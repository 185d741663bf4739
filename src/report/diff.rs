//! The report of a comparison of two snapshots as text.

use std::fmt::{self, Write as _};

use super::merge::list;
use crate::verify::DiffReport;

impl DiffReport {
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
