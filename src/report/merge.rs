//! The report of a merge.
//!
//! Keeps true: what the master lacks or what nobody vouches for stands in it in so many words; its
//! JSON has the name and version of its structure.

use std::fmt::{self, Write as _};

use humansize::{BINARY, format_size};
use serde::Serialize;

use crate::base::stage::StageReport;

use crate::point::Digest;

/// A source in the report.
#[derive(Debug, Clone, Serialize)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// The file's size in bytes.
    pub file_bytes: u64,
    /// What is known about its integrity, in words.
    pub checksum: String,
    /// Whether its SHA-256 was compared with one that it must have.
    pub verified: bool,
    /// Points that it has.
    pub read: u64,
    /// Points of it that are in the master.
    pub won: u64,
    /// Of those, points that are there under a new id.
    pub remapped: u64,
    /// Points of it that lost a conflict.
    pub lost: u64,
    /// Points of it that the filter left out.
    pub filtered: u64,
}

/// Conflicts in the report.
#[derive(Debug, Clone, Serialize)]
pub struct ConflictReport<C> {
    /// Who wins.
    pub policy: String,
    /// How many ids are in more than one place.
    pub count: u64,
    /// The first of them.
    pub first: Vec<C>,
    /// The file that has them all, if one was asked for.
    pub ledger: Option<String>,
}

/// A shard of the master in the report.
#[derive(Debug, Clone, Serialize)]
pub struct ShardReport {
    /// Its number.
    pub shard: u32,
    /// Its key, with custom sharding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its points.
    pub points: u64,
    /// Its segments.
    pub segments: u64,
    /// Vectors of it that lie in an index; of carried segments, no more than that.
    pub indexed_vectors: u64,
}

/// The master in the report.
#[derive(Debug, Clone, Serialize)]
pub struct MasterReport {
    /// Its file, or the address of the collection.
    pub file: String,
    /// The file's size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
    /// The file's SHA-256, also in FILE.checksum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its points.
    pub points: u64,
    /// The digest of its points, if they were compared one by one: the same points have the same
    /// digest, whatever file they are in.
    pub digest: Option<String>,
    /// The same with the digests of its vectors by name, and of its payloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest_parts: Option<Digest>,
    /// Its shards, of a file.
    pub shards: Vec<ShardReport>,
    /// What was done on the server, if it is a live collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveReport>,
}

/// What was done on a server.
#[derive(Debug, Clone, Serialize)]
pub struct LiveReport {
    /// In words.
    pub done: String,
    /// Points that were written.
    pub written: u64,
    /// Points that were there and were replaced, by `--sync`.
    pub changed: u64,
    /// Points that were deleted, by `--sync`.
    pub deleted: u64,
    /// Points that were right already, by `--sync`.
    pub same: u64,
    /// Requests that the server acknowledged.
    pub requests: u64,
    /// Requests that were tried again, or cut in halves.
    pub again: u64,
    /// What the server says of the collection: green, if all is well.
    pub status: String,
    /// Its segments.
    pub segments: u64,
    /// Vectors in an index, as the server estimates.
    pub indexed_vectors: u64,
    /// Points whose vectors differ in the last bits, since the server made them as long as 1 again.
    pub near: u64,
    /// Where what is done was written down.
    pub journal: String,
}

/// What was proven of the master before it got its name.
#[derive(Debug, Clone, Serialize)]
pub struct ProofReport {
    /// Whether anything was.
    pub proven: bool,
    /// Points that were read back from the packed file and compared.
    pub points: u64,
    /// Bytes of it that were read.
    pub bytes: u64,
    /// What was compared, in words.
    pub compared: String,
}

/// The report of a merge. `C` is a conflict, `F` and `D` a finding and a decision about configs, `T`
/// how segments travelled, `P` what the master was made with.
#[derive(Debug, Clone, Serialize)]
pub struct MergeReport<C, F, D, T, P> {
    /// The name and version of this structure: `snapmerge-merge/1`.
    pub format: &'static str,
    /// snapmerge's version.
    pub version: &'static str,
    /// How the master came to be.
    pub route: String,
    /// Why so.
    pub because: String,
    /// The sources in their order.
    pub sources: Vec<SourceReport>,
    /// Conflicts.
    pub conflicts: ConflictReport<C>,
    /// The master.
    pub master: MasterReport,
    /// What was proven.
    pub proof: ProofReport,
    /// Where the sources' configs differ.
    pub findings: Vec<F>,
    /// What was chosen where they differ.
    pub decisions: Vec<D>,
    /// What the sources lacked, if that was allowed.
    pub missing: Vec<String>,
    /// What the master was made with, as it lies beside it.
    pub provenance: P,
    /// How segments travelled, by the route graft.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carried: Option<T>,
    /// What is not as it should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// How long what took.
    pub stages: Vec<StageReport>,
    /// Wall-clock time of the whole, in seconds.
    pub seconds: f64,
}

impl<C: fmt::Display, F: fmt::Display, D: fmt::Display, T: fmt::Display, P>
    MergeReport<C, F, D, T, P>
{
    /// The report as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let master = &self.master;
        let size = |bytes| format!("{}, ", format_size(bytes, BINARY));
        writeln!(
            out,
            "{}: {} points, {}route {}, {}",
            master.file,
            master.points,
            master.file_bytes.map(size).unwrap_or_default(),
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
                format_size(self.proof.bytes, BINARY),
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
        // What a carried segment's points lack in vectors is not looked at.
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
        writeln!(
            out,
            "\nstage        seconds       points/s         per second"
        )?;
        for stage in &self.stages {
            let rate = |count: Option<u64>| {
                #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
                count.map(|count| count as f64 / stage.seconds.max(1e-6))
            };
            let points = rate(stage.points).map_or_else(|| "-".into(), |rate| format!("{rate:.0}"));
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate for people"
            )]
            let bytes = rate(stage.bytes)
                .map_or_else(|| "-".into(), |rate| format_size(rate as u64, BINARY));
            writeln!(
                out,
                "  {:<10} {:>8.2} {points:>14} {bytes:>18}",
                stage.stage, stage.seconds
            )?;
        }
        writeln!(out, "  {:<10} {:>8.2}", "whole", self.seconds)
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
