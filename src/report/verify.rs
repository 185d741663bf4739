//! The report of a verification as text.

use std::fmt::{self, Write as _};

use super::merge::list;
use super::words::size;
use crate::point::PointId;
use crate::source::Checksum;
use crate::verify::{
    Answers, KindAnswers, Latency, MadeWith, Points, Structure, Verdict, VerifyReport, Walked,
};

/// Kinds of faults of points, in the order of [`Walked::wrong`].
pub const WRONG: [&str; 6] = [
    "missing",
    "extra",
    "differing",
    "misplaced",
    "twice",
    "ambiguous",
];
/// Kind of points that lie twice in one shard, as the file itself tells.
pub const DOUBLED: &str = "doubled";

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proven => "PROVEN",
            Self::Differs => "DIFFERS",
            Self::NothingLookedAt => "NOT PROVEN, no point was in the sample",
        })
    }
}

impl fmt::Display for MadeWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--on-conflict {}", self.on_conflict)?;
        if let Some(field) = &self.stamp {
            write!(f, " --stamp {field}")?;
        }
        if let Some(filter) = &self.filter {
            write!(f, " --filter '{filter}'")?;
        }
        for key in &self.drop_payload {
            write!(f, " --drop-payload {key}")?;
        }
        for (old, new) in &self.rename_vector {
            write!(f, " --rename-vector '{old}={new}'")?;
        }
        for name in &self.drop_vector {
            write!(f, " --drop-vector '{name}'")?;
        }
        if self.by_source {
            write!(f, " --layout by-source")?;
        }
        if let Some(field) = &self.by_field {
            write!(f, " --layout by-field:{field}")?;
        }
        write!(f, ", by {}", self.told_by)
    }
}

impl VerifyReport {
    /// The report as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "{}: {}", self.master.file, self.verdict)?;
        write!(out, "  looked at  {} points", self.looked_at)?;
        if let Some(sample) = &self.sample {
            write!(out, ", A SAMPLE OF {sample} by the hashes of their ids")?;
        }
        let all = || std::iter::once(&self.master).chain(&self.sources);
        let live = all().filter(|one| one.checksum == Checksum::Live).count();
        let bytes = size(self.verified.bytes);
        match (all().count() - live, live) {
            (files, 0) => writeln!(out, ", in {bytes} of {files} files")?,
            (files, 1) => writeln!(out, ", in {bytes} of {files} files and a live collection")?,
            (0, live) => writeln!(out, ", in {live} live collections")?,
            (files, live) => writeln!(
                out,
                ", in {bytes} of {files} files and {live} live collections"
            )?,
        }
        match &self.verified.points {
            Points::Bytes(shown) => writeln!(
                out,
                "  how        by bytes: its {} segments ({}) are the sources', no id is in two, and \
                 each point is in the shard where a server looks for it",
                shown.segments,
                size(shown.bytes)
            )?,
            Points::Walk(walked) => write_walked(walked, out)?,
        }
        if self.verified.doubled > 0 {
            writeln!(
                out,
                "  WRONG      {} {DOUBLED} in one shard",
                self.verified.doubled
            )?;
        }
        if let Some(reason) = &self.verified.not_by_bytes {
            writeln!(out, "  not by bytes, because {reason}")?;
        }
        writeln!(out, "  made with  {}", self.made_with)?;
        writeln!(out, "\nsources")?;
        for source in all() {
            write!(out, "  {}  ", source.name)?;
            if source.checksum != Checksum::Live {
                write!(out, "{}  ", size(source.file_bytes))?;
            }
            writeln!(out, "{}", source.checksum.words())?;
        }
        if self.differences > 0 {
            writeln!(out, "\npoints that differ: {}", self.differences)?;
            for difference in &self.first {
                writeln!(out, "  {difference}")?;
            }
            let more = self.differences - self.first.len() as u64;
            match (&self.ledger, more) {
                (Some(path), _) => writeln!(out, "  all of them in {path}")?,
                (None, 0) => {}
                (None, more) => {
                    writeln!(out, "  and {more} more; --ledger FILE lists them all")?;
                }
            }
        }
        if let Some(answers) = &self.answers {
            write_answers(answers, out)?;
        }
        list(out, "SETTINGS THAT DIFFER", &self.verified.settings)?;
        list(out, "MISSING", &self.missing)?;
        list(out, "WRITTEN TO MEANWHILE", &self.verified.changed)?;
        list(out, "NOT LOOKED AT", &self.verified.unknown)?;
        list(out, "notes", &self.notes)?;
        writeln!(out, "\ntook {:.2} seconds", self.seconds)
    }
}

fn write_walked(walked: &Walked, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "  how        point by point: {} compared bit by bit ({} of vectors and payloads)",
        walked.compared,
        size(walked.compared_bytes)
    )?;
    writeln!(
        out,
        "  points     {} expected, {} found",
        walked.expected, walked.found
    )?;
    let words: Vec<String> = WRONG
        .iter()
        .zip(walked.wrong())
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    if !words.is_empty() {
        writeln!(out, "  WRONG      {}", words.join(", "))?;
    }
    if walked.near > 0 {
        writeln!(
            out,
            "  near       {} of these are the same but for the last bits of vectors, by {:e} at the \
             most: the server normalized them again",
            walked.near, walked.apart_max
        )?;
    }
    writeln!(out, "  digest     {}", walked.digest)?;
    writeln!(out, "  in order   {}", walked.stream_digest)
}

fn write_answers(answers: &Answers, out: &mut String) -> fmt::Result {
    let verdict = match answers.differing() {
        0 if answers.asked() == 0 => "nothing could be asked".to_owned(),
        0 => "the master's exact answers are the sources'".to_owned(),
        differing => format!("{differing} OF THE MASTER'S EXACT ANSWERS DIFFER from the sources'"),
    };
    if answers.asked() > 0 || answers.structure.is_none() {
        writeln!(
            out,
            "\nanswers: {} questions for the {} nearest, {verdict}",
            answers.asked(),
            answers.top
        )?;
    }
    for kind in &answers.kinds {
        write_kind(kind, out)?;
    }
    if let Some(structure) = &answers.structure {
        write_structure(structure, out)?;
    }
    list(out, "not asked", &answers.skipped)
}

fn write_kind(kind: &KindAnswers, out: &mut String) -> fmt::Result {
    let name = match kind.vector.as_str() {
        "" => "the vector".to_owned(),
        name => format!("the vector '{name}'"),
    };
    let among = match &kind.filtered_by {
        None => String::new(),
        Some(by) => format!(
            " among equal '{}' ({})",
            by.field,
            if by.indexed { "indexed" } else { "not indexed" }
        ),
    };
    let show = |latency: &Latency| {
        let Latency {
            p50_ms,
            p95_ms,
            p99_ms,
        } = latency;
        format!("{p50_ms:.2}/{p95_ms:.2}/{p99_ms:.2} ms")
    };
    writeln!(
        out,
        "  {name}{among}: {} questions, {} differ; recall by index {:.3}, at least {:.3}",
        kind.queries, kind.differing, kind.recall_mean, kind.recall_min
    )?;
    writeln!(
        out,
        "    took {} exact, {} by index (p50/p95/p99)",
        show(&kind.exact),
        show(&kind.indexed)
    )?;
    for answer in &kind.first {
        let ids = |ids: &[PointId]| {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            ids.join(", ")
        };
        writeln!(
            out,
            "    nearest to {}: the master lacks [{}] and has [{}]",
            answer.of,
            ids(&answer.missing),
            ids(&answer.extra)
        )?;
    }
    Ok(())
}

fn write_structure(structure: &Structure, out: &mut String) -> fmt::Result {
    let number = |value: Option<f64>| match value {
        Some(value) => format!("{value:.3}"),
        None => "-".to_owned(),
    };
    writeln!(
        out,
        "\nstructure by {}\n  {:<20} {:>9} {:>9} {:>7} {:>11}",
        structure.by, "", "points", "clusters", "noise", "silhouette"
    )?;
    for set in structure.sources.iter().chain([&structure.master]) {
        writeln!(
            out,
            "  {:<20} {:>9} {:>9} {:>6.0}% {:>11}",
            set.name,
            set.points,
            set.clusters,
            set.noise * 100.0,
            number(set.silhouette)
        )?;
    }
    writeln!(
        out,
        "  in the master, the sources are apart by {}; its clusters are lower by {} than theirs",
        number(structure.silhouette_by_source),
        number(structure.drop)
    )?;
    match structure.finding() {
        Some(finding) => writeln!(out, "  FINDING: {finding}"),
        None => Ok(()),
    }
}
