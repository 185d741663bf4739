//! The report of an ingest.
//!
//! Invariants: every row that was read is accounted for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::base::operation::Envelope;
use crate::base::stage::StageReport;
use crate::build::PartReport;
use crate::format::schema::Decision;
use crate::point::PointId;

/// Ids of points that differ which are told.
const SHOWN: usize = 10;

/// The report of an ingest.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct IngestReport {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// The files, in their order.
    pub inputs: Vec<InputReport>,
    /// Where the config comes from.
    pub config: String,
    /// Rows that were read.
    pub rows: u64,
    /// Rows whose id came again, so that one of them counts.
    pub replaced: u64,
    /// Rows that are no points, which were written to the file of `--reject`.
    pub rejected: u64,
    /// Points without a value, which went into the collection of `--rest`.
    pub rest: u64,
    /// Points of all collections.
    pub points: u64,
    /// The snapshots, if these were written.
    pub collections: Vec<PartReport>,
    /// The collections of a running server, if these were written.
    pub live: Vec<LiveCollectionReport>,
    /// Settings that were given in place of the config's.
    pub decisions: Vec<Decision>,
    /// Duration and volume of each stage.
    pub stages: Vec<StageReport>,
    /// Wall-clock time of the whole, in seconds.
    pub seconds: f64,
}

/// A file in the report.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct InputReport {
    /// The file.
    pub file: String,
    /// Form of it.
    pub form: String,
    /// Rows that it has.
    pub rows: u64,
}

/// A live collection in the report.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct LiveCollectionReport {
    /// Value of the field that its points have in common; empty if there is none.
    pub value: String,
    /// Address of the collection.
    pub collection: String,
    /// True if it was made.
    pub made: bool,
    /// Points that were not there and were written.
    pub added: u64,
    /// Points that were there with another content and were replaced.
    pub changed: u64,
    /// Points that were right already.
    pub same: u64,
    /// Points that were there and stayed as they were, with `--on-existing skip`.
    pub skipped: u64,
    /// Points that were read back after they were written, and are what was given.
    pub proven: u64,
    /// Of those, points whose vectors differ in the last bits because the server normalized them.
    pub near: u64,
    /// Points that were written because the server did not find them, while it was still optimizing after a minute
    /// and may not have found what is there, with `--on-existing skip`.
    pub unsure: u64,
    /// Points that are not what was given, when they were read back.
    pub differing: u64,
    /// The first of them.
    pub differing_ids: Vec<PointId>,
    /// Number of its points at the end, those of others among them.
    pub points: u64,
    /// Status as the server reports it: yellow, while it indexes.
    pub status: String,
    /// Differences from the config, a sentence each.
    pub notes: Vec<String>,
}

impl IngestReport {
    /// Every row is in a collection, was replaced, or was refused.
    pub(super) fn account(&self) -> Result<()> {
        let Self {
            rows,
            points,
            replaced,
            rejected,
            ..
        } = self;
        if *rows == points + replaced + rejected {
            return Ok(());
        }
        Err(Error::failed(
            "accounting for the rows",
            format!(
                "{rows} were read; {points} are points, {replaced} were replaced, {rejected} refused"
            ),
        ))
    }
}

impl LiveCollectionReport {
    /// Takes in a point that is not what was given.
    pub(super) fn differs(&mut self, id: PointId) {
        self.differing += 1;
        if self.differing_ids.len() < SHOWN {
            self.differing_ids.push(id);
        }
    }
}
