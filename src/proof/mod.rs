//! Proof: that a master holds what it should.
//!
//! Keeps true: what is proven is read back from the packed file as any reader would find it, never
//! from memory; what was looked at is counted, and nothing looked at is never a pass.

mod carried;
mod readback;

pub use carried::read_carried;
pub use readback::{Expected, Proof, read_back};
