//! Failures of calls, as far as callers act on them.
//!
//! Invariants: whoever branches does so on [`Cause`], never on text; every failure is already the
//! error that a user is shown, with the next step.

use std::error::Error as _;
use std::time::Duration;

use crate::base::error::{Error, Kind};

/// A call that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Cause that callers branch on.
    pub cause: Cause,
    /// The same as an error.
    pub error: Error,
    /// Delay that the server asks for before another attempt.
    pub retry_after: Option<Duration>,
}

/// Cause of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The server answered with this status.
    Status(u16),
    /// No connection came about.
    Unreachable,
    /// The connection ended, or the answer did before it was whole.
    Cut,
    /// No answer came in time.
    TimedOut,
    /// The server sends the caller elsewhere.
    Redirect,
    /// The answer cannot be read or is larger than it may be.
    Answer,
    /// The user asked to stop.
    Cancelled,
    /// Something on this side.
    Here,
}

impl Cause {
    /// Returns true if the same call may succeed a little later.
    pub fn may_pass(self) -> bool {
        match self {
            Self::Unreachable | Self::Cut | Self::TimedOut => true,
            Self::Status(status) => matches!(status, 429 | 500 | 502 | 503 | 504),
            Self::Redirect | Self::Answer | Self::Cancelled | Self::Here => false,
        }
    }

    /// Returns true if the server may have done what was asked, or may still be at it: the answer is a
    /// proxy's, or there was none.
    pub fn leaves_open(self) -> bool {
        matches!(self, Self::Cut | Self::TimedOut | Self::Status(502..=504))
    }
}

impl Failure {
    /// A failure whose cause is known.
    pub fn new(cause: Cause, error: Error) -> Self {
        Self {
            cause,
            error,
            retry_after: None,
        }
    }

    /// A failure on this side.
    fn here(error: Error) -> Self {
        let cause = match error.kind() {
            Kind::Cancelled => Cause::Cancelled,
            _ => Cause::Here,
        };
        Self::new(cause, error)
    }

    /// The same failure with another reason, made of the one that it has.
    #[must_use]
    pub fn because(self, why: impl FnOnce(&str) -> String) -> Self {
        let why = why(self.error.why());
        Self {
            error: self.error.because(why),
            ..self
        }
    }

    /// Returns true if the server said that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.cause == Cause::Status(404)
    }

    /// Converts an error of `reqwest`, while `doing`; `server` is `host:port`.
    pub(super) fn transport(doing: &str, server: &str, err: &reqwest::Error) -> Self {
        // Without the URL: it is in `doing`, and could hold what was typed.
        let why = reasons(err);
        let (cause, error) = if err.is_timeout() {
            let error = Error::failed(doing, format!("{server} did not answer in time ({why})"));
            (
                Cause::TimedOut,
                error.next("give it longer with --timeout SECONDS, or look at the server's load"),
            )
        } else if err.is_connect() {
            let error = Error::failed(doing, format!("{server} cannot be reached ({why})"));
            let next = if why.contains("certificate") || why.contains("tls") {
                "give the server's CA with --ca-file, and the host name that its certificate has"
            } else {
                "check the address, whether the server runs, and whether it speaks http or https"
            };
            (Cause::Unreachable, error.next(next))
        } else if err.is_builder() {
            (Cause::Here, Error::failed(doing, why))
        } else {
            let error = Error::failed(doing, format!("the connection to {server} ended ({why})"));
            (
                Cause::Cut,
                error.next("run it again; if it goes on so, look at the server's log"),
            )
        };
        Self::new(cause, error)
    }

    /// A status that is no success, with what the server says about it.
    pub(super) fn status(doing: &str, server: &str, status: u16, says: &str) -> Self {
        let says = says.trim();
        let why = if says.is_empty() {
            format!("{server} answered {status}")
        } else {
            format!("{server} answered {status}: {says}")
        };
        let next = match status {
            401 | 403 => {
                "put a key that may do this into QDRANT_API_KEY, or into a file for --api-key-file"
            }
            404 => "check the name and the address; `curl SERVER/collections` lists what is there",
            409 => {
                "something else is done to the same name at this moment: try again when it is done"
            }
            413 => {
                "raise service.max_request_size_mb of the server, or the limit of the proxy before it"
            }
            429 => "try again later, or with a lower --limit-rate",
            500..=599 => "look at the server's log, and run it again when it is well",
            _ => "look at the server's log for the reason",
        };
        Self::new(
            Cause::Status(status),
            Error::new(Kind::Refused, doing, why).next(next),
        )
    }

    /// A redirect, which is not followed.
    pub(super) fn redirect(doing: &str, server: &str, to: &str) -> Self {
        let why = format!(
            "{server} sends the caller on to {to}, and no key or data is taken elsewhere than asked"
        );
        let error = Error::new(Kind::Refused, doing, why)
            .next("if that is the right server, give its address instead");
        Self::new(Cause::Redirect, error)
    }

    /// An answer that cannot be meant.
    pub(super) fn answer(doing: &str, server: &str, why: impl std::fmt::Display) -> Self {
        let why = format!("what {server} answered cannot be read: {why}");
        let error = Error::new(Kind::Refused, doing, why).next(
            "check that the address leads to Qdrant's REST port (6333), not to gRPC's or to a proxy's \
             page",
        );
        Self::new(Cause::Answer, error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::here(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// The innermost reasons of an error, which say more than its own words.
fn reasons(err: &reqwest::Error) -> String {
    let mut reasons = Vec::new();
    let mut source = err.source();
    while let Some(inner) = source {
        reasons.push(inner.to_string());
        source = inner.source();
    }
    match reasons.pop() {
        Some(last) => last,
        None => err.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again() {
        for status in [429, 500, 502, 503, 504] {
            assert!(Cause::Status(status).may_pass(), "{status}");
        }
        for status in [400, 401, 403, 404, 409, 413, 501] {
            assert!(!Cause::Status(status).may_pass(), "{status}");
        }
        assert!(Cause::Cut.may_pass() && !Cause::Redirect.may_pass());
        assert!(Cause::Status(504).leaves_open() && Cause::TimedOut.leaves_open());
        assert!(!Cause::Status(500).leaves_open() && !Cause::Unreachable.leaves_open());
        let refused = Failure::status("asking", "h:1", 403, "no");
        assert_eq!(refused.error.kind(), Kind::Refused);
        assert!(refused.error.to_string().contains("QDRANT_API_KEY"));
    }
}
