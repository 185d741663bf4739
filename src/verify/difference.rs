//! Differences of a master from its sources, as typed values.
//!
//! Invariants: a difference names the point, or the setting, and what about it; its JSON is a line
//! of the ledger.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::point::{Differing, Identity};

/// A point that is not what the sources say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// The point.
    #[serde(flatten)]
    pub id: Identity,
    /// Kind of the difference.
    #[serde(flatten)]
    pub what: Wrong,
}

/// Kind of difference of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "difference", rename_all = "snake_case")]
pub enum Wrong {
    /// A source has it, the master lacks it.
    Missing {
        /// The source.
        source: String,
    },
    /// The master has it, and no source.
    Extra {
        /// The master's shard that has it, where that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        shard: Option<u32>,
    },
    /// The master has it otherwise than its source.
    Differs {
        /// The source.
        source: String,
        /// Parts that differ.
        #[serde(flatten)]
        differing: Differing,
    },
    /// It lies in another shard than the one where a server looks for it.
    Misplaced {
        /// Shard that it lies in.
        shard: u32,
        /// Shard that it belongs to; none if its key has no shard.
        #[serde(skip_serializing_if = "Option::is_none")]
        belongs: Option<u32>,
    },
    /// It lies in more than one shard, or under more than one shard key.
    Twice {
        /// The shards, as far as they are known.
        shards: Vec<u32>,
    },
    /// It lies in more than one segment of one shard, and neither is the older copy: which of them
    /// counts is left to chance.
    Doubled {
        /// The shard.
        shard: u32,
        /// The segments.
        segments: Vec<Uuid>,
        /// The number of the operation that last changed it, by each of them.
        version: u64,
    },
    /// Two points of the sources end up with this id.
    Ambiguous {
        /// Their sources.
        sources: Vec<String>,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "point {}: ", self.id)?;
        match &self.what {
            Wrong::Missing { source } => write!(f, "MISSING, though {source} has it"),
            Wrong::Extra { shard: Some(shard) } => {
                write!(f, "EXTRA in shard {shard}, no source has it")
            }
            Wrong::Extra { shard: None } => write!(f, "EXTRA, no source has it"),
            Wrong::Differs { source, differing } => {
                write!(f, "DIFFERS from {source} in {}", differing.words())
            }
            Wrong::Misplaced { shard, belongs } => {
                write!(f, "MISPLACED in shard {shard}")?;
                match belongs {
                    Some(belongs) => write!(f, ", a server looks in shard {belongs}"),
                    None => write!(f, ", its shard key has no shard"),
                }
            }
            Wrong::Twice { shards } if shards.is_empty() => {
                write!(f, "TWICE, under several shard keys")
            }
            Wrong::Twice { shards } => write!(f, "TWICE, in the shards {shards:?}"),
            Wrong::Doubled {
                shard,
                segments,
                version,
            } => {
                let segments: Vec<String> = segments.iter().map(Uuid::to_string).collect();
                write!(
                    f,
                    "DOUBLED in shard {shard}: the segments {} both have it as of operation {version}",
                    segments.join(" and ")
                )
            }
            Wrong::Ambiguous { sources } => write!(
                f,
                "AMBIGUOUS, points of {} end up with this id",
                sources.join(" and ")
            ),
        }
    }
}

/// A setting of the master that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettingDifference {
    /// Subject: "hnsw_config.m", "payload index of 'year'".
    pub about: String,
    /// Value that it should have.
    pub expected: String,
    /// Value that it has.
    pub found: String,
}

impl fmt::Display for SettingDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            about,
            expected,
            found,
        } = self;
        write!(f, "{about}: {found} instead of {expected}")
    }
}
