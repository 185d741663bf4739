//! One error type for the whole house.
//!
//! Invariants: every error says what was being done, to what, why it failed, and what to do next;
//! callers branch on [`Kind`], never on text; each kind has exactly one exit code. No error has a
//! password of a URL in it, and shown, none has a character that a terminal obeys; a line that it
//! quotes does not look like one of ours.

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::printable::{printable, printable_lines, without_passwords};

/// `Result` with snapmerge's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Kind of an error, as far as a caller needs to know it in order to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Anything without a kind of its own.
    Failed,
    /// The command line, or a value in it, cannot be meant.
    Usage,
    /// The work is done, but something differs or was left out.
    Differs,
    /// There is no such archive, or no such entry in it.
    NotFound,
    /// Somebody else is at work on it.
    Locked,
    /// A source cannot be read safely: damaged, truncated, hostile, or of a form nobody can read.
    Damaged,
    /// A server refused it, or answered what cannot be meant.
    Refused,
    /// The disk lacks the room that the work needs.
    NoSpace,
    /// The user asked to stop.
    Cancelled,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Failed,
        Self::Usage,
        Self::Differs,
        Self::NotFound,
        Self::Locked,
        Self::Refused,
        Self::Damaged,
        Self::NoSpace,
        Self::Cancelled,
    ];

    /// The exit code of a process that ends with it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Differs => 3,
            Self::NotFound => 10,
            Self::Locked => 11,
            Self::Refused => 12,
            Self::Damaged => 13,
            Self::NoSpace => 14,
            Self::Cancelled => 130,
        }
    }
}

/// An error: the act and its object, the reason, and the next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Error {
    kind: Kind,
    doing: String,
    why: String,
    next: Option<String>,
}

impl Error {
    /// An error of `kind` that happened while `doing` (an act and its object, in the present
    /// participle: "reading config.json of a.snapshot"), because of `why`.
    pub fn new(kind: Kind, doing: impl Into<String>, why: impl fmt::Display) -> Self {
        Self {
            kind,
            doing: hidden(doing.into()),
            why: hidden(why),
            next: None,
        }
    }

    /// Shorthand for [`Kind::Failed`].
    pub fn failed(doing: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::new(Kind::Failed, doing, why)
    }

    /// Shorthand for [`Kind::Usage`].
    pub fn usage(doing: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, doing, why)
    }

    /// Shorthand for [`Kind::Damaged`], with the way out of most damage as the next step.
    pub fn damaged(doing: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::new(Kind::Damaged, doing, why)
            .next("fetch or copy the snapshot again, and compare its SHA-256 with the server's")
    }

    /// An input or output error on `path`; a full disk gets the kind [`Kind::NoSpace`], and an error that
    /// [`Self::into_io`] passed on is itself again.
    pub fn io(act: &str, path: &Path, why: &std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let doing = format!("{act} {}", path.display());
        if let Some(carried) = Self::carried(why) {
            return carried.clone().within(doing);
        }
        match why.kind() {
            StorageFull | QuotaExceeded => Self::new(Kind::NoSpace, doing, why)
                .next("free some room, or point --scratch and -o at another disk"),
            _ => Self::failed(doing, why),
        }
    }

    /// An input or output error while `doing`, or what [`Self::into_io`] passed on.
    pub fn reading(doing: impl Into<String>, why: &std::io::Error) -> Self {
        match Self::carried(why) {
            Some(carried) => carried.clone().within(doing.into()),
            None => Self::failed(doing, why),
        }
    }

    /// As a reader's error, which [`Self::carried`] gives back.
    pub fn into_io(self) -> std::io::Error {
        let kind = match self.kind {
            Kind::Damaged => std::io::ErrorKind::InvalidData,
            _ => std::io::ErrorKind::Other,
        };
        std::io::Error::new(kind, self)
    }

    /// The error of ours that a reader failed with, if it is one.
    pub fn carried(err: &std::io::Error) -> Option<&Self> {
        err.get_ref()?.downcast_ref()
    }

    /// The same error with the step that gets the user out of it.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(hidden(next.into()));
        self
    }

    /// The same error with another reason.
    #[must_use]
    pub fn because(mut self, why: impl fmt::Display) -> Self {
        self.why = hidden(why);
        self
    }

    /// The same error with `kind` in place of its own, unless it already has one that says more
    /// than [`Kind::Failed`].
    #[must_use]
    pub fn or_kind(mut self, kind: Kind) -> Self {
        if self.kind == Kind::Failed {
            self.kind = kind;
        }
        self
    }

    /// The same error as part of a larger act: `outer` is put before what was being done.
    #[must_use]
    pub fn within(mut self, outer: impl fmt::Display) -> Self {
        self.doing = format!("{}: {}", hidden(outer), self.doing);
        self
    }

    /// The kind, to branch on.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns what was being done.
    pub fn doing(&self) -> &str {
        &self.doing
    }

    /// Why it failed.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The next step, where there is one to give.
    pub fn next_step(&self) -> Option<&str> {
        self.next.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", printable(&self.doing))?;
        for (number, line) in printable_lines(&self.why).lines().enumerate() {
            let begin = match number {
                0 => "",
                _ => "\n  | ",
            };
            write!(f, "{begin}{line}")?;
        }
        if let Some(next) = &self.next {
            write!(
                f,
                "\n  next: {}",
                printable_lines(next).replace('\n', "\n        ")
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Text of an error: passwords in it are not.
fn hidden(text: impl fmt::Display) -> String {
    without_passwords(&text.to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_ours() {
        let err = Error::failed("reading \u{1b}[2Ja\nb", "no\nsnapmerge: \u{9b}PROVEN\n")
            .next("try http://u:PW@h again");
        assert_eq!(
            err.to_string(),
            "reading \\u{1b}[2Ja\\nb: no\n  | snapmerge: \\u{9b}PROVEN\n  next: try http://***@h again"
        );
        let err =
            Error::usage("opening s3://K:S@b", "http://u:PW@h is none").within("at http://a:b@c");
        for text in [
            err.to_string(),
            format!("{err:?}"),
            serde_json::to_string(&err).unwrap(),
        ] {
            for secret in ["K:S", "PW", "a:b"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
}
