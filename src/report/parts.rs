//! The reports of a split and of an ingest as text.

use std::fmt::{self, Write as _};

use super::merge::{list, stages};
use super::words::{counted, size};
use crate::build::PartReport;
use crate::ingest::{IngestReport, LiveCollectionReport};
use crate::split::SplitReport;

impl SplitReport {
    /// The report as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "{}: {} in {} by {}, proven: together they are the source",
            self.source.file,
            counted(self.points, "point", "points"),
            counted(self.parts.len() as u64, "part", "parts"),
            self.by,
        )?;
        writeln!(out, "  digest   {}", self.digest)?;
        writeln!(out, "  checksum {}", self.source.checksum.words())?;
        if self.rest > 0 {
            writeln!(
                out,
                "  {} have no value and are in the part of --rest",
                self.rest
            )?;
        }
        parts(out, &self.parts)?;
        list(out, "MISSING", &self.missing)?;
        stages(out, &self.stages, self.seconds)
    }
}

impl IngestReport {
    /// The report as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let (collections, kind) = match self.live.len() {
            0 => (self.collections.len(), ("snapshot", "snapshots")),
            live => (live, ("live collection", "live collections")),
        };
        let verdict = match self.live.iter().map(|one| one.differing).sum() {
            0 => match self.live.iter().map(|one| one.skipped).sum() {
                0 => "proven: read back and compared".to_owned(),
                skipped => format!(
                    "proven: read back and compared, but for {} that stayed as they were",
                    counted(skipped, "point", "points")
                ),
            },
            differing => format!(
                "{} DIFFER from what was written: does somebody else write to them?",
                counted(differing, "point", "points")
            ),
        };
        writeln!(
            out,
            "{} of {}: {} in {}, {verdict}",
            counted(self.rows, "row", "rows"),
            counted(self.inputs.len() as u64, "file", "files"),
            counted(self.points, "point", "points"),
            counted(collections as u64, kind.0, kind.1),
        )?;
        writeln!(out, "  config   {}", self.config)?;
        for (count, what) in [
            (
                self.replaced,
                "came before with the same id, and one of them counts (--on-existing)",
            ),
            (
                self.rejected,
                "ARE NO POINTS and were written to the file of --reject",
            ),
            (
                self.rest,
                "have no value and are in the collection of --rest",
            ),
        ] {
            if count > 0 {
                writeln!(out, "  {} {what}", counted(count, "row", "rows"))?;
            }
        }
        writeln!(out, "\nfiles")?;
        for input in &self.inputs {
            writeln!(
                out,
                "  {}  {}, {}",
                input.file,
                input.form,
                counted(input.rows, "row", "rows")
            )?;
        }
        if !self.collections.is_empty() {
            parts(out, &self.collections)?;
        }
        if !self.live.is_empty() {
            live(out, &self.live)?;
        }
        list(out, "chosen for the config", &self.decisions)?;
        stages(out, &self.stages, self.seconds)
    }
}

fn parts(out: &mut String, parts: &[PartReport]) -> fmt::Result {
    let widest = parts.iter().map(|part| part.file.chars().count()).max();
    let widest = widest.unwrap_or_default().max(9);
    writeln!(
        out,
        "\n{:<widest$}   {:>10} {:>12} {:>9} {:>16}",
        "snapshots", "points", "size", "segments", "vectors indexed"
    )?;
    for part in parts {
        writeln!(
            out,
            "  {:<widest$} {:>10} {:>12} {:>9} {:>16}",
            part.file,
            part.points,
            size(part.file_bytes),
            part.segments,
            part.indexed_vectors
        )?;
    }
    match parts.iter().filter(|part| part.resumed).count() {
        0 => Ok(()),
        resumed => writeln!(
            out,
            "  {resumed} of them had been finished by an interrupted run"
        ),
    }
}

fn live(out: &mut String, collections: &[LiveCollectionReport]) -> fmt::Result {
    let widest = collections
        .iter()
        .map(|one| one.collection.chars().count())
        .max();
    let widest = widest.unwrap_or_default().max(11);
    writeln!(
        out,
        "\n{:<widest$}   {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}  status",
        "collections", "added", "changed", "same", "skipped", "proven", "points now"
    )?;
    for one in collections {
        writeln!(
            out,
            "  {:<widest$} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}  {}{}",
            one.collection,
            one.added,
            one.changed,
            one.same,
            one.skipped,
            one.proven,
            one.points,
            if one.made { "made, " } else { "" },
            one.status
        )?;
        if one.near > 0 {
            writeln!(
                out,
                "    {} differ in the last bits, since the server normalized them",
                one.near
            )?;
        }
        if one.unsure > 0 {
            writeln!(
                out,
                "    {} WERE WRITTEN that the server did not find while it optimized, and that may have been there",
                one.unsure
            )?;
        }
        if one.differing > 0 {
            let ids: Vec<String> = one.differing_ids.iter().map(ToString::to_string).collect();
            writeln!(
                out,
                "    {} DIFFER, the first: {}",
                one.differing,
                ids.join(", ")
            )?;
        }
        for note in &one.notes {
            writeln!(out, "    {note}")?;
        }
    }
    Ok(())
}
