//! The storages in which today's servers keep a segment's records: written into scratch, once, and
//! read.
//!
//! Invariants: what a writer leaves behind is what the engine would have flushed: servers from 1.13 on
//! read it, and the engine adds to it.

mod bits;
mod chunks;
mod dense;
mod gridstore;
mod lz4;
mod reader;
mod sparse;

pub use bits::{Bits, write_flags};
pub use chunks::ChunkWriter;
pub use dense::DenseReader;
pub use gridstore::GridstoreWriter;
pub use reader::GridstoreReader;
pub use sparse::pack_sparse;
