//! Where exported points go: lines on standard output or in a file, or a table.
//!
//! Invariants: a file gets its name when it is whole.

use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::base::durable::Staged;
use crate::base::error::{Error, Result};
use crate::base::lines::{Finish, Lines};
use crate::base::overwrite::ReadFiles;
use crate::base::path::is_gz;
use crate::engine::Columns;
use crate::point::{AsScrolled, PointId, Record};
use crate::source::{OpenedShards, Source};
use crate::table::{FileForm, TableShape, TableWriter};

/// Where points go.
pub(super) enum Out<'a> {
    /// JSON lines on standard output, or in a file.
    Lines(Lines<'a>, Option<Staged>),
    /// A table.
    Table(Box<TableWriter>, Staged),
}

/// What is to be written where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub output: Option<&'a Path>,
    pub form: Option<FileForm>,
    pub force: bool,
    pub with_vectors: bool,
}

impl Target<'_> {
    /// The form that is to be written.
    pub fn form(&self) -> FileForm {
        self.form
            .unwrap_or_else(|| self.output.map_or(FileForm::Jsonl, FileForm::of))
    }

    /// Refuses what cannot be written, before anything is read.
    pub fn check(&self, source: &Path) -> Result<Option<Staged>> {
        if let Some(output) = self.output {
            ReadFiles::new([source]).refuse(output)?;
        }
        let staged = self
            .output
            .map(|output| Staged::new(output, self.force))
            .transpose()?;
        match (self.form(), &staged) {
            (FileForm::Jsonl, _) | (_, Some(_)) => Ok(staged),
            (form, None) => Err(Error::usage(
                format!("writing {form}"),
                "it cannot be written to standard output",
            )
            .next("name a file with -o")),
        }
    }
}

impl<'a> Out<'a> {
    /// Begins to write the points of `source`.
    pub fn new(
        target: Target<'a>,
        staged: Option<Staged>,
        source: &Source,
        settled: &OpenedShards,
    ) -> Result<Self> {
        let form = target.form();
        let Some(staged) = staged else {
            return Ok(Self::Lines(
                Lines::new("writing points to standard output"),
                None,
            ));
        };
        let file = staged.create()?;
        if form == FileForm::Jsonl {
            let out: Box<dyn Finish> = match is_gz(staged.path()) {
                true => Box::new(GzEncoder::new(file, Compression::default())),
                false => Box::new(file),
            };
            return Ok(Self::Lines(Lines::to(out, "writing points"), Some(staged)));
        }
        let shape = TableShape {
            config: &source.config,
            payload: &source.payload,
            shard_keys: &source.shard_keys,
            numbers_only: numbers_only(settled)?,
            with_vectors: target.with_vectors,
        };
        let writer = TableWriter::new(file, staged.path(), form, shape)?;
        Ok(Self::Table(Box::new(writer), staged))
    }

    /// Returns true if it can say NaN.
    pub fn says_nan(&self) -> bool {
        matches!(self, Self::Table(..))
    }

    /// Writes a point. False if nobody reads on.
    pub fn write(&mut self, record: &Record, with_vectors: bool) -> Result<bool> {
        match self {
            Self::Lines(lines, _) => lines.print(&AsScrolled {
                record,
                with_vectors,
            }),
            Self::Table(table, _) => table.push(record).map(|()| true),
        }
    }

    /// Writes what was held back, and gives a file its name.
    pub fn end(self, replace: bool) -> Result<()> {
        let staged = match self {
            Self::Lines(lines, staged) => {
                lines.end()?;
                staged
            }
            Self::Table(table, staged) => {
                table.finish()?;
                Some(staged)
            }
        };
        staged.map_or(Ok(()), |staged| staged.publish(replace))
    }
}

/// Returns true if no id is a UUID: these come after all numbers.
fn numbers_only(settled: &OpenedShards) -> Result<bool> {
    let first = Some(PointId::Uuid(uuid::Uuid::nil()));
    for shard in &settled.shards {
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
