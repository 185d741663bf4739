//! A folder in the Vector Dataset Format of vector-io (<https://github.com/AI-Northstar-Tech/vector-io>).
//!
//! `VDF_META.json` says what is where; the points lie in `COLLECTION/1.parquet` and so on: their ids, a column for
//! each vector, called as it, and a column for each key of the payload. VDF has one size and one metric for all
//! vectors of a namespace: where they differ, each kind is a namespace, in `COLLECTION/1/1.parquet`,
//! `COLLECTION/2/1.parquet` and so on.
//!
//! Invariants: the folder has its name when it is whole; what the format cannot hold is told or refused; memory is
//! bounded by a row group of each namespace.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::base::durable::StagedFolder;
use crate::base::error::{Error, Kind, Result};
use crate::format::schema::vector_label;
use crate::point::Record;
use crate::source::Source;
use crate::table::{FileForm, TableShape, TableWriter, TypedColumn, VectorColumn};

/// The file that makes a folder a data set.
const META: &str = "VDF_META.json";
/// The release of vector-io whose form this is.
const VERSION: &str = "0.1.247";
/// Bytes of points in a file, at about: its importer reads each as a whole.
const FILE_BYTES: usize = 1 << 30;
/// Names of the column of ids, of which the first is taken that no other column has.
const ID_NAMES: [&str; 4] = ["id", "point_id", "qdrant_id", "snapmerge_id"];
/// The column of shard keys.
const SHARD_KEY: &str = "shard_key";

/// A data set being written.
pub(super) struct Vdf<'a> {
    folder: Folder<'a>,
    namespaces: Vec<Namespace>,
    /// Points that lack a vector of their namespace.
    lacking: u64,
    held: Held,
}

/// Counts of points and notes of a data set.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Differences from the collection, a sentence each.
    pub notes: Vec<String>,
    /// True if a part of the collection is not in it.
    pub leaves_out: bool,
}

/// The folder, and what all of its tables have in common.
struct Folder<'a> {
    staged: StagedFolder,
    source: &'a Source,
    numbers_only: bool,
    /// Column of the ids.
    id: &'static str,
    columns: Vec<TypedColumn>,
    /// Names of the files in it.
    files: Vec<String>,
}

/// Vectors of one size and metric, and the points that have one of them.
struct Namespace {
    /// Name; no other namespace has it.
    name: String,
    dimensions: u64,
    metric: String,
    vectors: Vec<VectorColumn>,
    /// Folder of its files.
    path: String,
    writer: Option<TableWriter>,
    files: u64,
    /// Bytes of points in the file that is open.
    bytes: usize,
    points: u64,
}

impl<'a> Vdf<'a> {
    /// Begins to write the points of `source` to a folder that is `staged`, with `columns` of its payload.
    pub fn new(
        staged: StagedFolder,
        source: &'a Source,
        numbers_only: bool,
        mut columns: Vec<TypedColumn>,
    ) -> Result<Self> {
        let refuse = |why: String| {
            Error::new(
                Kind::Refused,
                format!("writing {} as VDF", source.name),
                why,
            )
            .next("write a table, with -o FILE.parquet --columns '*'")
        };
        if source.name.contains('/') || ["", ".", ".."].contains(&source.name.as_str()) {
            return Err(refuse("its name can be no folder's".into()));
        }
        let mut held = Held::default();
        let namespaces = namespaces(source, &mut held);
        if namespaces.is_empty() {
            return Err(refuse(
                "it has no vector that is a list of numbers, which VDF is made of".into(),
            ));
        }
        let mut taken = BTreeSet::new();
        if !source.shard_keys.is_empty() {
            taken.insert(SHARD_KEY.to_owned());
            held.notes.push(format!(
                "VDF knows no shard keys: they are in the column {SHARD_KEY}, as JSON"
            ));
        }
        for one in namespaces.iter().flat_map(|one| &one.vectors) {
            if !taken.insert(one.column.clone()) {
                return Err(refuse(format!(
                    "two columns would be called {}",
                    one.column
                )));
            }
        }
        for column in &mut columns {
            while !taken.insert(column.name.clone()) {
                let name = format!("payload.{}", column.name);
                held.notes.push(format!(
                    "another column is called {}: the payload field of that name is in {name}",
                    column.name
                ));
                column.name = name;
            }
        }
        let id = ID_NAMES.into_iter().find(|name| !taken.contains(*name));
        let id =
            id.ok_or_else(|| refuse(format!("its payload has {} all", ID_NAMES.join(", "))))?;
        Ok(Self {
            folder: Folder {
                staged,
                source,
                numbers_only,
                id,
                columns,
                files: Vec::new(),
            },
            namespaces,
            lacking: 0,
            held,
        })
    }

    /// Adds a point to every namespace that it has a vector of; without any, to the first.
    pub fn push(&mut self, record: &Record) -> Result<()> {
        let has_any = self.namespaces.iter().any(|one| one.has_of(record) > 0);
        let mut lacks = false;
        for (at, namespace) in self.namespaces.iter_mut().enumerate() {
            let has = namespace.has_of(record);
            if has > 0 || (!has_any && at == 0) {
                lacks |= has < namespace.vectors.len();
                namespace.push(record, &mut self.folder)?;
            }
        }
        self.lacking += u64::from(lacks);
        Ok(())
    }

    /// Writes the rest; the folder gets its name.
    pub fn finish(self) -> Result<Held> {
        let Self {
            mut folder,
            mut namespaces,
            lacking,
            mut held,
        } = self;
        let is_one = namespaces.len() == 1;
        let mut described = Vec::new();
        for namespace in &mut namespaces {
            // Without points there is a table too.
            namespace.open(&mut folder)?;
            if let Some(writer) = namespace.writer.take() {
                writer.finish()?;
            }
            described.push(namespace.describe(is_one, folder.source));
        }
        let index = folder.source.name.as_str();
        // As `VDFMeta` in vector-io's meta_types.py has it.
        let meta = json!({
            "version": VERSION,
            "file_structure": folder.files,
            "author": "snapmerge",
            "exported_from": "qdrant",
            "exported_at": chrono::Utc::now().to_rfc3339(),
            "id_column": folder.id,
            "indexes": { index: described },
        });
        let (mut file, path) = folder.staged.create(Path::new(META))?;
        writeln!(file, "{meta:#}").map_err(|err| Error::io("writing", &path, &err))?;
        drop(file);
        if lacking > 0 {
            held.notes.push(format!(
                "{lacking} points lack a vector, which is null there: vector-io's importer for Qdrant fails at these"
            ));
        }
        folder.staged.publish()?;
        Ok(held)
    }
}

/// The namespaces of the vectors of `source`; what can be in none is told in `held`.
fn namespaces(source: &Source, held: &mut Held) -> Vec<Namespace> {
    let mut namespaces: Vec<Namespace> = Vec::new();
    let mut leave_out = |name: &String, what: &str| {
        held.leaves_out = true;
        held.notes.push(format!(
            "{} is {what}, for which VDF has no column: it was left out",
            vector_label(name)
        ));
    };
    for (name, params) in source.config.vectors() {
        if params.multivector.is_some() {
            leave_out(name, "a multivector");
            continue;
        }
        let vector = VectorColumn {
            name: name.clone(),
            column: if name.is_empty() { "vector" } else { name }.to_owned(),
        };
        let (dimensions, metric) = (params.size, params.distance.to_string());
        let same = |one: &&mut Namespace| one.dimensions == dimensions && one.metric == metric;
        if let Some(namespace) = namespaces.iter_mut().find(same) {
            namespace.vectors.push(vector);
            continue;
        }
        namespaces.push(Namespace {
            name: String::new(),
            dimensions,
            metric,
            vectors: vec![vector],
            path: String::new(),
            writer: None,
            files: 0,
            bytes: 0,
            points: 0,
        });
    }
    for name in source.config.sparse_vectors().keys() {
        leave_out(name, "sparse");
    }
    let is_one = namespaces.len() == 1;
    let mut names = BTreeSet::new();
    for (at, namespace) in namespaces.iter_mut().enumerate() {
        let columns: Vec<&str> = (namespace.vectors.iter())
            .map(|one| one.column.as_str())
            .collect();
        namespace.name = columns.join("_");
        while !names.insert(namespace.name.clone()) {
            namespace.name.push('_');
        }
        namespace.path = match is_one {
            true => source.name.clone(),
            false => format!("{}/{}", source.name, at + 1),
        };
    }
    if namespaces.len() > 1 {
        let kinds = namespaces.iter().map(|one| {
            let (name, dimensions, metric) = (&one.name, one.dimensions, &one.metric);
            format!("{name} ({dimensions} dimensions, {metric})")
        });
        held.notes.push(format!(
            "VDF has one size and metric for all vectors of a namespace: there is one for each of {}",
            kinds.collect::<Vec<_>>().join(", ")
        ));
    }
    namespaces
}

impl Namespace {
    /// Number of the exported vectors that a point has.
    fn has_of(&self, record: &Record) -> usize {
        let has = |one: &&VectorColumn| record.vectors.iter().any(|(name, _)| *name == one.name);
        self.vectors.iter().filter(has).count()
    }

    fn push(&mut self, record: &Record, folder: &mut Folder<'_>) -> Result<()> {
        if self.bytes >= FILE_BYTES
            && let Some(full) = self.writer.take()
        {
            full.finish()?;
            self.bytes = 0;
        }
        self.points += 1;
        self.bytes += record.weight_bytes();
        self.open(folder)?.push(record)
    }

    /// The file that is open, or the next one.
    fn open(&mut self, folder: &mut Folder<'_>) -> Result<&mut TableWriter> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                self.files += 1;
                folder.open(
                    format!("{}/{}.parquet", self.path, self.files),
                    &self.vectors,
                )?
            }
        };
        Ok(self.writer.insert(writer))
    }

    /// It in the description, as `NamespaceMeta` in vector-io's meta_types.py has it.
    fn describe(&self, is_one: bool, source: &Source) -> Value {
        let columns: Vec<&str> = self.vectors.iter().map(|one| one.column.as_str()).collect();
        json!({
            "namespace": if is_one { String::new() } else { self.name.clone() },
            "index_name": source.name,
            "total_vector_count": self.points,
            "exported_vector_count": self.points,
            "dimensions": self.dimensions,
            "model_name": "NOT_PROVIDED",
            "vector_columns": columns,
            "data_path": self.path,
            "metric": self.metric,
            "index_config": { "params": source.config.raw().get("params") },
        })
    }
}

impl Folder<'_> {
    /// Opens the new file `name`, a table with `vectors`.
    fn open(&mut self, name: String, vectors: &[VectorColumn]) -> Result<TableWriter> {
        let (file, path) = self.staged.create(Path::new(&name))?;
        self.files.push(name);
        let shape = TableShape {
            config: &self.source.config,
            payload: &self.source.payload,
            shard_keys: &self.source.shard_keys,
            numbers_only: self.numbers_only,
            vectors,
            columns: &self.columns,
            id: self.id,
            is_whole: false,
        };
        TableWriter::new(file, &path, FileForm::Parquet, shape)
    }
}
