//! An ingest as a request, and what its options mean for each file.
//!
//! Invariants: what can be refused is refused before a row is read.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use glob::{MatchOptions, glob_with};
use serde::{Deserialize, Serialize};

use super::columns::ColumnOptions;
use super::fit::AsStored;
use super::input::Input;
use super::shape::Found;
use crate::base::error::{Error, Result};
use crate::base::overwrite::ReadFiles;
use crate::base::path::folder_of;
use crate::build::Pattern;
use crate::format::schema::{CollectionConfig, Overrides, VectorParams};
use crate::input::InputOptions;
use crate::server::{ConnectionOptions, Rate};
use crate::source::path_of;
use crate::table::{FileForm, TableMeta, TableReader};

/// Treatment of a row whose id came before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExisting {
    /// It takes the place of the earlier one
    #[default]
    Replace,
    /// The earlier one stays
    Skip,
    /// It ends the ingest
    Fail,
}

/// An ingest.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct IngestRequest {
    /// Files of rows: JSON lines, plain or .gz, in the shape of Qdrant's scroll answer or flat; Parquet; Arrow IPC.
    /// A pattern in quotes, as 'data/*.parquet', names all that match, in the order of their names; '-' is standard
    /// input, with JSON lines
    #[arg(required = true, value_name = "FILE")]
    pub inputs: Vec<PathBuf>,
    /// The snapshots to write without a server; with a payload field in braces, one for each value of it:
    /// 'album_{year}.snapshot'. Compressed if it ends in .gz
    #[arg(
        short,
        long,
        value_name = "PATTERN",
        required_unless_present = "to",
        conflicts_with = "to"
    )]
    pub output: Option<Pattern>,
    /// The value under which rows go that have none, or a list or an object; without this they are refused
    #[arg(long, value_name = "VALUE")]
    pub rest: Option<String>,
    /// Refuse to write more snapshots than this
    #[arg(long, value_name = "N", default_value = "1000")]
    pub max_parts: usize,
    /// Replace outputs that exist
    #[arg(long)]
    pub force: bool,
    /// Where to sort and build [default: the folder of the output; with --to the system's folder for temporary
    /// files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Form of the files [default: by their names, else jsonl]
    #[arg(long, value_name = "FORM")]
    pub format: Option<FileForm>,
    /// Treatment of a row whose id came before in the same collection, or exists with --to: replace the
    /// earlier one, skip this one, or fail (of a running server, what was written before stays)
    #[arg(
        long,
        value_name = "HOW",
        default_value = "replace",
        hide_possible_values = true
    )]
    pub on_existing: OnExisting,
    /// Write rows that are no points to this file, as JSON lines with the reason, and exit with 3; without this
    /// the first of them ends the ingest
    #[arg(long, value_name = "FILE")]
    pub reject: Option<PathBuf>,
    /// Vectors are as a server stores them, as in an export: they are not normalized again. So it is with tables
    /// that export wrote, for collections with the same distance and datatype
    #[arg(long)]
    pub as_stored: bool,
    /// Take vectors with NaN or infinite numbers
    #[arg(long)]
    pub allow_nan: bool,
    #[command(flatten, next_help_heading = "Into a running server")]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub live: LiveIngestOptions,
    #[command(flatten, next_help_heading = "Columns")]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub columns: ColumnOptions,
    #[command(flatten, next_help_heading = "Config of the collections")]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub origin: OriginOptions,
    #[command(flatten, next_help_heading = "Config of the collections")]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub overrides: Overrides,
    #[command(flatten, next_help_heading = "Checksums and archive of --like")]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub input: InputOptions,
}

/// Where rows go that go into a running server.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct LiveIngestOptions {
    /// Write into collections of this running Qdrant instead: http://HOST:6333. Those that are not there are made;
    /// every point that is written is read back and compared. A run that was killed is resumed by the same
    /// command
    #[arg(long, value_name = "URL", requires = "collection")]
    pub to: Option<String>,
    /// The collections; with a payload field in braces, one for each value of it: 'album_{year}'
    #[arg(long, value_name = "PATTERN", requires = "to")]
    pub collection: Option<Pattern>,
    /// Send at most so many bytes a second, as 500k, 20M or 1G
    #[arg(long, value_name = "RATE", requires = "to")]
    pub limit_rate: Option<Rate>,
    #[command(flatten)]
    #[serde(flatten)]
    pub connection: ConnectionOptions,
}

/// Where the config of the collections comes from.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
pub struct OriginOptions {
    /// Take config, payload indexes and shard keys of this snapshot, a file or archive:NAME@DATE
    #[arg(long, value_name = "SNAPSHOT", conflicts_with_all = ["config", "size"])]
    pub like: Option<PathBuf>,
    /// Take the config from this file: a collection's config.json, or what PUT /collections/NAME takes
    #[arg(long, value_name = "FILE", conflicts_with = "size")]
    pub config: Option<PathBuf>,
    /// Dimensions of the unnamed vector
    #[arg(long, value_name = "N", requires = "distance")]
    pub size: Option<u64>,
    /// Distance of the vector: Cosine, Dot, Euclid or Manhattan
    #[arg(long, value_name = "DISTANCE", requires = "size")]
    pub distance: Option<String>,
}

impl IngestRequest {
    /// The names of what is written.
    pub(super) fn pattern(&self) -> Result<&Pattern> {
        let pattern = self.output.as_ref().or(self.live.collection.as_ref());
        pattern.ok_or_else(|| {
            Error::usage("ingesting", "nothing says where to")
                .next("name snapshots with -o, or a server with --to and --collection")
        })
    }

    /// The folder that scratch is made in.
    pub(super) fn scratch_parent(&self) -> PathBuf {
        match (&self.scratch, &self.output) {
            (Some(scratch), _) => scratch.clone(),
            (None, Some(output)) => folder_of(&output.path("x")).to_owned(),
            (None, None) => std::env::temp_dir(),
        }
    }

    /// The files, those that a pattern names in the order of their names.
    fn paths(&self) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for input in &self.inputs {
            let pattern = input.to_str().filter(|text| text.contains(['*', '?', '[']));
            // A file that is called so is meant, as by a shell.
            let Some(pattern) = pattern.filter(|_| input.symlink_metadata().is_err()) else {
                paths.push(input.clone());
                continue;
            };
            let doing = || format!("looking for files that match {pattern}");
            let hidden = MatchOptions {
                require_literal_leading_dot: true,
                ..MatchOptions::new()
            };
            let found = glob_with(pattern, hidden).map_err(|err| Error::usage(doing(), err))?;
            let found: std::result::Result<Vec<_>, _> = found.collect();
            let mut found = found.map_err(|err| Error::failed(doing(), err))?;
            if found.is_empty() {
                return Err(Error::usage(doing(), "there is none")
                    .next("correct the pattern; in quotes, it is read here and not by the shell"));
            }
            found.sort();
            paths.extend(found);
        }
        Ok(paths)
    }

    /// Looks at the files.
    pub(super) fn files(&self) -> Result<Vec<Input>> {
        let look = |path: &PathBuf| {
            let meta = std::fs::metadata(path).map_err(|err| Error::io("opening", path, &err))?;
            if meta.is_dir() {
                let why = format!("{} is a folder", path.display());
                return Err(Error::usage("opening the files", why).next("name the files in it"));
            }
            let form = self.format.unwrap_or_else(|| FileForm::of(path));
            let table = match form {
                FileForm::Jsonl => None,
                FileForm::Parquet | FileForm::Arrow => Some(TableReader::open(path, form)?),
            };
            let columns =
                |table: &TableReader| table.columns().into_iter().map(ToOwned::to_owned).collect();
            Ok(Input {
                name: match path.starts_with("/proc/") {
                    true => "standard input".into(),
                    false => path.display().to_string(),
                },
                path: path.clone(),
                form,
                bytes: meta.len(),
                columns: table.as_ref().map(columns),
                meta: table.and_then(|table| table.meta().cloned()),
            })
        };
        self.paths()?.iter().map(look).collect()
    }

    /// Everything that is read, which nothing may overwrite.
    pub(super) fn read_files(&self, inputs: &[Input]) -> ReadFiles {
        let inputs = inputs.iter().map(|input| input.path.clone());
        let like = self.origin.like.iter().map(|like| path_of(like));
        ReadFiles::new(inputs.chain(like).chain(self.origin.config.clone()))
    }

    /// Which vectors of `input` are as a server stores them: those of a table that was written here, if they go into
    /// a collection that stores them in the same way.
    pub(super) fn as_stored(&self, input: &Input, config: &CollectionConfig) -> Result<AsStored> {
        if self.as_stored {
            return Ok(AsStored::All);
        }
        let Some(meta) = input
            .meta
            .as_ref()
            .filter(|_| self.columns.vector.is_empty())
        else {
            return Ok(AsStored::Only(BTreeSet::new()));
        };
        let own = meta.config()?;
        let how = |params: &VectorParams| {
            (
                params.distance.clone(),
                params.datatype(),
                params.multivector.clone(),
            )
        };
        let same = (config.vectors().iter()).filter(|(name, params)| {
            own.vectors()
                .get(*name)
                .is_some_and(|own| how(own) == how(params))
        });
        Ok(AsStored::Only(same.map(|(name, _)| name.clone()).collect()))
    }

    /// Finds the config of the collections.
    pub(super) fn found(&self, inputs: &[Input]) -> Result<Found> {
        let origin = &self.origin;
        if let Some(like) = &origin.like {
            return Found::like(like, &self.input);
        }
        if let Some(config) = &origin.config {
            return Found::file(config);
        }
        if let (Some(size), Some(distance)) = (origin.size, &origin.distance) {
            return Found::flags(size, distance);
        }
        let mut carried = inputs
            .iter()
            .filter_map(|input| Some((input, input.meta.as_ref()?)));
        let Some((first, meta)) = carried.next() else {
            return Err(Error::usage(
                "looking for the config of the collections",
                "none of the files carries one",
            )
            .next("give --like SNAPSHOT, --config FILE, or --size N --distance Cosine"));
        };
        let params = |meta: &TableMeta| {
            let params = &meta.config["params"];
            let vectors = (params["vectors"].clone(), params["sparse_vectors"].clone());
            (vectors, meta.payload_index.clone(), meta.shard_keys.clone())
        };
        if let Some((other, _)) = carried.find(|(_, other)| params(other) != params(meta)) {
            return Err(Error::usage(
                "looking for the config of the collections",
                format!(
                    "{} and {} carry different vectors, payload indexes or shard keys",
                    first.name, other.name
                ),
            )
            .next("give --like SNAPSHOT or --config FILE"));
        }
        Found::table(&first.path, meta)
    }
}
