//! Failures of gRPC calls, in the form that REST's have.
//!
//! Invariants: codes decide, never texts; the key is in no error.

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status};

use crate::base::error::Error;
use crate::server::Connection;
use crate::server::failure::{Cause, Failure};

/// The failure that `status` is, while `doing`.
pub(super) fn of(doing: &str, connection: &Connection, status: &Status) -> Failure {
    let who = connection.who();
    let says = connection.hide(status.message());
    // A status that the server sent has no source on this side.
    if let Some(source) = status.source() {
        return cut(doing, connection, source);
    }
    match code_of(status.code()) {
        Some(code) => Failure {
            retry_after: retry_after(status),
            ..Failure::status(doing, &who, code, &says)
        },
        None => late(doing, connection),
    }
}

/// The failure of a connection that did not come about, or ended.
fn cut(doing: &str, connection: &Connection, source: &dyn std::error::Error) -> Failure {
    let mut why = vec![connection.hide(&source.to_string())];
    let mut inner = source.source();
    while let Some(err) = inner {
        let text = connection.hide(&err.to_string());
        if why.last() != Some(&text) {
            why.push(text);
        }
        inner = err.source();
    }
    let error = Error::failed(
        doing,
        format!(
            "the connection to gRPC at {} did not come about or broke ({})",
            connection.grpc_origin(),
            why.join(": ")
        ),
    )
    .next(
        "gRPC answers on the port after REST's unless --grpc-port or --grpc says otherwise; run it again \
         when the server is well: what is done stays done",
    );
    Failure::new(Cause::Cut, error)
}

/// The status of HTTP that says the same; none where no answer came in time.
fn code_of(code: Code) -> Option<u16> {
    Some(match code {
        Code::DeadlineExceeded => return None,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists => 409,
        Code::OutOfRange => 413,
        Code::ResourceExhausted => 429,
        Code::InvalidArgument | Code::FailedPrecondition => 400,
        Code::Unimplemented => 501,
        Code::Unavailable | Code::Aborted | Code::Cancelled => 503,
        // A connection that breaks in the middle gives Unknown or Internal.
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => 500,
    })
}

/// Returns the delay that the server asks for; it asks for one after calls that are too many, and not after
/// messages that are too large, which have the same code.
pub(super) fn retry_after(status: &Status) -> Option<Duration> {
    let value = status.metadata().get("retry-after")?;
    let seconds = value.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The failure of a call that was not answered in time.
pub(super) fn late(doing: &str, connection: &Connection) -> Failure {
    let error = Error::failed(
        doing,
        format!("{} did not answer in time", connection.who()),
    )
    .next("look at the server's load, and run it again: what is done stays done");
    Failure::new(Cause::TimedOut, error)
}
