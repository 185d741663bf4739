//! Rows of files into collections, one for each value of a payload field: snapshots, or collections of a running
//! server.
//!
//! Invariants: a row is in a collection, or was replaced by a later one, or is told as refused; the collections have
//! what was read, bit by bit, and nothing else; none gets its name before all are proven.

mod columns;
mod fit;
mod input;
mod lines;
mod live;
mod needs;
mod rejects;
mod report;
mod request;
mod sending;
mod shape;
mod unique;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Instant;

use flate2::bufread::MultiGzDecoder;

pub use self::report::{IngestReport, InputReport, LiveCollectionReport};
pub use self::request::{IngestRequest, OnExisting};

use self::fit::Fitting;
use self::input::Input;
use self::live::Writing;
use self::needs::ByCollection;
use self::rejects::Rejects;
use self::shape::SeenKeys;
use self::unique::Unique;
use crate::base::error::{Error, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::base::overwrite::ReadFiles;
use crate::base::path::{folder_of, is_gz};
use crate::base::progress::{Stage, Unit};
use crate::base::scratch::{Scratch, require_free};
use crate::base::stage::Stages;
use crate::base::status;
use crate::build::{Builder, Needs, Shape, Staging, Values, engine_bytes, lossy, next_of};
use crate::format::schema::{CollectionConfig, United};
use crate::input::connect;
use crate::point::{Record, ShardKey};
use crate::server::Address;
use crate::stream::{Layout, Sorted, Sorter};
use crate::table::{FileForm, TableReader, TableRow};

impl Operation for IngestRequest {
    const NAME: &'static str = "ingest";
    type Report = IngestReport;

    fn run(self, context: &Context) -> Result<IngestReport> {
        let started = Instant::now();
        let mut stages = Stages::since(started);
        let parent = self.scratch_parent();
        let inputs = self.files()?;
        let found = self.found(&inputs)?;
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
            unseen: self.columns.unseen(&inputs),
            needs: ByCollection::new(found.config()),
            inputs: &inputs,
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
        if taking.rows > taking.rejects.count {
            self.columns.refuse(&taking.unseen)?;
        }
        let Taking {
            sorter,
            values,
            keys,
            rejects,
            needs,
            rows,
            ..
        } = taking;
        stages.end("read").points(rows).bytes(bytes);

        let (united, layout) = found.shape(&self.overrides, &keys)?;
        // What is sorted lies on the disk already.
        let sorted = sorter.finish()?;
        let engine = engine_bytes(&united.config, &united.payload);
        let is_gz = self
            .output
            .as_ref()
            .is_some_and(|output| is_gz(&output.path("x")));
        let needs = needs.needs(engine, is_gz);
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
            needs,
            context,
        };
        match &self.live.to {
            Some(server) => {
                work.live(server, sorted, rejects, &mut report, &mut stages)?;
            }
            None => {
                work.offline(&read, sorted, rejects, &mut report, &mut stages)?;
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
    /// Disk space that snapshots need.
    needs: Needs,
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
        // Those of an earlier run take no more.
        let mut needs = self.needs;
        needs.output_bytes = needs.output_bytes.saturating_sub(staging.resumed_bytes());
        let output = request.pattern()?.path("x");
        needs.require(self.scratch, folder_of(&output), "the snapshots")?;
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
        let rejected = rejects.close()?;
        let last = || rejected.map_or(Ok(()), |rejected| rejected.publish(request.force));
        let (collections, bytes) = built.publish(request.force, last)?;
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
            ready.push((writing.prepare(&name, value, &self.keys)?, points));
        }
        stages.end("prepare");
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
        if let Some(rejected) = rejects.close()? {
            rejected.publish(request.force)?;
        }
        let differing = (report.live.iter()).any(|one| one.differing > 0 || one.unsure > 0);
        report.envelope.outcome = Outcome::differs_if(report.rejected > 0 || differing);
        Ok(())
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
    /// Columns that were given, and that no point has yet.
    unseen: BTreeSet<String>,
    needs: ByCollection,
    inputs: &'a [Input],
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
            let mapping =
                self.request
                    .columns
                    .mapping(input, self.inputs, Some(&columns), self.config)?;
            return table.read(&mapping, |row| {
                self.take(input, row, fitting)?;
                stage.add(1);
                Ok(())
            });
        }
        let mapping = self
            .request
            .columns
            .mapping(input, self.inputs, None, self.config)?;
        let mut unseen = std::mem::take(&mut self.unseen);
        let name = Path::new(&input.name);
        lines::read(open(&input.path)?, name, &mapping, &mut unseen, |row| {
            let is_taken = self.take(input, row, fitting)?;
            stage.add(1);
            Ok(is_taken)
        })?;
        self.unseen = unseen;
        Ok(())
    }

    /// Takes in a row; returns false if it is no point.
    fn take(&mut self, input: &Input, row: TableRow, fitting: Fitting<'_>) -> Result<bool> {
        self.rows += 1;
        let (number, read) = row;
        let fitted = read.and_then(|mut record| {
            fitting.fit(&mut record)?;
            let value = self.value(&record)?;
            Ok((record, value))
        });
        let (record, value) = match fitted {
            Ok(fitted) => fitted,
            Err(why) => return self.rejects.add(input, number, &why).map(|()| false),
        };
        if let Some(collection) = self.values.number(record.id, value)? {
            self.keys.add(record.id, record.shard_key.as_ref())?;
            self.needs.add(collection, &record);
            self.sorter.push(collection, record)?;
        }
        Ok(true)
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
