//! Settings of a merge: every option parsed and valid.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use clap::ValueEnum;
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
    /// Number of segments of a shard.
    pub segments: Segments,
    /// True if that number was given, so that segments are to be carried.
    pub segments_given: bool,
    /// True if no payload index is carried: who loads the master builds all of them.
    pub rebuild_payload_indexes: bool,
}

/// Number of segments of each of the master's shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "none of keep, server, auto, and no number above 0"
)]
pub enum Segments {
    /// So many at the most.
    AtMost(NonZeroU32),
    /// By a rule.
    By(SegmentRule),
}

/// Rule for the number of segments.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SegmentRule {
    /// Those of the sources, and the config allows for them.
    #[default]
    Keep,
    /// Those of the sources, and the config stays, so that a server may merge them.
    Server,
    /// As many as the config allows for, at least 2 and at most 8.
    Auto,
}

impl Segments {
    /// Maximum number of a shard, if there is one, where the config `stated` allows for that many.
    pub fn most(self, stated: usize) -> Option<usize> {
        match self {
            Self::AtMost(most) => Some(most.get() as usize),
            Self::By(SegmentRule::Auto) => Some(stated.clamp(2, 8)),
            Self::By(SegmentRule::Keep | SegmentRule::Server) => None,
        }
    }

    /// Returns true if segments may be merged.
    pub fn merges(self) -> bool {
        self.most(0).is_some()
    }
}

impl Default for Segments {
    fn default() -> Self {
        Self::By(SegmentRule::default())
    }
}

impl FromStr for Segments {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().map(Self::AtMost);
        number.or_else(|_| {
            let rule = SegmentRule::from_str(text, false);
            rule.map(Self::By).map_err(|_| {
                format!("'{text}' is none of keep, server, auto, and no number above 0")
            })
        })
    }
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
