//! The stages of an operation and how long each took.

use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Duration of a stage, and the amount of work that it did.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct StageReport {
    /// Name of the stage.
    pub stage: String,
    /// Wall-clock time in seconds.
    pub seconds: f64,
    /// Points that passed, if it counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points: Option<u64>,
    /// Bytes that passed, if it counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl StageReport {
    /// A stage that began at `started` and ends now.
    pub fn new(stage: &str, started: Instant) -> Self {
        Self {
            stage: stage.to_owned(),
            seconds: started.elapsed().as_secs_f64(),
            points: None,
            bytes: None,
        }
    }

    /// The same with the points that passed.
    #[must_use]
    pub fn points(mut self, points: u64) -> Self {
        self.points = Some(points);
        self
    }

    /// The same with the bytes that passed.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }
}
