//! The report of a verification.
//!
//! Invariants: the verdict is "proven" only if all was looked at, or a sample with points, and nothing
//! differs; what was looked at, and how, stands in it with numbers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Answers, Difference, Verified};
use crate::base::operation::Envelope;
use crate::base::stage::StageReport;
use crate::point::Sample;
use crate::source::SourceLabel;
use crate::stream::UnionOptions;

/// Verdict of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The master is what the sources say.
    Proven,
    /// It is not.
    Differs,
    /// No point was in the sample, which proves nothing.
    NothingLookedAt,
}

impl Verdict {
    /// The verdict on what was found.
    pub fn of(verified: &Verified, answers: Option<&Answers>) -> Self {
        let answers_differ = |answers: &Answers| {
            let structure = answers.structure.as_ref();
            answers.differing() > 0 || structure.is_some_and(|found| found.finding().is_some())
        };
        if answers.is_some_and(answers_differ) {
            Self::Differs
        } else if verified.is_proven() {
            Self::Proven
        } else if verified.differences() > 0 || !verified.settings.is_empty() {
            Self::Differs
        } else {
            Self::NothingLookedAt
        }
    }
}

/// Settings that the master was made with.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct MadeWith {
    /// File or flags that state them.
    pub told_by: String,
    /// Policy for conflicts.
    pub on_conflict: String,
    /// The payload field that tells each point's source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
    /// Which points were taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Payload fields that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop_payload: Vec<String>,
    /// New names of vectors, by the names that the sources have for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rename_vector: BTreeMap<String, String>,
    /// Vectors that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop_vector: Vec<String>,
    /// True if there is a shard key for each source.
    pub by_source: bool,
    /// The payload field that has a shard key for each of its values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_field: Option<String>,
}

impl MadeWith {
    /// Describes `settings`, stated by `told_by`.
    pub fn new(settings: &UnionOptions, told_by: String) -> Self {
        Self {
            told_by,
            on_conflict: settings.on_conflict.to_string(),
            stamp: settings.stamp.as_ref().map(|stamp| stamp.field.to_string()),
            filter: settings
                .filter
                .as_ref()
                .map(|filter| filter.text().to_owned()),
            drop_payload: (settings.drop_payload.iter())
                .map(ToString::to_string)
                .collect(),
            rename_vector: settings.vectors.renamed().clone(),
            drop_vector: settings.vectors.dropped().iter().cloned().collect(),
            by_source: settings.layout.is_by_source(),
            by_field: settings.layout.field().map(ToString::to_string),
        }
    }
}

/// The report.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct VerifyReport {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// Verdict on the master.
    pub verdict: Verdict,
    /// The master.
    pub master: SourceLabel,
    /// The sources in their order.
    pub sources: Vec<SourceLabel>,
    /// Settings that the master was made with.
    pub made_with: MadeWith,
    /// The share of the points that was looked at, if not all were.
    pub sample: Option<Sample>,
    /// Points that were looked at.
    pub looked_at: u64,
    /// Number of faults of points, all kinds together.
    pub differences: u64,
    /// The first of them.
    pub first: Vec<Difference>,
    /// The file that has them all, if one was asked for.
    pub ledger: Option<String>,
    /// Findings, by kind.
    #[serde(flatten)]
    pub verified: Verified,
    /// Comparison of the master's answers with the sources', if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answers>,
    /// Parts that the snapshots lack, if that was allowed.
    pub missing: Vec<String>,
    /// Notes for the reader.
    pub notes: Vec<String>,
    /// Stages, with the time that each took.
    pub stages: Vec<StageReport>,
    /// Wall-clock time of the whole, in seconds.
    pub seconds: f64,
}
