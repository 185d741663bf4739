//! The plan and the report of a merge as text.

use std::fmt::{self, Write as _};

use super::words::size;
use crate::base::stage::StageReport;
use crate::merge::{MergeReport, PlanReport};
use crate::stream::Lacking;

impl PlanReport {
    /// The plan as text.
    pub fn text(&self) -> String {
        let mut text = format!("plan: route {}\n  because {}\n", self.route, self.because);
        text += "\nsources\n";
        for source in &self.sources {
            text += &format!(
                "  {}  {}  {}\n",
                source.name,
                size(source.file_bytes),
                source.checksum.words()
            );
        }
        text += &match self.shards.len() {
            0 => "\nmaster: a shard key for each value of the field, known when the sources are read\n".into(),
            shards => format!("\nmaster: {shards} shards\n"),
        };
        let mut list = |title: &str, items: Vec<String>| {
            if !items.is_empty() {
                text += &format!("\n{title}\n");
                for item in items {
                    text += &format!("  - {}\n", item.replace('\n', "\n    "));
                }
            }
        };
        let strings = |items: &[String]| items.to_vec();
        list(
            "configs that differ",
            self.findings.iter().map(ToString::to_string).collect(),
        );
        list(
            "chosen for the master",
            self.decisions.iter().map(ToString::to_string).collect(),
        );
        list("MISSING", strings(&self.missing));
        list("notes", strings(&self.notes));
        text += &format!(
            "\ndisk: up to {} for scratch and {} for the master\n",
            size(self.needs.scratch_bytes),
            size(self.needs.output_bytes)
        );
        if self.needs.changing_bytes > 0 {
            text += &format!(
                "      up to {} more for scratch, if all segments had to be changed or merged: looked at when it is known\n",
                size(self.needs.changing_bytes)
            );
        }
        text += "nothing was done (--dry-run)\n";
        text
    }
}

impl MergeReport {
    /// The report as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let master = &self.master;
        let and_size = |bytes| format!("{}, ", size(bytes));
        writeln!(
            out,
            "{}: {} points, {}route {}, {}",
            master.file,
            master.points,
            master.file_bytes.map(and_size).unwrap_or_default(),
            self.route,
            match (self.proof.proven, self.differences.is_empty()) {
                (true, true) => "proven",
                (true, false) => "DIFFERS",
                (false, _) => "NOT PROVEN (--no-verify)",
            }
        )?;
        writeln!(out, "  because  {}", self.because)?;
        if let Some(sha256) = &master.sha256 {
            writeln!(out, "  SHA-256  {sha256}")?;
        }
        if let Some(digest) = &master.digest {
            writeln!(out, "  digest   {digest}")?;
        }
        match (&master.live, self.proof.proven) {
            (None, true) => writeln!(
                out,
                "  proof    {} points in {} read back from the packed file; {}",
                self.proof.points,
                size(self.proof.bytes),
                self.proof.compared
            )?,
            (None, false) => writeln!(out, "  proof    {}", self.proof.compared)?,
            (Some(live), _) => {
                writeln!(
                    out,
                    "  proof    {} points read back from the server; {}",
                    self.proof.points, self.proof.compared
                )?;
                writeln!(out, "  done     {}", live.done)?;
                writeln!(
                    out,
                    "  server   {}, {} segments, about {} vectors indexed; {} requests, {} tried \
                     again or in halves",
                    live.status, live.segments, live.indexed_vectors, live.requests, live.again
                )?;
            }
        }
        if let Some(carried) = &self.carried {
            writeln!(out, "  carried  {carried}")?;
        }
        self.write_sources(out)?;
        self.write_conflicts(out)?;
        if !master.shards.is_empty() {
            writeln!(
                out,
                "\nshards{:>13} {:>9} {:>16}",
                "points", "segments", "vectors indexed"
            )?;
        }
        // Vectors that the points of a carried segment lack are not counted.
        let at_most = if self.carried.is_some() { "≤ " } else { "" };
        for shard in &master.shards {
            let name = match &shard.key {
                Some(key) => format!("{} {key}", shard.shard),
                None => shard.shard.to_string(),
            };
            writeln!(
                out,
                "  {name:<6} {:>10} {:>9} {:>16}",
                shard.points,
                shard.segments,
                format!("{at_most}{}", shard.indexed_vectors)
            )?;
        }
        list(out, "configs that differ", &self.findings)?;
        list(out, "chosen for the master", &self.decisions)?;
        list(out, "MISSING", &self.missing)?;
        list(out, "NOT AS IT SHOULD BE", &self.differences)?;
        list(out, "notes", &self.notes)?;
        stages(out, &self.stages, self.seconds)
    }

    fn write_sources(&self, out: &mut String) -> fmt::Result {
        let widest = self
            .sources
            .iter()
            .map(|source| source.name.len())
            .max()
            .unwrap_or(0)
            .max(7);
        writeln!(
            out,
            "\n{:<widest$}   {:>10} {:>10} {:>10} {:>10}  checksum",
            "sources", "read", "won", "lost", "filtered"
        )?;
        for source in &self.sources {
            writeln!(
                out,
                "  {:<widest$} {:>10} {:>10} {:>10} {:>10}  {}",
                source.name, source.read, source.won, source.lost, source.filtered, source.checksum
            )?;
            if source.remapped > 0 {
                writeln!(
                    out,
                    "  {:<widest$} {} of them under new ids",
                    "", source.remapped
                )?;
            }
        }
        Ok(())
    }

    fn write_conflicts(&self, out: &mut String) -> fmt::Result {
        let conflicts = &self.conflicts;
        if conflicts.count == 0 {
            return writeln!(out, "\nconflicts: none");
        }
        writeln!(
            out,
            "\nconflicts: {} (--on-conflict {})",
            conflicts.count, conflicts.policy
        )?;
        let Lacking { some, all } = conflicts.lacking;
        if some > 0 {
            writeln!(out, "  in {some} of them a record without the field lost")?;
        }
        if all > 0 {
            writeln!(
                out,
                "  in {all} of them NO record has the field: the last source won"
            )?;
        }
        for conflict in &conflicts.first {
            writeln!(out, "  {conflict}")?;
        }
        let more = conflicts.count - conflicts.first.len() as u64;
        match (&conflicts.ledger, more) {
            (Some(path), _) => writeln!(out, "  all of them in {path}"),
            (None, 0) => Ok(()),
            (None, more) => writeln!(out, "  and {more} more; --ledger FILE lists them all"),
        }
    }
}

pub(super) fn list<T: fmt::Display>(out: &mut String, title: &str, items: &[T]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    for item in items {
        writeln!(out, "  - {}", item.to_string().replace('\n', "\n    "))?;
    }
    Ok(())
}

/// The stages of an operation and how long each took.
pub(super) fn stages(out: &mut String, stages: &[StageReport], seconds: f64) -> fmt::Result {
    writeln!(
        out,
        "\nstage        seconds       points/s            bytes/s"
    )?;
    for stage in stages {
        let points = stage.per_second(stage.points);
        let points = points.map_or_else(|| "-".into(), |rate| format!("{rate:.0}"));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate for people"
        )]
        let bytes = stage
            .per_second(stage.bytes)
            .map_or_else(|| "-".into(), |rate| size(rate as u64));
        writeln!(
            out,
            "  {:<10} {:>8.2} {points:>14} {bytes:>18}",
            stage.stage, stage.seconds
        )?;
    }
    writeln!(out, "  {:<10} {:>8.2}", "total", seconds)
}
