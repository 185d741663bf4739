//! Qdrant's own storage engine: the only user of `qdrant_edge`.
//!
//! Invariants: nothing else in the house knows the engine's types; its panics are errors here; it
//! only ever gets scratch copies.

/// The engine's version, as `Cargo.toml` pins it.
pub const VERSION: &str = "0.9.0";

mod closed;
mod config;
mod contain;
mod convert;
mod field;
mod filter;
mod search;
mod shard;

pub use closed::{
    ClosedSegment, closed_segments, forbid_additions, leave_on_disk, lighten, restore_distances,
    store_empty_vectors,
};
pub use config::ShardConfig;
pub use contain::{install, panic_message, take_warnings};
pub use convert::{Date, date};
pub use field::PayloadField;
pub use filter::Filter;
pub use search::{Hit, Search};
pub use shard::{Columns, Page, Shard, refuse_index};
