//! The stages of an operation and how long each took.
//!
//! Invariants: stages follow each other without a gap, so that all the time of an operation is in one
//! of them.

use std::time::{Duration, Instant};

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
    /// Notes the points that passed.
    pub fn points(&mut self, points: u64) -> &mut Self {
        self.points = Some(points);
        self
    }

    /// Notes the bytes that passed.
    pub fn bytes(&mut self, bytes: u64) -> &mut Self {
        self.bytes = Some(bytes);
        self
    }
}

/// The stages of an operation that is going on: each lasts from the end of the one before to its own.
#[derive(Debug)]
pub struct Stages {
    started: Instant,
    since: Instant,
    ended: Vec<StageReport>,
}

impl Stages {
    /// None yet, of an operation that began at `started`.
    pub fn since(started: Instant) -> Self {
        Self {
            started,
            since: started,
            ended: Vec::new(),
        }
    }

    /// Ends the stage called `stage`. Of two in a row with one name, the second adds to the first.
    pub fn end(&mut self, stage: &str) -> &mut StageReport {
        let now = Instant::now();
        let seconds = now.duration_since(self.since).as_secs_f64();
        self.since = now;
        let before = match self.ended.pop_if(|last| last.stage == stage) {
            Some(same) => same,
            None => StageReport {
                stage: stage.to_owned(),
                seconds: 0.0,
                points: None,
                bytes: None,
            },
        };
        self.ended.push_mut(StageReport {
            seconds: before.seconds + seconds,
            ..before
        })
    }

    /// Wall-clock time since the operation began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The stages that have ended.
    pub fn into_reports(self) -> Vec<StageReport> {
        self.ended
    }
}

impl StageReport {
    /// Rate: `amount` divided by the seconds taken.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub fn per_second(&self, amount: Option<u64>) -> Option<f64> {
        amount.map(|amount| amount as f64 / self.seconds.max(1e-6))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn stages_add_up_to_the_whole() {
        let started = Instant::now();
        let mut stages = Stages::since(started);
        for (name, millis) in [("open", 5), ("find", 10), ("carry", 1), ("carry", 7)] {
            std::thread::sleep(Duration::from_millis(millis));
            stages.end(name);
        }
        stages.end("carry").points(3).bytes(4);
        let whole = stages.since.duration_since(started).as_secs_f64();
        let reports = stages.into_reports();
        let names: Vec<&str> = reports.iter().map(|one| one.stage.as_str()).collect();
        assert_eq!(names, ["open", "find", "carry"]);
        assert_eq!((reports[2].points, reports[2].bytes), (Some(3), Some(4)));
        let sum: f64 = reports.iter().map(|one| one.seconds).sum();
        assert!((sum - whole).abs() < 1e-6, "{sum} of {whole}");
    }
}
