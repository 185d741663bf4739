//! Why a collection is not captured in one way, where there is another.
//!
//! Invariants: what no other way would mend (a full disk, a lock, a user who asks to stop) ends the capture.

use crate::base::error::{Error, Kind, Result};
use crate::server::Failure;

/// Why it is not.
#[derive(Debug)]
pub enum Unfit {
    /// Something does not fit.
    Why(String),
    /// Something failed.
    Failed(Error),
}

impl Unfit {
    /// The reason in words, for whoever goes another way; an error if that would be of no use.
    pub fn why(self) -> Result<String> {
        match self {
            Self::Why(why) => Ok(why),
            Self::Failed(err) => match err.kind() {
                Kind::Cancelled | Kind::NoSpace | Kind::Locked | Kind::Usage => Err(err),
                _ => Ok(format!("{}: {}", err.doing(), err.why())),
            },
        }
    }
}

impl From<&str> for Unfit {
    fn from(why: &str) -> Self {
        Self::Why(why.to_owned())
    }
}

impl From<String> for Unfit {
    fn from(why: String) -> Self {
        Self::Why(why)
    }
}

impl From<Error> for Unfit {
    fn from(err: Error) -> Self {
        Self::Failed(err)
    }
}

impl From<Failure> for Unfit {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.into())
    }
}
