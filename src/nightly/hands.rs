//! What a night has done by processes of their own: merging and verifying, in which the storage
//! engine may die of what it reads.
//!
//! Keeps true: whatever becomes of such a process, the night goes on to say so.

use std::ffi::OsString;

use serde_json::Value;

use crate::base::error::{Error, Kind, Result};

/// What each of its messages begins with.
const PREFIX: &str = "snapmerge: ";

/// What such a process is told.
#[derive(Clone)]
pub struct Calling {
    /// A verb with its arguments.
    pub args: Vec<OsString>,
    /// The API key, which is no argument.
    pub key: Option<String>,
}

/// What it said.
#[derive(Debug, Clone)]
pub struct Called {
    /// Its exit code's meaning; none when it was 0.
    pub ended: Option<Kind>,
    /// Its output.
    pub stdout: String,
    /// What it said beside that.
    pub stderr: String,
}

/// How such a process is run.
pub type Hand<'a> = &'a dyn Fn(&Calling) -> Result<Called>;

impl Called {
    /// The JSON report that it printed, and whether it had done all but something differs; an error if
    /// it failed.
    pub fn report(&self, doing: &str) -> Result<(Value, bool)> {
        let differs = self.ended == Some(Kind::Differs);
        match (self.ended, serde_json::from_str(&self.stdout)) {
            (None | Some(Kind::Differs), Ok(report)) => Ok((report, differs)),
            (None, Err(err)) => Err(Error::failed(
                doing,
                format!("what it said cannot be read: {err}"),
            )),
            (Some(kind), _) => Err(self.error(kind, doing)),
        }
    }

    /// What it warned of beside its report.
    pub fn warnings(&self) -> Vec<String> {
        let lines = self.stderr.lines();
        lines
            .filter_map(|line| line.strip_prefix(PREFIX))
            .map(str::to_owned)
            .collect()
    }

    /// The error that it ended with.
    fn error(&self, kind: Kind, doing: &str) -> Error {
        let at = self.stderr.rfind(&format!("\n{PREFIX}")).map(|at| at + 1);
        let last = self.stderr.get(at.unwrap_or(0)..).unwrap_or_default();
        let last = last.trim_start_matches(PREFIX).trim_end();
        match last.split_once("\n  next: ") {
            Some((why, next)) => Error::new(kind, doing, why).next(next),
            None => Error::new(kind, doing, last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_back_as_it_was_said() {
        let called = Called {
            ended: Some(Kind::Damaged),
            stdout: String::new(),
            stderr: "snapmerge: a warning\nsnapmerge: reading a: it is torn\n  next: fetch it\n"
                .into(),
        };
        let err = called.report("merging").unwrap_err();
        assert_eq!(err.kind(), Kind::Damaged);
        assert_eq!(
            err.to_string(),
            "merging: reading a: it is torn\n  next: fetch it"
        );
        let done = Called {
            ended: Some(Kind::Differs),
            stdout: "{\"a\": 1}".into(),
            stderr: "snapmerge: a warning\n".into(),
        };
        assert_eq!(done.warnings(), ["a warning"]);
        assert_eq!(
            done.report("x").unwrap(),
            (serde_json::json!({"a": 1}), true)
        );
    }
}
