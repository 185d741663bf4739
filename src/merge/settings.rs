//! Settings of a merge: every option parsed and valid.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format::schema::Overrides;
use crate::stream::UnionOptions;

/// Validated settings of a merge.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Which records of the sources make the master, and how they are changed.
    pub union: UnionOptions,
    /// Values of the master's config that replace the sources'.
    pub overrides: Overrides,
    /// True if sources that lack something are merged as far as they go.
    pub allow_incomplete: bool,
    /// The route; none for the best that can be taken.
    pub route: Option<Route>,
    /// True if the master is a live collection.
    pub live_target: bool,
    /// True if a server may merge the segments that were carried over.
    pub server_consolidates: bool,
    /// True if no payload index is carried: who loads the master builds all of them.
    pub rebuild_payload_indexes: bool,
    /// True if carried segments are merged offline until there are as few as the config wants.
    pub consolidate: bool,
}

/// Route by which a master is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// Segments are carried over whole, with their graphs.
    Graft,
    /// Records are written into new shards and indexed there.
    Rebuild,
    /// Records are written into a live collection.
    Replay,
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "graft" => Ok(Self::Graft),
            "rebuild" => Ok(Self::Rebuild),
            "replay" => Ok(Self::Replay),
            _ => Err(format!(
                "'{text}' is none of auto, graft, rebuild, replay, scratch"
            )),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Graft => f.write_str("graft"),
            Self::Rebuild => f.write_str("rebuild"),
            Self::Replay => f.write_str("replay"),
        }
    }
}
