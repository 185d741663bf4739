//! Progress as JSON lines, for programs that drive this one.
//!
//! Invariants: one object a line; a stage is told when it begins, once a second, and when it ends.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Unit;
use crate::base::error::{Error, Kind};
use crate::base::printable::{printable_json, without_passwords};

/// Interval between two events of a stage.
const EVERY: Duration = Duration::from_secs(1);

/// A line on standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A stage is going on.
    Stage {
        /// Name of the stage.
        stage: String,
        /// Unit that it counts.
        unit: Unit,
        /// Units that are done. Where an attempt begins anew, so does the count.
        done: u64,
        /// Units to do, if that is known.
        total: Option<u64>,
        /// Seconds since it began.
        seconds: f64,
        /// True for the last event of the stage, however it ended.
        ended: bool,
    },
    /// A note or a warning.
    Note {
        /// The note.
        text: String,
    },
    /// The error that the process ends with.
    Error {
        /// Kind of the error.
        kind: Kind,
        /// The exit code.
        exit_code: u8,
        /// The act and its object.
        doing: String,
        /// Why it failed.
        why: String,
        /// The next step.
        next: Option<String>,
    },
}

impl Event {
    /// A note that says `text`.
    pub fn note(text: &str) -> Self {
        Self::Note {
            text: without_passwords(text).into_owned(),
        }
    }
}

impl From<&Error> for Event {
    fn from(err: &Error) -> Self {
        Self::Error {
            kind: err.kind(),
            exit_code: err.kind().exit_code(),
            doing: err.doing().into(),
            why: err.why().into(),
            next: err.next_step().map(str::to_owned),
        }
    }
}

impl fmt::Display for Event {
    /// One line of JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        f.write_str(&printable_json(&json))
    }
}

/// Tells a stage until it has `ended`.
pub(super) fn stage(
    name: &str,
    total: Option<u64>,
    unit: Unit,
    counter: &AtomicU64,
    ended: &AtomicBool,
) {
    let started = Instant::now();
    let mut told: Option<Instant> = None;
    loop {
        let ended = ended.load(Ordering::Relaxed);
        if ended || told.is_none_or(|told| told.elapsed() >= EVERY) {
            told = Some(Instant::now());
            let event = Event::Stage {
                stage: name.into(),
                unit,
                done: counter.load(Ordering::Relaxed),
                total,
                seconds: started.elapsed().as_secs_f64(),
                ended,
            };
            super::tell(format_args!("{event}"));
        }
        if ended {
            return;
        }
        std::thread::park_timeout(EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_of_json_without_passwords() {
        for (event, want) in [
            (
                Event::note("asking http://a:secret@host\nand \u{1b}[2J"),
                r#"{"event":"note","text":"asking http://***@host\nand \u001b[2J"}"#,
            ),
            (
                Event::from(&Error::usage("reading a", "it is \"b\"").next("ask c@d")),
                r#"{"event":"error","kind":"usage","exit_code":2,"doing":"reading a","why":"it is \"b\"","next":"ask c@d"}"#,
            ),
        ] {
            let line = event.to_string();
            assert_eq!(line, want);
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        }
    }
}
