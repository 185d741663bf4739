//! Rows of files into collections, one for each value of a payload field: snapshots, or collections of a running
//! server.
//!
//! Invariants: a row is in a collection, or was replaced by a later one, or is told as refused; the collections have
//! what was read, bit by bit, and nothing else; none gets its name before all are proven.

mod fit;
mod lines;
mod live;
mod rejects;
mod request;
mod shape;
mod unique;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Instant;

use flate2::bufread::MultiGzDecoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::live::LiveCollectionReport;
pub use self::request::{IngestRequest, OnExisting};

use self::fit::Fitting;
use self::live::Writing;
use self::rejects::Rejects;
use self::request::Input;
use self::shape::SeenKeys;
use self::unique::Unique;
use crate::base::error::{Error, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::base::overwrite::ReadFiles;
use crate::base::path::{folder_of, is_gz};
use crate::base::progress::{Stage, Unit};
use crate::base::scratch::{Scratch, require_free};
use crate::base::stage::{StageReport, Stages};
use crate::base::status;
use crate::build::{Builder, PartReport, Shape, Staging, Values, engine_bytes, lossy, next_of};
use crate::format::schema::{CollectionConfig, Decision, United};
use crate::input::connect;
use crate::point::{Record, ShardKey};
use crate::server::Address;
use crate::stream::{Layout, Sorted, Sorter};
use crate::table::{FileForm, TableReader, TableRow};

/// The report of an ingest.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct IngestReport {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// The files, in their order.
    pub inputs: Vec<InputReport>,
    /// Where the config comes from.
    pub config: String,
    /// Rows that were read.
    pub rows: u64,
    /// Rows whose id came again, so that one of them counts.
    pub replaced: u64,
    /// Rows that are no points, which were written to the file of `--reject`.
    pub rejected: u64,
    /// Points without a value, which went into the collection of `--rest`.
    pub rest: u64,
    /// Points of all collections.
    pub points: u64,
    /// The snapshots, if these were written.
    pub collections: Vec<PartReport>,
    /// The collections of a running server, if these were written.
    pub live: Vec<LiveCollectionReport>,
    /// Settings that were given in place of the config's.
    pub decisions: Vec<Decision>,
    /// Duration and volume of each stage.
    pub stages: Vec<StageReport>,
    /// Wall-clock time of the whole, in seconds.
    pub seconds: f64,
}

/// A file in the report.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct InputReport {
    /// The file.
    pub file: String,
    /// Form of it.
    pub form: String,
    /// Rows that it has.
    pub rows: u64,
}

impl Operation for IngestRequest {
    const NAME: &'static str = "ingest";
    type Report = IngestReport;

    fn run(self, context: &Context) -> Result<IngestReport> {
        let started = Instant::now();
        let mut stages = Stages::since(started);
        let parent = self.scratch_parent();
        let inputs = self.files()?;
        let found = self.found(&inputs, &parent)?;
        let bytes: u64 = inputs.iter().map(|input| input.bytes).sum();
        let read = self.read_files(&inputs);
        if self.live.to.is_none() {
            refuse_lossy(found.config())?;
            let needed = 2 * bytes + engine_bytes(found.config(), found.payload());
            require_free(&parent, needed, "sorting and building")?;
        }
        if let (Some(output), true) = (&self.output, self.pattern()?.field().is_none()) {
            // Tried now, so that hours of reading do not end with this.
            drop(Staging::new(
                output,
                vec![(String::new(), 0)],
                &read,
                self.force,
            )?);
        }
        let rejects = Rejects::new(self.reject.as_deref(), &read, self.force)?;
        stages.end("open").bytes(bytes);

        let scratch = Scratch::new(&parent)?;
        let mut taking = Taking {
            request: &self,
            config: found.config(),
            sorter: Sorter::new(scratch.path()),
            values: Values::new(self.max_parts, self.rest.clone()),
            keys: SeenKeys::default(),
            rejects,
            seen: BTreeSet::new(),
            rows: 0,
        };
        let shown = context.progress.stage("read", None, Unit::Points);
        let mut files = Vec::new();
        for input in &inputs {
            let before = taking.rows;
            taking.read(input, &shown)?;
            files.push(InputReport {
                file: input.name.clone(),
                form: input.form.to_string(),
                rows: taking.rows - before,
            });
        }
        drop(shown);
        let all_lines = inputs.iter().all(|input| input.form == FileForm::Jsonl);
        if all_lines && taking.rows > taking.rejects.count {
            self.columns.refuse_unseen(&taking.seen)?;
        }
        let Taking {
            sorter,
            values,
            keys,
            rejects,
            rows,
            ..
        } = taking;
        stages.end("read").points(rows).bytes(bytes);

        let (united, layout) = found.shape(&self.overrides, &keys)?;
        if let Some(output) = &self.output {
            // What is built lies beside what was sorted, and all snapshots are there before the first has its name.
            let needed = engine_bytes(&united.config, &united.payload);
            require_free(&parent, sorter.bytes() + needed, "building")?;
            require_free(
                folder_of(&output.path("x")),
                sorter.bytes(),
                "the snapshots",
            )?;
        }
        let (mut values, rest) = values.finish("ingesting")?;
        if self.pattern()?.field().is_none() && values.is_empty() {
            // Of no rows, a collection without points.
            values.push((String::new(), 0));
        }
        let mut report = IngestReport {
            envelope: Envelope::new("ingest", 1, Outcome::DONE),
            inputs: files,
            config: found.origin.clone(),
            rows,
            rejected: rejects.count,
            rest,
            decisions: united.decisions.clone(),
            ..IngestReport::default()
        };
        let work = Work {
            request: &self,
            united: &united,
            layout: &layout,
            values,
            keys: keys.keys(),
            scratch: &parent,
            context,
        };
        match &self.live.to {
            Some(server) => {
                work.live(server, sorter.finish()?, rejects, &mut report, &mut stages)?;
            }
            None => {
                work.offline(&read, sorter.finish()?, rejects, &mut report, &mut stages)?;
            }
        }
        report.stages = stages.into_reports();
        report.seconds = started.elapsed().as_secs_f64();
        Ok(report)
    }
}

/// Rows that were read, on their way into collections.
struct Work<'a> {
    request: &'a IngestRequest,
    united: &'a United,
    layout: &'a Layout,
    /// Values with about their points, in the order of the collections.
    values: Vec<(String, u64)>,
    keys: BTreeSet<ShardKey>,
    scratch: &'a Path,
    context: &'a Context,
}

impl Work<'_> {
    /// Makes a snapshot of each collection.
    fn offline(
        self,
        read: &ReadFiles,
        sorted: Sorted,
        rejects: Rejects,
        report: &mut IngestReport,
        stages: &mut Stages,
    ) -> Result<()> {
        let Self {
            request, values, ..
        } = self;
        let staging = Staging::new(request.pattern()?, values, read, request.force)?;
        if let Some(reject) = request.reject.as_ref().filter(|reject| staging.has(reject)) {
            return Err(Error::usage(
                format!("writing {}", reject.display()),
                "it is the file of --reject, and one of the snapshots",
            )
            .next("choose another name for --reject"));
        }
        let builder = Builder {
            scratch: self.scratch,
            progress: self.context.progress,
        };
        let replaced = Cell::new(0);
        let built = staging.build(builder, self.united, self.layout, &|| {
            let records = sorted.records()?;
            Ok(Box::new(Unique::new(
                records,
                request.on_existing,
                &replaced,
            )))
        })?;
        report.replaced = replaced.get();
        report.points = built.digest.points();
        stages.end("build").points(report.points);
        report.account()?;
        report.envelope.outcome = Outcome::differs_if(report.rejected > 0);
        rejects.finish(request.force)?;
        let (collections, bytes) = built.publish(request.force)?;
        report.collections = collections;
        stages.end("publish").bytes(bytes);
        Ok(())
    }

    /// Writes into collections of the running server at `address`.
    fn live(
        self,
        address: &str,
        sorted: Sorted,
        rejects: Rejects,
        report: &mut IngestReport,
        stages: &mut Stages,
    ) -> Result<()> {
        let request = self.request;
        let connection = connect(
            &Address::parse(address)?,
            &request.live.connection,
            self.context,
        )?;
        let writing = Writing {
            connection: &connection,
            shape: Shape {
                config: &self.united.config,
                payload: &self.united.payload,
                layout: self.layout,
            },
            rule: request.on_existing,
            limit: request.live.limit_rate,
            progress: self.context.progress,
        };
        let pattern = request.pattern()?;
        let mut ready = Vec::new();
        for (value, points) in self.values {
            let name = pattern.name(&value);
            ready.push((writing.look(&name, value, &self.keys)?, points));
        }
        stages.end("look");
        let _told = status::remote(&format!(
            "collections of {address}, which do not have all rows yet,"
        ));
        let replaced = Cell::new(0);
        let records = sorted.records()?;
        let mut records = Unique::new(records, request.on_existing, &replaced).peekable();
        for (number, (ready, points)) in (0..).zip(ready) {
            let mut next = || next_of(number, &mut records);
            report.live.push(writing.write(ready, points, &mut next)?);
        }
        drop(records);
        report.replaced = replaced.get();
        let sum = |one: &LiveCollectionReport| one.added + one.changed + one.same + one.skipped;
        report.points = report.live.iter().map(sum).sum();
        stages.end("write").points(report.points);
        report.account()?;
        rejects.finish(request.force)?;
        let differing = report.live.iter().any(|one| one.differing > 0);
        report.envelope.outcome = Outcome::differs_if(report.rejected > 0 || differing);
        Ok(())
    }
}

impl IngestReport {
    /// Every row is in a collection, was replaced, or was refused.
    fn account(&self) -> Result<()> {
        let Self {
            rows,
            points,
            replaced,
            rejected,
            ..
        } = self;
        if *rows == points + replaced + rejected {
            return Ok(());
        }
        Err(Error::failed(
            "accounting for the rows",
            format!(
                "{rows} were read; {points} are points, {replaced} were replaced, {rejected} refused"
            ),
        ))
    }
}

fn refuse_lossy(config: &CollectionConfig) -> Result<()> {
    match lossy(config).first() {
        None => Ok(()),
        Some(first) => Err(Error::usage("planning the collections", first.clone())
            .next("such vectors are made by a server alone: write into one with --to, or choose another datatype")),
    }
}

/// Rows being taken in.
struct Taking<'a> {
    request: &'a IngestRequest,
    config: &'a CollectionConfig,
    sorter: Sorter,
    values: Values,
    keys: SeenKeys,
    rejects: Rejects,
    /// Columns of vectors that lines have.
    seen: BTreeSet<String>,
    rows: u64,
}

impl Taking<'_> {
    /// Takes in all rows of `input`.
    fn read(&mut self, input: &Input, stage: &Stage) -> Result<()> {
        let as_stored = self.request.as_stored(input, self.config)?;
        let fitting = Fitting {
            config: self.config,
            as_stored: &as_stored,
            allow_nan: self.request.allow_nan,
        };
        if input.form != FileForm::Jsonl {
            let table = TableReader::open(&input.path, input.form)?;
            let columns = table.columns();
            let mapping = self.request.mapping(input, Some(&columns), self.config)?;
            return table.read(&mapping, |row| {
                self.take(input, row, fitting)?;
                stage.add(1);
                Ok(())
            });
        }
        let mapping = self.request.mapping(input, None, self.config)?;
        let mut seen = std::mem::take(&mut self.seen);
        let name = Path::new(&input.name);
        lines::read(open(&input.path)?, name, &mapping, &mut seen, |row| {
            self.take(input, row, fitting)?;
            stage.add(1);
            Ok(())
        })?;
        self.seen = seen;
        Ok(())
    }

    /// Takes in a row.
    fn take(&mut self, input: &Input, row: TableRow, fitting: Fitting<'_>) -> Result<()> {
        self.rows += 1;
        let (number, read) = row;
        let fitted = read.and_then(|mut record| {
            fitting.fit(&mut record)?;
            let value = self.value(&record)?;
            Ok((record, value))
        });
        let (record, value) = match fitted {
            Ok(fitted) => fitted,
            Err(why) => return self.rejects.add(input, number, &why),
        };
        match self.values.number(record.id, value)? {
            Some(collection) => {
                self.keys.add(record.id, record.shard_key.as_ref())?;
                self.sorter.push(collection, record)
            }
            None => Ok(()),
        }
    }

    /// The value that says which collection a point goes to; none if that is the one of `--rest`.
    fn value(&self, record: &Record) -> Result<Option<String>, String> {
        let output = self.request.pattern().map_err(|err| err.to_string())?;
        let Some(field) = output.field() else {
            return Ok(Some(String::new()));
        };
        match output.value(&record.payload) {
            None if self.request.rest.is_none() => Err(format!(
                "its payload has no word, number or truth value at {field}; --rest VALUE takes such rows"
            )),
            value => Ok(value),
        }
    }
}

/// Opens a file of lines, compressed if its name ends in .gz.
fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let file = File::open(path).map_err(|err| Error::io("opening", path, &err))?;
    let file = BufReader::with_capacity(256 << 10, file);
    Ok(match is_gz(path) {
        true => Box::new(BufReader::with_capacity(
            256 << 10,
            MultiGzDecoder::new(file),
        )),
        false => Box::new(file),
    })
}
