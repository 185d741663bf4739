//! The options of a merge, as a command line, a plan and a request have them in common.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settings::{Route, Segments, Settings};
use crate::base::error::{Error, Result};
use crate::format::schema::{Overrides, UserConfig};
use crate::stream::{RecordOptions, UnionOptions};

/// Route by which a master is made.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RouteChoice {
    /// The fastest route that gives what was asked for
    #[default]
    Auto,
    /// Segments are carried over whole, with their graphs
    Graft,
    /// Records are written into new shards and indexed there
    Rebuild,
    /// Records are upserted into the live collection of --into
    Replay,
    /// Snapshots are restored on --scratch-server, read there, and removed
    Scratch,
}

/// The options of a merge.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MergeOptions {
    /// Route by which the master is made: auto, graft (segments are carried over whole, with their graphs),
    /// rebuild (records are written into new shards and indexed anew), replay (records are upserted
    /// into the collection of --into) or scratch (snapshots that only a server can read are restored
    /// on --scratch-server, read there, and removed)
    #[arg(
        long,
        value_name = "ROUTE",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub route: RouteChoice,
    /// By the route graft, how many segments each of the master's shards has [default: keep]: keep (those
    /// of the sources, and default_segment_number allows for them), server (those of the sources, which a
    /// server then merges), auto (as many as default_segment_number says, at least 2 and at most 8) or a
    /// number. The largest with graphs are carried, the others are merged and indexed now: slower to
    /// make, faster to search. A rebuild makes as few as it can
    #[arg(long, value_name = "N")]
    pub segments: Option<Segments>,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub records: RecordOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub overrides: Overrides,
    /// Take the master's config from this file: a collection's config.json, or what PUT
    /// /collections/NAME takes
    #[arg(long, value_name = "FILE", help_heading = "Config of the master")]
    pub config: Option<PathBuf>,
    /// Carry no payload index of the sources: the server that loads the master builds all of them.
    /// Text indexes of servers before 1.18 answer wrongly (qdrant#8724)
    #[arg(long)]
    pub rebuild_payload_indexes: bool,
    /// Merge sources that lack shards or whose replica was not active; exit with 3
    #[arg(long)]
    pub allow_incomplete: bool,
}

/// A file with the master's config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    /// Name for errors.
    pub name: String,
    /// Text of the file.
    pub text: String,
}

impl MergeOptions {
    /// The settings that these options mean, for a master that is a live collection or a file.
    pub fn settings(&self, live_target: bool) -> Result<Settings> {
        self.settings_with(live_target, self.config_file()?.as_ref())
    }

    /// The file that `--config` names, if it does.
    pub fn config_file(&self) -> Result<Option<ConfigFile>> {
        let read = |path: &PathBuf| {
            let bytes = std::fs::read(path).map_err(|err| Error::io("reading", path, &err))?;
            let name = path.display().to_string();
            let text = String::from_utf8(bytes)
                .map_err(|err| Error::usage(format!("reading {name}"), err))?;
            Ok(ConfigFile { name, text })
        };
        self.config.as_ref().map(read).transpose()
    }

    /// The same with the `config` that was read from a file.
    pub fn settings_with(
        &self,
        live_target: bool,
        config: Option<&ConfigFile>,
    ) -> Result<Settings> {
        let config = config.map(|file| UserConfig::parse(&file.name, file.text.as_bytes()));
        Ok(Settings {
            union: self.records.over(UnionOptions::default())?,
            overrides: Overrides {
                config: config.transpose()?,
                ..self.overrides.clone()
            },
            allow_incomplete: self.allow_incomplete,
            route: match self.route {
                RouteChoice::Auto | RouteChoice::Scratch => None,
                RouteChoice::Graft => Some(Route::Graft),
                RouteChoice::Rebuild => Some(Route::Rebuild),
                RouteChoice::Replay => Some(Route::Replay),
            },
            live_target,
            segments: self.segments.unwrap_or_default(),
            segments_given: self.segments.is_some(),
            rebuild_payload_indexes: self.rebuild_payload_indexes,
        })
    }
}
