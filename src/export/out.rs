//! Where exported points go: lines on standard output or in a file, a table, or a folder of tables.
//!
//! Invariants: a file or folder gets its name when it is whole.

use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::vdf::{Held, Vdf};
use crate::base::durable::{Staged, StagedFolder};
use crate::base::error::{Error, Result};
use crate::base::lines::{Finish, Lines};
use crate::base::overwrite::ReadFiles;
use crate::base::path::is_gz;
use crate::engine::Columns;
use crate::point::{AsScrolled, PointId, Record};
use crate::source::{OpenedShards, Source, path_of};
use crate::table::{FileForm, TableShape, TableWriter, TypedColumn, vector_columns};

/// Where points go.
pub(super) enum Out<'a> {
    /// JSON lines on standard output, or in a file.
    Lines(Lines<'a>, Option<Staged>),
    /// A table.
    Table(Box<TableWriter>, Staged),
    /// A folder of tables.
    Vdf(Box<Vdf<'a>>),
}

/// An unfinished output, not under its final name yet.
pub(super) enum Place {
    /// Standard output.
    Stdout,
    /// A file.
    File(Staged),
    /// A folder.
    Folder(StagedFolder),
}

/// Output of an export: path, form and options.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub output: Option<&'a Path>,
    pub form: Option<FileForm>,
    pub force: bool,
    pub with_vectors: bool,
    pub vdf: bool,
}

impl Target<'_> {
    /// The form that is to be written.
    pub fn form(&self) -> FileForm {
        self.form
            .unwrap_or_else(|| self.output.map_or(FileForm::Jsonl, FileForm::of))
    }

    /// Returns true if a table is to be written.
    pub fn is_table(&self) -> bool {
        self.vdf || self.form() != FileForm::Jsonl
    }

    /// Refuses what cannot be written, before anything is read.
    pub fn check(&self, source: &Path) -> Result<Place> {
        let nowhere = |what: String| {
            Error::usage(
                format!("writing {what}"),
                "it cannot be written to standard output",
            )
        };
        if let Some(output) = self.output {
            ReadFiles::new([path_of(source)]).refuse(output)?;
        }
        match (self.output, self.form()) {
            (Some(output), _) if self.vdf => StagedFolder::new(output).map(Place::Folder),
            (Some(output), _) => Staged::new(output, self.force).map(Place::File),
            (None, _) if self.vdf => Err(nowhere("VDF".into()).next("name a folder with -o")),
            (None, FileForm::Jsonl) => Ok(Place::Stdout),
            (None, form) => Err(nowhere(form.to_string()).next("name a file with -o")),
        }
    }
}

impl<'a> Out<'a> {
    /// Begins to write the points of `source`, in a table with `columns` of its payload.
    pub fn new(
        target: Target<'_>,
        place: Place,
        source: &'a Source,
        open_shards: &OpenedShards,
        columns: Vec<TypedColumn>,
    ) -> Result<Self> {
        let form = target.form();
        let staged = match place {
            Place::Stdout => {
                return Ok(Self::Lines(
                    Lines::new("writing points to standard output"),
                    None,
                ));
            }
            Place::Folder(staged) => {
                let numbers_only = numbers_only(open_shards)?;
                if !target.with_vectors {
                    return Err(Error::usage("writing VDF", "it is made of vectors")
                        .next("leave --no-vectors out, or write a table: -o FILE.parquet"));
                }
                let vdf = Vdf::new(staged, source, numbers_only, columns)?;
                return Ok(Self::Vdf(Box::new(vdf)));
            }
            Place::File(staged) => staged,
        };
        let file = staged.create()?;
        if form == FileForm::Jsonl {
            let out: Box<dyn Finish> = match is_gz(staged.path()) {
                true => Box::new(GzEncoder::new(file, Compression::default())),
                false => Box::new(file),
            };
            return Ok(Self::Lines(Lines::to(out, "writing points"), Some(staged)));
        }
        let vectors = match target.with_vectors {
            true => vector_columns(&source.config),
            false => Vec::new(),
        };
        let shape = TableShape {
            config: &source.config,
            payload: &source.payload,
            shard_keys: &source.shard_keys,
            numbers_only: numbers_only(open_shards)?,
            vectors: &vectors,
            columns: &columns,
            id: "id",
            is_whole: true,
        };
        let writer = TableWriter::new(file, staged.path(), form, shape)?;
        Ok(Self::Table(Box::new(writer), staged))
    }

    /// Returns true if it can say NaN.
    pub fn says_nan(&self) -> bool {
        matches!(self, Self::Table(..) | Self::Vdf(_))
    }

    /// Writes a point. False if nobody reads on.
    pub fn write(&mut self, record: &Record, with_vectors: bool) -> Result<bool> {
        match self {
            Self::Lines(lines, _) => lines.print(&AsScrolled {
                record,
                with_vectors,
            }),
            Self::Table(table, _) => table.push(record).map(|()| true),
            Self::Vdf(vdf) => vdf.push(record).map(|()| true),
        }
    }

    /// Writes what was held back, and gives a file or folder its name.
    pub fn end(self, replace: bool) -> Result<Held> {
        let staged = match self {
            Self::Lines(lines, staged) => {
                lines.end()?;
                staged
            }
            Self::Table(table, staged) => {
                table.finish()?;
                Some(staged)
            }
            Self::Vdf(vdf) => return vdf.finish(),
        };
        staged.map_or(Ok(()), |staged| staged.publish(replace))?;
        Ok(Held::default())
    }
}

/// Returns true if no id is a UUID: these come after all numbers.
fn numbers_only(open_shards: &OpenedShards) -> Result<bool> {
    let first = Some(PointId::Uuid(uuid::Uuid::nil()));
    for shard in &open_shards.shards {
        if !shard
            .shard
            .page(first, 1, Columns::IDS, None)?
            .records
            .is_empty()
        {
            return Ok(false);
        }
    }
    Ok(true)
}
