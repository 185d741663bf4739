//! Reading points out of Parquet and Arrow IPC files.
//!
//! Invariants: only the columns that are used are read; a row that is no point is told with its number, the
//! others are read all the same; a panic of the libraries is an error.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _};
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

/// What an Arrow IPC file begins with; a stream does not.
const ARROW_FILE: &[u8; 6] = b"ARROW1";
/// Columns of a file, at the most.
const COLUMNS_MAX: usize = 4096;

/// A table that is open.
pub struct TableReader {
    path: PathBuf,
    schema: SchemaRef,
    meta: Option<TableMeta>,
    rows: Option<u64>,
    inner: Inner,
}

enum Inner {
    Parquet(ParquetRecordBatchReaderBuilder<File>),
    File(FileReader<BufReader<File>>),
    Stream(StreamReader<BufReader<File>>),
}

/// A row: its number from 1 on, and the point that it is, or why it is none.
pub type TableRow = (u64, Result<Record, String>);

type Batches = Box<dyn Iterator<Item = std::result::Result<RecordBatch, ArrowError>>>;

impl TableReader {
    /// Opens the file at `path`.
    pub fn open(path: &Path, form: FileForm) -> Result<Self> {
        let open = || File::open(path).map_err(|err| Error::io("opening", path, &err));
        let inner = match form {
            FileForm::Parquet => {
                let file = open()?;
                contained(path, || ParquetRecordBatchReaderBuilder::try_new(file))
                    .map(Inner::Parquet)?
            }
            FileForm::Arrow => {
                let mut file = open()?;
                let mut start = Vec::new();
                let read = (&mut file)
                    .take(ARROW_FILE.len() as u64)
                    .read_to_end(&mut start);
                read.and_then(|_| file.rewind())
                    .map_err(|err| Error::io("reading", path, &err))?;
                let file = BufReader::new(file);
                match start == ARROW_FILE {
                    true => contained(path, || FileReader::try_new(file, None)).map(Inner::File)?,
                    false => {
                        contained(path, || StreamReader::try_new(file, None)).map(Inner::Stream)?
                    }
                }
            }
            FileForm::Jsonl => {
                return Err(Error::failed(
                    format!("opening {}", path.display()),
                    "it has no columns",
                ));
            }
        };
        let (schema, meta, rows) = match &inner {
            Inner::Parquet(builder) => {
                let file = builder.metadata().file_metadata();
                let pairs = file.key_value_metadata().into_iter().flatten();
                let ours = pairs
                    .filter(|pair| pair.key == KEY)
                    .find_map(|pair| pair.value.clone());
                (
                    builder.schema().clone(),
                    ours,
                    u64::try_from(file.num_rows()).ok(),
                )
            }
            Inner::File(reader) => (reader.schema(), None, None),
            Inner::Stream(reader) => (reader.schema(), None, None),
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
            rows,
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

    /// The number of its rows, where its header tells it.
    pub fn rows(&self) -> Option<u64> {
        self.rows
    }

    /// Calls `take` with every row, read `at_once` at a time.
    pub fn read(
        self,
        mapping: &Mapping,
        at_once: usize,
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
                let builder = builder.with_projection(mask).with_batch_size(at_once);
                Box::new(contained(&path, || builder.build())?)
            }
            Inner::File(reader) => Box::new(reader),
            Inner::Stream(reader) => Box::new(reader),
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
        .next("write the file again, without compression other than snappy, gzip or zstd")
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
        let is_field = match &mapping.fields {
            Fields::Only(only) => only.iter().any(|one| one == name),
            _ if mapping.is_taken(name) => false,
            Fields::All => true,
            Fields::Whole if is_whole && *name != mapping.payload => {
                return Err(format!(
                    "the column {name} is none of id, vectors and payload; --payload '*' takes it for a field \
                     of the payload"
                ));
            }
            Fields::Whole => true,
        };
        let is_other = mapping.is_taken(name) && !mapping.ignored.iter().any(|one| one == name);
        if is_field || is_other {
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
}

impl<'a> BatchPlan<'a> {
    fn new(batch: &'a RecordBatch, mapping: &'a Mapping) -> Result<Self> {
        let schema = batch.schema_ref();
        let place = |column: &str| schema.index_of(column).ok();
        let missing = || Error::failed("reading a batch of rows", "it lacks a column");
        let payload = match mapping.fields {
            Fields::Whole => place(&mapping.payload),
            Fields::All | Fields::Only(_) => None,
        };
        let mut vectors = Vec::new();
        for one in &mapping.vectors {
            vectors.push((one.name.as_str(), place(&one.column).ok_or_else(missing)?));
        }
        vectors.sort_unstable();
        let is_field = |name: &str| match &mapping.fields {
            Fields::Only(only) => only.iter().any(|one| one == name),
            Fields::All | Fields::Whole => payload.is_none() && !mapping.is_taken(name),
        };
        let names = schema.fields().iter().enumerate();
        Ok(Self {
            batch,
            id: place(&mapping.id).ok_or_else(missing)?,
            shard_key: place(&mapping.shard_key),
            payload,
            vectors,
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
                key => Some(ShardKey::of_table(&key)?),
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
            record.payload = whole(value::json(column(at), row)?)?;
        }
        for at in &self.fields {
            let value = value::json(column(*at), row);
            let value = value.map_err(|why| format!("column {}: {why}", named(*at)))?;
            // What a row lacks is null in a table.
            if !value.is_null() {
                record.payload.insert(named(*at), value);
            }
        }
        Ok(record)
    }
}

/// A whole payload: an object, or its text.
fn whole(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Null => Ok(Map::new()),
        Value::Object(map) => Ok(map),
        Value::String(text) => {
            serde_json::from_str(&text).map_err(|err| format!("its payload: {err}"))
        }
        other => Err(format!("its payload is {other}")),
    }
}
