//! The points of a snapshot as JSON lines, Parquet, Arrow IPC, or a folder in the Vector Dataset Format.
//!
//! Invariants: a line is what Qdrant's scroll would have answered for the point; an id that is asked
//! for and not there is told, and changes the outcome.

mod out;
mod vdf;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Kind, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::base::scratch::{Scratch, require_free};
use crate::engine::{Columns, Filter};
use crate::format::schema::PayloadSchema;
use crate::input::{InputOptions, Inputs};
use crate::point::{PointId, Record};
use crate::source::Reading;
use crate::source::{OpenedShards, Purpose, Source};
use crate::stream::{Scan, point_streams};
use crate::table::{FileForm, Survey, TypedColumn, refuse_taken, vector_columns};
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
    /// The file to write, or the folder with --vdf [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Form of what is written [default: by the name of the file, else jsonl]
    #[arg(long, value_name = "FORM", conflicts_with = "vdf")]
    pub format: Option<FileForm>,
    /// Give these payload fields, as year,exif.taken, columns of their own in a table, with the type that all their
    /// values have; '*' for every key that occurs. The payloads are read once more for it
    #[arg(long, value_name = "FIELD,FIELD", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Write a folder in the Vector Dataset Format, which vector-io imports into other databases; with the payload
    /// in columns, those of --columns, else all
    #[arg(long)]
    pub vdf: bool,
    /// Replace the output if it exists and is a file
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
    /// Treatment of a point whose vectors have NaN or an infinite number, which JSON cannot
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

/// Treatment of numbers that JSON cannot write.
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
    /// Columns of payload fields that were written, with their types.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// Differences from the snapshot, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
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
            vdf: self.vdf,
        };
        let survey = self.survey(target)?;
        let place = target.check(&self.snapshot)?;
        let parent = self.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let (file, opening) = Inputs::find_one(&self.snapshot, &self.input)?;
        let mut source = Source::open(&file, &opening, None)?;
        let mut missing = source.refuse_unreadable(self.allow_incomplete)?;
        require_free(&parent, source.snapshot.unpacked_bytes, "unpacking")?;
        let scratch = Scratch::new(&parent)?;
        let folder = scratch.folder("source")?;
        let purpose = Purpose::to_read(self.filter.as_ref());
        let open_shards = source.open_all_shards(&folder, purpose, None)?;
        missing.extend(source.refused.clone());

        let selection = Selection {
            source: &source,
            open_shards: &open_shards,
            ids,
            filter: self.filter.as_ref(),
            limit: self.limit.unwrap_or(u64::MAX),
        };
        let columns = match survey {
            Some(survey) => selection.survey(survey, target)?,
            None => Vec::new(),
        };
        let told_columns = (columns.iter())
            .map(|one| (one.name.clone(), one.kind.to_string()))
            .collect();
        let mut points = Points {
            out: Out::new(target, place, &source, &open_shards, columns)?,
            with_vectors: !self.no_vectors,
            on_nan: self.on_nan,
            written: 0,
            not_finite: NotFinite::default(),
        };
        let read = Columns {
            vectors: points.with_vectors,
            payload: true,
        };
        let absent = selection.each(read, &mut |record| points.print(record))?;
        let Points {
            out,
            written,
            not_finite,
            ..
        } = points;
        let held = out.end(self.force)?;
        drop(open_shards);
        drop(scratch);
        let is_less = !missing.is_empty() || !absent.is_empty() || held.leaves_out;
        let differs = is_less || not_finite.points > 0;
        Ok(ExportReport {
            envelope: Envelope::new("export", 1, Outcome::differs_if(differs)),
            file: self.snapshot.display().to_string(),
            output: (self.output.as_ref()).map(|output| output.display().to_string()),
            points: written,
            absent,
            missing,
            not_finite,
            columns: told_columns,
            notes: held.notes,
        })
    }
}

impl ExportRequest {
    /// Survey of the payloads before a table is written; none without typed columns.
    fn survey(&self, target: Target<'_>) -> Result<Option<Survey>> {
        if self.vdf && self.columns.is_empty() {
            return Survey::new(&["*".into()]).map(Some);
        }
        if self.columns.is_empty() {
            return Ok(None);
        }
        if !target.is_table() {
            return Err(
                Error::usage("reading --columns", "JSON lines have no columns").next(
                    "write a table: -o FILE.parquet or --format parquet; or leave --columns out",
                ),
            );
        }
        Survey::new(&self.columns).map(Some)
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

/// The points that are exported.
struct Selection<'a> {
    source: &'a Source,
    open_shards: &'a OpenedShards,
    ids: Option<BTreeSet<PointId>>,
    filter: Option<&'a Filter>,
    limit: u64,
}

impl Selection<'_> {
    /// Types of the columns that `survey` asks for.
    fn survey(&self, mut survey: Survey, target: Target<'_>) -> Result<Vec<TypedColumn>> {
        let vectors = match target.with_vectors {
            true => vector_columns(&self.source.config),
            false => Vec::new(),
        };
        let refuse = |names: &mut dyn Iterator<Item = &str>| match target.vdf {
            true => Ok(()),
            false => refuse_taken(names, &vectors),
        };
        refuse(&mut survey.names())?;
        self.each(Columns::PAYLOADS, &mut |record| {
            survey.add(&record.payload).map(|()| Taken::Yes)
        })?;
        // Pandas has a time that is none for null, which vector-io's importer for Qdrant cannot send: text stays text.
        let no_times = PayloadSchema::default();
        let columns = survey.finish(match target.vdf {
            true => &no_times,
            false => &self.source.payload,
        })?;
        refuse(&mut columns.iter().map(|one| one.name.as_str()))?;
        Ok(columns)
    }

    /// Calls `take` with the `columns` of every point, until as many were taken as are to be; returns the ids that
    /// are not there.
    fn each(
        &self,
        columns: Columns,
        take: &mut dyn FnMut(&Record) -> Result<Taken>,
    ) -> Result<Vec<PointId>> {
        let mut left = self.limit;
        let mut one = |record: &Record| {
            if left > 0 {
                match take(record)? {
                    Taken::Yes => left -= 1,
                    Taken::Skipped => {}
                    Taken::Last => left = 0,
                }
            }
            Ok(left > 0)
        };
        match &self.ids {
            Some(ids) => self.by_ids(ids, columns, &mut one),
            None => self.all(columns, &mut one).map(|()| Vec::new()),
        }
    }

    fn by_ids(
        &self,
        ids: &BTreeSet<PointId>,
        columns: Columns,
        take: &mut dyn FnMut(&Record) -> Result<bool>,
    ) -> Result<Vec<PointId>> {
        let mut absent = Vec::new();
        let ids: Vec<PointId> = ids.iter().copied().collect();
        for some in ids.chunks(IDS_AT_ONCE) {
            let mut records = Vec::new();
            for shard in &self.open_shards.shards {
                for mut record in shard.shard.retrieve(some, columns)? {
                    record.shard_key.clone_from(&shard.key);
                    records.push(record);
                }
            }
            records.sort_by_key(|record| record.id);
            let is_absent = |id: &&PointId| {
                records
                    .binary_search_by_key(*id, |record| record.id)
                    .is_err()
            };
            absent.extend(some.iter().filter(is_absent));
            for record in &records {
                take(record)?;
            }
        }
        Ok(absent)
    }

    fn all(&self, columns: Columns, take: &mut dyn FnMut(&Record) -> Result<bool>) -> Result<()> {
        let point_streams = point_streams(0, self.source, self.open_shards);
        let reading = Reading {
            filter: self.filter,
            columns,
            ..Reading::default()
        };
        if self.limit == 0 {
            return Ok(());
        }
        std::thread::scope(|scope| {
            let mut scan = Scan::start_reading(scope, &point_streams, reading)?;
            let mut group = Vec::new();
            while scan.next_group(&mut group)?.is_some() {
                for scanned in &group {
                    if !take(&scanned.record)? {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }
}

/// Result of writing a point.
enum Taken {
    Yes,
    /// It does not count.
    Skipped,
    /// Nobody reads on.
    Last,
}

/// The points that are printed.
struct Points<'a> {
    out: Out<'a>,
    with_vectors: bool,
    on_nan: OnNan,
    written: u64,
    not_finite: NotFinite,
}

impl Points<'_> {
    fn print(&mut self, record: &Record) -> Result<Taken> {
        if self.with_vectors && !self.out.says_nan() && !record.is_finite() {
            self.not_finite.points += 1;
            if self.not_finite.ids.len() < NOT_FINITE_SHOWN {
                self.not_finite.ids.push(record.id);
            }
            match self.on_nan {
                OnNan::Null => {}
                OnNan::Skip => return Ok(Taken::Skipped),
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
        match self.out.write(record, self.with_vectors)? {
            true => {
                self.written += 1;
                Ok(Taken::Yes)
            }
            false => Ok(Taken::Last),
        }
    }
}
