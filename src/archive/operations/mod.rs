//! Operations on an archive, each a typed request with a typed report.
//!
//! Invariants: a request does what the methods of [`Archive`](super::Archive) do, and nothing besides;
//! what a report says was left undone is in its outcome.

mod entries;
mod find;
mod whole;

pub use self::entries::{
    AddFailure, AddReport, AddRequest, GetReport, GetRequest, ListReport, ListRequest, ShowReport,
    ShowRequest,
};
pub use self::find::{FindReport, FindRequest, FoundIn, PointPlace};
pub use self::whole::{
    CheckReport, CheckRequest, CopyReport, CopyRequest, ForgetReport, ForgetRequest, InitReport,
    InitRequest, UnlockReport, UnlockRequest, VerifyChainReport, VerifyChainRequest,
};

use crate::base::error::{Error, Kind};
use crate::base::operation::{Envelope, Operation, Outcome};

/// The version of these reports.
const VERSION: u32 = 2;

fn envelope<O: Operation>(outcome: impl Into<Outcome>) -> Envelope {
    Envelope::new(O::NAME, VERSION, outcome.into())
}

fn no_such_name(name: &str) -> Error {
    Error::new(
        Kind::NotFound,
        format!("looking for {name}"),
        "nothing of that name is in the archive",
    )
    .next("see all of it: snapmerge archive ls")
}
