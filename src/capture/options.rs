//! Options and report of captures into an archive that build on earlier ones.
//!
//! Invariants: what was not moved has a base, and what was moved whole has a reason.

use std::num::NonZeroU32;

use clap::{Args, ValueEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether captures into an archive take only what changed.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Incremental {
    /// Where the server can tell what changed, and the archive has what it changed from.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Always: a server that cannot tell is refused. The first capture and every Nth are whole.
    Require,
}

/// Choice of incremental or whole captures into an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct IncrementalOptions {
    /// Take only what changed since the archive's newest capture of the collection, where the server
    /// (1.16 and later, at rest, alone) tells what that is
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value = "auto",
        requires = "archive"
    )]
    pub incremental: Incremental,
    /// Capture all of the collection every so many times, and compare it with the capture before
    #[arg(long, value_name = "N", default_value = "7", requires = "archive")]
    pub full_every: NonZeroU32,
}

impl Default for IncrementalOptions {
    fn default() -> Self {
        Self {
            incremental: Incremental::default(),
            full_every: NonZeroU32::MIN.saturating_add(6),
        }
    }
}

/// Part of a capture that was moved, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Increment {
    /// The archive's entry that it was built on; none if all of it was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Bytes of what was stored that came from servers.
    pub moved_bytes: u64,
    /// Why all of it was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_whole: Option<String>,
    /// Why the next capture cannot be built on this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_base: Option<String>,
    /// Comparison of a whole capture with what an increment would have taken from the entry before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Checked>,
}

/// A whole capture beside the entry before: files that the server says are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Checked {
    /// They are the same.
    Equal {
        /// The entry before.
        base: String,
        /// Files of segments, each compared by its BLAKE3.
        files: u64,
    },
    /// They differ: what the server says of its files does not hold.
    Differs {
        /// The entry before.
        base: String,
        /// Captures since the last one that was whole.
        increments: u32,
        /// Files that differ, as they are in the snapshot; the first of them.
        files: Vec<String>,
    },
    /// They could not be compared.
    NotCompared {
        /// Why.
        why: String,
    },
}
