//! Operations: a typed request in, a typed report out.
//!
//! Invariants: requests and reports are plain data that survive JSON unchanged, so that another
//! process can do the work; a report says how it ended, so that nobody has to read it to know.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{Kind, Result};
use super::progress::Progress;

/// Settings that an operation gets from its caller.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Display of progress.
    pub progress: Progress,
}

impl Context {
    /// Warns of what is risky, whatever else is quiet.
    pub const LOUD: Self = Self {
        progress: Progress::Shown,
    };

    /// Says `text` at once, unless nothing is to be shown.
    pub fn warn(&self, text: &str) {
        self.progress.say(text);
    }
}

/// A request that can be run.
pub trait Operation: Serialize + DeserializeOwned {
    /// Name of the operation, as on the command line.
    const NAME: &'static str;
    /// Type of the report.
    type Report: Serialize + DeserializeOwned + JsonSchema;

    /// Does it.
    fn run(self, context: &Context) -> Result<Self::Report>;
}

/// Outcome of an operation that has a report: done, or done except for something that the report names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Word", into = "Word")]
pub struct Outcome(Option<Kind>);

/// An [`Outcome`] in JSON: a word.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Word {
    Kind(Kind),
    Done(String),
}

impl From<Outcome> for Word {
    fn from(outcome: Outcome) -> Self {
        outcome.0.map_or(Self::Done("done".into()), Self::Kind)
    }
}

impl TryFrom<Word> for Outcome {
    type Error = String;

    fn try_from(word: Word) -> Result<Self, String> {
        match word {
            Word::Kind(kind) => Ok(Self(Some(kind))),
            Word::Done(word) if word == "done" => Ok(Self::DONE),
            Word::Done(word) => Err(format!("'{word}' is no outcome")),
        }
    }
}

impl Outcome {
    /// All of it was done.
    pub const DONE: Self = Self(None);

    /// Done, but something differs or was left out, if `differs`.
    pub fn differs_if(differs: bool) -> Self {
        Self(differs.then_some(Kind::Differs))
    }

    /// Returns the kind of what the report names; `None` if all was done.
    pub fn kind(self) -> Option<Kind> {
        self.0
    }

    /// The exit code.
    pub fn exit_code(self) -> u8 {
        self.0.map_or(0, Kind::exit_code)
    }
}

impl From<Kind> for Outcome {
    fn from(kind: Kind) -> Self {
        Self(Some(kind))
    }
}

/// Header of every report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Envelope {
    /// The report's structure and its version: `snapmerge-merge/2`. Within a version fields are
    /// added, never removed or given another meaning.
    pub format: String,
    /// The version of snapmerge that wrote it.
    pub version: String,
    /// The command.
    pub command: String,
    /// Outcome of the operation.
    pub outcome: Outcome,
}

impl Envelope {
    /// Of a report of `command` in this `version` of its structure.
    pub fn new(command: &str, version: u32, outcome: Outcome) -> Self {
        let structure = command.replace(' ', "-");
        Self {
            format: format!("snapmerge-{structure}/{version}"),
            version: env!("CARGO_PKG_VERSION").into(),
            command: command.into(),
            outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_a_word() {
        for (outcome, word, code) in [
            (Outcome::DONE, "\"done\"", 0),
            (Outcome::differs_if(true), "\"differs\"", 3),
            (Outcome::from(Kind::NoSpace), "\"no_space\"", 14),
        ] {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), word);
            assert_eq!(serde_json::from_str::<Outcome>(word).unwrap(), outcome);
            assert_eq!(outcome.exit_code(), code);
        }
        assert!(serde_json::from_str::<Outcome>("\"fine\"").is_err());
        assert_eq!(Outcome::differs_if(false), Outcome::DONE);
    }
}
