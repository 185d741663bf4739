//! Points: the order of ids, the record, its canonical bytes and digest.
//!
//! Invariants: everything that compares points compares them here.

pub mod canonical;
mod compare;
mod digest;
mod frames;
mod id;
mod identity;
pub mod numbers;
mod record;
mod sample;
mod scrolled;
mod shard_key;
mod stored;

pub use canonical::{Hash, RecordHashes, hashes};
pub use compare::Differing;
pub use digest::{Digest, StreamDigest, Sum};
pub use frames::{FrameFault, read_frame, write_frame};
pub use id::PointId;
pub use identity::Identity;
pub use record::{AsScrolled, Record, Vector};
pub use sample::Sample;
pub use shard_key::ShardKey;
