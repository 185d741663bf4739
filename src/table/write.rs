//! Writing points into Parquet and Arrow IPC files.
//!
//! Invariants: memory is bounded by a row group, whatever the number of points; the file says what its columns
//! are.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{StringBuilder, UInt64Builder};
use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde_json::Value;

use super::columns::VectorColumn;
use super::typed::{TypedBuilder, TypedColumn};
use super::vectors::VectorBuilder;
use super::{FileForm, KEY, TableMeta, VERSION};
use crate::base::error::{Error, Result};
use crate::format::schema::{CollectionConfig, PayloadSchema, ShardKeys};
use crate::point::numbers::to_be_read_back;
use crate::point::{PointId, Record};

/// Bytes of points in a batch, at about.
const BATCH_BYTES: usize = 8 << 20;
/// Points in a batch, at the most.
const BATCH_POINTS: usize = 8192;
/// Bytes of a row group, at about.
const GROUP_BYTES: usize = 64 << 20;
/// Columns whose names no vector's column may have.
const ID: &str = "id";
const PAYLOAD: &str = "payload";
const SHARD_KEY: &str = "shard_key";
/// The column of the unnamed vector.
const UNNAMED: &str = "vector";

/// A table being written.
pub struct TableWriter {
    path: PathBuf,
    schema: SchemaRef,
    out: Out,
    ids: Ids,
    payloads: Option<StringBuilder>,
    shard_keys: Option<StringBuilder>,
    vectors: Vec<(String, VectorBuilder)>,
    typed: Vec<(TypedColumn, TypedBuilder)>,
    /// True if some of the collection's vectors are not written.
    leaves_vectors_out: bool,
    points: usize,
    bytes: usize,
}

enum Out {
    Parquet(Box<ArrowWriter<File>>),
    Arrow(Box<FileWriter<BufWriter<File>>>),
}

enum Ids {
    /// All are numbers.
    Numbers(UInt64Builder),
    /// Some are UUIDs.
    Words(StringBuilder),
}

/// Which columns a table is to have.
#[derive(Debug, Clone, Copy)]
pub struct TableShape<'a> {
    /// Config of the collection.
    pub config: &'a CollectionConfig,
    /// Payload indexes of the collection.
    pub payload: &'a PayloadSchema,
    /// Shard keys of the collection.
    pub shard_keys: &'a ShardKeys,
    /// True if all ids are numbers.
    pub numbers_only: bool,
    /// Columns of vectors that are written.
    pub vectors: &'a [VectorColumn],
    /// Columns of parts of the payloads that are written.
    pub columns: &'a [TypedColumn],
    /// Column of the ids.
    pub id: &'a str,
    /// True for a column of whole payloads and a description of the table.
    pub is_whole: bool,
}

/// The columns of the vectors that `config` has.
pub fn vector_columns(config: &CollectionConfig) -> Vec<VectorColumn> {
    let names = (config.vectors().keys()).chain(config.sparse_vectors().keys());
    let column = |name: &String| VectorColumn {
        name: name.clone(),
        column: match name.as_str() {
            "" => UNNAMED.to_owned(),
            ID | PAYLOAD | SHARD_KEY | UNNAMED => format!("{UNNAMED}.{name}"),
            name => name.to_owned(),
        },
    };
    names.map(column).collect()
}

/// Refuses `names` of columns for parts of the payload that other columns have, the `vectors`' among them.
pub fn refuse_taken<'a>(
    names: impl IntoIterator<Item = &'a str>,
    vectors: &[VectorColumn],
) -> Result<()> {
    let is_taken = |name: &str| {
        [ID, PAYLOAD, SHARD_KEY].contains(&name) || vectors.iter().any(|one| one.column == name)
    };
    match names.into_iter().find(|name| is_taken(name)) {
        None => Ok(()),
        Some(name) => Err(Error::usage(
            format!("giving the payload field {name} a column"),
            "another column has that name: id, payload, shard_key, or a vector's",
        )
        .next("leave it out of --columns, and name the others there; the column payload has it")),
    }
}

impl TableWriter {
    /// Writes to `file`, which is new and empty; `path` names it.
    pub fn new(file: File, path: &Path, form: FileForm, shape: TableShape<'_>) -> Result<Self> {
        let failed = |why: String| Error::failed(format!("writing {}", path.display()), why);
        let mut meta = TableMeta {
            version: VERSION,
            id: shape.id.into(),
            payload: Some(PAYLOAD.into()),
            repeats: (shape.columns.iter())
                .map(|one| (one.name.clone(), one.kind.to_string()))
                .collect(),
            config: without_uuid(shape.config),
            payload_index: shape.payload.to_json(),
            shard_keys: serde_json::to_value(shape.shard_keys).unwrap_or_default(),
            ..TableMeta::default()
        };
        let mut vectors = Vec::new();
        for VectorColumn { name, column } in shape.vectors {
            let params = shape.config.vectors().get(name);
            let mut builder = VectorBuilder::new(params).map_err(failed)?;
            let kind = builder.finish().map_err(failed)?.data_type().clone();
            meta.vectors.insert(name.clone(), column.clone());
            vectors.push((name.clone(), builder, Field::new(column, kind, true)));
        }
        let mut typed = Vec::new();
        let mut typed_fields = Vec::new();
        for column in shape.columns {
            let mut builder = TypedBuilder::new(column.kind);
            let kind = builder.data_type().map_err(failed)?;
            typed_fields.push(Field::new(&column.name, kind, true));
            typed.push((column.clone(), builder));
        }
        let has_keys = !shape.shard_keys.is_empty();
        meta.shard_key = has_keys.then(|| SHARD_KEY.to_owned());
        let ids = match shape.numbers_only {
            true => Ids::Numbers(UInt64Builder::new()),
            false => Ids::Words(StringBuilder::new()),
        };
        let text = || DataType::Utf8;
        let id_kind = match ids {
            Ids::Numbers(_) => DataType::UInt64,
            Ids::Words(_) => text(),
        };
        let mut fields = vec![Field::new(shape.id, id_kind, false)];
        fields.extend(vectors.iter().map(|(.., field)| field.clone()));
        fields.extend((shape.is_whole).then(|| Field::new(PAYLOAD, text(), false)));
        fields.extend(has_keys.then(|| Field::new(SHARD_KEY, text(), true)));
        fields.extend(typed_fields);
        let told = serde_json::to_string(&meta).map_err(|err| failed(err.to_string()))?;
        let described = (shape.is_whole).then(|| (KEY.to_owned(), told));
        let pairs = described.into_iter().collect();
        let plain = Arc::new(Schema::new(fields.clone()));
        let out = match form {
            FileForm::Arrow => {
                let schema = Schema::new_with_metadata(fields, pairs);
                let writer = FileWriter::try_new_buffered(file, &schema);
                Out::Arrow(Box::new(writer.map_err(|err| failed(err.to_string()))?))
            }
            FileForm::Parquet | FileForm::Jsonl => {
                let columns: Vec<&Field> = vectors.iter().map(|(.., field)| field).collect();
                let properties = properties(&columns, pairs)?;
                let writer = ArrowWriter::try_new(file, Arc::clone(&plain), Some(properties));
                Out::Parquet(Box::new(writer.map_err(|err| failed(err.to_string()))?))
            }
        };
        let schema = match &out {
            Out::Arrow(writer) => Arc::clone(writer.schema()),
            Out::Parquet(_) => plain,
        };
        Ok(Self {
            path: path.to_owned(),
            schema,
            out,
            ids,
            payloads: shape.is_whole.then(StringBuilder::new),
            shard_keys: has_keys.then(StringBuilder::new),
            vectors: vectors
                .into_iter()
                .map(|(name, builder, _)| (name, builder))
                .collect(),
            typed,
            leaves_vectors_out: shape.vectors.len() < vector_columns(shape.config).len(),
            points: 0,
            bytes: 0,
        })
    }

    /// Adds a point.
    pub fn push(&mut self, record: &Record) -> Result<()> {
        let failed = |why: String| Error::failed(format!("writing point {}", record.id), why);
        match (&mut self.ids, record.id) {
            (Ids::Numbers(ids), PointId::Num(number)) => ids.append_value(number),
            (Ids::Words(ids), id) => ids.append_value(id.to_string()),
            (Ids::Numbers(_), PointId::Uuid(_)) => {
                return Err(failed("it is a UUID among numbers".into()));
            }
        }
        if let Some(payloads) = &mut self.payloads {
            // The text of which a reader of this program, or a server, reads the same numbers.
            let mut payload = record.payload.clone();
            to_be_read_back(&mut payload);
            let payload = serde_json::to_string(&payload);
            payloads.append_value(payload.map_err(|err| failed(err.to_string()))?);
        }
        for (column, builder) in &mut self.typed {
            let pushed = builder.push(column.value(&record.payload));
            pushed.map_err(|why| failed(format!("column {}: {why}", column.name)))?;
        }
        if let Some(keys) = &mut self.shard_keys {
            let key = record
                .shard_key
                .as_ref()
                .map(serde_json::to_string)
                .transpose();
            keys.append_option(key.map_err(|err| failed(err.to_string()))?);
        }
        let mut known = 0;
        for (name, builder) in &mut self.vectors {
            let vector = record
                .vectors
                .iter()
                .find(|(of, _)| of == name)
                .map(|(_, vector)| vector);
            known += usize::from(vector.is_some());
            builder.push(vector).map_err(failed)?;
        }
        if known < record.vectors.len() && !self.leaves_vectors_out {
            return Err(failed(
                "it has a vector that the config does not know".into(),
            ));
        }
        self.points += 1;
        self.bytes += record.weight_bytes();
        if self.bytes >= BATCH_BYTES || self.points >= BATCH_POINTS {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.points == 0 {
            return Ok(());
        }
        (self.points, self.bytes) = (0, 0);
        let path = &self.path;
        let failed = |why: String| Error::failed(format!("writing {}", path.display()), why);
        let mut columns: Vec<ArrayRef> = vec![match &mut self.ids {
            Ids::Numbers(ids) => Arc::new(ids.finish()),
            Ids::Words(ids) => Arc::new(ids.finish()),
        }];
        for (_, builder) in &mut self.vectors {
            columns.push(builder.finish().map_err(failed)?);
        }
        if let Some(payloads) = &mut self.payloads {
            columns.push(Arc::new(payloads.finish()));
        }
        if let Some(keys) = &mut self.shard_keys {
            columns.push(Arc::new(keys.finish()));
        }
        for (_, builder) in &mut self.typed {
            columns.push(builder.finish().map_err(failed)?);
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        let batch = batch.map_err(|err| failed(err.to_string()))?;
        let written = match &mut self.out {
            Out::Parquet(writer) => {
                let written = writer.write(&batch);
                let full = writer.in_progress_size() >= GROUP_BYTES;
                let flushed = match (written, full) {
                    (Ok(()), true) => writer.flush(),
                    (written, _) => written,
                };
                flushed.map_err(|err| err.to_string())
            }
            Out::Arrow(writer) => writer.write(&batch).map_err(|err| err.to_string()),
        };
        written.map_err(failed)
    }

    /// Writes what is left and the end of the file.
    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        let finished = match self.out {
            Out::Parquet(writer) => writer.close().map(drop).map_err(|err| err.to_string()),
            Out::Arrow(mut writer) => writer.finish().map_err(|err| err.to_string()),
        };
        finished.map_err(|why| Error::failed(format!("writing {}", self.path.display()), why))
    }
}

/// A config without what is a server's own.
fn without_uuid(config: &CollectionConfig) -> Value {
    let mut raw = config.raw().clone();
    raw.remove("uuid");
    Value::Object(raw)
}

/// Text is compressed; vectors are not, since it gains nothing.
fn properties(
    vectors: &[&Field],
    pairs: std::collections::HashMap<String, String>,
) -> Result<WriterProperties> {
    let level =
        ZstdLevel::try_new(3).map_err(|err| Error::failed("choosing a compression", err))?;
    let pairs = pairs
        .into_iter()
        .map(|(key, value)| KeyValue::new(key, value));
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(1 << 20))
        .set_key_value_metadata(Some(pairs.collect()));
    for field in vectors {
        for path in leaves(field.name(), field.data_type()) {
            let path = ColumnPath::new(path);
            properties = properties
                .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_statistics_enabled(path, EnabledStatistics::None);
        }
    }
    Ok(properties.build())
}

/// The paths of the numbers in a column, as Parquet has them.
fn leaves(name: &str, kind: &DataType) -> Vec<Vec<String>> {
    use DataType::{FixedSizeList, List, Struct};
    let below = match kind {
        List(field) | FixedSizeList(field, _) => leaves(field.name(), field.data_type())
            .into_iter()
            .map(|path| std::iter::once("list".to_owned()).chain(path).collect())
            .collect(),
        Struct(fields) => (fields.iter())
            .flat_map(|field| leaves(field.name(), field.data_type()))
            .collect(),
        _ => vec![Vec::new()],
    };
    (below.into_iter())
        .map(|path: Vec<String>| std::iter::once(name.to_owned()).chain(path).collect())
        .collect()
}
