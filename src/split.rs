//! One snapshot split into several by the value of a payload field: the inverse of a merge.
//!
//! Invariants: the source is read once; every point of it is in exactly one part; the digests of the parts,
//! each read back from its file, add up to the digest of what was read, or none of them gets its name.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::base::overwrite::ReadFiles;
use crate::base::path::folder_of;
use crate::base::progress::Unit;
use crate::base::scratch::{Scratch, require_free};
use crate::base::stage::{StageReport, Stages};
use crate::build::{Builder, PartReport, Pattern, Staging, Values, engine_bytes, refuse_lossy};
use crate::engine::PayloadField;
use crate::format::schema::Overrides;
use crate::input::{InputOptions, Inputs};
use crate::point::{Digest, Record};
use crate::source::{Purpose, Source, SourceLabel};
use crate::stream::{Flow, Layout, Ledger, Resolver, Sorter, UnionOptions, master_shape};

/// A split.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct SplitRequest {
    /// A snapshot file, plain or .gz, or archive:NAME@DATE
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: PathBuf,
    /// The payload field whose values tell the parts apart: a key, or a path like exif.year. A value is a word,
    /// a number, or true or false
    #[arg(long, value_name = "FIELD", value_parser = PayloadField::of_keys)]
    pub by: PayloadField,
    /// The parts to write, with the field in braces: 'album_{year}.snapshot'; compressed if it ends in .gz.
    /// Bytes that a file's name cannot have are written as %XX
    #[arg(short, long, value_name = "PATTERN")]
    pub output: Pattern,
    /// The value under which points go that have none, or a list or an object; without this they are refused
    #[arg(long, value_name = "VALUE")]
    pub rest: Option<String>,
    /// Refuse to write more parts than this
    #[arg(long, value_name = "N", default_value = "1000")]
    pub max_parts: usize,
    /// Replace outputs that exist
    #[arg(long)]
    pub force: bool,
    /// Where to unpack, sort and build [default: the folder of the output]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Read a snapshot that lacks shards or whose replica was not active; exit with 3
    #[arg(long)]
    pub allow_incomplete: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub overrides: Overrides,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub input: InputOptions,
}

/// The report of a split.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SplitReport {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// The source.
    pub source: SourceLabel,
    /// The payload field.
    pub by: String,
    /// Points of the source, which is the sum of the parts'.
    pub points: u64,
    /// Digest of the source's points, which is the sum of the parts'.
    pub digest: String,
    /// Points without a value, which went into the part of `--rest`.
    pub rest: u64,
    /// The parts, by their values.
    pub parts: Vec<PartReport>,
    /// Parts that the source lacks, if that was allowed.
    pub missing: Vec<String>,
    /// Duration and volume of each stage.
    pub stages: Vec<StageReport>,
    /// Wall-clock time of the whole, in seconds.
    pub seconds: f64,
}

impl Operation for SplitRequest {
    const NAME: &'static str = "split";
    type Report = SplitReport;

    fn run(self, context: &Context) -> Result<SplitReport> {
        let started = Instant::now();
        let mut stages = Stages::since(started);
        self.refuse_pattern()?;
        let first = self.output.path("x");
        let parent = self
            .scratch
            .clone()
            .unwrap_or_else(|| folder_of(&first).to_owned());
        let (file, opening) = Inputs::find_one(&self.snapshot, &self.input)?;
        let mut source = Source::open(&file, &opening, None)?;
        let missing = source.refuse_unreadable(self.allow_incomplete)?;
        let options = UnionOptions::default();
        let (united, layout) =
            master_shape(std::slice::from_ref(&source), &options, &self.overrides)?;
        let next = "restore it, and split it by its filters on the server";
        refuse_lossy(&united.config, "planning the split", next)?;
        let engine_bytes = engine_bytes(&united.config, &united.payload);
        // Unpacked, sorted, and one part after the other built; and packed.
        let needed = 3 * source.snapshot.unpacked_bytes + engine_bytes;
        require_free(&parent, needed, "unpacking, sorting and building")?;
        stages.end("open").bytes(source.snapshot.file_bytes);

        let scratch = Scratch::new(&parent)?;
        let mut sorted = Sorter::new(scratch.path());
        let mut values = Values::new(self.max_parts, self.rest.clone());
        let digest = read(
            &mut source,
            &layout,
            &options,
            &scratch,
            context,
            |record| {
                let number = values.number(record.id, self.output.value(&record.payload))?;
                match number {
                    Some(number) => sorted.push(number, record),
                    None => Ok(()),
                }
            },
        )?;
        let points = digest.points();
        stages.end("read").points(points);
        let doing = format!("splitting {} by {}", self.snapshot.display(), self.by);
        let (values, rest) = values.finish(&doing)?;

        let read = ReadFiles::new(file.lies_in());
        let staging = Staging::new(&self.output, values, &read, self.force)?;
        let builder = Builder {
            scratch: &parent,
            progress: context.progress,
        };
        let sorted = sorted.finish()?;
        let built = staging.build(builder, &united, &layout, &|| sorted.records())?;
        stages.end("build").points(points);
        refuse_other_sum(&digest, &built.digest)?;
        let (parts, bytes) = built.publish(self.force, || Ok(()))?;
        stages.end("publish").bytes(bytes);
        let differs = !missing.is_empty() || !source.refused.is_empty();
        Ok(SplitReport {
            envelope: Envelope::new("split", 1, Outcome::differs_if(differs)),
            source: source.label(),
            by: self.by.to_string(),
            points,
            digest: digest.to_string(),
            rest,
            parts,
            missing: missing.into_iter().chain(source.refused).collect(),
            stages: stages.into_reports(),
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}

impl SplitRequest {
    fn refuse_pattern(&self) -> Result<()> {
        if self.output.field() == Some(&self.by) {
            return Ok(());
        }
        Err(Error::usage(
            format!("reading -o {}", self.output),
            format!("it does not have {{{}}}, the field of --by, in it", self.by),
        )
        .next(format!("give it as -o 'part_{{{}}}.snapshot'", self.by)))
    }
}

/// Calls `take` with every point of `source`; returns the digest of all of them.
fn read(
    source: &mut Source,
    layout: &Layout,
    options: &UnionOptions,
    scratch: &Scratch,
    context: &Context,
    mut take: impl FnMut(Record) -> Result<()>,
) -> Result<Digest> {
    let folder = scratch.folder("source")?;
    let stage = context.progress.stage("open shards", None, Unit::None);
    let open_shards = [source.open_all_shards(&folder, Purpose::Reading, None)?];
    drop(stage);
    let sources = std::slice::from_ref(&*source);
    let keeps_keys = !layout.keys.is_empty();
    let ledger = Ledger::new(None::<&Path>, false)?;
    let names = vec![source.name.as_str()];
    let mut resolver = Resolver::new(options, names, ledger);
    let flow = Flow::new(sources, &open_shards, options, keeps_keys)?;
    let stage = context
        .progress
        .stage("read", Some(flow.total()), Unit::Points);
    let flowed = flow.run(&mut resolver, &stage, |record, _| take(record))?;
    drop(flow);
    open_shards
        .into_iter()
        .try_for_each(|open_shards| open_shards.discard())?;
    Ok(flowed.digest)
}

/// The parts together are the source, or something is wrong with this program or the disk.
fn refuse_other_sum(digest: &Digest, sum: &Digest) -> Result<()> {
    if sum == digest {
        return Ok(());
    }
    Err(Error::failed(
        "proving the parts",
        format!(
            "together they have the digest {sum}, not the source's {digest}: {} differ",
            sum.differing(digest).join(", ")
        ),
    )
    .next("this is a fault of snapmerge or of the disk: please report it; nothing was written"))
}
