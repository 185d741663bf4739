//! The points of a snapshot as JSON lines, Parquet or Arrow IPC.
//!
//! Invariants: a line is what Qdrant's scroll would have answered for the point; an id that is asked
//! for and not there is told, and changes the outcome.

mod out;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Kind, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::base::scratch::{Scratch, require_free};
use crate::engine::{Columns, Filter};
use crate::input::{InputOptions, Inputs};
use crate::point::{PointId, Record};
use crate::source::{OpenedShards, Purpose, Source};
use crate::stream::{Scan, point_streams};
use crate::table::FileForm;
use out::{Out, Target};

/// Ids that are read at once.
const IDS_AT_ONCE: usize = 256;
/// Ids of points with numbers that JSON cannot write that are told.
const NOT_FINITE_SHOWN: usize = 10;

/// An export.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct ExportRequest {
    /// A snapshot file, plain or .gz, or archive:NAME@DATE
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: PathBuf,
    /// The file to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Form of what is written [default: by the name of the file, else jsonl]
    #[arg(long, value_name = "FORM")]
    pub format: Option<FileForm>,
    /// Replace the output if it exists
    #[arg(long)]
    pub force: bool,
    /// Only these points, by id
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    pub ids: Option<Vec<String>>,
    /// Leave the vectors out
    #[arg(long)]
    pub no_vectors: bool,
    /// Only points that match this filter, in Qdrant's filter language
    #[arg(long, value_name = "JSON")]
    pub filter: Option<Filter>,
    /// At most this many points
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// What is done with a point whose vectors have NaN or an infinite number, which JSON cannot
    /// write: null in place of the number, and exit with 3; fail; or skip the point, and exit with 3.
    /// Parquet and Arrow write them as they are
    #[arg(long, value_name = "HOW", default_value = "null")]
    pub on_nan: OnNan,
    /// Where to unpack [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Read a snapshot that lacks shards or whose replica was not active; exit with 3
    #[arg(long)]
    pub allow_incomplete: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub input: InputOptions,
}

/// What is done with numbers that JSON cannot write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNan {
    /// They are written as null.
    #[default]
    Null,
    /// The export fails.
    Fail,
    /// Their points are left out.
    Skip,
}

/// The report of an export.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ExportReport {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// The file.
    pub file: String,
    /// The file that was written, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Points that were written.
    pub points: u64,
    /// Ids that were asked for and are not there.
    pub absent: Vec<PointId>,
    /// Parts that the snapshot lacks, if that was allowed.
    pub missing: Vec<String>,
    /// Points that have NaN or an infinite number in a vector, whether they were written or not.
    pub not_finite: NotFinite,
}

/// Points with numbers that JSON cannot write.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotFinite {
    /// Number of such points.
    pub points: u64,
    /// The first of them.
    pub ids: Vec<PointId>,
}

impl Operation for ExportRequest {
    const NAME: &'static str = "export";
    type Report = ExportReport;

    fn run(self, _: &Context) -> Result<ExportReport> {
        let ids = self.ids.as_ref().map(|ids| parse_ids(ids)).transpose()?;
        if self.filter.is_some() && ids.is_some() {
            return Err(Error::usage(
                "reading --ids and --filter",
                "only one of them can choose the points",
            )
            .next("put the ids into the filter: {\"must\":[{\"has_id\":[1,2]}]}"));
        }
        let target = Target {
            output: self.output.as_deref(),
            form: self.format,
            force: self.force,
            with_vectors: !self.no_vectors,
        };
        let staged = target.check(&self.snapshot)?;
        let parent = self.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let inputs = Inputs::find(std::slice::from_ref(&self.snapshot), &self.input, &parent)?;
        let Some(path) = inputs.paths().first() else {
            return Err(Error::usage("opening the snapshot", "there is none"));
        };
        let mut source = Source::open(path, &inputs.opening(path), None)?;
        let mut missing = source.refuse_unreadable(self.allow_incomplete)?;
        require_free(&parent, source.snapshot.unpacked_bytes, "unpacking")?;
        let scratch = Scratch::new(&parent)?;
        let folder = scratch.folder("source")?;
        let purpose = match &self.filter {
            Some(_) => Purpose::Filtering,
            None => Purpose::Reading,
        };
        let settled = source.settle(&folder, purpose, None)?;
        missing.extend(source.refused.clone());

        let limit = self.limit.unwrap_or(u64::MAX);
        let mut points = Points {
            out: Out::new(target, staged, &source, &settled)?,
            with_vectors: !self.no_vectors,
            on_nan: self.on_nan,
            left: limit,
            written: 0,
            not_finite: NotFinite::default(),
        };
        let absent = match ids {
            Some(ids) => by_ids(&settled, ids, &mut points)?,
            None => {
                all(&source, &settled, self.filter.as_ref(), &mut points)?;
                Vec::new()
            }
        };
        let written = points.written;
        let not_finite = std::mem::take(&mut points.not_finite);
        points.out.end(self.force)?;
        drop(settled);
        drop(scratch);
        let differs = !missing.is_empty() || !absent.is_empty() || not_finite.points > 0;
        Ok(ExportReport {
            envelope: Envelope::new("export", 1, Outcome::differs_if(differs)),
            file: self.snapshot.display().to_string(),
            output: (self.output.as_ref()).map(|output| output.display().to_string()),
            points: written,
            absent,
            missing,
            not_finite,
        })
    }
}

fn parse_ids(texts: &[String]) -> Result<BTreeSet<PointId>> {
    texts
        .iter()
        .map(|text| {
            text.trim()
                .parse()
                .map_err(|why: String| Error::usage("reading --ids", why))
        })
        .collect()
}

/// Prints the points with `ids`; returns the ids that are not there.
fn by_ids(
    settled: &OpenedShards,
    ids: BTreeSet<PointId>,
    points: &mut Points<'_>,
) -> Result<Vec<PointId>> {
    let mut absent = Vec::new();
    let ids: Vec<PointId> = ids.into_iter().collect();
    for some in ids.chunks(IDS_AT_ONCE) {
        let mut records = Vec::new();
        for shard in &settled.shards {
            for mut record in shard.shard.retrieve(some, points.columns())? {
                record.shard_key.clone_from(&shard.key);
                records.push(record);
            }
        }
        records.sort_by_key(|record| record.id);
        for id in some {
            if records
                .binary_search_by_key(id, |record| record.id)
                .is_err()
            {
                absent.push(*id);
            }
        }
        for record in &records {
            points.print(record)?;
        }
    }
    Ok(absent)
}

fn all(
    source: &Source,
    settled: &OpenedShards,
    filter: Option<&Filter>,
    points: &mut Points<'_>,
) -> Result<()> {
    let point_streams = point_streams(0, source, settled);
    std::thread::scope(|scope| {
        let mut scan = Scan::start(scope, &point_streams, filter)?;
        let mut group = Vec::new();
        while points.left > 0 && scan.next_group(&mut group)?.is_some() {
            for scanned in &group {
                points.print(&scanned.record)?;
            }
        }
        Ok(())
    })
}

/// The points that are printed.
struct Points<'a> {
    out: Out<'a>,
    with_vectors: bool,
    on_nan: OnNan,
    left: u64,
    written: u64,
    not_finite: NotFinite,
}

impl Points<'_> {
    fn columns(&self) -> Columns {
        Columns {
            vectors: self.with_vectors,
            payload: true,
        }
    }

    fn print(&mut self, record: &Record) -> Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        if self.with_vectors && !self.out.says_nan() && !record.is_finite() {
            self.not_finite.points += 1;
            if self.not_finite.ids.len() < NOT_FINITE_SHOWN {
                self.not_finite.ids.push(record.id);
            }
            match self.on_nan {
                OnNan::Null => {}
                OnNan::Skip => return Ok(()),
                OnNan::Fail => {
                    return Err(Error::new(
                        Kind::Refused,
                        format!("writing point {}", record.id),
                        "a vector of it has NaN or an infinite number, which JSON cannot write",
                    )
                    .next("give --on-nan null or --on-nan skip"));
                }
            }
        }
        self.left -= 1;
        match self.out.write(record, self.with_vectors)? {
            true => self.written += 1,
            false => self.left = 0,
        }
        Ok(())
    }
}
