//! Reading points out of Parquet and Arrow IPC files.
//!
//! Invariants: only the columns that are used are read; a row that is no point is told with its number, the
//! others are read all the same; a panic of the libraries is an error.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

use super::columns::{Fields, Mapping};
use super::{FileForm, KEY, TableMeta, value, vectors};
use crate::base::error::{Error, Result};
use crate::engine::panic_message;
use crate::point::{Record, ShardKey};

/// Magic bytes of an Arrow IPC file; a stream has none.
const ARROW_FILE: &[u8; 6] = b"ARROW1";
/// Bytes of rows that are read at once, at about.
const BATCH_BYTES: u64 = 8 << 20;
/// Rows that are read at once, at the most.
const BATCH_ROWS: usize = 4096;
/// Columns of a file, at the most.
const COLUMNS_MAX: usize = 4096;

/// A table that is open.
pub struct TableReader {
    path: PathBuf,
    schema: SchemaRef,
    meta: Option<TableMeta>,
    inner: Inner,
}

enum Inner {
    Parquet(ParquetRecordBatchReaderBuilder<File>),
    /// Arrow IPC, which is opened when it is read, for the columns that are used.
    File,
    Stream,
}

/// A row: its number from 1 on, and the point that it is, or why it is none.
pub type TableRow = (u64, Result<Record, String>);

type Batches = Box<dyn Iterator<Item = std::result::Result<RecordBatch, ArrowError>>>;

impl TableReader {
    /// Opens the file at `path`.
    pub fn open(path: &Path, form: FileForm) -> Result<Self> {
        let (inner, schema, meta) = match form {
            FileForm::Parquet => {
                let file = File::open(path).map_err(|err| Error::io("opening", path, &err))?;
                let builder = contained(path, || ParquetRecordBatchReaderBuilder::try_new(file))?;
                let schema = builder.schema().clone();
                let pairs = builder.metadata().file_metadata().key_value_metadata();
                let mut pairs = pairs.into_iter().flatten().filter(|pair| pair.key == KEY);
                let meta = pairs.find_map(|pair| pair.value.clone());
                (Inner::Parquet(builder), schema, meta)
            }
            FileForm::Arrow if is_arrow_file(path)? => {
                let reader = contained(path, || FileReader::try_new(buffered(path)?, None))?;
                (Inner::File, reader.schema(), None)
            }
            FileForm::Arrow => {
                refuse_cut(path)?;
                let reader = contained(path, || StreamReader::try_new(buffered(path)?, None))?;
                (Inner::Stream, reader.schema(), None)
            }
            FileForm::Jsonl => {
                return Err(Error::failed(
                    format!("opening {}", path.display()),
                    "it has no columns",
                ));
            }
        };
        if schema.fields().len() > COLUMNS_MAX {
            return Err(damaged(
                path,
                format!(
                    "it has {} columns, more than {COLUMNS_MAX}",
                    schema.fields().len()
                ),
            ));
        }
        let meta = TableMeta::parse(meta.as_ref().or_else(|| schema.metadata().get(KEY)));
        Ok(Self {
            path: path.to_owned(),
            schema,
            meta,
            inner,
        })
    }

    /// The description that it carries, if it was written here.
    pub fn meta(&self) -> Option<&TableMeta> {
        self.meta.as_ref()
    }

    /// The names of its columns.
    pub fn columns(&self) -> Vec<&str> {
        let fields = self.schema.fields().iter();
        fields.map(|field| field.name().as_str()).collect()
    }

    /// Calls `take` with every row. Those of a Parquet file are read a few at a time, those of an Arrow file by its
    /// batches.
    pub fn read(
        self,
        mapping: &Mapping,
        mut take: impl FnMut(TableRow) -> Result<()>,
    ) -> Result<()> {
        let Self {
            path,
            schema,
            inner,
            ..
        } = self;
        let names: Vec<&str> = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        let used = used(&names, mapping).map_err(|why| {
            Error::usage(format!("reading the columns of {}", path.display()), why).next(format!(
                "say what is what with --id, --vector NAME=COLUMN and --payload; its columns are {}",
                names.join(", ")
            ))
        })?;
        let mut batches: Batches = match inner {
            Inner::Parquet(builder) => {
                let mask = ProjectionMask::roots(builder.parquet_schema(), used.iter().copied());
                let groups = builder.metadata().row_groups();
                let bytes = groups
                    .iter()
                    .map(|group| group.total_byte_size().unsigned_abs());
                let rows = builder.metadata().file_metadata().num_rows().unsigned_abs();
                let each = bytes.fold(0, u64::saturating_add) / rows.max(1);
                let fitting = usize::try_from(BATCH_BYTES / each.max(1)).unwrap_or(1);
                let at_once = fitting.clamp(1, BATCH_ROWS);
                let builder = builder.with_projection(mask).with_batch_size(at_once);
                Box::new(contained(&path, || builder.build())?)
            }
            Inner::File => Box::new(contained(&path, || {
                FileReader::try_new(buffered(&path)?, Some(used))
            })?),
            Inner::Stream => Box::new(WholeStream(contained(&path, || {
                StreamReader::try_new(buffered(&path)?, Some(used))
            })?)),
        };
        let mut number = 0;
        while let Some(batch) = contained(&path, || batches.next().transpose())? {
            let plan = BatchPlan::new(&batch, mapping)?;
            for row in 0..batch.num_rows() {
                number += 1;
                take((number, plan.record(row)))?;
            }
        }
        Ok(())
    }
}

fn buffered(path: &Path) -> std::result::Result<BufReader<File>, ArrowError> {
    let file = File::open(path).map_err(|err| ArrowError::IoError(err.to_string(), err))?;
    Ok(BufReader::new(file))
}

/// A stream of batches behind which nothing may follow: of two streams one after the other, the reader takes the first
/// for all.
struct WholeStream(StreamReader<BufReader<File>>);

impl Iterator for WholeStream {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(batch) = self.0.next() {
            return Some(batch);
        }
        match self.0.get_mut().fill_buf() {
            Ok([]) => None,
            Ok(_) => Some(Err(ArrowError::IpcError(
                "something follows the end of its stream: is it several, one after the other?"
                    .into(),
            ))),
            Err(err) => Some(Err(ArrowError::IoError(err.to_string(), err))),
        }
    }
}

/// Returns true if the file at `path` is an Arrow IPC file, and not a stream.
fn is_arrow_file(path: &Path) -> Result<bool> {
    let failed = |err: std::io::Error| Error::io("reading", path, &err);
    let mut start = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(ARROW_FILE.len() as u64)
        .read_to_end(&mut start)
        .map_err(failed)?;
    Ok(start == ARROW_FILE)
}

/// Refuses a stream that does not say that it ends: one that was cut off between two batches looks the same.
fn refuse_cut(path: &Path) -> Result<()> {
    /// A message of no bytes, as streams end since Arrow 0.15.
    const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    let failed = |err: std::io::Error| Error::io("reading", path, &err);
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut end = Vec::new();
    file.seek(std::io::SeekFrom::Start(length.saturating_sub(8)))
        .map_err(failed)?;
    file.read_to_end(&mut end).map_err(failed)?;
    match end == END {
        true => Ok(()),
        false => Err(damaged(
            path,
            "it does not end as an Arrow stream does: it may be cut off".into(),
        )),
    }
}

/// Runs `act` on the file at `path`; a panic is an error.
fn contained<T, E: std::fmt::Display>(
    path: &Path,
    act: impl FnOnce() -> std::result::Result<T, E>,
) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(done) => done.map_err(|err| damaged(path, err.to_string())),
        Err(panic) => Err(damaged(path, panic_message(&*panic))),
    }
}

fn damaged(path: &Path, why: String) -> Error {
    Error::damaged(format!("reading {}", path.display()), why)
        .next(
            "copy or write the file again: Parquet with no compression other than snappy, gzip or zstd, Arrow IPC \
             with none or zstd",
        )
}

/// The places of the columns that are used, or what is wrong with them.
fn used(names: &[&str], mapping: &Mapping) -> Result<Vec<usize>, String> {
    let has = |column: &str| names.contains(&column);
    if let Some(at) = (1..names.len()).find(|at| {
        names
            .iter()
            .take(*at)
            .any(|name| names.get(*at) == Some(name))
    }) {
        return Err(format!(
            "two columns are called {}",
            names.get(at).unwrap_or(&"")
        ));
    }
    let needed = std::iter::once(&mapping.id).chain(mapping.vectors.iter().map(|one| &one.column));
    if let Some(missing) = needed.into_iter().find(|column| !has(column)) {
        return Err(format!("there is no column {missing}"));
    }
    if let Fields::Only(only) = &mapping.fields
        && let Some(missing) = only.iter().find(|column| !has(column))
    {
        return Err(format!("there is no column {missing}"));
    }
    let is_whole = has(&mapping.payload) && !matches!(mapping.fields, Fields::Only(_));
    let mut used = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let is_field = mapping.is_field(name);
        if is_field && mapping.fields == Fields::Whole && is_whole && *name != mapping.payload {
            return Err(format!(
                "the column {name} is none of id, vectors and payload; --payload '*' takes it for one more field \
                 of the payload"
            ));
        }
        if is_field || mapping.is_taken(name) {
            used.push(at);
        }
    }
    Ok(used)
}

/// Columns of a batch by what they are.
struct BatchPlan<'a> {
    batch: &'a RecordBatch,
    id: usize,
    shard_key: Option<usize>,
    payload: Option<usize>,
    vectors: Vec<(&'a str, usize)>,
    fields: Vec<usize>,
    is_ours: bool,
}

impl<'a> BatchPlan<'a> {
    fn new(batch: &'a RecordBatch, mapping: &'a Mapping) -> Result<Self> {
        let schema = batch.schema_ref();
        let place = |column: &str| schema.index_of(column).ok();
        let missing = || Error::failed("reading a batch of rows", "it lacks a column");
        let payload = match mapping.fields {
            Fields::Whole | Fields::All => place(&mapping.payload),
            Fields::Only(_) => None,
        };
        let mut vectors = Vec::new();
        for one in &mapping.vectors {
            vectors.push((one.name.as_str(), place(&one.column).ok_or_else(missing)?));
        }
        vectors.sort_unstable();
        let is_field =
            |name: &str| mapping.is_field(name) && (payload.is_none() || name != mapping.payload);
        let names = schema.fields().iter().enumerate();
        Ok(Self {
            batch,
            id: place(&mapping.id).ok_or_else(missing)?,
            shard_key: place(&mapping.shard_key),
            payload,
            vectors,
            is_ours: mapping.is_ours,
            fields: names
                .filter(|(_, field)| is_field(field.name()))
                .map(|(at, _)| at)
                .collect(),
        })
    }

    fn record(&self, row: usize) -> Result<Record, String> {
        let column = |at: usize| self.batch.column(at).as_ref();
        let named = |at: usize| self.batch.schema_ref().field(at).name().clone();
        let mut record = Record::bare(value::id(column(self.id), row)?);
        if let Some(at) = self.shard_key {
            record.shard_key = match value::json(column(at), row)? {
                Value::Null => None,
                key => Some(ShardKey::of_table(&key, self.is_ours)?),
            };
        }
        for (name, at) in &self.vectors {
            let vector = vectors::vector(column(*at), row);
            let vector = vector.map_err(|why| format!("column {}: {why}", named(*at)))?;
            record
                .vectors
                .extend(vector.map(|vector| ((*name).to_owned(), vector)));
        }
        if let Some(at) = self.payload {
            record.payload = whole_payload(value::json(column(at), row)?)?;
        }
        for at in &self.fields {
            let value = value::json(column(*at), row);
            let value = value.map_err(|why| format!("column {}: {why}", named(*at)))?;
            // What a row lacks is null in a table.
            if !value.is_null() && record.payload.insert(named(*at), value).is_some() {
                return Err(format!("its payload has {} already", named(*at)));
            }
        }
        Ok(record)
    }
}

/// A whole payload: an object, or its text.
pub fn whole_payload(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Null => Ok(Map::new()),
        Value::Object(map) => Ok(map),
        Value::String(text) => {
            serde_json::from_str(&text).map_err(|err| format!("its payload: {err}"))
        }
        other => Err(format!("its payload is {other}")),
    }
}
