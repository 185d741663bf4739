//! Points: the order of ids, the record, its canonical bytes and digest.
//!
//! Keeps true: everything that compares points compares them here.

mod digest;
mod id;
mod record;

pub use digest::{Digest, canonical};
pub use id::PointId;
pub use record::{AsScrolled, Record, Vector};
